/** The thread that SQLite runs in, so that no query ever stalls a request that needs none. */
import { parentPort, receiveMessageOnPort, workerData, type MessagePort } from 'node:worker_threads'
import type { Database as SqlFile, Statement } from 'sql.js'
import { rowOf, type Row, type Sql, type Transaction, type Value } from './database.ts'
import { openSqlFile } from './sqljs.ts'
import { workNamed } from './work.ts'

export type ThreadData = { path: string; wasm: Uint8Array }
/** A statement by its number; its text goes along the first time only, as texts are long and few. */
export type Numbered = { number: number; text?: string; values: readonly Value[] }

/** What is asked of the thread. `begin` opens a transaction that goes on over several messages. */
export type Request =
  | { id: number; do: 'read'; queries: readonly Numbered[] }
  | { id: number; do: 'run' | 'ask'; name: string; input: unknown }
  | { id: number; do: 'begin' | 'commit' | 'rollback' | 'close' | 'statements' }
  | { id: number; do: 'step'; queries: readonly Numbered[] }
/** Rows as JSON text: for lists it takes a third of the time that a structured clone does. */
export type Rows = { columns: string[]; rows: string }
export type Reply = { id: number; value: unknown } | { id: number; error: string }

/** The order counts: exclusive mode first, so that the write-ahead log needs no shared memory. */
export const pragmas = [
  'locking_mode = exclusive',
  'journal_mode = wal',
  'synchronous = full',
  'foreign_keys = on',
  'cache_size = -65536',
  'temp_store = memory',
  'recursive_triggers = off',
] as const

/** Requests that share one commit at the most, and milliseconds after which it is due: the first of them waits. */
const groupLimit = 128
const groupTime = 15
/** Milliseconds that a commit waits for others to share it, while several come at once: an fsync takes as long. */
const gatherTime = 2

const noRows: Rows = { columns: [], rows: '[]' }

const stats = new Map<string, number[]>()
type Engine = ReturnType<typeof engine>

/** Runs the statements of one database; each is prepared once. */
function engine(file: SqlFile) {
  const prepared = new Map<string, { statement: Statement; columns: string[] }>()
  const prepare = (text: string) => {
    const known = prepared.get(text)
    if (known !== undefined) return known
    const statement = file.prepare(text)
    const made = { statement, columns: statement.getColumnNames() }
    prepared.set(text, made)
    return made
  }
  /** Runs a statement; its rows as lists of values. We store no blobs. */
  const run = ({ text, values }: Sql): { columns: string[]; rows: Value[][] } => {
    const { statement, columns } = prepare(text)
    const rows: Value[][] = []
    const t0 = performance.now()
    try {
      if (values.length > 0) statement.bind(values as Value[])
      while (statement.step() && columns.length > 0) rows.push(statement.get() as Value[])
    } finally {
      statement.reset()
      const st = (stats.get(text) ?? stats.set(text, [0, 0]).get(text))!
      st[0]! += performance.now() - t0
      st[1]! += 1
    }
    return { columns, rows }
  }
  const objects = <T extends Row>(query: Sql): T[] => {
    const { columns, rows } = run(query)
    return rows.map((values) => rowOf(columns, values) as T) // as the caller named the columns
  }
  return {
    do: (text: string) => void run({ text, values: [] }),
    text(query: Sql): Rows {
      const { columns, rows } = run(query)
      return rows.length === 0 ? { ...noRows, columns } : { columns, rows: JSON.stringify(rows) }
    },
    /** For work that is done here. */
    tx: {
      all: async (query) => objects(query),
      batch: async (queries) => queries.map((query) => objects(query)) as never, // rows as the caller named them
    } satisfies Transaction,
    statements: () => [...prepared.keys()],
    close() {
      for (const { statement } of prepared.values()) statement.free()
      file.close()
    },
  }
}

/**
 * Answers what is asked, in order. What waits at the same moment is a group: one transaction, one commit, and
 * nothing of it is told before that is on disk. Where one of a group fails, all of it is taken back and each is
 * done by itself.
 */
function answering(sqlite: Engine, port: MessagePort) {
  const waiting: Request[] = []
  const texts = new Map<number, string>()
  let isInSession = false
  let isDraining = false
  /** The group before had more than one that writes: more are about to come. */
  let isBusy = false
  const pausing = new Int32Array(new SharedArrayBuffer(4))

  const sqlOf = ({ number, text, values }: Numbered): Sql => {
    if (text !== undefined) texts.set(number, text)
    return { text: texts.get(number) ?? '', values }
  }
  const receive = (request: Request): void => {
    // Texts come once, with the first that uses them; a group that is done anew must find them.
    if ('queries' in request) for (const query of request.queries) sqlOf(query)
    waiting.push(request)
  }
  /** What has come meanwhile. */
  const receiveAll = (): void => {
    for (let next = receiveMessageOnPort(port); next !== undefined; next = receiveMessageOnPort(port))
      receive(next.message as Request)
  }

  /** Waits a moment for more, in short steps. */
  const gather = (): void => {
    for (let step = 0; step < gatherTime && waiting.length === 0; step++) {
      Atomics.wait(pausing, 0, 0, 1)
      receiveAll()
    }
  }

  const valueOf = async (request: Request): Promise<unknown> => {
    if (request.do === 'read' || request.do === 'step')
      return request.queries.map((query) => sqlite.text(sqlOf(query)))
    if (request.do === 'run' || request.do === 'ask')
      return workNamed(request.name)(sqlite.tx, request.input as never) // as its caller was typed
    if (request.do === 'statements') return sqlite.statements()
    return null
  }

  /** Requests of one group, as they come, until it has lasted long enough; throws what any of them did. */
  const answerTogether = async (first: Request, taken: Request[]): Promise<Reply[]> => {
    const replies: Reply[] = []
    const end = performance.now() + groupTime
    let hasBegun = false
    for (let next: Request | undefined = first; next !== undefined;) {
      taken.push(next)
      if (next.do === 'run' && !hasBegun) sqlite.do('BEGIN IMMEDIATE')
      hasBegun ||= next.do === 'run'
      replies.push({ id: next.id, value: await valueOf(next) })
      if (taken.length >= groupLimit || performance.now() > end) break
      receiveAll()
      if (waiting.length === 0 && hasBegun && isBusy) gather()
      next = isGroupable(waiting[0]) ? waiting.shift() : undefined
    }
    isBusy = taken.filter(({ do: what }) => what === 'run').length > 1
    if (hasBegun) sqlite.do('COMMIT')
    return replies
  }

  const alone = async (request: Request): Promise<Reply> => {
    try {
      if (request.do !== 'run') return { id: request.id, value: await valueOf(request) }
      sqlite.do('BEGIN IMMEDIATE')
      const value = await valueOf(request)
      sqlite.do('COMMIT')
      return { id: request.id, value }
    } catch (error) {
      undo(sqlite)
      return failureOf(request.id, error)
    }
  }

  const answerGroup = async (first: Request): Promise<Reply[]> => {
    const taken: Request[] = []
    try {
      return await answerTogether(first, taken)
    } catch (error) {
      undo(sqlite)
      if (taken.length === 1) return [failureOf(first.id, error)]
      const replies: Reply[] = []
      for (const request of taken) replies.push(await alone(request))
      return replies
    }
  }

  /** One message of a transaction that its caller leads; nothing else is done until it ends. */
  const answerSession = async (request: Request): Promise<Reply> => {
    try {
      if (request.do === 'begin') sqlite.do('BEGIN IMMEDIATE')
      if (request.do === 'commit') sqlite.do('COMMIT')
      if (request.do === 'rollback') sqlite.do('ROLLBACK')
      isInSession = request.do === 'begin' || request.do === 'step'
      return { id: request.id, value: await valueOf(request) }
    } catch (error) {
      // A full disk takes the whole transaction back by itself; its caller hears of it and ends it.
      if (request.do === 'commit' || request.do === 'rollback') undo(sqlite)
      isInSession = request.do === 'step'
      return failureOf(request.id, error)
    }
  }

  const answerNext = async (request: Request): Promise<Reply[]> => {
    if (isGroupable(request)) return answerGroup(request)
    if (request.do !== 'close') return [await answerSession(request)]
    for (const [k, [a, n]] of [...stats].sort((x, y) => y[1][0]! - x[1][0]!).slice(0, 40))
      process.stderr.write(
        `${a!.toFixed(0)} ms ${n} × ${((1000 * a!) / n!).toFixed(0)} µs ${k.replace(/\s+/g, ' ').slice(0, 170)}\n`,
      )
    sqlite.close()
    return [{ id: request.id, value: null }]
  }

  const takeNext = (): Request | undefined => {
    if (!isInSession) return waiting.shift()
    const at = waiting.findIndex(
      ({ do: what }) => what === 'step' || what === 'commit' || what === 'rollback',
    )
    return at === -1 ? undefined : waiting.splice(at, 1)[0]
  }

  const drain = async (): Promise<void> => {
    if (isDraining) return
    isDraining = true
    for (let next = takeNext(); next !== undefined; next = takeNext()) {
      port.postMessage(await answerNext(next))
      if (next.do === 'close') port.close()
    }
    isDraining = false
  }
  return (request: Request): void => {
    receive(request)
    void drain()
  }
}

function isGroupable(request: Request | undefined): boolean {
  return request !== undefined && (request.do === 'read' || request.do === 'run' || request.do === 'ask')
}

function undo(sqlite: Engine): void {
  try {
    sqlite.do('ROLLBACK')
  } catch {
    // SQLite has done it itself where the disk is full
  }
}

function failureOf(id: number, error: unknown): Reply {
  return { id, error: error instanceof Error ? error.message : String(error) }
}

async function start(port: MessagePort): Promise<void> {
  const { path, wasm } = workerData as ThreadData
  const file = await openSqlFile(path, wasm)
  for (const pragma of pragmas) file.exec(`PRAGMA ${pragma}`)
  const answer = answering(engine(file), port)
  port.on('message', answer)
  port.postMessage([{ id: 0, value: null }] satisfies Reply[])
}

/** Opens the database that the thread was started for, and answers until it is closed. */
export function serveDatabase(): void {
  if (parentPort === null) return
  const port = parentPort
  start(port).catch((error: unknown) => {
    port.postMessage([failureOf(0, error)])
    port.close()
  })
}

import type { Worker } from 'node:worker_threads'
import { asset, startThread } from '../../assets.ts'
import { Complaint } from '../../errors.ts'
import type { Database, Row, Sql, Transaction, Value } from './database.ts'
import type { Numbered, Reply, Request, Rows } from './thread.ts'

/** Tasks that share one commit at the most: more would keep the first of them waiting. */
const groupLimit = 128

/** Something that waits for its turn: reads pass between transactions, never into one. */
type Task = { run: () => Promise<void>; isRead: boolean }

const begin: Sql = { text: 'BEGIN IMMEDIATE', values: [] }
const commit: Sql = { text: 'COMMIT', values: [] }
const rollback: Sql = { text: 'ROLLBACK', values: [] }
const savepoint: Sql = { text: 'SAVEPOINT step', values: [] }
const release: Sql = { text: 'RELEASE step', values: [] }
const undoStep: Sql = { text: 'ROLLBACK TO step', values: [] }

/**
 * Opens a database file in a thread of its own. Transactions that wait at the same moment share one commit (one
 * fsync); what any of them resolved with, and what a read saw of them, is told only after it.
 * @param path absolute path of the database file
 * @throws Complaint where the file is no database or cannot be opened
 */
export async function openSqlite(path: string): Promise<Database> {
  const thread = startThread('database', { path, wasm: asset('sql-wasm.wasm') })
  const post = await connectTo(thread, path)
  const tasks: Task[] = []
  let draining: Promise<void> | null = null
  let isClosed = false
  /** The group whose commit is still to come; what is told meanwhile waits for it. */
  let open: Group | null = null

  const enqueue = (task: Task): void => {
    tasks.push(task)
    draining ??= drain()
  }

  /** Runs what waits, in order. Reads are posted without waiting for their rows: the thread answers in order. */
  const drain = async (): Promise<void> => {
    while (tasks.length > 0) {
      for (let taken = 0; tasks.length > 0 && taken < groupLimit; taken++) {
        const task = tasks.shift()
        const running = task?.run()
        if (task?.isRead === false) await running
      }
      await closeGroup()
    }
    draining = null
  }

  const closeGroup = async (): Promise<void> => {
    const group = open
    if (group === null) return
    open = null
    try {
      await post([commit])
    } catch (error) {
      await post([rollback]).catch(() => undefined) // SQLite has done it itself where the disk is full
      end(group, troubleOf(error))
      return
    }
    end(group, null)
  }

  /** Takes back the whole group, and tells all that waited for it. */
  const undoGroup = async (error: Error): Promise<void> => {
    const group = open
    open = null
    await post([rollback]).catch(() => undefined)
    if (group !== null) end(group, error)
  }

  const read = (queries: readonly Sql[]): Promise<Rows[]> =>
    new Promise((resolve, reject) => {
      if (isClosed) return reject(new Error('the database is closed'))
      return enqueue({
        isRead: true,
        run() {
          const seen = open // what these rows may show is on disk only when this group is
          const again = (): void => void read(queries).then(resolve, reject)
          return post(queries).then((results) => settle(seen, () => resolve(results), again), reject)
        },
      })
    })

  /**
   * One transaction of a group. The first one needs no savepoint to be undone; for those with many statements it
   * must not have one, as each statement then walks all that the savepoint keeps.
   */
  const runStep = async <T>(work: (tx: Transaction) => Promise<T>): Promise<T> => {
    const isFirst = open === null
    open ??= { state: 'pending', told: [] }
    post.ahead(isFirst ? begin : savepoint)
    const tx: Transaction = {
      all: async (query) => toRows(await post([query])),
      batch: async (queries) => (await post(queries)).map(objectsOf) as never, // rows as the caller named them
    }
    try {
      const result = await work(tx)
      if (!isFirst) post.ahead(release)
      return result
    } catch (error) {
      const trouble = troubleOf(error)
      if (isFirst) await undoGroup(trouble)
      // A full disk takes back the whole group: all that waited for it must hear so.
      else await post([undoStep, release]).catch((lost: unknown) => undoGroup(troubleOf(lost)))
      throw trouble
    }
  }

  const transaction = <T>(work: (tx: Transaction) => Promise<T>): Promise<T> =>
    new Promise((resolve, reject) => {
      if (isClosed) return reject(new Error('the database is closed'))
      return enqueue({
        isRead: false,
        run: () => runStep(work).then((value) => settle(open, () => resolve(value), reject), reject),
      })
    })

  return {
    all: async (query) => toRows(await read([query])),
    batch: async (queries) => (await read(queries)).map(objectsOf) as never, // rows as the caller named them
    transaction,
    statements: () => post.statements(),
    async close() {
      if (isClosed) return
      await new Promise<void>((resolve) => enqueue({ isRead: false, run: async () => resolve() }))
      isClosed = true
      await draining
      await post.close()
    },
  }
}

/** Transactions that share a commit, and what is told when it is on disk or has failed. */
type Group = {
  state: 'pending' | 'done' | Error
  told: { done: () => void; failed: (error: Error) => void }[]
}

function settle(group: Group | null, done: () => void, failed: (error: Error) => void): void {
  if (group === null || group.state === 'done') done()
  else if (group.state === 'pending') group.told.push({ done, failed })
  else failed(group.state)
}

function end(group: Group, error: Error | null): void {
  group.state = error ?? 'done'
  for (const { done, failed } of group.told.splice(0)) {
    if (error === null) done()
    else failed(error)
  }
}

type Post = ((queries: readonly Sql[]) => Promise<Rows[]>) & {
  /** Sends a statement with whatever is sent next, just before it: one message less. */
  ahead: (query: Sql) => void
  statements: () => Promise<string[]>
  close: () => Promise<void>
}

/** Requests to the thread and their answers. */
async function connectTo(thread: Worker, path: string): Promise<Post> {
  const waiting = new Map<number, { resolve: (reply: Reply) => void; reject: (error: Error) => void }>()
  let last = 0
  const failAll = (error: Error): void => {
    for (const { reject } of waiting.values()) reject(error)
    waiting.clear()
  }
  const expect = (id: number): Promise<Reply> =>
    new Promise((resolve, reject) => waiting.set(id, { resolve, reject }))
  thread.on('message', (reply: Reply) => {
    waiting.get(reply.id)?.resolve(reply)
    waiting.delete(reply.id)
  })
  thread.on('error', (error) => failAll(error instanceof Error ? error : new Error(String(error))))
  thread.on('exit', () => failAll(new Error('the database is closed')))
  const started = await expect(0)
  if ('error' in started) throw unusable(path, started.error)

  const ask = async (request: Request): Promise<Reply> => {
    const answered = expect(request.id)
    thread.postMessage(request)
    const reply = await answered
    if ('error' in reply) throw new Error(reply.error)
    return reply
  }
  const numbers = new Map<string, number>()
  const numbered = ({ text, values }: Sql): Numbered => {
    const known = numbers.get(text)
    if (known !== undefined) return { number: known, values }
    numbers.set(text, numbers.size)
    return { number: numbers.size - 1, text, values }
  }
  const ahead: Sql[] = []
  const post = async (queries: readonly Sql[]): Promise<Rows[]> => {
    const before = ahead.splice(0)
    const reply = await ask({ id: ++last, queries: [...before, ...queries].map(numbered) })
    return 'results' in reply ? reply.results.slice(before.length) : []
  }
  return Object.assign(post, {
    ahead: (query: Sql) => void ahead.push(query),
    async statements() {
      const reply = await ask({ id: ++last, ask: 'statements' })
      return 'statements' in reply ? reply.statements : []
    },
    async close() {
      const gone = new Promise((resolve) => thread.once('exit', resolve))
      await ask({ id: ++last, ask: 'close' })
      await gone
    },
  })
}

function toRows<T extends Row>(results: readonly Rows[]): T[] {
  return results[0] === undefined ? [] : objectsOf(results[0])
}

/** Rows as objects. Written out, as lists are made of nothing else: Object.fromEntries takes three times as long. */
function objectsOf<T extends Row>({ columns, rows }: Rows): T[] {
  return (JSON.parse(rows) as Value[][]).map((values) => {
    const row: Record<string, Value> = {}
    for (let index = 0; index < columns.length; index++) row[columns[index] ?? ''] = values[index] ?? null
    return row as T // as the caller named the columns
  })
}

function unusable(path: string, message: string): Complaint {
  const isDamaged = /not a database|malformed|corrupt/.test(message)
  return new Complaint(`cannot open the database ${path}: ${message}`, {
    hint: isDamaged
      ? 'the file is damaged; nothing was changed. Put a backup in its place, or move it away to start anew'
      : undefined,
  })
}

/** A full disk is the operator's to mend, not a bug. */
function troubleOf(error: unknown): Error {
  const known = error instanceof Error ? error : new Error(String(error))
  if (!/disk is full|disk I\/O error/.test(known.message)) return known
  return new Complaint(`cannot write the database: ${known.message}`, {
    hint: 'make space on its disk; nothing of this request was kept',
  })
}

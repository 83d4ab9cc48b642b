/** The thread that SQLite runs in, so that no query ever stalls a request that needs none. */
import { statSync } from 'node:fs'
import { parentPort, receiveMessageOnPort, workerData, type MessagePort } from 'node:worker_threads'
import { Complaint } from '../../errors.ts'
import type { Value } from './database.ts'
import { openEngine, type Engine } from './engine.ts'
import { failureOf, type Failure } from './failure.ts'
import { takenAway } from './hostfs.ts'
import { openSqlFile } from './sqljs.ts'
import { isPreliminary, workNamed } from './work.ts'
import { checkpointPages, takeWritten } from './written.ts'

/** `changes` counts what was committed or taken back, for the thread that started this one. */
export type ThreadData = { path: string; sqlite: WebAssembly.Module; changes: Int32Array<SharedArrayBuffer> }
/** A statement by its number; its text goes along the first time only, as texts are long and few. */
export type Numbered = { number: number; text?: string; values: readonly Value[] }

/** What is asked of the thread. `begin` opens a transaction that goes on over several messages. */
export type Request =
  | { id: number; do: 'read'; queries: readonly Numbered[] }
  | { id: number; do: 'run' | 'ask'; name: string; input: unknown }
  | { id: number; do: 'begin' | 'commit' | 'rollback' | 'close' | 'statements' }
  | { id: number; do: 'step'; queries: readonly Numbered[] }
  | { id: number; do: 'written'; isGoingOn: boolean }
  | { id: number; do: 'connect'; port: MessagePort }
export type Reply = { id: number; value: unknown } | ({ id: number } & Failure)

/**
 * The order counts: exclusive mode first, so that the write-ahead log needs no shared memory. Moving the log into the
 * file keeps all others waiting. Work changes the same pages again and again, so doing that four times as rarely as
 * usual moves two and a half times as many pages in one go, and keeps them waiting half as long in all.
 */
export const pragmas = [
  'locking_mode = exclusive',
  'journal_mode = wal',
  'synchronous = full',
  'foreign_keys = on',
  `wal_autocheckpoint = ${checkpointPages}`,
  'temp_store = memory',
  'recursive_triggers = off',
] as const

/** Requests that share one commit at the most, and milliseconds after which it is due: the first of them waits. */
const groupLimit = 128
const groupTime = 15
/** Milliseconds that a commit waits for others to share it, while so many come at once: an fsync takes as long. */
const gatherTime = 2
const manyTogether = 4
/** Parts that share a commit: many change the same pages, and each commit writes all that it changed. */
const partLimit = 20
/** Milliseconds that an answer may wait for others to go along in one message. */
const tellTime = 1

/** Kilobytes of pages kept in memory: a third of a small database, and what is plenty for a large one. */
const [smallestCache, largestCache] = [16_384, 65_536]
/** Groups after which the size of the cache is chosen anew. */
const cacheTime = 500

/** Who asks: the main thread, or another that it gave a port. Each numbers its statements by itself. */
type Client = { port: MessagePort; texts: Map<number, string> }
type Asked = { client: Client; request: Request }
type Answered = { client: Client; reply: Reply }

/**
 * What waits, by what is done with it: `work` changes something and shares commits; `questions` change nothing;
 * `parts` are pieces of something larger; `others` are transactions led from elsewhere, and what is rarely asked; `end` comes last.
 */
type Kind = 'others' | 'work' | 'questions' | 'parts' | 'end'

/**
 * Answers what is asked. Work that waits at the same moment is a group: one transaction, one commit, and nothing of
 * it is told before that is on disk. Where one of a group fails, all of it is taken back and each is done by itself.
 * Kinds take turns; work never waits for more than one long question, questions not for more than one group, and
 * parts of something larger (an import) give way to all else.
 */
function answering(sqlite: Engine, { path, changes }: ThreadData) {
  const clients = new Set<Client>()
  const waiting: Record<Kind, Asked[]> = { others: [], work: [], questions: [], parts: [], end: [] }
  let last: Kind = 'others'
  let isInSession = false
  let isDraining = false
  let isSyncing = true
  /** The group before had several: more are about to come. */
  let isBusy = false
  /** Milliseconds that the last group took; questions then get as long, if they need it. */
  let lastGroupTook = 0
  let groups = 0
  const pausing = new Int32Array(new SharedArrayBuffer(4))

  const receive = (client: Client, request: Request): void => {
    // Texts come once, with the first that uses them; a group that is done anew must find them.
    if ('queries' in request)
      for (const { number, text } of request.queries) if (text !== undefined) client.texts.set(number, text)
    waiting[kindOf(request)].push({ client, request })
  }
  /** What has come meanwhile. */
  const receiveAll = (): void => {
    for (const client of clients) {
      for (let next = receiveMessageOnPort(client.port); next; next = receiveMessageOnPort(client.port))
        receive(client, next.message as Request) // sqlite.ts sends nothing else
    }
  }

  /** Waits a moment for more work, in short steps, while there is nothing else to do. */
  const gather = (): void => {
    const isIdle = (): boolean => waiting.work.length + waiting.questions.length === 0
    for (let step = 0; step < gatherTime && isIdle(); step++) {
      Atomics.wait(pausing, 0, 0, 1)
      receiveAll()
    }
  }

  const valueOf = async ({ client, request }: Asked): Promise<unknown> => {
    if (request.do === 'read' || request.do === 'step')
      return request.queries.map(({ number, values }) =>
        sqlite.text({ text: client.texts.get(number) ?? '', values }),
      )
    if (request.do === 'run' || request.do === 'ask')
      return workNamed(request.name)(sqlite.tx, request.input as never) // as its caller was typed
    if (request.do === 'connect') connect(request.port)
    if (request.do === 'written') return takeWritten(request.isGoingOn)
    return request.do === 'statements' ? sqlite.statements() : null
  }

  /** In the log a commit is whole or not there, synced or not (sqlite.org/pragma.html#pragma_synchronous). */
  const begin = (isSynced: boolean): void => {
    if (isSynced !== isSyncing) sqlite.do(`PRAGMA synchronous = ${isSynced ? 'full' : 'normal'}`)
    isSyncing = isSynced
    sqlite.do('BEGIN IMMEDIATE')
  }

  const commit = (): void => {
    sqlite.do('COMMIT')
    Atomics.add(changes, 0, 1)
  }

  /** What was seen of it meanwhile is not so. */
  const undo = (): void => {
    rollBack(sqlite)
    Atomics.add(changes, 0, 1)
  }

  const answered = async (asked: Asked): Promise<Answered> => {
    return { client: asked.client, reply: { id: asked.request.id, value: await valueOf(asked) } }
  }

  /** Work of one group, as it comes, until it has lasted long enough; throws what any of it did. */
  const workTogether = async (first: Asked, taken: Asked[]): Promise<Answered[]> => {
    const replies: Answered[] = []
    const start = performance.now()
    begin(true)
    for (let next: Asked | undefined = first; next !== undefined; next = waiting.work.shift()) {
      taken.push(next)
      replies.push(await answered(next))
      if (taken.length >= groupLimit || performance.now() > start + groupTime) break
      receiveAll()
      if (waiting.work.length === 0 && isBusy) gather()
    }
    isBusy = taken.length >= manyTogether
    commit()
    lastGroupTook = performance.now() - start
    return replies
  }

  /** Parts, until anybody wants to write; those who only ask are answered between them, at once. */
  const partsTogether = async (first: Asked, taken: Asked[]): Promise<Answered[]> => {
    const replies: Answered[] = []
    begin(false)
    for (let next: Asked | undefined = first; next !== undefined;) {
      taken.push(next)
      replies.push(await answered(next))
      receiveAll()
      for (let asked = waiting.questions.shift(); asked !== undefined; asked = waiting.questions.shift())
        tell([await alone(asked)])
      const hasTime = waiting.work.length + waiting.others.length === 0 && taken.length < partLimit
      next = hasTime ? waiting.parts.shift() : undefined
    }
    commit()
    return replies
  }

  /** Questions, one at least, until something else has waited as long as the last group made them wait. */
  const answerQuestions = async (first: Asked): Promise<void> => {
    const start = performance.now()
    let [replies, told]: [Answered[], number] = [[], start]
    for (let next: Asked | undefined = first; next !== undefined;) {
      replies.push(await alone(next))
      receiveAll()
      const moment = performance.now()
      if (moment > told + tellTime) {
        tell(replies)
        ;[replies, told] = [[], moment]
      }
      const isAwaited = waiting.work.length + waiting.others.length + waiting.parts.length > 0
      const isOver = isAwaited && moment > start + Math.min(lastGroupTook, groupTime)
      next = isOver ? undefined : waiting.questions.shift()
    }
    tell(replies)
  }

  const alone = async (asked: Asked): Promise<Answered> => {
    const { request } = asked
    try {
      if (request.do !== 'run') return await answered(asked)
      begin(true)
      const done = await answered(asked)
      commit()
      return done
    } catch (error) {
      if (request.do === 'run') undo()
      return failed(asked, error)
    }
  }

  const answerGroup = async (first: Asked, together: typeof workTogether): Promise<Answered[]> => {
    const taken: Asked[] = []
    try {
      return await together(first, taken)
    } catch (error) {
      undo()
      if (taken.length === 1) return [failed(first, error)]
      const replies: Answered[] = []
      for (const asked of taken) replies.push(await alone(asked))
      return replies
    }
  }

  /** One message of a transaction that its caller leads; nothing else is done until it ends. */
  const answerSession = async (asked: Asked): Promise<Answered> => {
    const { client, request } = asked
    try {
      if (request.do === 'begin') begin(true)
      if (request.do === 'commit') commit()
      if (request.do === 'rollback') undo()
      isInSession = request.do === 'begin' || request.do === 'step'
      return { client, reply: { id: request.id, value: await valueOf(asked) } }
    } catch (error) {
      // A full disk takes the whole transaction back by itself; its caller hears of it and ends it.
      if (request.do === 'commit' || request.do === 'rollback') undo()
      isInSession = request.do === 'step'
      return failed(asked, error)
    }
  }

  const end = (asked: Asked): void => {
    sqlite.close()
    tell([{ client: asked.client, reply: { id: asked.request.id, value: null } }])
    for (const { port } of clients) port.close()
  }

  const chooseCache = (): void => {
    const kilobytes = Math.round((statSync(path, { throwIfNoEntry: false })?.size ?? 0) / 3 / 1024)
    sqlite.do(`PRAGMA cache_size = -${Math.min(largestCache, Math.max(smallestCache, kilobytes))}`)
  }

  const answerNext = async (asked: Asked): Promise<void> => {
    const kind = kindOf(asked.request)
    if (!isInSession && groups++ % cacheTime === 0) chooseCache()
    last = kind
    if (kind === 'questions') return answerQuestions(asked)
    if (kind === 'work') return tell(await answerGroup(asked, workTogether))
    if (kind === 'parts') return tell(await answerGroup(asked, partsTogether))
    if (kind === 'end') return end(asked)
    tell([await answerSession(asked)])
  }

  /** The kind that had its turn last goes behind the others, and parts come every other time at most. */
  const takeNext = (): Asked | undefined => {
    if (isInSession) {
      const at = waiting.others.findIndex(({ request }) => isOfSession(request))
      return at === -1 ? undefined : waiting.others.splice(at, 1)[0]
    }
    if (last !== 'parts' && waiting.parts.length > 0) return waiting.parts.shift()
    const first = (['others', 'work', 'questions'] as const).filter((kind) => kind !== last)
    for (const kind of [...first, last, 'parts', 'end'] as const) {
      const asked = waiting[kind].shift()
      if (asked !== undefined) return asked
    }
    return undefined
  }

  const tell = (all: readonly Answered[]): void => {
    for (const [{ port }, replies] of Map.groupBy(all, ({ client }) => client))
      port.postMessage(
        replies.map(({ reply }) => reply),
        replies.flatMap(({ reply }) => bytesOf(reply)),
      )
  }

  const drain = async (): Promise<void> => {
    if (isDraining) return
    isDraining = true
    for (let next = takeNext(); next !== undefined; next = takeNext()) await answerNext(next)
    isDraining = false
  }

  /** Answers this port from now on, until its other end is closed. */
  const connect = (port: MessagePort): void => {
    const client: Client = { port, texts: new Map() }
    clients.add(client)
    port.on('message', (request: Request) => {
      receive(client, request)
      void drain()
    })
    port.on('close', () => clients.delete(client))
  }
  return connect
}

function kindOf(request: Request): Kind {
  if (request.do === 'read' || request.do === 'ask') return 'questions'
  if (request.do !== 'run') return request.do === 'close' ? 'end' : 'others'
  return isPreliminary(request.name) ? 'parts' : 'work'
}

/** Bytes go over as they are, without a copy: whoever made them has no more use for them. */
function bytesOf(reply: Reply): ArrayBuffer[] {
  const value = 'value' in reply ? reply.value : null
  return value instanceof Uint8Array && value.buffer instanceof ArrayBuffer ? [value.buffer] : []
}

function isOfSession({ do: what }: Request): boolean {
  return what === 'step' || what === 'commit' || what === 'rollback'
}

function rollBack(sqlite: Engine): void {
  try {
    sqlite.do('ROLLBACK')
  } catch {
    // SQLite has done it itself where the disk is full
  }
}

function failed({ client, request }: Asked, error: unknown): Answered {
  return { client, reply: { id: request.id, ...failureOf(causeOf(error)) } }
}

/** SQLite only knows that it could not write; we may know why. */
function causeOf(error: unknown): unknown {
  const taken = takenAway()
  if (taken === null || !(error instanceof Error) || !/disk I\/O error/.test(error.message)) return error
  return new Complaint(`cannot write the database: ${taken}`, {
    hint: 'nothing of this request was kept; stop the server, see to its files, and start it again',
  })
}

async function start(port: MessagePort): Promise<void> {
  const data = workerData as ThreadData
  const { path, sqlite } = data
  const open = await openSqlFile(path, sqlite)
  for (const pragma of pragmas) open.file.exec(`PRAGMA ${pragma}`)
  answering(openEngine(open), data)(port)
  port.postMessage([{ id: 0, value: null }] satisfies Reply[])
}

/** Opens the database that the thread was started for, and answers until it is closed. */
export function serveDatabase(): void {
  if (parentPort === null) return
  const port = parentPort
  start(port).catch((error: unknown) => {
    port.postMessage([{ id: 0, ...failureOf(error) }] satisfies Reply[])
    port.close()
  })
}

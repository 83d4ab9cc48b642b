import { MessageChannel, type MessagePort, type Transferable, type Worker } from 'node:worker_threads'
import { startThread } from '../../assets.ts'
import { Complaint } from '../../errors.ts'
import { keepOthersOut } from './barrier.ts'
import { compiledSqlite } from './compiled.ts'
import { rowOf, type Database, type Row, type Sql, type Transaction, type Value } from './database.ts'
import type { Rows } from './engine.ts'
import { errorOf } from './failure.ts'
import type { Numbered, Reply, Request, ThreadData } from './thread/messages.ts'

/**
 * Opens a database file in a thread of its own. What waits there at the same moment shares one commit (one fsync);
 * what any of it resolved with, and what a read saw of it, is told only after it.
 * @param path absolute path of the database file
 * @throws Complaint where the file is no database or cannot be opened, or another program has it open
 */
export async function openSqlite(path: string): Promise<Database> {
  const barrier = keepOthersOut(path)
  const changes = new Int32Array(new SharedArrayBuffer(4))
  const data: ThreadData = { path, sqlite: compiledSqlite(), changes }
  const thread = startThread('database', data)
  const gone = new Promise((resolve) => thread.once('exit', resolve)).then(barrier.release)
  const post = connectTo(thread)
  await post.started.catch((error: unknown) => {
    throw unusable(path, error instanceof Error ? error.message : String(error))
  })
  return { ...databaseBy(post, gone), change: () => Atomics.load(changes, 0) }
}

/** The same database, for another thread: `port` comes from `Database.port`. */
export function databaseAt(port: MessagePort): Database {
  return databaseBy(connectTo(port), Promise.resolve())
}

function databaseBy(post: Post, gone: Promise<unknown>): Database {
  const numbered = numberer()
  const rowsOf = async (what: 'read' | 'step', queries: readonly Sql[]): Promise<Rows[]> =>
    (await post({ do: what, queries: queries.map(numbered) })) as Rows[] // what the thread answers these with
  const tellTrouble = (error: unknown): never => {
    throw troubleOf(error)
  }

  const read = (queries: readonly Sql[]): Promise<Rows[]> => rowsOf('read', queries).catch(tellTrouble)

  const steps: Transaction = {
    all: async (query) => toRows(await rowsOf('step', [query])),
    batch: async (queries) => (await rowsOf('step', queries)).map(objectsOf) as never, // rows as the caller named them
    bytes: async (query) => utf8Of(await rowsOf('step', [query])),
  }
  /** Led from here, message by message. Those that wait for their turn stand in one line here. */
  let lastSession: Promise<unknown> = Promise.resolve()
  const transaction = <T>(work: (tx: Transaction) => Promise<T>): Promise<T> => {
    const session = lastSession.then(async () => {
      await post({ do: 'begin' })
      const value = await work(steps).catch(async (error: unknown) => {
        await post({ do: 'rollback' }).catch(() => undefined) // SQLite has done it itself where the disk is full
        throw error
      })
      await post({ do: 'commit' })
      return value
    })
    lastSession = session.catch(() => undefined)
    return session.catch(tellTrouble)
  }

  return {
    all: async (query) => toRows(await read([query])),
    batch: async (queries) => (await read(queries)).map(objectsOf) as never, // rows as the caller named them
    bytes: async (query) => utf8Of(await read([query])),
    transaction,
    run: (name, input) => post({ do: 'run', name, input }).catch(tellTrouble),
    ask: (name, input) => post({ do: 'ask', name, input }).catch(tellTrouble),
    async port() {
      const { port1, port2 } = new MessageChannel()
      await post({ do: 'connect', port: port1 }, [port1])
      return port2
    },
    writtenBlocks: async (isGoingOn) => (await post({ do: 'written', isGoingOn })) as number[], // as the thread answers it
    statements: async () => (await post({ do: 'statements' })) as string[], // what the thread answers this with
    async close() {
      await lastSession
      await post.close()
      await gone
    },
  }
}

/** Numbers statements; the text goes along with the first that has it. */
function numberer(): (query: Sql) => Numbered {
  const numbers = new Map<string, number>()
  return ({ text, values }) => {
    const known = numbers.get(text)
    if (known !== undefined) return { number: known, values }
    numbers.set(text, numbers.size)
    return { number: numbers.size - 1, text, values }
  }
}

/** A request without its number. */
type Question = Request extends infer R ? (R extends Request ? Omit<R, 'id'> : never) : never
type Post = ((question: Question, moved?: Transferable[]) => Promise<unknown>) & {
  /** The thread has opened the database; for those that started it. */
  started: Promise<unknown>
  close: () => Promise<void>
}

/** Requests to the thread and their answers. */
function connectTo(thread: Worker | MessagePort): Post {
  const waiting = new Map<number, { resolve: (value: unknown) => void; reject: (error: Error) => void }>()
  let last = 0
  let isClosed = false
  const closed = new Error('the database is closed')
  const failAll = (error: Error): void => {
    for (const { reject } of waiting.values()) reject(error)
    waiting.clear()
  }
  const expect = (id: number): Promise<unknown> =>
    new Promise((resolve, reject) => waiting.set(id, { resolve, reject }))
  thread.on('message', (replies: readonly Reply[]) => {
    for (const reply of replies) {
      const asked = waiting.get(reply.id)
      waiting.delete(reply.id)
      if ('error' in reply) asked?.reject(errorOf(reply))
      else asked?.resolve(reply.value)
    }
  })
  thread.on('error', (error: unknown) => failAll(error instanceof Error ? error : new Error(String(error))))
  for (const end of ['exit', 'close']) thread.on(end, () => failAll(closed))

  const post = (question: Question, moved: Transferable[] = []): Promise<unknown> => {
    if (isClosed) return Promise.reject(closed)
    const id = ++last
    const answered = expect(id)
    thread.postMessage({ ...question, id }, moved)
    return answered
  }
  return Object.assign(post, {
    started: 'threadId' in thread ? expect(0) : Promise.resolve(),
    async close() {
      if (isClosed) return
      const answered = 'threadId' in thread ? post({ do: 'close' }) : Promise.resolve()
      isClosed = true
      await answered
      if (!('threadId' in thread)) thread.close()
    },
  })
}

function toRows<T extends Row>(results: readonly Rows[]): T[] {
  return results[0] === undefined ? [] : objectsOf(results[0])
}

/** The first value of all. */
function utf8Of([result]: readonly Rows[]): Uint8Array {
  const [[text = ''] = []] = JSON.parse(result?.rows ?? '[]') as Value[][] // as the engine writes them
  return new TextEncoder().encode(String(text))
}

function objectsOf<T extends Row>({ columns, rows }: Rows): T[] {
  return (JSON.parse(rows) as Value[][]).map((values) => rowOf(columns, values) as T) // as the caller named the columns
}

function unusable(path: string, message: string): Complaint {
  const isDamaged = isDamage(message)
  return new Complaint(`cannot open the database ${path}: ${message}`, {
    hint: isDamaged
      ? 'the file is damaged; nothing was changed. Put a backup in its place, or move it away to start anew'
      : undefined,
  })
}

function isDamage(message: string): boolean {
  return /not a database|malformed|corrupt/.test(message)
}

/** A full disk and a damaged file are the operator's to mend, not bugs. */
function troubleOf(error: unknown): Error {
  const known = error instanceof Error ? error : new Error(String(error))
  if (isDamage(known.message))
    return new Complaint(`the database is damaged: ${known.message}`, {
      hint: 'nothing of this request was kept; stop the server, look with `rebuilderd ctl db check`, put a backup in its place',
    })
  if (!/disk is full|disk I\/O error/.test(known.message)) return known
  return new Complaint(`cannot use the database: ${known.message}`, {
    hint: 'make space on its disk; nothing of this request was kept',
  })
}

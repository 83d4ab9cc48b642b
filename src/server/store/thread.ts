/** The thread that SQLite runs in, so that no query ever stalls a request that needs none. */
import { statSync } from 'node:fs'
import { parentPort, workerData, type MessagePort } from 'node:worker_threads'
import { openEngine, type Engine } from './engine.ts'
import { failureOf } from './failure.ts'
import { openSqlFile } from './sqljs.ts'
import { failed, openAnswers, type Answers } from './thread/answers.ts'
import { openGroups } from './thread/groups.ts'
import { tell, type Answered, type Asked, type Reply, type ThreadData } from './thread/messages.ts'
import { openTransactions, type Transactions } from './thread/transactions.ts'
import { kindOf, openWaiting } from './thread/waiting.ts'
import { checkpointPages } from './written.ts'

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

/** Kilobytes of pages kept in memory: a third of a small database, and what is plenty for a large one. */
const [smallestCache, largestCache] = [16_384, 65_536]
/** Groups after which the size of the cache is chosen anew. */
const cacheTime = 500

/**
 * Answers what is asked. Kinds take turns; work never waits for more than one long question, questions not for more
 * than one group, and parts of something larger (an import) give way to all else.
 * @returns what makes it answer a port
 */
function answering(sqlite: Engine, { path, changes }: ThreadData): (port: MessagePort) => void {
  const waiting = openWaiting(() => void drain())
  const transactions = openTransactions(sqlite, changes)
  const answers = openAnswers(sqlite, transactions, waiting.connect)
  const groups = openGroups({ waiting, transactions, answers })
  const session = openSession(transactions, answers)
  let isDraining = false
  let answered = 0

  const end = (asked: Asked): void => {
    sqlite.close()
    tell([{ client: asked.client, reply: { id: asked.request.id, value: null } }])
    waiting.closeAll()
  }

  const answer = async (asked: Asked): Promise<void> => {
    const kind = kindOf(asked.request)
    if (!session.isOpen() && answered++ % cacheTime === 0) chooseCache(sqlite, path)
    if (kind === 'end') return end(asked)
    if (kind === 'others') return tell([await session.answer(asked)])
    return groups[kind](asked)
  }

  const drain = async (): Promise<void> => {
    if (isDraining) return
    isDraining = true
    const next = (): Asked | undefined => waiting.next(session.isOpen())
    for (let asked = next(); asked !== undefined; asked = next()) await answer(asked)
    isDraining = false
  }

  return waiting.connect
}

/** A transaction that its caller leads: nothing else is done until it ends. */
function openSession(transactions: Transactions, answers: Answers) {
  let isOpen = false
  return {
    isOpen: (): boolean => isOpen,
    /** One message of it, or something that needs none. */
    async answer(asked: Asked): Promise<Answered> {
      const { do: what } = asked.request
      try {
        if (what === 'begin') transactions.begin(true)
        if (what === 'commit') transactions.commit()
        if (what === 'rollback') transactions.undo()
        isOpen = what === 'begin' || what === 'step'
        return await answers.within(asked)
      } catch (error) {
        // A full disk takes the whole transaction back by itself; its caller hears of it and ends it.
        if (what === 'commit' || what === 'rollback') transactions.undo()
        isOpen = what === 'step'
        return failed(asked, error)
      }
    },
  }
}

function chooseCache(sqlite: Engine, path: string): void {
  const kilobytes = Math.round((statSync(path, { throwIfNoEntry: false })?.size ?? 0) / 3 / 1024)
  sqlite.do(`PRAGMA cache_size = -${Math.min(largestCache, Math.max(smallestCache, kilobytes))}`)
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

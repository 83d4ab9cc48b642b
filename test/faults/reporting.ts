/** A thread that takes reports as a server does, and writes down all that they ask of the disk. */
import { join } from 'node:path'
import { parentPort, workerData } from 'node:worker_threads'
import { loadSettings, serverSettings } from '../../src/config.ts'
import { silentLog } from '../../src/log.ts'
import { importReport } from '../../src/server/imports.ts'
import { popJob } from '../../src/server/queue.ts'
import { workerRegistered } from '../../src/server/registry.ts'
import { takeReport } from '../../src/server/results.ts'
import { scheduleOf } from '../../src/server/serve.ts'
import { openBlobs } from '../../src/server/store/blobs.ts'
import type { Database } from '../../src/server/store/database.ts'
import { openEngine } from '../../src/server/store/engine.ts'
import { migrate } from '../../src/server/store/schema.ts'
import { compiledSqlite } from '../../src/server/store/compiled.ts'
import { openSqlFile } from '../../src/server/store/sqljs.ts'
import { pragmas } from '../../src/server/store/thread.ts'
import { workNamed } from '../../src/server/store/work.ts'
import { workerByKey } from '../../src/server/store/workers.ts'
import { oneAtATime } from '../../src/server/turns.ts'
import { logOf, seeded } from '../bench/data.ts'
import { aPackage, aReport, aResult } from '../help/server.ts'
import { listenTo, type Step } from './disk.ts'

/** `start`: the step from which on reports are taken; an `ack` is the number of a job whose report was acknowledged. */
export type Recorded = { steps: Step[]; start: number }
export type Recording = { folder: string; jobs: number }

/** Reports under way at the same moment. */
const together = 4

/** The engine as a database, without a thread of its own: its calls are heard here. */
function databaseOf(engine: ReturnType<typeof openEngine>): Database {
  const inTurn = oneAtATime()
  const transaction: Database['transaction'] = (work) =>
    inTurn(async () => {
      engine.do('BEGIN IMMEDIATE')
      const value = await work(engine.tx)
      engine.do('COMMIT')
      return value
    })
  const unused = (): never => {
    throw new Error('is not asked for by reports')
  }
  return {
    ...engine.tx,
    transaction,
    run: (name, input) => transaction((tx) => workNamed(name)(tx, input as never)), // as its caller was typed
    ask: (name, input) => inTurn(() => workNamed(name)(engine.tx, input as never)),
    port: unused,
    writtenBlocks: unused,
    statements: unused,
    close: async () => engine.close(),
  }
}

async function recorded({ folder, jobs }: Recording): Promise<Recorded> {
  const steps: Step[] = []
  const path = join(folder, 'p.db')
  const giveBack = listenTo(folder, steps)
  try {
    const open = await openSqlFile(path, compiledSqlite())
    for (const pragma of pragmas) open.file.exec(`PRAGMA ${pragma}`)
    open.file.exec('PRAGMA wal_autocheckpoint = 60') // often
    const db = databaseOf(openEngine(open))
    await migrate(db, path)
    const schedule = scheduleOf(await loadSettings(serverSettings, []))
    const packages = Array.from({ length: jobs }, (_, index) => aPackage({ name: `pkg-${index}` }))
    const options = { schedule, shrinkLimitPercent: 50, force: false, now: () => new Date() }
    await importReport(db, aReport(packages), options)
    const start = steps.length
    await Promise.all(
      Array.from({ length: together }, (_, index) => reportAll(db, { folder, steps, schedule }, index)),
    )
    await db.close()
    return { steps, start }
  } finally {
    giveBack()
  }
}

type Site = { folder: string; steps: Step[]; schedule: ReturnType<typeof scheduleOf> }

/** Pops and reports until there is nothing left to do. */
async function reportAll(db: Database, { folder, steps, schedule }: Site, index: number): Promise<void> {
  const blobs = openedBlobs(folder)
  const random = seeded(index)
  const key = `key-${index}`
  const now = new Date().toISOString().slice(0, 23)
  await workerRegistered(db, { worker: { key, name: key, address: '', tags: '' }, isProven: false, now })
  const worker = await workerByKey(db, key)
  if (worker === null) throw new Error('the worker is not known')
  const body = { supported_backends: ['debian'], architecture: 'x86_64', supported_architectures: ['amd64'] }
  for (;;) {
    const given = await popJob(db, schedule, worker, body, new Date())
    if (given === 'Nothing') return
    const report = aResult(given.Rebuild, { build_log: logOf(random, 3000) })
    await takeReport({ db, blobs, schedule, signingKey: null, log: silentLog }, worker, report, new Date())
    steps.push({ kind: 'ack', number: report.queue_id })
  }
}

const opened = new Map<string, ReturnType<typeof openBlobs>>()

/** One for all who report, as in a server. */
function openedBlobs(folder: string): ReturnType<typeof openBlobs> {
  const blobs = opened.get(folder) ?? openBlobs(join(folder, 'blobs'))
  opened.set(folder, blobs)
  return blobs
}

recorded(workerData as Recording).then(
  (found) => parentPort?.postMessage(found),
  (error: unknown) => {
    console.error(error)
    process.exit(1)
  },
)

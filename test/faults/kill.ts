import { spawn } from 'node:child_process'
import { randomUUID } from 'node:crypto'
import { once } from 'node:events'
import { mkdtemp, rm } from 'node:fs/promises'
import { existsSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { openClient, type Client } from '../../src/client.ts'
import { sql } from '../../src/server/store/database.ts'
import {
  contradictionsIn,
  damageOf,
  unqueuedInputs,
  type Reader,
} from '../../src/server/store/maintenance.ts'
import { submitBuild, type RebuildReport } from '../../src/wire/builds.ts'
import { submitPackages, type PackageReport } from '../../src/wire/packages.ts'
import { pingJob, popQueue } from '../../src/wire/queue.ts'
import { registerWorker } from '../../src/wire/workers.ts'
import { logOf, seeded } from '../bench/data.ts'
import { signupSecret, startProcess, type ServerProcess } from '../bench/process.ts'
import { aLastingPort } from '../help/ports.ts'
import { aPackage, aReport, aResult } from '../help/server.ts'
import { patienceMilliseconds } from '../help/until.ts'
import { onCopy } from './inspect.ts'
import { paced, type FaultReport, type Goal } from './report.ts'

/** What the server has acknowledged: it must be there after any death. */
type Promised = {
  /** Status of a report by its lease. */
  reports: Map<string, string>
  /** Number of the last whole import of each release. */
  imports: Map<string, number>
  workers: Set<string>
}

const sourceTree = fileURLToPath(new URL('../../src/main.ts', import.meta.url))

/** Of so many kills one hits a server that has only begun to start. */
const startsCutOff = 5
const workerCount = 6
const packagesPerImport = 60

/**
 * Kills the server with SIGKILL again and again while workers work and packages are imported, looks at what lies on
 * disk each time, and starts it anew. Whoever was cut off repeats what it asked, as workers and sync do.
 * @param script the program to run; undefined: the source tree
 */
export async function killings(kills: Goal, script?: string): Promise<FaultReport> {
  const folder = await mkdtemp(join(tmpdir(), 'rebuilderd-kill-'))
  const data = join(folder, 'data')
  const promised: Promised = { reports: new Map(), imports: new Map(), workers: new Set() }
  const losses: string[] = []
  const random = seeded(Date.now() % 1000)
  let server = await startProcess({ data, port: await aLastingPort(), script })
  const base = server.address
  const port = Number(new URL(base).port)
  const over = new AbortController()
  const gate = aGate()
  const load = loadOn({ base, cookie: server.cookie, gate, signal: over.signal }, promised, losses)
  let [killed, whileStarting, atWork] = [0, 0, 0]
  let slowest = startOf(server)
  const goesOn = paced(kills)
  try {
    while (goesOn(killed) && losses.length === 0) {
      atWork += (await untilMore(promised, random)) ? 1 : 0
      await pause(random() * longestPause)
      gate.close()
      await server.kill('SIGKILL')
      killed += 1
      if (killed % startsCutOff === 0 && goesOn(killed)) {
        await killedWhileStarting(data, script, random() * server.readyAfter)
        killed += 1
        whileStarting += 1
      }
      losses.push(...(await findings(data, promised)).map((loss) => `after kill ${killed}: ${loss}`))
      server = await startProcess({ data, port, script })
      gate.open()
      slowest = slowerOf(slowest, startOf(server))
    }
    await pause(1000)
  } finally {
    over.abort()
    gate.open()
    await load
    await server.kill('SIGTERM')
  }
  losses.push(...(await findings(data, promised)).map((loss) => `at the end: ${loss}`))
  const unqueued = await onCopy(join(data, 'rebuilderd.db'), unqueuedInputs)
  if (unqueued > 0) losses.push(`${unqueued} inputs need work and are not queued`)
  const handedOut = await onCopy(join(data, 'rebuilderd.db'), countLeases)
  await rm(folder, { recursive: true, force: true })
  const counts = {
    kills: killed,
    'of them while it started': whileStarting,
    'at work': atWork,
    'acknowledged reports': promised.reports.size,
    'jobs handed out': handedOut,
    'acknowledged imports': [...promised.imports.values()].reduce((sum, count) => sum + count, 0),
    'acknowledged registrations': promised.workers.size,
    'slowest start in ms': Math.round(slowest.took),
    'its threads ran for': Math.round(slowest.ran),
    'and waited for a processor': Math.round(slowest.waited),
  }
  return { name: 'kill -9 of the server under load', counts, losses }
}

/** Milliseconds that a start took, and what its threads did meanwhile: the rest went by with the disk, or with nothing. */
type Start = { took: number; ran: number; waited: number }

function startOf({ readyAfter, scheduled }: ServerProcess): Start {
  return { took: readyAfter, ...scheduled() }
}

function slowerOf(one: Start, other: Start): Start {
  return other.took > one.took ? other : one
}

/** Milliseconds that a server may take to do its first work. */
const firstWork = 60_000
/** Reports and imports that it acknowledges at most before it is killed, and the milliseconds that it then still has. */
const [mostReports, mostImports, longestPause] = [8, 2, 200]

/**
 * Waits until a server that has just started has acknowledged reports and imports, as many as chance says: however slow
 * the machine, it is killed at work.
 * @returns false where it did not within its time
 */
async function untilMore({ reports, imports }: Promised, random: () => number): Promise<boolean> {
  const upTo = (most: number): number => 1 + Math.floor(random() * most)
  const imported = (): number => [...imports.values()].reduce((sum, number) => sum + number, 0)
  const [wantedReports, wantedImports] = [reports.size + upTo(mostReports), imported() + upTo(mostImports)]
  const end = performance.now() + firstWork
  const isThere = (): boolean => reports.size >= wantedReports && imported() >= wantedImports
  while (!isThere() && performance.now() < end) await pause(5)
  return isThere()
}

/** Where those wait whose server is down: to ask again and again meanwhile would take the processor that it needs to start. */
type Gate = { opened: () => Promise<void>; open: () => void; close: () => void }

function aGate(): Gate {
  let next = Promise.withResolvers<void>()
  next.resolve()
  return {
    opened: () => next.promise,
    open: () => next.resolve(),
    close: () => (next = Promise.withResolvers()),
  }
}

/** Starts a server and kills it before, or just when, it is ready. */
async function killedWhileStarting(data: string, script: string | undefined, after: number): Promise<void> {
  const serve = ['serve', '--data', data, '--listen', '127.0.0.1:0']
  const child = spawn(process.execPath, [script ?? sourceTree, ...serve], { stdio: 'ignore' })
  const gone = once(child, 'exit')
  await pause(after)
  child.kill('SIGKILL')
  await gone
}

async function countLeases(db: Reader): Promise<number> {
  const [row] = await db.all<{ n: number }>(sql`SELECT count(*) AS n FROM leases`)
  return row?.n ?? 0
}

type Site = { base: string; cookie: string; gate: Gate; signal: AbortSignal }

function loadOn({ base, cookie, gate, signal }: Site, promised: Promised, losses: string[]) {
  const clientOf = (workerKey: string): Client =>
    openClient({ base, cookie, workerKey, signupSecret, timeout: patienceMilliseconds })
  const until = { gate, signal }
  const workers = Array.from({ length: workerCount }, (_, index) =>
    worker(clientOf(`key-${index}`), index, promised, losses, until),
  )
  const importers = ['sid', 'trixie'].map((release) => importer(clientOf('none'), release, promised, until))
  return Promise.all([...workers, ...importers, registrar(clientOf, promised, until)])
}

type Until = Pick<Site, 'gate' | 'signal'>

/** Asks until it is answered: whoever was cut off cannot know whether it was heard. */
async function untilAnswered<T>({ gate, signal }: Until, work: () => Promise<T>): Promise<T | null> {
  while (!signal.aborted) {
    try {
      return await work()
    } catch (error) {
      const isCut = error instanceof Error && error.message.startsWith('cannot reach')
      if (!isCut) throw error
      await pause(10)
      await gate.opened()
    }
  }
  return null
}

const wanted = {
  supported_backends: ['debian'],
  architecture: 'x86_64',
  supported_architectures: ['amd64', 'all'],
}

async function worker(
  client: Client,
  index: number,
  promised: Promised,
  losses: string[],
  until: Until,
): Promise<void> {
  const random = seeded(index)
  await untilAnswered(until, () =>
    client.call(registerWorker, { body: { name: `worker-${index}`, tags: [] } }),
  )
  while (!until.signal.aborted) {
    const body = index % 2 === 0 ? wanted : { ...wanted, lease: randomUUID() } // with a name the same job comes again
    const given = await untilAnswered(until, () => client.call(popQueue, { body }))
    if (given === null || given === 'Nothing') {
      await pause(50)
      continue
    }
    const job = given.Rebuild
    const params = { id: job.job.id }
    await untilAnswered(until, () => client.call(pingJob, { params })).catch(() => undefined) // dropped by an import
    const status = random() < 0.6 ? 'GOOD' : 'BAD'
    const report: RebuildReport = aResult(job, { status, build_log: logOf(random, 2000) })
    try {
      const answered = await untilAnswered(until, () => client.call(submitBuild, { body: report }))
      if (answered !== null || !until.signal.aborted) promised.reports.set(job.lease ?? '', status)
    } catch (error) {
      losses.push(`a report was refused: ${error instanceof Error ? error.message : ''}`)
      return
    }
  }
}

/** Imports a release over and over, each time with a third of its packages in a new version. */
async function importer(client: Client, release: string, promised: Promised, until: Until): Promise<void> {
  for (let number = 1; !until.signal.aborted; number++) {
    const body = importOf(release, number)
    const answered = await untilAnswered(until, () => client.call(submitPackages, { body }).then(() => true))
    if (answered === true) promised.imports.set(release, number)
    await pause(20)
  }
}

function importOf(release: string, number: number): PackageReport {
  const packages = Array.from({ length: packagesPerImport }, (_, index) =>
    aPackage({ name: `pkg-${index}`, version: versionOf(index, number) }),
  )
  return aReport(packages, { release })
}

function versionOf(index: number, number: number): string {
  return `${Math.floor((number + (index % 3)) / 3)}-1`
}

async function registrar(clientOf: (key: string) => Client, promised: Promised, until: Until): Promise<void> {
  for (let number = 1; !until.signal.aborted; number++) {
    const key = `newcomer-${number}`
    const answered = await untilAnswered(until, () =>
      clientOf(key)
        .call(registerWorker, { body: { name: key, tags: [] } })
        .then(() => true),
    )
    if (answered === true) promised.workers.add(key)
    await pause(100)
  }
}

/** Everything that is not as it was promised. */
async function findings(data: string, promised: Promised): Promise<string[]> {
  const reports = new Map(promised.reports)
  const imports = new Map(promised.imports)
  const workers = new Set(promised.workers)
  return onCopy(join(data, 'rebuilderd.db'), async (db) => {
    return [
      ...(await damageOf(db)),
      ...(await contradictionsIn(db)),
      ...(await missingReports(db, reports)),
      ...(await missingPackages(db, imports)),
      ...(await missingWorkers(db, workers)),
      ...(await missingBlobs(db, join(data, 'blobs'))),
    ]
  })
}

async function missingReports(db: Reader, reports: ReadonlyMap<string, string>): Promise<string[]> {
  const rows = await db.all<{ token: string; status: string }>(
    sql`SELECT l.token, h.status FROM leases l JOIN builds h ON h.lease_id = l.id`,
  )
  const kept = new Map(rows.map((row) => [row.token, row.status]))
  const lost = [...reports].filter(([token, status]) => kept.get(token) !== status)
  return lost.map(
    ([token, status]) => `the report ${token} (${status}) was acknowledged and is ${kept.get(token)}`,
  )
}

async function missingPackages(db: Reader, imports: ReadonlyMap<string, number>): Promise<string[]> {
  const rows = await db.all<{ release: string; name: string; version: string; seen: number }>(sql`
    SELECT r.name AS release, b.name, b.version, b.seen FROM binary_packages b JOIN releases r ON r.id = b.release_id`)
  const kept = new Map(rows.map((row) => [`${row.release} ${row.name} ${row.version}`, row.seen]))
  const lost: string[] = []
  for (const [release, number] of imports) {
    for (let index = 0; index < packagesPerImport; index++) {
      const now = kept.get(`${release} pkg-${index} ${versionOf(index, number)}`)
      const next = kept.get(`${release} pkg-${index} ${versionOf(index, number + 1)}`) // the import under way
      if (now === undefined || (now !== 1 && next !== 1))
        lost.push(`import ${number} of ${release}: pkg-${index}`)
    }
  }
  return lost
}

async function missingWorkers(db: Reader, workers: ReadonlySet<string>): Promise<string[]> {
  const rows = await db.all<{ key: string }>(sql`SELECT key FROM workers`)
  const kept = new Set(rows.map((row) => row.key))
  return [...workers]
    .filter((key) => !kept.has(key))
    .map((key) => `the worker ${key} was registered and is unknown`)
}

async function missingBlobs(db: Reader, folder: string): Promise<string[]> {
  const rows = await db.all<{ sha256: string }>(sql`SELECT sha256 FROM blobs`)
  return rows
    .filter(({ sha256 }) => !existsSync(join(folder, sha256.slice(0, 2), sha256)))
    .map(({ sha256 }) => `the blob ${sha256} is named and missing`)
}

function pause(milliseconds: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, milliseconds))
}

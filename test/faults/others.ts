import { spawnSync } from 'node:child_process'
import { readFile, readdir, rm, writeFile, mkdtemp } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { ServerSaid, openClient } from '../../src/client.ts'
import { loadSettings, serverSettings } from '../../src/config.ts'
import { silentLog } from '../../src/log.ts'
import { contradictionsIn } from '../../src/server/store/maintenance.ts'
import { startServer } from '../../src/server/serve.ts'
import { getBuildLog, listBuilds, submitBuild } from '../../src/wire/builds.ts'
import { pingJob } from '../../src/wire/queue.ts'
import { listBinaryPackages } from '../../src/wire/packages.ts'
import { registerWorker } from '../../src/wire/workers.ts'
import { aPackage, aResult, importPackages, pop } from '../help/server.ts'
import { patienceMilliseconds } from '../help/until.ts'
import { signupSecret } from '../bench/process.ts'
import { onCopy } from './inspect.ts'
import type { FaultReport } from './report.ts'

const day = 86_400_000

/** A server in this process on a folder of its own, with a clock that can jump. */
async function inFolder<T>(work: (house: House) => Promise<T>): Promise<T> {
  const data = await mkdtemp(join(tmpdir(), 'rebuilderd-fault-'))
  const clock = { ahead: 0 }
  const start = async (): Promise<Awaited<ReturnType<typeof startServer>>> => {
    const settings = {
      ...(await loadSettings(serverSettings, [])),
      'http.bind_addr': '127.0.0.1:0',
      'worker.signup_secret': signupSecret,
    }
    return startServer({ settings, data, log: silentLog, now: () => new Date(Date.now() + clock.ahead) })
  }
  const server = await start()
  const clientOf = (workerKey: string) =>
    openClient({
      base: server.address,
      cookie: server.cookie,
      workerKey,
      signupSecret,
      timeout: patienceMilliseconds,
    })
  try {
    return await work({ data, clock, start, clientOf })
  } finally {
    await server.stop().catch(() => undefined) // a database that is spoilt cannot end well
    await rm(data, { recursive: true, force: true })
  }
}

type House = {
  data: string
  clock: { ahead: number }
  start: () => Promise<Awaited<ReturnType<typeof startServer>>>
  clientOf: (key: string) => ReturnType<typeof openClient>
}

/** A second server on the folder of the first is turned away, and the first goes on. */
export function twoServers(): Promise<FaultReport> {
  return inFolder(async ({ start, clientOf }) => {
    const losses: string[] = []
    const second = await start().then(
      () => 'it started',
      (error: unknown) => (error instanceof Error ? error.message : String(error)),
    )
    if (!second.includes('is in use by another server')) losses.push(`the second server: ${second}`)
    await importPackages(clientOf('a').call, [aPackage()])
    return { name: 'two servers on one folder', counts: { 'turned away': 1 }, losses }
  })
}

/** Another program wants to write to the live file: it is kept out, and whatever the server is asked goes on. */
export function foreignProgram(): Promise<FaultReport> {
  const name = 'a foreign sqlite3 on the live file'
  if (spawnSync('sqlite3', ['--version']).status !== 0) {
    return Promise.resolve({ name, counts: {}, losses: [], skipped: 'the program sqlite3 is missing' })
  }
  return inFolder(async ({ data, clientOf }) => {
    const losses: string[] = []
    const { call } = clientOf('a')
    await call(registerWorker, { body: { name: 'a', tags: [] } })
    await importPackages(call, [aPackage()])
    const statement = 'CREATE TABLE foreign_one (x); INSERT INTO foreign_one VALUES (1);'
    const foreign = spawnSync('sqlite3', [join(data, 'rebuilderd.db'), statement], { encoding: 'utf8' })
    const isKeptOut = foreign.status !== 0
    let noticed = 0
    for (let attempt = 0; attempt < 5; attempt++) {
      const body = { name: `name-${attempt}`, tags: [] }
      const isTaken = await call(registerWorker, { body }).then(
        () => true,
        () => false,
      )
      noticed += isTaken ? 0 : 1
    }
    if (!isKeptOut && noticed === 0)
      losses.push('writes were acknowledged after another program took the log away')
    if (isKeptOut && noticed > 0)
      losses.push(`${noticed} writes were refused although the other was kept out`)
    return { name, counts: { 'kept out': isKeptOut ? 1 : 0, 'writes refused': noticed }, losses }
  })
}

/** The clock jumps a day ahead and back while jobs are held: each job is done once, none is stuck. */
export function clockJumps(): Promise<FaultReport> {
  return inFolder(async ({ data, clock, clientOf }) => {
    const losses: string[] = []
    const [first, second] = [clientOf('a'), clientOf('b')]
    for (const [name, client] of Object.entries({ a: first, b: second })) {
      await client.call(registerWorker, { body: { name, tags: [] } })
    }
    const names = Array.from({ length: 6 }, (_, index) => `pkg-${index}`)
    await importPackages(
      first.call,
      names.map((name) => aPackage({ name })),
    )
    let done = 0
    for (const jump of [day, -day, -day, day, 0, day]) {
      const job = await pop(first.call)
      if (job === null) {
        losses.push(`no job after ${done} were done`)
        break
      }
      clock.ahead += jump
      await second.call(listBinaryPackages, { query: { limit: 1 } })
      await first.call(pingJob, { params: { id: job.job.id } }).catch(() => undefined) // taken back: the lease is over
      await first.call(submitBuild, { body: aResult(job) })
      done += 1
    }
    clock.ahead = 0
    const { records } = await first.call(listBinaryPackages, { query: {} })
    const good = records.filter((record) => record.status === 'GOOD').length
    if (good !== names.length) losses.push(`${good} of ${names.length} are GOOD`)
    losses.push(...(await onCopy(join(data, 'rebuilderd.db'), contradictionsIn)))
    losses.push(...(await stuckJob(clock, first, second)))
    return { name: 'clock jumps of a day', counts: { jumps: 6, 'jobs done': done }, losses }
  })
}

/** A job whose worker is gone comes back within its lease although the clock was set back meanwhile. */
async function stuckJob(clock: House['clock'], first: Worker, second: Worker): Promise<string[]> {
  await importPackages(first.call, [aPackage({ name: 'orphan' })], { release: 'trixie' })
  if ((await pop(first.call)) === null) return ['the orphan is not handed out']
  // The server looks every few seconds. To its clock ten minutes pass meanwhile, and all of this before the lease was given.
  for (clock.ahead = -day; clock.ahead < -600_000; clock.ahead += 600_000) {
    if ((await pop(second.call)) !== null) return []
    await new Promise((resolve) => setTimeout(resolve, 1000))
  }
  return ['a job of a dead worker is stuck after the clock was set back']
}
type Worker = ReturnType<typeof openClient>

/** Kept logs that go missing or change on disk are answered in words, never with other bytes. */
export function spoiltBlobs(): Promise<FaultReport> {
  return inFolder(async ({ data, clientOf }) => {
    const losses: string[] = []
    const { call } = clientOf('a')
    await call(registerWorker, { body: { name: 'a', tags: [] } })
    await importPackages(
      call,
      ['one', 'two'].map((name) => aPackage({ name })),
    )
    for (const log of ['the first log', 'the second log']) {
      const job = await pop(call)
      if (job !== null) await call(submitBuild, { body: aResult(job, { build_log: Buffer.from(log) }) })
    }
    const { records } = await call(listBuilds, { query: { sort: 'id' } })
    const [missing, altered] = await blobFiles(join(data, 'blobs'))
    if (missing === undefined || altered === undefined)
      return { name: 'spoilt blobs', counts: {}, losses: ['no blobs'] }
    await rm(missing)
    const bytes = await readFile(altered)
    bytes[bytes.length - 1] = (bytes.at(-1) ?? 0) ^ 1
    await writeFile(altered, bytes)
    const said: number[] = []
    for (const { id } of records) {
      const answer = await call(getBuildLog, { params: { id } }).catch((error: unknown) => error)
      if (answer instanceof ServerSaid && answer.message.length > 20) said.push(answer.status)
      else losses.push(`build ${id}: ${answer instanceof Uint8Array ? 'bytes were sent' : String(answer)}`)
    }
    if (said.some((status) => status !== 404 && status !== 500)) losses.push(`statuses ${said.join(', ')}`)
    return { name: 'a blob missing, another altered', counts: { 'told in words': said.length }, losses }
  })
}

async function blobFiles(folder: string): Promise<string[]> {
  const names = await readdir(folder, { recursive: true, withFileTypes: true })
  return names.filter((entry) => entry.isFile()).map((entry) => join(entry.parentPath, entry.name))
}

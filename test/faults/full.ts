import { spawn, spawnSync, type ChildProcess } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { closeSync, openSync, readFileSync, rmSync, writeSync } from 'node:fs'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { ServerSaid, openClient, type Client } from '../../src/client.ts'
import { submitBuild, getBuildLog, listBuilds } from '../../src/wire/builds.ts'
import { listBinaryPackages, submitPackages } from '../../src/wire/packages.ts'
import { popQueue, type Assignment } from '../../src/wire/queue.ts'
import { registerWorker } from '../../src/wire/workers.ts'
import { aPackage, aReport, aResult } from '../help/server.ts'
import { patienceMilliseconds } from '../help/until.ts'
import { signupSecret } from '../bench/process.ts'
import type { FaultReport } from './report.ts'

const name = 'full disk'
const root = fileURLToPath(new URL('../../', import.meta.url))

/** A disk of this many megabytes is soon full. */
const diskMegabytes = 24

/**
 * Fills the disk of a server, once while it imports and once while it takes a large log: both must be refused in
 * words, reads go on, and when there is space again the same requests are taken. Nothing acknowledged is missing.
 */
export async function fullDisk(): Promise<FaultReport> {
  const prefix = process.getuid?.() === 0 ? ['-m'] : ['-Urm']
  if (spawnSync('unshare', [...prefix, 'true']).status !== 0)
    return { name, counts: {}, losses: [], skipped: 'unshare cannot make a mount namespace here' }
  const mountPoint = await mkdtemp(join(tmpdir(), 'rebuilderd-full-'))
  const server = startOnTmpfs(prefix, mountPoint)
  try {
    const address = await readyAt(server)
    const disk = `/proc/${server.pid}/root${mountPoint}`
    const cookie = readFileSync(join(disk, 'data/auth-cookie'), 'utf8').trim()
    const client = openClient({
      base: address,
      cookie,
      workerKey: 'key',
      signupSecret,
      timeout: patienceMilliseconds,
    })
    await client.call(registerWorker, { body: { name: 'worker', tags: [] } })
    return await judge(client, join(disk, 'ballast'))
  } finally {
    const ended = once(server, 'exit')
    server.kill('SIGKILL')
    await ended
    await rm(mountPoint, { recursive: true, force: true })
  }
}

/** The process itself is the server: the shell and unshare become it. */
function startOnTmpfs(prefix: readonly string[], mountPoint: string): ChildProcess {
  const script = `mount -t tmpfs -o size=${diskMegabytes}m,mode=700 none "$1" && shift && exec "$@"`
  const serve = [
    'serve',
    '--data',
    join(mountPoint, 'data'),
    '--listen',
    '127.0.0.1:0',
    '--signup-secret',
    signupSecret,
  ]
  const program = [process.execPath, join(root, 'src/main.ts'), ...serve]
  return spawn('unshare', [...prefix, 'sh', '-c', script, 'sh', mountPoint, ...program], {
    stdio: ['ignore', 'pipe', 'ignore'],
    env: { ...process.env, NO_PROXY: '*' },
  })
}

async function readyAt(server: ChildProcess): Promise<string> {
  let text = ''
  return new Promise((resolve, reject) => {
    server.stdout?.on('data', (chunk: Buffer) => {
      text += chunk.toString()
      const match = /is ready at (\S+)/.exec(text)
      if (match?.[1] !== undefined) resolve(match[1])
    })
    server.once('exit', (code) => reject(new Error(`the server ended with ${code}`)))
  })
}

async function judge(client: Client, ballast: string): Promise<FaultReport> {
  const losses: string[] = []
  let refused = 0
  const expectRefusal = async (what: string, work: () => Promise<unknown>): Promise<void> => {
    const said = await refusalOf(work)
    if (said === null) losses.push(`${what} was accepted on a full disk`)
    else if (said.status !== 503 || !/disk|space/.test(said.message)) losses.push(`${what}: ${said.message}`)
    else refused += 1
  }
  const packages = Array.from({ length: 200 }, (_, index) => aPackage({ name: `pkg-${index}` }))
  await client.call(submitPackages, { body: aReport(packages) })
  const first = await popped(client)
  const report = aResult(first, { build_log: Buffer.from('the first log\n') })
  await client.call(submitBuild, { body: report })
  const second = await popped(client)

  const larger = Array.from({ length: 3000 }, (_, index) => aPackage({ name: `more-${index}` }))
  const body = aReport(larger, { release: 'trixie' })
  fill(ballast, 0)
  await expectRefusal('an import', () => client.call(submitPackages, { body }))
  const log = randomBytes(1_500_000)
  const large = aResult(second, { build_log: log })
  await expectRefusal('a report with a large log', () => client.call(submitBuild, { body: large }))
  const { total } = await client.call(listBinaryPackages, { query: { limit: 1 } })
  if (total < 200) losses.push(`${total} of 200 packages are listed while the disk is full`)

  rmSync(ballast)
  await client.call(submitPackages, { body })
  fill(ballast, 1_000_000)
  await expectRefusal('a log larger than what is left', () => client.call(submitBuild, { body: large }))
  rmSync(ballast)
  await client.call(submitBuild, { body: large })
  losses.push(...(await missing(client, log)))
  return { name, counts: { 'refused in words': refused, 'listed afterwards': larger.length + 200 }, losses }
}

async function missing(client: Client, log: Uint8Array): Promise<string[]> {
  const losses: string[] = []
  const { total } = await client.call(listBinaryPackages, { query: { limit: 1 } })
  if (total !== 3200) losses.push(`${total} of 3200 packages are listed afterwards`)
  const { records } = await client.call(listBuilds, { query: { sort: 'id' } })
  if (records.length !== 2) losses.push(`${records.length} of 2 builds are there`)
  const [first, second] = records
  const textOf = async (id: number | undefined): Promise<Uint8Array> =>
    client.call(getBuildLog, { params: { id: id ?? 0 } })
  if (Buffer.from(await textOf(first?.id)).toString() !== 'the first log\n')
    losses.push('the first log is another')
  if (!Buffer.from(log).equals(await textOf(second?.id))) losses.push('the second log is another')
  return losses
}

async function refusalOf(work: () => Promise<unknown>): Promise<ServerSaid | null> {
  try {
    await work()
    return null
  } catch (error) {
    if (error instanceof ServerSaid) return error
    throw error
  }
}

async function popped(client: Client): Promise<Assignment> {
  const supported_architectures = ['amd64', 'all']
  const body = { supported_backends: ['debian'], architecture: 'x86_64', supported_architectures }
  const given = await client.call(popQueue, { body })
  if (given === 'Nothing') throw new Error('no job is due')
  return given.Rebuild
}

/** Fills a disk with a file until only so many bytes are left. */
function fill(path: string, left: number): void {
  const file = openSync(path, 'w')
  const block = Buffer.alloc(65_536)
  try {
    for (;;) writeSync(file, block)
  } catch {
    // full
  }
  try {
    for (;;) writeSync(file, block, 0, 512)
  } catch {
    // to the last page
  }
  closeSync(file)
  if (left > 0) shrink(path, left)
}

function shrink(path: string, left: number): void {
  spawnSync('truncate', ['-s', `-${left}`, path])
}

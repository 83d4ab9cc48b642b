/**
 * Ours beside the daemon of kpcyrd's rebuilderd, as Debian packages it: the same reports and requests to both, one after
 * the other in the same minutes. Machines differ from day to day; what the one needs of what the other does not.
 */
import { mkdir, mkdtemp, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { startDaemon } from '../peers/daemon.ts'
import { openPeers, type Peers } from '../peers/root.ts'
import type { PackageReport } from '../../src/wire/packages.ts'
import { reportOf, trixie } from './data.ts'
import { drive, quantile, totalOf } from './drive.ts'
import { cycles, importing, readPaths, wholeList, type Add } from './measure.ts'
import { processOf, signupSecret, startProcess, type ServerProcess } from './process.ts'

type Side = { name: 'ours' | 'theirs'; server: ServerProcess }
type Measured = { value: number; note?: string }
/** `least`: how many times better ours has to be. */
type Case = {
  what: string
  unit: string
  least: number
  isMoreBetter?: boolean
  of: (side: Side) => Promise<Measured>
}

const group = 'beside the existing rebuilderd'
const seconds = 8

/**
 * Adds each figure of both servers, and the ratio.
 * @throws Error where upstream's programs are not to be had here, with the reason
 */
export async function measureUpstream(add: Add, built: boolean): Promise<void> {
  const peers = await openPeers((line) => console.error(line))
  if (typeof peers === 'string') throw new Error(peers)
  const folder = await mkdtemp(join(tmpdir(), 'rebuilderd-bench-beside-'))
  const sides: Side[] = []
  try {
    const data = join(folder, 'ours')
    sides.push({ name: 'ours', server: await startProcess({ data, built }) })
    sides.push({ name: 'theirs', server: await theirs(peers, folder) })
    for (const asked of cases()) await compared(asked, sides, add)
  } finally {
    for (const { server } of sides) await server.kill('SIGTERM')
    await rm(folder, { recursive: true, force: true })
  }
}

async function theirs({ command }: Peers, folder: string): Promise<ServerProcess> {
  const home = join(folder, 'theirs')
  await mkdir(home)
  const env = { HOME: home, PATH: process.env['PATH'] ?? '', NO_PROXY: '*' }
  const { child, address, cookieFile, printed } = await startDaemon(command, {
    folder: home,
    env,
    signupSecret,
  })
  const cookie = (await readFile(cookieFile, 'utf8')).trim()
  return processOf(child, { address, cookie, readyAfter: Number.NaN, said: printed })
}

function cases(): Case[] {
  const report = reportOf(trixie)
  const imported = (what: string, least: number): Case => ({
    what: `import of 35,135 binaries, ${what}`,
    unit: 's',
    least,
    of: ({ server }) => timed(server, report),
  })
  return [
    imported('first', 128 / 3),
    imported('unchanged', 68),
    { what: 'list page of 100', unit: 'ms CPU/req', least: 28, of: ({ server }) => pageOf(server) },
    {
      what: 'v0 whole list, zstd, 64 connections',
      unit: 'req/s',
      least: 100 / 12,
      isMoreBetter: true,
      of: ({ server }) => listOf(server),
    },
    { what: 'memory after that', unit: 'MB RSS at most', least: 834 / 250, of: memoryOf },
    {
      what: 'pop→ping→report, 64 workers, 20 kB logs',
      unit: 'cycles/s',
      least: 300 / 22,
      isMoreBetter: true,
      of: ({ server }) => cyclesOf(server),
    },
  ]
}

async function compared(
  { what, unit, least, isMoreBetter = false, of }: Case,
  sides: readonly Side[],
  add: Add,
) {
  const found: number[] = []
  for (const side of sides) {
    const { value, note } = await of(side)
    found.push(value)
    add({ group, what: `${what}: ${side.name}`, value, unit, ...(note === undefined ? {} : { note }) })
  }
  const [our = 0, their = 0] = found
  add({ group, what, value: isMoreBetter ? our / their : their / our, unit: 'times better', least })
}

async function timed(server: ServerProcess, report: PackageReport): Promise<Measured> {
  return { value: await importing({ address: server.address, process: server, data: '' }, report) }
}

async function pageOf(server: ServerProcess): Promise<Measured> {
  const job = readsOf(server, readPaths['list page of 100'], 8)
  await drive({ ...job, seconds: 1 })
  const before = server.cpu()
  const { count, errors } = await drive(job)
  return { value: ((server.cpu() - before) * 1000) / count, note: noteOf(errors) }
}

async function listOf(server: ServerProcess): Promise<Measured> {
  const { count, errors, seconds: taken } = await drive(readsOf(server, wholeList, 64))
  return { value: count / taken, note: noteOf(errors) }
}

function memoryOf({ server }: Side): Promise<Measured> {
  return Promise.resolve({ value: server.memory().most })
}

/** Of those only that were counted by the server: its builds before and after. */
async function cyclesOf(server: ServerProcess): Promise<Measured> {
  const {
    times,
    errors,
    seconds: taken,
  } = await drive({ ...cycles({ address: server.address, process: server, data: '' }, 64), seconds })
  const reported = (times['report'] ?? []).length - (errors['report 500'] ?? 0)
  return {
    value: reported / taken,
    note: `report p99 ${Math.round(quantile(times['report'] ?? [], 0.99))} ms, ${noteOf(errors)}`,
  }
}

function readsOf({ address }: ServerProcess, path: string, connections: number) {
  const headers = { 'accept-encoding': 'zstd' }
  return {
    kind: 'reads',
    base: address,
    paths: [path],
    headers,
    connections,
    seconds,
    most: 50_000,
    isConditional: false,
  } as const
}

function noteOf(errors: Readonly<Record<string, number>>): string {
  return totalOf(errors) === 0 ? 'no errors' : `errors ${JSON.stringify(errors)}`
}

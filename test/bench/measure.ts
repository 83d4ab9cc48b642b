import { once } from 'node:events'
import { request, type IncomingMessage } from 'node:http'
import { zstdCompressSync } from 'node:zlib'
import type { PackageReport } from '../../src/wire/packages.ts'
import { reportOf, trixie, withOneChanged } from './data.ts'
import { drive, quantile, totalOf } from './drive.ts'
import type { Outcome, WorkersJob } from './load.ts'
import { signupSecret, type ServerProcess } from './process.ts'

/** One line of the table. `most` and `least` are the targets, where there are some. */
export type Row = {
  group: string
  what: string
  value: number
  unit: string
  most?: number
  least?: number
  note?: string
}

export type Add = (row: Row) => void
/** The server asked: one of ours, whose process we can look at, or any address. */
export type Target = { address: string; process: ServerProcess | null; data: string }
type Scale = {
  seconds: number
  connections: readonly number[]
  workers: readonly number[]
  /** Milliseconds of CPU that a page of a list may take at most. */
  listCpu: number
  /** Whole lists a second, at least; there is no target for those of larger databases. */
  wholeLists?: number
}

const aims = { listCpu: 1, wholeLists: 100 }
export const fullScale: Scale = { seconds: 4, connections: [1, 8, 64], workers: [1, 8, 64, 300], ...aims }
export const quickScale: Scale = { seconds: 1, connections: [8], workers: [8], ...aims }

/** The read that a target is set for. */
export const listRead = 'list page of 100, 8 conn.'

/** What is asked of every server. */
export const readPaths = {
  'list page of 100': '/api/v1/packages/binary?limit=100',
  'list page of 100 by name': '/api/v1/packages/binary?limit=100&sort=name',
  'page of one release and status':
    '/api/v1/packages/binary?limit=100&distribution=debian&release=trixie&status=BAD',
  'by name': '/api/v1/packages/binary?name=NAME',
  search: '/api/v1/packages/binary?limit=100&search=PART&search_type=starts_with',
  'search inside names': '/api/v1/packages/binary?limit=100&search=PART&search_type=contains',
  'source page of 100': '/api/v1/packages/source?limit=100',
  'builds page of 100': '/api/v1/builds?limit=100&direction=Descending&sort=id',
  'queue page of 100': '/api/v1/queue?limit=100',
  dashboard: '/api/v1/dashboard',
  'v0 dashboard': '/api/v0/dashboard',
} as const

/** The same with filters that have to find few among very many, and pages far behind the first; of our server alone. */
const narrowPaths = {
  'a letter that most names have': '/api/v1/packages/binary?limit=100&search=a',
  'a text and a status': '/api/v1/packages/binary?limit=100&search=PART&status=BAD',
  'of a maintainer': '/api/v1/packages/binary?limit=100&maintainer=m77%40',
  'of all maintainers, by name': '/api/v1/packages/source?limit=100&maintainer=example.org&sort=name',
  'of a component': '/api/v1/packages/source?limit=100&component=main',
  'of a status by name': '/api/v1/packages/binary?limit=100&status=FAIL&sort=name&direction=Descending',
  'of a reason by name': '/api/v1/packages/binary?limit=100&reason=build_failed&sort=name',
  'decided since, newest first':
    '/api/v1/packages/binary?limit=100&since=2026-10-20T00:00:00&sort=decided_at&direction=Descending',
  'of two releases': '/api/v1/packages/binary?limit=100&releases=trixie,release-1&status=BAD,FAIL&sort=name',
  'deep page': '/api/v1/packages/binary?limit=100&after=450000',
  'deep page by name': '/api/v1/packages/binary?limit=100&sort=name&after=450000',
  'deep page of a search': '/api/v1/packages/binary?limit=100&search=PART&sort=name&direction=Descending',
  'builds of a release': '/api/v1/builds?limit=100&release=trixie',
  'deep page of builds': '/api/v1/builds?limit=100&after=1900000',
  'queue of a release': '/api/v1/queue?limit=100&release=trixie',
  'dashboard of a component': '/api/v1/dashboard?component=main',
} as const
export const wholeList = '/api/v0/pkgs/list?distro=debian'

/** A name that the data has, put into the paths. */
async function filledPaths(
  base: string,
  paths: Readonly<Record<string, string>> = readPaths,
): Promise<[string, string][]> {
  const reply = await fetch(`${base}/api/v1/packages/binary?limit=50`)
  const { records } = (await reply.json()) as { records: { name: string }[] } // the contract's own shape
  const name = records.at(-1)?.name ?? 'none'
  return Object.entries(paths).map(([what, path]) => [
    what,
    path.replace('NAME', encodeURIComponent(name)).replace('PART', encodeURIComponent(name.slice(0, 5))),
  ])
}

/** Requests a second and times of every read, and the server's CPU for each. */
export async function measureReads(target: Target, group: string, scale: Scale, add: Add): Promise<void> {
  for (const [what, path] of await filledPaths(target.address)) {
    for (const connections of scale.connections) {
      await measureRead(target, { group, what, path, connections, scale, add })
    }
  }
  for (const connections of scale.connections) {
    const what = 'v0 whole list, zstd'
    await measureRead(target, {
      group,
      what,
      path: wholeList,
      connections,
      scale,
      add,
      headers: { 'accept-encoding': 'zstd' },
    })
  }
  const path = readPaths['list page of 100']
  for (const coding of ['gzip', 'zstd']) {
    const what = `list page of 100, ${coding}`
    const headers = { 'accept-encoding': coding }
    await measureRead(target, { group, what, path, connections: 8, scale, add, headers })
  }
  const what = '304 of a list page'
  await measureRead(target, { group, what, path, connections: 8, scale, add, isConditional: true })
}

/** Lists with filters, and pages far behind the first. */
export async function measureNarrow(target: Target, group: string, scale: Scale, add: Add): Promise<void> {
  for (const [what, path] of await filledPaths(target.address, narrowPaths))
    await measureRead(target, { group, what, path, connections: 8, scale, add })
}

type Read = {
  group: string
  what: string
  path: string
  connections: number
  scale: Scale
  add: Add
  headers?: Record<string, string>
  isConditional?: boolean
}

async function measureRead({ address, process }: Target, read: Read): Promise<void> {
  const { group, path, connections, scale, add, headers = {}, isConditional = false } = read
  const load = { kind: 'reads', base: address, paths: [path], headers, connections, isConditional } as const
  await drive({ ...load, seconds: 1, most: 3 * connections }) // once warm
  const before = process?.cpu() ?? 0
  const outcome = await drive({ ...load, seconds: scale.seconds, most: 20_000 })
  const cpu = ((process?.cpu() ?? 0) - before) * 1000
  const what = `${read.what}, ${connections} conn.`
  add({
    group,
    what,
    value: outcome.count / outcome.seconds,
    unit: 'req/s',
    ...limitOfRead(read),
    note: noteOf(outcome),
  })
  add({ group, what, value: p99(outcome, 'read'), unit: 'ms p99' })
  if (process !== null) {
    const aim = what === listRead ? { most: scale.listCpu } : {}
    add({ group, what, value: cpu / outcome.count, unit: 'ms CPU/req', ...aim })
  }
}

function limitOfRead({ what, connections, scale: { wholeLists } }: Read): { least?: number } {
  const isAimed = what.startsWith('v0 whole list') && connections === 8
  return isAimed && wholeLists !== undefined ? { least: wholeLists } : {}
}

function noteOf({ count, bytes, errors }: Outcome): string {
  const wrong = totalOf(errors)
  return `${Math.round(bytes / Math.max(1, count))} bytes${wrong === 0 ? '' : `; ERRORS ${JSON.stringify(errors)}`}`
}

function p99(outcome: Outcome, what: string): number {
  return quantile(outcome.times[what] ?? [], 0.99)
}

/** Imports: fresh, unchanged, one package changed; and reads while another release is imported. */
export async function measureImports(target: Target, isQuick: boolean, add: Add): Promise<void> {
  const shape = isQuick ? { ...trixie, sources: 1790, binaries: 3513 } : trixie
  const report = reportOf(shape)
  const group = `import of ${shape.binaries} binaries`
  const timed = async (what: string, given: PackageReport, most?: number): Promise<void> => {
    const value = await importing(target, given)
    add({ group, what, value, unit: 's', ...(most === undefined ? {} : { most }) })
  }
  await timed('first', report, 3)
  await timed('unchanged', report, 1)
  await timed('one package changed', withOneChanged(report))

  const other = reportOf({ ...shape, seed: 99, release: 'sid' })
  const paths = (await filledPaths(target.address)).map(([, path]) => path)
  const reading = drive({
    kind: 'reads',
    base: target.address,
    paths,
    headers: {},
    connections: 4,
    seconds: isQuick ? 2 : 8,
    most: 50_000,
    isConditional: false,
  })
  await new Promise((resolve) => setTimeout(resolve, 500))
  add({
    group,
    what: 'first, of another release, with 4 readers',
    value: await importing(target, other),
    unit: 's',
  })
  const outcome = await reading
  add({
    group,
    what: 'reads meanwhile',
    value: p99(outcome, 'read'),
    unit: 'ms p99',
    most: 100,
    note: noteOf(outcome),
  })
  add({
    group,
    what: 'reads meanwhile',
    value: Math.max(...(outcome.times['read'] ?? [])),
    unit: 'ms at most',
  })
}

/** Seconds that a package report takes, as a client sends it. */
export async function importing({ address, process }: Target, report: PackageReport): Promise<number> {
  const body = zstdCompressSync(JSON.stringify(report))
  const headers = {
    'content-type': 'application/json',
    'content-encoding': 'zstd',
    'x-auth-cookie': process?.cookie ?? '',
  }
  const start = performance.now()
  const asked = request(`${address}/api/v1/packages`, { method: 'POST', headers, timeout: 1_200_000 })
  asked.end(body)
  const [reply] = (await once(asked, 'response')) as [IncomingMessage] // fetch gives up after five minutes
  const said = Buffer.concat(await reply.toArray()).toString()
  if ((reply.statusCode ?? 0) >= 300) throw new Error(`import: ${reply.statusCode} ${said}`)
  return (performance.now() - start) / 1000
}

/** Cycles of pop, ping and report, for several numbers of workers. */
export async function measureWorkers(target: Target, group: string, scale: Scale, add: Add): Promise<void> {
  for (const workers of scale.workers) {
    const job = { ...cycles(target, workers), seconds: scale.seconds }
    await drive({ ...job, seconds: scale.seconds / 2 }) // once warm: a server with many workers runs for months
    const before = target.process?.cpu() ?? 0
    const outcome = await drive(job)
    const what = `pop→ping→report, ${workers} workers`
    const reports = (outcome.times['report'] ?? []).length
    const isAimed = workers === 64
    add({
      group,
      what,
      value: reports / outcome.seconds,
      unit: 'cycles/s',
      ...(isAimed ? { least: 300 } : {}),
    })
    add({
      group,
      what,
      value: totalOf(outcome.errors),
      unit: 'errors',
      most: 0,
      note: JSON.stringify(outcome.errors),
    })
    for (const step of ['pop', 'ping', 'report'])
      add({ group, what: `${what}: ${step}`, value: p99(outcome, step), unit: 'ms p99' })
    if (target.process !== null) {
      add({ group, what, value: ((target.process.cpu() - before) * 1000) / reports, unit: 'ms CPU/cycle' })
    }
  }
}

/** What `workers` workers with logs of 20 kB do at a server. */
export function cycles({ address }: Target, workers: number): WorkersJob {
  const base = { kind: 'workers', base: address, secret: signupSecret } as const
  return {
    ...base,
    workers,
    seconds: 4,
    most: 50_000,
    logBytes: 20_000,
    seed: workers,
    pause: 0,
    popsOnly: false,
    warmUp: 0,
  }
}

/** Reads while workers work. */
export async function measureBoth(target: Target, group: string, scale: Scale, add: Add): Promise<void> {
  const paths = (await filledPaths(target.address)).map(([, path]) => path)
  const [work, reads] = await Promise.all([
    drive({ ...cycles(target, 64), seconds: scale.seconds }),
    drive({
      kind: 'reads',
      base: target.address,
      paths,
      headers: {},
      connections: 8,
      seconds: scale.seconds,
      most: 50_000,
      isConditional: false,
    }),
  ])
  const what = '64 workers and 8 readers at once'
  add({ group, what, value: (work.times['report'] ?? []).length / work.seconds, unit: 'cycles/s' })
  add({ group, what, value: reads.count / reads.seconds, unit: 'reads/s', note: noteOf(reads) })
  add({ group, what, value: p99(reads, 'read'), unit: 'ms p99 of reads' })
  add({ group, what, value: totalOf(work.errors) + totalOf(reads.errors), unit: 'errors', most: 0 })
}

/**
 * Pops of 300 workers that come evenly, 100 in a second: far more than 300 workers ever ask for. Alone, then while
 * others report 50 builds a second with logs, then all 300 as fast as they can.
 */
export async function measurePops(target: Target, group: string, scale: Scale, add: Add): Promise<void> {
  const job = { ...cycles(target, 300), popsOnly: true, seconds: 2 * scale.seconds }
  const evenly = { ...job, pause: 3000, warmUp: 4, seconds: 8 * scale.seconds }
  const measure = async (what: string): Promise<void> => {
    const cpu = target.process?.cpu() ?? 0
    const calm = await drive(evenly)
    const note = `${calm.count} pops, errors ${JSON.stringify(calm.errors)}`
    add({ group, what, value: p99(calm, 'pop'), unit: 'ms p99', most: 10, note })
    add({ group, what, value: quantile(calm.times['pop'] ?? [], 0.5), unit: 'ms p50' })
    add({ group, what, value: Math.max(...(calm.times['pop'] ?? [])), unit: 'ms at most' })
    if (target.process !== null) {
      const share = (target.process.cpu() - cpu) / (evenly.warmUp + calm.seconds)
      add({ group, what, value: share * 100, unit: '% of a CPU' })
    }
  }
  await measure('pop, 300 workers, 100 a second')
  const reporters = { ...cycles(target, 30), pause: 600, seconds: evenly.warmUp + evenly.seconds + 1 }
  const reporting = drive({ ...reporters, seed: 7 })
  await measure('the same while 50 builds/s are reported')
  const outcome = await reporting
  const what = 'reports meanwhile'
  add({ group, what, value: p99(outcome, 'report'), unit: 'ms p99', note: JSON.stringify(outcome.errors) })
  const storm = await drive(job)
  add({ group, what: 'pop, 300 workers, all at once', value: storm.count / storm.seconds, unit: 'pops/s' })
  add({ group, what: 'pop, 300 workers, all at once', value: p99(storm, 'pop'), unit: 'ms p99' })
}

/** Reads, pops and reports while a backup is made, and the reads of a server that makes none, to compare with. */
export async function measureBackup(target: Target, group: string, add: Add): Promise<void> {
  const paths = (await filledPaths(target.address)).map(([, path]) => path)
  const reading = (seconds: number): Promise<Outcome> =>
    drive({
      kind: 'reads',
      base: target.address,
      paths,
      headers: {},
      connections: 1,
      seconds,
      most: 50_000,
      isConditional: false,
    })
  const calm = await reading(4)
  const start = performance.now()
  const reply = await fetch(`${target.address}/api/v1/backup`, {
    headers: { 'x-auth-cookie': target.process?.cookie ?? '' },
  })
  const [bytes, busy] = await Promise.all([lengthOf(reply), reading(4)])
  const seconds = (performance.now() - start) / 1000
  add({ group, what: 'backup', value: seconds, unit: 's', note: `${Math.round(bytes / 1e6)} MB` })
  const longest = (outcome: Outcome): number => Math.max(...(outcome.times['read'] ?? []))
  add({ group, what: 'slowest read without a backup', value: longest(calm), unit: 'ms', note: noteOf(calm) })
  add({
    group,
    what: 'slowest read during a backup',
    value: longest(busy),
    unit: 'ms',
    most: 50,
    note: noteOf(busy),
  })
}

/** Reads a reply to its end; its bytes. */
async function lengthOf(reply: Response): Promise<number> {
  let bytes = 0
  for await (const chunk of reply.body ?? []) bytes += chunk.length
  return bytes
}

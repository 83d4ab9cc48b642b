/**
 * `npm run bench [-- --quick] [--json] [--against URL] [--built] [--large] [--check] [--web] [--worker] [--sync [--mirror URL]]`: how fast
 * a server is, or with --worker a worker. Data are made from seeds; the
 * server is a process of its own, and the one who asks another. --large adds the database of half a million
 * binaries, which is made once below .cache; --check measures `ctl check` with it and nothing else, --web when Chromium paints the pages of it; --against asks any server that speaks the API, reads only.
 */
import { cp, mkdir, mkdtemp, rm } from 'node:fs/promises'
import { availableParallelism, tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import { measureChecks } from './check.ts'
import { half, largeData } from './large.ts'
import {
  fullScale,
  measureBackup,
  measureBoth,
  measureImports,
  measureNarrow,
  measurePops,
  measureReads,
  measureWorkers,
  quickScale,
  type Add,
  type Row,
} from './measure.ts'
import { measureSyncs } from './sync.ts'
import { measurePaint } from './paint.ts'
import { measureWorker } from './worker.ts'
import { measurePages } from './web.ts'
import { sizeOf, startProcess, type ServerProcess } from './process.ts'

const flagOf = { type: 'boolean', default: false } as const
const { values: given } = parseArgs({
  options: {
    quick: flagOf,
    json: flagOf,
    large: flagOf,
    'large-only': flagOf,
    built: flagOf,
    check: flagOf,
    web: flagOf,
    sync: flagOf,
    mirror: { type: 'string' },
    against: { type: 'string' },
    worker: flagOf,
    profile: { type: 'string' },
  },
})
const scale = given.quick ? quickScale : fullScale
const rows: Row[] = []
const add: Add = (row) => {
  rows.push(row)
  console.error(lineOf(row))
}

const nodeOptions = given.profile === undefined ? [] : ['--cpu-prof', `--cpu-prof-dir=${given.profile}`]
const cache = fileURLToPath(new URL('../../.cache/bench/', import.meta.url))

async function ours(): Promise<void> {
  await mkdir(cache, { recursive: true })
  if (given.check) return checks()
  if (given.web) return paints()
  const executable = given.built ? fileURLToPath(new URL('../../dist/rebuilderd', import.meta.url)) : null
  if (!given['large-only']) await measureSyncs(add, { mirror: given.mirror ?? null, executable })
  if (given.sync) return
  if (!given['large-only']) await inFolder(small)
  if (given.large || given['large-only']) {
    const made = await largeData(cache, half, (text) => console.error(text))
    await inFolder((data) => large(made, data))
  }
}

async function checks(): Promise<void> {
  const made = await largeData(cache, half, (text) => console.error(text))
  await inFolder(async (data) => {
    await cp(made, data, { recursive: true })
    await inFolder((folder) => measureChecks(data, folder, given.built, add))
  })
}

async function paints(): Promise<void> {
  const made = await largeData(cache, half, (text) => console.error(text))
  await inFolder(async (data) => {
    await cp(made, data, { recursive: true })
    await withServer(data, (server) =>
      measurePaint(
        { address: server.address, process: server, data },
        'first paint, half a million binaries',
        add,
      ),
    )
  })
}

async function inFolder(work: (folder: string) => Promise<void>): Promise<void> {
  const folder = await mkdtemp(join(tmpdir(), 'rebuilderd-bench-'))
  try {
    await work(join(folder, 'data'))
  } finally {
    await rm(folder, { recursive: true, force: true })
  }
}

async function withServer(data: string, work: (server: ServerProcess) => Promise<void>): Promise<void> {
  const server = await startProcess({ data, built: given.built, nodeOptions })
  try {
    await work(server)
  } finally {
    await server.kill('SIGTERM')
  }
}

async function small(data: string): Promise<void> {
  await withServer(data, async (server) => {
    const target = { address: server.address, process: server, data }
    add({ group: 'start', what: 'on an empty folder', value: server.readyAfter / 1000, unit: 's' })
    await measureImports(target, given.quick, add)
    await measureReads(target, 'reads, 35k + 35k binaries', scale, add)
    await measurePages(target, 'pages, 64 connections, 35k + 35k binaries', scale.seconds, add)
    add({
      group: 'memory',
      what: 'after reads',
      value: server.memory().most,
      unit: 'MB RSS at most',
      most: 250,
    })
    await measureWorkers(target, 'workers, 20 kB logs', scale, add)
    await measureBoth(target, 'workers, 20 kB logs', scale, add)
    add({ group: 'memory', what: 'after workers', value: server.memory().most, unit: 'MB RSS at most' })
    await measureBackup(target, 'backup', add)
  })
  add({ group: 'size', what: 'database', value: sizeOf(join(data, 'rebuilderd.db')), unit: 'MB' })
  add({ group: 'size', what: 'blobs', value: sizeOf(join(data, 'blobs')), unit: 'MB' })
}

async function large(made: string, data: string): Promise<void> {
  await cp(made, data, { recursive: true })
  const group = 'half a million binaries, 2 million builds'
  add({ group, what: 'database', value: sizeOf(join(data, 'rebuilderd.db')), unit: 'MB' })
  await withServer(data, async (server) => {
    const target = { address: server.address, process: server, data }
    add({ group, what: 'start', value: server.readyAfter / 1000, unit: 's', most: 2 })
    await measureReads(target, group, { ...scale, connections: [8] }, add)
    await measureNarrow(target, `filters and deep pages, ${group}`, scale, add)
    await measurePages(target, `pages, 64 connections, ${group}`, scale.seconds, add)
    add({ group, what: 'after reads', value: server.memory().most, unit: 'MB RSS at most', most: 512 })
    await measurePops(target, group, scale, add)
    await measureWorkers(target, group, { ...scale, workers: [64] }, add)
    await measureBackup(target, group, add)
    add({
      group,
      what: 'after workers and a backup',
      value: server.memory().most,
      unit: 'MB RSS at most',
      most: 512,
    })
  })
}

function tableOf(all: readonly Row[]): string {
  const groups = Map.groupBy(all, (row) => row.group)
  return [...groups].map(([group, members]) => [group, ...members.map(lineOf)].join('\n')).join('\n\n')
}

function lineOf({ what, value, unit, most, least, note }: Row): string {
  const digits = value >= 100 ? 0 : value >= 10 ? 1 : 3
  const aim = most === undefined ? (least === undefined ? '' : `≥ ${least}`) : `≤ ${most}`
  const isMissed = (most !== undefined && !(value <= most)) || (least !== undefined && !(value >= least))
  const verdict = aim === '' ? '' : `${aim} ${isMissed ? 'MISSED' : 'ok'}`
  return `  ${what.padEnd(44)} ${value.toFixed(digits).padStart(10)} ${unit.padEnd(16)} ${verdict.padEnd(16)} ${note ?? ''}`.trimEnd()
}

async function worker(data: string): Promise<void> {
  await withServer(data, (server) => measureWorker(server, join(data, '../worker'), given.quick, add))
}

await (given.worker
  ? inFolder(worker)
  : given.against === undefined
    ? ours()
    : measureReads({ address: given.against, process: null, data: '' }, 'reads', scale, add))
console.log(
  given.json ? JSON.stringify({ processors: availableParallelism(), rows }, null, 2) : tableOf(rows),
)

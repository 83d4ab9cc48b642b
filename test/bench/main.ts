/**
 * `npm run bench [-- --quick] [--json] [--against URL] [--built] [--large] [--only PART,…] [--check] [--web] [--worker] [--sync [--mirror URL]] [--upstream]`:
 * how fast a server is, or with --worker a worker. Data are made from seeds; the server is a process of its own, and the
 * one who asks another. --large adds the database of half a million binaries and one of two gigabytes, which are made once
 * below .cache, and a takeover; --only measures some of these parts: syncs, small, large, start, takeover. --check measures
 * `ctl check` with the large one and nothing else, --web when Chromium paints the pages of it; --against asks any server
 * that speaks the API, reads only; --upstream measures the existing rebuilderd's daemon beside ours.
 */
import { constants } from 'node:fs'
import { cp, mkdir, mkdtemp, rm } from 'node:fs/promises'
import { availableParallelism, tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import { measureChecks } from './check.ts'
import { half, largeData, twoGigabyteData } from './large.ts'
import {
  fullScale,
  listRead,
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
import { measureReference } from './reference.ts'
import { measureSyncs } from './sync.ts'
import { measureTakeover } from './takeover.ts'
import { measureUpstream } from './upstream.ts'
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
    only: { type: 'string' },
    built: flagOf,
    check: flagOf,
    web: flagOf,
    sync: flagOf,
    upstream: flagOf,
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
  if (given.upstream) return measureUpstream(add, given.built)
  const executable = given.built ? fileURLToPath(new URL('../../dist/rebuilderd', import.meta.url)) : null
  const tell = (text: string): void => console.error(text)
  const made = (): Promise<string> => largeData(cache, half, tell)
  const parts: Readonly<Record<string, () => Promise<void>>> = {
    syncs: () => measureSyncs(add, { mirror: given.mirror ?? null, executable }),
    small: () => inFolder(small),
    async large() {
      const from = await made()
      await inFolder((data) => large(from, data))
    },
    async start() {
      const from = await twoGigabyteData(await made(), tell)
      await inFolder((data) => starts(from, data))
    },
    takeover: () => inFolder((data) => measureTakeover(data, executable, add)),
  }
  await measureReference('at the start', add)
  for (const name of partsAsked(Object.keys(parts))) await parts[name]?.()
  await measureReference('at the end', add)
}

/** Parts to measure, in their order. */
function partsAsked(all: readonly string[]): readonly string[] {
  if (given.sync) return ['syncs']
  if (given.only === undefined) return given.large ? all : ['syncs', 'small']
  const asked = given.only.split(',')
  const unknown = asked.find((name) => !all.includes(name))
  if (unknown !== undefined) throw new Error(`--only ${unknown}: the parts are ${all.join(', ')}`)
  return all.filter((name) => asked.includes(name))
}

async function checks(): Promise<void> {
  const made = await largeData(cache, half, (text) => console.error(text))
  await inFolder(async (data) => {
    await cp(made, data, { recursive: true, mode: constants.COPYFILE_FICLONE })
    await inFolder((folder) => measureChecks(data, folder, given.built, add))
  })
}

async function paints(): Promise<void> {
  const made = await largeData(cache, half, (text) => console.error(text))
  await inFolder(async (data) => {
    await cp(made, data, { recursive: true, mode: constants.COPYFILE_FICLONE })
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
    add({ group: 'memory', what: 'after imports', value: server.memory().most, unit: 'MB RSS at most' })
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
  await cp(made, data, { recursive: true, mode: constants.COPYFILE_FICLONE })
  const group = 'half a million binaries, 2 million builds'
  add({ group, what: 'database', value: sizeOf(join(data, 'rebuilderd.db')), unit: 'MB' })
  await withServer(data, async (server) => {
    const target = { address: server.address, process: server, data }
    add({ group, what: 'start', value: server.readyAfter / 1000, unit: 's', most: 2 })
    const small = rows.find((row) => row.what === listRead && row.unit === 'ms CPU/req')
    const { seconds, workers, listCpu } = scale
    const aimed = { seconds, workers, connections: [8], listCpu: 2 * (small?.value ?? listCpu) }
    await measureReads(target, group, aimed, add)
    await measureNarrow(target, `filters and deep pages, ${group}`, scale, add)
    await measurePages(target, `pages, 64 connections, ${group}`, scale.seconds, add)
    add({ group, what: 'after reads', value: server.memory().most, unit: 'MB RSS at most', most: 512 })
    await measureBackup(target, group, add) // before thousands of jobs run, which some replies tell of one by one
    await measurePops(target, group, scale, add)
    await measureWorkers(target, group, { ...scale, workers: [64] }, add)
    add({
      group,
      what: 'after workers and a backup',
      value: server.memory().most,
      unit: 'MB RSS at most',
      most: 512,
    })
  })
}

/** How long a server takes to be ready with two gigabytes: after it ended well, and after it was killed at work. */
async function starts(made: string, data: string): Promise<void> {
  await cp(made, data, { recursive: true, mode: constants.COPYFILE_FICLONE })
  const group = 'start'
  const note = `${Math.round(sizeOf(join(data, 'rebuilderd.db')))} MB`
  const start = async (what: string): Promise<ServerProcess> => {
    const server = await startProcess({ data, built: given.built, nodeOptions })
    add({ group, what, value: server.readyAfter / 1000, unit: 's', most: 2, note })
    return server
  }
  const first = await start('on a database of two gigabytes')
  await measureWorkers({ address: first.address, process: first, data }, group, quickScale, () => undefined)
  await first.kill('SIGKILL')
  const second = await start('the same after kill -9 with reports under way')
  await second.kill('SIGTERM')
}

/** Targets that were missed, so that nobody has to look for them. */
function missesOf(all: readonly Row[]): string {
  const aimed = all.filter(({ most, least }) => most !== undefined || least !== undefined)
  const missed = aimed.filter(isMissed)
  const head = `targets: ${aimed.length - missed.length} of ${aimed.length} met`
  return [
    missed.length === 0 ? head : `${head}; missed:`,
    ...missed.map((row) => `  ${row.group}:${lineOf(row)}`),
  ].join('\n')
}

function isMissed({ value, most, least }: Row): boolean {
  return (most !== undefined && !(value <= most)) || (least !== undefined && !(value >= least))
}

function tableOf(all: readonly Row[]): string {
  const groups = Map.groupBy(all, (row) => row.group)
  return [...groups].map(([group, members]) => [group, ...members.map(lineOf)].join('\n')).join('\n\n')
}

function lineOf(row: Row): string {
  const { what, value, unit, most, least, note } = row
  const digits = value >= 100 ? 0 : value >= 10 ? 1 : 3
  const aim = most === undefined ? (least === undefined ? '' : `≥ ${Number(least.toFixed(1))}`) : `≤ ${most}`
  const verdict = aim === '' ? '' : `${aim} ${isMissed(row) ? 'MISSED' : 'ok'}`
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
  given.json
    ? JSON.stringify({ processors: availableParallelism(), rows }, null, 2)
    : `${tableOf(rows)}\n\n${missesOf(rows)}`,
)

/**
 * Reads indexes that are wrong in one place or in several: each must be read or refused with a complaint, within
 * bounds of memory and time. Real indexes where the fixtures are there, those of our own always. Run by `npm run fuzz`.
 */
import { existsSync, readFileSync } from 'node:fs'
import { readFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { gzipSync, zstdCompressSync } from 'node:zlib'
import { readReports } from '../../src/cmd/reports-in.ts'
import { decompressed } from '../../src/compression.ts'
import { Complaint } from '../../src/errors.ts'
import { stanzaOf, stanzas } from '../../src/sync/deb822.ts'
import { binaryFields, binaryOf, sourceReader } from '../../src/sync/debian-packages.ts'
import { unprovenText } from '../../src/sync/openpgp.ts'
import { pacmanPackages } from '../../src/sync/pacman-db.ts'
import { rpmPackages } from '../../src/sync/rpm-md.ts'
import {
  aBinary,
  aPacmanPackage,
  aSource,
  inPieces,
  pacmanDb,
  primaryXml,
  stanzasText,
} from '../help/archives.ts'
import { mutated, numbers } from '../help/mutations.ts'

const seed = Number(process.env['FUZZ_SEED'] ?? '1')
const count = Number(process.env['FUZZ_INDEXES'] ?? '4000')
const mostMemory = 500 // MiB of this process
const longest = 10_000 // milliseconds of a processor for one index
/** Bytes that a mutated index may unpack to; an honest one has a fiftieth of it. */
const limit = 50_000_000

type Chunks = AsyncIterable<Uint8Array>
type Reader = (chunks: Chunks) => AsyncIterable<unknown>
type Seed = { name: string; bytes: Buffer; read: Reader }

const what = 'index'
const plain = (chunks: Chunks): Chunks => decompressed(chunks, { limit, what })

async function* packages(chunks: Chunks): AsyncGenerator {
  for await (const stanza of stanzas(plain(chunks), { what, wanted: binaryFields }))
    yield binaryOf(stanza, what)
}

async function* sources(chunks: Chunks): AsyncGenerator {
  const reader = sourceReader({ uploaders: true, directory: true, dsc: true })
  for await (const stanza of stanzas(plain(chunks), { what, wanted: reader.fields })) {
    yield reader.read(stanza, what)
  }
}

async function* release(chunks: Chunks): AsyncGenerator {
  yield stanzaOf(await unprovenText(Buffer.concat(await Array.fromAsync(chunks))), what)
}

const pacman: Reader = (chunks) => pacmanPackages(plain(chunks), what)
const rpm: Reader = (chunks) => rpmPackages(plain(chunks), what)

/** Indexes of our own, plain and as archives store them. */
async function ownSeeds(): Promise<Seed[]> {
  const names = Array.from({ length: 30 }, (_, i) => `package${i}`)
  const database = Object.fromEntries(
    names.map((name) => [name, aPacmanPackage({ NAME: name, PGPSIG: 'AAAA' })]),
  )
  const artifact = { name: 'a', version: '1', component: null, architecture: 'all', url: 'a.deb' }
  const one = { name: 'a', version: '1', url: 'a', artifacts: [artifact] }
  const reports = [{ distribution: 'debian', architecture: 'all', packages: names.map(() => one) }]
  const plainSeeds: Seed[] = [
    {
      name: 'Packages',
      bytes: Buffer.from(stanzasText(names.map((name) => aBinary({ Package: name })))),
      read: packages,
    },
    {
      name: 'Sources',
      bytes: Buffer.from(stanzasText(names.map((name) => aSource({ Package: name })))),
      read: sources,
    },
    { name: 'core.db', bytes: await pacmanDb(database), read: pacman },
    { name: 'primary.xml', bytes: Buffer.from(primaryXml(names.map((name) => ({ name })))), read: rpm },
    {
      name: 'report.json',
      bytes: Buffer.from(JSON.stringify(reports)),
      read: (input) => readReports(input, tmpdir()),
    },
  ]
  return plainSeeds.flatMap(({ name, bytes, read }) => [
    { name, bytes, read },
    { name: `${name}.gz`, bytes: gzipSync(bytes), read },
    { name: `${name}.zst`, bytes: zstdCompressSync(bytes), read },
  ])
}

/** Indexes as distributions publish them; each is mutated as stored, and unpacked. */
async function realSeeds(): Promise<Seed[]> {
  const folder = join(import.meta.dirname, '../../../shared/fixtures')
  const files: readonly (readonly [string, Reader])[] = [
    ['Packages.xz', packages],
    ['aptly-udeb-Packages', packages],
    ['Sources.xz', sources],
    ['InRelease', release],
    ['arch-core-2019.db', pacman],
    ['archweb-core-min.db.tar.gz', pacman],
    ['createrepo_c/long_primary.xml', rpm],
    [
      'createrepo_c/repo_02/bcde64b04916a2a72fdc257d61bc922c70b3d58e953499180585f7a360ce86cf-primary.xml.gz',
      rpm,
    ],
  ]
  const found: Seed[] = []
  for (const [name, read] of files) {
    const path = join(folder, name)
    if (!existsSync(path)) continue
    const bytes = await readFile(path)
    const unpacked = Buffer.concat(await Array.fromAsync(plain(inPieces(bytes, 65_536))))
    found.push({ name: `real ${name}`, bytes, read })
    if (!unpacked.equals(bytes)) found.push({ name: `real ${name}, unpacked`, bytes: unpacked, read })
  }
  return found
}

type Outcome = { read: number; refused: number; failed: string[] }

/** `read`, `refused`, or what went wrong. */
async function tried({ read }: Seed, bytes: Uint8Array, size: number): Promise<string> {
  const begin = process.cpuUsage()
  try {
    let found = 0
    for await (const one of read(inPieces(bytes, size))) found += Number(one !== null)
  } catch (error) {
    if (!(error instanceof Complaint))
      return error instanceof Error ? (error.stack ?? error.message) : String(error)
    return 'refused'
  }
  const { user, system } = process.cpuUsage(begin)
  const took = (user + system) / 1000
  return took > longest ? `took ${took.toFixed(0)} ms` : 'read'
}

/** The most memory that this process ever had, in MiB. */
function peakMemory(): number {
  return Number(/VmHWM:\s*(\d+) kB/.exec(readFileSync('/proc/self/status', 'utf8'))?.[1]) / 1024
}

async function main(): Promise<number> {
  const seeds = [...(await ownSeeds()), ...(await realSeeds())]
  const next = numbers(seed)
  const outcome: Outcome = { read: 0, refused: 0, failed: [] }
  for (const whole of seeds) {
    const result = await tried(whole, whole.bytes, 65_536)
    if (result !== 'read') outcome.failed.push(`${whole.name} as it is: ${result}`)
  }
  for (let i = 0; i < count; i++) {
    const base = seeds[i % seeds.length] as Seed // there always are some
    let bytes = mutated(base.bytes, next)
    for (let more = next(3); more > 0 && bytes.length > 0; more--) bytes = mutated(bytes, next)
    const result = await tried(base, bytes, 1 + next(20_000))
    if (result === 'read' || result === 'refused') outcome[result]++
    else outcome.failed.push(`${base.name}, input ${i}: ${result}`)
  }
  const memory = peakMemory()
  const { read, refused, failed } = outcome
  console.log(
    `fuzz: ${count} indexes (seed ${seed}) from ${seeds.length} seeds: ${refused} refused, ${read} read`,
  )
  console.log(`fuzz: at most ${memory.toFixed(0)} MiB of memory (bound ${mostMemory})`)
  for (const line of failed.slice(0, 20)) console.log(`fuzz: FAILED ${line}`)
  const isWell = failed.length === 0 && memory < mostMemory && refused > 0 && read > 0
  console.log(`fuzz: ${count - failed.length} passed, ${isWell ? 0 : Math.max(1, failed.length)} failed`)
  return isWell ? 0 : 1
}

process.exitCode = await main()

/**
 * How long a sync takes, and with how much memory: each is a process of its own. Archives are made from nothing, as
 * large as the real ones. By hand: `node test/bench/sync.ts [URL of a Debian mirror]`, with which trixie is read, too.
 */
import { execFile } from 'node:child_process'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { gzipSync } from 'node:zlib'
import { silentLog } from '../../src/log.ts'
import { checkedProfile, reportsOf } from '../../src/sync/index.ts'
import { aBinary, aPacmanPackage, aSource, pacmanDb, put, writeDebianArchive } from '../help/archives.ts'
import type { Add } from './measure.ts'

const run = promisify(execFile)
const script = fileURLToPath(import.meta.url)

type Profile = Record<string, unknown>
type Measured = { seconds: number; megabytes: number; packages: number }

/** Text as long as what a sync passes over in a stanza. */
const filler = 'lib-some-dependency (>= 1.2.3), '.repeat(30)

const two = { architectures: ['amd64', 'all'], components: ['main'], allow_unsigned: true }

/** 17,900 sources with 35,100 binaries, of which 13,000 are of all architectures: as trixie main. */
async function writeTrixie(folder: string): Promise<Profile> {
  const nameOf = (i: number): string => `source-package-${i}`
  const sources = Array.from({ length: 17_900 }, (_, i) =>
    aSource({ Package: nameOf(i), 'Build-Depends': filler }),
  )
  const binaries = Array.from({ length: 35_100 }, (_, i) => {
    const Architecture = i % 35 < 13 ? 'all' : 'amd64'
    const Source = nameOf(i % 17_900)
    return aBinary({ Package: `binary-package-${i}`, Source, Architecture, Depends: filler })
  })
  await writeDebianArchive(folder, { binaries: { 'main/amd64': binaries }, sources: { main: sources } })
  return { distro: 'debian', source: folder, releases: ['test'], ...two }
}

/** 15,000 packages in two databases: as core and extra. */
async function writeArch(folder: string): Promise<Profile> {
  for (const [component, count] of Object.entries({ core: 300, extra: 14_700 })) {
    const names = Array.from({ length: count }, (_, i) => `${component}-package-${i}`)
    const signature = 'iQEz'.repeat(180)
    const entries = names.map((NAME) => [
      `${NAME}-1.0-1`,
      aPacmanPackage({ NAME, PGPSIG: signature, DESC: filler }),
    ])
    const database = gzipSync(await pacmanDb(Object.fromEntries(entries)))
    await put(join(folder, component, 'os/x86_64', `${component}.db`), database)
  }
  const lists = { components: ['core', 'extra'], architectures: ['x86_64'] }
  return { distro: 'archlinux', source: `${folder}/$repo/os/$arch`, ...lists, allow_unsigned: true }
}

/** One sync of a process of its own. */
async function measured(profile: Profile, cache: string): Promise<Measured> {
  const { stdout } = await run(process.execPath, [script, '--child', JSON.stringify(profile), cache])
  return JSON.parse(stdout) as Measured // as child() prints it
}

async function child(profile: string, cache: string): Promise<void> {
  const options = { log: silentLog, signal: AbortSignal.timeout(600_000), cache }
  const begin = performance.now()
  let packages = 0
  for await (const report of reportsOf(checkedProfile('the bench', JSON.parse(profile)), options))
    packages += report.packages.reduce((sum, { artifacts }) => sum + artifacts.length, 0)
  const seconds = (performance.now() - begin) / 1000
  console.log(JSON.stringify({ seconds, megabytes: process.resourceUsage().maxRSS / 1024, packages }))
}

/** Adds the times and the memory of syncs whose indexes are cached already. */
export async function measureSyncs(add: Add, mirror: string | null = null): Promise<void> {
  const folder = await mkdtemp(join(tmpdir(), 'rebuilderd-bench-sync-'))
  const cache = join(folder, 'cache')
  try {
    const cases: [string, Profile, number, number][] = [
      ['as large as trixie main, amd64 and all', await writeTrixie(join(folder, 'debian')), 4, 200],
      ['as large as Arch core and extra', await writeArch(join(folder, 'arch')), 1.5, 250],
    ]
    const keyrings = ['/usr/share/keyrings/debian-archive-keyring.gpg']
    const real = { distro: 'debian', source: mirror ?? '', releases: ['trixie'], ...two, keyrings }
    if (mirror !== null) cases.push(['trixie main, amd64 and all', real, 4, 200])
    for (const [what, profile, seconds, megabytes] of cases) {
      await measured(profile, cache)
      const found = await measured(profile, cache)
      const group = 'sync, indexes cached'
      add({ group, what, value: found.seconds, unit: 's', most: seconds, note: `${found.packages} packages` })
      add({ group, what, value: found.megabytes, unit: 'MB RSS at most', most: megabytes })
    }
  } finally {
    await rm(folder, { recursive: true, force: true })
  }
}

const [first, ...others] = process.argv[1] === script ? process.argv.slice(2) : ['imported']
if (first === '--child') await child(others[0] ?? '', others[1] ?? '')
else if (first !== 'imported') {
  const add: Add = ({ what, value, unit, most }) =>
    console.log(`${what.padEnd(44)} ${value.toFixed(2).padStart(10)} ${unit} (≤ ${most})`)
  await measureSyncs(add, first ?? null)
}

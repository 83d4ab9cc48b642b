/**
 * How long a sync takes, and with how much memory: each is a process of its own, the built executable where it is asked
 * for, until its report is printed. Archives are made from nothing, as large as the real ones; with the address of a
 * Debian mirror trixie itself is read, too.
 */
import { execFile, spawn } from 'node:child_process'
import { once } from 'node:events'
import { readFileSync } from 'node:fs'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { gzipSync } from 'node:zlib'
import { silentLog } from '../../src/log.ts'
import { startFlags } from '../../src/runtime.ts'
import { checkedProfile, reportsOf } from '../../src/sync/index.ts'
import {
  aBinary,
  aKey,
  aPacmanPackage,
  aSource,
  pacmanDb,
  put,
  writeDebianArchive,
} from '../help/archives.ts'
import type { Add } from './measure.ts'

const run = promisify(execFile)
const script = fileURLToPath(import.meta.url)

type Profile = Record<string, unknown>
type Measured = { seconds: number; megabytes: number; packages: number }

/** Text as long as what a sync passes over in a stanza. */
const filler = 'lib-some-dependency (>= 1.2.3), '.repeat(30)

const two = { architectures: ['amd64', 'all'], components: ['main'] }

/** 17,900 sources with 35,100 binaries, of which 13,000 are of all architectures: as trixie main; or several times that. */
async function writeTrixie(folder: string, times = 1): Promise<Profile> {
  const key = await aKey()
  const nameOf = (i: number): string => `source-package-${i}`
  const sources = Array.from({ length: 17_900 * times }, (_, i) =>
    aSource({ Package: nameOf(i), 'Build-Depends': filler }),
  )
  const binaries = Array.from({ length: 35_100 * times }, (_, i) => {
    const Architecture = i % 35 < 13 ? 'all' : 'amd64'
    const Source = nameOf(i % (17_900 * times))
    return aBinary({ Package: `binary-package-${i}`, Source, Architecture, Depends: filler })
  })
  await writeDebianArchive(folder, { binaries: { 'main/amd64': binaries }, sources: { main: sources }, key })
  const keyring = join(folder, 'keyring.gpg')
  await put(keyring, key.publicKey.write())
  return { distro: 'debian', source: folder, releases: ['test'], keyrings: [keyring], ...two }
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

type How = { cache: string; executable: string | null }

/** One sync of a process of its own. */
async function measured(profile: Profile, { cache, executable }: How): Promise<Measured> {
  if (executable !== null) return ofExecutable(executable, profile, cache)
  const args = [...startFlags, script, '--child', JSON.stringify(profile), cache]
  const { stdout } = await run(process.execPath, args)
  return JSON.parse(stdout) as Measured // as child() prints it
}

/** `ctl pkgs sync-profile --print-json`, whose output nobody keeps. */
async function ofExecutable(executable: string, profile: Profile, cache: string): Promise<Measured> {
  const file = join(cache, '../sync.conf')
  const lines = Object.entries(profile).map(([key, value]) => `${key} = ${JSON.stringify(value)}\n`)
  await writeFile(file, `[profile.bench]\n${lines.join('')}`)
  const begin = performance.now()
  const args = ['ctl', 'pkgs', 'sync-profile', 'bench', '--sync-config', file, '--print-json']
  const env = { ...process.env, XDG_CACHE_HOME: cache }
  const program = spawn(executable, args, { env, stdio: ['ignore', 'pipe', 'inherit'] })
  let kilobytes = 0
  let packages = 0
  let rest = ''
  const look = (): void => {
    kilobytes = Math.max(kilobytes, mostKilobytes(program.pid ?? 0))
  }
  const clock = setInterval(look, 10)
  program.stdout.on('data', (chunk: Buffer) => {
    const text = rest + chunk.toString('latin1')
    packages += text.split('"sha256":').length - 1
    rest = text.slice(-8) // shorter than what is counted
    look()
  })
  const [code] = (await once(program, 'close')) as [number | null]
  clearInterval(clock)
  if (code !== 0) throw new Error(`${executable} ended with ${code}`)
  return { seconds: (performance.now() - begin) / 1000, megabytes: kilobytes / 1000, packages }
}

/** The most memory a process had (proc_pid_status(5)); 0 when it has ended. */
function mostKilobytes(pid: number): number {
  try {
    return Number(/^VmHWM:\s+(\d+) kB/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1] ?? 0) * 1.024
  } catch {
    return 0
  }
}

async function child(profile: string, cache: string): Promise<void> {
  const options = { log: silentLog, signal: AbortSignal.timeout(600_000), cache }
  const begin = performance.now()
  let packages = 0
  for await (const report of reportsOf(checkedProfile('the bench', JSON.parse(profile)), options))
    for (const { artifacts } of report.packages) packages += artifacts.length
  const seconds = (performance.now() - begin) / 1000
  console.log(
    JSON.stringify({ seconds, megabytes: mostKilobytes(process.pid) / 1000, packages }), // maxRSS starts with the parent's
  )
}

/** Adds the times and the memory of syncs whose indexes are cached already. */
export async function measureSyncs(
  add: Add,
  { mirror = null, executable = null }: { mirror?: string | null; executable?: string | null } = {},
): Promise<void> {
  const folder = await mkdtemp(join(tmpdir(), 'rebuilderd-bench-sync-'))
  const cache = join(folder, 'cache')
  try {
    const debian = await writeTrixie(join(folder, 'debian'))
    const cases: [string, Profile, number, number][] = [
      ['as large as trixie main, amd64 and all', debian, 4, 200],
      ['as large as Arch core and extra', await writeArch(join(folder, 'arch')), 1.5, 200],
      ['twice as large', await writeTrixie(join(folder, 'twice'), 2), 8, 200],
      ['four times as large', await writeTrixie(join(folder, 'fourfold'), 4), 16, 200],
    ]
    const keyrings = ['/usr/share/keyrings/debian-archive-keyring.gpg']
    const real = { distro: 'debian', source: mirror ?? '', releases: ['trixie'], ...two, keyrings }
    if (mirror !== null) cases.push(['trixie main, amd64 and all', real, 4, 200])
    for (const [what, profile, seconds, megabytes] of cases) {
      await measured(profile, { cache, executable })
      const found = await measured(profile, { cache, executable })
      const group = 'sync, indexes cached'
      add({ group, what, value: found.seconds, unit: 's', most: seconds, note: `${found.packages} packages` })
      add({ group, what, value: found.megabytes, unit: 'MB RSS at most', most: megabytes })
    }
  } finally {
    await rm(folder, { recursive: true, force: true })
  }
}

const [first, ...others] = process.argv[1] === script ? process.argv.slice(2) : []
if (first === '--child') await child(others[0] ?? '', others[1] ?? '')

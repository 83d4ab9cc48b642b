import { execFile } from 'node:child_process'
import { constants, readFileSync } from 'node:fs'
import { access, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir, userInfo } from 'node:os'
import { delimiter, join } from 'node:path'
import { promisify } from 'node:util'
import { asset } from '../assets.ts'
import { builtInBackends, defaultLimits, type BuiltIn } from './backend.ts'
import { openControlGroup } from './cgroup.ts'
import { findUserNamespace, type UserNamespace } from './sandbox.ts'

/** How a machine installs packages: by the family of its distribution. */
type Family = 'debian' | 'archlinux' | 'fedora'

/** A program that does what another one does, too. */
type Program = {
  program: string
  /** What brings it, by family; one text where all call it the same. Several where it needs others. */
  packaged: string | Partial<Record<Family, string>>
  purpose: string
  /** Counts on machines of this family only. */
  family?: Family
  /** Arguments with which it ends well at once; scripts may be there without the modules that they need. */
  starts?: readonly string[]
}

/** One thing a backend uses. */
type Need = Program & {
  /** Nothing works without it; else only some of it. */
  must: boolean
  /** Any of these will do as well; the best comes first. */
  or?: readonly Program[]
}

const common: readonly Need[] = [
  { program: 'bash', packaged: 'bash', purpose: 'runs the scripts', must: true },
  {
    program: 'perl',
    packaged: { debian: 'perl-base', archlinux: 'perl', fedora: 'perl-interpreter' },
    purpose: 'isolates builds',
    must: true,
  },
  { program: 'unshare', packaged: 'util-linux', purpose: 'isolates builds', must: true },
  { program: 'setpriv', packaged: 'util-linux', purpose: 'builds without rights of root', must: true },
  {
    program: 'newuidmap',
    packaged: { debian: 'uidmap', archlinux: 'shadow', fedora: 'shadow-utils' },
    purpose: 'makes build roots without being root',
    must: false,
  },
  {
    program: 'diffoscope',
    packaged: { debian: 'diffoscope-minimal', archlinux: 'diffoscope', fedora: 'diffoscope' },
    purpose: 'explains differences',
    must: false,
  },
]

const mmdebstrap: Need = {
  program: 'mmdebstrap',
  packaged: { debian: 'mmdebstrap', fedora: 'mmdebstrap' },
  purpose: 'makes build roots',
  must: true,
}

const needs: Readonly<Record<string, readonly Need[]>> = {
  debian: [
    { program: 'apt-get', packaged: 'apt', purpose: 'fetches sources and package lists', must: true },
    {
      program: 'dpkg-buildpackage',
      packaged: { debian: 'dpkg-dev', archlinux: 'dpkg', fedora: 'dpkg-dev' },
      purpose: 'builds with the packages installed here',
      must: true,
    },
    {
      program: 'fakeroot',
      packaged: 'fakeroot',
      purpose: 'builds packages that want to be root',
      must: false,
    },
    mmdebstrap,
  ],
  debrebuild: [
    {
      program: 'debrebuild',
      packaged: { debian: 'devscripts libstring-shellquote-perl libwww-perl libfile-homedir-perl' },
      purpose: 'rebuilds in the recorded environment, from snapshot.debian.org',
      starts: ['--help'],
      must: true,
    },
    {
      program: 'debootsnap',
      packaged: { debian: 'devscripts equivs apt-utils python3-pycurl python3-debian python3-requests' },
      purpose: 'fetches the recorded packages',
      starts: ['--help'],
      must: true,
    },
    mmdebstrap,
  ],
  archlinux: [
    {
      program: 'repro',
      packaged: { archlinux: 'archlinux-repro' },
      purpose: 'rebuilds in the recorded environment',
      or: [
        {
          program: 'archlinux-repro',
          packaged: {},
          purpose: 'is repro under its other name',
        },
        {
          program: 'makepkg',
          packaged: { debian: 'makepkg', archlinux: 'pacman' },
          purpose: 'rebuilds with the programs of this machine, from source tarballs that the repository has',
        },
      ],
      must: true,
    },
    {
      program: 'bsdtar',
      packaged: { debian: 'libarchive-tools', archlinux: 'libarchive', fedora: 'bsdtar' },
      purpose: 'reads packages',
      must: true,
    },
    { program: 'curl', packaged: 'curl', purpose: 'fetches sources', must: true },
    { program: 'zstd', packaged: 'zstd', purpose: 'compresses packages', must: true },
  ],
  fedora: [
    {
      program: 'mock',
      packaged: { fedora: 'mock' },
      purpose: 'builds in a root of the release',
      or: [
        {
          program: 'rpmbuild',
          packaged: { fedora: 'rpm-build' },
          purpose: 'builds for the Fedora that this machine is, or that `build_root = "host"` says it is',
          family: 'fedora',
        },
      ],
      must: true,
    },
  ],
}

type Missing = {
  program: string
  purpose: string
  /** Nothing works without it, or one of the others. */
  must: boolean
  /** Others of which any is enough. */
  or: readonly { program: string; purpose: string }[]
}

export type BackendHealth = {
  name: string
  /** The distribution for which it has to be chosen, as another way. */
  instead: string | null
  doc: string
  /** It can rebuild something here. */
  works: boolean
  /** Why that is not all that it could be, as a sentence; null where it is. */
  restricted: string | null
  /** Of programs of which one is enough, the one that is there. */
  uses: readonly { program: string; purpose: string }[]
  /** What is missing, with what for. */
  missing: readonly Missing[]
  /** The line that installs what is missing on this machine; null when nothing is, or no line helps. */
  install: string | null
}

type MachineHealth = {
  backends: readonly BackendHealth[]
  /** How builds are isolated here; null: not at all. */
  isolation: UserNamespace | null
  limits: { memory: boolean; processes: boolean }
  /** Sentences about what this machine cannot do, and what would help. */
  notes: readonly string[]
}

/**
 * What the built-in backends and the sandbox lack on this machine, for `rebuilderd worker doctor`.
 * @param release os-release(5) of this machine
 */
export async function checkBackends(
  signal: AbortSignal,
  which: readonly BuiltIn[] = builtInBackends,
  release: string = osRelease(),
): Promise<MachineHealth> {
  const family = familyOf(release)
  const isolation = await triedIsolation(signal)
  const group = await openControlGroup(defaultLimits)
  await group.remove()
  const backends = await Promise.all(which.map((backend) => checkBackend(backend, family, isolation)))
  const notes = notesOn(isolation, group.limited, await lineForOurIds())
  return { backends, isolation, limits: group.limited, notes }
}

function osRelease(): string {
  for (const path of ['/etc/os-release', '/usr/lib/os-release']) {
    try {
      return readFileSync(path, 'utf8')
    } catch {
      continue
    }
  }
  return ''
}

const families: Readonly<Record<string, Family>> = {
  debian: 'debian',
  ubuntu: 'debian',
  arch: 'archlinux',
  archarm: 'archlinux',
  fedora: 'fedora',
  rhel: 'fedora',
}

/** By `ID`, else the first of `ID_LIKE` that we know (os-release(5)); null: another one. */
function familyOf(release: string): Family | null {
  const words = ['ID', 'ID_LIKE'].flatMap((key) => {
    const [, value = ''] = new RegExp(`^${key}=(.*)$`, 'm').exec(release) ?? []
    return value.replace(/^(["'])(.*)\1$/, '$2').split(' ')
  })
  return words.map((word) => families[word]).find((family) => family !== undefined) ?? null
}

const installers: Readonly<Record<Family, string>> = {
  debian: 'apt-get update && apt-get install --no-install-recommends',
  archlinux: 'pacman -Syu --needed',
  fedora: 'dnf install',
}

/** What becomes of a backend that makes build roots where none can be made, for want of ids to own their files. */
const withoutRoots: Readonly<Record<string, { works: boolean; why: string }>> = {
  debian: {
    works: true,
    why: 'only what was built with packages that are installed here can be rebuilt: no build root can be made',
  },
  debrebuild: { works: false, why: 'no build root can be made' },
}

async function checkBackend(
  { name, doc, instead }: BuiltIn,
  family: Family | null,
  isolation: UserNamespace | null,
): Promise<BackendHealth> {
  const missing: Need[] = []
  const uses: Program[] = []
  for (const need of [...common, ...(needs[name] ?? [])]) {
    const found = await firstOf([need, ...(need.or ?? [])], family)
    if (found === null) missing.push(need)
    else if (need.or !== undefined) uses.push(found)
  }
  const packages = family === null ? [] : packagesFor(missing, family)
  const restricted = makesRoots(isolation) ? undefined : withoutRoots[name]
  return {
    name,
    instead: instead ?? null,
    doc,
    works: missing.every((need) => !need.must) && (restricted?.works ?? true),
    restricted: restricted?.why ?? null,
    uses: uses.map(described),
    missing: missing.map((need) => ({
      ...described(need),
      must: need.must,
      or: (need.or ?? []).map(described),
    })),
    install: family === null || packages.length === 0 ? null : `${installers[family]} ${packages.join(' ')}`,
  }
}

function described({ program, purpose }: Program): { program: string; purpose: string } {
  return { program, purpose }
}

async function firstOf(programs: readonly Program[], family: Family | null): Promise<Program | null> {
  for (const one of programs) {
    const counts = one.family === undefined || one.family === family
    if (counts && (await isInstalled(one.program)) && (await isStarting(one))) return one
  }
  return null
}

/** Of programs of which one is enough, those of the best that the family has a package for. */
function packagesFor(missing: readonly Need[], family: Family): string[] {
  const all = missing.flatMap((need) => {
    const offers = [need, ...(need.or ?? [])].map(({ packaged }) =>
      typeof packaged === 'string' ? packaged : packaged[family],
    )
    return offers.find((packages) => packages !== undefined)?.split(' ') ?? []
  })
  return [...new Set(all)]
}

async function isInstalled(program: string): Promise<boolean> {
  const folders = [...(process.env['PATH'] ?? '').split(delimiter), '/usr/sbin', '/sbin']
  for (const folder of folders) {
    const path = join(folder === '' ? '.' : folder, program)
    if (
      await access(path, constants.X_OK).then(
        () => true,
        () => false,
      )
    )
      return true
  }
  return false
}

/** Long enough for a machine under load. */
const startMilliseconds = 60_000

/** A program that only looks installed is none; what it says is of no interest here. */
async function isStarting({ program, starts }: Program): Promise<boolean> {
  if (starts === undefined) return true
  return promisify(execFile)(program, [...starts], { timeout: startMilliseconds }).then(
    () => true,
    () => false,
  )
}

async function triedIsolation(signal: AbortSignal): Promise<UserNamespace | null> {
  const folder = await mkdtemp(join(tmpdir(), 'rebuilderd-doctor-'))
  try {
    const script = join(folder, 'sandbox.pl')
    await writeFile(script, asset('backends/sandbox.pl'), { mode: 0o500 })
    return await findUserNamespace(script, signal)
  } finally {
    await rm(folder, { recursive: true })
  }
}

function makesRoots(isolation: UserNamespace | null): boolean {
  return isolation === 'none' || isolation === 'auto' || process.getuid?.() === 0
}

async function lineForOurIds(): Promise<string | null> {
  const uid = String(process.getuid?.() ?? 0)
  const files = ['/etc/subuid', '/etc/subgid'].map((file) => readFile(file, 'utf8').catch(() => ''))
  return lineForIds([nameOfUser() ?? uid, uid], await Promise.all(files))
}

/**
 * The line with which root gives a user ids that nobody has.
 * @param user the name and the number of the user, either of which a range may be given to
 * @param files the content of /etc/subuid and of /etc/subgid (subuid(5))
 * @returns null where the user has a range in both
 */
export function lineForIds(user: readonly [string, string], files: readonly string[]): string | null {
  const ranges = files.map((file) => file.split('\n').map((line) => line.split(':')))
  if (ranges.every((lines) => lines.some(([owner = '']) => user.includes(owner)))) return null
  const ends = ranges.flat().map(([, first, count]) => Number(first) + Number(count))
  const first = Math.max(100_000, ...ends.filter((end) => end < 2 ** 31))
  const range = `${first}-${first + 65_535}`
  return `usermod --add-subuids ${range} --add-subgids ${range} ${user[0]}`
}

/** Null where nobody has given the number a name. */
function nameOfUser(): string | null {
  try {
    return userInfo().username
  } catch {
    return null
  }
}

function notesOn(
  isolation: UserNamespace | null,
  limits: { memory: boolean; processes: boolean },
  lineForRange: string | null,
): string[] {
  const notes: string[] = []
  if (isolation === null)
    notes.push(
      'Builds cannot be isolated here: run as root, or allow user namespaces (sysctl user.max_user_namespaces).',
    )
  if (isolation === 'single')
    notes.push(
      lineForRange === null
        ? 'Build roots need root, or newuidmap for the range of ids that this user has in /etc/subuid and /etc/subgid.'
        : `Build roots need root, or a range of ids for this user; root gives it one by: ${lineForRange}`,
    )
  if (!limits.memory)
    notes.push('Memory of builds is not limited: run as root, or under systemd with Delegate=yes.')
  if (!limits.processes)
    notes.push(
      'Processes of builds are limited by user only: run as root, or under systemd with Delegate=yes.',
    )
  return notes
}

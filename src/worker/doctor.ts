import { execFile } from 'node:child_process'
import { constants } from 'node:fs'
import { access, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { delimiter, join } from 'node:path'
import { promisify } from 'node:util'
import { asset } from '../assets.ts'
import { builtInBackends, defaultLimits, type BuiltIn } from './backend.ts'
import { openControlGroup } from './cgroup.ts'
import { findUserNamespace, type UserNamespace } from './sandbox.ts'

/** One thing a backend uses: a program, why, and the Debian package that has it. */
type Need = {
  program: string
  /** Several where it needs others that it does not depend on. */
  packaged: string | null
  purpose: string
  /** Programs of which any one is enough bear the same name here. */
  either?: string
  /** Arguments with which it ends well at once; scripts may be there without the modules that they need. */
  starts?: readonly string[]
  /** Nothing works without it; else only some of it. */
  must: boolean
}

const common: readonly Need[] = [
  { program: 'bash', packaged: 'bash', purpose: 'runs the scripts', must: true },
  { program: 'perl', packaged: 'perl-base', purpose: 'isolates builds', must: true },
  { program: 'unshare', packaged: 'util-linux', purpose: 'isolates builds', must: true },
  { program: 'setpriv', packaged: 'util-linux', purpose: 'builds without rights of root', must: true },
  { program: 'newuidmap', packaged: 'uidmap', purpose: 'makes build roots without being root', must: false },
  { program: 'diffoscope', packaged: 'diffoscope-minimal', purpose: 'explains differences', must: false },
]

const needs: Readonly<Record<string, readonly Need[]>> = {
  debian: [
    { program: 'apt-get', packaged: 'apt', purpose: 'fetches sources and package lists', must: true },
    {
      program: 'dpkg-buildpackage',
      packaged: 'dpkg-dev',
      purpose: 'builds with the packages installed here',
      must: true,
    },
    {
      program: 'fakeroot',
      packaged: 'fakeroot',
      purpose: 'builds packages that want to be root',
      must: false,
    },
    { program: 'mmdebstrap', packaged: 'mmdebstrap', purpose: 'makes build roots', must: true },
  ],
  debrebuild: [
    {
      program: 'debrebuild',
      packaged: 'devscripts libstring-shellquote-perl libwww-perl libfile-homedir-perl',
      purpose: 'rebuilds in the recorded environment, from snapshot.debian.org',
      starts: ['--help'],
      must: true,
    },
    {
      program: 'debootsnap',
      packaged: 'devscripts equivs apt-utils python3-pycurl python3-debian python3-requests',
      purpose: 'fetches the recorded packages',
      starts: ['--help'],
      must: true,
    },
    { program: 'mmdebstrap', packaged: 'mmdebstrap', purpose: 'makes build roots', must: true },
  ],
  archlinux: [
    {
      program: 'repro',
      packaged: null,
      purpose: 'rebuilds in the recorded environment',
      either: 'builder',
      must: true,
    },
    {
      program: 'archlinux-repro',
      packaged: null,
      purpose: 'is repro under its other name',
      either: 'builder',
      must: true,
    },
    {
      program: 'makepkg',
      packaged: 'makepkg',
      purpose: 'rebuilds with the programs of this machine',
      either: 'builder',
      must: true,
    },
    { program: 'bsdtar', packaged: 'libarchive-tools', purpose: 'reads packages', must: true },
    { program: 'curl', packaged: 'curl', purpose: 'fetches sources', must: true },
    { program: 'zstd', packaged: 'zstd', purpose: 'compresses packages', must: true },
  ],
  fedora: [
    {
      program: 'mock',
      packaged: null,
      purpose: 'builds in a root of the release',
      either: 'builder',
      must: true,
    },
    {
      program: 'rpmbuild',
      packaged: 'rpm',
      purpose: 'builds on a Fedora machine, or where the settings name this machine as the build root',
      either: 'builder',
      must: true,
    },
  ],
}

export type BackendHealth = {
  name: string
  /** The distribution for which it has to be chosen, as another way. */
  instead: string | null
  doc: string
  /** It can rebuild something here. */
  works: boolean
  /** What is missing, with what for. */
  missing: readonly { program: string; purpose: string; must: boolean }[]
  /** The line that installs what is missing on a Debian machine; null when nothing is, or no line helps. */
  install: string | null
}

export type MachineHealth = {
  backends: readonly BackendHealth[]
  /** How builds are isolated here; null: not at all. */
  isolation: UserNamespace | null
  limits: { memory: boolean; processes: boolean }
  /** Sentences about what this machine cannot do, and what would help. */
  notes: readonly string[]
}

/** What the built-in backends and the sandbox lack on this machine, for `rebuilderd worker doctor`. */
export async function checkBackends(
  signal: AbortSignal,
  which: readonly BuiltIn[] = builtInBackends,
): Promise<MachineHealth> {
  const isolation = await triedIsolation(signal)
  const group = await openControlGroup(defaultLimits)
  await group.remove()
  const backends = await Promise.all(which.map(checkBackend))
  return { backends, isolation, limits: group.limited, notes: notesOn(isolation, group.limited) }
}

async function checkBackend({ name, doc, instead }: BuiltIn): Promise<BackendHealth> {
  const all = [...common, ...(needs[name] ?? [])]
  const absent = new Set<Need>()
  for (const need of all) {
    if (!(await isInstalled(need.program)) || !(await isStarting(need))) absent.add(need)
  }
  const met = new Set(all.filter((need) => !absent.has(need)).map((need) => need.either))
  const missing = all.filter(
    (need) => absent.has(need) && !(need.either !== undefined && met.has(need.either)),
  )
  // Where one of several programs is enough, the one that a package brings.
  const packages = [...new Set(missing.flatMap((need) => need.packaged?.split(' ') ?? []))]
  return {
    name,
    instead: instead ?? null,
    doc,
    works: missing.every((need) => !need.must),
    missing: missing.map(({ program, purpose, must }) => ({ program, purpose, must })),
    install:
      packages.length === 0
        ? null
        : `apt-get update && apt-get install --no-install-recommends ${packages.join(' ')}`,
  }
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

/** A program that only looks installed is none; what it says is of no interest here. */
async function isStarting({ program, starts }: Need): Promise<boolean> {
  if (starts === undefined) return true
  return promisify(execFile)(program, [...starts], { timeout: 20_000 }).then(
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

function notesOn(isolation: UserNamespace | null, limits: { memory: boolean; processes: boolean }): string[] {
  const notes: string[] = []
  if (isolation === null)
    notes.push(
      'Builds cannot be isolated here: run as root, or allow user namespaces (sysctl user.max_user_namespaces).',
    )
  if (isolation === 'single')
    notes.push(
      'Build roots need root, or a range of ids for this user in /etc/subuid and /etc/subgid with uidmap installed.',
    )
  if (!limits.memory)
    notes.push('Memory of builds is not limited: run as root, or under systemd with Delegate=yes.')
  if (!limits.processes)
    notes.push(
      'Processes of builds are limited by user only: run as root, or under systemd with Delegate=yes.',
    )
  return notes
}

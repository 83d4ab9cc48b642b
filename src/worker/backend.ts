import { createHash } from 'node:crypto'
import { constants, existsSync, mkdirSync } from 'node:fs'
import { access, copyFile, readFile, realpath, writeFile } from 'node:fs/promises'
import { totalmem } from 'node:os'
import { basename, delimiter, dirname, join, resolve } from 'node:path'
import { asset } from '../assets.ts'
import { Complaint, didYouMean, during } from '../errors.ts'
import type { Reason } from '../wire/reasons.ts'
import { openControlGroup, type Exceeded } from './cgroup.ts'
import { watchDisk } from './disk.ts'
import { environmentOf } from './environment.ts'
import { runProcess, type ProcessResult } from './process.ts'
import {
  findUserNamespace,
  placeSandbox,
  removeFolder,
  type SandboxPlan,
  type UserNamespace,
} from './sandbox.ts'
import { readTold } from './told.ts'

/** One `[backend.NAME]` of the worker's settings; `path` may be `built-in:debian` for a script we bring. */
export type BackendSettings = {
  name: string
  path: string
  /** Handed to the script as `REBUILDERD_BACKEND_<KEY IN CAPITALS>`; lists are joined by line ends. */
  options: Readonly<Record<string, string | boolean | number | readonly string[]>>
}

export type BackendJob = {
  name: string
  version: string
  distribution: string
  release: string | null
  architecture: string
  inputUrl: string
  /** File names that the build is expected to make. */
  artifacts: readonly string[]
}

export type BackendLimits = {
  /** Memory of all processes together; null: no limit. */
  memoryBytes: number | null
  /** Processes and threads at once; null: no limit. */
  processes: number | null
  /** Largest single file. */
  fileBytes: number
  /** The build is stopped when the disk has less free than this. */
  minFreeBytes: number
}

/** Nine tenths of the memory: the machine and the worker must outlive the build. */
export const defaultLimits: BackendLimits = {
  memoryBytes: Math.floor(totalmem() * 0.9),
  processes: 8192,
  fileBytes: 64 * 1024 ** 3,
  minFreeBytes: 512 * 1024 ** 2,
}

export type BackendRun = {
  backend: BackendSettings
  /** The downloaded build input; the script gets a copy, so nothing beside it can be reached. */
  input: string
  /** Empty scratch folder of this job (mode 0700); the originals must not be below it. */
  directory: string
  job: BackendJob
  /** Folder that persists between jobs: build roots, package lists. */
  cache: string
  timeoutSeconds: number
  /** Bytes of output that are kept; null: `defaultLogBytes`. */
  maxLogBytes: number | null
  /** For the caller, who may copy `onLog` to our own output; nothing here prints. */
  silent: boolean
  isolation: 'auto' | 'require' | 'off'
  /** What no build may read although it lies below a system folder: folders of workers, files with secrets. */
  hidden?: readonly string[]
  limits?: BackendLimits
  /** The log while it grows: the same bytes, in the same order. */
  onLog?: (chunk: Uint8Array) => void
  /** Called once the script is about to run. */
  onStart?: (() => void) | undefined
  /** Once aborted everything is killed, and the promise rejects with the signal's reason. */
  signal: AbortSignal
}

/** What a script left in `REBUILDERD_RESULT`. */
export type BackendTold = {
  reason: Reason | null
  note: string | null
  /** Packages of the build environment, `name=version`. */
  environment: string[]
  /** Recorded packages that were nowhere to be had, `name=version`. */
  missing: string[]
  /** Built with today's toolchain instead of the recorded one. */
  presentToolchain: boolean
}

export type BackendResult = {
  exitCode: number | null
  killedBy: string | null
  timedOut: boolean
  seconds: number
  /** stdout and stderr in order of arrival, valid UTF-8. */
  log: Uint8Array
  logTruncated: boolean
  isolation: 'namespaces' | 'none'
  /** Of what was run, as `digestOfScripts` tells it: hex. */
  digest: string
  /** Where the outputs are; only plain files in it may be trusted. */
  outdir: string
  told: BackendTold | null
  /** Resolves when nothing of the system is held any more; never rejects. To be waited for before the end. */
  cleared: Promise<void>
  /** Removes all but the outputs, for whoever wants the room before all of the folder is removed. */
  tidy: () => Promise<void>
}

/** A script that comes with us. */
export type BuiltIn = {
  name: string
  doc: string
  script: string
  /** Another way for this distribution, which has to be chosen: `[backend.debian] path = "built-in:debrebuild"`. */
  instead?: string
}

/** Scripts that come with us, by the name of the distribution they build for. */
export const builtInBackends: readonly BuiltIn[] = [
  {
    name: 'debian',
    doc: 'Debian packages from .buildinfo or .dsc, in the recorded environment',
    script: 'backends/debian.sh',
  },
  {
    name: 'debrebuild',
    doc: 'Debian packages from .buildinfo, with debrebuild of devscripts, where the configuration says so; it downloads by itself, and the network is on while it builds',
    script: 'backends/debrebuild.sh',
    instead: 'debian',
  },
  {
    name: 'archlinux',
    doc: 'Arch Linux packages, with repro, which downloads by itself with the network on all the time, or makepkg',
    script: 'backends/archlinux.sh',
  },
  {
    name: 'fedora',
    doc: 'Fedora packages, with mock or rpmbuild',
    script: 'backends/fedora.sh',
  },
]

/** What lies beside each script that comes with us, and is used by it or around it. */
const helpers = ['backends/fetch.sh', 'backends/sandbox.pl'] as const

/** The files of a backend that comes with us, by the name that each has beside the others. */
export function scriptsOf({ script }: BuiltIn): Map<string, Uint8Array> {
  return new Map([script, ...helpers].sort().map((name) => [basename(name), asset(name)]))
}

/**
 * The digest of a backend that comes with us: over all of its files, since each of them decides what a verdict is
 * worth. It is what `sha256sum debian.sh fetch.sh sandbox.pl | sha256sum` prints of them.
 */
export function digestOfScripts(files: ReadonlyMap<string, Uint8Array>): string {
  const lines = [...files]
    .sort(([a], [b]) => (a < b ? -1 : 1))
    .map(([name, bytes]) => `${sha256(bytes)}  ${name}\n`)
  return sha256(Buffer.from(lines.join('')))
}

function sha256(bytes: Uint8Array): string {
  return createHash('sha256').update(bytes).digest('hex')
}

/** Those that are used without being chosen. */
export const usualBackends = builtInBackends.filter(({ instead }) => instead === undefined)

/**
 * Rebuilds one input with a backend's script: in namespaces where this machine allows it, with a copy of the input,
 * an empty output folder and a scratch folder, and nothing else of the worker in sight.
 * No process is left when this resolves, and nothing but files in the folder of the job once `cleared` does, whatever
 * the build did.
 * @throws Complaint where the script is missing, or isolation is required and cannot be had
 * @throws the signal's reason once aborted
 */
export async function runBackend(run: BackendRun): Promise<BackendResult> {
  const place = await prepare(run)
  const bounds = run.limits ?? defaultLimits
  const userNamespace = run.isolation === 'off' ? null : await findUserNamespace(place.sandbox, run.signal)
  if (userNamespace === null && run.isolation === 'require') throw notIsolated()
  const group = await openControlGroup(bounds)
  const disk = watchDisk(run.directory, bounds.minFreeBytes)
  let cleared: Promise<void> | undefined
  const clear = async (): Promise<void> => {
    await group.kill()
    await group.remove()
  }
  const tidy = async (): Promise<void> => {
    await cleared
    await removeScratch(place).catch(() => undefined) // whoever removes the job's folder tells
  }
  try {
    const processes = group.limited.processes ? null : bounds.processes
    const running = runProcess({
      command: commandOf(place),
      sandbox: sandboxOf(run, place, userNamespace, processes),
      directory: run.cache,
      environment: environmentOf(run, place, userNamespace !== null),
      timeoutSeconds: run.timeoutSeconds,
      maxLogBytes: run.maxLogBytes,
      maxFileBytes: bounds.fileBytes,
      onLog: run.onLog,
      group,
      mark: `REBUILDERD_OUTDIR=${place.outdir}`,
      stop: disk.full,
      signal: run.signal,
    })
    run.onStart?.()
    const ended = await running
    const exceeded = disk.full.aborted ? 'disk' : group.exceeded()
    const told = refined(readTold(place.result), ended, exceeded)
    return {
      ...ended,
      isolation: userNamespace === null ? 'none' : 'namespaces',
      digest: place.digest,
      outdir: place.outdir,
      told,
      cleared: (cleared = clear()),
      tidy,
    }
  } finally {
    disk.close()
    if (cleared === undefined) {
      cleared = clear()
      await tidy()
    }
  }
}

/** The script of a built-in backend, as a setting. */
export function builtInBackend(name: string): BackendSettings {
  if (!usualBackends.some((known) => known.name === name)) throw unknownBackend(name)
  return { name, path: `built-in:${name}`, options: {} }
}

function unknownBackend(name: string): Complaint {
  const known = usualBackends.map((backend) => backend.name)
  const hint =
    didYouMean(name, known) ?? `built in are ${known.join(', ')}; others are scripts: --backend ${name}=PATH`
  return new Complaint(`there is no built-in backend ${name}`, { hint })
}

function notIsolated(): Complaint {
  return new Complaint('this machine does not let us isolate builds', {
    hint: 'run the worker as root, allow user namespaces (sysctl user.max_user_namespaces), or drop --require-isolation',
  })
}

type Place = {
  input: string
  outdir: string
  temporary: string
  home: string
  tools: string
  result: string
  sandbox: string
  script: string
  builtIn: boolean
  digest: string
}

/** Makes the folders of a job and puts the scripts where they can be run. */
async function prepare(run: BackendRun): Promise<Place> {
  const folder = (name: string) => join(run.directory, name)
  const tools = folder('tools')
  mkdirSync(run.cache, { recursive: true, mode: 0o755 })
  for (const name of ['inputs', 'out', 'tmp', 'home', 'tools']) mkdirSync(folder(name), { mode: 0o700 })
  const input = join(folder('inputs'), basename(run.input))
  const [script, sandbox] = await Promise.all([
    scriptOf(run.backend),
    placeSandbox(tools),
    during('copying the build input', () => copyFile(run.input, input, constants.COPYFILE_FICLONE)),
  ])
  for (const [name, bytes] of script.files) {
    if (name !== basename(sandbox)) await writeFile(join(tools, name), bytes, { mode: 0o500 })
  }
  return {
    input,
    outdir: folder('out'),
    temporary: folder('tmp'),
    home: folder('home'),
    tools,
    result: join(folder('home'), 'result.json'),
    sandbox,
    script: script.path ?? join(tools, script.name),
    builtIn: script.path === null,
    digest: script.digest,
  }
}

/** Of a script of somebody else we know no more than itself. */
async function scriptOf(
  backend: BackendSettings,
): Promise<{ name: string; path: string | null; files: ReadonlyMap<string, Uint8Array>; digest: string }> {
  const name = /^built-in:(.*)$/.exec(backend.path)?.[1]
  if (name !== undefined) {
    const known = builtInBackends.find((one) => one.name === name)
    if (known === undefined) throw unknownBackend(name)
    const files = scriptsOf(known)
    return { name: basename(known.script), path: null, files, digest: digestOfScripts(files) }
  }
  const path = await located(backend.path)
  return { name: path, path, files: new Map(), digest: sha256(await readFile(path)) }
}

/** As the system does it: a bare name is looked for in PATH, everything else is a path. */
async function located(path: string): Promise<string> {
  const candidates = path.includes('/')
    ? [resolve(path)]
    : (process.env['PATH'] ?? '').split(delimiter).map((folder) => join(folder, path))
  for (const candidate of candidates) {
    const found = await access(candidate, constants.X_OK).then(
      () => candidate,
      () => null,
    )
    if (found !== null) return realpath(found)
  }
  throw new Complaint(`cannot run the backend script ${path}`, {
    hint: 'it must exist and be executable (chmod +x)',
  })
}

function commandOf(place: Place): [string, ...string[]] {
  return place.builtIn ? ['/bin/bash', place.script, place.input] : [place.script, place.input]
}

function sandboxOf(
  run: BackendRun,
  place: Place,
  userNamespace: UserNamespace | null,
  processes: number | null,
): SandboxPlan | undefined {
  if (userNamespace === null) return undefined
  return {
    script: place.sandbox,
    userNamespace,
    // Originals may lie beside the input or beside the job; system folders are the only other places in sight.
    hidden: [
      dirname(run.input),
      dirname(run.directory),
      ...(run.hidden ?? []).filter((path) => existsSync(path)),
    ],
    readable: [
      ...(place.builtIn ? [] : [place.script]),
      place.tools,
      ...listOf(run.backend, 'readable_paths'),
    ],
    writable: [
      dirname(place.input),
      place.outdir,
      place.home,
      run.cache,
      ...listOf(run.backend, 'writable_paths'),
    ],
    temporary: place.temporary,
    network: true,
    processes,
    directory: run.cache,
  }
}

function listOf(backend: BackendSettings, key: string): readonly string[] {
  const value = backend.options[key]
  if (typeof value === 'string') return [value]
  return Array.isArray(value) ? (value as readonly string[]) : [] // the type allows no other arrays
}

/** Limits that were hit explain a failure better than the build's own last words. */
function refined(
  told: BackendTold | null,
  ended: ProcessResult,
  exceeded: Exceeded | 'disk',
): BackendTold | null {
  if (exceeded === null || (ended.exitCode === 0 && ended.killedBy === null)) return told
  const nothing: BackendTold = {
    reason: null,
    note: null,
    environment: [],
    missing: [],
    presentToolchain: false,
  }
  const [reason, note] = limits[exceeded]
  return { ...nothing, ...told, reason, note }
}

const limits: Record<'memory' | 'processes' | 'machine' | 'disk', readonly [Reason, string]> = {
  memory: ['too_large', 'the build reached the limit on memory'],
  processes: ['too_large', 'the build reached the limit on processes'],
  machine: ['backend_error', 'the machine ran out of memory'],
  disk: ['no_space', 'the disk ran full during the build'],
}

async function removeScratch(place: Place): Promise<void> {
  await Promise.all([place.temporary, place.home, place.tools, dirname(place.input)].map(removeFolder))
}

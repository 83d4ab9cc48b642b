import type { Reason } from '../wire/reasons.ts'

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
  silent: boolean
  isolation: 'auto' | 'require' | 'off'
  /** The log while it grows: the same bytes, in the same order. */
  onLog?: (chunk: Uint8Array) => void
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
  /** SHA-256 of the script, hex. */
  digest: string
  /** Where the outputs are; only plain files in it may be trusted. */
  outdir: string
  told: BackendTold | null
}

/** Scripts that come with us, by the name of the distribution they build for. */
export const builtInBackends: readonly { name: string; doc: string; script: string }[] = [
  {
    name: 'debian',
    doc: 'Debian packages from .buildinfo or .dsc, in the recorded environment',
    script: 'backends/debian.sh',
  },
  {
    name: 'archlinux',
    doc: 'Arch Linux packages, with repro or makepkg',
    script: 'backends/archlinux.sh',
  },
  {
    name: 'fedora',
    doc: 'Fedora packages, with mock or rpmbuild',
    script: 'backends/fedora.sh',
  },
]

/** Rebuilds one input with a backend's script. */
export async function runBackend(run: BackendRun): Promise<BackendResult> {
  throw new Error(`not yet able to run ${run.backend.path}`)
}

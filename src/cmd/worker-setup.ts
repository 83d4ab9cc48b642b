import { access } from 'node:fs/promises'
import { arch, homedir } from 'node:os'
import { join, resolve } from 'node:path'
import { isTable, loadSettings, workerSettings, type WorkerSettings } from '../config.ts'
import { chainOf, Complaint, fileProblem } from '../errors.ts'
import { builtInBackend, usualBackends, type BackendSettings } from '../worker/backend.ts'
import { cacheLimit } from '../worker/cache.ts'
import { checkBackends } from '../worker/doctor.ts'
import type { DiffoscopeSettings } from '../worker/diffoscope.ts'
import { openIdentity, type Identity } from '../worker/identity.ts'
import { readLogRules } from '../worker/logrules.ts'
import type { RebuildSettings } from '../worker/rebuild.ts'
import { flag, text, texts, type Context, type Given, type OptionsTable } from './command.ts'

/** What all verbs of the worker take. */
export const setupOptions = {
  config: text('Configuration to read; else /etc/rebuilderd-worker.conf if there is one', {
    short: 'c',
    placeholder: 'FILE',
    environment: 'REBUILDERD_WORKER_CONFIG',
  }),
  name: text('Name of this worker, and of its folder below the state folder', {
    short: 'n',
    placeholder: 'NAME',
  }),
  data: text(
    'Folder of the key and all work; default /var/lib/rebuilderd-worker[/NAME] as root, else below ~/.local/state',
    { placeholder: 'DIR' },
  ),
  backend: texts('Script that rebuilds for a distribution; built-in:debian names one of ours', {
    placeholder: 'DISTRO=PATH',
    environment: 'REBUILDERD_WORKER_BACKEND',
  }),
  requireIsolation: flag('Refuse to build where this machine cannot keep builds apart'),
} as const satisfies OptionsTable
type SetupOptions = Given<typeof setupOptions>

type Environment = Context['environment']

/** The settings in force: the file that was named, else the usual one where there is one. */
export async function settingsOf(given: SetupOptions, environment: Environment): Promise<WorkerSettings> {
  const usual = '/etc/rebuilderd-worker.conf'
  const isThere = await access(usual).then(
    () => true,
    () => false,
  )
  const files = given.config === undefined ? (isThere ? [usual] : []) : [given.config]
  return loadSettings(workerSettings, files, environment)
}

/** Where a worker keeps its key, spool and scratch folders (specifications.freedesktop.org/basedir-spec). */
function workerFolder(given: Pick<SetupOptions, 'data' | 'name'>, environment: Environment): string {
  if (given.data !== undefined) return resolve(given.data)
  if (given.name !== undefined && !/^[A-Za-z0-9_][A-Za-z0-9_.@-]*$/.test(given.name))
    throw new Complaint(`${given.name} cannot name a folder`, {
      hint: 'use letters, digits and _.@-, or give --data DIR',
      exitCode: 2,
    })
  const state = environment['XDG_STATE_HOME'] ?? ''
  const home = join(environment['HOME'] ?? homedir(), '.local/state')
  const base = process.getuid?.() === 0 ? '/var/lib' : state.startsWith('/') ? state : home
  return join(base, 'rebuilderd-worker', given.name ?? '')
}

/**
 * The backends of the configuration, those of the command line over them; where none is named, those of ours
 * that this machine has the programs for.
 */
export async function backendsOf(
  settings: WorkerSettings,
  given: SetupOptions,
  signal: AbortSignal,
): Promise<Map<string, BackendSettings>> {
  const named = [...configured(settings), ...given.backend.map(backendOfOption)]
  if (named.length > 0) return new Map(named.map((backend) => [backend.name, backend]))
  const { backends } = await checkBackends(signal, usualBackends)
  return new Map(backends.filter(({ works }) => works).map(({ name }) => [name, builtInBackend(name)]))
}

function configured({ backend }: WorkerSettings): BackendSettings[] {
  return Object.entries(backend).map(([name, entry]) => {
    if (!isTable(entry))
      throw new Complaint(`backend.${name} must be a table: [backend.${name}]`, { exitCode: 2 })
    const { path, ...options } = entry
    if (path === undefined) return { ...builtInBackend(name), options: optionsOf(name, options) }
    if (typeof path !== 'string')
      throw new Complaint(`backend.${name}.path must be text in quotes`, { exitCode: 2 })
    return { name, path, options: optionsOf(name, options) }
  })
}

function optionsOf(name: string, options: Record<string, unknown>): BackendSettings['options'] {
  for (const [key, value] of Object.entries(options)) {
    const isList = Array.isArray(value) && value.every((item) => typeof item === 'string')
    if (!isList && !['string', 'boolean', 'number'].includes(typeof value))
      throw new Complaint(`backend.${name}.${key} must be text, a number, true, false or a list of texts`, {
        exitCode: 2,
      })
  }
  return options as BackendSettings['options'] // each member was just looked at
}

/** `debian=/path/to/script` */
function backendOfOption(given: string): BackendSettings {
  const [, name, path] = /^([^=]+)=(.+)$/.exec(given) ?? []
  if (name === undefined || path === undefined)
    throw new Complaint(`--backend ${given} does not say which script`, {
      hint: 'write it like --backend debian=/usr/libexec/rebuilderd/rebuilder-debian.sh',
      exitCode: 2,
    })
  const isBare = !path.includes('/') && !path.startsWith('built-in:')
  return { name, path: isBare || path.startsWith('built-in:') ? path : resolve(path), options: {} }
}

/** How diffoscope is run, by the settings. */
export function diffoscopeOf(settings: WorkerSettings): DiffoscopeSettings {
  return {
    args: settings['diffoscope.args'],
    timeoutSeconds: settings['diffoscope.timeout'],
    maxBytes: settings['diffoscope.max_bytes'],
    html: settings['diffoscope.html'],
  }
}

type Setup = { settings: WorkerSettings; folder: string; identity: Identity; rebuild: RebuildSettings }

/** Everything that rebuilding needs, from configuration and command line; makes the worker's key when it is new. */
export async function setUp(given: SetupOptions, { environment, signal }: Context): Promise<Setup> {
  const settings = await settingsOf(given, environment)
  const folder = workerFolder(given, environment)
  const backends = await backendsOf(settings, given, signal)
  const identity = await openIdentity(folder).catch((error: unknown) => {
    throw unusable(folder, error)
  })
  const rebuild: RebuildSettings = {
    backends,
    diffoscope: settings['diffoscope.enabled'] ? diffoscopeOf(settings) : null,
    key: identity.key,
    originals: { directory: join(folder, 'cache', 'originals'), limit: cacheLimit },
    cache: join(folder, 'cache', 'build'),
    timeoutSeconds: settings['build.timeout'],
    maxLogBytes: settings['build.max_bytes'],
    silent: settings['build.silent'],
    logRules: await readLogRules(settings['build.log_rules']),
    isolation: given.requireIsolation ? 'require' : 'auto',
    hidden: [folder, ...(given.config === undefined ? [] : [resolve(given.config)]), ...secretFiles],
  }
  return { settings, folder, identity, rebuild }
}

/** Where secrets of a rebuilder usually are; a build sees /etc, and its log is public. */
const secretFiles = [
  '/etc/rebuilderd-worker.conf',
  '/etc/rebuilderd.conf',
  '/etc/rebuilderd-sync.conf',
  '/etc/default/rebuilderd-worker',
  '/etc/default/rebuilderd',
]

function unusable(folder: string, error: unknown): unknown {
  const isOfFile =
    error instanceof Complaint || chainOf(error).some((link) => fileProblem(link) !== undefined)
  if (!isOfFile) return error
  return new Complaint(`cannot use the folder ${folder}`, {
    hint: 'give another folder: --data DIR',
    cause: error,
  })
}

// What Node, the Linux kernel's world and Debian call one architecture.
const architectures: Readonly<Record<string, readonly [string, ...string[]]>> = {
  x64: ['x86_64', 'amd64'],
  arm64: ['aarch64', 'arm64'],
  ia32: ['x86', 'i386'],
  arm: ['arm', 'armhf', 'armv7h'],
  ppc64: ['powerpc64', 'ppc64el', 'ppc64le'],
  riscv64: ['riscv64'],
  s390x: ['s390x'],
  loong64: ['loongarch64', 'loong64'],
}

/** What to ask the server for: as configured, else what this machine is, under all its names. */
export function architecturesOf(settings: WorkerSettings): { native: string; supported: readonly string[] } {
  const names = architectures[arch()] ?? [arch()]
  const chosen = settings.supported_architectures
  return { native: names[0], supported: chosen.length > 0 ? chosen : [...names, 'all'] }
}

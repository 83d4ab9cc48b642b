import { readFile } from 'node:fs/promises'
import { parse } from 'smol-toml'
import { Complaint, didYouMean } from './errors.ts'

/** One setting: what it holds, its default, one sentence, and the environment variable that wins over the file. */
export type Setting<T> = {
  readonly kind: 'words' | 'count' | 'flag' | 'list' | 'table' | 'tables'
  readonly fallback: T
  readonly doc: string
  readonly environment: string | undefined
}

/** Text; null: none where it is not set. */
function words(fallback: string, doc: string, environment?: string): Setting<string>
function words(fallback: null, doc: string, environment?: string): Setting<string | null>
function words(fallback: string | null, doc: string, environment?: string): Setting<string | null> {
  return { kind: 'words', fallback, doc, environment }
}
/** A whole number, not below 0. */
function count(fallback: number, doc: string, environment?: string): Setting<number>
function count(fallback: null, doc: string, environment?: string): Setting<number | null>
function count(fallback: number | null, doc: string, environment?: string): Setting<number | null> {
  return { kind: 'count', fallback, doc, environment }
}
/** True or false. */
function flag(fallback: boolean, doc: string): Setting<boolean> {
  return { kind: 'flag', fallback, doc, environment: undefined }
}
/** A list of texts. */
function list(doc: string): Setting<readonly string[]> {
  return { kind: 'list', fallback: [], doc, environment: undefined }
}
/** A table whose keys the operator chooses: `[endpoints."URL"]`, `[backend.debian]`, `[profile.trixie]`. */
function table(doc: string): Setting<Readonly<Record<string, unknown>>> {
  return { kind: 'table', fallback: {}, doc, environment: undefined }
}
/** An array of tables: `[[sync]]`. */
function tables(doc: string): Setting<readonly Readonly<Record<string, unknown>>[]> {
  return { kind: 'tables', fallback: [], doc, environment: undefined }
}

export type SettingsTable = Readonly<Record<string, Setting<unknown>>>
type Settings<T extends SettingsTable> = {
  readonly [Name in keyof T]: T[Name] extends Setting<infer V> ? V : never
}

/** rebuilderd.conf(5): the server reads it, ctl and worker read the client's part of it. */
export const serverSettings = {
  'http.bind_addr': words('127.0.0.1:8484', 'Address and port to listen on.', 'HTTP_ADDR'),
  'http.base_path': words(
    '',
    'Path under which everything is served, such as /amd64, behind a proxy that keeps it.',
  ),
  'http.real_ip_header': words(
    null,
    'Header in which a proxy tells the address of the caller, such as X-Real-IP; of several, the last is taken.',
  ),
  'http.post_body_size_limit': count(
    1_073_741_824,
    'Largest report accepted, in bytes, before and after decompression.',
  ),
  'http.max_connections': count(
    4096,
    'Connections at once, half of them from one address. Beyond that idle ones are closed; where none is, workers and administrators are let in, a quarter more, and others told to come back (503).',
  ),
  'http.transparently_sign_attestations': flag(
    true,
    'Countersign attestations that were checked with the key of this server.',
  ),
  'http.endpoint': words('http://127.0.0.1:8484', 'Server that ctl talks to.'),
  'auth.cookie': words(null, 'Secret of the administrators. Unset: a file with a random one is made.'),
  endpoints: table('Cookies for other servers: [endpoints."https://rebuilder.example"] cookie = "…".'),
  'worker.authorized_workers': list(
    'Keys of the workers that may register. Empty: any key, with the sign-up secret.',
  ),
  'worker.signup_secret': words(null, 'Secret that a worker needs to register.', 'REBUILDERD_SIGNUP_SECRET'),
  'worker.require_proof': flag(
    false,
    'Only workers that prove to hold their key; those of other programs cannot.',
  ),
  'schedule.retry_delay_base': count(
    24,
    'Hours until a failed rebuild is tried again, once more per try: 24, 48, 72, …',
  ),
  'schedule.max_retries': count(null, 'Leave a package alone after this many tries. Unset or 0: never.'),
  'schedule.infrastructure_retry_minutes': count(
    10,
    'Minutes until a job is tried again that failed for want of infrastructure, doubled per try.',
  ),
  'schedule.infrastructure_max_retries': count(
    8,
    'After this many failures of infrastructure in a row, wait as long as for other failures.',
  ),
  'schedule.initial_delay': count(0, 'Seconds before a newly listed package is due.'),
  'schedule.lease_seconds': count(540, 'Seconds without a ping after which a job is taken from its worker.'),
  'schedule.rule': tables(
    'Rules for packages: [[schedule.rule]] distribution, release, source (a glob), larger_than (bytes) → priority, tags that the worker must have.',
  ),
  'retention.logs_per_package': count(
    10,
    'Attempts per package and architecture that keep their logs and diffs; the latest result always does, verdicts and attestations stay for ever. 0: all.',
  ),
  'web.enabled': flag(true, 'Serve pages for people beside the API.'),
  'web.title': words('rebuilderd', 'Title of the pages, such as the name of your rebuilder.'),
  'web.logo': words(null, 'Image beside the title: a path on this server, such as /static/logo.svg.'),
  'web.link': words(null, 'Address that the foot of every page links to: who runs this rebuilder.'),
  'web.public_url': words(
    null,
    'Address under which people reach these pages, such as https://rebuilder.example/amd64: feeds, commands and badges name it. Unset: the one that each request was sent to.',
  ),
  'web.sitemap': flag(false, 'Give search engines /sitemap.xml with every listed source package.'),
  sync: tables(
    'Archives that the server syncs by itself: [[sync]] name, every = "15m", and the members of a profile.',
  ),
  rebuilder: tables(
    'Who `rebuilderd ctl check` asks: [[rebuilder]] url, public_key, distributions, architectures.',
  ),
  'import.shrink_limit_percent': count(
    50,
    'Refuse a package report that lists fewer packages than this share of the last one.',
  ),
} as const satisfies SettingsTable
export type ServerSettings = Settings<typeof serverSettings>

/** rebuilderd-worker.conf(5) */
export const workerSettings = {
  endpoint: words(null, 'Server to take jobs from.'),
  signup_secret: words(null, "The server's sign-up secret.", 'REBUILDERD_SIGNUP_SECRET'),
  supported_architectures: list(
    'Architectures to build for, as the distribution names them. Empty: that of this machine, and all.',
  ),
  tags: list(
    'What this machine can do, such as "big": jobs that need a tag go only to workers that have it.',
  ),
  idle_delay: count(180, 'Seconds to wait when there is no work and the server cannot wake us.'),
  'build.timeout': count(86_400, 'Seconds a build may take.'),
  'build.max_bytes': count(null, 'Bytes of build output that are kept.'),
  'build.min_free_bytes': count(
    2_147_483_648,
    'Take no job while the disk of the worker has less free than this many bytes.',
  ),
  'build.log_rules': words(
    null,
    'File with rules for the logs of builds that failed, in place of ours: see samples/log-rules.toml.',
  ),
  'build.silent': flag(false, "Do not copy the build's output to our own."),
  'diffoscope.enabled': flag(false, 'Run diffoscope on files that differ.'),
  'diffoscope.args': list('Arguments for diffoscope, before ours.'),
  'diffoscope.timeout': count(3600, 'Seconds that diffoscope may take.'),
  'diffoscope.max_bytes': count(null, 'Bytes of its output that are kept; it is stopped there.'),
  'diffoscope.html': flag(false, 'Send its HTML page beside the text, to servers that keep it.'),
  backend: table(
    'Scripts that rebuild: [backend.debian] path = "/usr/libexec/rebuilderd/rebuilder-debian.sh".',
  ),
} as const satisfies SettingsTable
export type WorkerSettings = Settings<typeof workerSettings>

/** rebuilderd-sync.conf(5); the members of a profile are checked in src/sync/profile.ts. */
export const syncSettings = {
  profile: table(
    'What to sync: [profile."debian-trixie"] distro, source, components, releases, architectures, include, …',
  ),
} as const satisfies SettingsTable

/**
 * Reads settings from TOML files (toml.io); later files win setting by setting, the environment over all.
 * @param environment values by variable name, usually `process.env`
 * @throws Complaint naming file and setting where one is unknown or of the wrong type
 */
export async function loadSettings<const T extends SettingsTable>(
  known: T,
  files: readonly string[],
  environment: Readonly<Record<string, string | undefined>> = {},
  ignored: SettingsTable = {},
): Promise<Settings<T>> {
  const found = new Map<string, unknown>()
  for (const file of files) {
    for (const [name, value] of settingsIn(await parsed(file), { ...ignored, ...known }, file))
      found.set(name, value)
  }
  for (const [name, setting] of Object.entries(known)) {
    const given = setting.environment === undefined ? undefined : environment[setting.environment]
    if (given !== undefined && given !== '') found.set(name, setting.kind === 'count' ? Number(given) : given)
  }
  const all = Object.entries(known).map(([name, setting]) => [name, found.get(name) ?? setting.fallback])
  return Object.fromEntries(all) as Settings<T> // each value was checked against its setting
}

async function parsed(file: string): Promise<Record<string, unknown>> {
  let content: string
  try {
    content = await readFile(file, 'utf8')
  } catch (error) {
    throw new Complaint(`cannot read ${file}`, { cause: error, exitCode: 2 })
  }
  try {
    return parse(content)
  } catch (error) {
    throw new Complaint(
      `${file} is not valid TOML: ${error instanceof Error ? firstLines(error.message) : ''}`,
      { exitCode: 2 },
    )
  }
}

function firstLines(message: string): string {
  return message.split('\n').slice(0, 6).join('\n')
}

/** Dotted names and values of a parsed file. */
function* settingsIn(
  content: Record<string, unknown>,
  known: SettingsTable,
  file: string,
  prefix = '',
): Generator<[string, unknown]> {
  for (const [key, value] of Object.entries(content)) {
    const name = prefix + key
    const setting = known[name]
    if (setting !== undefined) yield [name, checkedValue(name, setting, value, file)]
    else if (isTable(value) && Object.keys(known).some((other) => other.startsWith(`${name}.`))) {
      yield* settingsIn(value, known, file, `${name}.`)
    } else {
      const hint = didYouMean(name, Object.keys(known))
      throw new Complaint(`${file}: unknown setting ${name}`, { hint, exitCode: 2 })
    }
  }
}

/** Whether a value read from TOML is a table. */
export function isTable(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value) && !(value instanceof Date)
}

const kinds: Record<Setting<unknown>['kind'], { is: (value: unknown) => boolean; name: string }> = {
  words: { is: (value) => typeof value === 'string', name: 'text in quotes' },
  count: {
    is: (value) => typeof value === 'number' && Number.isInteger(value) && value >= 0,
    name: 'a whole number',
  },
  flag: { is: (value) => typeof value === 'boolean', name: 'true or false' },
  list: {
    is: (value) => Array.isArray(value) && value.every((item) => typeof item === 'string'),
    name: 'a list of texts',
  },
  table: { is: isTable, name: 'a table' },
  tables: { is: (value) => Array.isArray(value) && value.every(isTable), name: 'an array of tables' },
}

function checkedValue(name: string, setting: Setting<unknown>, value: unknown, file: string): unknown {
  const kind = kinds[setting.kind]
  if (!kind.is(value)) throw new Complaint(`${file}: ${name} must be ${kind.name}`, { exitCode: 2 })
  return value
}

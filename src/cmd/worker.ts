import { hostname, tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { openClient } from '../client.ts'
import { Complaint, during } from '../errors.ts'
import { makeFolders } from '../folders.ts'
import { printable } from '../log.ts'
import { builtInBackends, digestOfScripts, scriptsOf } from '../worker/backend.ts'
import { diffoscope } from '../worker/diffoscope.ts'
import { checkBackends, type BackendHealth } from '../worker/doctor.ts'
import { runWorker } from '../worker/loop.ts'
import { command, flag, number, text, texts, type Command, type Context, type Given } from './command.ts'
import { folded } from './help.ts'
import { shownJson } from './output.ts'
import { build } from './worker-build.ts'
import { architecturesOf, backendsOf, diffoscopeOf, setUp, settingsOf, setupOptions } from './worker-setup.ts'

const connectOptions = {
  ...setupOptions,
  secret: text("The server's sign-up secret; else signup_secret of the configuration", {
    placeholder: 'SECRET',
  }),
  jobs: number('Jobs at once', { min: 1, max: 256, placeholder: 'N' }),
  tag: texts('What this machine can do, such as big; beside the tags of the configuration', {
    placeholder: 'WORD',
  }),
}

const connectMore = {
  details:
    'The worker registers, takes jobs whose distribution it has a backend for, and sends what it finds. ' +
    'SIGTERM lets it finish what it has; a second one drops that and hands it back. ' +
    'A file named rebuilderd.restart in its folder makes it end after the job at hand.',
  examples: [
    'rebuilderd worker --secret SECRET https://rebuilder.example',
    'rebuilderd worker --secret SECRET --jobs 4 --backend debian=/usr/local/bin/rebuild-debian.sh https://rebuilder.example',
  ],
  pace: 'busy',
} as const

const connectDoc = 'Take jobs from a server and rebuild them'
const worker = command(
  'worker [url]',
  connectDoc,
  connectOptions,
  async ([url], given, context) => connect(url, given, context),
  connectMore,
)
const workerConnect = command(
  'worker connect [url]',
  connectDoc,
  connectOptions,
  async ([url], given, context) => connect(url, given, context),
  connectMore,
)

async function connect(
  url: string | undefined,
  given: Given<typeof connectOptions>,
  context: Context,
): Promise<void> {
  const { settings, folder, identity, rebuild } = await setUp(given, context)
  const base = url ?? settings.endpoint
  if (base === null) throw noServer()
  refuseToDoNothing(rebuild.backends.size)
  const { log } = context
  const { isolation } = await checkBackends(context.signal, [])
  if (isolation === null && given.requireIsolation) throw notIsolated()
  if (isolation === null) log.warning('worker: builds cannot be isolated here; results will say so')
  if (isolation === 'single')
    log.warning('worker: no build roots can be made here; `rebuilderd worker doctor` says what would help')
  log.info(`worker: backends ${[...rebuild.backends.keys()].join(', ')}; folder ${folder}`)
  const { workerKey } = identity
  await runWorker({
    client: openClient({
      base,
      workerKey,
      signupSecret: given.secret ?? settings.signup_secret ?? undefined,
    }),
    name: given.name ?? hostname(),
    directory: folder,
    settings: { ...rebuild, alone: (given.jobs ?? 1) === 1 },
    workerKey,
    tags: [...new Set([...settings.tags, ...given.tag])],
    architectures: architecturesOf(settings),
    jobs: given.jobs ?? 1,
    idleSeconds: settings.idle_delay,
    minFreeBytes: settings['build.min_free_bytes'],
    log,
    signal: context.signal,
    drop: context.hurry(),
  })
}

function noServer(): Complaint {
  return new Complaint('no server was named', {
    hint: 'rebuilderd worker --secret SECRET http://127.0.0.1:8484, or endpoint in /etc/rebuilderd-worker.conf',
    exitCode: 2,
  })
}

function notIsolated(): Complaint {
  return new Complaint('this machine does not let us isolate builds', {
    hint: '`rebuilderd worker doctor` says what would help; or drop --require-isolation',
  })
}

function refuseToDoNothing(backends: number): void {
  if (backends > 0) return
  throw new Complaint('this worker could rebuild nothing: no backend finds its programs here', {
    hint: '`rebuilderd worker doctor` names what is missing; --backend DISTRO=PATH names a script of your own',
  })
}

const workerDiffoscope = command(
  'worker diffoscope <original> <rebuilt>',
  'Run diffoscope as the worker does, and print what it says',
  { ...setupOptions, html: text('Leave its HTML page in this file, too', { placeholder: 'FILE' }) },
  async ([original, rebuilt], given, context) => {
    const { html: page } = given
    const settings = await settingsOf(given, context.environment)
    const directory = await mkdtemp(join(tmpdir(), 'rebuilderd-diffoscope-'))
    try {
      const { signal } = context
      const files = [resolve(original), resolve(rebuilt)] as const
      const wanted = { ...diffoscopeOf(settings), html: page !== undefined }
      const {
        text: said,
        html,
        note,
      } = await diffoscope(...files, wanted, { directory, isolation: 'off', signal })
      context.write(context.isTerminal ? printable(new TextDecoder().decode(said), true) : said)
      if (page === undefined) return
      if (html === null) throw new Complaint(note ?? 'there is no HTML page')
      await during('writing the HTML page', () => writeFile(page, html))
    } finally {
      await rm(directory, { recursive: true, force: true })
    }
  },
)

const workerCheckConfig = command(
  'worker check-config',
  'Print the settings in force as JSON, without secrets',
  setupOptions,
  async (_, given, context) => {
    const settings = await settingsOf(given, context.environment)
    const backends = await backendsOf(settings, given, context.signal)
    const paths = [...backends.values()].map(({ name, path, options }) => [name, { path, ...options }])
    context.out(
      shownJson({
        endpoint: settings.endpoint,
        signup_secret: settings.signup_secret === null ? null : '(set, not shown)',
        build: partOf(settings, 'build.'),
        diffoscope: partOf(settings, 'diffoscope.'),
        backend: Object.fromEntries(paths),
        supported_architectures: architecturesOf(settings).supported,
        tags: settings.tags,
        idle_delay: settings.idle_delay,
      }),
    )
  },
)

/** `build.timeout` → `timeout` */
function partOf(settings: Readonly<Record<string, unknown>>, prefix: string): Record<string, unknown> {
  const entries = Object.entries(settings).filter(([name]) => name.startsWith(prefix))
  return Object.fromEntries(entries.map(([name, value]) => [name.slice(prefix.length), value]))
}

const workerBackends = command(
  'worker backends',
  'List the backends: those of the configuration, and those that come with us',
  {
    ...setupOptions,
    scripts: text('Copy the scripts of those that come with us here, to be read and run by hand', {
      placeholder: 'DIR',
    }),
    json: flag('Print one JSON array'),
  },
  async (_, given, context) => {
    if (given.scripts !== undefined) await copyScripts(resolve(given.scripts))
    const settings = await settingsOf(given, context.environment)
    const inForce = await backendsOf(settings, given, context.signal)
    const ours = builtInBackends.map((backend) => {
      const { name, doc, instead } = backend
      const path = `built-in:${name}`
      const isUsed = inForce.get(instead ?? name)?.path === path
      return { name, path, doc, in_force: isUsed, digest: digestOfScripts(scriptsOf(backend)) }
    })
    const theirs = [...inForce.values()].filter(({ path }) => !path.startsWith('built-in:'))
    const scripts = theirs.map(({ name, path }) => ({
      name,
      path,
      doc: 'A script of yours',
      in_force: true,
      digest: null,
    }))
    const listed = [...ours, ...scripts]
    if (given.json) return context.out(shownJson(listed))
    for (const { name, path, doc, in_force } of listed) {
      const begin = `${in_force ? '*' : ' '} ${name.padEnd(12)} ${path.padEnd(20)} `
      const width = context.isTerminal ? Math.max(20, context.columns - begin.length) : Infinity
      context.out(begin + folded(doc, width).join(`\n${' '.repeat(begin.length)}`))
    }
    context.out('* in force here')
  },
)

async function copyScripts(folder: string): Promise<void> {
  await during(`copying scripts to ${folder}`, async () => {
    makeFolders(folder)
    for (const backend of builtInBackends) {
      for (const [name, bytes] of scriptsOf(backend))
        await writeFile(join(folder, name), bytes, { mode: 0o755 })
    }
  })
}

const workerDoctor = command(
  'worker doctor',
  'Check what each backend needs on this machine, and say how to get it',
  { json: flag('Print one JSON document') },
  async (_, { json }, context) => {
    const health = await checkBackends(context.signal)
    const works = health.backends.some((backend) => backend.works)
    if (json) context.out(shownJson(health))
    else {
      for (const backend of health.backends) tellHealth(backend, context)
      context.out(`isolation: ${health.isolation === null ? 'none' : 'namespaces'}`)
      for (const note of health.notes) context.out(note)
    }
    return works ? 0 : 1
  },
  { exits: { 0: 'at least one backend works here', 1: 'none does' } },
)

/** The line that installs what is missing stays one, to be copied. */
function tellHealth(
  { name, doc, works, restricted, uses, missing, install }: BackendHealth,
  { out, columns, isTerminal }: Context,
): void {
  const width = isTerminal ? columns - 4 : Infinity
  const indented = (text: string): void => {
    for (const [index, line] of folded(text, width).entries()) out(`${index === 0 ? '  ' : '    '}${line}`)
  }
  out(`${name}: ${!works ? 'does not work' : restricted === null ? 'works' : 'works in part'}`)
  indented(doc)
  if (restricted !== null) indented(restricted)
  for (const { program, purpose } of uses) indented(`with ${program}, which ${purpose}`)
  for (const { must, or, ...best } of missing) {
    const all = [best, ...or].map(({ program, purpose }) => `${program}, which ${purpose}`)
    indented(
      `${must ? 'missing' : 'not there'}: ${all.join('; or ')}${or.length > 0 ? ' (one is enough)' : ''}`,
    )
  }
  if (install !== null) out(`  ${install}`)
  else if (missing.some(({ must }) => must)) indented('no package of this distribution is known to bring it')
}

export const workerCommands: readonly Command[] = [
  worker,
  workerConnect,
  build,
  workerDiffoscope,
  workerBackends,
  workerDoctor,
  workerCheckConfig,
]

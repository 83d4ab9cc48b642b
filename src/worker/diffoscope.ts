import { constants } from 'node:fs'
import { chmod, mkdir, mkdtemp, open, rm } from 'node:fs/promises'
import { join, relative } from 'node:path'
import { during } from '../errors.ts'
import { defaultLimits } from './backend.ts'
import { openControlGroup } from './cgroup.ts'
import { Failure } from './failure.ts'
import { runProcess } from './process.ts'
import {
  findUserNamespace,
  placeSandbox,
  removeFolder,
  sandboxEnvironment,
  type SandboxPlan,
} from './sandbox.ts'

export type DiffoscopeSettings = {
  /** Before ours on the command line. */
  args: readonly string[]
  /** What diffoscope is told; the process itself gets ten minutes more. */
  timeoutSeconds: number
  /** Bytes of text, at which it is stopped; null: our own bound. */
  maxBytes: number | null
  /** Make its HTML page in the same run. */
  html: boolean
}

type Differences = {
  text: Uint8Array
  /** null where none was asked for, or it is not to be had: then `note` says why. */
  html: Uint8Array | null
  note: string | null
}

/** Bytes that diffoscope may make its page of; it ends one that gets larger with a remark. */
const htmlBytes = 20_000_000
/** It finishes the piece at hand, so a page may get somewhat larger. */
const longestHtml = 2 * htmlBytes

type DiffoscopeOptions = {
  /** Where it may keep temporary files. */
  directory: string
  /** `off`: right on this machine, for files that the caller answers for. */
  isolation: 'auto' | 'require' | 'off'
  signal: AbortSignal
}

/**
 * The differences of two files as text, and as an HTML page where asked for, in diffoscope's words (diffoscope.org).
 * One of the files comes from a build that may mean us harm, and diffoscope hands it to many other programs: so they
 * run in a sandbox where there is nothing else, without the network and without rights.
 * @throws Failure where diffoscope is not installed
 */
export async function diffoscope(
  original: string,
  rebuilt: string,
  settings: DiffoscopeSettings,
  options: DiffoscopeOptions,
): Promise<Differences> {
  const { directory, signal } = options
  const files = [original, rebuilt].map((path) => shownAs(path, directory))
  const ours = [...(settings.html ? outputs : []), `--timeout=${settings.timeoutSeconds}`, '--', ...files]
  const bounds = settings.html ? [`--max-page-size=${htmlBytes}`] : []
  const place = await prepare([original, rebuilt], options)
  const group = await openControlGroup(defaultLimits)
  try {
    const result = await during('running diffoscope', () =>
      runProcess({
        command: ['diffoscope', ...bounds, ...settings.args, ...ours],
        sandbox: place.sandbox,
        directory,
        environment: {
          ...inherited(),
          ...sandboxEnvironment,
          TMPDIR: place.temporary,
          REBUILDERD_JOB: directory,
        },
        group,
        mark: `REBUILDERD_JOB=${directory}`,
        timeoutSeconds: settings.timeoutSeconds + 600,
        maxLogBytes: settings.maxBytes,
        stopWhenFull: !settings.html, // the page comes after the text
        signal,
      }),
    )
    if (result.exitCode === 127)
      throw new Failure('backend_error', 'diffoscope is not installed', {
        hint: 'apt-get install diffoscope-minimal',
      })
    return { text: result.log, ...(settings.html ? await pageAt(place.page) : noPage) }
  } finally {
    await group.kill()
    await group.remove()
    await place.remove()
  }
}

type Place = {
  sandbox: SandboxPlan | undefined
  temporary: string
  page: string
  remove: () => Promise<void>
}

/** An ordinary user who owns nothing, as the builder is. */
const nobody = 1234

async function prepare(
  files: readonly string[],
  { directory, isolation, signal }: DiffoscopeOptions,
): Promise<Place> {
  const scratch = await mkdtemp(join(directory, 'diffoscope-'))
  const tools = await mkdtemp(join(directory, 'tools-'))
  const remove = async (): Promise<void> => {
    await Promise.all([
      removeFolder(scratch),
      removeFolder(tools),
      rm(join(directory, htmlFile), { force: true }),
    ])
  }
  const script = await placeSandbox(tools)
  const userNamespace = isolation === 'off' ? null : await findUserNamespace(script, signal)
  if (userNamespace === null) {
    const page = join(directory, htmlFile)
    return { sandbox: undefined, temporary: scratch, page, remove }
  }
  const [work, temporary] = [join(scratch, 'work'), join(scratch, 'tmp')]
  for (const folder of [work, temporary]) {
    await mkdir(folder)
    await chmod(folder, 0o777) // for whoever `nobody` is out here; nobody else gets into our own folder
  }
  for (const file of files) await chmod(file, 0o644)
  const sandbox = {
    script,
    userNamespace,
    hidden: [],
    placed: [[work, directory]] as const, // in place of the job's own folder: the files have the names that they have here
    readable: [...new Set(files)],
    writable: [],
    temporary,
    network: false,
    user: nobody,
    processes: null,
    directory,
  }
  return { sandbox, temporary: '/tmp', page: join(work, htmlFile), remove }
}

/** Below the working folder: the title of the page quotes the command line. */
const htmlFile = 'diffoscope.html'
const outputs = ['--text=-', `--html=${htmlFile}`]
const noPage = { html: null, note: null }

async function pageAt(path: string): Promise<Omit<Differences, 'text'>> {
  try {
    await using file = await open(path, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK)
    const facts = await file.stat()
    if (!facts.isFile()) return { html: null, note: 'diffoscope left no HTML page' }
    if (facts.size > longestHtml)
      return { html: null, note: `diffoscope's HTML page of ${facts.size} bytes is too large to keep` }
    return { html: await file.readFile(), note: null }
  } catch {
    return { html: null, note: 'diffoscope left no HTML page' }
  }
}

/** Its first lines name the files: where they lay on this machine is nobody's business, and never the same twice. */
function shownAs(path: string, directory: string): string {
  const within = relative(directory, path)
  return within.startsWith('..') ? path : within
}

/** Enough to find it and to print text in UTF-8; none of our secrets. */
function inherited(): Record<string, string> {
  const { PATH = '/usr/local/bin:/usr/bin:/bin', HOME = '/' } = process.env
  return { PATH, HOME, LC_ALL: 'C.UTF-8' }
}

import { constants } from 'node:fs'
import { open, rm } from 'node:fs/promises'
import { join, relative } from 'node:path'
import { during } from '../errors.ts'
import { Failure } from './failure.ts'
import { runProcess } from './process.ts'

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

export type Differences = {
  text: Uint8Array
  /** null where none was asked for, or it is not to be had: then `note` says why. */
  html: Uint8Array | null
  note: string | null
}

/** Bytes that diffoscope may make its page of; it ends one that gets larger with a remark. */
const htmlBytes = 20_000_000
/** It finishes the piece at hand, so a page may get somewhat larger. */
const longestHtml = 2 * htmlBytes

/**
 * The differences of two files as text, and as an HTML page where asked for, in diffoscope's words (diffoscope.org).
 * @param directory where it may keep temporary files
 * @throws Failure where diffoscope is not installed
 */
export async function diffoscope(
  original: string,
  rebuilt: string,
  settings: DiffoscopeSettings,
  { directory, signal }: { directory: string; signal: AbortSignal },
): Promise<Differences> {
  const files = [original, rebuilt].map((path) => shownAs(path, directory))
  const ours = [...(settings.html ? outputs : []), `--timeout=${settings.timeoutSeconds}`, '--', ...files]
  const bounds = settings.html ? [`--max-page-size=${htmlBytes}`] : []
  const page = join(directory, htmlFile)
  try {
    const result = await during('running diffoscope', () =>
      runProcess({
        command: ['diffoscope', ...bounds, ...settings.args, ...ours],
        directory,
        environment: { ...inherited(), TMPDIR: directory, REBUILDERD_JOB: directory },
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
    return { text: result.log, ...(settings.html ? await pageAt(page) : noPage) }
  } finally {
    if (settings.html) await rm(page, { recursive: true, force: true })
  }
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

import { relative } from 'node:path'
import { during } from '../errors.ts'
import { Failure } from './failure.ts'
import { runProcess } from './process.ts'

export type DiffoscopeSettings = {
  /** Before ours on the command line. */
  args: readonly string[]
  /** What diffoscope is told; the process itself gets ten minutes more. */
  timeoutSeconds: number
  /** Bytes of output, at which it is stopped; null: our own bound. */
  maxBytes: number | null
}

/**
 * The differences of two files as text, in diffoscope's words (diffoscope.org).
 * @param directory where it may keep temporary files
 * @throws Failure where diffoscope is not installed
 */
export async function diffoscope(
  original: string,
  rebuilt: string,
  settings: DiffoscopeSettings,
  { directory, signal }: { directory: string; signal: AbortSignal },
): Promise<Uint8Array> {
  const files = [original, rebuilt].map((path) => shownAs(path, directory))
  const ours = [`--timeout=${settings.timeoutSeconds}`, '--', ...files]
  const result = await during('running diffoscope', () =>
    runProcess({
      command: ['diffoscope', ...settings.args, ...ours],
      directory,
      environment: { ...inherited(), TMPDIR: directory, REBUILDERD_JOB: directory },
      mark: `REBUILDERD_JOB=${directory}`,
      timeoutSeconds: settings.timeoutSeconds + 600,
      maxLogBytes: settings.maxBytes,
      stopWhenFull: true,
      signal,
    }),
  )
  if (result.exitCode === 127)
    throw new Failure('backend_error', 'diffoscope is not installed', {
      hint: 'apt-get install diffoscope-minimal',
    })
  return result.log
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

import type { Digest } from './compare.ts'
import type { BuildStatus, ArtifactStatus } from '../wire/common.ts'
import type { Reason } from '../wire/reasons.ts'

/** What became of one file that should have been made. */
export type Comparison =
  | { readonly found: 'same'; readonly original: Digest; readonly rebuilt: Digest }
  | {
      readonly found: 'different'
      readonly original: Digest
      readonly rebuilt: Digest
      readonly firstDifference: number
    }
  | { readonly found: 'missing' }
  /** There is something in its place that is no plain file of the build: a link, a device. */
  | { readonly found: 'refused' }

/** How the backend ended. */
export type Ending = {
  readonly exitCode: number | null
  readonly killedBy: string | null
  readonly timedOut: boolean
  /** It follows our contract: exit codes mean something. Others only know zero and not zero. */
  readonly ours: boolean
  readonly toldReason: Reason | null
  /** Built with another toolchain than the recorded one. */
  readonly presentToolchain: boolean
  /** What the log says about a failed build. */
  readonly logReason: Reason | null
  /** It left no file at all. */
  readonly empty: boolean
}

export type Judgement = { readonly status: ArtifactStatus; readonly reason: Reason | null }
export type Verdict = {
  readonly status: BuildStatus
  readonly reason: Reason | null
  /** In the order of the comparisons. */
  readonly artifacts: readonly Judgement[]
}

const good: Judgement = { status: 'GOOD', reason: null }

/**
 * The rules. GOOD needs every byte of every file. BAD needs a build that ran to its end in the recorded environment.
 * Everything else is FAIL, and its reason says whose turn it is; files that are equal all the same stay GOOD.
 */
export function judge(comparisons: readonly Comparison[], ending: Ending): Verdict {
  if (comparisons.length === 0) return { status: 'FAIL', reason: 'nothing_to_compare', artifacts: [] }
  if (comparisons.every(({ found }) => found === 'same'))
    return { status: 'GOOD', reason: null, artifacts: comparisons.map(() => good) }
  const failure = reasonForFailure(comparisons, ending)
  const artifacts = comparisons.map((comparison) => judgeOne(comparison, failure))
  if (failure !== null) return { status: 'FAIL', reason: failure, artifacts }
  const differs = comparisons.some(({ found }) => found === 'different')
  return { status: 'BAD', reason: differs ? 'content_differs' : 'artifact_missing', artifacts }
}

function judgeOne({ found }: Comparison, failure: Reason | null): Judgement {
  if (found === 'same') return good
  if (failure !== null) return { status: 'UNKWN', reason: failure }
  return { status: 'BAD', reason: found === 'different' ? 'content_differs' : 'artifact_missing' }
}

/** Why bytes that differ prove nothing; null: they do prove something. */
function reasonForFailure(comparisons: readonly Comparison[], ending: Ending): Reason | null {
  return (
    reasonOfEnding(ending) ??
    (comparisons.some(({ found }) => found === 'refused') || ending.empty ? 'backend_error' : null) ??
    (ending.presentToolchain ? 'environment_differs' : null)
  )
}

/** Reasons that a backend or a log may give; whether bytes differ is not its to say. */
export const tellable: ReadonlySet<Reason> = new Set<Reason>([
  'build_failed',
  'build_timeout',
  'tests_failed',
  'network_needed',
  'environment_differs',
  'environment_unavailable',
  'input_unavailable',
  'input_invalid',
  'source_unavailable',
  'no_space',
  'too_large',
  'backend_error',
])

function reasonOfEnding(ending: Ending): Reason | null {
  const { toldReason } = ending
  if (ending.timedOut) return 'build_timeout'
  if (toldReason !== null && toldReason !== 'build_failed')
    return tellable.has(toldReason) ? toldReason : 'backend_error'
  if (ending.killedBy !== null) return outOfBounds.has(ending.killedBy) ? 'too_large' : 'backend_error'
  const byCode = reasonOfCode(ending.exitCode ?? 255, ending.ours)
  if (byCode === 'build_failed' || toldReason === 'build_failed') return ending.logReason ?? 'build_failed'
  return byCode
}

/** Signals by which the kernel ends what goes over a limit. SIGKILL may be anybody's; of a limit on memory we are told. */
const outOfBounds = new Set(['SIGXCPU', 'SIGXFSZ'])

function reasonOfCode(exitCode: number, ours: boolean): Reason | null {
  if (exitCode === 0) return null
  if (exitCode === 126 || exitCode === 127) return 'backend_error' // a shell could not start a program
  if (exitCode === killed) return 'backend_error'
  if (!ours) return 'build_failed'
  return ourCodes[exitCode] ?? 'backend_error'
}

/** What a shell makes of SIGKILL: no build ends itself so, and those who go over a limit are told apart before. */
const killed = 137

const ourCodes: Readonly<Record<number, Reason>> = {
  1: 'build_failed',
  2: 'input_invalid',
  3: 'environment_unavailable',
  4: 'source_unavailable',
}

/** What the pages show beside packages and builds: the state of each release, how it went, what changed, the pace. */
import * as v from 'valibot'
import { BuildStatus, TextOrNull } from './common.ts'
import { endpoint } from './endpoint.ts'
import { IndexTrust } from './packages.ts'
import { Reason } from './reasons.ts'
import { Count, DateTime, Id, IntText, orNull, text, type Shape } from './schema.ts'

const verdicts = { good: Count, bad: Count, fail: Count, unknown: Count }
/** How many of what is listed have each verdict. */
export const VerdictCounts = v.object(verdicts)
export type VerdictCounts = Shape<typeof VerdictCounts>

const ofRelease = { distribution: v.optional(text()), release: v.optional(text()) }

export const ReleaseState = v.object({
  distribution: v.string(),
  release: TextOrNull,
  /** Listed build inputs, over all architectures. */
  ...verdicts,
  /** Listed source packages, by the worst verdict of their architectures. */
  sources: VerdictCounts,
  architectures: v.array(
    v.object({ architecture: v.string(), imported_at: DateTime, index: IndexTrust, ...verdicts }),
  ),
  /** Listed build inputs that are not GOOD, by reason. */
  reasons: v.record(v.string(), Count),
})
export type ReleaseState = Shape<typeof ReleaseState>

export const listReleaseStates = endpoint('GET', '/api/v1/releases', {
  doc: 'Every release with its listed build inputs by verdict, architecture and reason. An empty release= asks for packages without one.',
  conditional: true,
  query: v.object(ofRelease),
  reply: v.array(ReleaseState),
  upstream: false,
})

export const Trend = v.object({
  distribution: v.string(),
  release: TextOrNull,
  /** Oldest first; days on which the server did not run are missing. */
  days: v.array(v.object({ day: v.string(), ...verdicts, reasons: v.record(v.string(), Count) })),
})
export type Trend = Shape<typeof Trend>

/** Days that a caller may ask for at once. */
export const mostDays = 1100

export const listTrends = endpoint('GET', '/api/v1/trend', {
  doc: 'How each release went: its listed build inputs by verdict and reason at the end of each of the last days (90, or days=).',
  conditional: true,
  query: v.object({ ...ofRelease, days: v.optional(v.pipe(IntText, v.minValue(1), v.maxValue(mostDays))) }),
  reply: v.array(Trend),
  upstream: false,
})

/** worse: it was GOOD and is no more; better: it is GOOD now; other: the first verdict, or another that is not GOOD. */
export const turnWords = ['worse', 'better', 'other'] as const
const Turn = v.picklist(turnWords)

export const Change = v.object({
  id: Id,
  at: DateTime,
  build_id: Id,
  distribution: v.string(),
  release: TextOrNull,
  name: v.string(),
  version: v.string(),
  architecture: v.string(),
  maintainer: TextOrNull,
  status: BuildStatus,
  reason: orNull(Reason),
  /** The verdict before; null: this is the first. */
  before: v.nullable(BuildStatus),
  /** The version that had it, where it is another one. */
  before_version: TextOrNull,
  turn: Turn,
})
export type Change = Shape<typeof Change>

/** Changes that a caller gets at once. */
export const mostChanges = 1000

export const listChanges = endpoint('GET', '/api/v1/changes', {
  doc: 'Changes of verdicts, newest first: 100 of them, or limit=. before= an id goes on from there; turn= worse, better or other.',
  conditional: true,
  query: v.object({
    ...ofRelease,
    name: v.optional(text()),
    maintainer: v.optional(text()),
    turn: v.optional(Turn),
    before: v.optional(IntText),
    limit: v.optional(v.pipe(IntText, v.minValue(1), v.maxValue(mostChanges))),
  }),
  reply: v.array(Change),
  upstream: false,
})

export const Pace = v.object({
  running: Count,
  ready: Count,
  /** Jobs that wait for a retry. */
  waiting: Count,
  /** Rebuilds an hour, of the last 24. */
  per_hour: v.number(),
  /** Seconds until what is ready is done at that pace; null: unknown. */
  empty_in_seconds: v.nullable(v.number()),
  paused: v.boolean(),
  workers: v.object({ online: Count, known: Count, busy: Count }),
  /** Rebuilds of the last 24 hours by the name of their worker. */
  done: v.array(v.object({ worker: TextOrNull, ...verdicts })),
})
export type Pace = Shape<typeof Pace>

export const getPace = endpoint('GET', '/api/v1/queue/pace', {
  doc: 'How much runs and waits, how fast rebuilds go, when the queue will be empty, and who did what in the last 24 hours.',
  reply: Pace,
  upstream: false,
})

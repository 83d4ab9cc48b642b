import { classOf } from '../wire/reasons.ts'
import type { RebuildReport } from '../wire/builds.ts'
import type { VerdictEvent } from '../wire/gates.ts'
import { wireTime } from '../wire/schema.ts'
import { wholeOf, type Expected, type Judged, type Verdict } from './judge.ts'
import { nextRetry, type Schedule } from './queue.ts'
import type { Blob } from './store/blobs.ts'
import {
  countersOf,
  countersSet,
  expectedFiles,
  failedFiles,
  hasOtherWorkers,
  inputsOfGroup,
  keptBlob,
  leaseEnded,
  leaseOf,
  leaseReturned,
  namesOfInput,
  needsWork,
  requeued,
  writeBuild,
  type ExpectedFile,
  type GroupInput,
  type Lease,
  type NewArtifact,
  type NewBuild,
} from './store/builds.ts'
import type { Sql, Transaction } from './store/database.ts'
import { happened, verdictChanged } from './store/events.ts'
import { adopted, refreshed, touched } from './store/imports.ts'
import { question, work } from './store/work.ts'

/** How a report names the handing-out it is about. `token`: null from workers that know none. */
export type HandedOut = { jobId: number; workerId: number; token: string | null }

export type Kept = {
  log: Blob
  environment: Blob | null
  artifacts: readonly { diffoscope: Blob | null; html: Blob | null; attestation: Blob | null }[]
}

/** A judged report whose bytes are kept. */
export type Taken = {
  handed: HandedOut
  reporter: { id: number; key: string; name: string }
  report: Pick<RebuildReport, 'built_at' | 'status' | 'reason' | 'evidence'>
  verdict: Verdict
  kept: Kept
  moment: Date
  schedule: Schedule
}
type Recording = Taken & { lease: Lease }

/** The files that a report has to be about; `repeated` where it was taken before, null where there was never such a job. */
export const reportedLease = question(
  'report.lease',
  async (tx, { jobId, workerId, token }: HandedOut): Promise<ExpectedFile[] | 'repeated' | null> => {
    const lease = await leaseOf(tx, jobId, workerId, token)
    if (lease === null) return null
    return isOver(lease) ? 'repeated' : expectedFiles(tx, lease.group_id)
  },
)

/** Writes down a report, and all that follows from it. */
export const recorded = work(
  'report.record',
  async (tx, taken: Taken): Promise<'taken' | 'repeated' | null> => {
    const { jobId, workerId, token } = taken.handed
    const lease = await leaseOf(tx, jobId, workerId, token)
    if (lease === null) return null
    if (isOver(lease)) return 'repeated'
    await record(tx, { ...taken, lease })
    return 'taken'
  },
)

function isOver(lease: Lease): boolean {
  return ['reported', 'late', 'returned'].includes(lease.outcome ?? '')
}

/**
 * A worker that is stopped hands its job back: it is due at once, in its old place, and costs no budget.
 * @returns as `recorded`
 */
export const returned = work(
  'report.return',
  async (tx, { handed, now }: { handed: HandedOut; now: string }): Promise<'taken' | 'repeated' | null> => {
    const { jobId, workerId, token } = handed
    const lease = await leaseOf(tx, jobId, workerId, token)
    if (lease === null) return null
    if (isOver(lease) || lease.holds === 0) return 'repeated'
    const avoidWorkerId = (await hasOtherWorkers(tx, workerId)) ? workerId : null
    await tx.batch([
      ...leaseReturned(lease, { workerId, avoidWorkerId, now }),
      touched(now, 'queue', 'workers'),
      happened({ kind: 'queue', data: { change: 'freed', count: 1 } }, now),
    ])
    return 'taken'
  },
)

async function record(tx: Transaction, taken: Recording): Promise<void> {
  const { lease, verdict, report, moment, reporter, schedule } = taken
  const now = wireTime(moment)
  const isLate = lease.holds === 0
  const counters = await countersOf(tx, lease.group_id)
  const inputs = await inputsOfGroup(tx, lease.group_id)
  const expected = await expectedFiles(tx, lease.group_id)
  const hasOthers = await hasOtherWorkers(tx, reporter.id)
  const after = countersAfter(
    { ...verdict, temporary: report.evidence?.temporary ?? false },
    counters ?? { retries: 0, infrastructure_retries: 0 },
    schedule,
    moment,
  )
  const { build, artifacts } = await rowsOf(tx, taken, isLate ? (counters?.retries ?? 0) : after.retries, now)
  const files = Map.groupBy(expected, (file) => file.input_id)
  const events: Sql[] = []
  for (const input of inputs) {
    const own = ownOf(verdict, files.get(input.id) ?? [])
    if (input.seen === 0 && own.length === 0 && input.id !== lease.build_input_id) continue
    const whole = wholeOf(report, own)
    const buildId = await writeFor(tx, input, { ...build, ...whole }, artifacts, isLate, now)
    if (buildId === null) continue
    events.push(happened({ kind: 'verdict', data: await verdictEvent(tx, input, buildId, whole) }, now))
    const change = { inputId: input.id, buildId, status: whole.status, before: input.status }
    events.push(...(await verdictChanged(tx, change, now)))
  }
  await tx.batch([
    ...events,
    ...refreshed(inputs),
    ...leaseEnded(lease, reporter.id, isLate ? 'late' : 'reported', now),
  ])
  const isNeeded = !isLate && (await needsWork(tx, lease.group_id))
  await tx.batch([
    ...(isLate ? [] : [countersAre(taken, after)]),
    ...(isNeeded && !after.isGivenUp ? [requeueing(taken, after, hasOthers, now)] : []),
    touched(now, 'packages', 'queue', 'builds', 'workers'),
  ])
}

/**
 * What was judged of the files that one input has: friends share work, not each other's verdicts. Nothing was proven of
 * a file whose index names other bytes than those that were compared.
 */
function ownOf(verdict: Verdict, files: readonly Expected[]): Judged[] {
  return verdict.artifacts.flatMap((item) => {
    const own = files.filter(({ name, file }) => name === item.name && file === item.file)
    const compared = item.reported.sha256
    const isOther = own.some(({ sha256 }) => sha256 !== null && compared !== null && sha256 !== compared)
    if (isOther) return [{ ...item, status: 'FAIL' as const, reason: 'input_mismatch' as const }]
    return own.length > 0 ? [item] : []
  })
}

type After = {
  retries: number
  infrastructureRetries: number
  nextRetry: string | null
  /** When a job is due that is queued again; after a GOOD only if the report did not cover every file. */
  againAt: string | null
  isGivenUp: boolean
}

/** The retry counters after a verdict, and when the next attempt is due. */
function countersAfter(
  verdict: Pick<Verdict, 'status' | 'reason'> & { temporary?: boolean },
  before: { retries: number; infrastructure_retries: number },
  schedule: Schedule,
  moment: Date,
): After {
  if (verdict.status === 'GOOD') {
    const again = new Date(moment.getTime() + schedule.retryDelayHours * 3_600_000)
    return {
      retries: before.retries,
      infrastructureRetries: 0,
      nextRetry: null,
      againAt: wireTime(again),
      isGivenUp: false,
    }
  }
  const isTemporary = verdict.status === 'FAIL' && verdict.temporary === true
  const reasonClass = isTemporary ? 'infrastructure' : classOf(verdict.reason ?? 'unexplained')
  const isPackage = reasonClass === 'package'
  const retries = before.retries + (isPackage ? 1 : 0)
  const infrastructureRetries = isPackage ? 0 : before.infrastructure_retries + 1
  const next = nextRetry(moment, reasonClass, isPackage ? retries : infrastructureRetries, schedule)
  const due = next === null ? null : wireTime(next)
  return { retries, infrastructureRetries, nextRetry: due, againAt: due, isGivenUp: next === null }
}

async function rowsOf(
  tx: Transaction,
  taken: Recording,
  retries: number,
  now: string,
): Promise<{ build: NewBuild; artifacts: NewArtifact[] }> {
  const { reporter, report, lease, verdict, kept } = taken
  const idOf = async (blob: Blob | null): Promise<number | null> => {
    if (blob === null) return null
    const [row] = await tx.all<{ id: number }>(keptBlob(blob, now))
    return row?.id ?? null
  }
  const artifactOf = async (
    { name, file, status, reason, reported }: Judged,
    index: number,
  ): Promise<NewArtifact> => {
    const [diffoscopeId, htmlId, attestationId] = await Promise.all([
      idOf(kept.artifacts[index]?.diffoscope ?? null),
      idOf(kept.artifacts[index]?.html ?? null),
      idOf(kept.artifacts[index]?.attestation ?? null),
    ])
    return {
      name,
      file,
      status,
      reason,
      sha256: reported.sha256,
      size: reported.size,
      rebuiltSha256: reported.rebuilt_sha256,
      rebuiltSize: reported.rebuilt_size,
      firstDifference: reported.first_difference,
      diffoscopeId,
      htmlId,
      attestationId,
    }
  }
  const [logId, environmentId, artifacts] = await Promise.all([
    idOf(kept.log),
    idOf(kept.environment),
    Promise.all(verdict.artifacts.map(artifactOf)),
  ])
  const build: NewBuild = {
    leaseId: lease.id,
    isLatest: false,
    startedAt: lease.started_at,
    builtAt: report.built_at,
    decidedAt: now,
    status: verdict.status,
    reason: verdict.reason,
    retries,
    worker: reporter.name,
    workerKey: reporter.key,
    logId: logId ?? 0,
    evidence: report.evidence === null ? null : JSON.stringify({ ...report.evidence, environment: [] }),
    environmentId,
  }
  return { build, artifacts }
}

/** Writes the build for one friend, and makes it its latest result unless it came late or only tells of infrastructure: then null. */
async function writeFor(
  tx: Transaction,
  input: GroupInput,
  build: NewBuild,
  artifacts: readonly NewArtifact[],
  isLate: boolean,
  now: string,
): Promise<number | null> {
  const isTrouble = build.status === 'FAIL' && classOf(build.reason ?? 'unexplained') === 'infrastructure'
  const hasVerdict = input.status === 'GOOD' || input.status === 'BAD'
  const isLatest = !isLate && !(isTrouble && hasVerdict)
  const id = await writeBuild(tx, input.id, { ...build, isLatest }, artifacts)
  if (!isLatest) return null
  const failed = build.status === 'FAIL' ? [failedFiles(input.id, id, build.reason, now)] : []
  await tx.batch([...adopted(id, input.id), ...failed])
  return id
}

async function verdictEvent(
  tx: Transaction,
  input: GroupInput,
  buildId: number,
  { status, reason }: Pick<Verdict, 'status' | 'reason'>,
): Promise<VerdictEvent> {
  const { release, ...names } = await namesOfInput(tx, input.id)
  return {
    build_id: buildId,
    ...names,
    release: release === '' ? null : release,
    status,
    reason,
    before: input.status,
  }
}

function countersAre({ lease, verdict }: Recording, after: After): Sql {
  const { nextRetry: next, retries, infrastructureRetries } = after
  return countersSet(lease.group_id, {
    retries,
    infrastructureRetries,
    nextRetry: next,
    reason: verdict.reason,
  })
}

/** What is not GOOD is tried again; after trouble of infrastructure by another worker, if there is one. */
function requeueing(
  { lease, verdict, reporter }: Recording,
  { againAt }: After,
  hasOthers: boolean,
  now: string,
): Sql {
  const isTrouble = verdict.status === 'FAIL' && classOf(verdict.reason ?? 'unexplained') === 'infrastructure'
  const avoidWorkerId = isTrouble && hasOthers ? reporter.id : null
  return requeued(lease.group_id, { priority: 2, nextRetry: againAt, now, avoidWorkerId })
}

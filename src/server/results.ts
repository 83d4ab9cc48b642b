import {
  countersign,
  parseEnvelope,
  serialiseEnvelope,
  verifyEnvelope,
  type SigningKey,
} from '../attestation.ts'
import { plainBytes } from '../compression.ts'
import { Complaint, sentenceOf } from '../errors.ts'
import type { Log } from '../log.ts'
import { isSignedBy } from '../proof.ts'
import type { RebuildReport } from '../wire/builds.ts'
import type { VerdictEvent } from '../wire/gates.ts'
import { classOf } from '../wire/reasons.ts'
import { wireTime } from '../wire/schema.ts'
import { verdictOf, wholeOf, type Expected, type Judged, type Verdict } from './judge.ts'
import { nextRetry, type Schedule } from './queue.ts'
import { Refusal } from './refusal.ts'
import type { Blob, Blobs } from './store/blobs.ts'
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
  namesOfInput,
  requeued,
  writeBuild,
  type GroupInput,
  type Lease,
  type NewArtifact,
  type NewBuild,
} from './store/builds.ts'
import type { Database, Sql, Transaction } from './store/database.ts'
import { happened } from './store/events.ts'
import { adopted, refreshed, touched } from './store/imports.ts'

/** Largest attestation in bytes. */
const longestAttestation = 1024 * 1024

export type Results = {
  db: Database
  blobs: Blobs
  schedule: Schedule
  /** null: attestations are kept as the worker signed them */
  signingKey: SigningKey | null
  log: Log
}
export type Reporter = { id: number; key: string; name: string; proven: number }

/**
 * Takes the result of a job: blobs first, then everything else in one transaction. The same report again is
 * accepted and changes nothing; one that comes after its job was given to somebody else is kept as history.
 * @returns what the report means, `repeated` when it had been taken before, or null: this worker never had such a job
 */
export async function takeReport(
  results: Results,
  reporter: Reporter,
  report: RebuildReport,
  moment: Date,
): Promise<Verdict | 'repeated' | null> {
  const { db } = results
  refuseForged(reporter, report)
  const lease = await leaseOf(db, report.queue_id, reporter.id, report.lease)
  if (lease === null) return null
  if (isOver(lease)) return 'repeated'
  const expected = await expectedFiles(db, lease.group_id)
  const verdict = verdictOf(report, eachOnce(expected))
  const kept = await keepBlobs(results, reporter, report, verdict)
  return db.transaction(async (tx) => {
    const current = await leaseOf(tx, report.queue_id, reporter.id, report.lease)
    if (current === null) return null
    if (isOver(current)) return 'repeated'
    await store(tx, results, { reporter, report, lease: current, verdict, kept, moment })
    return verdict
  })
}

/** Whoever proved to hold its key signs its reports; a signature that is there has to be true. */
function refuseForged(reporter: Reporter, report: RebuildReport): void {
  if (report.signature === undefined && reporter.proven === 0) return
  if (!isSignedBy(report, reporter.key))
    throw new Refusal(400, 'the report is not signed with the key of this worker')
}

/** Friends list the same files; those still listed come first. */
function eachOnce(files: readonly Expected[]): Expected[] {
  const byName = new Map<string, Expected>()
  for (const file of files) {
    const key = `${file.name}\n${file.file}`
    if (!byName.has(key)) byName.set(key, file)
  }
  return [...byName.values()]
}

function isOver(lease: Lease): boolean {
  return lease.outcome === 'reported' || lease.outcome === 'late'
}

type Kept = {
  log: Blob
  environment: Blob | null
  artifacts: readonly { diffoscope: Blob | null; attestation: Blob | null }[]
}

async function keepBlobs(
  results: Results,
  reporter: Reporter,
  report: RebuildReport,
  verdict: Verdict,
): Promise<Kept> {
  const { blobs } = results
  const environment = report.evidence?.environment ?? []
  const artifacts: Kept['artifacts'][number][] = []
  for (const artifact of verdict.artifacts) {
    const { diffoscope } = artifact.reported
    const attestation = await checkedAttestation(results, reporter, artifact)
    artifacts.push({
      diffoscope: diffoscope === null ? null : await blobs.keep(diffoscope),
      attestation: attestation === null ? null : await blobs.keep(attestation),
    })
  }
  return {
    log: await blobs.keep(report.build_log),
    environment:
      environment.length === 0 ? null : await blobs.keep(new TextEncoder().encode(environment.join('\n'))),
    artifacts,
  }
}

/**
 * The attestation of an artifact, countersigned; null where there is none or it is not what it should be: a link
 * by this very worker about this very file, with the hash that the index has.
 */
async function checkedAttestation(
  { signingKey, log }: Results,
  reporter: Reporter,
  artifact: Judged,
): Promise<Uint8Array | null> {
  const given = artifact.reported.attestation
  if (given === null || artifact.status !== 'GOOD') return null
  try {
    const bytes = await plainBytes(given, longestAttestation)
    const envelope = parseEnvelope(bytes)
    if (!verifyEnvelope(envelope, Buffer.from(reporter.key, 'base64')))
      throw new Complaint("the worker's signature is false")
    const product = envelope.signed.products[artifact.file]
    if (product === undefined) throw new Complaint(`it is not about ${artifact.file}`)
    const wanted = artifact.reported.sha256
    if (wanted !== null && product['sha256'] !== wanted)
      throw new Complaint('its hash is not that of the file')
    return signingKey === null ? bytes : serialiseEnvelope(countersign(envelope, signingKey))
  } catch (error) {
    log.warning(`worker ${reporter.name}: attestation of ${artifact.file} refused: ${sentenceOf(error)}`)
    return null
  }
}

type Taken = {
  reporter: Reporter
  report: RebuildReport
  lease: Lease
  verdict: Verdict
  kept: Kept
  moment: Date
}

async function store(tx: Transaction, results: Results, taken: Taken): Promise<void> {
  const { lease, verdict, report, moment, reporter } = taken
  const now = wireTime(moment)
  const isLate = lease.holds === 0
  // Asked at once: each question by itself is a way to the database's thread and back.
  const [counters, inputs, expected, hasOthers] = await Promise.all([
    countersOf(tx, lease.group_id),
    inputsOfGroup(tx, lease.group_id),
    expectedFiles(tx, lease.group_id),
    hasOtherWorkers(tx, reporter.id),
  ])
  const after = countersAfter(
    { ...verdict, temporary: report.evidence?.temporary ?? false },
    counters ?? { retries: 0, infrastructure_retries: 0 },
    results.schedule,
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
    if (buildId !== null)
      events.push(happened({ kind: 'verdict', data: await verdictEvent(tx, input, buildId, whole) }, now))
  }
  await tx.batch([
    ...events,
    ...refreshed(inputs),
    ...leaseEnded(lease, reporter.id, isLate ? 'late' : 'reported', now),
    ...(isLate ? [] : requeueing(taken, after, hasOthers, now)),
    touched(now, 'packages', 'queue', 'builds', 'workers'),
  ])
}

/** What was judged of the files that one input has: friends share work, not each other's verdicts. */
function ownOf(verdict: Verdict, files: readonly Expected[]): Judged[] {
  return verdict.artifacts.filter((item) =>
    files.some(({ name, file }) => name === item.name && file === item.file),
  )
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
export function countersAfter(
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
  taken: Taken,
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
    const [diffoscopeId, attestationId] = await Promise.all([
      idOf(kept.artifacts[index]?.diffoscope ?? null),
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

/** What is not GOOD is tried again; after trouble of infrastructure by another worker, if there is one. */
function requeueing(
  { lease, verdict, reporter }: Taken,
  after: After,
  hasOthers: boolean,
  now: string,
): Sql[] {
  const isTrouble = verdict.status === 'FAIL' && classOf(verdict.reason ?? 'unexplained') === 'infrastructure'
  const avoidWorkerId = isTrouble && hasOthers ? reporter.id : null
  const { nextRetry, retries, infrastructureRetries, isGivenUp, againAt } = after
  return [
    countersSet(lease.group_id, { retries, infrastructureRetries, nextRetry, reason: verdict.reason }),
    ...(isGivenUp ? [] : [requeued(lease.group_id, { priority: 2, nextRetry: againAt, now, avoidWorkerId })]),
  ]
}

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
import { isHandedBack } from '../wire/builds.ts'
import { wireTime } from '../wire/schema.ts'
import type { RebuildReport, ReportArtifact } from '../wire/builds.ts'
import { verdictOf, type Expected, type Judged, type Verdict } from './judge.ts'
import type { Schedule } from './queue.ts'
import { recorded, reportedLease, returned, type HandedOut, type Kept, type Taken } from './record.ts'
import { Refusal } from './refusal.ts'
import type { Blobs } from './store/blobs.ts'
import type { Database } from './store/database.ts'

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
 * @returns what the report means, `returned` when it hands the job back undone, `repeated` when it had been taken
 *   before, or null: this worker never had such a job
 */
export async function takeReport(
  results: Results,
  reporter: Reporter,
  report: RebuildReport,
  moment: Date,
): Promise<Verdict | 'returned' | 'repeated' | null> {
  const { db, schedule } = results
  refuseForged(reporter, report)
  const handed: HandedOut = { jobId: report.queue_id, workerId: reporter.id, token: report.lease }
  if (isHandedBack(report)) {
    const freed = await returned(db, { handed, now: wireTime(moment) })
    return freed === 'taken' ? 'returned' : freed
  }
  const found = await reportedLease(db, handed)
  if (found === null || found === 'repeated') return found
  const expected = eachOnce(found)
  const artifacts = await Promise.all(
    report.artifacts.map((one) => withAttestedHash(reporter, one, expected)),
  )
  const told = { ...report, artifacts }
  const verdict = verdictOf(told, expected)
  const kept = await keepBlobs(results, reporter, told, verdict)
  const { id, key, name } = reporter
  const taken = { handed, reporter: { id, key, name }, ...withoutBytes(report, verdict), kept, moment }
  const state = await recorded(db, { ...taken, schedule })
  return state === 'taken' ? verdict : state
}

/**
 * Workers of other programs tell what they compared in their attestations only: there the hash is that of the file
 * they downloaded as well, as both are the same. With it a GOOD about other bytes than the index names is seen.
 */
async function withAttestedHash(
  { key }: Reporter,
  artifact: ReportArtifact,
  expected: readonly Expected[],
): Promise<ReportArtifact> {
  if (artifact.status !== 'GOOD' || artifact.sha256 !== null || artifact.attestation === null) return artifact
  try {
    const envelope = parseEnvelope(await plainBytes(artifact.attestation, longestAttestation))
    if (!verifyEnvelope(envelope, Buffer.from(key, 'base64'))) return artifact
    const hashes = expected
      .filter(({ name }) => name === artifact.name)
      .map(({ file }) => envelope.signed.products[file]?.['sha256'])
    const sha256 = hashes.find((hash) => hash !== undefined && /^[0-9a-f]{64}$/.test(hash))
    return sha256 === undefined ? artifact : { ...artifact, sha256, rebuilt_sha256: sha256 }
  } catch {
    return artifact // it is refused, and that is told, where it would be kept
  }
}

/** What the database has to know of a report: the bytes in it are files by now. */
function withoutBytes(report: RebuildReport, verdict: Verdict): Pick<Taken, 'report' | 'verdict'> {
  const { built_at, status, reason, evidence } = report
  const none = { diffoscope: null, diffoscope_html: undefined, attestation: null }
  const artifacts = verdict.artifacts.map((item) => ({ ...item, reported: { ...item.reported, ...none } }))
  return { report: { built_at, status, reason, evidence }, verdict: { ...verdict, artifacts } }
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
    const { diffoscope, diffoscope_html: html } = artifact.reported
    const attestation = await checkedAttestation(results, reporter, artifact)
    artifacts.push({
      diffoscope: diffoscope === null ? null : await blobs.keep(diffoscope),
      html: html === undefined ? null : await blobs.keep(html),
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

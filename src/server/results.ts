import {
  countersign,
  parseEnvelope,
  serialiseEnvelope,
  verifyEnvelope,
  type Envelope,
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

type Results = {
  db: Database
  blobs: Blobs
  schedule: Schedule
  /** null: attestations are kept as the worker signed them */
  signingKey: SigningKey | null
  log: Log
}
type Reporter = { id: number; key: string; name: string; proven: number }

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
  const open = openerFor(reporter)
  const artifacts = await Promise.all(report.artifacts.map((one) => withAttestedHash(one, expected, open)))
  const told = { ...report, artifacts }
  const verdict = verdictOf(told, expected)
  const checked = (one: Judged) => checkedAttestation(results, reporter, one, open)
  const kept = await keepBlobs(results, told, verdict, checked)
  const { id, key, name } = reporter
  const taken = { handed, reporter: { id, key, name }, ...withoutBytes(report, verdict), kept, moment }
  const state = await recorded(db, { ...taken, schedule })
  return state === 'taken' ? verdict : state
}

/** Opens an attestation of the worker at hand, each once. @throws Complaint for what it did not sign, or is none */
type Opener = (attestation: Uint8Array) => Promise<Opened>
type Opened = { bytes: Uint8Array; envelope: Envelope }

function openerFor({ key }: Reporter): Opener {
  const known = new Map<Uint8Array, Promise<Opened>>()
  const opened = async (attestation: Uint8Array): Promise<Opened> => {
    const bytes = await plainBytes(attestation, longestAttestation)
    const envelope = parseEnvelope(bytes)
    if (verifyEnvelope(envelope, Buffer.from(key, 'base64'))) return { bytes, envelope }
    throw new Complaint("the worker's signature is false")
  }
  return (attestation) => {
    const found = known.get(attestation) ?? opened(attestation)
    known.set(attestation, found)
    return found
  }
}

/**
 * Workers of other programs tell what they compared in their attestations only: there the hash is that of the file
 * they downloaded as well, as both are the same. With it a GOOD about other bytes than the index names is seen.
 */
async function withAttestedHash(
  artifact: ReportArtifact,
  expected: readonly Expected[],
  open: Opener,
): Promise<ReportArtifact> {
  const files = expected.filter(({ name }) => name === artifact.name).map(({ file }) => file)
  const { status, sha256: told, attestation } = artifact
  if (status !== 'GOOD' || told !== null || attestation === null || files.length === 0) return artifact
  const opened = await open(attestation).catch(() => null) // it is told where it would be kept
  const hashes = files.map((file) => opened?.envelope.signed.products[file]?.['sha256'])
  const sha256 = hashes.find((hash) => hash !== undefined && /^[0-9a-f]{64}$/.test(hash))
  return sha256 === undefined ? artifact : { ...artifact, sha256, rebuilt_sha256: sha256 }
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
  { blobs }: Results,
  report: RebuildReport,
  verdict: Verdict,
  attestationOf: (artifact: Judged) => Promise<Uint8Array | null>,
): Promise<Kept> {
  const environment = report.evidence?.environment ?? []
  const artifacts: Kept['artifacts'][number][] = []
  for (const artifact of verdict.artifacts) {
    const { diffoscope, diffoscope_html: html } = artifact.reported
    const attestation = await attestationOf(artifact)
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
  open: Opener,
): Promise<Uint8Array | null> {
  const given = artifact.reported.attestation
  if (given === null || artifact.status !== 'GOOD') return null
  try {
    const { bytes, envelope } = await open(given)
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

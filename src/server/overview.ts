/** The questions that endpoints and pages both ask, answered in the shapes of the wire. */
import { plainBytes } from '../compression.ts'
import { Evidence, type Rebuild, type RebuildArtifact, type RebuildDetails } from '../wire/builds.ts'
import type { ArtifactStatus, BuildStatus, PageOf } from '../wire/common.ts'
import type { Dashboard } from '../wire/meta.ts'
import type { BinaryPackage, BinaryPackageDetails, SourcePackage } from '../wire/packages.ts'
import type { QueuedJob } from '../wire/queue.ts'
import { isReason, type Reason } from '../wire/reasons.ts'
import { checked, wireTime } from '../wire/schema.ts'
import { Free, type Worker } from '../wire/workers.ts'
import { queuedJob } from './queue.ts'
import { longestBlob, type Blobs } from './store/blobs.ts'
import { binaryById, type BinaryRow } from './store/binaries.ts'
import {
  artifactById,
  artifactRows,
  buildById,
  listBuildRows,
  type BuildArtifactRow,
  type BuildFilter,
  type BuildRow,
} from './store/builds.ts'
import type { Database } from './store/database.ts'
import type { PageRequest } from './store/page.ts'
import type { PackageFilter } from './store/packages.ts'
import { countJobs, getJobRow, listJobs, type JobFilter } from './store/queue.ts'
import { listSourceRows, sourceById, type SourceRow } from './store/sources.ts'
import { countReasons, countVerdicts } from './store/verdicts.ts'
import { listWorkerRows, workerById, type WorkerRow } from './store/workers.ts'

/** What the database keeps as the empty text is null on the wire. */
function orNull(text: string): string | null {
  return text === '' ? null : text
}

function reasonOf(code: string | null): Reason | null {
  return code !== null && isReason(code) ? code : null
}

/** Files that could not be compared have no status for clients of API v1; their build says FAIL. */
function artifactStatus(status: string | null): ArtifactStatus | null {
  return status === 'FAIL' ? null : (status as ArtifactStatus | null) // we wrote it
}

function binaryPackage(row: BinaryRow): BinaryPackage {
  return {
    ...row,
    release: orNull(row.release),
    component: orNull(row.component),
    status: artifactStatus(row.status),
    reason: reasonOf(row.reason),
    seen_in_last_sync: row.seen_in_last_sync === 1,
  }
}

function sourcePackage(row: SourceRow): SourcePackage {
  return {
    ...row,
    release: orNull(row.release),
    status: row.status as BuildStatus | null, // we wrote it
    reason: reasonOf(row.reason),
    seen_in_last_sync: row.seen_in_last_sync === 1,
  }
}

function rebuild(row: BuildRow): Rebuild {
  return {
    ...row,
    release: orNull(row.release),
    status: row.status as BuildStatus,
    reason: reasonOf(row.reason),
  } // we wrote it
}

function rebuildArtifact(row: BuildArtifactRow): RebuildArtifact {
  const { id, name, url, sha256, size, rebuilt_sha256, rebuilt_size, first_difference } = row
  return {
    id,
    name,
    has_diffoscope: row.diffoscope_id !== null,
    has_diffoscope_html: row.html_id !== null,
    has_attestation: row.attestation_id !== null,
    status: artifactStatus(row.status) ?? 'UNKWN',
    url,
    sha256,
    size,
    rebuilt_sha256,
    rebuilt_size,
    first_difference,
    reason: reasonOf(row.reason),
  }
}

/** One binary package; null: none has this id. */
export async function findBinary(db: Database, id: number): Promise<BinaryPackageDetails | null> {
  const row = await binaryById(db, id)
  if (row === null) return null
  const { signature, ...binary } = row
  return { ...binaryPackage(binary), signature }
}

/** Source packages, one page of them. */
export async function sourcePackages(
  db: Database,
  filter: PackageFilter,
  page: PageRequest,
): Promise<PageOf<SourcePackage>> {
  const { total, rows } = await listSourceRows(db, filter, page)
  return { total, records: rows.map(sourcePackage) }
}

/** One source package; null: none has this id. */
export async function findSource(db: Database, id: number): Promise<SourcePackage | null> {
  const row = await sourceById(db, id)
  return row && sourcePackage(row)
}

/** Rebuilds, one page of them. */
export async function rebuilds(
  db: Database,
  filter: BuildFilter,
  page: PageRequest,
): Promise<PageOf<Rebuild>> {
  const { total, rows } = await listBuildRows(db, filter, page)
  return { total, records: rows.map(rebuild) }
}

/** One rebuild with its evidence; the environment is kept beside the database. */
export async function findRebuild(db: Database, blobs: Blobs, id: number): Promise<RebuildDetails | null> {
  const row = await buildById(db, id)
  if (row === null) return null
  const { evidence, environment_sha256: sha256, index, ...build } = row
  if (evidence === null) return { ...rebuild(build), evidence: null, index }
  const frame = sha256 === null ? null : await blobs.read(sha256)
  const environment =
    frame === null ? [] : new TextDecoder().decode(await plainBytes(frame, longestBlob)).split('\n')
  return {
    ...rebuild(build),
    evidence: { ...checked(Evidence, JSON.parse(evidence), `the evidence of build ${id}`), environment },
    index,
  }
}

/** The files that a rebuild compared. */
export async function artifactsOfBuild(db: Database, id: number): Promise<RebuildArtifact[]> {
  return (await artifactRows(db, id)).map(rebuildArtifact)
}

/** One file of a rebuild; null: it has none of this id. */
export async function findArtifact(
  db: Database,
  buildId: number,
  id: number,
): Promise<RebuildArtifact | null> {
  const row = await artifactById(db, buildId, id)
  return row && rebuildArtifact(row)
}

/** Jobs in the order they will run, one page of them. */
export async function queuedJobs(
  db: Database,
  filter: JobFilter,
  page: PageRequest,
): Promise<PageOf<QueuedJob>> {
  const { total, rows } = await listJobs(db, filter, page)
  return { total, records: rows.map(queuedJob) }
}

/** One job; null: none has this id. */
export async function findJob(db: Database, id: number): Promise<QueuedJob | null> {
  const row = await getJobRow(db, id)
  return row && queuedJob(row)
}

function worker(row: WorkerRow): Worker {
  const { id, name, address, status, last_ping, online, tags, draining, proven } = row
  const is = { is_online: online === 1, draining: draining === 1, proven: proven === 1 }
  const free = row.free === null ? null : checked(Free, JSON.parse(row.free), `what worker ${id} has free`)
  return { id, name, address, status, last_ping, ...is, tags: tags === '' ? [] : tags.split(','), free }
}

/** Workers, one page of them. */
export async function workers(db: Database, page: PageRequest): Promise<PageOf<Worker>> {
  const { total, rows } = await listWorkerRows(db, page)
  return { total, records: rows.map(worker) }
}

/** One worker; null: none has this id. */
export async function findWorker(db: Database, id: number): Promise<Worker | null> {
  const row = await workerById(db, id)
  return row && worker(row)
}

/** Verdicts and jobs in numbers. */
export async function dashboard(
  db: Database,
  filter: PackageFilter & JobFilter,
  now: Date,
): Promise<Dashboard> {
  const [counts, jobs, reasons] = await Promise.all([
    countVerdicts(db, filter),
    countJobs(db, filter, wireTime(now)),
    countReasons(db, filter),
  ])
  return { rebuilds: counts, jobs, reasons: Object.fromEntries(reasons.map(({ reason, n }) => [reason, n])) }
}

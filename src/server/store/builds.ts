import type { BuildStatus } from '../../wire/common.ts'
import type { IndexTrust } from '../../wire/packages.ts'
import type { Reason } from '../../wire/reasons.ts'
import { first, sql, trusted, type Database, type Row, type Sql, type Transaction } from './database.ts'
import type { Blob } from './blobs.ts'
import { inputsWith, type JobFilter } from './inputs.ts'
import {
  answerOf,
  compared,
  isOneOf,
  narrowed,
  numberOf,
  revisionOf,
  someOf,
  type Condition,
} from './narrow.ts'
import { scopesWith } from './origins.ts'
import { pageOfRows, refuseLongSort, whereOf, type Listing, type PageRequest } from './page.ts'
import { newRequires, putBack, workerSeen } from './queue.ts'
import { question } from './work.ts'

export type BuildRow = Row & {
  id: number
  name: string
  version: string
  distribution: string
  release: string
  architecture: string
  backend: string
  retries: number
  started_at: string | null
  built_at: string | null
  status: string
  reason: string | null
  worker: string | null
  decided_at: string
}

export type BuildArtifactRow = Row & {
  id: number
  build_id: number
  name: string
  url: string | null
  file: string
  status: string
  reason: string | null
  sha256: string | null
  size: number | null
  rebuilt_sha256: string | null
  rebuilt_size: number | null
  first_difference: number | null
  diffoscope_id: number | null
  html_id: number | null
  attestation_id: number | null
}

const builds = {
  columns:
    trusted(`h.id, s.name, s.version, r.distribution, r.name AS release, g.architecture, g.backend, h.retries, h.started_at,
    h.built_at, h.status, h.reason, h.worker, h.decided_at`),
  from: trusted(`builds h CROSS JOIN build_inputs i ON i.id = h.build_input_id CROSS JOIN source_packages s ON s.id = i.source_package_id
    CROSS JOIN releases r ON r.id = s.release_id CROSS JOIN friend_groups g ON g.id = i.group_id CROSS JOIN scopes c ON c.id = i.scope_id`),
  table: trusted('builds h'),
  id: 'h.id',
  sorts: {
    id: 'h.id',
    name: 's.name',
    version: 's.version',
    distribution: 'r.distribution',
    release: 'r.name',
    architecture: 'g.architecture',
    backend: 'g.backend',
    retries: 'h.retries',
    started_at: 'h.started_at',
    built_at: 'h.built_at',
    status: 'h.status',
    decided_at: 'h.decided_at',
    reason: 'h.reason',
    worker: 'h.worker',
  },
  walked: ['id', 'name', 'retries', 'started_at', 'built_at', 'status', 'decided_at', 'reason', 'worker'],
} satisfies Listing

/** The same from the packages on, so that the order of their names is that of an index. */
const buildsByName: Listing = {
  ...builds,
  lookup: builds.from,
  from: trusted(`source_packages s CROSS JOIN build_inputs i ON i.source_package_id = s.id CROSS JOIN builds h ON h.build_input_id = i.id
    JOIN releases r ON r.id = s.release_id JOIN friend_groups g ON g.id = i.group_id JOIN scopes c ON c.id = i.scope_id`),
}

export type BuildFilter = JobFilter & {
  status?: readonly string[] | undefined
  reason?: readonly string[] | undefined
  since?: string | undefined
}

type BuildPage = { total: number; rows: BuildRow[] }
type Asked = { filter: BuildFilter; request: PageRequest }

/** Finished rebuilds, the newest attempt and all before it. */
export function listBuildRows(db: Database, filter: BuildFilter, request: PageRequest): Promise<BuildPage> {
  return answerOf(() => buildPageNow(db, { filter, request }))
}

/** null: ask again. */
const buildPageNow = question(
  'builds.list',
  async (tx, { filter, request }: Asked): Promise<BuildPage | null> => {
    const scopes = await scopesWith(tx, filter)
    const { name, version, component, since } = filter
    const isCountable = [name, version, component, since].every((value) => value === undefined)
    const known = isCountable
      ? await numberOf(tx, buildCount(scopes, filter))
      : scopes?.length === 0
        ? 0
        : null
    const conditions = known === 0 ? [] : buildConditions(tx, filter, scopes)
    const all = (): Promise<number> => numberOf(tx, buildCount(null, {}))
    const revision = (): Promise<string> => revisionOf(tx, ['builds', 'packages'])
    const found = await narrowed(tx, builds, request, conditions, { known, all, revision })
    if (found === null) return null
    const { total, where, isLed } = found
    const listing = request.sort === 'name' && !isLed ? buildsByName : builds
    refuseLongSort(listing, request, total)
    return { total, rows: total === 0 ? [] : await pageOfRows<BuildRow>(tx, listing, request, where, isLed) }
  },
)

/** By the counters, however long the history. */
function buildCount(scopes: readonly number[] | null, { status, reason }: BuildFilter): Sql {
  const where = [
    ...(scopes === null ? [] : [sql`n.scope_id IN ${scopes}`]),
    ...(status === undefined ? [] : [sql`n.status IN ${status}`]),
    ...(reason === undefined ? [] : [sql`n.reason IN ${reason}`]),
  ]
  return sql`SELECT coalesce(sum(n.n), 0) AS n FROM build_counts n ${whereOf(where)}`
}

function buildConditions(
  tx: Transaction,
  { status, reason, since, ...origin }: BuildFilter,
  scopes: readonly number[] | null,
): Condition[] {
  const counter = (part: BuildFilter) => (): Promise<number> => numberOf(tx, buildCount(null, part))
  const decided = sql`SELECT 1 FROM builds h WHERE h.decided_at >= ${since}`
  return [
    ...inputsWith(tx, 'h.build_input_id', origin, scopes, {
      rows: (ids) => numberOf(tx, buildCount(ids, {})),
      rowsOf: (inputs) =>
        someOf(tx, sql`SELECT 1 FROM (${inputs}) x CROSS JOIN builds h ON h.build_input_id = x.id`),
      together: ['id', 'decided_at', 'started_at', 'built_at'],
    }),
    ...(status === undefined ? [] : [isOneOf('h.status', status, { rows: counter({ status }) })]),
    ...(reason === undefined ? [] : [isOneOf('h.reason', reason, { rows: counter({ reason }) })]),
    ...(since === undefined
      ? []
      : [
          compared('h.decided_at', sql`>= ${since}`, {
            rows: () => someOf(tx, decided),
            isExact: true,
            alone: () => numberOf(tx, sql`SELECT count(*) AS n FROM (${decided})`),
            walks: ['decided_at'],
            together: ['id', 'started_at', 'built_at'],
          }),
        ]),
  ]
}

type BuildDetailsRow = BuildRow & {
  evidence: string | null
  environment_sha256: string | null
  index: IndexTrust
}

/** One rebuild; null: none has this id. */
export function buildById(db: Database, id: number): Promise<BuildDetailsRow | null> {
  return first(
    db.all<BuildDetailsRow>(sql`
      SELECT ${builds.columns}, h.evidence, e.sha256 AS environment_sha256, c.index_trust AS "index"
        FROM ${builds.from} LEFT JOIN blobs e ON e.id = h.environment_id WHERE h.id = ${id}`),
  )
}

const artifactColumns =
  trusted(`a.id, a.build_id, a.name, a.url, a.file, a.status, a.reason, a.sha256, a.size, a.rebuilt_sha256,
  a.rebuilt_size, a.first_difference, a.diffoscope_id, a.html_id, a.attestation_id`)

/** The files that a rebuild compared. */
export function artifactRows(db: Database, buildId: number): Promise<BuildArtifactRow[]> {
  return db.all<BuildArtifactRow>(
    sql`SELECT ${artifactColumns} FROM artifacts a WHERE a.build_id = ${buildId} ORDER BY a.id`,
  )
}

/** One file of a rebuild; null: it has none of this id. */
export function artifactById(db: Database, buildId: number, id: number): Promise<BuildArtifactRow | null> {
  return first(
    db.all<BuildArtifactRow>(
      sql`SELECT ${artifactColumns} FROM artifacts a WHERE a.id = ${id} AND a.build_id = ${buildId}`,
    ),
  )
}

type Sha = { sha256: string }

/** The kept log of a build, by its SHA-256; null where there is none. */
export function logOf(db: Database, buildId: number): Promise<Sha | null> {
  return first(
    db.all<Sha>(sql`SELECT f.sha256 FROM builds h JOIN blobs f ON f.id = h.log_id WHERE h.id = ${buildId}`),
  )
}

/** SHA-256 of the diff of a file; null: it has none. */
export function diffoscopeOf(db: Database, buildId: number, artifactId: number): Promise<Sha | null> {
  return first(
    db.all<Sha>(
      sql`SELECT f.sha256 FROM artifacts a JOIN blobs f ON f.id = a.diffoscope_id WHERE a.id = ${artifactId} AND a.build_id = ${buildId}`,
    ),
  )
}

/** SHA-256 of the diff of a file as a page; null: it has none. */
export function diffoscopeHtmlOf(db: Database, buildId: number, artifactId: number): Promise<Sha | null> {
  return first(
    db.all<Sha>(
      sql`SELECT f.sha256 FROM artifacts a JOIN blobs f ON f.id = a.html_id WHERE a.id = ${artifactId} AND a.build_id = ${buildId}`,
    ),
  )
}

/** SHA-256 of the attestation of a file; null: it has none. */
export function attestationOf(db: Database, buildId: number, artifactId: number): Promise<Sha | null> {
  return first(
    db.all<Sha>(
      sql`SELECT f.sha256 FROM artifacts a JOIN blobs f ON f.id = a.attestation_id WHERE a.id = ${artifactId} AND a.build_id = ${buildId}`,
    ),
  )
}

/** The first diff or attestation of a build, for API v0. */
export function firstBlobOf(
  db: Database,
  buildId: number,
  kind: 'diffoscope' | 'attestation',
): Promise<Sha | null> {
  const column = trusted(kind === 'diffoscope' ? 'a.diffoscope_id' : 'a.attestation_id')
  return first(
    db.all<Sha>(sql`
      SELECT f.sha256 FROM artifacts a JOIN blobs f ON f.id = ${column}
       WHERE a.build_id = ${buildId} ORDER BY a.id LIMIT 1`),
  )
}

// --- writing a report

/** A handing-out of a job, as a report finds it. */
export type Lease = Row & {
  id: number
  job_id: number
  group_id: number
  build_input_id: number
  started_at: string
  outcome: string | null
  holds: number
}

/** The newest handing-out of a job to a worker (the named one, where the report names it). `holds`: nobody else works on it now. */
export function leaseOf(
  tx: Transaction | Database,
  jobId: number,
  workerId: number,
  token: string | null,
): Promise<Lease | null> {
  const named = token === null ? trusted('1') : sql`l.token = ${token}`
  return first(
    tx.all<Lease>(sql`
      SELECT l.id, l.job_id, l.group_id, l.build_input_id, l.started_at, l.outcome,
             EXISTS (SELECT 1 FROM jobs j WHERE j.id = l.job_id AND (j.lease_id = l.id OR j.state <> 'running')) AS holds
        FROM leases l WHERE l.job_id = ${jobId} AND l.worker_id = ${workerId} AND ${named} ORDER BY l.id DESC LIMIT 1`),
  )
}

/** A file that an input of a group has, with the newest hash known. */
export type ExpectedFile = Row & { input_id: number; name: string; file: string; sha256: string | null }

/** Files of the inputs of a group: what they list, or had when they left their release. Those still listed first. */
export async function expectedFiles(tx: Transaction | Database, groupId: number): Promise<ExpectedFile[]> {
  const rows = await tx.all<ExpectedFile & { seen: number; id: number }>(sql`
    SELECT i.id AS input_id, b.name, b.file, b.sha256, i.seen, b.id
      FROM build_inputs i JOIN binary_packages b ON b.build_input_id = i.id
     WHERE i.group_id = ${groupId} AND (b.seen = 1 OR i.seen = 0)`)
  return rows.sort((a, b) => b.seen - a.seen || a.id - b.id)
}

/** Whether a listed input of a group still has a file without a GOOD verdict. */
export async function needsWork(tx: Transaction, groupId: number): Promise<boolean> {
  const rows = await tx.all(
    sql`SELECT 1 AS one FROM build_inputs WHERE group_id = ${groupId} AND seen = 1 AND needs_work = 1 LIMIT 1`,
  )
  return rows.length > 0
}

/** A blob is kept, also where it was before; gives its id. */
export function keptBlob(blob: Blob, now: string): Sql {
  return sql`INSERT INTO blobs (sha256, size, kept_at) VALUES (${blob.sha256}, ${blob.size}, ${now})
             ON CONFLICT (sha256) DO UPDATE SET kept_at = excluded.kept_at RETURNING id`
}

export type NewBuild = {
  leaseId: number
  isLatest: boolean
  startedAt: string
  builtAt: string
  decidedAt: string
  status: string
  reason: Reason | null
  retries: number
  worker: string
  workerKey: string
  logId: number
  evidence: string | null
  environmentId: number | null
}

export type NewArtifact = {
  name: string
  file: string
  status: string
  reason: string | null
  sha256: string | null
  size: number | null
  rebuiltSha256: string | null
  rebuiltSize: number | null
  firstDifference: number | null
  diffoscopeId: number | null
  htmlId: number | null
  attestationId: number | null
}

/** Writes a build for one input of the group; its id. */
export async function writeBuild(
  tx: Transaction,
  inputId: number,
  build: NewBuild,
  artifacts: readonly NewArtifact[],
): Promise<number> {
  const [row] = await tx.all<{ id: number }>(sql`
    INSERT INTO builds (build_input_id, lease_id, is_latest, started_at, built_at, decided_at, status, reason, retries,
      worker, worker_key, log_id, evidence, environment_id)
    VALUES (${inputId}, ${build.leaseId}, ${build.isLatest}, ${build.startedAt}, ${build.builtAt}, ${build.decidedAt},
      ${build.status}, ${build.reason}, ${build.retries}, ${build.worker}, ${build.workerKey}, ${build.logId},
      ${build.evidence}, ${build.environmentId}) RETURNING id`)
  const id = row?.id ?? 0
  await tx.batch(artifacts.map((artifact) => writtenArtifact(id, inputId, artifact)))
  return id
}

/** An artifact is written where the input has its file, unless its index names other bytes than those compared. */
function writtenArtifact(buildId: number, inputId: number, artifact: NewArtifact): Sql {
  return sql`
    INSERT INTO artifacts (build_id, name, url, file, status, reason, sha256, size, rebuilt_sha256, rebuilt_size,
      first_difference, diffoscope_id, html_id, attestation_id)
    SELECT ${buildId}, b.name, b.url, b.file, ${artifact.status}, ${artifact.reason}, coalesce(${artifact.sha256}, b.sha256),
           coalesce(${artifact.size}, b.size), ${artifact.rebuiltSha256}, ${artifact.rebuiltSize}, ${artifact.firstDifference},
           ${artifact.diffoscopeId}, ${artifact.htmlId}, ${artifact.attestationId}
      FROM binary_packages b WHERE b.id = (
        SELECT coalesce(min(CASE o.seen WHEN 1 THEN o.id END), min(o.id)) FROM binary_packages o
         WHERE o.build_input_id = ${inputId} AND o.name = ${artifact.name} AND o.file = ${artifact.file}
           AND (${artifact.status} = 'FAIL' OR coalesce(o.sha256, ${artifact.sha256}, '') = coalesce(${artifact.sha256}, o.sha256, '')))`
}

export type GroupInput = Row & {
  id: number
  source_package_id: number
  seen: number
  status: BuildStatus | null
}

/** The build inputs that share their rebuilds. */
export function inputsOfGroup(tx: Transaction, groupId: number): Promise<GroupInput[]> {
  return tx.all<GroupInput>(
    sql`SELECT id, source_package_id, seen, status FROM build_inputs WHERE group_id = ${groupId} ORDER BY id`,
  )
}

type Names = Row & {
  name: string
  version: string
  distribution: string
  release: string
  architecture: string
}

/** What a build input is called, for messages and events. */
export async function namesOfInput(tx: Transaction, inputId: number): Promise<Names> {
  const [row] = await tx.all<Names>(sql`
    SELECT s.name, s.version, r.distribution, r.name AS release, c.architecture
      FROM build_inputs i JOIN source_packages s ON s.id = i.source_package_id JOIN releases r ON r.id = s.release_id
      JOIN scopes c ON c.id = i.scope_id WHERE i.id = ${inputId}`)
  return row as Names // the caller has the input
}

/** A rebuild that could not be compared: its listed files have no verdict, and say why. */
export function failedFiles(inputId: number, buildId: number, reason: string | null, now: string): Sql {
  return sql`
    UPDATE binary_packages SET status = 'FAIL', reason = ${reason}, build_id = ${buildId}, artifact_id = NULL, diffoscope_id = NULL,
      attestation_id = NULL, decided_at = ${now} WHERE build_input_id = ${inputId} AND seen = 1
      AND NOT EXISTS (SELECT 1 FROM artifacts a WHERE a.build_id = ${buildId} AND a.name = binary_packages.name AND a.file = binary_packages.file)`
}

type Counters = Row & {
  retries: number
  infrastructure_retries: number
  backend: string
  architecture: string
}

/** How often the rebuilds of a group failed in a row. */
export function countersOf(tx: Transaction, groupId: number): Promise<Counters | null> {
  return first(
    tx.all<Counters>(
      sql`SELECT retries, infrastructure_retries, backend, architecture FROM friend_groups WHERE id = ${groupId}`,
    ),
  )
}

/** What comes after a rebuild: counters, and when it is tried again. */
export function countersSet(
  groupId: number,
  set: { retries: number; infrastructureRetries: number; nextRetry: string | null; reason: string | null },
): Sql {
  return sql`UPDATE friend_groups SET retries = ${set.retries}, infrastructure_retries = ${set.infrastructureRetries},
               next_retry = ${set.nextRetry}, last_reason = ${set.reason} WHERE id = ${groupId}`
}

/** Ends a lease, and its job unless another worker has it by now. */
export function leaseEnded(lease: Lease, workerId: number, outcome: 'reported' | 'late', now: string): Sql[] {
  return [
    sql`UPDATE leases SET outcome = ${outcome}, ended_at = ${now} WHERE id = ${lease.id}`,
    sql`DELETE FROM jobs WHERE id = ${lease.job_id} AND (lease_id = ${lease.id} OR state <> 'running')`,
    workerSeen(workerId, now),
  ]
}

/** Frees the job of a lease that its worker gives up; others may have it at once, the worker itself after them. */
export function leaseReturned(
  lease: Lease,
  { workerId, avoidWorkerId, now }: { workerId: number; avoidWorkerId: number | null; now: string },
): Sql[] {
  return [
    sql`UPDATE leases SET outcome = 'returned', ended_at = ${now} WHERE id = ${lease.id}`,
    sql`UPDATE jobs SET next_retry = ${now}, avoid_worker_id = ${avoidWorkerId} WHERE id = ${lease.job_id} AND lease_id = ${lease.id}`,
    ...putBack(sql`jobs.id = ${lease.job_id} AND jobs.lease_id = ${lease.id}`),
    workerSeen(workerId, now),
  ]
}

/** Queues a group again for one of its inputs that is still listed and still needs it. */
export function requeued(
  groupId: number,
  set: { priority: number; nextRetry: string | null; now: string; avoidWorkerId: number | null },
): Sql {
  return sql`
    INSERT INTO jobs (group_id, build_input_id, backend, architecture, state, priority, queued_at, next_retry, avoid_worker_id, requires)
    SELECT g.id, min(i.id), g.backend, g.architecture, CASE WHEN ${set.nextRetry} > ${set.now} THEN 'waiting' ELSE 'ready' END,
           ${set.priority}, ${set.now}, ${set.nextRetry}, ${set.avoidWorkerId}, ${newRequires}
      FROM friend_groups g JOIN build_inputs i ON i.group_id = g.id AND i.seen = 1 AND i.needs_work = 1
     WHERE g.id = ${groupId} GROUP BY g.id
    ON CONFLICT (group_id) DO NOTHING`
}

/** Whether another worker than this one is about, that could take the job over. */
export async function hasOtherWorkers(tx: Transaction, workerId: number): Promise<boolean> {
  const rows = await tx.all(sql`SELECT 1 AS one FROM workers WHERE online = 1 AND id <> ${workerId} LIMIT 1`)
  return rows.length > 0
}

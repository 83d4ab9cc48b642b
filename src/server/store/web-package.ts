/** Everything about one source package of a release, and about one build. */
import { first, sql, type Database, type Row } from './database.ts'

/** Versions of a package that a page tells of. */
const mostVersions = 30
const mostBinaries = 3000
const mostAttempts = 100

export type VersionRow = Row & {
  id: number
  version: string
  maintainer: string | null
  seen: number
  first_seen: string
  last_seen: string
  status: string | null
  reason: string | null
  decided_at: string | null
}

/** The versions of a source package, listed ones first, newest first; or the one asked for. */
export function versionsOf(
  db: Database,
  releaseId: number,
  name: string,
  version: string | null,
): Promise<VersionRow[]> {
  const only = version === null ? sql`1` : sql`s.version = ${version}`
  return db.all<VersionRow>(sql`
    SELECT s.id, s.version, s.maintainer, s.seen, s.first_seen, s.last_seen, s.status, s.reason, s.decided_at
      FROM source_packages s WHERE s.release_id = ${releaseId} AND s.name = ${name} AND ${only}
     ORDER BY +s.seen DESC, s.id DESC LIMIT ${mostVersions}`)
}

export type InputRow = Row & {
  id: number
  source_package_id: number
  group_id: number
  architecture: string
  backend: string
  url: string
  seen: number
  status: string | null
  reason: string | null
  build_id: number | null
  /** What the worker said of that build. */
  note: string | null
  decided_at: string | null
  retries: number
  infrastructure_retries: number
  job_id: number | null
  state: string | null
  next_retry: string | null
  worker: string | null
  index_trust: string | null
}

/** Build inputs of source packages, with what the queue does with them. */
export function inputsOf(db: Database, sourceIds: readonly number[]): Promise<InputRow[]> {
  return db.all<InputRow>(sql`
    SELECT i.id, i.source_package_id, i.group_id, c.architecture, g.backend, g.url, i.seen, i.status, i.reason, i.build_id,
           json_extract(h.evidence, '$.note') AS note, i.decided_at, g.retries, g.infrastructure_retries, j.id AS job_id, j.state, coalesce(j.next_retry, g.next_retry) AS next_retry,
           w.name AS worker, c.index_trust
      FROM build_inputs i JOIN scopes c ON c.id = i.scope_id JOIN friend_groups g ON g.id = i.group_id
      LEFT JOIN jobs j ON j.group_id = g.id LEFT JOIN workers w ON w.id = j.worker_id LEFT JOIN builds h ON h.id = i.build_id
     WHERE i.source_package_id IN ${sourceIds} ORDER BY c.architecture, i.id LIMIT 500`)
}

export type FileRow = Row & {
  id: number
  build_input_id: number
  name: string
  version: string
  component: string
  architecture: string
  url: string
  file: string
  sha256: string | null
  size: number | null
  seen: number
  status: string | null
  reason: string | null
  build_id: number | null
  artifact_id: number | null
  diffoscope_id: number | null
  attestation_id: number | null
}

/** Files of source packages with their verdicts. */
export function filesOf(db: Database, sourceIds: readonly number[]): Promise<FileRow[]> {
  return db.all<FileRow>(sql`
    SELECT b.id, b.build_input_id, b.name, b.version, b.component, b.architecture, b.url, b.file, b.sha256, b.size, b.seen, b.status,
           b.reason, b.build_id, b.artifact_id, b.diffoscope_id, b.attestation_id
      FROM binary_packages b WHERE b.source_package_id IN ${sourceIds} ORDER BY b.source_package_id, b.id LIMIT ${mostBinaries}`)
}

export type AttemptRow = Row & {
  id: number
  version: string
  architecture: string
  started_at: string | null
  decided_at: string
  status: string
  reason: string | null
  retries: number
  worker: string | null
  is_latest: number
}

/** Finished rebuilds of inputs, newest first. */
export function attemptsOf(db: Database, inputIds: readonly number[]): Promise<AttemptRow[]> {
  return db.all<AttemptRow>(sql`
    SELECT h.id, s.version, c.architecture, h.started_at, h.decided_at, h.status, h.reason, h.retries, h.worker, h.is_latest
      FROM builds h JOIN build_inputs i ON i.id = h.build_input_id JOIN source_packages s ON s.id = i.source_package_id
      JOIN scopes c ON c.id = i.scope_id
     WHERE h.build_input_id IN ${inputIds} ORDER BY h.id DESC LIMIT ${mostAttempts}`)
}

export type ElsewhereRow = Row & {
  distribution: string
  release: string
  version: string
  status: string | null
  reason: string | null
  is_friend: number
}

/** The same source package in other releases. `is_friend`: it shares a build input with this one. */
export function elsewhere(
  db: Database,
  releaseId: number,
  name: string,
  groupIds: readonly number[],
): Promise<ElsewhereRow[]> {
  return db.all<ElsewhereRow>(sql`
    SELECT r.distribution, r.name AS release, s.version, s.status, s.reason,
           EXISTS (SELECT 1 FROM build_inputs i WHERE i.source_package_id = s.id AND i.group_id IN ${groupIds}) AS is_friend
      FROM source_packages s JOIN releases r ON r.id = s.release_id
     WHERE s.name = ${name} AND s.release_id <> ${releaseId} AND s.seen = 1 ORDER BY s.id DESC LIMIT 50`)
}

export type BuildExtra = Row & {
  build_input_id: number
  worker_key: string | null
  log_sha256: string | null
  log_size: number | null
  url: string
  queued_lease: string | null
  is_latest: number
  newer: number | null
  older: number | null
  current: number | null
}

/** What a build's page tells besides the build: the key that signed, its neighbours, its log. */
export function buildExtra(db: Database, id: number): Promise<BuildExtra | null> {
  return first(
    db.all<BuildExtra>(sql`
      SELECT h.build_input_id, h.worker_key, f.sha256 AS log_sha256, f.size AS log_size, g.url, l.started_at AS queued_lease, h.is_latest,
             (SELECT min(n.id) FROM builds n WHERE n.build_input_id = h.build_input_id AND n.id > h.id) AS newer,
             (SELECT max(o.id) FROM builds o WHERE o.build_input_id = h.build_input_id AND o.id < h.id) AS older,
             i.build_id AS current
        FROM builds h JOIN build_inputs i ON i.id = h.build_input_id JOIN friend_groups g ON g.id = i.group_id
        LEFT JOIN blobs f ON f.id = h.log_id LEFT JOIN leases l ON l.id = h.lease_id WHERE h.id = ${id}`),
  )
}

/** The worst verdict of listed versions of a source package, for its badge; null where nothing is listed. */
export async function badgeVerdict(
  db: Database,
  releaseId: number,
  name: string,
): Promise<{ good: number; bad: number; fail: number; total: number } | null> {
  const row = await first(
    db.all<{ good: number; bad: number; fail: number; total: number }>(sql`
      SELECT coalesce(sum(b.status = 'GOOD'), 0) AS good, coalesce(sum(b.status = 'BAD'), 0) AS bad,
             coalesce(sum(b.status = 'FAIL'), 0) AS fail, count(*) AS total
        FROM source_packages s JOIN binary_packages b ON b.source_package_id = s.id AND b.seen = 1
       WHERE s.release_id = ${releaseId} AND s.name = ${name} AND s.seen = 1`),
  )
  return row === null || row.total === 0 ? null : row
}

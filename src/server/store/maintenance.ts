import { sql, trusted, type Database, type Row, type Sql } from './database.ts'

/** Whatever answers questions about a database. */
export type Reader = Pick<Database, 'all'>

/** Inputs that need work and are not queued. */
const unqueued = `
  SELECT i.id AS at FROM build_inputs i WHERE i.needs_work = 1 AND i.seen = 1
     AND NOT EXISTS (SELECT 1 FROM jobs j WHERE j.group_id = i.group_id)`

/** Questions that must have no answer, by what an answer would mean. */
const contradictions: Readonly<Record<string, string>> = {
  'a job is lost: it was handed out, needs work and is not queued': `
    ${unqueued} AND EXISTS (SELECT 1 FROM leases l WHERE l.group_id = i.group_id AND l.outcome = 'lost')`,
  'a report is counted twice': `
    SELECT min(id) AS at FROM builds WHERE lease_id IS NOT NULL GROUP BY lease_id, build_input_id HAVING count(*) > 1`,
  'a job runs without its lease': `
    SELECT j.id AS at FROM jobs j WHERE j.state = 'running'
       AND NOT EXISTS (SELECT 1 FROM leases l WHERE l.id = j.lease_id AND l.outcome IS NULL)`,
  'a lease is reported without a build': `
    SELECT l.id AS at FROM leases l WHERE l.outcome IN ('reported', 'late')
       AND NOT EXISTS (SELECT 1 FROM builds h WHERE h.lease_id = l.id)`,
  'a result names a build of another input': `
    SELECT i.id AS at FROM build_inputs i JOIN builds h ON h.id = i.build_id WHERE h.build_input_id <> i.id`,
  'job_counts differ from a recount': `
    SELECT i.scope_id AS at FROM jobs j JOIN build_inputs i ON i.id = j.build_input_id GROUP BY i.scope_id, j.state
    HAVING count(*) IS NOT (SELECT n FROM job_counts c WHERE c.scope_id = i.scope_id AND c.state = j.state)
    UNION ALL SELECT c.scope_id FROM job_counts c WHERE c.n <> 0 AND NOT EXISTS (
      SELECT 1 FROM jobs j JOIN build_inputs i ON i.id = j.build_input_id WHERE i.scope_id = c.scope_id AND j.state = c.state)`,
  'build_counts differ from a recount': `
    WITH recount AS (SELECT i.scope_id, h.status, coalesce(h.reason, '') AS reason, count(*) AS n
      FROM builds h JOIN build_inputs i ON i.id = h.build_input_id GROUP BY 1, 2, 3)
    SELECT 0 AS at FROM (SELECT * FROM recount EXCEPT SELECT scope_id, status, reason, n FROM build_counts)
    UNION ALL SELECT 0 FROM (SELECT scope_id, status, reason, n FROM build_counts WHERE n <> 0 EXCEPT SELECT * FROM recount)`,
  'binary_counts differ from a recount': differences('binary_counts', 'binary_packages', [
    'scope_id',
    'component',
    'architecture',
    'seen',
  ]),
  'input_counts differ from a recount': differences('input_counts', 'build_inputs', ['scope_id', 'seen']),
  'source_counts differ from a recount': differences('source_counts', 'source_packages', [
    'release_id',
    'seen',
  ]),
}

/** Rows of a counter that a recount does not give, and the other way round. */
function differences(counter: string, table: string, columns: readonly string[]): string {
  const names = columns.join(', ')
  const kept = `SELECT ${names}, status, reason, n FROM ${counter} WHERE n <> 0`
  const recount = `SELECT ${names}, coalesce(status, '') AS status, coalesce(reason, '') AS reason, count(*) AS n
    FROM ${table} GROUP BY ${names}, coalesce(status, ''), coalesce(reason, '')`
  return `SELECT n AS at FROM (SELECT * FROM (${kept}) EXCEPT SELECT * FROM (${recount}))
    UNION ALL SELECT n FROM (SELECT * FROM (${recount}) EXCEPT SELECT * FROM (${kept}))`
}

/** What the engine itself finds wrong with the file, and rows that refer to nothing. */
export async function damageOf(db: Reader): Promise<string[]> {
  const rows = await db.all<{ integrity_check: string }>(sql`PRAGMA integrity_check`)
  const foreign = await db.all<Row & { table: string }>(sql`PRAGMA foreign_key_check`)
  return [
    ...rows.map((row) => row.integrity_check).filter((text) => text !== 'ok'),
    ...foreign.map((row) => `a row of ${row.table} refers to nothing`),
  ]
}

/** What the rows say that cannot be so: results counted twice, jobs that are lost, counters that are wrong. */
export async function contradictionsIn(db: Reader): Promise<string[]> {
  const found: string[] = []
  for (const [meaning, question] of Object.entries(contradictions)) {
    const rows = await db.all<{ at: number }>(trusted(question))
    if (rows.length > 0) found.push(`${meaning} (${rows.length} times, first at ${rows[0]?.at})`)
  }
  return found
}

/** How many listed inputs need work and are not queued: none, unless tries are bounded or jobs were dropped. */
export async function unqueuedInputs(db: Reader): Promise<number> {
  return (await db.all(trusted(unqueued))).length
}

type BlobRow = { id: number; sha256: string; size: number }

/** Kept blobs after an id, some at a time. */
export function blobsAfter(db: Database, after: number, limit: number): Promise<BlobRow[]> {
  return db.all<BlobRow>(
    sql`SELECT id, sha256, size FROM blobs WHERE id > ${after} ORDER BY id LIMIT ${limit}`,
  )
}

/** Which of these hashes the database knows. */
export async function knownBlobs(db: Database, sha256s: readonly string[]): Promise<Set<string>> {
  const rows = await db.all<{ sha256: string }>(sql`SELECT sha256 FROM blobs WHERE sha256 IN ${sha256s}`)
  return new Set(rows.map((row) => row.sha256))
}

/** No row names the blob. */
const unnamed = trusted(`NOT EXISTS (SELECT 1 FROM builds h WHERE h.log_id = blobs.id)
       AND NOT EXISTS (SELECT 1 FROM builds h WHERE h.environment_id = blobs.id)
       AND NOT EXISTS (SELECT 1 FROM artifacts a WHERE a.diffoscope_id = blobs.id)
       AND NOT EXISTS (SELECT 1 FROM artifacts a WHERE a.html_id = blobs.id)
       AND NOT EXISTS (SELECT 1 FROM artifacts a WHERE a.attestation_id = blobs.id)`)

/** How many blobs no row names. */
export async function unnamedBlobs(db: Reader): Promise<number> {
  const [row] = await db.all<{ n: number }>(sql`SELECT count(*) AS n FROM blobs WHERE ${unnamed}`)
  return row?.n ?? 0
}

/** Forgets those of some blobs that no row has named since a moment; their ids. */
export function forgottenBlobs(ids: readonly number[], before: string): Sql {
  return sql`
    DELETE FROM blobs WHERE id IN ${ids} AND kept_at < ${before}
       AND ${unnamed} RETURNING id`
}

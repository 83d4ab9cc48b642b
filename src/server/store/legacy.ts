/** The questions of API v0. */
import { sql, type Database, type Row, type Sql } from './database.ts'
import { whereOf } from './page.ts'

type ListFilterV0 = {
  name?: string | undefined
  status?: string | undefined
  distro?: string | undefined
  suite?: string | undefined
  architecture?: string | undefined
}

/** Rows per query: so many take the database's thread about 20 ms. */
const rowsAtOnce = 5000

/**
 * Binary packages as the text of one JSON array, piece by piece: those that are listed, then those that left since
 * `cutoff`. People ask about what they installed before the last update; but a list of all there ever was would
 * grow without end.
 */
export async function* packagesAsJson(
  db: Database,
  filter: ListFilterV0,
  cutoff: string,
): AsyncGenerator<string> {
  yield '['
  let isFirst = true
  for (const start of [
    { seen: 1, time: '', id: 0 },
    { seen: 0, time: cutoff, id: 0 },
  ]) {
    for (let after = start; ;) {
      const [row] = await db.all<Piece>(pieceAfter(after, filter))
      if (row === undefined || row.place === null) break
      yield (isFirst ? '' : ',') + row.records.slice(1, -1)
      isFirst = false
      const [time = '', id] = row.place.split(' ')
      after = { seen: start.seen, time, id: Number(id) }
    }
  }
  yield ']'
}

/** `place`: last_seen and id of the last row. */
type Piece = Row & { records: string; place: string | null }

/** A piece of the list in the order of (last seen, id), with the place of its last row. */
function pieceAfter(after: { seen: number; time: string; id: number }, filter: ListFilterV0): Sql {
  const where = [
    sql`b.seen = ${after.seen}`,
    sql`(b.last_seen, b.id) > (${after.time}, ${after.id})`,
    ...conditions(filter),
  ]
  // Told which way to go: by the distribution first, every piece would sort the whole list anew.
  const walk =
    filter.name === undefined
      ? sql`binary_packages b INDEXED BY binary_packages_by_leaving`
      : sql`binary_packages b INDEXED BY binary_packages_by_name`
  return sql`
    SELECT json_group_array(json_object('name', p.name, 'version', p.version, 'status', p.status, 'distro', p.distribution,
             'suite', p.component, 'architecture', p.architecture, 'artifact_url', p.url, 'build_id', p.build_id,
             'built_at', p.built_at, 'has_diffoscope', json(p.has_diffoscope), 'has_attestation', json(p.has_attestation))) AS records,
           max(p.last_seen || printf(' %012d', p.id)) AS place
      FROM (SELECT b.id, b.last_seen, b.name, b.version, CASE b.status WHEN 'GOOD' THEN 'GOOD' WHEN 'BAD' THEN 'BAD' ELSE 'UNKWN' END AS status,
                   r.distribution, b.component, b.architecture, b.url, b.build_id, h.built_at,
                   iif(b.diffoscope_id IS NULL, 'false', 'true') AS has_diffoscope,
                   iif(b.attestation_id IS NULL, 'false', 'true') AS has_attestation
              FROM ${walk} CROSS JOIN releases r ON r.id = b.release_id CROSS JOIN scopes c ON c.id = b.scope_id
              LEFT JOIN builds h ON h.id = b.build_id
              ${whereOf(where)} ORDER BY b.last_seen, b.id LIMIT ${rowsAtOnce}) p`
}

function conditions(filter: ListFilterV0): Sql[] {
  const given: Sql[] = []
  if (filter.name !== undefined) given.push(sql`b.name = ${filter.name}`)
  if (filter.distro !== undefined) given.push(sql`r.distribution = ${filter.distro}`)
  if (filter.suite !== undefined) given.push(sql`b.component = ${filter.suite}`)
  if (filter.architecture !== undefined) given.push(sql`c.architecture = ${filter.architecture}`)
  if (filter.status === 'UNKWN') given.push(sql`coalesce(b.status, '') NOT IN ('GOOD', 'BAD')`)
  else if (filter.status !== undefined) given.push(sql`b.status = ${filter.status}`)
  return given
}

/** Listed binaries by component and verdict. */
export function componentCounts(
  db: Database,
): Promise<(Row & { component: string; good: number; bad: number; unknown: number })[]> {
  return db.all(sql`
    SELECT component, sum(iif(status = 'GOOD', n, 0)) AS good, sum(iif(status = 'BAD', n, 0)) AS bad,
           sum(iif(status IN ('GOOD', 'BAD'), 0, n)) AS unknown
      FROM binary_counts WHERE seen = 1 GROUP BY component HAVING sum(n) > 0`)
}

export type QueueRowV0 = Row & {
  id: number
  name: string
  version: string
  distribution: string
  architecture: string
  url: string
  queued_at: string
  worker_id: number | null
  started_at: string | null
  last_ping: string | null
  artifacts: string
}

/** Jobs in the order they run: those that do first, then by turn. `artifacts` is a JSON array. */
export function queueRowsV0(db: Database, limit: number, onlyRunning: boolean): Promise<QueueRowV0[]> {
  // The plus sign keeps the planner from walking the whole queue for the few that run.
  const order = onlyRunning
    ? sql`WHERE j.state = 'running' ORDER BY +j.priority, j.queued_at, j.id`
    : sql`ORDER BY j.priority, j.queued_at, j.id`
  return db.all<QueueRowV0>(sql`
    SELECT j.id, s.name, s.version, r.distribution, j.architecture, g.url, j.queued_at, j.worker_id, j.started_at, w.last_ping,
           (SELECT json_group_array(json_object('name', b.name, 'version', b.version, 'url', b.url)) FROM binary_packages b
             WHERE b.build_input_id = j.build_input_id AND b.seen = 1) AS artifacts
      FROM jobs j CROSS JOIN build_inputs i ON i.id = j.build_input_id CROSS JOIN source_packages s ON s.id = i.source_package_id
      CROSS JOIN releases r ON r.id = s.release_id CROSS JOIN friend_groups g ON g.id = j.group_id LEFT JOIN workers w ON w.id = j.worker_id
      ${order} LIMIT ${limit}`)
}

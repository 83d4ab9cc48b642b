import { first, sql, type Database, type Row } from './database.ts'
import { whereOf } from './page.ts'
import { inputConditions, type JobFilter } from './queue.ts'

export type OutlookRow = Row & {
  name: string
  version: string
  distribution: string
  release: string
  architecture: string
  maintainer: string | null
  url: string
  status: string | null
  reason: string | null
  decided_at: string | null
  seen: number
  retries: number
  infrastructure_retries: number
  job_id: number | null
  state: string | null
  requires: string | null
  index_trust: 'signed' | 'unsigned' | null
}

/** Answers of one question at the most. */
const mostRows = 50

/** Build inputs that match, listed ones first, the newest of them first. */
export function outlookRows(db: Database, filter: JobFilter): Promise<OutlookRow[]> {
  return db.all<OutlookRow>(sql`
    SELECT s.name, s.version, r.distribution, r.name AS release, c.architecture, s.maintainer, g.url, i.status, i.reason, i.decided_at, i.seen,
           g.retries, g.infrastructure_retries, j.id AS job_id, j.state, j.requires, c.index_trust
      FROM source_packages s JOIN build_inputs i ON i.source_package_id = s.id JOIN releases r ON r.id = s.release_id
      JOIN scopes c ON c.id = i.scope_id JOIN friend_groups g ON g.id = i.group_id LEFT JOIN jobs j ON j.group_id = g.id
      ${whereOf(inputConditions(filter))} ORDER BY i.seen DESC, s.id DESC, i.id LIMIT ${mostRows}`)
}

/** Ready jobs of the same backend, architecture and tags that go before this one, counted up to a bound. */
export async function jobsAhead(db: Database, jobId: number): Promise<number> {
  const row = await first(
    db.all<{ n: number }>(sql`
      SELECT count(*) AS n FROM (
        SELECT 1 FROM jobs me JOIN jobs j ON j.state = 'ready' AND j.backend = me.backend AND j.architecture = me.architecture
           AND j.requires IS me.requires AND (j.priority, j.queued_at, j.id) < (me.priority, me.queued_at, me.id)
         WHERE me.id = ${jobId} LIMIT 10000)`),
  )
  return row?.n ?? 0
}

/** The tags of workers that are online and take jobs. */
export async function onlineTags(db: Database): Promise<string[]> {
  const rows = await db.all<{ tags: string }>(sql`SELECT tags FROM workers WHERE online = 1 AND draining = 0`)
  return rows.map((row) => row.tags)
}

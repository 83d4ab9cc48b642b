import type { QueueEvent, VerdictEvent } from '../../wire/gates.ts'
import { first, sql, type Database, type Row, type Sql } from './database.ts'

export type Event = { kind: 'verdict'; data: VerdictEvent } | { kind: 'queue'; data: QueueEvent }
export type EventRow = Row & { id: number; at: string; kind: string; data: string }

/** Events kept for those who come back. */
const keptEvents = 100_000

/** Writes an event in the transaction that made it true. */
export function happened(event: Event, now: string): Sql {
  return sql`INSERT INTO events (at, kind, data) VALUES (${now}, ${event.kind}, ${JSON.stringify(event.data)})`
}

/**
 * Writes down that a build changed the verdict of its package: from the one its input had before (null: none), or
 * else from that of the version before. Nothing where it did not, or where a first verdict is GOOD.
 */
export function verdictChanged(buildId: number, before: string | null, now: string): Sql {
  // The plus signs keep the planner from walking all ids downwards, or all inputs of a scope.
  return sql`
    INSERT INTO changes (at, build_id, release_id, name, version, architecture, maintainer, status, reason, before, before_version, turn)
    SELECT ${now}, w.id, w.release_id, w.name, w.version, w.architecture, w.maintainer, w.status, w.reason, w.before,
           CASE WHEN ${before} IS NULL THEN w.before_version END,
           CASE WHEN w.before = 'GOOD' THEN 1 WHEN w.status = 'GOOD' THEN 2 ELSE 3 END
      FROM (
        SELECT h.id, s.release_id, s.name, s.version, c.architecture, s.maintainer, h.status, h.reason,
               p.version AS before_version, coalesce(${before}, pi.status) AS before
          FROM builds h JOIN build_inputs i ON i.id = h.build_input_id JOIN source_packages s ON s.id = i.source_package_id
          JOIN scopes c ON c.id = i.scope_id
          LEFT JOIN source_packages p ON p.id = (
            SELECT max(+o.id) FROM source_packages o WHERE o.release_id = s.release_id AND o.name = s.name AND +o.id < s.id)
          LEFT JOIN build_inputs pi ON pi.source_package_id = p.id AND +pi.scope_id = i.scope_id
         WHERE h.id = ${buildId} LIMIT 1) w
     WHERE coalesce(w.before, '') <> w.status AND (w.before IS NOT NULL OR w.status <> 'GOOD')`
}

/** Events after an id, oldest first; of some kinds, or of all. */
export function eventsAfter(
  db: Database,
  after: number,
  kinds: readonly string[] | null,
  limit: number,
): Promise<EventRow[]> {
  return kinds === null
    ? db.all<EventRow>(
        sql`SELECT id, at, kind, data FROM events WHERE id > ${after} ORDER BY id LIMIT ${limit}`,
      )
    : db.all<EventRow>(
        sql`SELECT id, at, kind, data FROM events WHERE id > ${after} AND kind IN ${kinds} ORDER BY id LIMIT ${limit}`,
      )
}

export async function lastEvent(db: Database): Promise<number> {
  const row = await first(db.all<{ id: number | null }>(sql`SELECT max(id) AS id FROM events`))
  return row?.id ?? 0
}

/** Old events go. */
export function forgottenEvents(): Sql {
  return sql`DELETE FROM events WHERE id <= (SELECT max(id) FROM events) - ${keptEvents}`
}

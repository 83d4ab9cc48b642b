import type { QueueEvent, VerdictEvent } from '../../wire/gates.ts'
import { first, sql, type Database, type Row, type Sql, type Transaction } from './database.ts'

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
export async function verdictChanged(
  tx: Transaction,
  {
    inputId,
    buildId,
    status,
    before,
  }: { inputId: number; buildId: number; status: string; before: string | null },
  now: string,
): Promise<Sql[]> {
  const last = before === null ? await versionBefore(tx, inputId) : { status: before, version: null }
  if (last.status === status || (last.status === null && status === 'GOOD')) return []
  const turn = last.status === 'GOOD' ? 1 : status === 'GOOD' ? 2 : 3
  return [
    sql`
      INSERT INTO changes (at, build_id, release_id, name, version, architecture, maintainer, status, reason, before, before_version, turn)
      SELECT ${now}, h.id, s.release_id, s.name, s.version, c.architecture, s.maintainer, h.status, h.reason, ${last.status}, ${last.version}, ${turn}
        FROM builds h JOIN build_inputs i ON i.id = h.build_input_id JOIN source_packages s ON s.id = i.source_package_id
        JOIN scopes c ON c.id = i.scope_id WHERE h.id = ${buildId}`,
  ]
}

type Before = { status: string | null; version: string | null }

/** The version of the package before that of an input, and its verdict in the same scope. */
async function versionBefore(tx: Transaction, inputId: number): Promise<Before> {
  // The plus signs keep the planner from walking all ids downwards, or all inputs of a scope.
  const rows = await tx.all<Before>(sql`
    SELECT p.version, pi.status
      FROM build_inputs i JOIN source_packages s ON s.id = i.source_package_id
      JOIN source_packages p ON p.id = (
        SELECT max(+o.id) FROM source_packages o WHERE o.release_id = s.release_id AND o.name = s.name AND +o.id < s.id)
      LEFT JOIN build_inputs pi ON pi.source_package_id = p.id AND +pi.scope_id = i.scope_id
     WHERE i.id = ${inputId} LIMIT 1`)
  return rows[0] ?? { status: null, version: null }
}

/** Events after an id, oldest first. */
export function eventsAfter(db: Database, after: number, limit: number): Promise<EventRow[]> {
  return db.all<EventRow>(
    sql`SELECT id, at, kind, data FROM events WHERE id > ${after} ORDER BY id LIMIT ${limit}`,
  )
}

/** The id of the newest event; 0: there was none. */
export async function lastEvent(db: Database): Promise<number> {
  const row = await first(db.all<{ id: number | null }>(sql`SELECT max(id) AS id FROM events`))
  return row?.id ?? 0
}

/** Old events go. */
export function forgottenEvents(): Sql {
  return sql`DELETE FROM events WHERE id <= (SELECT max(id) FROM events) - ${keptEvents}`
}

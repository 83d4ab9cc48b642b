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

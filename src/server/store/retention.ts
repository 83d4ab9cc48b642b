import { sql, type Database, type Sql } from './database.ts'

type Id = { id: number }

/** Build inputs after an id, some at a time. */
export async function inputsAfter(db: Database, after: number, limit: number): Promise<number[]> {
  const rows = await db.all<Id>(
    sql`SELECT id FROM build_inputs WHERE id > ${after} ORDER BY id LIMIT ${limit}`,
  )
  return rows.map((row) => row.id)
}

/** Builds of some inputs that are older than the newest `kept` of their input and still have a log. */
export async function outlivedBuilds(
  db: Database,
  inputs: readonly number[],
  kept: number,
  limit: number,
): Promise<number[]> {
  const rows = await db.all<Id>(sql`
    SELECT o.id FROM (
      SELECT h.id, h.log_id, row_number() OVER (PARTITION BY h.build_input_id ORDER BY h.id DESC) AS place
        FROM builds h WHERE h.build_input_id IN ${inputs}) o
     WHERE o.place > ${kept} AND o.log_id IS NOT NULL
       AND NOT EXISTS (SELECT 1 FROM build_inputs i WHERE i.build_id = o.id AND i.id IN ${inputs})
       AND NOT EXISTS (SELECT 1 FROM binary_packages b WHERE b.build_input_id IN ${inputs} AND b.build_id = o.id)
     ORDER BY o.id LIMIT ${limit}`)
  return rows.map((row) => row.id)
}

/**
 * Statements that take log and diffs from some builds, but for those that are the latest result of anything. What
 * was named until now counts as kept now, so that the files stay for another day.
 */
export function withoutLogs(ids: readonly number[], now: string): Sql[] {
  const past = sql`
    SELECT h.id FROM builds h WHERE h.id IN ${ids}
       AND NOT EXISTS (SELECT 1 FROM build_inputs i WHERE i.id = h.build_input_id AND i.build_id = h.id)
       AND NOT EXISTS (SELECT 1 FROM binary_packages b WHERE b.build_input_id = h.build_input_id AND b.build_id = h.id)`
  return [
    sql`UPDATE blobs SET kept_at = ${now} WHERE id IN (
          SELECT h.log_id FROM builds h WHERE h.id IN (${past}) AND h.log_id IS NOT NULL
          UNION SELECT a.diffoscope_id FROM artifacts a WHERE a.build_id IN (${past}) AND a.diffoscope_id IS NOT NULL
          UNION SELECT a.html_id FROM artifacts a WHERE a.build_id IN (${past}) AND a.html_id IS NOT NULL)`,
    sql`UPDATE artifacts SET diffoscope_id = NULL, html_id = NULL WHERE build_id IN (${past})
          AND (diffoscope_id IS NOT NULL OR html_id IS NOT NULL)`,
    sql`UPDATE builds SET log_id = NULL WHERE id IN (${past}) AND log_id IS NOT NULL RETURNING id`,
  ]
}

import { sql, type Database, type Row, type Sql } from './database.ts'

export type Generation = Row & { name: string; value: number; changed_at: string }

/** How often the named parts of the data changed, and when. */
export function generationsOf(db: Database, names: readonly string[]): Promise<Generation[]> {
  return db.all<Generation>(generationsNamed(names))
}

/** The question that `generationsOf` asks, for those who batch it. */
export function generationsNamed(names: readonly string[]): Sql {
  return sql`SELECT name, value, changed_at FROM generations WHERE name IN ${names} ORDER BY name`
}

/** Where packages come from: distributions, their releases, architectures and components. */
import { joined, sql, trusted, type Database, type Sql, type Transaction } from './database.ts'
import { given, whereOf } from './page.ts'

/** What a list is narrowed by. The empty text asks for what has no release. */
export type Origin = {
  distribution?: string | null | undefined
  release?: string | null | undefined
  releases?: readonly string[] | undefined
  architecture?: string | null | undefined
}

/** Ids of the releases that a filter asks for; null: all of them, so that there is nothing to narrow. */
export async function releasesWith(tx: Transaction, origin: Origin): Promise<readonly number[] | null> {
  const where = ofRelease(origin)
  if (where.length === 0) return null
  return chosenOf(await tx.all<Chosen>(sql`SELECT r.id, ${joined(where, ' AND ')} AS wanted FROM releases r`))
}

/** The same of scopes. */
export async function scopesWith(tx: Transaction, origin: Origin): Promise<readonly number[] | null> {
  const where = [
    ...ofRelease(origin),
    ...given(origin.architecture, (value) => sql`c.architecture = ${value}`),
  ]
  if (where.length === 0) return null
  return chosenOf(
    await tx.all<Chosen>(
      sql`SELECT c.id, ${joined(where, ' AND ')} AS wanted FROM scopes c JOIN releases r ON r.id = c.release_id`,
    ),
  )
}

function ofRelease({ distribution, release, releases }: Origin): Sql[] {
  return [
    ...given(distribution, (value) => sql`r.distribution = ${value}`),
    ...given(release, (value) => sql`r.name = ${value}`),
    ...given(releases, (value) => sql`r.name IN ${value}`),
  ]
}

type Chosen = { id: number; wanted: number }

function chosenOf(rows: readonly Chosen[]): readonly number[] | null {
  const ids = rows.filter((row) => row.wanted === 1).map((row) => row.id)
  return ids.length === rows.length ? null : ids
}

/** Names of distributions; with `seen` only those that list something, or (false) those that list nothing any more. */
export async function distributionNames(db: Database, seen: boolean | undefined): Promise<string[]> {
  const rows = await db.all<{ name: string }>(sql`
    SELECT DISTINCT r.distribution AS name FROM releases r JOIN scopes c ON c.release_id = r.id ${whereOf(counted(seen))} ORDER BY r.distribution`)
  return rows.map((row) => row.name)
}

/** Names of the releases of a distribution, sorted. */
export async function releaseNames(
  db: Database,
  distribution: string,
  seen: boolean | undefined,
): Promise<string[]> {
  const where = [sql`r.distribution = ${distribution}`, ...counted(seen)]
  const rows = await db.all<{ name: string }>(sql`
    SELECT DISTINCT r.name FROM releases r JOIN scopes c ON c.release_id = r.id ${whereOf(where)} ORDER BY r.name`)
  return rows.map((row) => row.name)
}

/** Architectures of build inputs. */
export async function architectureNames(
  db: Database,
  distribution: string,
  release: string | undefined,
  seen: boolean | undefined,
): Promise<string[]> {
  const where = [
    sql`r.distribution = ${distribution}`,
    ...given(release, (name) => sql`r.name = ${name}`),
    ...counted(seen),
  ]
  const rows = await db.all<{ name: string }>(sql`
    SELECT DISTINCT c.architecture AS name FROM releases r JOIN scopes c ON c.release_id = r.id ${whereOf(where)} ORDER BY c.architecture`)
  return rows.map((row) => row.name)
}

/** Components of packages; with `seen` only of those that are listed, or (false) of those that are not any more. */
export function componentNames(
  db: Database,
  distribution: string,
  release: string | undefined,
  seen?: boolean,
): Promise<string[]> {
  const where = [
    sql`r.distribution = ${distribution}`,
    ...given(release, (name) => sql`r.name = ${name}`),
    ...given(seen, (value) => sql`n.seen = ${value}`),
  ]
  return namesCounted(db, trusted('n.component'), where)
}

/** Architectures of build inputs that have packages in a component. */
export function componentArchitectures(
  db: Database,
  distribution: string,
  release: string,
  component: string,
  seen: boolean | undefined,
): Promise<string[]> {
  const where = [
    sql`r.distribution = ${distribution}`,
    sql`r.name = ${release}`,
    sql`n.component = ${component}`,
    ...given(seen, (value) => sql`n.seen = ${value}`),
  ]
  return namesCounted(db, trusted('c.architecture'), where)
}

/** The different names of a column among the counters of binary packages (n), with their scopes (c) and releases (r). */
async function namesCounted(db: Database, column: Sql, where: readonly Sql[]): Promise<string[]> {
  const rows = await db.all<{ name: string }>(sql`
    SELECT DISTINCT ${column} AS name FROM releases r JOIN scopes c ON c.release_id = r.id JOIN binary_counts n ON n.scope_id = c.id
     ${whereOf([...where, sql`n.n > 0`])} ORDER BY ${column}`)
  return rows.map((row) => row.name)
}

function counted(seen: boolean | undefined): Sql[] {
  return given(
    seen,
    (value) =>
      sql`EXISTS (SELECT 1 FROM input_counts n WHERE n.scope_id = c.id AND n.seen = ${value} AND n.n > 0)`,
  )
}

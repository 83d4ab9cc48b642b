/** What lists of binary and of source packages are narrowed by, alike. */
import { sql, trusted, type Sql, type Transaction } from './database.ts'
import { bounds } from './counting.ts'
import { namesContaining, type Kind } from './names.ts'
import { beginsWith, compared, contains, isOneOf, numberOf, someOf, type Condition } from './narrow.ts'
import { given, whereOf, type PageRequest } from './page.ts'

export type PackageFilter = {
  distribution?: string | undefined
  /** The empty text asks for packages of no release. */
  release?: string | undefined
  releases?: readonly string[] | undefined
  component?: string | undefined
  architecture?: string | undefined
  name?: string | undefined
  version?: string | undefined
  source_name?: string | undefined
  seen_only?: boolean | undefined
  status?: readonly string[] | undefined
  reason?: readonly string[] | undefined
  search?: string | undefined
  search_type?: 'exact' | 'starts_with' | 'contains' | undefined
  maintainer?: string | undefined
  since?: string | undefined
}

export type Asked = { filter: PackageFilter; request: PageRequest }

/** The tables of both lists, with the aliases that conditions know them by. */
export const tables = {
  binary: trusted('binary_packages b'),
  source: trusted('source_packages s'),
} as const satisfies Record<Kind, Sql>

const aliases = { binary: 'b', source: 's' } as const satisfies Record<Kind, string>

/** Packages of this very name and version. */
export function ofName(tx: Transaction, kind: Kind, filter: PackageFilter): Condition[] {
  return (['name', 'version'] as const).flatMap((member) =>
    given(filter[member], (value) => {
      const column = `${aliases[kind]}.${member}`
      const comparison = sql`= ${value}`
      const rows = (): Promise<number> =>
        someOf(tx, sql`SELECT 1 FROM ${tables[kind]} WHERE ${trusted(column)} ${comparison}`)
      return compared(column, comparison, { rows, isExact: true, walks: [member] })
    }),
  )
}

/** Only what the counters know by: their sum is then the number of rows. */
export function isCountable({
  name,
  version,
  source_name,
  search,
  maintainer,
  since,
}: PackageFilter): boolean {
  return [name, version, source_name, search, maintainer, since].every(
    (value) => value === undefined || value === '',
  )
}

/** Packages of some releases; an index has those of one in the order of their ids and names. */
export function inReleases(
  tx: Transaction,
  column: string,
  ids: readonly number[] | null,
  count: (ids: readonly number[]) => Sql,
): Condition[] {
  if (ids === null) return []
  const rows = (): Promise<number> => numberOf(tx, count(ids))
  const together = ['id', 'last_seen', 'first_seen']
  const [only] = ids
  return ids.length === 1 && only !== undefined
    ? [compared(column, sql`= ${only}`, { rows, together, walks: ['id', 'name'] })]
    : [compared(column, sql`IN ${ids}`, { rows, together })]
}

/** UNKWN is what has no verdict yet. */
export function inStatuses(
  column: string,
  statuses: readonly string[] | undefined,
  rows?: () => Promise<number>,
): Condition[] {
  if (statuses === undefined) return []
  const named = statuses.filter((status) => status !== 'UNKWN')
  const orNull = statuses.includes('UNKWN')
  return [isOneOf(column, named, rows === undefined ? { orNull } : { orNull, rows })]
}

/** What got its latest verdict since a moment. */
export function decidedSince(tx: Transaction, kind: Kind, since: string | undefined): Condition[] {
  const table = tables[kind]
  const column = `${aliases[kind]}.decided_at`
  return given(since, (value) => {
    const query = sql`SELECT 1 FROM ${table} WHERE ${trusted(column)} >= ${value}`
    const rows = (): Promise<number> => someOf(tx, query)
    const alone = (): Promise<number> => numberOf(tx, sql`SELECT count(*) AS n FROM (${query})`)
    return compared(column, sql`>= ${value}`, { rows, isExact: true, alone, walks: ['decided_at'] })
  })
}

/** Maintainers that a text is part of, ASCII case folded. */
export async function ofMaintainer(
  tx: Transaction,
  text: string | undefined,
  condition: (names: readonly string[]) => Condition,
): Promise<Condition[]> {
  if (text === undefined || text === '') return []
  const rows = await tx.all<{ name: string }>(
    sql`SELECT name FROM maintainers WHERE ${contains(trusted('name'), text)}`,
  )
  return [condition(rows.map((row) => row.name))]
}

/** Names that are a text, begin with it or contain it, whatever its case but for the first; null: they are not all known yet. */
export async function matches(
  tx: Transaction,
  kind: Kind,
  column: string,
  { search, search_type: type = 'contains' }: PackageFilter,
): Promise<Condition[] | null> {
  if (search === undefined || search === '') return []
  const name = trusted(column)
  if (type === 'exact') {
    const query = sql`SELECT 1 FROM ${tables[kind]} WHERE ${name} = ${search}`
    const alone = (): Promise<number> => numberOf(tx, sql`SELECT count(*) AS n FROM (${query})`)
    const rows = (): Promise<number> => someOf(tx, query)
    return [compared(column, sql`= ${search}`, { rows, isExact: true, alone, walks: ['name'] })]
  }
  const isPrefix = type === 'starts_with'
  const found = await namesContaining(tx, kind, search, bounds.few, isPrefix ? 'beginning' : 'anywhere')
  if (found === null) return null
  const alone = async (): Promise<number> => found.rows
  const exactly = { rows: alone, isExact: true, alone }
  const [from, to] = found.spelt
  const range = sql`BETWEEN ${from} AND ${`${to}\u{10ffff}`}` // where the index of names has them
  if (isPrefix && from === to) return [compared(column, range, { ...exactly, walks: ['name'] })]
  if (!found.isCut && found.rows <= bounds.few) return [compared(column, sql`IN ${found.names}`, exactly)]
  if (!isPrefix) return [{ test: (sign: Sql) => contains(sql`${sign}${name}`, search), alone }]
  const test = (sign: Sql): Sql => {
    const begins = beginsWith(sql`+${name}`, search)
    return sign.text === '' ? sql`(${name} ${range} AND ${begins})` : begins // others are in between
  }
  return [{ test, alone, walks: ['name'] }]
}

/** Packages whose source has binaries in a component: looked up where those are few. */
export function hasComponent(tx: Transaction, sourceId: string, component: string): Condition {
  const id = trusted(sourceId)
  return {
    test: (sign: Sql) =>
      sign.text === ''
        ? sql`${id} IN (SELECT b.source_package_id FROM scopes y CROSS JOIN binary_packages b ON b.scope_id = y.id WHERE b.component = ${component})`
        : sql`EXISTS (SELECT 1 FROM binary_packages b WHERE b.source_package_id = ${id} AND +b.component = ${component})`,
    rows: () => numberOf(tx, binaryCount({ component }, null)),
  }
}

/** How many binary packages there are, by the counters. */
export function binaryCount(filter: PackageFilter, releases: readonly number[] | null): Sql {
  const where = [
    ...given(releases, (ids) => sql`n.scope_id IN (SELECT id FROM scopes WHERE release_id IN ${ids})`),
    ...given(filter.component, (value) => sql`n.component = ${value}`),
    ...given(filter.architecture, (value) => sql`n.architecture = ${value}`),
    ...countConditions(filter),
  ]
  return sql`SELECT coalesce(sum(n.n), 0) AS n FROM binary_counts n ${whereOf(where)}`
}

/** Conditions on what all counters have. */
function countConditions(filter: PackageFilter): Sql[] {
  const statuses = filter.status?.map((status) => (status === 'UNKWN' ? '' : status))
  return [
    ...given(filter.seen_only, (value) => sql`n.seen = ${value}`),
    ...given(statuses, (value) => sql`n.status IN ${value}`),
    ...given(filter.reason, (value) => sql`n.reason IN ${value}`),
  ]
}

/** How many source packages there are, by the counters. */
export function sourceCount(filter: PackageFilter, releases: readonly number[] | null): Sql {
  const where = [...given(releases, (ids) => sql`n.release_id IN ${ids}`), ...countConditions(filter)]
  return sql`SELECT coalesce(sum(n.n), 0) AS n FROM source_counts n ${whereOf(where)}`
}

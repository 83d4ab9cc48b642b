/** The source packages of one release, as lists with filters. Every filter finds its rows by an index. */
import { first, sql, trusted, type Database, type Row, type Sql } from './database.ts'
import { bounds } from './counting.ts'
import { findNames } from './names.ts'
import { contains } from './narrow.ts'
import { pageOfRows, whereOf, type Listing, type PageRequest } from './page.ts'

export type ReleaseRow = Row & { id: number; distribution: string; name: string }
export type ScopeRow = Row & {
  id: number
  architecture: string
  imported_at: string
  listed: number
  index_trust: string | null
}

/** One release; null: nothing was imported for it. */
export function releaseNamed(
  db: Database,
  distribution: string,
  release: string,
): Promise<ReleaseRow | null> {
  return first(
    db.all<ReleaseRow>(
      sql`SELECT id, distribution, name FROM releases WHERE distribution = ${distribution} AND name = ${release}`,
    ),
  )
}

/** The architectures of a release, and how each was imported last. */
export function scopesOf(db: Database, releaseId: number): Promise<ScopeRow[]> {
  return db.all<ScopeRow>(
    sql`SELECT id, architecture, imported_at, listed, index_trust FROM scopes WHERE release_id = ${releaseId} ORDER BY architecture`,
  )
}

/** Source packages of a release; where an architecture is asked for, by the verdict of its input. */
export type SourceFilter = {
  status?: string | undefined
  reason?: string | undefined
  architecture?: string | undefined
  component?: string | undefined
  maintainer?: string | undefined
  search?: string | undefined
}

type ListedSource = Row & {
  id: number
  name: string
  version: string
  maintainer: string | null
  status: string | null
  reason: string | null
  decided_at: string | null
}

/** Totals are counted up to here where no counter knows them. */
const mostCounted = 5000

const listing: Listing = {
  columns: trusted('s.id, s.name, s.version, s.maintainer, s.status, s.reason, s.decided_at'),
  from: trusted('source_packages s'),
  id: 's.id',
  sorts: { name: 's.name', decided: 's.decided_at' },
}

export type Listed = { rows: ListedSource[]; total: number; isTotalKnown: boolean }

/** One page of a release. */
export async function listSources(
  db: Database,
  release: ReleaseRow,
  scopes: readonly ScopeRow[],
  filter: SourceFilter,
  request: PageRequest,
): Promise<Listed> {
  const scope = scopes.find(({ architecture }) => architecture === filter.architecture)
  if (filter.architecture !== undefined && scope === undefined)
    return { rows: [], total: 0, isTotalKnown: true }
  const found = [
    ...(scope === undefined ? [] : [await ofInput(db, scope.id, filter)]),
    ...(await ofComponent(db, scope === undefined ? scopes : [scope], filter.component)),
    ...(await ofMaintainer(db, release.id, filter.maintainer)),
    ...(await ofName(db, release.id, filter.search)),
  ]
  const others = scope === undefined ? ofSource(filter) : []
  const where = conditionsOf(release.id, found, others)
  const rows = await pageOfRows<ListedSource>(db, listing, request, where)
  const isCounted = [filter.component, filter.maintainer, filter.search].every((value) => value === undefined)
  const total = !isCounted
    ? await countUpTo(db, conditionsOf(release.id, found.map(toCount), others))
    : scope === undefined
      ? await countedSources(db, release.id, filter)
      : await countedInputs(db, scope.id, filter)
  return { rows, total, isTotalKnown: isCounted || total < mostCounted }
}

/**
 * A condition: the ids that it allows, where they are few, so that they can be looked up; else a test of each row,
 * and another way to say it for those who count and need no order.
 */
type Found = { ids: Sql } | { test: Sql; counting?: Sql }

function isLookup(found: Found): found is { ids: Sql } {
  return 'ids' in found
}

function toCount(found: Found): Found {
  return isLookup(found) || found.counting === undefined ? found : { test: found.counting }
}

/**
 * All conditions of a list. Few ids lead the way: the plus signs then keep the planner from walking all names of the
 * release to find them in order.
 */
function conditionsOf(releaseId: number, found: readonly Found[], others: readonly Sql[]): Sql[] {
  const [lead, ...rest] = found.filter(isLookup)
  const tests = [...found.flatMap((each) => (isLookup(each) ? [] : [each.test])), ...others]
  if (lead === undefined) return [sql`s.release_id = ${releaseId}`, sql`s.seen = 1`, ...tests]
  return [
    sql`s.id IN (${lead.ids})`,
    ...rest.map(({ ids }) => sql`+s.id IN (${ids})`),
    sql`+s.release_id = ${releaseId}`,
    sql`+s.seen = 1`,
    ...tests,
  ]
}

/** UNKWN is what has no verdict yet. */
function isStatus(column: string, status: string): Sql {
  return status === 'UNKWN' ? sql`${trusted(column)} IS NULL` : sql`${trusted(column)} = ${status}`
}

function ofSource({ status, reason }: SourceFilter): Sql[] {
  return [
    ...(status === undefined ? [] : [isStatus('s.status', status)]),
    ...(reason === undefined ? [] : [sql`s.reason = ${reason}`]),
  ]
}

/** By the input of one architecture: looked up first where few match, else tested while walking the names. */
async function ofInput(db: Database, scopeId: number, filter: SourceFilter): Promise<Found> {
  const { status, reason } = filter
  const condition = [
    sql`i.scope_id = ${scopeId}`,
    sql`i.seen = 1`,
    ...(status === undefined ? [] : [isStatus('i.status', status)]),
    ...(reason === undefined ? [] : [sql`i.reason = ${reason}`]),
  ]
  if ((await countedInputs(db, scopeId, filter)) <= bounds.few)
    return { ids: sql`SELECT i.source_package_id FROM build_inputs i ${whereOf(condition)}` }
  const own = sql`i.source_package_id = s.id`
  const [scoped, ...others] = condition
  const tested = [own, sql`+${scoped ?? own}`, ...others.map((part) => sql`+${part}`)]
  return { test: sql`EXISTS (SELECT 1 FROM build_inputs i ${whereOf(tested)})` }
}

async function ofComponent(
  db: Database,
  scopes: readonly ScopeRow[],
  component: string | undefined,
): Promise<Found[]> {
  if (component === undefined) return []
  const ids = scopes.map((scope) => scope.id)
  const counted = await first(
    db.all<{ n: number }>(
      sql`SELECT coalesce(sum(n), 0) AS n FROM binary_counts WHERE scope_id IN ${ids} AND component = ${component} AND seen = 1`,
    ),
  )
  if ((counted?.n ?? 0) <= bounds.few)
    return [
      {
        ids: sql`SELECT b.source_package_id FROM binary_packages b WHERE b.scope_id IN ${ids} AND b.component = ${component}`,
      },
    ]
  return [
    {
      test: sql`EXISTS (SELECT 1 FROM binary_packages b WHERE b.source_package_id = s.id AND b.component = ${component})`,
    },
  ]
}

/** By maintainers that a text is part of. */
async function ofMaintainer(db: Database, releaseId: number, text: string | undefined): Promise<Found[]> {
  if (text === undefined) return []
  const names = await db.all<{ name: string }>(
    sql`SELECT name FROM maintainers WHERE ${contains(trusted('name'), text)}`,
  )
  const all = names.map((row) => row.name)
  const ids = sql`SELECT x.id FROM source_packages x WHERE x.release_id = ${releaseId} AND x.maintainer IN ${all}`
  const some = await db.all<{ id: number }>(sql`${ids} LIMIT ${bounds.few + 1}`)
  if (some.length <= bounds.few) return [{ ids }]
  return [{ test: sql`+s.maintainer IN ${all}`, counting: sql`s.maintainer IN ${all}` }]
}

/** By names that a text is part of. */
async function ofName(db: Database, releaseId: number, text: string | undefined): Promise<Found[]> {
  if (text === undefined) return []
  const { names, rows } = await findNames(db, { kind: 'source', text, most: bounds.few })
  if (rows > bounds.few) return [{ test: contains(trusted('s.name'), text) }]
  return [
    { ids: sql`SELECT x.id FROM source_packages x WHERE x.release_id = ${releaseId} AND x.name IN ${names}` },
  ]
}

function statusWord(status: string | undefined): string | undefined {
  return status === 'UNKWN' ? '' : status
}

async function countedSources(
  db: Database,
  releaseId: number,
  { status, reason }: SourceFilter,
): Promise<number> {
  const where = [
    sql`release_id = ${releaseId}`,
    sql`seen = 1`,
    ...(status === undefined ? [] : [sql`status = ${statusWord(status)}`]),
    ...(reason === undefined ? [] : [sql`reason = ${reason}`]),
  ]
  const row = await first(
    db.all<{ n: number }>(sql`SELECT coalesce(sum(n), 0) AS n FROM source_counts ${whereOf(where)}`),
  )
  return row?.n ?? 0
}

async function countedInputs(
  db: Database,
  scopeId: number,
  { status, reason }: SourceFilter,
): Promise<number> {
  const where = [
    sql`scope_id = ${scopeId}`,
    sql`seen = 1`,
    ...(status === undefined ? [] : [sql`status = ${statusWord(status)}`]),
    ...(reason === undefined ? [] : [sql`reason = ${reason}`]),
  ]
  const row = await first(
    db.all<{ n: number }>(sql`SELECT coalesce(sum(n), 0) AS n FROM input_counts ${whereOf(where)}`),
  )
  return row?.n ?? 0
}

async function countUpTo(db: Database, where: readonly Sql[]): Promise<number> {
  const row = await first(
    db.all<{ n: number }>(
      sql`SELECT count(*) AS n FROM (SELECT 1 FROM source_packages s ${whereOf(where)} LIMIT ${mostCounted})`,
    ),
  )
  return row?.n ?? 0
}

export type InputVerdict = Row & {
  source_package_id: number
  architecture: string
  status: string | null
  reason: string | null
  build_id: number | null
  decided_at: string | null
}

/** The verdicts of listed inputs of some source packages, by architecture. */
export function verdictsOf(db: Database, sourceIds: readonly number[]): Promise<InputVerdict[]> {
  return db.all<InputVerdict>(sql`
    SELECT i.source_package_id, c.architecture, i.status, i.reason, i.build_id, i.decided_at
      FROM build_inputs i JOIN scopes c ON c.id = i.scope_id
     WHERE i.source_package_id IN ${sourceIds} AND i.seen = 1 ORDER BY c.architecture`)
}

export type ReasonCount = Row & { architecture: string; status: string; reason: string; n: number }

/** Listed inputs of a release by architecture, verdict and reason. */
export function releaseCounts(db: Database, releaseId: number): Promise<ReasonCount[]> {
  return db.all<ReasonCount>(sql`
    SELECT c.architecture, x.status, x.reason, x.n FROM scopes c JOIN input_counts x ON x.scope_id = c.id
     WHERE c.release_id = ${releaseId} AND x.seen = 1 AND x.n > 0 ORDER BY x.n DESC`)
}

export type SourceCount = Row & { status: string; reason: string; n: number }

/** Listed source packages of a release by verdict and reason. */
export function sourceCounts(db: Database, releaseId: number): Promise<SourceCount[]> {
  return db.all<SourceCount>(sql`
    SELECT status, reason, n FROM source_counts WHERE release_id = ${releaseId} AND seen = 1 AND n > 0 ORDER BY n DESC`)
}

/** Names of the listed source packages of a release, in order, each once. */
export async function listedNames(db: Database, releaseId: number, limit: number): Promise<string[]> {
  const rows = await db.all<{ name: string }>(
    sql`SELECT DISTINCT name FROM source_packages WHERE release_id = ${releaseId} AND seen = 1 ORDER BY name LIMIT ${limit}`,
  )
  return rows.map((row) => row.name)
}

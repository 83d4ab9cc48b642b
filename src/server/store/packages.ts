import type { IndexTrust } from '../../wire/packages.ts'
import { first, sql, trusted, type Database, type Row, type Sql, type Transaction } from './database.ts'
import { bounds, tallied, type Tally } from './counting.ts'
import { scopesWith } from './inputs.ts'
import { namesContaining, type Kind } from './names.ts'
import {
  answerOf,
  compared,
  contains,
  isOneOf,
  narrowed,
  numberOf,
  revisionOf,
  someOf,
  type Condition,
} from './narrow.ts'
import { pageOfRows, recordsOfPage, refuseLongSort, whereOf, type Listing, type PageRequest } from './page.ts'
import { question } from './work.ts'

export type BinaryRow = Row & {
  id: number
  name: string
  version: string
  distribution: string
  release: string
  component: string
  architecture: string
  url: string
  status: string | null
  build_id: number | null
  artifact_id: number | null
  diffoscope_log_id: number | null
  attestation_log_id: number | null
  last_seen: string
  seen_in_last_sync: number
  source_name: string
  reason: string | null
  sha256: string | null
  size: number | null
  first_seen: string
  decided_at: string | null
  worker: string | null
  index: IndexTrust
}
export type BinaryDetailsRow = BinaryRow & { signature: string | null }

export type SourceRow = Row & {
  id: number
  name: string
  version: string
  distribution: string
  release: string
  status: string | null
  build_id: number | null
  last_seen: string
  seen_in_last_sync: number
  reason: string | null
  first_seen: string
  decided_at: string | null
  index: IndexTrust
}

const binaries = {
  columns:
    trusted(`b.id, b.name, b.version, r.distribution, r.name AS release, b.component, b.architecture, b.url, b.status,
    b.build_id, b.artifact_id, b.diffoscope_id AS diffoscope_log_id, b.attestation_id AS attestation_log_id,
    CASE WHEN b.seen = 1 THEN c.imported_at ELSE b.last_seen END AS last_seen, b.seen AS seen_in_last_sync,
    s.name AS source_name, b.reason, b.sha256, b.size, b.first_seen, b.decided_at, h.worker, c.index_trust AS "index"`),
  from: trusted(`binary_packages b CROSS JOIN releases r ON r.id = b.release_id CROSS JOIN scopes c ON c.id = b.scope_id
    CROSS JOIN source_packages s ON s.id = b.source_package_id LEFT JOIN builds h ON h.id = b.build_id`),
  table: trusted('binary_packages b'),
  id: 'b.id',
  sorts: {
    id: 'b.id',
    name: 'b.name',
    version: 'b.version',
    distribution: 'r.distribution',
    release: 'r.name',
    component: 'b.component',
    architecture: 'b.architecture',
    artifact_url: 'b.url',
    url: 'b.url',
    status: 'b.status',
    build_id: 'b.build_id',
    artifact_id: 'b.artifact_id',
    diffoscope_log_id: 'b.diffoscope_id',
    attestation_log_id: 'b.attestation_id',
    last_seen: 'b.last_seen',
    seen_in_last_sync: 'b.seen',
    source_name: 's.name',
    reason: 'b.reason',
    size: 'b.size',
    first_seen: 'b.first_seen',
    decided_at: 'b.decided_at',
  },
  walked: ['id', 'name', 'version', 'last_seen', 'decided_at', 'source_name'],
} satisfies Listing

/** The same from the source packages on, so that the order of their names is that of an index. */
const bySourceName = {
  lookup: binaries.from,
  from: trusted(`source_packages s CROSS JOIN binary_packages b ON b.source_package_id = s.id JOIN releases r ON r.id = b.release_id
    JOIN scopes c ON c.id = b.scope_id LEFT JOIN builds h ON h.id = b.build_id`),
}

/** The same as records of the wire, written by SQLite: of a hundred, that takes half the time. */
const binaryRecords = {
  ...binaries,
  columns:
    trusted(`json_object('id', b.id, 'name', b.name, 'version', b.version, 'distribution', r.distribution,
    'release', nullif(r.name, ''), 'component', nullif(b.component, ''), 'architecture', b.architecture, 'url', b.url,
    'status', nullif(b.status, 'FAIL'), 'build_id', b.build_id, 'artifact_id', b.artifact_id,
    'diffoscope_log_id', b.diffoscope_id, 'attestation_log_id', b.attestation_id,
    'last_seen', CASE WHEN b.seen = 1 THEN c.imported_at ELSE b.last_seen END,
    'seen_in_last_sync', json(iif(b.seen = 1, 'true', 'false')), 'source_name', s.name, 'reason', b.reason,
    'sha256', b.sha256, 'size', b.size, 'first_seen', b.first_seen, 'decided_at', b.decided_at, 'worker', h.worker,
    'index', c.index_trust) AS record`),
} satisfies Listing

/** The weakest trust of the reports that list a source; the words sort as signed, told, unsigned. */
const weakestTrust = `SELECT nullif(max(coalesce(c.index_trust, 'told')), 'told') FROM build_inputs x
    JOIN scopes c ON c.id = x.scope_id WHERE x.source_package_id = s.id`

const sources = {
  columns: trusted(`s.id, s.name, s.version, r.distribution, r.name AS release, s.status, s.build_id,
    CASE WHEN s.seen = 1 THEN (SELECT max(c.imported_at) FROM scopes c WHERE c.release_id = s.release_id) ELSE s.last_seen END AS last_seen,
    s.seen AS seen_in_last_sync, s.reason, s.first_seen, s.decided_at, (${weakestTrust}) AS "index"`),
  from: trusted('source_packages s CROSS JOIN releases r ON r.id = s.release_id'),
  table: trusted('source_packages s'),
  id: 's.id',
  sorts: {
    id: 's.id',
    name: 's.name',
    version: 's.version',
    distribution: 'r.distribution',
    release: 'r.name',
    status: 's.status',
    build_id: 's.build_id',
    last_seen: 's.last_seen',
    seen_in_last_sync: 's.seen',
    reason: 's.reason',
    first_seen: 's.first_seen',
    decided_at: 's.decided_at',
  },
  walked: ['id', 'name', 'version', 'decided_at'],
} satisfies Listing

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

/** Ids of the releases a filter asks for; null: of any release. */
async function releasesOf(db: Transaction, filter: PackageFilter): Promise<readonly number[] | null> {
  const conditions: Sql[] = []
  if (filter.distribution !== undefined) conditions.push(sql`distribution = ${filter.distribution}`)
  if (filter.release !== undefined) conditions.push(sql`name = ${filter.release}`)
  if (filter.releases !== undefined) conditions.push(sql`name IN ${filter.releases}`)
  if (conditions.length === 0) return null
  const rows = await db.all<{ id: number }>(sql`SELECT id FROM releases ${whereOf(conditions)}`)
  return rows.map((row) => row.id)
}

/** Whether these are all releases, so that there is nothing to ask for. */
async function areAll(tx: Transaction, ids: readonly number[]): Promise<boolean> {
  return ids.length === (await numberOf(tx, sql`SELECT count(*) AS n FROM releases`))
}

/** Only what the counters know by: their sum is then the number of rows. */
function isCountable({ name, version, source_name, search, maintainer, since }: PackageFilter): boolean {
  return [name, version, source_name, search, maintainer, since].every(
    (value) => value === undefined || value === '',
  )
}

function given<T, C = Sql>(value: T | undefined, condition: (value: T) => C): C[] {
  return value === undefined ? [] : [condition(value)]
}

type Asked = { filter: PackageFilter; request: PageRequest }

/** A page of binary packages as the wire has it: `{"total":1,"records":[…]}`. */
export function binaryPage(db: Database, asked: Asked): Promise<string> {
  return answerOf(() => binaryPageNow(db, asked))
}

/** null: ask again. */
const binaryPageNow = question(
  'packages.binary',
  async (tx, { filter, request }: Asked): Promise<string | null> => {
    const releases = await releasesOf(tx, filter)
    const known =
      releases?.length === 0
        ? 0
        : isCountable(filter)
          ? await numberOf(tx, binaryCount(filter, releases))
          : null
    const conditions = known === 0 ? [] : await binaryConditions(tx, filter, releases)
    if (conditions === null) return null
    const all = (): Promise<number> => numberOf(tx, binaryCount({}, null))
    const revision = (): Promise<string> => revisionOf(tx, ['packages'])
    const found = await narrowed(tx, binaryRecords, request, conditions, { known, all, revision })
    if (found === null) return null
    const { total } = found
    refuseLongSort(binaryRecords, request, total)
    const isBySource = request.sort === 'source_name' && !found.isLed
    const listing = isBySource ? { ...binaryRecords, ...bySourceName } : binaryRecords
    const records = total === 0 ? '' : await recordsOfPage(tx, listing, request, found)
    return `{"total":${total},"records":[${records}]}`
  },
)

/** What a filter asks of binary packages; null: the names are not all known yet. */
async function binaryConditions(
  tx: Transaction,
  filter: PackageFilter,
  releases: readonly number[] | null,
): Promise<Condition[] | null> {
  const search = await matches(tx, 'binary', 'b.name', filter)
  if (search === null) return null
  const counter = (part: PackageFilter) => (): Promise<number> => numberOf(tx, binaryCount(part, null))
  const some = (where: Sql) => (): Promise<number> =>
    someOf(tx, sql`SELECT 1 FROM binary_packages b WHERE ${where}`)
  return [
    ...(await inReleases(tx, 'b.release_id', releases, (ids) => binaryCount({}, ids))),
    ...given(filter.component, (value) => ({
      test: (sign: Sql) =>
        sign.text === ''
          ? sql`b.id IN (SELECT x.id FROM scopes y CROSS JOIN binary_packages x ON x.scope_id = y.id WHERE x.component = ${value})`
          : sql`+b.component = ${value}`,
      rows: counter({ component: value }),
    })),
    ...given(filter.architecture, (value) => compared('b.architecture', sql`= ${value}`)),
    ...given(filter.seen_only, (value) => compared('b.seen', sql`= ${value}`)),
    ...given(filter.name, (value) =>
      compared('b.name', sql`= ${value}`, {
        rows: some(sql`b.name = ${value}`),
        isExact: true,
        walks: ['name'],
      }),
    ),
    ...given(filter.version, (value) =>
      compared('b.version', sql`= ${value}`, {
        rows: some(sql`b.version = ${value}`),
        isExact: true,
        walks: ['version'],
      }),
    ),
    ...given(filter.source_name, (value) => {
      const named = sql`b.source_package_id IN (SELECT x.id FROM source_packages x WHERE x.name = ${value})`
      return { test: (sign: Sql) => sql`${sign}${named}`, rows: some(named) }
    }),
    ...inStatuses('b.status', filter.status, counter({ status: filter.status })),
    ...given(filter.reason, (value) => isOneOf('b.reason', value, { rows: counter({ reason: value }) })),
    ...decidedSince(tx, binaries.table, 'b', filter.since),
    ...(await ofMaintainer(tx, filter.maintainer, (names) => ({
      test: (sign: Sql) =>
        sign.text === ''
          ? sql`b.source_package_id IN (SELECT x.id FROM source_packages x WHERE x.maintainer IN ${names})`
          : sql`EXISTS (SELECT 1 FROM source_packages x WHERE x.id = b.source_package_id AND +x.maintainer IN ${names})`,
      rows: () =>
        someOf(
          tx,
          sql`SELECT 1 FROM source_packages x CROSS JOIN binary_packages b ON b.source_package_id = x.id WHERE x.maintainer IN ${names}`,
        ),
    }))),
    ...search,
  ]
}

/** Packages of some releases; an index has those of one in the order of their ids and names. */
async function inReleases(
  tx: Transaction,
  column: string,
  ids: readonly number[] | null,
  count: (ids: readonly number[]) => Sql,
): Promise<Condition[]> {
  if (ids === null || (await areAll(tx, ids))) return []
  const rows = (): Promise<number> => numberOf(tx, count(ids))
  const together = ['id', 'last_seen', 'first_seen']
  const [only] = ids
  return ids.length === 1 && only !== undefined
    ? [compared(column, sql`= ${only}`, { rows, together, walks: ['id', 'name'] })]
    : [compared(column, sql`IN ${ids}`, { rows, together })]
}

/** UNKWN is what has no verdict yet. */
function inStatuses(
  column: string,
  statuses: readonly string[] | undefined,
  rows?: () => Promise<number>,
): Condition[] {
  if (statuses === undefined) return []
  const named = statuses.filter((status) => status !== 'UNKWN')
  const orNull = statuses.includes('UNKWN')
  return [isOneOf(column, named, rows === undefined ? { orNull } : { orNull, rows })]
}

function decidedSince(tx: Transaction, table: Sql, alias: string, since: string | undefined): Condition[] {
  const column = `${alias}.decided_at`
  return given(since, (value) => {
    const query = sql`SELECT 1 FROM ${table} WHERE ${trusted(column)} >= ${value}`
    const rows = (): Promise<number> => someOf(tx, query)
    const alone = (): Promise<number> => numberOf(tx, sql`SELECT count(*) AS n FROM (${query})`)
    return compared(column, sql`>= ${value}`, { rows, isExact: true, alone, walks: ['decided_at'] })
  })
}

/** Maintainers that a text is part of, ASCII case folded. */
async function ofMaintainer(
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

/** Names that are a text, begin with it or contain it; null: the names are not all known yet. */
async function matches(
  tx: Transaction,
  kind: Kind,
  column: string,
  { search, search_type: type = 'contains' }: PackageFilter,
): Promise<Condition[] | null> {
  if (search === undefined || search === '') return []
  const name = trusted(column)
  const table = kind === 'binary' ? binaries.table : sources.table
  const walks = ['name']
  if (type !== 'contains') {
    const comparison =
      type === 'exact' ? sql`= ${search}` : sql`BETWEEN ${search} AND ${`${search}\u{10ffff}`}` // lets the index find a prefix
    const query = sql`SELECT 1 FROM ${table} WHERE ${name} ${comparison}`
    const alone = (): Promise<number> => numberOf(tx, sql`SELECT count(*) AS n FROM (${query})`)
    return [compared(column, comparison, { rows: () => someOf(tx, query), isExact: true, alone, walks })]
  }
  const found = await namesContaining(tx, kind, search, bounds.few)
  if (found === null) return null
  const alone = async (): Promise<number> => found.rows
  if (found.isCut || found.rows > bounds.few)
    return [{ test: (sign: Sql) => contains(sql`${sign}${name}`, search), alone }]
  return [compared(column, sql`IN ${found.names}`, { rows: alone, isExact: true, alone })]
}

function binaryCount(filter: PackageFilter, releases: readonly number[] | null): Sql {
  const where = [
    ...given(
      releases ?? undefined,
      (ids) => sql`n.scope_id IN (SELECT id FROM scopes WHERE release_id IN ${ids})`,
    ),
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

export function binaryById(db: Database, id: number): Promise<BinaryDetailsRow | null> {
  return first(
    db.all<BinaryDetailsRow>(
      sql`SELECT ${binaries.columns}, b.signature FROM ${binaries.from} WHERE b.id = ${id}`,
    ),
  )
}

export type SourcePage = { total: number; rows: SourceRow[] }

/** Source packages; with an architecture the result of that architecture's input. */
export function listSourceRows(
  db: Database,
  filter: PackageFilter,
  request: PageRequest,
): Promise<SourcePage> {
  return answerOf(() => sourcePageNow(db, { filter, request }))
}

/** null: ask again. */
const sourcePageNow = question(
  'packages.source',
  async (tx, { filter, request }: Asked): Promise<SourcePage | null> => {
    const releases = await releasesOf(tx, filter)
    const scopes = filter.architecture === undefined ? null : await scopesOf(tx, filter.architecture)
    const listing = scopes === null ? sources : sourcesOf(scopes)
    const isSimple = isCountable(filter) && filter.component === undefined && scopes === null
    const known =
      releases?.length === 0 || scopes?.length === 0
        ? 0
        : isSimple
          ? await numberOf(tx, sourceCount(filter, releases))
          : null
    const conditions = known === 0 ? [] : await sourceConditions(tx, filter, releases, scopes)
    if (conditions === null) return null
    const all = (): Promise<number> => numberOf(tx, sourceCount({}, null))
    const revision = (): Promise<string> => revisionOf(tx, ['packages'])
    const found = await narrowed(tx, listing, request, conditions, { known, all, revision })
    if (found === null) return null
    const { total, where, isLed } = found
    refuseLongSort(listing, request, total)
    return { total, rows: total === 0 ? [] : await pageOfRows<SourceRow>(tx, listing, request, where, isLed) }
  },
)

async function scopesOf(tx: Transaction, architecture: string): Promise<number[]> {
  const rows = await tx.all<{ id: number }>(sql`SELECT id FROM scopes WHERE architecture = ${architecture}`)
  return rows.map((row) => row.id)
}

/** What a filter asks of source packages; null: the names are not all known yet. */
async function sourceConditions(
  tx: Transaction,
  filter: PackageFilter,
  releases: readonly number[] | null,
  scopes: readonly number[] | null,
): Promise<Condition[] | null> {
  const search = await matches(tx, 'source', 's.name', filter)
  if (search === null) return null
  const own = scopes === null ? 's' : 'i'
  const counter = (part: PackageFilter) => (): Promise<number> => numberOf(tx, sourceCount(part, null))
  const some = (where: Sql) => (): Promise<number> =>
    someOf(tx, sql`SELECT 1 FROM source_packages s WHERE ${where}`)
  const results: Condition[] =
    scopes === null
      ? [
          ...inStatuses('s.status', filter.status),
          ...given(filter.reason, (value) =>
            isOneOf('s.reason', value, { rows: counter({ reason: value }) }),
          ),
          ...decidedSince(tx, sources.table, 's', filter.since),
        ]
      : [
          withInputs(tx, scopes),
          ...inStatuses('i.status', filter.status),
          ...given(filter.reason, (value) => isOneOf('i.reason', value)),
          ...given(filter.since, (value) => compared('i.decided_at', sql`>= ${value}`)),
        ]
  return [
    ...(await inReleases(tx, 's.release_id', releases, (ids) => sourceCount({}, ids))),
    ...given(filter.component, (value) => hasComponent(tx, 's.id', value)),
    ...given(filter.seen_only, (value) => compared(`${own}.seen`, sql`= ${value}`)),
    ...given(filter.name, (value) =>
      compared('s.name', sql`= ${value}`, {
        rows: some(sql`s.name = ${value}`),
        isExact: true,
        walks: ['name'],
      }),
    ),
    ...given(filter.version, (value) =>
      compared('s.version', sql`= ${value}`, {
        rows: some(sql`s.version = ${value}`),
        isExact: true,
        walks: ['version'],
      }),
    ),
    ...results,
    ...(await ofMaintainer(tx, filter.maintainer, (names) => {
      const query = sql`SELECT 1 FROM source_packages s WHERE s.maintainer IN ${names}`
      const alone = (): Promise<number> => numberOf(tx, sql`SELECT count(*) AS n FROM (${query})`)
      return compared('s.maintainer', sql`IN ${names}`, { rows: () => someOf(tx, query), alone })
    })),
    ...search,
  ]
}

/** Source packages that have an input in some scopes. */
function withInputs(tx: Transaction, scopes: readonly number[]): Condition {
  const ids = sql`SELECT x.source_package_id FROM scopes y CROSS JOIN build_inputs x ON x.scope_id = y.id WHERE y.id IN ${scopes}`
  return {
    test: (sign: Sql) => (sign.text === '' ? sql`s.id IN (${ids})` : trusted('1')),
    rows: () => someOf(tx, ids),
  }
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

/** Source packages with their input in some scopes: the one that is listed, or else the first. */
function sourcesOf(scopes: readonly number[]) {
  const input = sql`SELECT x.id FROM build_inputs x WHERE x.source_package_id = s.id AND +x.scope_id IN ${scopes}
    ORDER BY x.seen DESC, x.id LIMIT 1`
  const table = sql`source_packages s CROSS JOIN build_inputs i ON i.id = (${input})`
  return {
    ...sources,
    columns: trusted(`s.id, s.name, s.version, r.distribution, r.name AS release, i.status, i.build_id,
      CASE WHEN i.seen = 1 THEN (SELECT c.imported_at FROM scopes c WHERE c.id = i.scope_id) ELSE s.last_seen END AS last_seen,
      i.seen AS seen_in_last_sync, i.reason, s.first_seen, i.decided_at,
      (SELECT c.index_trust FROM scopes c WHERE c.id = i.scope_id) AS "index"`),
    from: sql`${table} CROSS JOIN releases r ON r.id = s.release_id`,
    table,
    walked: ['id', 'name', 'version'],
  } satisfies Listing
}

function sourceCount(filter: PackageFilter, releases: readonly number[] | null): Sql {
  const where = [
    ...given(releases ?? undefined, (ids) => sql`n.release_id IN ${ids}`),
    ...countConditions(filter),
  ]
  return sql`SELECT coalesce(sum(n.n), 0) AS n FROM source_counts n ${whereOf(where)}`
}

export function sourceById(db: Database, id: number): Promise<SourceRow | null> {
  return first(db.all<SourceRow>(sql`SELECT ${sources.columns} FROM ${sources.from} WHERE s.id = ${id}`))
}

// --- what there is

/** Names of distributions; with `seen` only those that list something, or (false) those that list nothing any more. */
export async function distributionNames(db: Database, seen: boolean | undefined): Promise<string[]> {
  const rows = await db.all<{ name: string }>(sql`
    SELECT DISTINCT r.distribution AS name FROM releases r JOIN scopes c ON c.release_id = r.id ${whereOf(counted(seen))} ORDER BY r.distribution`)
  return rows.map((row) => row.name)
}

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

export type VerdictCounts = { good: number; bad: number; fail: number; unknown: number }

/** Listed build inputs by verdict. */
export async function countVerdicts(db: Database, filter: PackageFilter): Promise<VerdictCounts> {
  const tallies = await verdictsOf(db, filter)
  const sum = (status: string): number =>
    tallies.reduce((total, { word, n }) => total + (word === status ? n : 0), 0)
  const [good, bad, fail] = [sum('GOOD'), sum('BAD'), sum('FAIL')]
  const all = tallies.reduce((total, { n }) => total + n, 0)
  return { good, bad, fail, unknown: all - good - bad - fail }
}

/** Listed build inputs that have a verdict other than GOOD, by its reason. */
export async function countReasons(
  db: Database,
  filter: PackageFilter,
): Promise<{ reason: string; n: number }[]> {
  const tallies = await verdictsOf(db, filter)
  const failed = tallies.filter(({ word, detail }) => ['BAD', 'FAIL'].includes(word) && detail !== '')
  return [...Map.groupBy(failed, ({ detail }) => detail)]
    .map(([reason, rows]) => ({ reason, n: rows.reduce((sum, { n }) => sum + n, 0) }))
    .filter(({ n }) => n > 0)
    .sort((a, b) => (a.reason < b.reason ? -1 : 1))
}

/** Listed build inputs by verdict (`word`, UNKWN or empty: none) and reason. */
function verdictsOf(db: Database, filter: PackageFilter): Promise<Tally[]> {
  return answerOf(() => verdictsNow(db, filter))
}

/** null: ask again. */
const verdictsNow = question(
  'packages.verdicts',
  async (tx, filter: PackageFilter): Promise<Tally[] | null> => {
    const scopes = await scopesWith(tx, filter)
    const { component } = filter
    if (component === undefined) {
      const where = [sql`x.seen = 1`, ...given(scopes ?? undefined, (ids) => sql`x.scope_id IN ${ids}`)]
      return tx.all<Tally>(
        sql`SELECT x.status AS word, x.reason AS detail, sum(x.n) AS n FROM input_counts x ${whereOf(where)} GROUP BY x.status, x.reason`,
      )
    }
    const condition = hasComponent(tx, 'i.source_package_id', component)
    const isRare = (await numberOf(tx, binaryCount({ component }, null))) <= bounds.few
    const conditions = [
      sql`i.seen = 1`,
      ...given(scopes ?? undefined, (ids) => sql`+i.scope_id IN ${ids}`),
      condition.test(trusted(isRare ? '' : '+')),
    ]
    const kind = { word: `coalesce(i.status, '')`, detail: `coalesce(i.reason, '')` }
    const table = trusted('build_inputs i')
    if (!isRare)
      return tallied(
        tx,
        { table, id: 'i.id', conditions, revision: await revisionOf(tx, ['packages']) },
        kind,
      )
    return tx.all<Tally>(
      sql`SELECT ${trusted(kind.word)} AS word, ${trusted(kind.detail)} AS detail, count(*) AS n FROM ${table} ${whereOf(conditions)} GROUP BY 1, 2`,
    )
  },
)

export type Generation = Row & { name: string; value: number; changed_at: string }

/** How often the named parts of the data changed, and when. */
export function generationsOf(db: Database, names: readonly string[]): Promise<Generation[]> {
  return db.all<Generation>(
    sql`SELECT name, value, changed_at FROM generations WHERE name IN ${names} ORDER BY name`,
  )
}

import type { IndexTrust } from '../../wire/packages.ts'
import { first, sql, trusted, type Database, type Row, type Sql, type Transaction } from './database.ts'
import {
  isAmong,
  pageOfRows,
  recordsOfPage,
  refuseLongSort,
  whereOf,
  type Listing,
  type PageRequest,
} from './page.ts'
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

const binaries: Listing = {
  columns:
    trusted(`b.id, b.name, b.version, r.distribution, r.name AS release, b.component, b.architecture, b.url, b.status,
    b.build_id, b.artifact_id, b.diffoscope_id AS diffoscope_log_id, b.attestation_id AS attestation_log_id,
    CASE WHEN b.seen = 1 THEN c.imported_at ELSE b.last_seen END AS last_seen, b.seen AS seen_in_last_sync,
    s.name AS source_name, b.reason, b.sha256, b.size, b.first_seen, b.decided_at, h.worker, c.index_trust AS "index"`),
  from: trusted(`binary_packages b JOIN releases r ON r.id = b.release_id JOIN scopes c ON c.id = b.scope_id
    JOIN source_packages s ON s.id = b.source_package_id LEFT JOIN builds h ON h.id = b.build_id`),
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
  walked: ['id', 'name', 'version', 'last_seen'],
}

/** The same as records of the wire, written by SQLite: of a hundred, that takes half the time. */
const binaryRecords: Listing = {
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
}

/** The weakest trust of the reports that list a source; the words sort as signed, told, unsigned. */
const weakestTrust = `SELECT nullif(max(coalesce(c.index_trust, 'told')), 'told') FROM build_inputs x
    JOIN scopes c ON c.id = x.scope_id WHERE x.source_package_id = s.id`

const sources: Listing = {
  columns: trusted(`s.id, s.name, s.version, r.distribution, r.name AS release, s.status, s.build_id,
    CASE WHEN s.seen = 1 THEN (SELECT max(c.imported_at) FROM scopes c WHERE c.release_id = s.release_id) ELSE s.last_seen END AS last_seen,
    s.seen AS seen_in_last_sync, s.reason, s.first_seen, s.decided_at, (${weakestTrust}) AS "index"`),
  from: trusted('source_packages s JOIN releases r ON r.id = s.release_id'),
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
  walked: ['id', 'name', 'version'],
}

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

/** One release is looked up in an index; several are filtered while walking the order asked for. */
function inReleases(column: string, ids: readonly number[] | null): Sql[] {
  if (ids === null) return []
  const [only] = ids
  return ids.length === 1 && only !== undefined
    ? [sql`${trusted(column)} = ${only}`]
    : [sql`+${trusted(column)} IN ${ids}`]
}

/** UNKWN is what has no verdict yet. */
function inStatuses(column: string, statuses: readonly string[] | undefined): Sql[] {
  if (statuses === undefined) return []
  const named = isAmong(
    column,
    statuses.filter((status) => status !== 'UNKWN'),
  )
  return [statuses.includes('UNKWN') ? sql`(${named} OR ${trusted(column)} IS NULL)` : named]
}

/** Text search in a name, ASCII case folded. */
function matches(
  column: string,
  search: string | undefined,
  kind: PackageFilter['search_type'] = 'contains',
): Sql[] {
  if (search === undefined || search === '') return []
  const name = trusted(column)
  if (kind === 'exact') return [sql`${name} = ${search}`]
  const escaped = search.replace(/[\\%_]/g, '\\$&')
  // The range is what lets the index find a prefix; names are lower case nearly everywhere.
  if (kind === 'starts_with') return [sql`${name} >= ${search}`, sql`${name} < ${search + '\u{10ffff}'}`]
  return [sql`${name} LIKE ${`%${escaped}%`} ESCAPE '\\'`]
}

/** Only what the counters know by: their sum is then the number of rows. */
function isCountable(filter: PackageFilter): boolean {
  const { name, version, source_name, search, maintainer, since } = filter
  return [name, version, source_name, search, maintainer, since].every(
    (value) => value === undefined || value === '',
  )
}

function given<T>(value: T | undefined, condition: (value: T) => Sql): Sql[] {
  return value === undefined ? [] : [condition(value)]
}

/** A page of binary packages as the wire has it: `{"total":1,"records":[…]}`. */
export const binaryPage = question(
  'packages.binary',
  async (tx, { filter, request }: { filter: PackageFilter; request: PageRequest }): Promise<string> => {
    const { where, counted } = await binaryConditions(tx, filter)
    const total = await numberOf(tx, counted)
    refuseLongSort(binaryRecords, request, total)
    const records = total === 0 ? '' : await recordsOfPage(tx, binaryRecords, request, where)
    return `{"total":${total},"records":[${records}]}`
  },
)

/** What a filter asks for, and the statement that counts it. */
async function binaryConditions(
  db: Transaction,
  filter: PackageFilter,
): Promise<{ where: Sql[]; counted: Sql }> {
  const releases = await releasesOf(db, filter)
  const where = [
    ...inReleases('b.release_id', releases),
    ...given(filter.component, (value) => sql`b.component = ${value}`),
    ...given(filter.architecture, (value) => sql`b.architecture = ${value}`),
    ...given(filter.seen_only, (value) => sql`b.seen = ${value}`),
    ...given(filter.name, (value) => sql`b.name = ${value}`),
    ...given(filter.version, (value) => sql`b.version = ${value}`),
    ...given(filter.source_name, (value) => sql`s.name = ${value}`),
    ...inStatuses('b.status', filter.status),
    ...given(filter.reason, (value) => isAmong('b.reason', value)),
    ...given(filter.since, (value) => sql`b.decided_at >= ${value}`),
    ...given(filter.maintainer, (value) => sql`instr(lower(s.maintainer), lower(${value})) > 0`),
    ...matches('b.name', filter.search, filter.search_type),
  ]
  const counted = isCountable(filter)
    ? binaryCount(filter, releases)
    : sql`SELECT count(*) AS n FROM ${binaries.from} ${whereOf(where)}`
  return { where, counted }
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

async function numberOf(db: Transaction, query: Sql): Promise<number> {
  const row = await first(db.all<{ n: number }>(query))
  return row?.n ?? 0
}

export function binaryById(db: Database, id: number): Promise<BinaryDetailsRow | null> {
  return first(
    db.all<BinaryDetailsRow>(
      sql`SELECT ${binaries.columns}, b.signature FROM ${binaries.from} WHERE b.id = ${id}`,
    ),
  )
}

/** Source packages; with an architecture the result of that architecture's input. */
export async function listSourceRows(
  db: Database,
  filter: PackageFilter,
  request: PageRequest,
): Promise<{ total: number; rows: SourceRow[] }> {
  const releases = await releasesOf(db, filter)
  const listing = filter.architecture === undefined ? sources : sourcesFor(filter.architecture)
  const status = filter.architecture === undefined ? 's' : 'i'
  const where = [
    ...inReleases('s.release_id', releases),
    ...given(filter.component, hasComponent),
    ...given(filter.seen_only, (value) => sql`${trusted(status)}.seen = ${value}`),
    ...given(filter.name, (value) => sql`s.name = ${value}`),
    ...given(filter.version, (value) => sql`s.version = ${value}`),
    ...inStatuses(`${status}.status`, filter.status),
    ...given(filter.reason, (value) => isAmong(`${status}.reason`, value)),
    ...given(filter.since, (value) => sql`${trusted(status)}.decided_at >= ${value}`),
    ...given(filter.maintainer, (value) => sql`instr(lower(s.maintainer), lower(${value})) > 0`),
    ...matches('s.name', filter.search, filter.search_type),
  ]
  const isSimple = isCountable(filter) && filter.component === undefined && filter.architecture === undefined
  const counted = isSimple
    ? sourceCount(filter, releases)
    : sql`SELECT count(*) AS n FROM ${listing.from} ${whereOf(where)}`
  const total = await numberOf(db, counted)
  refuseLongSort(listing, request, total)
  return { total, rows: total === 0 ? [] : await pageOfRows<SourceRow>(db, listing, request, where) }
}

function hasComponent(component: string): Sql {
  return sql`EXISTS (SELECT 1 FROM binary_packages b WHERE b.source_package_id = s.id AND b.component = ${component})`
}

/** Sources joined with their input of one architecture: at most one, or the first of them. */
function sourcesFor(architecture: string): Listing {
  const ofArchitecture = sql`SELECT min(x.id) FROM build_inputs x JOIN scopes y ON y.id = x.scope_id
    WHERE x.source_package_id = s.id AND y.architecture = ${architecture}`
  return {
    ...sources,
    columns: trusted(`s.id, s.name, s.version, r.distribution, r.name AS release, i.status, i.build_id,
      CASE WHEN i.seen = 1 THEN (SELECT c.imported_at FROM scopes c WHERE c.id = i.scope_id) ELSE s.last_seen END AS last_seen,
      i.seen AS seen_in_last_sync, i.reason, s.first_seen, i.decided_at,
      (SELECT c.index_trust FROM scopes c WHERE c.id = i.scope_id) AS "index"`),
    from: sql`source_packages s JOIN releases r ON r.id = s.release_id JOIN build_inputs i ON i.id = (${ofArchitecture})`,
  }
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
  const sums =
    trusted(`coalesce(sum(CASE WHEN x.status = 'GOOD' THEN x.n END), 0) AS good, coalesce(sum(CASE WHEN x.status = 'BAD' THEN x.n END), 0) AS bad,
    coalesce(sum(CASE WHEN x.status = 'FAIL' THEN x.n END), 0) AS fail,
    coalesce(sum(CASE WHEN x.status NOT IN ('GOOD', 'BAD', 'FAIL') THEN x.n END), 0) AS unknown`)
  const { from, where } = listedInputs(filter)
  const rows = db.all<VerdictCounts>(sql`SELECT ${sums} FROM ${from} ${whereOf(where)}`)
  return (await first(rows)) ?? { good: 0, bad: 0, fail: 0, unknown: 0 }
}

/** Listed build inputs that have a verdict other than GOOD, by its reason. */
export function countReasons(db: Database, filter: PackageFilter): Promise<{ reason: string; n: number }[]> {
  const { from, where } = listedInputs(filter)
  const known = [...where, sql`x.reason <> ''`, sql`x.status IN ('BAD', 'FAIL')`]
  return db.all<{ reason: string; n: number }>(
    sql`SELECT x.reason, sum(x.n) AS n FROM ${from} ${whereOf(known)} GROUP BY x.reason HAVING sum(x.n) > 0 ORDER BY x.reason`,
  )
}

/** Rows `x` with scope_id, status, reason and their number n: the counters, or where they do not know enough the inputs themselves. */
function listedInputs(filter: PackageFilter): { from: Sql; where: Sql[] } {
  const scopes = trusted('JOIN scopes c ON c.id = x.scope_id JOIN releases r ON r.id = c.release_id')
  const where = [
    ...given(filter.distribution, (value) => sql`r.distribution = ${value}`),
    ...given(filter.release, (value) => sql`r.name = ${value}`),
    ...given(filter.architecture, (value) => sql`c.architecture = ${value}`),
  ]
  if (filter.component === undefined)
    return { from: sql`input_counts x ${scopes}`, where: [sql`x.seen = 1`, ...where] }
  const inputs = sql`SELECT i.scope_id, coalesce(i.status, '') AS status, coalesce(i.reason, '') AS reason, 1 AS n
    FROM build_inputs i JOIN source_packages s ON s.id = i.source_package_id WHERE i.seen = 1 AND ${hasComponent(filter.component)}`
  return { from: sql`(${inputs}) x ${scopes}`, where }
}

export type Generation = Row & { name: string; value: number; changed_at: string }

/** How often the named parts of the data changed, and when. */
export function generationsOf(db: Database, names: readonly string[]): Promise<Generation[]> {
  return db.all<Generation>(
    sql`SELECT name, value, changed_at FROM generations WHERE name IN ${names} ORDER BY name`,
  )
}

import type { IndexTrust } from '../../wire/packages.ts'
import { first, sql, trusted, type Database, type Row, type Sql, type Transaction } from './database.ts'
import {
  answerOf,
  compared,
  isOneOf,
  narrowed,
  numberOf,
  revisionOf,
  someOf,
  type Condition,
} from './narrow.ts'
import { releasesWith } from './origins.ts'
import {
  decidedSince,
  hasComponent,
  inReleases,
  inStatuses,
  isCountable,
  matches,
  ofMaintainer,
  ofName,
  sourceCount,
  tables,
  type Asked,
  type PackageFilter,
} from './packages.ts'
import { given, pageOfRows, refuseLongSort, type Listing, type PageRequest } from './page.ts'
import { question } from './work.ts'

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

/** The weakest trust of the reports that list a source; the words sort as signed, told, unsigned. */
const weakestTrust = `SELECT nullif(max(coalesce(c.index_trust, 'told')), 'told') FROM build_inputs x
    JOIN scopes c ON c.id = x.scope_id WHERE x.source_package_id = s.id`

const sources = {
  columns: trusted(`s.id, s.name, s.version, r.distribution, r.name AS release, s.status, s.build_id,
    CASE WHEN s.seen = 1 THEN (SELECT max(c.imported_at) FROM scopes c WHERE c.release_id = s.release_id) ELSE s.last_seen END AS last_seen,
    s.seen AS seen_in_last_sync, s.reason, s.first_seen, s.decided_at, (${weakestTrust}) AS "index"`),
  from: trusted('source_packages s CROSS JOIN releases r ON r.id = s.release_id'),
  table: tables.source,
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

type SourcePage = { total: number; rows: SourceRow[] }

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
    const releases = await releasesWith(tx, filter)
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
  const results: Condition[] =
    scopes === null
      ? [
          ...inStatuses('s.status', filter.status),
          ...given(filter.reason, (value) =>
            isOneOf('s.reason', value, { rows: counter({ reason: value }) }),
          ),
          ...decidedSince(tx, 'source', filter.since),
        ]
      : [
          withInputs(tx, scopes),
          ...inStatuses('i.status', filter.status),
          ...given(filter.reason, (value) => isOneOf('i.reason', value)),
          ...given(filter.since, (value) => compared('i.decided_at', sql`>= ${value}`)),
        ]
  return [
    ...inReleases(tx, 's.release_id', releases, (ids) => sourceCount({}, ids)),
    ...given(filter.component, (value) => hasComponent(tx, 's.id', value)),
    ...given(filter.seen_only, (value) => compared(`${own}.seen`, sql`= ${value}`)),
    ...ofName(tx, 'source', filter),
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

/** One source package; null: none has this id. */
export function sourceById(db: Database, id: number): Promise<SourceRow | null> {
  return first(db.all<SourceRow>(sql`SELECT ${sources.columns} FROM ${sources.from} WHERE s.id = ${id}`))
}

// --- what there is

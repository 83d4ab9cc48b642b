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
  binaryCount,
  decidedSince,
  inReleases,
  inStatuses,
  isCountable,
  matches,
  ofMaintainer,
  ofName,
  tables,
  type Asked,
  type PackageFilter,
} from './packages.ts'
import { documentOfPage, given, refuseLongSort, type Listing } from './page.ts'
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
type BinaryDetailsRow = BinaryRow & { signature: string | null }

const binaries = {
  columns:
    trusted(`b.id, b.name, b.version, r.distribution, r.name AS release, b.component, b.architecture, b.url, b.status,
    b.build_id, b.artifact_id, b.diffoscope_id AS diffoscope_log_id, b.attestation_id AS attestation_log_id,
    CASE WHEN b.seen = 1 THEN c.imported_at ELSE b.last_seen END AS last_seen, b.seen AS seen_in_last_sync,
    s.name AS source_name, b.reason, b.sha256, b.size, b.first_seen, b.decided_at, h.worker, c.index_trust AS "index"`),
  from: trusted(`binary_packages b CROSS JOIN releases r ON r.id = b.release_id CROSS JOIN scopes c ON c.id = b.scope_id
    CROSS JOIN source_packages s ON s.id = b.source_package_id LEFT JOIN builds h ON h.id = b.build_id`),
  table: tables.binary,
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

/** A page of binary packages as the wire has it, see `documentOfPage`. */
export function binaryPage(db: Database, asked: Asked): Promise<Uint8Array> {
  return answerOf(() => binaryPageNow(db, asked))
}

/** null: ask again. */
const binaryPageNow = question(
  'packages.binary',
  async (tx, { filter, request }: Asked): Promise<Uint8Array | null> => {
    const releases = await releasesWith(tx, filter)
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
    refuseLongSort(binaryRecords, request, found.total)
    const isBySource = request.sort === 'source_name' && !found.isLed
    const listing = isBySource ? { ...binaryRecords, ...bySourceName } : binaryRecords
    return documentOfPage(tx, listing, request, found)
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
    ...inReleases(tx, 'b.release_id', releases, (ids) => binaryCount({}, ids)),
    ...given(filter.component, (value) => ({
      test: (sign: Sql) =>
        sign.text === ''
          ? sql`b.id IN (SELECT x.id FROM scopes y CROSS JOIN binary_packages x ON x.scope_id = y.id WHERE x.component = ${value})`
          : sql`+b.component = ${value}`,
      rows: counter({ component: value }),
    })),
    ...given(filter.architecture, (value) => compared('b.architecture', sql`= ${value}`)),
    ...given(filter.seen_only, (value) => compared('b.seen', sql`= ${value}`)),
    ...ofName(tx, 'binary', filter),
    ...given(filter.source_name, (value) => {
      const named = sql`b.source_package_id IN (SELECT x.id FROM source_packages x WHERE x.name = ${value})`
      return { test: (sign: Sql) => sql`${sign}${named}`, rows: some(named) }
    }),
    ...inStatuses('b.status', filter.status, counter({ status: filter.status })),
    ...given(filter.reason, (value) => isOneOf('b.reason', value, { rows: counter({ reason: value }) })),
    ...decidedSince(tx, 'binary', filter.since),
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

/** One binary package; null: none has this id. */
export function binaryById(db: Database, id: number): Promise<BinaryDetailsRow | null> {
  return first(
    db.all<BinaryDetailsRow>(
      sql`SELECT ${binaries.columns}, b.signature FROM ${binaries.from} WHERE b.id = ${id}`,
    ),
  )
}

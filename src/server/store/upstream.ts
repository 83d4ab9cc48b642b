/** Reads databases of kpcyrd/rebuilderd, 0.26 to 0.28: https://github.com/kpcyrd/rebuilderd */
import { sql, trusted, type Database, type Row } from './database.ts'

/** Steps of its schema that we know, as its migrations number them; the last two came with 0.27. */
const knownSteps: ReadonlySet<string> = new Set([
  '20191205202101',
  '20200527160242',
  '20200527190113',
  '20201107135105',
  '20201223025138',
  '20210722093726',
  '20210804171946',
  '20210806184605',
  '20211006132128',
  '20211121134730',
  '20211122110050',
  '20211125002754',
  '20250520210543',
  '20250601095202',
  '20250831145144',
  '202605191338530000',
  '202605260933440000',
])

/** What we read, but for `component`, which moved from sources to binaries. */
const neededColumns: Readonly<Record<string, readonly string[]>> = {
  source_packages: ['id', 'name', 'version', 'distribution', 'release', 'last_seen', 'seen_in_last_sync'],
  build_inputs: ['id', 'source_package_id', 'url', 'backend', 'architecture', 'retries', 'next_retry'],
  binary_packages: ['id', 'build_input_id', 'name', 'version', 'architecture', 'artifact_url'],
  queue: ['id', 'build_input_id', 'priority', 'queued_at'],
  rebuilds: ['id', 'build_input_id', 'started_at', 'built_at', 'build_log_id', 'status'],
  rebuild_artifacts: ['id', 'rebuild_id', 'name', 'diffoscope_log_id', 'attestation_log_id', 'status'],
  build_logs: ['id', 'build_log'],
  diffoscope_logs: ['id', 'diffoscope_log'],
  attestation_logs: ['id', 'attestation_log'],
  workers: ['id', 'name', 'key', 'address', 'last_ping'],
}

export type UpstreamSchema = {
  /** Where binaries have their component: 0.26 keeps it with the source package. */
  componentOf: 'source' | 'binary'
}
type SchemaTrouble = { isNewer: boolean; what: string }

/** Recognises a database by its tables, columns and migrations; or says what is strange about it. */
export async function upstreamSchema(db: Database): Promise<UpstreamSchema | SchemaTrouble> {
  const rows = await db.all<{ at: string; name: string }>(
    trusted(`
    SELECT m.name AS at, c.name FROM sqlite_schema m JOIN pragma_table_info(m.name) c WHERE m.type = 'table'`),
  )
  const columns = new Set(rows.map((row) => `${row.at}.${row.name}`))
  for (const [at, names] of Object.entries(neededColumns)) {
    const missing = names.find((name) => !columns.has(`${at}.${name}`))
    if (missing !== undefined) return { isNewer: false, what: `${at}.${missing} is missing` }
  }
  if (columns.has('__diesel_schema_migrations.version')) {
    const steps = await db.all<{ version: string }>(trusted('SELECT version FROM __diesel_schema_migrations'))
    const strange = steps.find(({ version }) => !knownSteps.has(version))
    if (strange !== undefined) return { isNewer: true, what: `it has taken the step ${strange.version}` }
  }
  if (columns.has('binary_packages.component')) return { componentOf: 'binary' }
  if (columns.has('source_packages.component')) return { componentOf: 'source' }
  return { isNewer: false, what: 'no table has components' }
}

/** What tells two states of a database apart, so that an interrupted takeover goes on only with the same one. */
export async function fingerprintOf(db: Database): Promise<string> {
  const tables = ['source_packages', 'build_inputs', 'binary_packages', 'rebuilds', 'rebuild_artifacts']
  const results = await db.batch<{ n: number | null }>(
    tables.map((name) => trusted(`SELECT max(id) AS n FROM ${name}`)),
  )
  return results.map((rows) => rows[0]?.n ?? 0).join('-')
}

export type UpstreamTable =
  'workers' | 'source_packages' | 'build_inputs' | 'binary_packages' | 'rebuilds' | 'queue'

/** Rows of one of their tables. */
export async function countOf(db: Database, name: UpstreamTable): Promise<number> {
  const [row] = await db.all<{ n: number }>(trusted(`SELECT count(*) AS n FROM ${name}`))
  return row?.n ?? 0
}

/** A slice of a table: rows after an id, in the order of ids. */
type Slice = { after: number; limit: number }

export type TheirWorker = Row & { id: number; name: string; key: string; address: string; last_ping: string }
/** A slice of their workers, by id. */
export function theirWorkers(db: Database, { after, limit }: Slice): Promise<TheirWorker[]> {
  return db.all(sql`
    SELECT id, name, key, address, last_ping FROM workers WHERE id > ${after} ORDER BY id LIMIT ${limit}`)
}

export type TheirSource = Row & {
  id: number
  name: string
  version: string
  distribution: string
  release: string | null
  last_seen: string
  seen: number
}
/** A slice of their source packages, by id. */
export function theirSources(db: Database, { after, limit }: Slice): Promise<TheirSource[]> {
  return db.all(sql`
    SELECT id, name, version, distribution, release, last_seen, seen_in_last_sync AS seen
      FROM source_packages WHERE id > ${after} ORDER BY id LIMIT ${limit}`)
}

export type TheirInput = Row & {
  id: number
  source_id: number
  url: string
  backend: string
  architecture: string
  retries: number
  next_retry: string | null
  distribution: string
  release: string | null
  last_seen: string
  seen: number
}
/** A slice of their build inputs, by id. */
export function theirInputs(db: Database, { after, limit }: Slice): Promise<TheirInput[]> {
  return db.all(sql`
    SELECT i.id, s.id AS source_id, i.url, i.backend, i.architecture, i.retries, i.next_retry, s.distribution, s.release,
           s.last_seen, s.seen_in_last_sync AS seen
      FROM build_inputs i JOIN source_packages s ON s.id = i.source_package_id
     WHERE i.id > ${after} ORDER BY i.id LIMIT ${limit}`)
}

export type TheirBinary = Row & {
  id: number
  input_id: number
  name: string
  version: string
  component: string | null
  architecture: string
  url: string
  last_seen: string
  seen: number
}
/** A slice of their binary packages, by id. */
export function theirBinaries(
  db: Database,
  { componentOf }: UpstreamSchema,
  { after, limit }: Slice,
): Promise<TheirBinary[]> {
  const component = trusted(componentOf === 'source' ? 's.component' : 'b.component')
  return db.all(sql`
    SELECT b.id, b.build_input_id AS input_id, b.name, b.version, ${component} AS component, b.architecture,
           b.artifact_url AS url, s.last_seen, s.seen_in_last_sync AS seen
      FROM binary_packages b JOIN build_inputs i ON i.id = b.build_input_id JOIN source_packages s ON s.id = i.source_package_id
     WHERE b.id > ${after} ORDER BY b.id LIMIT ${limit}`)
}

export type TheirBuild = Row & {
  id: number
  input_id: number
  started_at: string | null
  built_at: string | null
  log_id: number | null
  status: string | null
  retries: number
}
/** A slice of their rebuilds, by id. */
export function theirBuilds(db: Database, { after, limit }: Slice): Promise<TheirBuild[]> {
  return db.all(sql`
    SELECT r.id, r.build_input_id AS input_id, r.started_at, r.built_at, r.build_log_id AS log_id, r.status, i.retries
      FROM rebuilds r JOIN build_inputs i ON i.id = r.build_input_id
     WHERE r.id > ${after} ORDER BY r.id LIMIT ${limit}`)
}

export type TheirArtifact = Row & {
  id: number
  build_id: number
  name: string
  diffoscope_id: number | null
  attestation_id: number | null
  status: string | null
}
/** The files of some of their rebuilds. */
export function theirArtifacts(db: Database, builds: readonly number[]): Promise<TheirArtifact[]> {
  return db.all(sql`
    SELECT id, rebuild_id AS build_id, name, diffoscope_log_id AS diffoscope_id, attestation_log_id AS attestation_id, status
      FROM rebuild_artifacts WHERE rebuild_id IN ${builds} ORDER BY id`)
}

export type TheirJob = Row & { id: number; input_id: number; priority: number; queued_at: string }
/** A slice of their queue, by id. */
export function theirJobs(db: Database, { after, limit }: Slice): Promise<TheirJob[]> {
  return db.all(sql`
    SELECT id, build_input_id AS input_id, priority, queued_at FROM queue WHERE id > ${after} ORDER BY id LIMIT ${limit}`)
}

/** Tables that hold a log, diff or attestation each row. */
export const blobKinds = ['build_log', 'diffoscope_log', 'attestation_log'] as const
export type BlobKind = (typeof blobKinds)[number]

/** Bytes read at once: as hexadecimal text they take twice as much, and again on their way to us. */
const pieceSize = 4 * 1024 * 1024

/** Bytes of a file that is read together with others, and how many of those with one question. */
const [smallFile, filesTogether] = [64 * 1024, 32]

/** Those of some logs, diffs or attestations that are small, as they lie there, by id; the others are not among them. */
export async function theirSmallBlobs(
  db: Database,
  kind: BlobKind,
  ids: readonly number[],
): Promise<Map<number, Uint8Array>> {
  const [column, from] = [trusted(kind), trusted(`${kind}s`)]
  const found = new Map<number, Uint8Array>()
  for (let start = 0; start < ids.length; start += filesTogether) {
    const rows = await db.all<{ id: number; hex: string }>(sql`
      SELECT id, hex(${column}) AS hex FROM ${from}
       WHERE id IN ${ids.slice(start, start + filesTogether)} AND length(CAST(${column} AS BLOB)) <= ${smallFile}`)
    for (const { id, hex } of rows) found.set(id, Buffer.from(hex, 'hex'))
  }
  return found
}

/**
 * The bytes of a log, diff or attestation, as they lie there: usually a zstd frame.
 * @returns null where there is no such row, or it is larger than `limit`
 */
export async function theirBlob(
  db: Database,
  kind: BlobKind,
  id: number,
  limit: number,
): Promise<Uint8Array | null> {
  const column = trusted(kind)
  const from = trusted(`${kind}s`)
  const [row] = await db.all<{ size: number | null }>(
    sql`SELECT length(CAST(${column} AS BLOB)) AS size FROM ${from} WHERE id = ${id}`,
  )
  const size = row?.size ?? null
  if (size === null || size > limit) return null
  const pieces: Buffer[] = []
  for (let start = 0; start < size; start += pieceSize) {
    const [piece] = await db.all<{ hex: string }>(sql`
      SELECT hex(substr(CAST(${column} AS BLOB), ${start + 1}, ${pieceSize})) AS hex FROM ${from} WHERE id = ${id}`)
    pieces.push(Buffer.from(piece?.hex ?? '', 'hex'))
  }
  return Buffer.concat(pieces)
}

import type { ReportedArtifact } from '../../wire/packages.ts'
import { first, inRows, joined, sql, trusted, type Database, type Sql, type Transaction } from './database.ts'
import { newRequires } from './queue.ts'

/** The packages of one release for one input architecture, as last reported. */
export type Scope = { id: number; release_id: number; listed: number }

/** A listed build input as the database has it. */
export type KnownInput = {
  id: number
  source_package_id: number
  group_id: number
  name: string
  version: string
  url: string
  maintainer: string | null
}
export type KnownBinary = {
  id: number
  build_input_id: number
  name: string
  version: string
  component: string
  architecture: string
  url: string
  sha256: string | null
  size: number | null
  signature: string | null
}

/** Names from one on, up to another; `to` is null for all that follow. */
export type NameRange = { readonly from: string; readonly to: string | null }
/** Digests of ranges of names by the name each begins with. */
export type RangeDigests = ReadonlyMap<string, string>

type Id = { id: number }

/** The scope of a report; made when it is new. `listed` is what the report before it listed. */
export async function openScope(
  tx: Transaction,
  distribution: string,
  release: string,
  architecture: string,
  now: string,
): Promise<Scope> {
  const [releases] = await tx.batch<Id>([
    sql`INSERT INTO releases (distribution, name) VALUES (${distribution}, ${release})
        ON CONFLICT (distribution, name) DO UPDATE SET name = excluded.name RETURNING id`,
  ])
  const releaseId = releases?.[0]?.id ?? 0
  const [scope] = await tx.all<Scope>(
    sql`INSERT INTO scopes (release_id, architecture, imported_at, listed) VALUES (${releaseId}, ${architecture}, ${now}, 0)
        ON CONFLICT (release_id, architecture) DO UPDATE SET digest = NULL RETURNING id, release_id, listed`,
  )
  await tx.all(touched(now, 'scopes'))
  return scope as Scope // an upsert returns its row
}

/** What is kept of an import that came to its end. */
export type Imported = {
  listed: number
  added: number
  gone: number
  queued: number
  trust: string | null
  digest: string
  /** Digests of the ranges of the report (report-ranges.ts), by their first names; null: they are as they were. */
  ranges: RangeDigests | null
  isChanged: boolean
}

/** Ends an import: what it changed, when, whether the index was proven, and by what the same report is known again. */
export async function closeScope(
  tx: Transaction,
  scope: Scope,
  { listed, added, gone, queued, trust, digest, ranges, isChanged }: Imported,
  now: string,
): Promise<void> {
  if (ranges !== null) {
    await tx.all(sql`
      INSERT INTO report_ranges (scope_id, digest, ranges) VALUES (${scope.id}, ${digest}, ${JSON.stringify([...ranges])})
      ON CONFLICT (scope_id) DO UPDATE SET digest = excluded.digest, ranges = excluded.ranges`)
  }
  await tx.all(sql`
    UPDATE scopes SET imported_at = ${now}, listed = ${listed}, added = ${added}, gone = ${gone}, queued = ${queued},
           index_trust = ${trust}, digest = ${digest}, checked_at = ${now},
           changed_at = CASE WHEN ${isChanged ? 1 : 0} = 1 THEN ${now} ELSE changed_at END
     WHERE id = ${scope.id}`)
}

/** Notes that a client had the same list again. */
export function scopeChecked(scope: Scope, now: string): Sql {
  return sql`UPDATE scopes SET checked_at = ${now} WHERE id = ${scope.id}`
}

/** The scope whose last report has this digest; null: there is none, or an import of it is under way. */
export async function scopeWithDigest(
  db: Database,
  {
    distribution,
    release,
    architecture,
    digest,
  }: Record<'distribution' | 'release' | 'architecture' | 'digest', string>,
): Promise<Scope | null> {
  return first(
    db.all<Scope>(sql`
      SELECT c.id, c.release_id, c.listed FROM scopes c JOIN releases r ON r.id = c.release_id
       WHERE r.distribution = ${distribution} AND r.name = ${release} AND c.architecture = ${architecture} AND c.digest = ${digest}`),
  )
}

type MissingJobs = { last: number | null; first_missing: number | null; last_missing: number | null }

/** The first and the last of some inputs of a scope after an id that miss a job, and the last id looked at; null where there is none. */
export async function missingJobs(
  db: Database,
  scope: Scope,
  after: number,
  limit: number,
): Promise<MissingJobs> {
  const [row] = await db.all<MissingJobs>(sql`
    SELECT max(x.id) AS last, min(x.id) FILTER (WHERE j.id IS NULL) AS first_missing,
           max(x.id) FILTER (WHERE j.id IS NULL) AS last_missing
      FROM (SELECT id, group_id FROM build_inputs
             WHERE scope_id = ${scope.id} AND needs_work = 1 AND seen = 1 AND id > ${after} ORDER BY id LIMIT ${limit}) x
      LEFT JOIN jobs j ON j.group_id = x.group_id`)
  return row ?? { last: null, first_missing: null, last_missing: null }
}

type ScopeRow = {
  distribution: string
  release: string
  architecture: string
  imported_at: string
  checked_at: string | null
  changed_at: string | null
  listed: number
  added: number
  gone: number
  queued: number
  index: 'signed' | 'unsigned' | null
  digest: string | null
}

/** What was imported last for each release and architecture. */
export function scopeRows(db: Database, distribution: string | undefined): Promise<ScopeRow[]> {
  const wanted = distribution === undefined ? sql`1` : sql`r.distribution = ${distribution}`
  return db.all<ScopeRow>(sql`
    SELECT r.distribution, r.name AS release, c.architecture, c.imported_at, c.checked_at, c.changed_at, c.listed, c.added, c.gone, c.queued,
           c.index_trust AS "index", c.digest
      FROM scopes c JOIN releases r ON r.id = c.release_id WHERE ${wanted}
     ORDER BY r.distribution, r.name, c.architecture`)
}

/** Digests of the ranges of the report with this digest, by their first names; null where they are not known. */
export async function rangesOfLast(db: Database, { id, digest }: LastScope): Promise<RangeDigests | null> {
  const [row] = await db.all<{ ranges: string }>(
    sql`SELECT ranges FROM report_ranges WHERE scope_id = ${id} AND digest = ${digest}`,
  )
  return row === undefined ? null : new Map(JSON.parse(row.ranges) as [string, string][]) // as closeScope writes them
}

/** Listed inputs of a scope after an id with names of a range, and their listed binaries. */
export async function listedInputs(
  db: Database,
  scope: Scope,
  { from, to }: NameRange,
  after: number,
  limit: number,
): Promise<{ inputs: KnownInput[]; binaries: KnownBinary[] }> {
  const columns = sql`i.id, i.source_package_id, i.group_id, s.name, s.version, g.url, s.maintainer`
  const page = sql`i.id > ${after} ORDER BY i.id LIMIT ${limit}`
  const all = sql`
    SELECT ${columns} FROM build_inputs i
      JOIN source_packages s ON s.id = i.source_package_id JOIN friend_groups g ON g.id = i.group_id
     WHERE i.scope_id = ${scope.id} AND i.seen = 1 AND ${page}`
  const before = to === null ? trusted('1') : sql`s.name < ${to}`
  // The plus signs: inputs are to be found by their source package, not all of the scope for each of these.
  const some = sql`
    SELECT ${columns} FROM source_packages s CROSS JOIN build_inputs i ON i.source_package_id = s.id
      JOIN friend_groups g ON g.id = i.group_id
     WHERE s.release_id = ${scope.release_id} AND s.name >= ${from} AND ${before}
       AND +i.scope_id = ${scope.id} AND +i.seen = 1 AND ${page}`
  const inputs = await db.all<KnownInput>(from === '' && to === null ? all : some)
  const binaries = await db.all<KnownBinary>(sql`
    SELECT b.id, b.build_input_id, b.name, b.version, b.component, b.architecture, b.url, b.sha256, b.size, b.signature
      FROM binary_packages b
     WHERE b.build_input_id IN ${inputs.map((input) => input.id)} AND b.seen = 1`)
  return { inputs, binaries }
}

/** A package to write: what the report says, and the binaries of it that the report no longer names. */
export type Upsert = {
  name: string
  version: string
  url: string
  maintainer: string | null
  artifacts: readonly ReportedArtifact[]
  goneBinaries: readonly number[]
}

/** An input just written. `build_id` is null where it has no result yet, `status` where its source package has no verdict. */
export type WrittenInput = {
  id: number
  source_package_id: number
  group_id: number
  build_id: number | null
  status: string | null
}

/** Writes packages of a scope; their inputs, in the same order. */
export async function writePackages(
  tx: Transaction,
  scope: Scope,
  backend: string,
  architecture: string,
  packages: readonly Upsert[],
  { now, firstDue }: { now: string; firstDue: string | null },
): Promise<WrittenInput[]> {
  const sources = await writeSources(tx, scope, packages, now)
  const urls = [...new Set(packages.map((item) => item.url))]
  const groups = await tx.batch<Id & { url: string }>(
    inRows(
      urls.map((url) => sql`(${url}, ${backend}, ${architecture}, 0, 0, ${firstDue})`),
      (rows) => sql`
        INSERT INTO friend_groups (url, backend, architecture, retries, infrastructure_retries, next_retry) VALUES ${rows}
        ON CONFLICT (url, backend, architecture) DO UPDATE SET url = excluded.url RETURNING id, url`,
    ),
  )
  const groupOf = new Map(groups.flat().map(({ id, url }) => [url, id]))
  const ids = packages.map((item) => ({
    source: sources.get(sourceKey(item))?.id ?? 0,
    group: groupOf.get(item.url) ?? 0,
  }))
  const inputs = await tx.batch<Omit<WrittenInput, 'status'>>(
    inRows(
      ids.map(({ source, group }) => sql`(${source}, ${group}, ${scope.id}, 1, 1)`),
      (rows) => sql`
        INSERT INTO build_inputs (source_package_id, group_id, scope_id, seen, needs_work) VALUES ${rows}
        ON CONFLICT (source_package_id, group_id) DO UPDATE SET seen = 1, scope_id = excluded.scope_id
        RETURNING id, source_package_id, group_id, build_id`,
    ),
  )
  const inputOf = new Map(inputs.flat().map((row) => [`${row.source_package_id} ${row.group_id}`, row]))
  const written = packages.map((item, index): WrittenInput => {
    const input = inputOf.get(`${ids[index]?.source} ${ids[index]?.group}`) as WrittenInput // an upsert returns its row
    return { ...input, status: sources.get(sourceKey(item))?.status ?? null }
  })
  await tx.batch([
    ...binariesWritten(scope, packages, written, now),
    ...packages.filter((item) => item.goneBinaries.length > 0).map((item) => binariesGone(item, now)),
  ])
  return written
}

type WrittenSource = Id & { name: string; version: string; status: string | null }

function sourceKey({ name, version }: { name: string; version: string }): string {
  return `${name}\n${version}`
}

/** Source packages by key; several inputs may be of one. */
async function writeSources(
  tx: Transaction,
  scope: Scope,
  packages: readonly Upsert[],
  now: string,
): Promise<Map<string, WrittenSource>> {
  const each = new Map<string, Upsert>()
  for (const item of packages) {
    const known = each.get(sourceKey(item))
    each.set(sourceKey(item), { ...item, maintainer: item.maintainer ?? known?.maintainer ?? null })
  }
  const sources = await tx.batch<WrittenSource>(
    inRows(
      [...each.values()].map(
        ({ name, version, maintainer }) =>
          sql`(${scope.release_id}, ${name}, ${version}, ${maintainer}, 1, ${now}, ${now})`,
      ),
      (rows) => sql`
        INSERT INTO source_packages (release_id, name, version, maintainer, seen, first_seen, last_seen) VALUES ${rows}
        ON CONFLICT (release_id, name, version) DO UPDATE SET seen = 1, maintainer = coalesce(excluded.maintainer, maintainer)
        RETURNING id, name, version, status`,
    ),
  )
  return new Map(sources.flat().map((row) => [sourceKey(row), row]))
}

/** Statements that write the binaries of inputs. New bytes under an old version have no verdict yet. */
function binariesWritten(
  scope: Scope,
  packages: readonly Upsert[],
  inputs: readonly WrittenInput[],
  now: string,
): Sql[] {
  const rows = packages.flatMap((item, index) => {
    const { id, source_package_id: source } = inputs[index] as WrittenInput // one for each
    return item.artifacts.map(
      ({ name, version, component, architecture, url, sha256, size, signature }) =>
        sql`(${id}, ${source}, ${scope.release_id}, ${scope.id}, ${name}, ${version}, ${component ?? ''}, ${architecture},
          ${url}, ${fileOf(url)}, ${sha256}, ${size}, ${signature ?? null}, 1, ${now}, ${now})`,
    )
  })
  return inRows(
    rows,
    (values) => sql`
      INSERT INTO binary_packages (build_input_id, source_package_id, release_id, scope_id, name, version, component,
        architecture, url, file, sha256, size, signature, seen, first_seen, last_seen) VALUES ${values}
      ON CONFLICT (build_input_id, name, version, component, architecture) DO UPDATE SET
        url = excluded.url, file = excluded.file, seen = 1, scope_id = excluded.scope_id, size = coalesce(excluded.size, size),
        status = CASE WHEN sha256 <> excluded.sha256 THEN NULL ELSE status END,
        reason = CASE WHEN sha256 <> excluded.sha256 THEN NULL ELSE reason END,
        signature = CASE WHEN sha256 <> excluded.sha256 THEN excluded.signature ELSE coalesce(excluded.signature, signature) END,
        sha256 = coalesce(excluded.sha256, sha256)`,
  )
}

function binariesGone({ goneBinaries }: Upsert, now: string): Sql {
  return sql`UPDATE binary_packages SET seen = 0, last_seen = ${now} WHERE id IN ${goneBinaries}`
}

/** The file a URL names: its last segment, as it stands there. */
export function fileOf(url: string): string {
  const path = url.replace(/[?#].*$/, '')
  return path.slice(path.lastIndexOf('/') + 1)
}

/** Brings inputs and their source packages up to date with the verdicts of their binaries; rows that are so already stay untouched. */
export function refreshed(inputs: readonly { id: number; source_package_id: number }[]): Sql[] {
  const sources = [...new Set(inputs.map((input) => input.source_package_id))]
  return [refreshedInputs(inputs.map((input) => input.id)), refreshedSources(sources)]
}

/** An input is GOOD only while every listed file of it is; one with a new file waits for a verdict again. */
function refreshedInputs(ids: readonly number[]): Sql {
  const listed = trusted('SELECT 1 FROM binary_packages b WHERE b.build_input_id = i.id AND b.seen = 1')
  return sql`
    UPDATE build_inputs SET needs_work = n.needs_work, status = CASE n.is_open WHEN 1 THEN NULL ELSE build_inputs.status END
      FROM (SELECT o.id, o.has_open AND o.was_good AS is_open, CASE WHEN o.has_any AND NOT o.has_open THEN 0 ELSE 1 END AS needs_work
              FROM (SELECT i.id, coalesce(i.status, '') = 'GOOD' AS was_good, EXISTS (${listed}) AS has_any,
                           EXISTS (${listed} AND b.status IS DISTINCT FROM 'GOOD') AS has_open
                      FROM build_inputs i WHERE i.id IN ${ids}) o) n
     WHERE n.id = build_inputs.id AND (build_inputs.needs_work <> n.needs_work OR n.is_open)`
}

/** A source package shows the worst of its listed inputs. */
function refreshedSources(ids: readonly number[]): Sql {
  const worst = trusted(`SELECT i.id FROM build_inputs i WHERE i.source_package_id = s.id
    ORDER BY i.seen DESC, CASE coalesce(i.status, 'UNKWN') WHEN 'BAD' THEN 0 WHEN 'FAIL' THEN 1 WHEN 'UNKWN' THEN 2 ELSE 3 END, i.id LIMIT 1`)
  return sql`
    UPDATE source_packages SET seen = n.seen, status = n.status, reason = n.reason, build_id = n.build_id, decided_at = n.decided_at
      FROM (SELECT s.id, coalesce(w.seen, 0) AS seen, w.status, w.reason, w.build_id, w.decided_at
              FROM source_packages s LEFT JOIN build_inputs w ON w.id = (${worst}) WHERE s.id IN ${ids}) n
     WHERE n.id = source_packages.id
       AND (source_packages.seen <> n.seen OR source_packages.status IS DISTINCT FROM n.status
         OR source_packages.reason IS DISTINCT FROM n.reason OR source_packages.build_id IS DISTINCT FROM n.build_id
         OR source_packages.decided_at IS DISTINCT FROM n.decided_at)`
}

/** The newest decided build of another input of each group, where there is one. */
export function friendsBuilds(
  tx: Transaction,
  inputs: readonly WrittenInput[],
): Promise<{ id: number; build_id: number }[]> {
  return tx.all(sql`
    SELECT x.id, x.build_id FROM (
      SELECT w.id, (SELECT i.build_id FROM build_inputs i
                     WHERE i.group_id = w.group_id AND i.id <> w.id AND i.build_id IS NOT NULL
                     ORDER BY i.decided_at DESC, i.build_id DESC LIMIT 1) AS build_id
        FROM build_inputs w WHERE w.id IN ${inputs.map((input) => input.id)}) x
     WHERE x.build_id IS NOT NULL`)
}

/** Gives an input without a result a copy of a friend's build, for the files that both list. */
export async function shareBuild(tx: Transaction, inputId: number, buildId: number): Promise<void> {
  const [copy] = await tx.all<Id>(sql`
    INSERT INTO builds (build_input_id, lease_id, is_latest, started_at, built_at, decided_at, status, reason, retries,
      worker, worker_key, log_id, evidence, environment_id)
    SELECT ${inputId}, lease_id, 1, started_at, built_at, decided_at, status, reason, 0, worker, worker_key, log_id, evidence, environment_id
      FROM builds WHERE id = ${buildId} RETURNING id`)
  if (copy === undefined) return
  await tx.batch([
    sql`INSERT INTO artifacts (build_id, name, url, file, status, reason, sha256, size, rebuilt_sha256, rebuilt_size,
          first_difference, diffoscope_id, html_id, attestation_id)
        SELECT ${copy.id}, a.name, b.url, a.file, a.status, a.reason, a.sha256, a.size, a.rebuilt_sha256, a.rebuilt_size,
               a.first_difference, a.diffoscope_id, a.html_id, a.attestation_id
          FROM artifacts a JOIN binary_packages b
            ON b.build_input_id = ${inputId} AND b.name = a.name AND b.file = a.file AND b.seen = 1
         WHERE a.build_id = ${buildId} AND (a.sha256 IS NULL OR b.sha256 IS NULL OR a.sha256 = b.sha256)`,
    ...adopted(copy.id, inputId),
  ])
}

/** Makes a build the latest result of its input and of the binaries it has artifacts for. */
export function adopted(buildId: number, inputId: number): Sql[] {
  const artifact = sql`FROM artifacts a WHERE a.build_id = ${buildId} AND a.name = binary_packages.name AND a.file = binary_packages.file`
  return [
    sql`UPDATE build_inputs SET (status, reason, build_id, decided_at) =
          (SELECT status, reason, id, decided_at FROM builds WHERE id = ${buildId}) WHERE id = ${inputId}`,
    sql`UPDATE binary_packages SET
          (status, reason, artifact_id, diffoscope_id, attestation_id) =
            (SELECT a.status, a.reason, a.id, a.diffoscope_id, a.attestation_id ${artifact} ORDER BY a.id LIMIT 1),
          (build_id, decided_at) = (SELECT id, decided_at FROM builds WHERE id = ${buildId})
         WHERE build_input_id = ${inputId} AND EXISTS (SELECT 1 ${artifact})`,
  ]
}

/** Takes inputs out of their release; jobs that nobody lists any more go, running ones end by themselves. */
export async function retire(tx: Transaction, inputs: readonly KnownInput[], now: string): Promise<void> {
  const ids = inputs.map((input) => input.id)
  const groups = [...new Set(inputs.map((input) => input.group_id))]
  const stillListed = sql`SELECT min(i.id) FROM build_inputs i WHERE i.group_id = jobs.group_id AND i.seen = 1`
  await tx.batch([
    sql`UPDATE build_inputs SET seen = 0 WHERE id IN ${ids}`,
    sql`UPDATE binary_packages SET seen = 0, last_seen = ${now} WHERE build_input_id IN ${ids} AND seen = 1`,
    sql`UPDATE source_packages SET last_seen = ${now} WHERE id IN ${inputs.map((input) => input.source_package_id)}`,
    ...refreshed(inputs),
    sql`DELETE FROM jobs WHERE group_id IN ${groups} AND state <> 'running' AND (${stillListed}) IS NULL`,
    sql`UPDATE jobs SET build_input_id = coalesce((${stillListed}), build_input_id) WHERE group_id IN ${groups}`,
  ])
}

/** Queues what a scope's inputs after an id still need, some at a time. */
export async function queueNeeds(
  tx: Transaction,
  scope: Scope,
  after: number,
  { now, maxRetries, limit }: { now: string; maxRetries: number | null; limit: number },
): Promise<{ last: number | null; queued: number }> {
  const inputs = await tx.all<Id>(
    sql`SELECT id FROM build_inputs WHERE scope_id = ${scope.id} AND needs_work = 1 AND seen = 1 AND id > ${after} ORDER BY id LIMIT ${limit}`,
  )
  const retriesLeft = maxRetries === null ? trusted('1') : sql`g.retries < ${maxRetries}`
  const queued = await tx.all<Id>(sql`
    INSERT INTO jobs (group_id, build_input_id, backend, architecture, state, priority, queued_at, next_retry, requires)
    SELECT g.id, i.id, g.backend, g.architecture, CASE WHEN g.next_retry > ${now} THEN 'waiting' ELSE 'ready' END,
           CASE WHEN i.status = 'BAD' THEN 2 ELSE 1 END, ${now}, g.next_retry, ${newRequires}
      FROM build_inputs i JOIN friend_groups g ON g.id = i.group_id
     WHERE i.id IN ${inputs.map((input) => input.id)} AND ${retriesLeft}
    ON CONFLICT (group_id) DO NOTHING RETURNING id`)
  return { last: inputs.at(-1)?.id ?? null, queued: queued.length }
}

/** Marks parts of the data as changed, for ETag and Last-Modified. */
export function touched(
  now: string,
  ...names: readonly ('packages' | 'queue' | 'builds' | 'workers' | 'snapshots' | 'scopes' | 'syncs')[]
): Sql {
  const rows = joined(
    names.map((name) => sql`(${name}, 1, ${now})`),
    ', ',
  )
  return sql`INSERT INTO generations (name, value, changed_at) VALUES ${rows}
             ON CONFLICT (name) DO UPDATE SET value = value + 1, changed_at = excluded.changed_at`
}

/** `digest` is null where the import of the last report did not come to its end. */
export type LastScope = Scope & { trust: string | null; digest: string | null }

/** The report before this one of the same scope; null when there was none. */
export async function previousScope(
  db: Database,
  distribution: string,
  release: string,
  architecture: string,
): Promise<LastScope | null> {
  return first(
    db.all<LastScope>(sql`
      SELECT c.id, c.release_id, c.listed, c.index_trust AS trust, c.digest FROM scopes c JOIN releases r ON r.id = c.release_id
       WHERE r.distribution = ${distribution} AND r.name = ${release} AND c.architecture = ${architecture}`),
  )
}

/** Writes what another server's database says. Ids of rows on the way are kept in a table of their own until all is done. */
import {
  first,
  inRows,
  sql,
  trusted,
  type Database,
  type Row,
  type Sql,
  type Transaction,
} from './database.ts'
import type { Blob } from './blobs.ts'
import { failedFiles, keptBlob } from './builds.ts'
import { adopted, fileOf, refreshed } from './imports.ts'
import type {
  BlobKind,
  TheirArtifact,
  TheirBinary,
  TheirBuild,
  TheirInput,
  TheirJob,
  TheirSource,
  TheirWorker,
} from './upstream.ts'
import { newRequires } from './queue.ts'

type Id = { id: number }
type Kind = 'source' | 'input' | BlobKind

/** How rows are written: `fresh`, nothing was there before, so that ids (and with them addresses) stay the same. */
export type Manner = { fresh: boolean; now: string }

/** Rows of ours by what they were called there. */
export const beginning: readonly Sql[] = [
  trusted(`CREATE TABLE IF NOT EXISTS takeover_ids (
    kind TEXT NOT NULL, theirs INTEGER NOT NULL, ours INTEGER NOT NULL, PRIMARY KEY (kind, theirs)) WITHOUT ROWID`),
]
export const ending: readonly Sql[] = [trusted('DROP TABLE takeover_ids')]

/** Whether a database has nothing that a takeover would add to. */
export async function isEmpty(db: Database): Promise<boolean> {
  const rows = await db.all(sql`
    SELECT 1 AS one WHERE EXISTS (SELECT 1 FROM source_packages) OR EXISTS (SELECT 1 FROM builds)
        OR EXISTS (SELECT 1 FROM workers)`)
  return rows.length === 0
}

/** What these rows are called here; those that were not taken over are missing. */
export async function oursOf(
  tx: Transaction | Database,
  kind: Kind,
  theirs: readonly number[],
): Promise<Map<number, number>> {
  const rows = await tx.all<{ theirs: number; ours: number }>(
    sql`SELECT theirs, ours FROM takeover_ids WHERE kind = ${kind} AND theirs IN ${theirs}`,
  )
  return new Map(rows.map((row) => [row.theirs, row.ours]))
}

/** @param ids theirs and ours of each */
function allNamed(kind: Kind, ids: readonly (readonly [number, number])[]): Sql[] {
  return inRows(
    ids.map(([theirs, ours]) => sql`(${kind}, ${theirs}, ${ours})`),
    (rows) => sql`INSERT INTO takeover_ids (kind, theirs, ours) VALUES ${rows} ON CONFLICT DO NOTHING`,
  )
}

/** `2026-01-02 03:04:05.678` → `2026-01-02T03:04:05.678`; null where it is no moment. */
function momentFrom(text: string | null): string | null {
  if (text === null || !/^\d{4}-\d\d-\d\d[ T]\d\d:\d\d:\d\d(\.\d{1,9})?$/.test(text)) return null
  return text.replace(' ', 'T')
}

/** Takes over workers; those that are known by their key stay as they are. */
export async function takeWorkers(
  tx: Transaction,
  rows: readonly TheirWorker[],
  { now }: Manner,
): Promise<void> {
  await tx.batch(
    rows.map((row) => {
      const seen = momentFrom(row.last_ping) ?? now
      return sql`
        INSERT INTO workers (key, name, address, status, last_ping, online, tags, draining, registered_at)
        VALUES (${row.key}, ${row.name}, ${row.address}, NULL, ${seen}, 0, '', 0, ${seen}) ON CONFLICT (key) DO NOTHING`
    }),
  )
}

async function releaseIds(
  tx: Transaction,
  rows: readonly { distribution: string; release: string | null }[],
): Promise<(row: { distribution: string; release: string | null }) => number> {
  const keyOf = (row: { distribution: string; release: string | null }): string =>
    JSON.stringify([row.distribution, row.release ?? ''])
  const each = new Map(rows.map((row) => [keyOf(row), row]))
  const results = await tx.batch<Id>(
    [...each.values()].map(
      (row) => sql`
        INSERT INTO releases (distribution, name) VALUES (${row.distribution}, ${row.release ?? ''})
        ON CONFLICT (distribution, name) DO UPDATE SET name = excluded.name RETURNING id`,
    ),
  )
  const ids = new Map([...each.keys()].map((key, index) => [key, results[index]?.[0]?.id ?? 0]))
  return (row) => ids.get(keyOf(row)) ?? 0
}

/** What is seen stays as this server saw it, where it has the row already. */
function seenAfter({ fresh }: Manner, name: string): Sql {
  return trusted(fresh ? `max(${name}.seen, excluded.seen)` : `${name}.seen`)
}

/** Takes over source packages, and remembers their ids. */
export async function takeSources(
  tx: Transaction,
  rows: readonly TheirSource[],
  manner: Manner,
): Promise<void> {
  const releaseOf = await releaseIds(tx, rows)
  const written = await tx.batch<Id>(
    rows.map((row) => {
      const seen = momentFrom(row.last_seen) ?? manner.now
      return sql`
        INSERT INTO source_packages (id, release_id, name, version, maintainer, seen, first_seen, last_seen)
        VALUES (${manner.fresh ? row.id : null}, ${releaseOf(row)}, ${row.name}, ${row.version}, NULL, ${row.seen}, ${seen}, ${seen})
        ON CONFLICT (release_id, name, version) DO UPDATE SET seen = ${seenAfter(manner, 'source_packages')},
          first_seen = min(first_seen, excluded.first_seen), last_seen = max(last_seen, excluded.last_seen) RETURNING id`
    }),
  )
  await tx.batch(
    allNamed(
      'source',
      rows.map((row, index) => [row.id, written[index]?.[0]?.id ?? 0]),
    ),
  )
}

/** Takes over build inputs, and remembers their ids. */
export async function takeInputs(
  tx: Transaction,
  rows: readonly TheirInput[],
  manner: Manner,
): Promise<void> {
  const releaseOf = await releaseIds(tx, rows)
  const sources = await oursOf(
    tx,
    'source',
    rows.map((row) => row.source_id),
  )
  const scopes = await tx.batch<Id>(
    rows.map(
      (row) => sql`
        INSERT INTO scopes (release_id, architecture, imported_at, listed)
        VALUES (${releaseOf(row)}, ${row.architecture}, ${momentFrom(row.last_seen) ?? manner.now}, 0)
        ON CONFLICT (release_id, architecture) DO UPDATE SET imported_at = max(imported_at, excluded.imported_at), digest = NULL RETURNING id`,
    ),
  )
  const groups = await tx.batch<Id>(
    rows.map(
      (row) => sql`
        INSERT INTO friend_groups (url, backend, architecture, retries, infrastructure_retries, next_retry)
        VALUES (${row.url}, ${row.backend}, ${row.architecture}, ${row.retries}, 0, ${momentFrom(row.next_retry)})
        ON CONFLICT (url, backend, architecture) DO UPDATE SET retries = max(retries, excluded.retries),
          next_retry = coalesce(next_retry, excluded.next_retry) RETURNING id`,
    ),
  )
  const inputs = await tx.batch<Id>(
    rows.map(
      (row, index) => sql`
        INSERT INTO build_inputs (source_package_id, group_id, scope_id, seen, needs_work)
        VALUES (${sources.get(row.source_id)}, ${groups[index]?.[0]?.id}, ${scopes[index]?.[0]?.id}, ${row.seen}, 1)
        ON CONFLICT (source_package_id, group_id) DO UPDATE SET seen = ${seenAfter(manner, 'build_inputs')} RETURNING id`,
    ),
  )
  await tx.batch(
    allNamed(
      'input',
      rows.map((row, index) => [row.id, inputs[index]?.[0]?.id ?? 0]),
    ),
  )
}

/** Takes over binary packages. */
export async function takeBinaries(
  tx: Transaction,
  rows: readonly TheirBinary[],
  manner: Manner,
): Promise<void> {
  const inputs = await oursOf(
    tx,
    'input',
    rows.map((row) => row.input_id),
  )
  await tx.batch(
    rows.map((row) => {
      const seen = momentFrom(row.last_seen) ?? manner.now
      return sql`
        INSERT INTO binary_packages (id, build_input_id, source_package_id, release_id, scope_id, name, version, component,
          architecture, url, file, sha256, size, seen, first_seen, last_seen)
        SELECT ${manner.fresh ? row.id : null}, i.id, i.source_package_id, c.release_id, i.scope_id, ${row.name}, ${row.version},
               ${row.component ?? ''}, ${row.architecture}, ${row.url}, ${fileOf(row.url)}, NULL, NULL, ${row.seen}, ${seen}, ${seen}
          FROM build_inputs i JOIN scopes c ON c.id = i.scope_id WHERE i.id = ${inputs.get(row.input_id)}
        ON CONFLICT (build_input_id, name, version, component, architecture) DO UPDATE SET
          seen = ${seenAfter(manner, 'binary_packages')}, last_seen = max(last_seen, excluded.last_seen)`
    }),
  )
}

/** Kept files by kind and id there. */
type TakenBlobs = ReadonlyMap<BlobKind, ReadonlyMap<number, Blob>>

/** Builds with their artifacts. What a server of upstream calls GOOD without having compared any file is none. */
export async function takeBuilds(
  tx: Transaction,
  rows: readonly TheirBuild[],
  artifacts: readonly TheirArtifact[],
  blobs: TakenBlobs,
  manner: Manner,
): Promise<void> {
  for (const [kind, those] of blobs) await takeBlobs(tx, kind, those, manner.now)
  const wanted = (ids: readonly (number | null)[]): number[] => ids.filter((id) => id !== null)
  const inputs = await oursOf(
    tx,
    'input',
    rows.map((row) => row.input_id),
  )
  const logs = await oursOf(tx, 'build_log', wanted(rows.map((row) => row.log_id)))
  const diffs = await oursOf(tx, 'diffoscope_log', wanted(artifacts.map((row) => row.diffoscope_id)))
  const attestations = await oursOf(tx, 'attestation_log', wanted(artifacts.map((row) => row.attestation_id)))
  const ofBuild = Map.groupBy(artifacts, (row) => row.build_id)
  const written = await tx.batch<Id>(
    rows.map((row) => {
      const { status, reason } = verdictFrom(row, ofBuild.get(row.id) ?? [])
      const [startedAt, builtAt] = [momentFrom(row.started_at), momentFrom(row.built_at)]
      return sql`
        INSERT INTO builds (id, build_input_id, lease_id, is_latest, started_at, built_at, decided_at, status, reason, retries, log_id)
        VALUES (${manner.fresh ? row.id : null}, ${inputs.get(row.input_id)}, NULL, 1, ${startedAt}, ${builtAt},
          ${builtAt ?? startedAt ?? '1970-01-01T00:00:00'}, ${status}, ${reason}, ${row.retries},
          ${row.log_id === null ? null : logs.get(row.log_id)}) RETURNING id`
    }),
  )
  const builds = new Map(rows.map((row, index) => [row.id, { id: written[index]?.[0]?.id ?? 0, row }]))
  await tx.batch(
    artifacts.map((artifact) => {
      const build = builds.get(artifact.build_id)
      const inputId = inputs.get(build?.row.input_id ?? 0)
      const own = sql`FROM binary_packages b WHERE b.build_input_id = ${inputId} AND b.name = ${artifact.name} ORDER BY b.seen DESC, b.id LIMIT 1`
      const { status, reason } = fileVerdict(artifact)
      return sql`
        INSERT INTO artifacts (id, build_id, name, url, file, status, reason, diffoscope_id, attestation_id)
        VALUES (${manner.fresh ? artifact.id : null}, ${build?.id}, ${artifact.name}, (SELECT b.url ${own}),
          coalesce((SELECT b.file ${own}), ${artifact.name}), ${status}, ${reason},
          ${artifact.diffoscope_id === null ? null : diffs.get(artifact.diffoscope_id)},
          ${artifact.attestation_id === null ? null : attestations.get(artifact.attestation_id)})`
    }),
  )
}

async function takeBlobs(
  tx: Transaction,
  kind: BlobKind,
  those: ReadonlyMap<number, Blob>,
  now: string,
): Promise<void> {
  const ids = [...those.keys()]
  const kept = await tx.batch<Id>([...those.values()].map((blob) => keptBlob(blob, now)))
  await tx.batch(
    allNamed(
      kind,
      ids.map((id, index) => [id, kept[index]?.[0]?.id ?? 0]),
    ),
  )
}

type Judged = { status: string; reason: string | null }

function verdictFrom({ status }: TheirBuild, artifacts: readonly TheirArtifact[]): Judged {
  if (status === 'GOOD') {
    return artifacts.length === 0
      ? { status: 'FAIL', reason: 'nothing_to_compare' }
      : { status, reason: null }
  }
  if (status !== 'BAD') return { status: 'FAIL', reason: 'unexplained' }
  const hasDiff = artifacts.some((artifact) => artifact.diffoscope_id !== null)
  return { status, reason: hasDiff ? 'content_differs' : 'unexplained' }
}

function fileVerdict({ status, diffoscope_id: diff }: TheirArtifact): Judged {
  if (status === 'GOOD') return { status, reason: null }
  if (status !== 'BAD') return { status: 'FAIL', reason: 'unexplained' }
  return { status, reason: diff === null ? 'unexplained' : 'content_differs' }
}

/** Gives inputs the result of their newest build, as upstream finds it: the greatest `built_at`, then the greatest id. */
export async function decideInputs(tx: Transaction, theirs: readonly number[]): Promise<void> {
  const ids = [...new Set((await oursOf(tx, 'input', theirs)).values())]
  const newest = trusted(`SELECT h.id FROM builds h WHERE h.build_input_id = i.id AND h.is_latest = 1
    ORDER BY coalesce(h.built_at, h.decided_at) DESC, h.id DESC LIMIT 1`)
  const rows = await tx.all<{ id: number; source_package_id: number; build_id: number | null }>(
    sql`SELECT i.id, i.source_package_id, (${newest}) AS build_id FROM build_inputs i WHERE i.id IN ${ids}`,
  )
  const decided = rows.flatMap(({ id, build_id: build }) => (build === null ? [] : [{ id, build }]))
  const failed = await tx.all<{ id: number; reason: string; decided_at: string }>(sql`
    SELECT id, reason, decided_at FROM builds WHERE status = 'FAIL' AND id IN ${decided.map(({ build }) => build)}`)
  const failures = new Map(failed.map((row) => [row.id, row]))
  await tx.batch([
    ...decided.flatMap(({ id, build }) => {
      const failure = failures.get(build)
      const told = failure === undefined ? [] : [failedFiles(id, build, failure.reason, failure.decided_at)]
      return [...adopted(build, id), ...told]
    }),
    ...refreshed(rows),
  ])
}

/** Queues what was queued there; what ran there waits again. */
export async function takeJobs(tx: Transaction, rows: readonly TheirJob[], { now }: Manner): Promise<void> {
  const inputs = await oursOf(
    tx,
    'input',
    rows.map((row) => row.input_id),
  )
  await tx.batch(
    rows.map(
      (row) => sql`
        INSERT INTO jobs (group_id, build_input_id, backend, architecture, state, priority, queued_at, next_retry, requires)
        SELECT g.id, i.id, g.backend, g.architecture, CASE WHEN g.next_retry > ${now} THEN 'waiting' ELSE 'ready' END,
               ${row.priority}, ${momentFrom(row.queued_at) ?? now}, g.next_retry, ${newRequires}
          FROM build_inputs i JOIN friend_groups g ON g.id = i.group_id
         WHERE i.id = ${inputs.get(row.input_id)} AND i.seen = 1
        ON CONFLICT (group_id) DO NOTHING`,
    ),
  )
}

/** How much each scope lists, so that the next report is compared with it. */
export const scopesCounted: Sql = sql`
  UPDATE scopes SET listed = (SELECT count(*) FROM build_inputs i WHERE i.scope_id = scopes.id AND i.seen = 1) WHERE listed = 0`

/** Ids that the other server gave to build inputs which were taken over, after one of them. */
export function theirIdsOf(
  db: Database,
  after: number,
  limit: number,
): Promise<(Row & { theirs: number })[]> {
  return db.all(sql`
    SELECT theirs FROM takeover_ids WHERE kind = 'input' AND theirs > ${after} ORDER BY theirs LIMIT ${limit}`)
}

/** What a takeover that was begun has written of itself; null: none was begun. */
export function switchValue(db: Database, name: string): Promise<{ value: string } | null> {
  return first(db.all<{ value: string }>(sql`SELECT value FROM switches WHERE name = ${name}`))
}

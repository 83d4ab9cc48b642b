/** What pages ask that the API does not: numbers over everything, changes of verdicts, the queue by turn. */
import { first, joined, sql, trusted, type Database, type Row, type Sql } from './database.ts'
import { findNames } from './names.ts'
import { generationsNamed, type Generation } from './generations.ts'

type ScopeCount = Row & {
  distribution: string
  release: string
  architecture: string
  imported_at: string
  listed: number
  index_trust: string | null
  status: string | null
  reason: string | null
  n: number | null
}

/** Listed inputs by release, architecture, verdict and reason; a scope without any has one row of nulls. */
export function scopeCounts(db: Database): Promise<ScopeCount[]> {
  return db.all<ScopeCount>(sql`
    SELECT r.distribution, r.name AS release, c.architecture, c.imported_at, c.listed, c.index_trust, x.status, x.reason, x.n
      FROM scopes c JOIN releases r ON r.id = c.release_id
      LEFT JOIN input_counts x ON x.scope_id = c.id AND x.seen = 1 AND x.n > 0
     ORDER BY r.distribution, r.name, c.architecture`)
}

export type TrendRow = Row & {
  day: string
  distribution: string
  release: string
  status: string
  reason: string
  n: number
}

/** Daily numbers of each release from a day (`2026-11-22`) on, oldest first. */
export function trendRows(db: Database, since: string): Promise<TrendRow[]> {
  return db.all<TrendRow>(sql`
    SELECT s.day, r.distribution, r.name AS release, s.status, s.reason, sum(s.n) AS n
      FROM snapshots s JOIN scopes c ON c.id = s.scope_id JOIN releases r ON r.id = c.release_id
     WHERE s.day >= ${since} GROUP BY s.day, r.id, s.status, s.reason ORDER BY s.day`)
}

type SourceTally = Row & { distribution: string; release: string; status: string; n: number }

/** Listed source packages of every release by verdict. */
export function sourceTallies(db: Database): Promise<SourceTally[]> {
  return db.all<SourceTally>(sql`
    SELECT r.distribution, r.name AS release, x.status, sum(x.n) AS n
      FROM source_counts x JOIN releases r ON r.id = x.release_id WHERE x.seen = 1 AND x.n > 0 GROUP BY r.id, x.status`)
}

/** Days that snapshots are kept. */
const keptDays = 1100

/** Writes down the present numbers as those of a day, in place of what was written of it before. */
export function snapshotTaken(day: string): Sql[] {
  const oldest = new Date(Date.parse(day) - keptDays * 86_400_000).toISOString().slice(0, 10)
  return [
    sql`DELETE FROM snapshots WHERE day = ${day} OR day < ${oldest}`,
    sql`INSERT INTO snapshots (day, scope_id, status, reason, n)
        SELECT ${day}, scope_id, status, reason, n FROM input_counts WHERE seen = 1 AND n > 0`,
  ]
}

type JobCount = Row & { state: string; n: number }

/** Jobs by their state. */
export function jobCounts(db: Database): Promise<JobCount[]> {
  return db.all<JobCount>(sql`SELECT state, sum(n) AS n FROM job_counts GROUP BY state`)
}

type Farm = Row & { online: number; known: number; busy: number }

const farm = sql`
  SELECT coalesce(sum(online), 0) AS online, count(*) AS known,
         (SELECT count(DISTINCT worker_id) FROM jobs WHERE state = 'running') AS busy FROM workers`
const noFarm: Farm = { online: 0, known: 0, busy: 0 }

/** Workers in numbers. */
export async function farmOf(db: Database): Promise<Farm> {
  return (await first(db.all<Farm>(farm))) ?? noFarm
}

type GenerationsAndFarm = { generations: Generation[]; farm: Farm }

/** What pages about the farm depend on, asked in one go. */
export async function generationsAndFarm(
  db: Database,
  names: readonly string[],
): Promise<GenerationsAndFarm> {
  const [generations = [], farms = []] = await db.batch<Row>([generationsNamed(names), farm])
  return { generations: generations as Generation[], farm: (farms[0] as Farm | undefined) ?? noFarm } // as just asked
}

/** Builds that are looked at for numbers about the present. */
const recentBuilds = 20_000

type Pace = Row & { worker: string | null; status: string; n: number; oldest: string }

/** Finished builds since a moment, by worker and verdict; of a very busy time its newest part. */
export function paceOf(db: Database, since: string): Promise<Pace[]> {
  return db.all<Pace>(sql`
    SELECT h.worker, h.status, count(*) AS n, min(h.decided_at) AS oldest
      FROM (SELECT worker, status, decided_at FROM builds WHERE decided_at >= ${since} ORDER BY decided_at DESC LIMIT ${recentBuilds}) h
     GROUP BY h.worker, h.status`)
}

// --- changes of verdicts

export type ChangeRow = Row & {
  id: number
  at: string
  build_id: number
  distribution: string
  release: string
  name: string
  version: string
  architecture: string
  maintainer: string | null
  status: string
  reason: string | null
  before: string | null
  before_version: string | null
  turn: number
}

export type ChangeFilter = {
  /** 1 worse, 2 better, 3 first or otherwise different */
  turns?: readonly number[]
  /** Only these releases. */
  releaseIds?: readonly number[] | undefined
  name?: string | undefined
  maintainer?: string | undefined
  /** Only those before this one. */
  before?: number | undefined
}

const changeColumns =
  trusted(`v.id, v.at, v.build_id, r.distribution, r.name AS release, v.name, v.version, v.architecture, v.maintainer,
  v.status, v.reason, v.before, v.before_version, v.turn`)

/** Changes of verdicts, newest first. Each turn is read from its index, so that rare ones are found among many. */
export async function latestChanges(db: Database, filter: ChangeFilter, limit: number): Promise<ChangeRow[]> {
  const rows = await db.batch<ChangeRow>(
    changeConditions(filter).map(
      (condition) => sql`
        SELECT ${changeColumns} FROM changes v JOIN releases r ON r.id = v.release_id
         WHERE ${joined(condition, ' AND ')} ORDER BY v.id DESC LIMIT ${limit}`,
    ),
  )
  return rows
    .flat()
    .sort((a, b) => b.id - a.id)
    .slice(0, limit)
}

/** Questions that together are the one asked; each walks one index downwards. */
function changeConditions(filter: ChangeFilter): Sql[][] {
  const { turns = [1, 2, 3], releaseIds, name, maintainer, before } = filter
  const older = before === undefined ? [] : [sql`v.id < ${before}`]
  const ofReleases = releaseIds === undefined ? [] : [sql`+v.release_id IN ${releaseIds}`]
  const ofTurns = turns.length === 3 ? [] : [sql`+v.turn IN ${turns}`]
  const ofMaintainer = maintainer === undefined ? [] : [sql`v.maintainer = ${maintainer}`]
  const ofName = name === undefined ? [] : [sql`v.name = ${name}`]
  if (name !== undefined || maintainer !== undefined)
    return [[...ofName, ...ofMaintainer, ...ofReleases, ...ofTurns, ...older]]
  if (releaseIds === undefined) return turns.map((turn) => [sql`v.turn = ${turn}`, ...older])
  return releaseIds.flatMap((id) =>
    turns.map((turn) => [sql`v.release_id = ${id}`, sql`v.turn = ${turn}`, ...older]),
  )
}

/** Ids of the releases of a distribution, or of the one release named. */
export async function releaseIdsOf(
  db: Database,
  distribution: string | undefined,
  release: string | undefined,
): Promise<number[] | undefined> {
  if (distribution === undefined && release === undefined) return undefined
  const conditions = [
    ...(distribution === undefined ? [] : [sql`distribution = ${distribution}`]),
    ...(release === undefined ? [] : [sql`name = ${release}`]),
  ]
  const rows = await db.all<{ id: number }>(sql`SELECT id FROM releases WHERE ${joined(conditions, ' AND ')}`)
  return rows.map((row) => row.id)
}

/** Changes that are kept for those who look back. */
const keptChanges = 200_000

/** Forgets changes that are older than those kept. */
export function forgottenChanges(): Sql {
  return sql`DELETE FROM changes WHERE id <= (SELECT max(id) FROM changes) - ${keptChanges}`
}

// --- the queue

export type TurnRow = Row & {
  id: number
  name: string
  version: string
  distribution: string
  release: string
  architecture: string
  backend: string
  priority: number
  queued_at: string
  started_at: string | null
  next_retry: string | null
  worker: string | null
  reason: string | null
}

const turnColumns =
  trusted(`j.id, s.name, s.version, r.distribution, r.name AS release, j.architecture, j.backend, j.priority,
  j.queued_at, j.started_at, j.next_retry, w.name AS worker, g.last_reason AS reason`)
const turnJoins =
  trusted(`JOIN build_inputs i ON i.id = j.build_input_id JOIN source_packages s ON s.id = i.source_package_id
  JOIN releases r ON r.id = s.release_id JOIN friend_groups g ON g.id = j.group_id LEFT JOIN workers w ON w.id = j.worker_id`)

export type Turns = { running: TurnRow[]; ready: TurnRow[]; waiting: TurnRow[] }

/** What runs, what is next and what waits for its time; some of each, by index. */
export async function turnsOf(db: Database, limit: number): Promise<Turns> {
  const lines = await db.all<{ backend: string; architecture: string }>(
    sql`SELECT DISTINCT r.distribution AS backend, c.architecture FROM job_counts x JOIN scopes c ON c.id = x.scope_id
          JOIN releases r ON r.id = c.release_id WHERE x.state = 'ready' AND x.n > 0`,
  )
  const [running = [], waiting = [], ...ready] = await db.batch<TurnRow>([
    sql`SELECT ${turnColumns} FROM jobs j ${turnJoins} WHERE j.state = 'running' ORDER BY j.lease_until LIMIT ${limit}`,
    sql`SELECT ${turnColumns} FROM (SELECT id FROM jobs WHERE state = 'waiting' ORDER BY next_retry LIMIT ${limit}) n
          JOIN jobs j ON j.id = n.id ${turnJoins} ORDER BY j.next_retry`,
    ...lines.map(({ backend, architecture }) => firstOf(backend, architecture, limit)),
  ])
  const next = ready
    .flat()
    .sort((a, b) => a.priority - b.priority || (a.queued_at < b.queued_at ? -1 : 1) || a.id - b.id)
  return { running, waiting, ready: next.slice(0, limit) }
}

/** Sets of tags that a line's first jobs are looked for by. */
const mostTagSets = 50

/**
 * The first jobs of one line: those of each set of tags come in order, so each is asked by itself. The sets are
 * found by leaps through the index, and jobs whose rules were not asked yet have none.
 */
function firstOf(backend: string, architecture: string, limit: number): Sql {
  const ofLine = (table: string): Sql => {
    const [state, own, built] = ['state', 'backend', 'architecture'].map((column) =>
      trusted(`${table}.${column}`),
    ) as [Sql, Sql, Sql] // as many as are mapped
    return sql`${state} = 'ready' AND ${own} = ${backend} AND ${built} = ${architecture}`
  }
  return sql`
    WITH RECURSIVE t(requires) AS (
      SELECT * FROM (SELECT f.requires FROM jobs f WHERE ${ofLine('f')} AND f.requires >= '' ORDER BY f.requires LIMIT 1)
      UNION ALL
      SELECT (SELECT n.requires FROM jobs n WHERE ${ofLine('n')} AND n.requires > t.requires ORDER BY n.requires LIMIT 1)
        FROM t WHERE t.requires IS NOT NULL LIMIT ${mostTagSets})
    SELECT ${turnColumns} FROM (SELECT NULL AS requires UNION SELECT requires FROM t) t
      JOIN jobs j ON j.id IN (
        SELECT o.id FROM jobs o WHERE ${ofLine('o')} AND o.requires IS t.requires
         ORDER BY o.priority, o.queued_at, o.id LIMIT ${limit}) ${turnJoins}`
}

export type HeldRow = Row & {
  worker_id: number
  job_id: number
  name: string
  version: string
  started_at: string
}

/** What each worker works on. */
export function heldJobs(db: Database): Promise<HeldRow[]> {
  return db.all<HeldRow>(sql`
    SELECT j.worker_id, j.id AS job_id, s.name, s.version, j.started_at
      FROM jobs j JOIN build_inputs i ON i.id = j.build_input_id JOIN source_packages s ON s.id = i.source_package_id
     WHERE j.state = 'running' AND j.worker_id IS NOT NULL LIMIT 1000`)
}

// --- finding packages

export type FoundName = Row & {
  kind: string
  name: string
  source_name: string
  version: string
  distribution: string
  release: string
  architecture: string
  status: string | null
  reason: string | null
}

/** Listed source and binary packages whose name is, begins with or contains a text, in this order. */
export async function packagesNamed(db: Database, text: string, limit: number): Promise<FoundName[]> {
  const beyond = `${text}\u{10ffff}`
  const sources = (condition: Sql): Sql => sql`
    SELECT 'source' AS kind, s.name, s.name AS source_name, s.version, r.distribution, r.name AS release, '' AS architecture, s.status, s.reason
      FROM source_packages s JOIN releases r ON r.id = s.release_id WHERE ${condition} AND s.seen = 1 ORDER BY s.name, s.id LIMIT ${limit}`
  const binaries = (condition: Sql): Sql => sql`
    SELECT 'binary' AS kind, b.name, s.name AS source_name, b.version, r.distribution, r.name AS release, b.architecture, b.status, b.reason
      FROM binary_packages b JOIN source_packages s ON s.id = b.source_package_id JOIN releases r ON r.id = b.release_id
     WHERE ${condition} AND b.seen = 1 ORDER BY b.name, b.id LIMIT ${limit}`
  const rows = await db.batch<FoundName>([
    sources(sql`s.name = ${text}`),
    binaries(sql`b.name = ${text}`),
    sources(sql`s.name > ${text} AND s.name < ${beyond}`),
    binaries(sql`b.name > ${text} AND b.name < ${beyond}`),
  ])
  const found = rows.flat()
  if (found.length >= limit) return found
  const known = new Set(found.map((row) => row.name))
  const others = await Promise.all(
    (['source', 'binary'] as const).map(async (kind) => {
      const { names } = await findNames(db, { kind, text, most: 2 * limit }) // those found already are among them
      return names.filter((name) => !known.has(name)).slice(0, limit)
    }),
  )
  const [ofSources = [], ofBinaries = []] = others
  const inside = await db.batch<FoundName>([
    sources(sql`s.name IN ${ofSources}`),
    binaries(sql`b.name IN ${ofBinaries}`),
  ])
  return [...found, ...inside.flat()]
}

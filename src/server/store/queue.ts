import { first, sql, trusted, type Database, type Row, type Sql, type Transaction } from './database.ts'
import { inputsWith, type JobFilter } from './inputs.ts'
import { tallied, type Tally } from './counting.ts'
import {
  answerOf,
  lookedUp,
  narrowed,
  numberOf,
  revisionOf,
  someOf,
  walking,
  type Condition,
} from './narrow.ts'
import { scopesWith } from './origins.ts'
import { given, pageOfRows, whereOf, type Listing, type PageRequest } from './page.ts'
import { question } from './work.ts'

export type { JobFilter } from './inputs.ts'

export type JobRow = Row & {
  id: number
  name: string
  version: string
  distribution: string
  release: string
  architecture: string
  backend: string
  url: string
  next_retry: string | null
  priority: number
  queued_at: string
  started_at: string | null
  worker: string | null
  reason: string | null
}

export type ArtifactRow = Row & {
  name: string
  version: string
  architecture: string
  url: string
  file: string
  sha256: string | null
  size: number | null
}

const jobs = {
  columns:
    trusted(`j.id, s.name, s.version, r.distribution, r.name AS release, j.architecture, j.backend, g.url, j.next_retry,
    j.priority, j.queued_at, j.started_at, w.name AS worker, g.last_reason AS reason`),
  from: trusted(`jobs j CROSS JOIN build_inputs i ON i.id = j.build_input_id CROSS JOIN source_packages s ON s.id = i.source_package_id
    CROSS JOIN releases r ON r.id = s.release_id CROSS JOIN friend_groups g ON g.id = j.group_id LEFT JOIN workers w ON w.id = j.worker_id`),
  table: trusted('jobs j'),
  id: 'j.id',
  sorts: {
    id: 'j.id',
    name: 's.name',
    version: 's.version',
    distribution: 'r.distribution',
    release: 'r.name',
    architecture: 'j.architecture',
    backend: 'j.backend',
    url: 'g.url',
    next_retry: 'j.next_retry',
    priority: 'j.priority',
    queued_at: 'j.queued_at',
    started_at: 'j.started_at',
  },
  walked: ['id', 'name'],
} satisfies Listing

/** The same from the packages on, so that the order of their names is that of an index. */
const jobsByName = {
  ...jobs,
  lookup: jobs.from,
  from: trusted(`source_packages s CROSS JOIN build_inputs i ON i.source_package_id = s.id CROSS JOIN jobs j ON j.build_input_id = i.id
    JOIN releases r ON r.id = s.release_id JOIN friend_groups g ON g.id = j.group_id LEFT JOIN workers w ON w.id = j.worker_id`),
} satisfies Listing

/** Conditions on a build input `i` with its source package `s` and release `r`. */
export function inputConditions(filter: JobFilter): Sql[] {
  return [
    ...given(filter.distribution, (value) => sql`r.distribution = ${value}`),
    ...given(filter.release, (value) => sql`r.name = ${value}`),
    ...given(filter.name, (value) => sql`s.name = ${value}`),
    ...given(filter.version, (value) => sql`s.version = ${value}`),
    ...given(filter.architecture, (value) => sql`c.architecture = ${value}`),
    ...given(
      filter.component,
      (value) =>
        sql`EXISTS (SELECT 1 FROM binary_packages b WHERE b.source_package_id = s.id AND b.component = ${value})`,
    ),
  ]
}

const withScope = sql`${jobs.from} JOIN scopes c ON c.id = i.scope_id`

type JobPage = { total: number; rows: JobRow[] }
type Asked = { filter: JobFilter; request: PageRequest }

/** Jobs, running and waiting. */
export function listJobs(db: Database, filter: JobFilter, request: PageRequest): Promise<JobPage> {
  return answerOf(() => jobPageNow(db, { filter, request }))
}

/** null: ask again. */
const jobPageNow = question('queue.list', async (tx, { filter, request }: Asked): Promise<JobPage | null> => {
  const scopes = await scopesWith(tx, filter)
  const known = isCounted(filter) ? await numberOf(tx, jobCount(scopes)) : scopes?.length === 0 ? 0 : null
  const conditions = jobConditions(tx, filter, scopes)
  const all = (): Promise<number> => numberOf(tx, jobCount(null))
  const revision = (): Promise<string> => revisionOf(tx, ['queue', 'packages'])
  const found = await narrowed(tx, jobs, request, conditions, { known, all, revision })
  if (found === null) return null
  const { total, where, isLed } = found
  const listing = request.sort === 'name' && !isLed ? jobsByName : jobs
  return { total, rows: total === 0 ? [] : await pageOfRows<JobRow>(tx, listing, request, where, isLed) }
})

function jobConditions(tx: Transaction, filter: JobFilter, scopes: readonly number[] | null): Condition[] {
  return inputsWith(tx, 'j.build_input_id', filter, scopes, {
    rows: (ids) => numberOf(tx, jobCount(ids)),
    rowsOf: (inputs) =>
      someOf(tx, sql`SELECT 1 FROM (${inputs}) x CROSS JOIN jobs j ON j.build_input_id = x.id`),
    together: ['id'],
  })
}

/** By the counters, whatever the length of the queue. */
function jobCount(scopes: readonly number[] | null): Sql {
  const where = scopes === null ? [] : [sql`n.scope_id IN ${scopes}`]
  return sql`SELECT coalesce(sum(n.n), 0) AS n FROM job_counts n ${whereOf(where)}`
}

function jobById(id: number): Sql {
  return sql`SELECT ${jobs.columns} FROM ${jobs.from} WHERE j.id = ${id}`
}

/** One job; null: none has this id. */
export function getJobRow(db: Database, id: number): Promise<JobRow | null> {
  return first(db.all<JobRow>(jobById(id)))
}

/** Jobs whose wait is over become ready, those that have waited longest first; their ids. */
export function promoted(now: string, limit: number): Sql {
  return sql`UPDATE jobs SET state = 'ready' WHERE id IN (
      SELECT id FROM jobs WHERE state = 'waiting' AND next_retry <= ${now} ORDER BY next_retry LIMIT ${limit})
    RETURNING id`
}

/** What a pop has to see to before it looks for a job; `paused`: no job is to be handed out. */
export type Chores = Row & { unruled: 0 | 1; due: 0 | 1; paused: 0 | 1 }

/** Looking costs a tenth of a change that changes nothing, and nearly always there is nothing to change. */
export function choresBefore(now: string, pauseSwitch: string): Sql {
  return sql`
    SELECT EXISTS (SELECT 1 FROM jobs WHERE requires IS NULL) AS unruled,
           EXISTS (SELECT 1 FROM jobs WHERE state = 'waiting' AND next_retry <= ${now}) AS due,
           EXISTS (SELECT 1 FROM switches WHERE name = ${pauseSwitch}) AS paused`
}

export type Wanted = { backend: string; architecture: string; requires: string }

/** For each combination the job whose turn it is: most urgent first, then the one that has waited longest. One index look-up each. */
export function turns(pairs: readonly Wanted[], workerId: number, shunUntil: string): Sql[] {
  return pairs.map(
    ({ backend, architecture, requires }) => sql`
      SELECT j.id, j.priority, j.queued_at FROM jobs j
       WHERE j.state = 'ready' AND j.backend = ${backend} AND j.architecture = ${architecture} AND j.requires = ${requires}
         AND (j.avoid_worker_id IS NULL OR j.avoid_worker_id <> ${workerId} OR j.next_retry <= ${shunUntil})
       ORDER BY j.priority, j.queued_at, j.id LIMIT 1`,
  )
}

/** All architectures that jobs can have, for a worker that builds for any. */
export async function knownArchitectures(tx: Transaction): Promise<string[]> {
  const rows = await tx.all<{ architecture: string }>(sql`SELECT DISTINCT architecture FROM scopes`)
  return rows.map((row) => row.architecture)
}

/** The files of a job as its inputs list them; where none is listed any more, as they were when they left. */
function listedFiles(jobId: number): Sql {
  return sql`
    SELECT b.id, b.name, b.version, b.architecture, b.url, b.file, b.sha256, b.size
      FROM jobs j JOIN build_inputs i ON i.group_id = j.group_id JOIN binary_packages b ON b.build_input_id = i.id
     WHERE j.id = ${jobId}
       AND (i.seen = 1 AND b.seen = 1 OR NOT EXISTS (SELECT 1 FROM build_inputs f WHERE f.group_id = j.group_id AND f.seen = 1))`
}

/** Each file once, whichever friends list it; the oldest row tells, but for hashes that only a later one has. */
function eachFileOnce(rows: readonly (ArtifactRow & { id: number })[]): ArtifactRow[] {
  const files = new Map<string, ArtifactRow>()
  for (const row of rows.toSorted((a, b) => a.id - b.id)) {
    const known = files.get(row.file)
    files.set(row.file, {
      ...(known ?? row),
      sha256: known?.sha256 ?? row.sha256,
      size: known?.size ?? row.size,
    })
  }
  return [...files.values()]
}

/** What was handed out under a name: to whom, and the job while it is still that worker's. */
type NamedLease = Row & { worker_id: number | null; job_id: number | null }

/** The lease of a token; null: none was handed out under it. */
export async function leaseNamed(tx: Transaction, token: string): Promise<NamedLease | null> {
  return first(
    tx.all<NamedLease>(sql`
      SELECT l.worker_id, j.id AS job_id FROM leases l
        LEFT JOIN jobs j ON j.id = l.job_id AND j.lease_id = l.id AND j.state = 'running' WHERE l.token = ${token}`),
  )
}

/** A job and its files, as when it was handed out. */
export async function handedOut(
  tx: Transaction,
  jobId: number,
): Promise<{ job: JobRow; artifacts: ArtifactRow[] }> {
  const [jobRows, files] = await tx.batch<Row>([jobById(jobId), listedFiles(jobId)])
  const job = jobRows?.[0] as JobRow // the caller has just found it, in the same transaction
  return { job, artifacts: eachFileOnce((files ?? []) as (ArtifactRow & { id: number })[]) }
}

/** Hands a job to a worker; the rows of the job as it was before, and of its files. */
export async function leaseJob(
  tx: Transaction,
  jobId: number,
  lease: { token: string; workerId: number; now: string; until: string },
): Promise<{ job: JobRow; artifacts: ArtifactRow[] }> {
  const given = await handedOut(tx, jobId)
  await tx.batch([
    sql`INSERT INTO leases (token, job_id, group_id, build_input_id, worker_id, started_at)
        SELECT ${lease.token}, j.id, j.group_id, j.build_input_id, ${lease.workerId}, ${lease.now} FROM jobs j WHERE j.id = ${jobId}`,
    sql`UPDATE jobs SET state = 'running', worker_id = ${lease.workerId}, started_at = ${lease.now}, lease_until = ${lease.until},
          lease_id = (SELECT id FROM leases WHERE token = ${lease.token}) WHERE id = ${jobId}`,
    workerSeen(lease.workerId, lease.now),
  ])
  return given
}

/** What a worker does, as its status tells: the job that it got last of those that it still has. */
function doingNow(id: number): Sql {
  return sql`(SELECT 'working hard on ' || s.name || ' ' || s.version
    FROM jobs j CROSS JOIN build_inputs i ON i.id = j.build_input_id CROSS JOIN source_packages s ON s.id = i.source_package_id
   WHERE j.worker_id = ${id} AND j.state = 'running' ORDER BY j.lease_id DESC LIMIT 1)`
}

/** A worker has called, and its status is what it does now. */
export function workerSeen(id: number, now: string): Sql {
  return sql`UPDATE workers SET online = 1, last_ping = ${now}, status = ${doingNow(id)} WHERE id = ${id}`
}

/** Extends the lease of a running job; false where the job is not this worker's. */
export async function extendLease(
  tx: Transaction,
  jobId: number,
  workerId: number,
  { now, until }: { now: string; until: string },
): Promise<boolean> {
  const [held] = await tx.batch([
    sql`UPDATE jobs SET lease_until = ${until} WHERE id = ${jobId} AND worker_id = ${workerId} AND state = 'running' RETURNING id`,
    sql`UPDATE workers SET online = 1, last_ping = ${now} WHERE id = ${workerId}`,
  ])
  return (held ?? []).length > 0
}

/** Takes jobs from workers that stopped answering; their ids. */
export async function freeJobs(tx: Transaction, now: string, longest: string): Promise<number[]> {
  const [, freed] = await tx.batch<{ id: number }>([
    // A clock that was set back has left leases that would last far too long.
    sql`UPDATE jobs SET lease_until = ${longest} WHERE state = 'running' AND lease_until > ${longest}`,
    sql`SELECT id FROM jobs WHERE state = 'running' AND lease_until < ${now}`,
    sql`UPDATE leases SET outcome = 'lost', ended_at = ${now}
         WHERE outcome IS NULL AND id IN (SELECT lease_id FROM jobs WHERE state = 'running' AND lease_until < ${now})`,
    ...putBack(sql`jobs.state = 'running' AND jobs.lease_until < ${now}`),
  ])
  return (freed ?? []).map((job) => job.id)
}

/**
 * Puts running jobs back into the queue. One whose package has left its release meanwhile goes instead: its worker was
 * allowed to end it, and nobody else is to begin. What was queued by hand after that stays.
 * @param which the condition on `jobs`
 */
export function putBack(which: Sql): Sql[] {
  return [
    sql`DELETE FROM jobs WHERE ${which}
           AND NOT EXISTS (SELECT 1 FROM build_inputs i WHERE i.group_id = jobs.group_id AND i.seen = 1)
           AND jobs.queued_at <= (SELECT s.last_seen FROM build_inputs i JOIN source_packages s ON s.id = i.source_package_id
                                   WHERE i.id = jobs.build_input_id)`,
    sql`UPDATE jobs SET state = 'ready', worker_id = NULL, lease_id = NULL, started_at = NULL, lease_until = NULL WHERE ${which}`,
  ]
}

/** Drops jobs; those that run are told so at their next ping. */
export async function deleteJobs(
  tx: Transaction,
  which: { id: number } | JobFilter,
  now: string,
): Promise<number> {
  const chosen =
    'id' in which
      ? sql`SELECT ${which.id} AS id`
      : sql`SELECT j.id FROM ${withScope} ${whereOf(inputConditions(which))}`
  const [, , dropped] = await tx.batch([
    sql`UPDATE workers SET status = NULL WHERE id IN (SELECT worker_id FROM jobs WHERE state = 'running' AND id IN (${chosen}))`,
    sql`UPDATE leases SET outcome = 'dropped', ended_at = ${now}
         WHERE outcome IS NULL AND id IN (SELECT lease_id FROM jobs WHERE state = 'running' AND id IN (${chosen}))`,
    sql`DELETE FROM jobs WHERE id IN (${chosen}) RETURNING id`,
  ])
  return (dropped ?? []).length
}

export type Selection = JobFilter & { status?: string | null; reason?: string | null }

/** Queues the inputs that match with a priority, due at once; how many inputs matched. */
export async function queueMatching(
  tx: Transaction,
  selection: Selection,
  priority: number,
  { now, due }: { now: string; due: string },
): Promise<number> {
  const wanted = [...inputConditions(selection), ...statusConditions(selection)]
  if (selection.version === undefined || selection.version === null) wanted.push(sql`i.seen = 1`)
  const matching = await tx.all<{ id: number; group_id: number }>(sql`
    SELECT i.id, i.group_id FROM build_inputs i JOIN source_packages s ON s.id = i.source_package_id
      JOIN releases r ON r.id = s.release_id JOIN scopes c ON c.id = i.scope_id ${whereOf(wanted)}`)
  const inputs = matching.map((row) => row.id)
  const groups = [...new Set(matching.map((row) => row.group_id))]
  await tx.batch([
    sql`UPDATE friend_groups SET next_retry = ${due} WHERE id IN ${groups}`,
    sql`UPDATE jobs SET priority = ${priority}, next_retry = ${due}, avoid_worker_id = NULL,
          state = CASE state WHEN 'waiting' THEN 'ready' ELSE state END WHERE group_id IN ${groups}`,
    sql`INSERT INTO jobs (group_id, build_input_id, backend, architecture, state, priority, queued_at, next_retry, requires)
        SELECT g.id, min(i.id), g.backend, g.architecture, 'ready', ${priority}, ${now}, ${due}, ${newRequires}
          FROM build_inputs i JOIN friend_groups g ON g.id = i.group_id WHERE i.id IN ${inputs} GROUP BY g.id
        ON CONFLICT (group_id) DO NOTHING`,
  ])
  return inputs.length
}

/** Of the latest result; UNKWN: there is none. */
function statusConditions({ status, reason }: Selection): Sql[] {
  const conditions: Sql[] = []
  if (status === 'UNKWN') conditions.push(sql`(i.status IS NULL OR i.status = 'UNKWN')`)
  else if (status !== undefined && status !== null) conditions.push(sql`i.status = ${status}`)
  if (reason !== undefined && reason !== null) conditions.push(sql`i.reason = ${reason}`)
  return conditions
}

type States = { running: number; ready: number; waiting: number; due: number }

/** Numbers of jobs by state, with filters or without. */
export async function countJobs(
  db: Database,
  filter: JobFilter,
  now: string,
): Promise<{ running: number; available: number; pending: number }> {
  const { running, ready, waiting, due } = await answerOf(() => statesNow(db, { filter, now }))
  return { running, available: ready + due, pending: Math.max(0, waiting - due) }
}

/** Jobs by state; `due`: those that wait and need not any more. null: ask again. */
const statesNow = question(
  'queue.states',
  async (tx, { filter, now }: { filter: JobFilter; now: string }): Promise<States | null> => {
    const scopes = await scopesWith(tx, filter)
    const conditions = jobConditions(tx, filter, scopes)
    const tallies = isCounted(filter)
      ? await countedByState(tx, scopes)
      : await talliedByState(tx, conditions)
    if (tallies === null) return null
    const of = (state: string): number => tallies.find(({ word }) => word === state)?.n ?? 0
    const isDue = [sql`j.state = 'waiting'`, sql`j.next_retry <= ${now}`, ...walking(conditions)]
    const due = await numberOf(tx, sql`SELECT count(*) AS n FROM ${jobs.table} ${whereOf(isDue)}`)
    return { running: of('running'), ready: of('ready'), waiting: of('waiting'), due }
  },
)

/** Whether a job waits that need not any more. */
export async function isAnyDue(db: Database, now: string): Promise<boolean> {
  const row = await first(
    db.all<{ due: number }>(
      sql`SELECT EXISTS (SELECT 1 FROM jobs WHERE state = 'waiting' AND next_retry <= ${now}) AS due`,
    ),
  )
  return row?.due === 1
}

/** Whether the counters know how many jobs a filter leaves. */
function isCounted({ name, version, component }: JobFilter): boolean {
  return [name, version, component].every((value) => value === undefined || value === null)
}

/** By the counters, whatever the length of the queue. */
function countedByState(tx: Transaction, scopes: readonly number[] | null): Promise<Tally[]> {
  const where = scopes === null ? [] : [sql`n.scope_id IN ${scopes}`]
  return tx.all<Tally>(
    sql`SELECT n.state AS word, '' AS detail, sum(n.n) AS n FROM job_counts n ${whereOf(where)} GROUP BY n.state`,
  )
}

/** One by one: those that a filter looks up, or else all, in turns. */
async function talliedByState(tx: Transaction, conditions: readonly Condition[]): Promise<Tally[] | null> {
  const found = await lookedUp(conditions)
  if (found !== null)
    return tx.all<Tally>(
      sql`SELECT j.state AS word, '' AS detail, count(*) AS n FROM ${jobs.table} ${whereOf(found)} GROUP BY j.state`,
    )
  const revision = await revisionOf(tx, ['queue', 'packages'])
  const counting = { table: jobs.table, id: 'j.id', conditions: walking(conditions), revision }
  return tallied(tx, counting, { word: 'j.state', detail: `''` })
}

/** The lease of a running job, if this worker has it. */
export async function heldLease(db: Database, jobId: number, workerId: number): Promise<number | null> {
  const row = await first(
    db.all<{ lease_id: number }>(
      sql`SELECT lease_id FROM jobs WHERE id = ${jobId} AND worker_id = ${workerId} AND state = 'running'`,
    ),
  )
  return row?.lease_id ?? null
}

/** The newest lease of a job, running or over, and the build it became. */
export async function newestLease(
  db: Database,
  jobId: number,
): Promise<{ id: number; outcome: string | null; build_id: number | null } | null> {
  return first(
    db.all<{ id: number; outcome: string | null; build_id: number | null }>(sql`
      SELECT l.id, l.outcome, (SELECT min(h.id) FROM builds h WHERE h.lease_id = l.id) AS build_id
        FROM leases l WHERE l.job_id = ${jobId} ORDER BY l.id DESC LIMIT 1`),
  )
}

type Unruled = Row & {
  id: number
  distribution: string
  release: string
  source: string
  bytes: number
}

/** Jobs that the rules have not been asked about. */
export function unruledJobs(tx: Transaction, limit: number): Promise<Unruled[]> {
  return tx.all<Unruled>(sql`
    SELECT j.id, r.distribution, r.name AS release, s.name AS source,
           (SELECT coalesce(sum(b.size), 0) FROM binary_packages b WHERE b.build_input_id = i.id AND b.seen = 1) AS bytes
      FROM jobs j JOIN build_inputs i ON i.id = j.build_input_id JOIN source_packages s ON s.id = i.source_package_id
      JOIN releases r ON r.id = s.release_id WHERE j.requires IS NULL LIMIT ${limit}`)
}

/** What the rules say of a job. A priority that somebody asked for by hand stays. */
export function ruledJob(id: number, requires: string, priority: number | null): Sql {
  const set =
    priority === null
      ? trusted('')
      : sql`, priority = CASE WHEN priority IN (1, 2) THEN ${priority} ELSE priority END`
  return sql`UPDATE jobs SET requires = ${requires}${set} WHERE id = ${id}`
}

/** Where there are no rules, no job needs anything; ids of those that were told so. */
export function unruled(limit: number): Sql {
  return sql`UPDATE jobs SET requires = '' WHERE id IN (SELECT id FROM jobs WHERE requires IS NULL LIMIT ${limit}) RETURNING id`
}

/** The switch that keeps the rules jobs were last asked by. */
export const rulesSwitch = 'schedule.rules'

/** What a new job requires: nothing where there are no rules, else NULL until they have been asked. */
export const newRequires: Sql = trusted(
  `CASE WHEN EXISTS (SELECT 1 FROM switches WHERE name = '${rulesSwitch}' AND value <> '[]') THEN NULL ELSE '' END`,
)

/** Asks the rules anew about all that waits: they may have changed. */
export const rulesForgotten: Sql = trusted(`UPDATE jobs SET requires = NULL WHERE state <> 'running'`)

export type Switch = Row & { value: string; changed_at: string }

/** The question for one switch. */
export function switchOf(name: string): Sql {
  return sql`SELECT value, changed_at FROM switches WHERE name = ${name}`
}

/** Switches whose names begin so, in the order of their names. */
export function switchesFrom(prefix: string): Sql {
  return sql`SELECT value, changed_at FROM switches WHERE name >= ${prefix} AND name < ${`${prefix}\u{10ffff}`} ORDER BY name`
}

/** null: as if it had never been touched. */
export function switched(name: string, value: string | null, now: string): Sql {
  return value === null
    ? sql`DELETE FROM switches WHERE name = ${name}`
    : sql`INSERT INTO switches (name, value, changed_at) VALUES (${name}, ${value}, ${now})
          ON CONFLICT (name) DO UPDATE SET value = excluded.value, changed_at = excluded.changed_at`
}

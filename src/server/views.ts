/** What the pages about everything show, gathered from the store: `web` turns it into HTML. */
import { isReason } from '../wire/reasons.ts'
import { momentOf, wireTime } from '../wire/schema.ts'
import { pauseSwitch } from './queue.ts'
import type { Service } from './service.ts'
import { first, type Database } from './store/database.ts'
import { switchOf, type Switch } from './store/queue.ts'
import {
  farmOf,
  heldJobs,
  jobCounts,
  latestChanges,
  packagesNamed,
  paceOf,
  scopeCounts,
  trendRows,
  turnsOf,
  type ChangeRow,
  type FoundName,
  type HeldRow,
  type ScopeCount,
  type TrendRow,
  type Turns,
} from './store/web.ts'
import { listWorkerRows, type WorkerRow } from './store/workers.ts'
import { added, emptyTally, type Day, type Tally } from './web/chart.ts'
import { verdictOf } from './web/html.ts'

const dayMilliseconds = 86_400_000
const trendDays = 90

export type ArchitectureSummary = {
  architecture: string
  tally: Tally
  importedAt: string
  trust: string | null
}
export type ReleaseSummary = {
  distribution: string
  release: string
  tally: Tally
  architectures: ArchitectureSummary[]
  days: Day[]
}

export type QueueSummary = {
  running: number
  ready: number
  waiting: number
  workers: { online: number; known: number; busy: number }
  perHour: number
  /** Seconds until what is ready is done at the present pace; null: unknown. */
  emptyIn: number | null
  paused: { since: string; note: string } | null
}

export type HomeView = {
  releases: ReleaseSummary[]
  queue: QueueSummary
  worse: ChangeRow[]
  others: ChangeRow[]
}

/** The state of everything; of one distribution when it is named. */
export async function homeView(service: Service, distribution?: string): Promise<HomeView> {
  const { db, now } = service
  const [counts, days, queue, worse, others] = await Promise.all([
    scopeCounts(db),
    trendRows(db, dayBefore(now(), trendDays)),
    queueSummary(db, now()),
    latestChanges(db, { turns: [1] }, 12),
    latestChanges(db, { turns: [2, 3] }, 12),
  ])
  const releases = releasesOf(counts, days)
  const isWanted = (row: { distribution: string }): boolean =>
    distribution === undefined || row.distribution === distribution
  return {
    releases: releases.filter(isWanted),
    queue,
    worse: worse.filter(isWanted),
    others: others.filter(isWanted),
  }
}

export function dayBefore(moment: Date, days: number): string {
  return new Date(moment.getTime() - days * dayMilliseconds).toISOString().slice(0, 10)
}

function releasesOf(counts: readonly ScopeCount[], trend: readonly TrendRow[]): ReleaseSummary[] {
  const keyOf = (row: { distribution: string; release: string }): string =>
    `${row.distribution}\n${row.release}`
  const days = Map.groupBy(trend, keyOf)
  return [...Map.groupBy(counts, keyOf)].map(([key, rows]) => {
    const architectures = [...Map.groupBy(rows, (row) => row.architecture)].map(([architecture, own]) => ({
      architecture,
      tally: tallyOf(own),
      importedAt: own[0]?.imported_at ?? '',
      trust: own[0]?.index_trust ?? null,
    }))
    return {
      distribution: rows[0]?.distribution ?? '',
      release: rows[0]?.release ?? '',
      tally: architectures.reduce((sum, each) => added(sum, each.tally), emptyTally),
      architectures,
      days: daysOf(days.get(key) ?? []),
    }
  })
}

/** Counts by verdict. */
export function tallyOf(rows: readonly { status: string | null; n: number | null }[]): Tally {
  const tally = { ...emptyTally }
  for (const { status, n } of rows) tally[verdictOf(status)] += n ?? 0
  return tally
}

function daysOf(rows: readonly TrendRow[]): Day[] {
  return [...Map.groupBy(rows, (row) => row.day)].map(([day, own]) => ({ day, tally: tallyOf(own) }))
}

export async function queueSummary(db: Database, moment: Date): Promise<QueueSummary> {
  const since = wireTime(new Date(moment.getTime() - dayMilliseconds))
  const [counts, workers, pace, pause] = await Promise.all([
    jobCounts(db),
    farmOf(db),
    paceOf(db, since),
    first(db.all<Switch>(switchOf(pauseSwitch))),
  ])
  const numberOf = (state: string): number => counts.find((row) => row.state === state)?.n ?? 0
  const [running, ready] = [numberOf('running'), numberOf('ready')]
  const perHour = perHourOf(pace, moment)
  return {
    running,
    ready,
    waiting: numberOf('waiting'),
    workers,
    perHour,
    emptyIn: perHour === 0 ? null : ((running + ready) / perHour) * 3600,
    paused: pause === null ? null : { since: pause.changed_at, note: pause.value },
  }
}

/** Builds an hour, over the time since the oldest of them; at least ten minutes, so that one build is no rush. */
function perHourOf(pace: readonly { n: number; oldest: string }[], moment: Date): number {
  const oldest = pace.map((row) => row.oldest).sort()[0]
  if (oldest === undefined) return 0
  const hours = Math.max(1 / 6, (moment.getTime() - momentOf(oldest).getTime()) / 3_600_000)
  return pace.reduce((sum, row) => sum + row.n, 0) / hours
}

export type QueueView = { summary: QueueSummary; turns: Turns }
const turnsShown = 100

export async function queueView({ db, now }: Service): Promise<QueueView> {
  const [summary, turns] = await Promise.all([queueSummary(db, now()), turnsOf(db, turnsShown)])
  return { summary, turns }
}

export type WorkerSummary = { worker: WorkerRow; jobs: HeldRow[]; done: Tally }
export type WorkersView = { workers: WorkerSummary[]; total: number }

export async function workersView({ db, now }: Service): Promise<WorkersView> {
  const since = wireTime(new Date(now().getTime() - dayMilliseconds))
  const [{ rows, total }, held, pace] = await Promise.all([
    listWorkerRows(db, { limit: 1000, sort: 'name', direction: 'Ascending' }),
    heldJobs(db),
    paceOf(db, since),
  ])
  const workers = rows.map((row) => ({
    worker: row,
    jobs: held.filter((job) => job.worker_id === row.id),
    done: tallyOf(pace.filter((each) => each.worker === row.name)),
  }))
  return { workers: workers.sort((a, b) => b.worker.online - a.worker.online), total }
}

export type ReasonSummary = {
  reason: string
  now: number
  days: number[]
  releases: { distribution: string; release: string; n: number }[]
}

/** Reasons of listed packages that are not GOOD: how many now, and day by day. */
export async function reasonsView({ db, now }: Service): Promise<ReasonSummary[]> {
  const [counts, trend] = await Promise.all([scopeCounts(db), trendRows(db, dayBefore(now(), trendDays))])
  const days = [...new Set(trend.map((row) => row.day))]
  const codes = new Set([...counts, ...trend].map((row) => row.reason ?? '').filter(isReason))
  const summaries = [...codes].map((reason) => {
    const own = counts.filter((row) => row.reason === reason)
    const byRelease = [...Map.groupBy(own, (row) => `${row.distribution}\n${row.release}`).values()]
    const sum = (rows: readonly { n: number | null }[]): number =>
      rows.reduce((all, row) => all + (row.n ?? 0), 0)
    return {
      reason,
      now: sum(own),
      days: days.map((day) => sum(trend.filter((row) => row.day === day && row.reason === reason))),
      releases: byRelease.map((rows) => ({
        distribution: rows[0]?.distribution ?? '',
        release: rows[0]?.release ?? '',
        n: sum(rows),
      })),
    }
  })
  return summaries.sort((a, b) => b.now - a.now)
}

export type SearchView = { query: string; found: FoundName[] }

export async function searchView({ db }: Service, query: string): Promise<SearchView> {
  const wanted = query.trim().slice(0, 256)
  return { query: wanted, found: wanted === '' ? [] : await packagesNamed(db, wanted, 50) }
}

/** What the pages about everything show, gathered from the store: `web` turns it into HTML. */
import { turnWords } from '../wire/history.ts'
import { isReason } from '../wire/reasons.ts'
import { momentOf, wireTime } from '../wire/schema.ts'
import { pauseSwitch } from './queue.ts'
import { notFound } from './refusal.ts'
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
  sourceTallies,
  releaseIdsOf,
  turnsOf,
  type ChangeRow,
  type FoundName,
  type HeldRow,
  type Turns,
} from './store/web.ts'
import { listWorkerRows, type WorkerRow } from './store/workers.ts'
import { reasonsOf, tallyOf, trendDays, type TrendDay } from './trends.ts'
import { added, emptyTally, type Tally } from './web/chart.ts'
import { originWords } from './web/changes.ts'

type ArchitectureSummary = {
  architecture: string
  tally: Tally
  importedAt: string
  trust: string | null
}
export type ReleaseSummary = {
  distribution: string
  release: string
  /** Listed build inputs. */
  tally: Tally
  /** Listed source packages. */
  sources: Tally
  architectures: ArchitectureSummary[]
  /** Listed build inputs by reason. */
  reasons: Record<string, number>
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
  releases: (ReleaseSummary & { days: readonly TrendDay[] })[]
  queue: QueueSummary
  worse: ChangeRow[]
  others: ChangeRow[]
}

/** Changes of each kind that an overview shows. */
const changesShown = 12

/** The state of everything; of one distribution when it is named. */
export async function homeView({ db, now, trends }: Service, distribution?: string): Promise<HomeView> {
  const releaseIds = await releaseIdsOf(db, distribution, undefined)
  const [states, went, queue, worse, others] = await Promise.all([
    releaseStates(db),
    trends(now(), trendDays),
    queueSummary(db, now()),
    latestChanges(db, { turns: [1], releaseIds }, changesShown),
    latestChanges(db, { turns: [2, 3], releaseIds }, changesShown),
  ])
  const daysOf = new Map(went.map((each) => [keyOf(each), each.days]))
  const releases = states
    .filter((row) => distribution === undefined || row.distribution === distribution)
    .map((row) => ({ ...row, days: daysOf.get(keyOf(row)) ?? [] }))
  return { releases, queue, worse, others }
}

type OfRelease = { distribution: string; release: string }

function keyOf({ distribution, release }: OfRelease): string {
  return `${distribution}\n${release}`
}

/** What every release has by verdict, over all and by architecture. */
export async function releaseStates(db: Database): Promise<ReleaseSummary[]> {
  const [counts, sources] = await Promise.all([scopeCounts(db), sourceTallies(db)])
  const sourcesOf = Map.groupBy(sources, keyOf)
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
      sources: tallyOf(sourcesOf.get(key) ?? []),
      architectures,
      reasons: reasonsOf(rows),
    }
  })
}

/** The queue in numbers, with its pace. */
export async function queueSummary(db: Database, moment: Date): Promise<QueueSummary> {
  const since = aDayBefore(moment)
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

function aDayBefore(moment: Date): string {
  return wireTime(new Date(moment.getTime() - 86_400_000))
}

/** What each worker rebuilt in the last 24 hours, by its name. */
export async function workersDone(
  db: Database,
  moment: Date,
): Promise<{ worker: string | null; tally: Tally }[]> {
  const pace = await paceOf(db, aDayBefore(moment))
  return [...Map.groupBy(pace, (row) => row.worker)].map(([worker, own]) => ({ worker, tally: tallyOf(own) }))
}

export type ChangesQuery = {
  turn: (typeof turnWords)[number] | undefined
  /** `debian sid`: one release. */
  of: string | undefined
  maintainer: string | undefined
  /** Only changes before the one with this id. */
  before: number | undefined
}
export type ChangesView = {
  query: ChangesQuery
  /** The release that was asked for; null: all. */
  origin: OfRelease | null
  changes: ChangeRow[]
  hasMore: boolean
  releases: OfRelease[]
}

/** Changes of a page that shows nothing else. */
const changesOfPage = 100

/** Changes of verdicts, newest first. */
export async function changesView({ db }: Service, query: ChangesQuery): Promise<ChangesView> {
  const releases = (await releaseStates(db)).map(({ distribution, release }) => ({ distribution, release }))
  const origin = releases.find((each) => originWords(each.distribution, each.release) === query.of) ?? null
  if (query.of !== undefined && origin === null) throw notFound()
  const releaseIds = await releaseIdsOf(db, origin?.distribution, origin?.release)
  const { turn, maintainer, before } = query
  const turns = turn === undefined ? [1, 2, 3] : [turnWords.indexOf(turn) + 1]
  const rows = await latestChanges(db, { turns, releaseIds, maintainer, before }, changesOfPage + 1)
  return {
    query,
    origin,
    changes: rows.slice(0, changesOfPage),
    hasMore: rows.length > changesOfPage,
    releases,
  }
}

export type QueueView = { summary: QueueSummary; turns: Turns }
const turnsShown = 100

/** What the page of the queue shows. */
export async function queueView({ db, now }: Service): Promise<QueueView> {
  const [summary, turns] = await Promise.all([queueSummary(db, now()), turnsOf(db, turnsShown)])
  return { summary, turns }
}

type WorkerSummary = { worker: WorkerRow; jobs: HeldRow[]; done: Tally }
export type WorkersView = { workers: WorkerSummary[]; total: number }

/** What the page of the workers shows. */
export async function workersView({ db, now }: Service): Promise<WorkersView> {
  const [{ rows, total }, held, done] = await Promise.all([
    listWorkerRows(db, { limit: 1000, sort: 'name', direction: 'Ascending' }),
    heldJobs(db),
    workersDone(db, now()),
  ])
  const jobsOf = Map.groupBy(held, (job) => job.worker_id)
  const doneBy = new Map(done.map(({ worker, tally }) => [worker, tally]))
  const workers = rows.map((row) => ({
    worker: row,
    jobs: jobsOf.get(row.id) ?? [],
    done: doneBy.get(row.name) ?? emptyTally,
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
export async function reasonsView({ db, now, trends }: Service): Promise<ReasonSummary[]> {
  const [states, went] = await Promise.all([releaseStates(db), trends(now(), trendDays)])
  const days = Map.groupBy(
    went.flatMap((each) => each.days),
    (each) => each.day,
  )
  const inOrder = [...days].sort(([a], [b]) => (a < b ? -1 : 1)).map(([, own]) => own)
  const codes = new Set([...states, ...inOrder.flat()].flatMap((each) => Object.keys(each.reasons)))
  const summaries = [...codes].filter(isReason).map((reason) => {
    const sum = (rows: readonly { reasons: Readonly<Record<string, number>> }[]): number =>
      rows.reduce((all, row) => all + (row.reasons[reason] ?? 0), 0)
    const releases = states
      .map(({ distribution, release, reasons }) => ({ distribution, release, n: reasons[reason] ?? 0 }))
      .filter(({ n }) => n > 0)
    return { reason, now: sum(states), days: inOrder.map(sum), releases }
  })
  return summaries.sort((a, b) => b.now - a.now)
}

export type SearchView = { query: string; found: FoundName[] }

/** What a search finds, for its page. */
export async function searchView({ db }: Service, query: string): Promise<SearchView> {
  const wanted = query.trim().slice(0, 256)
  return { query: wanted, found: wanted === '' ? [] : await packagesNamed(db, wanted, 50) }
}

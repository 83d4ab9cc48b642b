/** What the pages show of releases, changes and the queue, for programs: the same views in the shapes of the wire. */
import type { BuildStatus } from '../wire/common.ts'
import {
  getPace,
  listChanges,
  listReleaseStates,
  listTrends,
  turnWords,
  type Change,
  type ReleaseState,
  type Trend,
  type VerdictCounts,
} from '../wire/history.ts'
import type { IndexTrust } from '../wire/packages.ts'
import { isReason } from '../wire/reasons.ts'
import type { Mount } from './route.ts'
import { revisionOf } from './revision.ts'
import type { Service } from './service.ts'
import { latestChanges, releaseIdsOf, type ChangeRow } from './store/web.ts'
import { trendDays, type ReleaseTrend } from './trends.ts'
import { queueSummary, releaseStates, workersDone, type ReleaseSummary } from './views.ts'
import type { Tally } from './web/chart.ts'

type Asked = { distribution?: string | undefined; release?: string | undefined }

/** Mounts what changed: verdicts, trends, events. */
export function mountHistory(mount: Mount, service: Service): void {
  const { db, now, trends } = service
  const packages = revisionOf(service, 'packages')
  mount(
    listReleaseStates,
    async ({ query }) => (await releaseStates(db)).filter((each) => isAsked(query, each)).map(stateOf),
    revisionOf(service, 'packages', 'scopes'), // which tell when they were imported
  )
  mount(
    listTrends,
    async ({ query }) => {
      const all = await trends(now(), query.days ?? trendDays)
      return all.filter((each) => isAsked(query, each)).map(trendOf)
    },
    revisionOf(service, 'snapshots'),
  )
  mount(
    listChanges,
    async ({ query }) => {
      const { name, maintainer, before, limit, turn } = query
      const releaseIds = await releaseIdsOf(db, query.distribution, query.release)
      const turns = turn === undefined ? [1, 2, 3] : [turnWords.indexOf(turn) + 1]
      const rows = await latestChanges(db, { turns, releaseIds, name, maintainer, before }, limit ?? 100)
      return rows.map(changeOf)
    },
    packages,
  )
  mount(getPace, async () => {
    const moment = now()
    const [queue, done] = await Promise.all([queueSummary(db, moment), workersDone(db, moment)])
    const { running, ready, waiting, workers, perHour, emptyIn, paused } = queue
    return {
      running,
      ready,
      waiting,
      per_hour: Math.round(perHour * 100) / 100,
      empty_in_seconds: emptyIn === null ? null : Math.round(emptyIn),
      paused: paused !== null,
      workers,
      done: done.map(({ worker, tally }) => ({ worker, ...countsOf(tally) })),
    }
  })
}

function isAsked({ distribution, release }: Asked, row: { distribution: string; release: string }): boolean {
  return (
    (distribution === undefined || row.distribution === distribution) &&
    (release === undefined || row.release === release)
  )
}

function countsOf({ GOOD, BAD, FAIL, UNKWN }: Tally): VerdictCounts {
  return { good: GOOD, bad: BAD, fail: FAIL, unknown: UNKWN }
}

function orNull(text: string): string | null {
  return text === '' ? null : text
}

function stateOf(summary: ReleaseSummary): ReleaseState {
  const { distribution, release, tally, sources, architectures, reasons } = summary
  return {
    distribution,
    release: orNull(release),
    ...countsOf(tally),
    sources: countsOf(sources),
    architectures: architectures.map((each) => ({
      architecture: each.architecture,
      imported_at: each.importedAt,
      index: each.trust as IndexTrust, // we wrote it
      ...countsOf(each.tally),
    })),
    reasons,
  }
}

function trendOf({ distribution, release, days }: ReleaseTrend): Trend {
  return {
    distribution,
    release: orNull(release),
    days: days.map(({ day, tally, reasons }) => ({ day, ...countsOf(tally), reasons })),
  }
}

function changeOf(row: ChangeRow): Change {
  return {
    id: row.id,
    at: row.at,
    build_id: row.build_id,
    distribution: row.distribution,
    release: orNull(row.release),
    name: row.name,
    version: row.version,
    architecture: row.architecture,
    maintainer: row.maintainer,
    status: row.status as BuildStatus, // we wrote it
    reason: row.reason !== null && isReason(row.reason) ? row.reason : null,
    before: row.before as BuildStatus | null, // we wrote it
    before_version: row.before_version,
    turn: turnWords[row.turn - 1] ?? 'other',
  }
}

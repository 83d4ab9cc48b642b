import type { Database } from './store/database.ts'
import { generationsOf } from './store/generations.ts'
import { trendRows, type TrendRow } from './store/web.ts'
import { emptyTally, type Tally } from './web/chart.ts'
import { verdictOf } from './web/html.ts'

/** Days that pages draw. */
export const trendDays = 90

/** The numbers of one day. */
export type TrendDay = { day: string; tally: Tally; reasons: Record<string, number> }
export type ReleaseTrend = { distribution: string; release: string; days: TrendDay[] }

/** How each release went over the last days, oldest first. */
export type TrendKeeper = (moment: Date, days: number) => Promise<readonly ReleaseTrend[]>

/**
 * Reads trends, and keeps the days that pages draw until another snapshot is taken: pages and API ask the same
 * keeper. Fewer days are cut from those; more are read each time.
 */
export function trendKeeper(db: Database): TrendKeeper {
  let kept: { key: string; trends: Promise<readonly ReleaseTrend[]> } | null = null
  return async (moment, days) => {
    const since = dayBefore(moment, days)
    if (days > trendDays) return trendsOf(await trendRows(db, since))
    const [snapshots] = await generationsOf(db, ['snapshots'])
    const first = dayBefore(moment, trendDays)
    const key = `${first} ${snapshots?.value ?? 0}`
    if (kept?.key !== key) {
      kept = { key, trends: trendRows(db, first).then(trendsOf) }
      const reading = kept
      kept.trends.catch(() => (kept = kept === reading ? null : kept))
    }
    const trends = await kept.trends
    return days === trendDays ? trends : trends.map((each) => cutTo(each, since)).filter(hasDays)
  }
}

function cutTo(trend: ReleaseTrend, since: string): ReleaseTrend {
  return { ...trend, days: trend.days.filter(({ day }) => day >= since) }
}

function hasDays({ days }: ReleaseTrend): boolean {
  return days.length > 0
}

function dayBefore(moment: Date, days: number): string {
  return new Date(moment.getTime() - days * 86_400_000).toISOString().slice(0, 10)
}

function trendsOf(rows: readonly TrendRow[]): ReleaseTrend[] {
  return [...Map.groupBy(rows, (row) => `${row.distribution}\n${row.release}`).values()].map((own) => ({
    distribution: own[0]?.distribution ?? '',
    release: own[0]?.release ?? '',
    days: [...Map.groupBy(own, (row) => row.day)].map(([day, ofDay]) => ({
      day,
      tally: tallyOf(ofDay),
      reasons: reasonsOf(ofDay),
    })),
  }))
}

type Counted = { status: string | null; reason: string | null; n: number | null }

/** Counts by verdict. */
export function tallyOf(rows: readonly Pick<Counted, 'status' | 'n'>[]): Tally {
  const tally = { ...emptyTally }
  for (const { status, n } of rows) tally[verdictOf(status)] += n ?? 0
  return tally
}

/** Counts by reason. */
export function reasonsOf(rows: readonly Counted[]): Record<string, number> {
  const reasons: Record<string, number> = {}
  for (const { reason, n } of rows)
    if (reason !== null && reason !== '') reasons[reason] = (reasons[reason] ?? 0) + (n ?? 0)
  return reasons
}

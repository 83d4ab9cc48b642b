import type { BuildStatus } from '../wire/common.ts'
import type { Outlook } from '../wire/queue.ts'
import { isReason } from '../wire/reasons.ts'
import { pauseSwitch, queuedJob, type Schedule } from './queue.ts'
import { first, type Database } from './store/database.ts'
import { jobsAhead, onlineTags, outlookRows, type OutlookRow } from './store/outlook.ts'
import { getJobRow, switchOf, type JobFilter, type Switch } from './store/queue.ts'

/**
 * What becomes of the build inputs that match, newest first: their verdict, their job, its turn.
 * @param filter origin, name and version of source packages
 */
export async function outlooks(db: Database, schedule: Schedule, filter: JobFilter): Promise<Outlook[]> {
  const rows = await outlookRows(db, filter)
  const pause = await first(db.all<Switch>(switchOf(pauseSwitch)))
  const tags = await onlineTags(db)
  const all: Outlook[] = []
  for (const row of rows) all.push(await outlook(db, schedule, row, { isPaused: pause !== null, tags }))
  return all
}

type Farm = { isPaused: boolean; tags: readonly string[] }

async function outlook(db: Database, schedule: Schedule, row: OutlookRow, farm: Farm): Promise<Outlook> {
  const job = row.job_id === null ? null : await getJobRow(db, row.job_id)
  const requires = row.requires === null || row.requires === '' ? [] : row.requires.split(',')
  const able = farm.tags.filter((tags) => requires.every((tag) => tags.split(',').includes(tag)))
  return {
    name: row.name,
    version: row.version,
    distribution: row.distribution,
    release: row.release === '' ? null : row.release,
    architecture: row.architecture,
    maintainer: row.maintainer,
    url: row.url,
    status: row.status as BuildStatus | null, // we wrote it
    reason: row.reason !== null && isReason(row.reason) ? row.reason : null,
    decided_at: row.decided_at,
    seen_in_last_sync: row.seen === 1,
    index: row.index_trust,
    retries: row.retries,
    infrastructure_retries: row.infrastructure_retries,
    max_retries: schedule.maxRetries,
    job: job === null ? null : queuedJob(job),
    ahead: row.state === 'ready' && row.job_id !== null ? await jobsAhead(db, row.job_id) : null,
    requires,
    able_workers: able.length,
    paused: farm.isPaused,
  }
}

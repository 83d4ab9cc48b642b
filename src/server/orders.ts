import { wireTime } from '../wire/schema.ts'
import { happened } from './store/events.ts'
import { touched } from './store/imports.ts'
import { deleteJobs, queueMatching, type Selection } from './store/queue.ts'
import { work } from './store/work.ts'

/** A rebuild that is asked for is due since so many milliseconds, so that it comes before what is due now. */
const ahead = 60_000

/** Queues what matches, due at once, as an administrator wants it; how many inputs matched. */
export const rebuildsOrdered = work(
  'orders.rebuild',
  async (
    tx,
    { selection, priority, moment }: { selection: Selection; priority: number; moment: Date },
  ): Promise<number> => {
    const now = wireTime(moment)
    const due = wireTime(new Date(moment.getTime() - ahead))
    const count = await queueMatching(tx, selection, priority, { now, due })
    await tx.batch([
      touched(now, 'queue'),
      happened({ kind: 'queue', data: { change: 'added', count } }, now),
    ])
    return count
  },
)

/** Drops one job, or all that match; how many there were. */
export const jobsDropped = work(
  'orders.drop',
  async (
    tx,
    { which, moment }: { which: Parameters<typeof deleteJobs>[1]; moment: Date },
  ): Promise<number> => {
    const now = wireTime(moment)
    const count = await deleteJobs(tx, which, now)
    const event = happened({ kind: 'queue', data: { change: 'dropped', count } }, now)
    if (count > 0) await tx.batch([touched(now, 'queue', 'workers'), event])
    return count
  },
)

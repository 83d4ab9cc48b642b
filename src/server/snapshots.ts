import { wireTime } from '../wire/schema.ts'
import type { Database } from './store/database.ts'
import { touched } from './store/imports.ts'
import { generationsOf } from './store/generations.ts'
import { written } from './store/work.ts'
import { forgottenChanges, snapshotTaken } from './store/web.ts'

/** Milliseconds between two looks at the numbers of a day that still change. */
const pause = 5 * 60_000

/**
 * Keeps what trends are drawn from: the numbers of the present day, written down every few minutes if anything
 * changed, so that the last ones of a day stay as that day's.
 * @returns a function to call often
 */
export function pageTender(db: Database, now: () => Date): () => Promise<void> {
  let [takenAt, takenDay, takenValue] = [0, '', -1]
  return async () => {
    const moment = now()
    const day = moment.toISOString().slice(0, 10)
    if (day === takenDay && moment.getTime() - takenAt < pause) return
    const [packages] = await generationsOf(db, ['packages'])
    const value = packages?.value ?? 0
    takenAt = moment.getTime()
    if (day === takenDay && value === takenValue) return
    await written(db, [...snapshotTaken(day), forgottenChanges(), touched(wireTime(moment), 'snapshots')])
    ;[takenDay, takenValue] = [day, value]
  }
}

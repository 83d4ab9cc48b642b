import { Complaint } from '../errors.ts'
import type { Log } from '../log.ts'
import type { Mirror } from './mirror.ts'
import type { Profile } from './profile.ts'

/** An index, and when it was made. */
type Dated = {
  /** Tells it from others of the same archive. */
  key: string
  /** Names it in complaints: `the archive's Release`. */
  what: string
  /** As people read it; a date that `Date.parse` knows. */
  date: string
  isSigned: boolean
}

/**
 * Compares an index with the newest one that was taken from this archive: an old one, shown again with its good
 * signature, is how a mirror hides an update. One that nobody vouches for may be anything, so that is only told.
 * @throws Complaint where a signed one is older, unless the profile allows that
 */
export async function checkNotOlder(
  mirror: Mirror,
  { key, what, date, isSigned }: Dated,
  { profile, log }: { profile: Profile; log: Log },
): Promise<void> {
  const moment = momentOf(date)
  if (Number.isNaN(moment)) throw new Complaint(`${what} has a date that is none: ${date.slice(0, 80)}`)
  const seen = await mirror.recall(key)
  if (seen !== null && moment < momentOf(seen) && profile.allow_older !== true) {
    const problem = `${what} of ${date} is older than the one of ${seen} that we have seen`
    if (isSigned) throw new Complaint(problem, { hint: olderHint })
    return log.warning(`sync: ${problem}; it is taken on trust`)
  }
  await mirror.remember(key, date)
}

const olderHint =
  'the mirror is behind, or hides an update; --force (allow_older = true) goes back to what it has now'

/** Milliseconds since 1970, or NaN. Dates of Debian end in UTC, which is no name of a zone for everybody. */
export function momentOf(date: string): number {
  return Date.parse(date.replace(/ UTC$/, ' GMT'))
}

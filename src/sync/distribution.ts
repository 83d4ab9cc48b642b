import { chainOf, Complaint, complaintOf, sentenceOf } from '../errors.ts'
import type { Log } from '../log.ts'
import type { ReportToSend } from '../wire/packages.ts'
import type { Gathering, PackageList } from './gathering.ts'
import type { Mirror } from './mirror.ts'
import type { Profile } from './profile.ts'
import type { Sorting } from './sorting.ts'

/** What a distribution needs to read its indexes. */
export type SyncContext = {
  log: Log
  signal: AbortSignal
  now: () => Date
  /** Opens an archive; it is closed when the sync is over. */
  mirrorOf: (addresses: readonly string[]) => Mirror
  /** Open what need not be in memory; it is closed when the sync is over. */
  gathering: () => Gathering
  sorting: () => Sorting
  packageList: () => PackageList
}

/** One distribution's way of telling what it ships. */
export type Distribution = {
  name: string
  doc: string
  /**
   * One report per release and architecture. Yields all that is sound, then throws a Complaint that lists what
   * could not be read, so that a mirror which fails costs no queue. Their packages can be gone through until then.
   */
  reports: (profile: Profile, context: SyncContext) => AsyncGenerator<ReportToSend>
}

/** Name and address of each release a profile lists. */
export function releasesOf(profile: Profile): { name: string; source: string; mirrors: readonly string[] }[] {
  return profile.releases.map((release) =>
    typeof release === 'string'
      ? { name: release, source: profile.source, mirrors: profile.mirrors }
      : { ...release, mirrors: [] },
  )
}

/** @throws Complaint where a list is empty without which nothing, or an empty report, would be sent */
export function requireLists(
  profile: Profile,
  ...keys: ('components' | 'releases' | 'architectures')[]
): void {
  for (const key of keys) {
    if (profile[key].length > 0) continue
    throw new Complaint(`the profile names no ${key}`, {
      hint: `add ${key} = [ … ], or --${key.slice(0, -1)}`,
      exitCode: 2,
    })
  }
}

/** A scope that could not be read: `debian trixie amd64`, and what was wrong. */
export type Failure = { scope: string; trouble: Error }

/**
 * What kept us from reading a scope.
 * @throws the error itself where it is a bug of ours, or the sync was given up
 */
export function troubleOf(error: unknown, signal: AbortSignal): Error {
  signal.throwIfAborted()
  const isOutside = chainOf(error).some((link) => link instanceof Complaint || 'code' in link)
  if (!isOutside || !(error instanceof Error)) throw error
  return error
}

/** @throws Complaint that lists the failures, where there are any; its hint is the first of theirs */
export function complainAbout(failures: readonly Failure[]): void {
  if (failures.length === 0) return
  const lines = failures.map(({ scope, trouble }) => `${scope} (${sentenceOf(trouble)})`)
  const hint = failures.map(({ trouble }) => complaintOf(trouble)?.hint).find((one) => one !== undefined)
  throw new Complaint(`not synced, and left as it was: ${lines.join('; ')}`, { hint })
}

/** One report to read, and what it is called where that fails. */
type ReportToRead = { scope: string; read: () => Promise<ReportToSend> }

/**
 * Reads reports one after the other; one that cannot be read does not keep the others back.
 * @throws Complaint at the end that lists those that failed
 */
export async function* eachReport(
  reports: Iterable<ReportToRead>,
  signal: AbortSignal,
): AsyncGenerator<ReportToSend> {
  const failures: Failure[] = []
  for (const { scope, read } of reports) {
    try {
      yield await read()
    } catch (error) {
      failures.push({ scope, trouble: troubleOf(error, signal) })
    }
  }
  complainAbout(failures)
}

/** The architectures of a profile, each once, in the order of their names. */
export function architecturesOf(profile: Profile): string[] {
  return [...new Set(profile.architectures)].sort()
}

/**
 * What proves an index by the profile's keyrings; null where it is taken on trust.
 * @param prove throws a Complaint where it is not
 * @throws Complaint where it is not, and the profile does not take it on trust
 */
export async function requireTrust<Proof>(
  profile: Profile,
  origin: string,
  log: Log,
  prove: (keyrings: readonly string[]) => Promise<Proof>,
): Promise<Proof | null> {
  try {
    if (profile.keyrings === undefined || profile.keyrings.length === 0) {
      throw new Complaint('the profile names no keyrings')
    }
    return await prove(profile.keyrings)
  } catch (error) {
    if (complaintOf(error) === undefined) throw error
    if (profile.allow_unsigned !== true) {
      throw unproven(origin, error)
    }
    log.debug(`sync: ${origin} is taken on trust: ${sentenceOf(error)}`)
    return null
  }
}

const trustHint =
  'allow_unsigned = true (--allow-unsigned) takes it on trust, and every verdict from it says so'

/** The complaint about an index that nobody vouches for. */
export function unproven(origin: string, error: unknown): Complaint {
  const hints = [complaintOf(error)?.hint, trustHint].filter((hint) => hint !== undefined)
  return new Complaint(`${origin} is not proven: ${sentenceOf(error)}`, { hint: hints.join('; ') })
}

import { rm } from 'node:fs/promises'
import { explain } from '../errors.ts'
import { oneAtATime } from './turns.ts'
import { sweepBlobs } from './maintenance.ts'
import { forgetLogs } from './retention.ts'
import type { Service } from './service.ts'

/** Milliseconds between two rounds, and before the first one: servers that are started anew every day get theirs, too. */
const day = 86_400_000
const firstRest = 10 * 60_000

type Housekeeping = {
  /** Runs work that needs every kept file to stay: nothing is removed meanwhile. */
  holdingStill: <T>(work: () => Promise<T>) => Promise<T>
  /** One round: old logs are forgotten, files that nobody names are removed. */
  round: () => Promise<void>
  stop: () => Promise<void>
}

/** Where copies of the database lie while a backup is under way, below the data folder. */
export const copiesFolder = 'copying'

/**
 * Removes once a day what is kept no longer.
 * @param folders the blobs, and what a backup that was cut off may have left
 * @param logsPerPackage attempts per build input that keep their logs; 0: all
 */
export function openHousekeeping(
  { db, log, now }: Pick<Service, 'db' | 'log' | 'now'>,
  folders: { blobs: string; copies: string },
  logsPerPackage: number,
): Housekeeping {
  const stopping = new AbortController()
  const inTurn = oneAtATime()
  const work = async (): Promise<void> => {
    const moment = now()
    const forgotten = await forgetLogs(db, logsPerPackage, moment, stopping.signal)
    const { rows, files } = await sweepBlobs(db, folders.blobs, moment, stopping.signal)
    if (forgotten > 0) log.info(`${forgotten} old builds gave up their logs and diffs (retention)`)
    if (rows + files > 0) log.info(`${files} files removed that nothing names any more`)
  }
  const round = (): Promise<void> => inTurn(work)
  let timer: NodeJS.Timeout
  const goRound = (): void => {
    timer = setTimeout(goRound, day)
    round().catch((error: unknown) => log.error(`removing what is kept no longer: ${explain(error)}`))
  }
  timer = setTimeout(goRound, firstRest)
  void inTurn(() => rm(folders.copies, { recursive: true, force: true }))
  return {
    holdingStill: inTurn,
    round,
    async stop() {
      stopping.abort()
      clearTimeout(timer)
      await inTurn(async () => undefined)
    },
  }
}

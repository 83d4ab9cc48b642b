import { setTimeout as sleep } from 'node:timers/promises'
import { ServerSaid } from '../client.ts'
import { Complaint, sentenceOf } from '../errors.ts'
import type { Log } from '../log.ts'

/** The server says that a job is no longer ours. */
export class LostJob extends Complaint {}

/**
 * Does some work while telling the server every now and then that we still do.
 * The pings end with the work, whichever way it ends; the work ends when the server says that the job is lost.
 * @throws LostJob, or what the work throws
 */
export async function holding<T>(
  ping: (signal: AbortSignal) => Promise<void>,
  work: (signal: AbortSignal) => Promise<T>,
  { everyMilliseconds, signal, log }: { everyMilliseconds: number; signal: AbortSignal; log: Log },
): Promise<T> {
  const over = new AbortController()
  const lost = new AbortController()
  const pings = pingUntil(over.signal, everyMilliseconds, ping, lost, log)
  try {
    return await work(AbortSignal.any([signal, lost.signal]))
  } finally {
    over.abort()
    await pings
  }
}

async function pingUntil(
  over: AbortSignal,
  everyMilliseconds: number,
  ping: (signal: AbortSignal) => Promise<void>,
  lost: AbortController,
  log: Log,
): Promise<void> {
  while (!over.aborted && !lost.signal.aborted) {
    await sleep(everyMilliseconds, undefined, { signal: over }).catch(() => undefined)
    if (over.aborted) return
    try {
      await ping(AbortSignal.any([over, AbortSignal.timeout(Math.max(everyMilliseconds, 30_000))]))
    } catch (error) {
      if (over.aborted) return
      if (error instanceof ServerSaid && error.status === 404)
        lost.abort(new LostJob('the job is no longer ours'))
      else log.warning(`worker: a ping failed, the work goes on: ${sentenceOf(error)}`)
    }
  }
}

import { setTimeout as sleep } from 'node:timers/promises'

/** The next moment in which a worker has nothing else to do, because a build runs or there is none to be had. */
export type Calm = {
  /** Resolves at the next such moment, and after a while in any case. */
  expect: () => Promise<void>
  /** It has come. */
  come: () => void
}

/** What waits is not to wait for slow downloads. */
const mostMilliseconds = 100

/** For those who take one job after the other. */
export function openCalm(): Calm {
  let come = (): void => undefined
  return {
    async expect() {
      const over = new AbortController()
      come = () => over.abort()
      await sleep(mostMilliseconds, undefined, { signal: over.signal }).catch(() => undefined)
    },
    come: () => come(),
  }
}

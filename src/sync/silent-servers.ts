import { Unreachable } from './download.ts'

/** What came of asking servers during one sync: one that is silent would cost its time again with each file. */
export type SilentServers = {
  isSilent: (url: string) => boolean
  /**
   * Runs a download that may try `mostTries` times; of a server that was silent before, once and not for ever.
   * @throws Unreachable at once where too much time was lost with that server
   */
  asking: <T>(url: string, download: (mostTries: number | undefined) => Promise<T>) => Promise<T>
}

/** Milliseconds that may be lost in all with a server that was silent once. */
const mostLostMs = 60_000

/** For one sync; `now` is a clock in milliseconds. */
export function silentServers(now: () => number = () => performance.now()): SilentServers {
  const servers = new Map<string, { lostMs: number; last: Unreachable }>()
  return {
    isSilent: (url) => servers.has(new URL(url).origin),
    async asking(url, download) {
      const { origin } = new URL(url)
      const before = servers.get(origin)
      if (before !== undefined && before.lostMs >= mostLostMs)
        throw new Unreachable(`${url} is not asked for any more: ${before.last.message}`)
      const begin = now()
      try {
        const found = await download(before === undefined ? undefined : 1)
        servers.delete(origin)
        return found
      } catch (error) {
        if (!(error instanceof Unreachable)) throw error
        const lostMs = before === undefined ? 0 : before.lostMs + now() - begin
        servers.set(origin, { lostMs, last: before?.last ?? error })
        throw error
      }
    },
  }
}

import { setTimeout as sleep } from 'node:timers/promises'
import { statusOf } from '../request.ts'
import { appendLog } from '../wire/queue.ts'

/** Sends the log of a running job while it grows, so that it can be watched. */
type LiveLog = {
  add: (chunk: Uint8Array) => void
  /** Ends it; what was not sent yet comes with the report. */
  stop: () => Promise<void>
}

const pieceBytes = 1024 * 1024
/** What may wait to be sent; beyond it watchers have to wait for the report. */
const mostWaiting = 8 * 1024 * 1024

/**
 * @param base address of the server
 * @param headers which worker we are
 * @param everyMilliseconds pause between pieces
 */
export function openLiveLog(
  { base, headers, jobId }: { base: string; headers: () => Record<string, string>; jobId: number },
  everyMilliseconds = 500,
): LiveLog {
  const over = new AbortController()
  let waiting: Uint8Array[] = []
  let bytes = 0

  const switchOff = (): void => {
    over.abort()
    waiting = []
  }
  const add = (chunk: Uint8Array): void => {
    if (over.signal.aborted) return
    waiting.push(chunk)
    bytes += chunk.length
    if (bytes > mostWaiting) switchOff()
  }
  const run = async (): Promise<void> => {
    let offset = 0
    while (!over.signal.aborted) {
      await sleep(everyMilliseconds, undefined, { signal: over.signal })
      const piece = Buffer.concat(waiting).subarray(0, pieceBytes)
      if (piece.length === 0) continue
      const status = await post({ base, headers: headers(), jobId, offset, piece, signal: over.signal })
      if (status === 'off') return switchOff()
      if (status === 'later') continue
      offset += piece.length
      bytes -= piece.length
      waiting = [Buffer.concat(waiting).subarray(piece.length)]
    }
  }
  const running = run().catch(switchOff)
  return {
    add,
    stop: async () => {
      over.abort()
      await running
    },
  }
}

type Piece = {
  base: string
  headers: Record<string, string>
  jobId: number
  offset: number
  piece: Uint8Array
  signal: AbortSignal
}

/** A server that does not know the job, or knows nothing of live logs, is not asked again. */
async function post({
  base,
  headers,
  jobId,
  offset,
  piece,
  signal,
}: Piece): Promise<'sent' | 'later' | 'off'> {
  const path = appendLog.path.replace('{id}', String(jobId))
  try {
    const status = await statusOf(new URL(`${base}${path}?offset=${offset}`), {
      method: appendLog.method,
      headers: { ...headers, 'content-type': 'application/octet-stream' },
      body: piece,
      signal: AbortSignal.any([signal, AbortSignal.timeout(30_000)]),
    })
    if (status >= 200 && status < 300) return 'sent'
    return status >= 500 && status !== 501 ? 'later' : 'off'
  } catch (error) {
    if (signal.aborted) throw error
    return 'later'
  }
}

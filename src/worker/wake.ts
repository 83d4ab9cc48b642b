import { setTimeout as sleep } from 'node:timers/promises'
import * as v from 'valibot'
import { sentenceOf } from '../errors.ts'
import { eventsIn } from '../event-stream.ts'
import type { Log } from '../log.ts'
import { QueueEvent, watchEvents } from '../wire/gates.ts'

/** Resolves when the server has told of new work since the last time, or once the signal is aborted. */
export type Wake = (signal: AbortSignal) => Promise<void>

/** After so many milliseconds a server that knows no events is asked again: it may have become a newer one. */
const againMilliseconds = 3_600_000
/**
 * Workers that are woken together spread their questions over so many milliseconds, a few of them at once: one of
 * these has the job then, and does not wait with hundreds for the answer.
 */
const spreadMilliseconds = 600

/**
 * Listens to the events of a server until the signal is aborted.
 * @param base address of the server
 */
export function openWake(base: string, log: Log, signal: AbortSignal): Wake {
  let hasRung = false
  let ring = (): void => undefined
  const onWork = (): void => {
    hasRung = true
    ring()
  }
  void listen(base, onWork, log, signal) // ends with the signal and never throws
  return async (waiting) => {
    if (!hasRung && !waiting.aborted) {
      await new Promise<void>((resolve) => {
        ring = resolve
        waiting.addEventListener('abort', () => resolve(), { once: true })
      })
    }
    hasRung = false
    await pause(Math.random() ** 2 * spreadMilliseconds, waiting)
  }
}

async function pause(milliseconds: number, signal: AbortSignal): Promise<void> {
  await sleep(milliseconds, undefined, { signal }).catch(() => undefined)
}

async function listen(base: string, onWork: () => void, log: Log, signal: AbortSignal): Promise<void> {
  for (let failures = 0; !signal.aborted; failures++) {
    try {
      const isKnown = await listenOnce(base, onWork, signal, () => (failures = 0))
      if (!isKnown) await pause(againMilliseconds, signal)
    } catch (error) {
      if (!signal.aborted) log.debug(`worker: no events from the server: ${sentenceOf(error)}`)
    }
    await pause(Math.min(60_000, 1000 * 2 ** Math.min(failures, 6)) * (0.5 + Math.random() / 2), signal)
  }
}

/** @returns false when the server knows nothing of events */
async function listenOnce(
  base: string,
  onWork: () => void,
  signal: AbortSignal,
  onOpen: () => void,
): Promise<boolean> {
  const over = new AbortController()
  const either = AbortSignal.any([signal, over.signal])
  try {
    const headers = { accept: 'text/event-stream', 'user-agent': 'rebuilderd' }
    const reply = await fetch(`${base}${watchEvents.path}?kinds=queue`, { headers, signal: either })
    const isStream = reply.headers.get('content-type')?.startsWith('text/event-stream') === true
    if (!reply.ok || reply.body === null || !isStream) return reply.status >= 500
    onOpen()
    onWork() // what became due while we did not listen
    for await (const { data } of eventsIn(reply.body)) if (isWork(data)) onWork()
    return true
  } finally {
    over.abort()
  }
}

function isWork(data: string): boolean {
  try {
    const { change, count } = v.parse(QueueEvent, JSON.parse(data))
    return count > 0 && (change === 'added' || change === 'freed')
  } catch {
    return true // an event of a newer server: to look once too often does no harm
  }
}

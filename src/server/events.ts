import { EventEmitter } from 'node:events'
import { Refusal } from './refusal.ts'
import type { Database } from './store/database.ts'
import { eventsAfter, lastEvent, type EventRow } from './store/events.ts'

/** Watchers at once; each costs a connection. */
const mostWatchers = 1000
/** Milliseconds between signs of life on a quiet stream. */
const heartbeat = 15_000
const eventsAtOnce = 200

/** Tells watchers that something was committed. */
export type Pulse = { beat: () => void; next: (signal: AbortSignal) => Promise<void>; watchers: () => number }

export function openPulse(): Pulse {
  const emitter = new EventEmitter({ captureRejections: false })
  emitter.setMaxListeners(0)
  return {
    beat: () => void emitter.emit('beat'),
    watchers: () => emitter.listenerCount('beat'),
    next: (signal) =>
      new Promise((resolve) => {
        const done = (): void => {
          clearTimeout(timer)
          signal.removeEventListener('abort', done)
          emitter.removeListener('beat', done)
          resolve()
        }
        const timer = setTimeout(done, heartbeat)
        signal.addEventListener('abort', done, { once: true })
        emitter.once('beat', done)
      }),
  }
}

/**
 * A stream of events (html.spec.whatwg.org/multipage/server-sent-events.html).
 * @param after id of the last event the caller knows; null: from now on
 * @param signal ends the stream when the server stops
 * @throws Refusal 503 when too many watch already
 */
export async function eventStreamOf(
  db: Database,
  pulse: Pulse,
  { after, kinds, signal }: { after: number | null; kinds: readonly string[] | null; signal: AbortSignal },
): Promise<Response> {
  if (pulse.watchers() >= mostWatchers) throw new Refusal(503, 'too many watch already; try again later')
  const gone = new AbortController()
  const over = AbortSignal.any([signal, gone.signal])
  let last = after ?? (await lastEvent(db))
  const encoder = new TextEncoder()
  const body = new ReadableStream<Uint8Array>({
    start: (controller) => controller.enqueue(encoder.encode(': watching\n\n')),
    async pull(controller) {
      const waiting = pulse.next(over) // before we look, so that nothing falls between
      const events = await eventsAfter(db, last, kinds, eventsAtOnce)
      if (events.length === 0) await waiting
      if (over.aborted) return controller.close()
      last = events.at(-1)?.id ?? last
      return controller.enqueue(encoder.encode(events.length === 0 ? ':\n\n' : events.map(textOf).join('')))
    },
    cancel: () => gone.abort(),
  })
  const headers = {
    'content-type': 'text/event-stream',
    'cache-control': 'no-store',
    'x-accel-buffering': 'no',
  }
  return new Response(body, { headers })
}

function textOf({ id, kind, data }: EventRow): string {
  return `id: ${id}\nevent: ${kind}\ndata: ${data}\n\n`
}

import { networkOf } from './callers.ts'
import { putNewest } from './newest.ts'
import { Refusal } from './refusal.ts'
import type { Database } from './store/database.ts'
import { eventsAfter, lastEvent, type EventRow } from './store/events.ts'

/** Streams at once, of events and logs; each costs a connection. */
const mostWatchers = 1000
/** Streams of one address. Many people may sit behind it, and a page that nobody looks at keeps none. */
const mostOfOne = 200
/** Milliseconds between signs of life on a quiet stream. */
const heartbeat = 15_000
const eventsAtOnce = 200
/** Sendings that are kept ready: watchers are told of the same events, each kind of them of its own. */
const mostTold = 8

/** Watchers that are woken before all others have their turn: to write to each takes a tenth of a millisecond. */
const wokenAtOnce = 50

/** Tells watchers that something was committed. */
export type Pulse = {
  beat: () => void
  /** Ends with the next beat (true), the time for a sign of life or the signal (false). */
  next: (signal: AbortSignal) => Promise<boolean>
  /** Calls back at every beat, at once. */
  hear: (heard: () => void) => void
}

/** A pulse that any number may watch. */
export function openPulse(): Pulse {
  const hearers: (() => void)[] = []
  let waiting = new Set<() => void>()
  const wake = (all: Iterator<() => void>): void => {
    for (let count = 0; count < wokenAtOnce; count++) {
      const next = all.next()
      if (next.done === true) return
      next.value()
    }
    setImmediate(() => wake(all))
  }
  return {
    beat() {
      for (const heard of hearers) heard()
      const all = waiting
      waiting = new Set() // whoever waits from now on waits for another beat
      wake(all.values())
    },
    next: (signal) =>
      new Promise((resolve) => {
        const among = waiting
        const done = (isBeat: boolean): void => {
          clearTimeout(timer)
          signal.removeEventListener('abort', ended)
          among.delete(beaten)
          resolve(isBeat)
        }
        const beaten = (): void => done(true)
        const ended = (): void => done(false)
        const timer = setTimeout(ended, heartbeat)
        signal.addEventListener('abort', ended, { once: true })
        among.add(beaten)
      }),
    hear: (heard) => void hearers.push(heard),
  }
}

/** Whether many may have an address: it is that of this machine, where a proxy may run that does not tell for whom. */
export function isSharedAddress(network: string): boolean {
  return /^(127\.|0:0:0:0$)/.test(network)
}

/** Counts those who watch, in all and by their address. */
export type Watchers = {
  /**
   * Lets one in until the signal aborts.
   * @throws Refusal 503 when too many watch already, 429 when too many of that address do
   */
  enter: (address: string, until: AbortSignal) => void
}

/** @param isProxied connections of loopback are those of a proxy that does not tell for whom: they share no bound */
export function openWatchers(isProxied: boolean, most = mostWatchers, ofOne = mostOfOne): Watchers {
  const counts = new Map<string, number>()
  let all = 0
  return {
    enter(address, until) {
      if (all >= most) throw new Refusal(503, 'too many watch already; try again later')
      const network = networkOf(address)
      const own = counts.get(network) ?? 0
      const isShared = isProxied && isSharedAddress(network)
      if (own >= ofOne && !isShared) throw new Refusal(429, 'too many of your address watch; close some')
      all++
      counts.set(network, own + 1)
      const leave = (): void => {
        all--
        const left = (counts.get(network) ?? 1) - 1
        if (left === 0) counts.delete(network)
        else counts.set(network, left)
      }
      until.addEventListener('abort', leave, { once: true })
    },
  }
}

/** The newest events, read once for all who watch. */
type EventTail = {
  /** Events after an id, as many as are sent at once; what is committed before the call is among them. */
  after: (id: number) => Promise<EventRow[]>
  /** The same of those that were read already; null: not all of them are kept any more. */
  kept: (id: number) => EventRow[] | null
  /** The id of the last one that is committed before the call. */
  newest: () => Promise<number>
}

/** Events kept in memory for watchers; who is further behind asks the database. */
const keptEvents = 1000

/** The newest events of a database. */
export function openEventTail(db: Database): EventTail {
  let recent: EventRow[] = []
  let first = 0 // everything after this id is in `recent`
  let reading: Promise<void> | null = null
  let next: Promise<void> | null = null
  const read = async (): Promise<void> => {
    if (first === 0) first = await lastEvent(db)
    let rows = await eventsAfter(db, recent.at(-1)?.id ?? first, keptEvents)
    if (rows.length === keptEvents) {
      // Nobody has watched for long: the newest are enough.
      first = Math.max(first, (await lastEvent(db)) - keptEvents)
      recent = []
      rows = await eventsAfter(db, first, keptEvents)
    }
    recent = [...recent, ...rows]
    const spare = recent.length - keptEvents
    if (spare <= 0) return
    first = recent[spare - 1]?.id ?? first
    recent = recent.slice(spare)
  }
  /** What is being read may miss what was just committed: whoever comes meanwhile shares the reading after it. */
  const refresh = (): Promise<void> => {
    if (reading === null) {
      reading = read().finally(() => (reading = null))
      return reading
    }
    next ??= reading
      .catch(() => undefined)
      .then(() => {
        next = null
        return refresh()
      })
    return next
  }
  const kept = (id: number): EventRow[] | null => {
    const start = recent.findLastIndex((event) => event.id <= id) + 1
    return id < first ? null : recent.slice(start, start + eventsAtOnce)
  }
  return {
    async after(id) {
      await refresh()
      return kept(id) ?? eventsAfter(db, id, eventsAtOnce)
    },
    kept,
    async newest() {
      await refresh()
      return recent.at(-1)?.id ?? first
    },
  }
}

/** Wakes streams where there are new events: most of what is committed is none. */
type News = Pick<Pulse, 'next'> & {
  /** Counts a stream: while there is one, events are looked for. */
  enter: (until: AbortSignal) => void
}

/** Looks for new events once for all who wait, whenever something was committed. */
export function openNews(pulse: Pulse, tail: Pick<EventTail, 'newest'>): News {
  const news = openPulse()
  let [streams, last, isLooking, isDue] = [0, 0, false, false]
  const look = async (): Promise<void> => {
    isDue = true
    if (isLooking) return
    isLooking = true
    while (isDue) {
      isDue = false
      const newest = await tail.newest().catch(() => last) // streams look by themselves now and then, and fail with it
      if (newest > last) news.beat()
      last = newest
    }
    isLooking = false
  }
  pulse.hear(() => {
    if (streams > 0) void look()
  })
  return {
    next: news.next,
    enter(until) {
      streams++
      until.addEventListener('abort', () => streams--, { once: true })
    },
  }
}

/** What streams of events are made from. */
type EventSources = {
  db: Database
  tail: EventTail
  news: News
  told: Told
  /** Streams of events of the queue alone: those who wait for work, and need to know among how many. */
  listeners: { count: number }
}

/**
 * A stream of events (html.spec.whatwg.org/multipage/server-sent-events.html).
 * @param after id of the last event the caller knows; null: from now on
 * @param over ends the stream: the server stops
 * @param leave is called when nobody reads any more
 */
export async function eventStreamOf(
  { db, tail, news, told, listeners }: EventSources,
  { after, kinds }: { after: number | null; kinds: readonly string[] | null },
  { over, leave }: { over: AbortSignal; leave: () => void },
): Promise<Response> {
  let last = after ?? (await lastEvent(db))
  news.enter(over)
  if (kinds?.length === 1 && kinds[0] === 'queue') {
    listeners.count++
    over.addEventListener('abort', () => listeners.count--, { once: true })
  }
  const isWanted = ({ kind }: EventRow): boolean => kinds === null || kinds.includes(kind)
  let hasLooked = false
  const body = new ReadableStream<Uint8Array>({
    start: (controller) => controller.enqueue(new TextEncoder().encode(': watching\n\n')),
    async pull(controller) {
      for (;;) {
        const found = hasLooked ? tail.kept(last) : null
        const waiting = found === null || found.length === 0 ? news.next(over) : null // before we look
        const events = found ?? (await tail.after(last))
        hasLooked = true
        last = events.at(-1)?.id ?? last
        const wanted = events.filter(isWanted)
        if (over.aborted) return leaving(controller)
        if (wanted.length > 0) return controller.enqueue(told(wanted, listeners.count))
        if (events.length > 0) continue
        const isBeat = await waiting
        if (over.aborted) return leaving(controller)
        if (isBeat === true) continue
        hasLooked = false
        return controller.enqueue(signOfLife)
      }
    },
    cancel: leave,
  })
  const leaving = (controller: ReadableStreamDefaultController<Uint8Array>): void => {
    leave()
    controller.close()
  }
  return new Response(body, { headers: streamHeaders })
}

/** A proxy must neither keep a stream nor hold pieces of it back. */
export const streamHeaders = {
  'content-type': 'text/event-stream',
  'cache-control': 'no-store',
  'x-accel-buffering': 'no',
}

/** Where a reader that comes back goes on: after the last event it has seen, else where it asked to begin. */
export function resumedFrom(request: Request, asked: number | undefined): number | null {
  const header = request.headers.get('last-event-id')
  const last = header !== null && /^\d{1,15}$/.test(header) ? Number(header) : undefined
  return last ?? asked ?? null
}

/** A signal for one stream: it ends with the server or when its reader leaves. */
export function streamEnd(stopping: AbortSignal): { over: AbortSignal; leave: () => void } {
  const gone = new AbortController()
  return { over: AbortSignal.any([stopping, gone.signal]), leave: () => gone.abort() }
}

const signOfLife = new TextEncoder().encode(':\n\n')

/** Events as they are sent, to streams of which some wait for work. */
type Told = (events: readonly EventRow[], listeners: number) => Uint8Array

/** Makes the bytes of the same events once for all who are told them at the moment. */
export function openTold(): Told {
  const made = new Map<string, Uint8Array>()
  return (events, listeners) => {
    const key = [listeners, ...events.map(({ id }) => id)].join(' ')
    const bytes =
      made.get(key) ?? new TextEncoder().encode(events.map((event) => textOf(event, listeners)).join(''))
    putNewest(made, key, bytes, mostTold)
    return bytes
  }
}

function textOf({ id, kind, data }: EventRow, listeners: number): string {
  const told = kind === 'queue' ? `${data.slice(0, -1)},"listeners":${listeners}}` : data // an object of JSON, with members
  return `id: ${id}\nevent: ${kind}\ndata: ${told}\n\n`
}

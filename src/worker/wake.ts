import { setTimeout as sleep } from 'node:timers/promises'
import * as v from 'valibot'
import { sentenceOf } from '../errors.ts'
import { eventHeaders, eventsIn, hasEvents } from '../event-stream.ts'
import type { Log } from '../log.ts'
import { followed } from '../request.ts'
import { QueueEvent, watchEvents } from '../wire/gates.ts'

/** Resolves when the server has told of new work since the last time, or once the signal is aborted. */
export type Wake = (signal: AbortSignal) => Promise<void>

/** After so many milliseconds a server that knows no events is asked again: it may have become a newer one. */
const againMilliseconds = 3_600_000
/** Questions of workers that all hear of work, and not how many they are, are spread over so many milliseconds. */
const spreadMilliseconds = 600
/** Between two of those that ask at once. */
const apartMilliseconds = 5
/** Twice as many workers as before ask after so many milliseconds: by then a job is begun, and the others have heard so. */
const waveMilliseconds = 200
/** So many more than there are jobs ask at once: some may be busy, gone, or none for that job. */
const margin = 2
/** When those ask who heard that others have begun all of the work, more or less: it may have been other work. */
const lateMilliseconds = 60_000

/**
 * Milliseconds until a worker asks for work that `listeners` workers have heard of. Each throws its own dice: about as
 * many as there are jobs ask at once, twice as many a moment later, and so on until all have asked or the work is begun.
 * @param random 0 to 1
 */
export function waitFor(count: number, listeners: number | undefined, random: number): number {
  if (listeners === undefined) return random ** 2 * spreadMilliseconds
  const first = Math.min(count + margin, listeners)
  const place = (random * listeners) / first
  return place < 1
    ? place * Math.min(apartMilliseconds * first, spreadMilliseconds)
    : waveMilliseconds * Math.log2(place + 1)
}

type WakeOptions = { random?: () => number; lateMilliseconds?: number }

/**
 * Listens to the events of a server until the signal is aborted. Where many do, most hear that a job is begun before it
 * is their turn to ask, and then need not: they look later, so that nothing is left lying.
 * @param base address of the server
 */
export function openWake(base: string, log: Log, signal: AbortSignal, options: WakeOptions = {}): Wake {
  const { random = Math.random, lateMilliseconds: late = lateMilliseconds } = options
  let open = 0 // jobs we heard of that nobody has begun
  let due: number | null = null // when to ask
  let changed = (): void => undefined
  const onNews = (news: News): void => {
    const before = open
    open = Math.max(0, open + news.change)
    const moment = Date.now()
    if (news.change > 0)
      due = Math.min(due ?? Infinity, moment + waitFor(news.change, news.listeners, random()))
    else if (before > 0 && open === 0 && due !== null && due > moment)
      due = moment + late * (0.5 + random() / 2)
    changed()
  }
  void listen(base, onNews, log, signal) // ends with the signal and never throws
  return async (waiting) => {
    while (!waiting.aborted) {
      const left = due === null ? null : due - Date.now()
      if (left !== null && left <= 0) break
      const news = new AbortController()
      changed = () => news.abort()
      const either = AbortSignal.any([waiting, news.signal])
      await (left === null ? aborted(either) : pause(left, either))
    }
    if (!waiting.aborted) [due, open] = [null, 0]
  }
}

function aborted(signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal.aborted) resolve()
    signal.addEventListener('abort', () => resolve(), { once: true })
  })
}

async function pause(milliseconds: number, signal: AbortSignal): Promise<void> {
  await sleep(milliseconds, undefined, { signal }).catch(() => undefined)
}

async function listen(
  base: string,
  onNews: (news: News) => void,
  log: Log,
  signal: AbortSignal,
): Promise<void> {
  for (let failures = 0; !signal.aborted; failures++) {
    try {
      const isKnown = await listenOnce(base, onNews, signal, () => (failures = 0))
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
  onNews: (news: News) => void,
  signal: AbortSignal,
  onOpen: () => void,
): Promise<boolean> {
  const over = new AbortController()
  const either = AbortSignal.any([signal, over.signal])
  try {
    const url = new URL(`${base}${watchEvents.path}?kinds=queue`)
    const reply = await followed(url, { headers: eventHeaders, signal: either })
    if (!hasEvents(reply)) return (reply.statusCode ?? 0) >= 500
    onOpen()
    onNews({ change: 1, listeners: undefined }) // what became due while we did not listen
    for await (const { data } of eventsIn(reply)) onNews(newsIn(data))
    return true
  } finally {
    over.abort()
  }
}

/** `change`: by how many jobs there is more to do; `listeners`: workers that hear the same, where the server tells. */
type News = { change: number; listeners: number | undefined }

function newsIn(data: string): News {
  try {
    const { change, count, listeners } = v.parse(QueueEvent, JSON.parse(data))
    return { change: change === 'added' || change === 'freed' ? count : -count, listeners }
  } catch {
    return { change: 1, listeners: undefined } // an event of a newer server: to look once too often does no harm
  }
}

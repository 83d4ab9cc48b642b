/** Server-sent events (html.spec.whatwg.org/multipage/server-sent-events.html), as clients read them. */
import type { IncomingMessage } from 'node:http'
import { setTimeout as sleep } from 'node:timers/promises'
import { Complaint, sentenceOf } from './errors.ts'
import { followed } from './request.ts'

export type ServerEvent = {
  /** Where to resume; null: the server gave none. */
  readonly id: string | null
  readonly kind: string
  readonly data: string
}

/** Characters of one event: a piece of a log of 256 kB, every character escaped. */
const longestEvent = 4 * 1024 * 1024

/**
 * Events of a stream, as they arrive, however it is cut.
 * @throws Complaint where one is larger than any server of ours sends
 */
export async function* eventsIn(chunks: AsyncIterable<Uint8Array>): AsyncGenerator<ServerEvent> {
  const decoder = new TextDecoder()
  let event = emptyEvent
  let rest = ''
  for await (const chunk of chunks) {
    const lines = (rest + decoder.decode(chunk, { stream: true })).split('\n')
    rest = lines.pop() ?? ''
    for (const line of lines) {
      if (line !== '' && line !== '\r') event = withLine(event, line.replace(/\r$/, ''))
      else {
        if (event.data !== '') yield event
        event = { ...emptyEvent, id: event.id }
      }
    }
    if (rest.length + event.data.length > longestEvent) throw new Complaint('an event is too large')
  }
}

const emptyEvent: ServerEvent = { id: null, kind: 'message', data: '' }

function withLine(event: ServerEvent, line: string): ServerEvent {
  const [, field = '', value = ''] = /^([^:]+)(?:: ?(.*))?$/.exec(line) ?? []
  switch (field) {
    case 'id':
      return { ...event, id: value }
    case 'event':
      return { ...event, kind: value }
    case 'data':
      return { ...event, data: event.data === '' ? value : `${event.data}\n${value}` }
    default:
      return event // a comment: the server is still there
  }
}

/** A stream on which nothing comes for so long is lost: servers of ours send something every 15 s. */
const longestSilence = 60_000

type Following = {
  /** Id of the last event that is known; null: from where the address says. */
  after: string | null
  signal: AbortSignal
  /** Told when the connection is lost, before it is tried again; not at each try that fails for the same reason. */
  onLost: (why: string) => void
  /** Milliseconds before the first new try, doubled each time up to half a minute. */
  pause?: number
}

/**
 * Follows a stream of events; a connection that is lost is made again, and goes on after the last event.
 * Ends only when its reader stops or the signal is aborted (then with its reason).
 * @throws Complaint where the first connection fails, or the server refuses, or has no events there
 */
export async function* followedEvents(address: string, following: Following): AsyncGenerator<ServerEvent> {
  const { signal, onLost, pause = 1000 } = following
  let { after } = following
  let wasThere = false
  let told: string | null = null
  const lost = (why: string): void => {
    if (why !== told) onLost(why)
    told = why
  }
  for (let failures = 0; ; failures++) {
    try {
      for await (const event of connection(address, after, signal)) {
        ;[wasThere, failures, after, told] = [true, 0, event.id ?? after, null]
        if (event !== opened) yield event
      }
      lost('the server ended it')
    } catch (error) {
      signal.throwIfAborted()
      if (!wasThere || error instanceof Refused) throw error
      lost(sentenceOf(error))
    }
    await sleep(Math.min(30_000, pause * 2 ** Math.min(failures, 10)), undefined, { signal })
  }
}

/** Stands for the connection itself, so that the reader knows of it before anything happens. */
const opened: ServerEvent = { id: null, kind: 'open', data: '' }

class Refused extends Complaint {}

async function* connection(
  address: string,
  after: string | null,
  signal: AbortSignal,
): AsyncGenerator<ServerEvent> {
  const silence = new AbortController()
  const timer = setTimeout(() => silence.abort(new Complaint('nothing came for a minute')), longestSilence)
  try {
    const reply = await followed(new URL(address), {
      headers: after === null ? eventHeaders : { ...eventHeaders, 'last-event-id': after },
      signal: AbortSignal.any([signal, silence.signal]),
    }).catch((error: unknown) => {
      signal.throwIfAborted()
      throw new Complaint(`cannot reach the server at ${new URL(address).origin}`, { cause: error })
    })
    const body = bodyOf(reply, address)
    yield opened
    yield* eventsIn(heard(body, timer))
  } finally {
    clearTimeout(timer)
    silence.abort() // a reader who stops leaves no connection behind
  }
}

/** What a stream of events is asked for with. */
export const eventHeaders = { accept: 'text/event-stream' }

/** Whether a reply is the stream of events that was asked for. */
export function hasEvents({ statusCode, headers }: IncomingMessage): boolean {
  return statusCode === 200 && headers['content-type']?.startsWith('text/event-stream') === true
}

function bodyOf(reply: IncomingMessage, address: string): AsyncIterable<Uint8Array> {
  if (hasEvents(reply)) return reply
  const { statusCode = 0 } = reply
  reply.destroy()
  const isFine = statusCode >= 200 && statusCode < 300
  const said = isFine ? 'it sends no events there' : `it answered ${statusCode}`
  const Kind = statusCode >= 500 || statusCode === 429 ? Complaint : Refused
  throw new Kind(`GET ${address}: ${said}`, {
    hint: statusCode === 404 || isFine ? 'the server may be older than this program' : undefined,
  })
}

async function* heard(body: AsyncIterable<Uint8Array>, timer: NodeJS.Timeout): AsyncGenerator<Uint8Array> {
  for await (const chunk of body) {
    timer.refresh()
    yield chunk
  }
}

import type { IncomingMessage } from 'node:http'
import { wholeOf } from '../../chunks.ts'
import { Complaint } from '../../errors.ts'
import { acceptedCodings, followed, plainBody, whyUnreachable } from '../../request.ts'

export type Fetched = {
  status: number
  etag: string | null
  lastModified: string | null
  chunks: AsyncGenerator<Uint8Array>
  /** Lets go of a reply whose body nobody wants. */
  drop: () => void
}

type FetchOptions = {
  /** Sent as JSON; absent: GET. */
  body?: unknown
  headers?: Readonly<Record<string, string>>
  /** Most bytes of the reply, decoded. */
  limit: number
  signal: AbortSignal
}

/**
 * Asks a server that need not be friendly: what it sends is counted, and cut off at a limit.
 * @throws Complaint where it cannot be reached, sends more than `limit`, or leads from https to http
 */
export async function fetched(url: string, options: FetchOptions): Promise<Fetched> {
  const { limit, signal } = options
  const body = options.body === undefined ? undefined : Buffer.from(JSON.stringify(options.body))
  const headers = {
    accept: 'application/json',
    'accept-encoding': acceptedCodings,
    ...(body === undefined ? {} : { 'content-type': 'application/json' }),
    ...options.headers,
  }
  try {
    const response = await followed(new URL(url), { headers, body, signal })
    const { etag, 'last-modified': lastModified } = response.headers
    return {
      status: response.statusCode ?? 0,
      etag: etag ?? null,
      lastModified: lastModified ?? null,
      chunks: bounded(response, limit, signal),
      drop: () => void response.destroy(),
    }
  } catch (error) {
    throw troubleOf(error, signal)
  }
}

async function* bounded(
  response: IncomingMessage,
  limit: number,
  signal: AbortSignal,
): AsyncGenerator<Uint8Array> {
  let size = 0
  try {
    for await (const chunk of plainBody(response)) {
      const bytes = chunk as Uint8Array // no encoding is set
      size += bytes.length
      if (size > limit) throw new Complaint(`the reply is longer than ${limit} bytes`)
      yield bytes
    }
  } catch (error) {
    throw troubleOf(error, signal)
  } finally {
    response.destroy()
  }
}

/** All of a reply as text. */
export async function textOf(reply: Fetched): Promise<string> {
  return (await wholeOf(reply.chunks)).toString('utf8')
}

/**
 * A reply of JSON.
 * @throws Complaint where the status is another than 200, or it is no JSON
 */
export async function jsonOf(url: string, options: FetchOptions): Promise<unknown> {
  const reply = await fetched(url, options)
  if (reply.status !== 200) {
    reply.drop()
    throw new Refused(reply.status)
  }
  return parsedJson(await textOf(reply))
}

function parsedJson(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    throw new Complaint('the reply is not JSON')
  }
}

/** The server answered with a status that is no success. */
export class Refused extends Complaint {
  readonly status: number

  constructor(status: number) {
    super(`the server answers ${status}`)
    this.name = 'Refused'
    this.status = status
  }
}

function troubleOf(error: unknown, signal: AbortSignal): unknown {
  if (error instanceof Complaint) return error
  const { reason } = signal as { reason: unknown }
  if (signal.aborted && reason instanceof DOMException && reason.name === 'TimeoutError') {
    return new Complaint('it did not answer in time')
  }
  if (signal.aborted) return reason
  return new Complaint(`it cannot be reached (${whyUnreachable(error, signal)})`)
}

import { Complaint, chainOf } from '../../errors.ts'
import { followEnvironmentProxies } from '../../proxy.ts'

export type Fetched = {
  status: number
  etag: string | null
  lastModified: string | null
  chunks: AsyncGenerator<Uint8Array>
  /** Lets go of a reply whose body nobody wants. */
  drop: () => Promise<void>
}

export type FetchOptions = {
  /** Sent as JSON; absent: GET. */
  body?: unknown
  headers?: Readonly<Record<string, string>>
  /** Most bytes of the reply, decoded. */
  limit: number
  signal: AbortSignal
}

/**
 * Asks a server that need not be friendly: what it sends is counted, and cut off at a limit.
 * @throws Complaint where it cannot be reached, or sends more than `limit`
 */
export async function fetched(url: string, options: FetchOptions): Promise<Fetched> {
  const { body, headers, limit, signal } = options
  followEnvironmentProxies()
  const json = body === undefined ? {} : { 'content-type': 'application/json' }
  const response = await fetch(url, {
    method: body === undefined ? 'GET' : 'POST',
    headers: { 'user-agent': 'rebuilderd', accept: 'application/json', ...json, ...headers },
    ...(body === undefined ? {} : { body: JSON.stringify(body) }),
    signal,
  }).catch((error: unknown) => {
    throw troubleOf(error, signal)
  })
  return {
    status: response.status,
    etag: response.headers.get('etag'),
    lastModified: response.headers.get('last-modified'),
    chunks: bounded(response, limit, signal),
    drop: async () => response.body?.cancel(),
  }
}

async function* bounded(response: Response, limit: number, signal: AbortSignal): AsyncGenerator<Uint8Array> {
  let size = 0
  try {
    for await (const chunk of response.body ?? []) {
      size += chunk.length
      if (size > limit) throw new Complaint(`the reply is longer than ${limit} bytes`)
      yield chunk
    }
  } catch (error) {
    throw troubleOf(error, signal)
  }
}

/** All of a reply as text. */
export async function textOf(reply: Fetched): Promise<string> {
  const parts: Uint8Array[] = []
  for await (const chunk of reply.chunks) parts.push(chunk)
  return Buffer.concat(parts).toString('utf8')
}

/**
 * A reply of JSON.
 * @throws Complaint where the status is another than 200, or it is no JSON
 */
export async function jsonOf(url: string, options: FetchOptions): Promise<unknown> {
  const reply = await fetched(url, options)
  if (reply.status !== 200) {
    await reply.drop()
    throw new Refused(reply.status)
  }
  return parsedJson(await textOf(reply))
}

export function parsedJson(text: string): unknown {
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
  const last = chainOf(error).at(-1)
  return new Complaint(`it cannot be reached (${last?.message ?? String(error)})`)
}

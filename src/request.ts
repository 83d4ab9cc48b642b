import http, { type ClientRequest, type IncomingMessage } from 'node:http'
import https from 'node:https'
import { pipeline, type Readable } from 'node:stream'
import { createGunzip, createZstdDecompress } from 'node:zlib'
import { chainOf, Complaint } from './errors.ts'
import { followEnvironmentProxies } from './proxy.ts'

/** Statuses that name another address, where they come with one (RFC 9110 section 15.4). */
export const redirectStatuses: readonly number[] = [301, 302, 303, 307, 308]

/** What a request takes beside its address. */
export type Asking = {
  /** Absent: GET, or POST where there is a body. */
  method?: string
  headers?: Readonly<Record<string, string>>
  body?: Uint8Array | undefined
  signal: AbortSignal
}

/**
 * One HTTP request through the environment's proxies. Connections are kept for the next one; where the server has closed
 * one meanwhile, what may be asked twice is asked again by another. Through node:http, which takes a third of the time
 * that the runtime's fetch takes, at the start and for each request.
 * @returns the reply, whose body is still to be read or destroyed; it ends with an error once the signal is aborted
 */
export async function requested(url: URL, asking: Asking): Promise<IncomingMessage> {
  followEnvironmentProxies()
  const { body, method = body === undefined ? 'GET' : 'POST' } = asking
  for (;;) {
    const sending = begun(url, { ...asking, method })
    try {
      return await replyTo(sending)
    } catch (error) {
      // The connection is no longer kept then: there is an end to them, and a new one is none that was closed before.
      if (method === 'POST' || !sending.reusedSocket || !isClosing(error)) throw error
    }
  }
}

function begun(url: URL, { method, headers, body, signal }: Asking): ClientRequest {
  const length = body === undefined ? {} : { 'content-length': body.length }
  const { request } = url.protocol === 'https:' ? https : http
  const sending = request(url, {
    method,
    headers: { 'user-agent': 'rebuilderd', ...length, ...headers },
    signal,
  })
  sending.end(body)
  return sending
}

function replyTo(sending: ClientRequest): Promise<IncomingMessage> {
  return new Promise((resolve, reject) => {
    sending.once('response', resolve)
    sending.on('error', reject) // a second one, after the reply began, is told by its body
  })
}

/** Whether the other side has ended the connection (RFC 9112 section 9.3.1: any time, also as a request is sent). */
function isClosing(error: unknown): boolean {
  return error instanceof Error && 'code' in error && (error.code === 'ECONNRESET' || error.code === 'EPIPE')
}

/** The status of the reply to a request of which nothing else matters. */
export async function statusOf(url: URL, asking: Asking): Promise<number> {
  const response = await requested(url, asking)
  for await (const _ of response) continue // so that the connection can be used again
  return response.statusCode ?? 0
}

const mostRedirects = 5

/**
 * The same with redirects, up to five; a question keeps its body.
 * @throws Complaint for a redirect without end, to no address, or from https to http
 */
export async function followed(url: URL, asking: Asking): Promise<IncomingMessage> {
  let at = url
  let now = asking
  for (let redirects = 0; ; redirects++) {
    const response = await requested(at, now)
    const { statusCode = 0 } = response
    const { location } = response.headers
    if (!redirectStatuses.includes(statusCode) || location === undefined) return response
    response.destroy()
    if (redirects === mostRedirects) throw new Complaint('it redirects without end')
    const next = URL.canParse(location, at) ? new URL(location, at) : null
    if (next === null || !/^https?:$/.test(next.protocol)) throw new Complaint('it redirects to no address')
    if (at.protocol === 'https:' && next.protocol === 'http:')
      throw new Complaint('it redirects from https to http, where anybody on the way can answer')
    if (statusCode === 303) now = { ...asking, method: 'GET', body: undefined }
    at = next
  }
}

/** The codings that `plainBody` undoes, for a request to name. */
export const acceptedCodings = 'zstd, gzip'

/**
 * A body without the coding that it was sent in.
 * @throws Complaint for a coding that is none of `acceptedCodings`
 */
export function plainBody(response: IncomingMessage): Readable {
  const coding = response.headers['content-encoding'] ?? 'identity'
  if (coding === 'identity') return response
  const decoder = coding === 'gzip' ? createGunzip() : coding === 'zstd' ? createZstdDecompress() : undefined
  if (decoder === undefined) throw new Complaint('the reply is in a coding that was not asked for')
  return pipeline(response, decoder, () => {}) // whoever reads it meets its error
}

/** The innermost reason why a request failed; the signal's, once that is aborted. */
export function whyUnreachable(error: unknown, signal: AbortSignal): string {
  const last = chainOf(signal.aborted ? signal.reason : error).at(-1)
  const [first] = last instanceof AggregateError ? last.errors : [] // one for each address of a name
  return first instanceof Error ? first.message : (last?.message ?? String(error))
}

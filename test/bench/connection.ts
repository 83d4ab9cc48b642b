/**
 * One connection that is kept, and one request at a time on it (RFC 9112): what asks for a measurement shares the
 * processors with what is measured, so it writes and reads as little as it can. Replies are taken apart no further than
 * to their status and their end.
 */
import { connect, type Socket } from 'node:net'

/** `startedAt`: when its first bytes were there (performance.now()). */
export type Answer = { status: number; head: string; body: Buffer; startedAt: number }

type Ask = { method: string; path: string; headers?: Record<string, string>; body?: Uint8Array }

export type Connection = {
  /** @throws Error where the connection breaks off, or no answer comes within two minutes */
  ask: (ask: Ask) => Promise<Answer>
  /** The same of a request that is written out, by `requestOf`. */
  send: (request: Uint8Array) => Promise<Answer>
  /** A request as it goes over the wire. */
  requestOf: (ask: Ask) => Buffer
  close: () => void
}

const longestWait = 120_000
const headEnd = Buffer.from('\r\n\r\n')
const empty = Buffer.alloc(0)

/** @param base `http://127.0.0.1:8484`, with a path where the server has one */
export function openConnection(base: string): Connection {
  const { hostname, port, host, pathname } = new URL(base)
  const prefix = pathname.replace(/\/$/, '')
  let socket: Socket | null = null
  let waiting: { resolve: (answer: Answer) => void; reject: (error: Error) => void } | null = null
  let reading: Reading = startReading()

  const broken = (error: Error): void => {
    socket?.destroy()
    socket = null
    reading = startReading()
    const { reject } = waiting ?? {}
    waiting = null
    reject?.(error)
  }
  const read = (chunk: Buffer): void => {
    const answer = reading(chunk)
    if (answer === null) return
    reading = startReading()
    const { resolve } = waiting ?? {}
    waiting = null
    resolve?.(answer)
  }
  const connected = (): Socket => {
    if (socket !== null && !socket.destroyed) return socket
    const made = connect({
      host: hostname.replace(/^\[|\]$/g, ''),
      port: Number(port === '' ? 80 : port),
      noDelay: true,
    })
    made.on('data', read)
    made.on('error', broken)
    made.on('close', () => socket === made && broken(new Error('the server has closed the connection')))
    made.setTimeout(longestWait, () => waiting !== null && broken(new Error('no answer in two minutes')))
    socket = made
    return made
  }
  const send = (request: Uint8Array): Promise<Answer> =>
    new Promise((resolve, reject) => {
      waiting = { resolve, reject }
      connected().write(request)
    })
  const requestOf = ({ method, path, headers = {}, body }: Ask): Buffer => {
    const length =
      body === undefined && method === 'GET' ? {} : { 'content-length': String(body?.length ?? 0) }
    const lines = Object.entries({ host, ...headers, ...length }).map(
      ([name, value]) => `${name}: ${value}\r\n`,
    )
    const head = Buffer.from(`${method} ${prefix}${path} HTTP/1.1\r\n${lines.join('')}\r\n`, 'latin1')
    return body === undefined ? head : Buffer.concat([head, body])
  }
  return {
    send,
    requestOf,
    ask: (ask) => send(requestOf(ask)),
    close: () => {
      socket?.destroy()
      socket = null
    },
  }
}

/** A member of a head; the empty text where it is missing. */
export function headerIn({ head }: Answer, name: string): string {
  return new RegExp(`^${name}: *(.*?) *\\r?$`, 'im').exec(head)?.[1] ?? ''
}

/** Takes the bytes of one reply as they come; null until it is whole. */
type Reading = (chunk: Buffer) => Answer | null

function startReading(): Reading {
  let [before, startedAt, status, head]: [Buffer, number, number, string] = [empty, 0, 0, '']
  let body: BodyReading | null = null
  return (chunk) => {
    if (startedAt === 0) startedAt = performance.now()
    let rest = chunk
    while (body === null) {
      const all = before.length === 0 ? rest : Buffer.concat([before, rest])
      const end = all.indexOf(headEnd)
      before = all
      if (end === -1) return null
      head = all.toString('latin1', 0, end)
      status = Number(head.slice(9, 12))
      rest = all.subarray(end + headEnd.length)
      before = empty
      if (status >= 200) body = bodyReading(status, head)
      else if (rest.length === 0) return null // 100 Continue: the reply itself is still to come
    }
    const whole = body(rest)
    return whole === null ? null : { status, head, body: whole, startedAt }
  }
}

/** Takes the bytes of a body as they come; null until it is whole. */
type BodyReading = (chunk: Buffer) => Buffer | null

function bodyReading(status: number, head: string): BodyReading {
  if (status === 204 || status === 304) return () => empty
  if (/^transfer-encoding: *chunked/im.test(head)) return chunkedBody()
  return countedBody(Number(/^content-length: *(\d+)/im.exec(head)?.[1] ?? 0))
}

function countedBody(length: number): BodyReading {
  const parts: Buffer[] = []
  let size = 0
  return (chunk) => {
    parts.push(chunk)
    size += chunk.length
    if (size < length) return null
    return parts.length === 1 ? chunk : Buffer.concat(parts)
  }
}

/** RFC 9112 section 7.1; trailers are read over. */
function chunkedBody(): BodyReading {
  const parts: Buffer[] = []
  let rest: Buffer = empty
  return (chunk) => {
    rest = rest.length === 0 ? chunk : Buffer.concat([rest, chunk])
    for (;;) {
      const line = rest.indexOf('\r\n')
      if (line === -1) return null
      const size = Number.parseInt(rest.toString('latin1', 0, line), 16)
      const start = line + 2
      if (size === 0) return rest.subarray(-4).equals(headEnd) ? Buffer.concat(parts) : null
      if (rest.length < start + size + 2) return null
      parts.push(rest.subarray(start, start + size))
      rest = rest.subarray(start + size + 2)
    }
  }
}

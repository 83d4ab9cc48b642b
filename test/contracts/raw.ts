/** Requests as they are on the wire: nothing added, nothing decoded, no redirects. */
import { Agent, request } from 'node:http'
import zlib from 'node:zlib'

export type RawReply = {
  status: number
  headers: Readonly<Record<string, string | undefined>>
  bytes: Buffer
  text: string
}

export type RawRequest = {
  headers?: Readonly<Record<string, string>>
  body?: string | Uint8Array
  /** Leave out `content-length`: the body goes in chunks. */
  chunked?: boolean
}

const agent = new Agent({ keepAlive: false })

/** Sends one request. `target` is taken as it is, dots and doubled slashes too. */
export function ask(base: string, method: string, target: string, given: RawRequest = {}): Promise<RawReply> {
  const { hostname, port, pathname } = new URL(base)
  const path = (pathname === '/' ? '' : pathname) + target
  const body = given.body === undefined ? undefined : Buffer.from(given.body)
  const length: Record<string, string> =
    body !== undefined && given.chunked !== true ? { 'content-length': String(body.length) } : {}
  const headers = { ...length, ...given.headers }
  return new Promise((resolve, reject) => {
    const sent = request({ hostname, port, path, method, headers, agent, setHost: true }, (reply) => {
      const chunks: Buffer[] = []
      reply.on('data', (chunk: Buffer) => chunks.push(chunk))
      reply.on('error', reject)
      reply.on('end', () => {
        const bytes = Buffer.concat(chunks)
        const told = reply.headers as Record<string, string | undefined> // none of ours comes twice
        resolve({ status: reply.statusCode ?? 0, headers: told, bytes, text: bytes.toString('utf8') })
      })
    })
    sent.on('error', reject)
    if (body !== undefined) sent.write(body)
    sent.end()
  })
}

/** The JSON document of a reply; tests say what they expect in it. */
// oxlint-disable-next-line typescript/no-unnecessary-type-parameters
export function documentOf<T>(reply: RawReply): T {
  return JSON.parse(reply.text) as T
}

/** A reply's bytes, decoded as its header says. */
export function decoded({ headers, bytes }: RawReply): Buffer {
  switch (headers['content-encoding']) {
    case undefined:
      return bytes
    case 'gzip':
      return zlib.gunzipSync(bytes)
    case 'br':
      return zlib.brotliDecompressSync(bytes)
    case 'deflate':
      return zlib.inflateSync(bytes)
    case 'zstd':
      return zlib.zstdDecompressSync(bytes)
    default:
      throw new Error(`an unknown coding: ${headers['content-encoding']}`)
  }
}

/** Replies of bytes, in the coding the caller likes best. */
import type { Context } from 'hono'
import { codingFor, encoded, encodedStream, type Coding } from './encoding.ts'

/** A JSON document. */
export async function jsonReply(c: Context, text: string | Uint8Array): Promise<Response> {
  return bytesReply(c, typeof text === 'string' ? new TextEncoder().encode(text) : text, {
    'content-type': 'application/json',
  })
}

/** Bytes that go in one packet: to compress what a worker is told takes longer than all else that is done for its reply. */
const onePacket = 1400

/** Bytes in the coding the caller likes best. */
export async function bytesReply(
  c: Context,
  bytes: Uint8Array,
  headers: Record<string, string>,
): Promise<Response> {
  const isTiny = c.req.method === 'POST' && bytes.length <= onePacket
  const coding = codingFor(c.req.header('accept-encoding'), isTiny)
  const sent = await encoded(bytes, coding)
  const told = coding === 'identity' ? headers : { ...headers, 'content-encoding': coding }
  return new Response(sent as Uint8Array<ArrayBuffer>, {
    headers: { ...told, vary: 'accept-encoding', 'content-length': String(sent.length) },
  })
}

/** The same of bytes that come in parts: one part is sent as it is, many are passed on as they come. */
export async function partsReply(
  c: Context,
  parts: AsyncGenerator<Uint8Array>,
  headers: Record<string, string>,
): Promise<Response> {
  const coding = codingFor(c.req.header('accept-encoding'))
  const first = await parts.next()
  const second = await parts.next()
  if (second.done === true) return bytesReply(c, first.value ?? new Uint8Array(0), headers)
  const all = async function* (): AsyncGenerator<Uint8Array> {
    yield first.value as Uint8Array // there is a second one
    yield second.value
    yield* parts
  }
  return streamReply(encodedStream(all(), coding), coding, headers)
}

/** Bytes that are made while they are sent, and already are in a coding. */
export function streamReply(
  body: ReadableStream<Uint8Array>,
  coding: Coding,
  headers: Record<string, string>,
): Response {
  const told = coding === 'identity' ? headers : { ...headers, 'content-encoding': coding }
  return new Response(body as ReadableStream<Uint8Array<ArrayBuffer>>, {
    headers: { ...told, vary: 'accept-encoding' },
  })
}

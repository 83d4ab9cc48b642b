/** Replies from what is kept as zstd frames: logs, diffs and attestations, which never change. */
import type { Context } from 'hono'
import { sizeOfFrame } from '../zstd-frames.ts'
import { acceptsZstd, codingFor, encodedStream, type Coding } from './encoding.ts'
import { partsWithin, rangeAsked, rangeWithin, type AskedRange } from './ranges.ts'
import { partsReply } from './replies.ts'
import { isTagKnown } from './revision.ts'

/** A kept zstd frame, for endpoints that reply with bytes. */
export type Frame = {
  frame: Uint8Array
  /** Of the frame: what it is known by. */
  sha256: string
  plain: () => AsyncGenerator<Uint8Array>
  /** In place of ours, or beside them. */
  headers?: Readonly<Record<string, string>>
}

/** Plain bytes of which parts are given: for the last one all before it are unpacked, so it must not be a gigabyte. */
const longestParted = 64 * 1024 * 1024

/**
 * A kept frame: as it lies on disk where the caller takes zstd, else unpacked. Of both a part can be asked for, and
 * whoever has it already is told so.
 */
export async function frameReply(c: Context, type: string, kept: Frame): Promise<Response> {
  const { frame, sha256, plain, headers: own } = kept
  const accepted = c.req.header('accept-encoding')
  const coding = acceptsZstd(accepted) ? 'zstd' : codingFor(accepted)
  const named = { etag: tagOf(sha256, coding), 'cache-control': 'no-cache', vary: 'accept-encoding' }
  if (isTagKnown(c.req.header('if-none-match'), named.etag))
    return new Response(null, { status: 304, headers: named })
  const size = coding === 'zstd' ? frame.length : coding === 'identity' ? sizeOfFrame(frame) : null
  const isParted = coding === 'zstd' || (coding === 'identity' && (size ?? 0) <= longestParted)
  const headers: Record<string, string> = {
    'content-type': type,
    'x-content-type-options': 'nosniff',
    'content-security-policy': "default-src 'none'",
    ...own,
    ...named,
    'accept-ranges': isParted ? 'bytes' : 'none',
    ...(coding === 'identity' ? {} : { 'content-encoding': coding }),
  }
  const whole = size === null ? headers : { ...headers, 'content-length': String(size) }
  if (c.req.method === 'HEAD') return new Response(null, { headers: whole })
  const asked = isParted ? rangeAsked(c.req.header('range'), c.req.header('if-range'), named.etag) : null
  const total = asked === null ? null : (size ?? (await sizeUpTo(plain(), longestParted)))
  if (asked !== null && total !== null) return partReply({ ...kept, coding }, { asked, total, headers })
  if (coding === 'zstd') return new Response(frame as Uint8Array<ArrayBuffer>, { headers: whole })
  return partsReply(c, plain(), whole)
}

/** Names these bytes for ever; what is compressed anew for each caller only as something that says the same. */
function tagOf(sha256: string, coding: Coding): string {
  if (coding === 'zstd') return `"${sha256}"`
  return coding === 'identity' ? `"${sha256}-plain"` : `W/"${sha256}-${coding}"`
}

/** A part, or that there is none. */
function partReply(
  { frame, plain, coding }: Frame & { coding: Coding },
  { asked, total, headers }: { asked: AskedRange; total: number; headers: Record<string, string> },
): Response {
  const range = rangeWithin(asked, total)
  if (range === null) {
    const told = { 'content-type': 'text/plain; charset=utf-8', 'content-range': `bytes */${total}` }
    return new Response(`there are ${total} bytes, and none of those that were asked for`, {
      status: 416,
      headers: { ...told, vary: 'accept-encoding' },
    })
  }
  const { first, last } = range
  const told = {
    ...headers,
    'content-range': `bytes ${first}-${last}/${total}`,
    'content-length': String(last - first + 1),
  }
  const body =
    coding === 'zstd'
      ? (frame.subarray(first, last + 1) as Uint8Array<ArrayBuffer>)
      : (encodedStream(partsWithin(plain(), range), 'identity') as ReadableStream<Uint8Array<ArrayBuffer>>)
  return new Response(body, { status: 206, headers: told })
}

/** How many bytes there are; null where they are more than `most`. */
async function sizeUpTo(parts: AsyncIterable<Uint8Array>, most: number): Promise<number | null> {
  let size = 0
  for await (const part of parts) {
    size += part.length
    if (size > most) return null
  }
  return size
}

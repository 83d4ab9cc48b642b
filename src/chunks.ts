import { Complaint } from './errors.ts'

type Chunks = AsyncIterable<Uint8Array>

/** The first `size` bytes or a few more, fewer where there are no more; and the same input again from its start. */
export async function peeked(chunks: Chunks, size: number): Promise<{ first: Uint8Array; all: Chunks }> {
  const source = chunks[Symbol.asyncIterator]()
  let first: Uint8Array = new Uint8Array(0)
  while (first.length < size) {
    const { done, value } = await source.next()
    if (done === true) break
    first = first.length === 0 ? value : Buffer.concat([first, value])
  }
  return { first, all: continued(first, source) }
}

/** How long an input may be, and what it is, for the message. */
type Bound = { limit: number; what: string }

/**
 * All of an input, as one piece.
 * @throws Complaint where it is longer than `limit` bytes
 */
export async function wholeOf(chunks: Chunks, bound?: Bound): Promise<Buffer> {
  const parts: Uint8Array[] = []
  let size = 0
  for await (const part of chunks) {
    size += part.length
    if (bound !== undefined && size > bound.limit)
      throw new Complaint(`${bound.what} is longer than ${bound.limit} bytes`)
    parts.push(part)
  }
  const [only] = parts
  return parts.length === 1 && only !== undefined ? asBuffer(only) : Buffer.concat(parts)
}

/** Bytes that were read already, then the rest. */
export async function* continued(
  first: Uint8Array,
  rest: AsyncIterator<Uint8Array>,
): AsyncGenerator<Uint8Array> {
  try {
    if (first.length > 0) yield first
    for (let next = await rest.next(); next.done !== true; next = await rest.next()) yield next.value
  } finally {
    await rest.return?.()
  }
}

/** The same bytes, not copied. */
export function asBuffer(bytes: Uint8Array): Buffer {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length)
}

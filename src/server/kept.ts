import { Readable, type Transform } from 'node:stream'
import { pipeline } from 'node:stream/promises'
import { createZstdDecompress } from 'node:zlib'
import type { Context } from 'hono'
import { wholeOf } from '../chunks.ts'
import { isToldAgain } from './costly.ts'
import { codingFor, compressorFor, type Coding } from './encoding.ts'
import { describe, type Revision } from './revision.ts'
import { putNewest } from './newest.ts'

/** Milliseconds: a list that took longer to make is given out again for a while. */
const costly = 50

type Kept = {
  revision: Revision
  madeAt: number
  took: number
  size: number
  codings: Map<Coding, Promise<Uint8Array>>
}

/**
 * Long lists, kept as compressed bytes for as long as the data they show is the same: making one costs far more
 * than sending it. However many ask at once, each is made once.
 * @param most how many lists are kept
 */
export function keeper(most: number) {
  const kept = new Map<string, Promise<Kept>>()

  const make = async (revision: Revision, text: () => AsyncIterable<string>): Promise<Kept> => {
    const start = performance.now()
    let size = 0
    const bytes = async function* (): AsyncGenerator<Buffer> {
      for await (const part of text()) {
        const piece = Buffer.from(part)
        size += piece.length
        yield piece
      }
    }
    const frame = await gathered(bytes(), compressorFor('zstd'))
    const madeAt = performance.now()
    return {
      revision,
      madeAt,
      took: madeAt - start,
      size,
      codings: new Map([['zstd', Promise.resolve(frame)]]),
    }
  }

  const isFresh = (list: Kept, { tag }: Revision): boolean =>
    list.revision.tag === tag || isToldAgain(costly, list.took, list.madeAt)

  const fetch = async (key: string, revision: Revision, text: () => AsyncIterable<string>): Promise<Kept> => {
    const known = await kept.get(key)?.catch(() => undefined)
    if (known !== undefined && isFresh(known, revision)) return known
    const pending = kept.get(key)
    const others = pending === undefined ? undefined : await pending.catch(() => undefined)
    if (others !== undefined && others !== known && isFresh(others, revision)) return others
    const making = make(revision, text)
    putNewest(kept, key, making, most)
    return making
  }

  /** A reply with the list, in the coding the caller likes best. */
  return async (
    c: Context,
    key: string,
    revision: Revision,
    type: string,
    text: () => AsyncIterable<string>,
  ): Promise<Response> => {
    const coding = codingFor(c.req.header('accept-encoding'))
    const list = await fetch(key, revision, text)
    const headers = { 'content-type': type, vary: 'accept-encoding' }
    const frame = (await list.codings.get('zstd')) ?? new Uint8Array()
    if (coding === 'identity') {
      const plain = Readable.toWeb(Readable.from([frame]).pipe(createZstdDecompress()))
      const told = { ...headers, 'content-length': String(list.size) }
      return described(new Response(plain as ReadableStream<Uint8Array>, { headers: told }), list.revision)
    }
    const bytes = await (list.codings.get(coding) ?? recoded(list, frame, coding))
    const told = { ...headers, 'content-encoding': coding, 'content-length': String(bytes.length) }
    return described(new Response(bytes as Uint8Array<ArrayBuffer>, { headers: told }), list.revision)
  }
}

function described(reply: Response, revision: Revision): Response {
  describe(reply, revision)
  return reply
}

/** The same list in another coding, kept from now on. */
function recoded(list: Kept, frame: Uint8Array, coding: Exclude<Coding, 'identity'>): Promise<Uint8Array> {
  const made = gathered(Readable.from([frame]), createZstdDecompress(), compressorFor(coding))
  list.codings.set(coding, made)
  return made
}

/** What comes out at the end, whole; a list that is on its way is never there in plain. */
async function gathered(
  from: AsyncIterable<Uint8Array>,
  ...through: readonly Transform[]
): Promise<Uint8Array> {
  let whole: Uint8Array = new Uint8Array(0)
  await pipeline([
    from,
    ...through,
    async (pieces: AsyncIterable<Uint8Array>) => {
      whole = await wholeOf(pieces)
    },
  ])
  return whole
}

import { Complaint } from '../../errors.ts'

/** What apt keeps its lists in on small systems (github.com/lz4/lz4/blob/dev/doc/lz4_Frame_format.md). */
function isLz4(bytes: Uint8Array): boolean {
  return bytes[0] === 0x04 && bytes[1] === 0x22 && bytes[2] === 0x4d && bytes[3] === 0x18
}

const history = 64 * 1024
const largestBlocks: Readonly<Record<number, number>> = { 4: 1 << 16, 5: 1 << 18, 6: 1 << 20, 7: 1 << 22 }

/**
 * The plain bytes of one frame, block by block, each good until the next is asked for. Its checksums are not looked at: what is read from it are hashes that
 * signatures are compared with, so that damage can only lose a proof and never make one.
 * @throws Complaint where it is cut short or malformed
 */
export async function* unlz4(chunks: AsyncIterable<Uint8Array>, what: string): AsyncGenerator<Uint8Array> {
  const source = chunks[Symbol.asyncIterator]()
  try {
    yield* blocksOf(taker(source, what), what)
  } finally {
    await source.return?.()
  }
}

async function* blocksOf(take: Take, what: string): AsyncGenerator<Uint8Array> {
  const head = await take(7)
  const flags = head[4] ?? 0
  const largest = largestBlocks[((head[5] ?? 0) >> 4) & 7]
  if (!isLz4(head) || flags >> 6 !== 1 || largest === undefined) {
    throw new Complaint(`${what} is no lz4 frame that we know`)
  }
  await take(((flags & 0x08) === 0 ? 0 : 8) + ((flags & 0x01) === 0 ? 0 : 4))
  const trailer = (flags & 0x10) === 0 ? 0 : 4
  const window = Buffer.alloc(history + largest)
  let kept = 0 // bytes of the window that earlier blocks left
  for (;;) {
    const word = (await take(4)).readUInt32LE(0)
    if (word === 0) return
    const size = word & 0x7fffffff
    if (size > largest) throw cutShort(what)
    const block = await take(size)
    const end = word >= 0x80000000 ? kept + block.copy(window, kept) : expanded(block, window, kept, what)
    yield window.subarray(kept, end)
    const rest = Math.min(history, end)
    window.copyWithin(0, end - rest, end)
    kept = rest
    await take(trailer)
  }
}

/** Hands out as many bytes as are asked for, however they arrive; they are good until the next are asked for. */
type Take = (length: number) => Promise<Buffer>

function taker(source: AsyncIterator<Uint8Array>, what: string): Take {
  let held = Buffer.alloc(256 * 1024)
  let [from, to] = [0, 0]
  return async (length) => {
    while (to - from < length) {
      const { done, value } = await source.next()
      if (done === true) throw cutShort(what)
      held.copyWithin(0, from, to)
      to -= from
      from = 0
      if (to + value.length > held.length) {
        const larger = Buffer.alloc(2 * (to + value.length))
        held.copy(larger, 0, 0, to)
        held = larger
      }
      held.set(value, to)
      to += value.length
    }
    from += length
    return held.subarray(from - length, from)
  }
}

/** Bytes that are copied one by one in less time than it takes to ask the engine to. */
const fewBytes = 48

/** One block (…/lz4_Block_format.md): literals, then a match in what came before, again and again. @returns its end */
function expanded(block: Uint8Array, window: Buffer, start: number, what: string): number {
  const size = block.length
  let from = 0
  let to = start
  while (from < size) {
    const token = block[from++] ?? 0
    let literals = token >> 4
    if (literals === 15) {
      for (let byte = 255; byte === 255; literals += byte) byte = block[from++] ?? 0
    }
    const rest = from + literals
    if (rest > size || to + literals > window.length) throw cutShort(what)
    if (literals > fewBytes) window.set(block.subarray(from, rest), to)
    else for (let i = 0; i < literals; i++) window[to + i] = block[from + i] ?? 0
    from = rest
    to += literals
    if (from >= size) return to
    const offset = (block[from] ?? 0) | ((block[from + 1] ?? 0) << 8)
    from += 2
    let match = (token & 15) + 4
    if (match === 19) {
      for (let byte = 255; byte === 255; match += byte) byte = block[from++] ?? 0
    }
    if (offset === 0 || offset > to || to + match > window.length) throw cutShort(what)
    if (match > fewBytes && offset >= match) window.copyWithin(to, to - offset, to - offset + match)
    else for (let i = 0; i < match; i++) window[to + i] = window[to + i - offset] ?? 0
    to += match
  }
  return to
}

function cutShort(what: string): Complaint {
  return new Complaint(`${what} is cut short or damaged`)
}

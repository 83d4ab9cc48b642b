import { Complaint } from '../../errors.ts'

/** What apt keeps its lists in on small systems (github.com/lz4/lz4/blob/dev/doc/lz4_Frame_format.md). */
export function isLz4(bytes: Uint8Array): boolean {
  return bytes[0] === 0x04 && bytes[1] === 0x22 && bytes[2] === 0x4d && bytes[3] === 0x18
}

const history = 64 * 1024
const largestBlocks: Readonly<Record<number, number>> = { 4: 1 << 16, 5: 1 << 18, 6: 1 << 20, 7: 1 << 22 }

/**
 * The plain bytes of one frame, block by block. Its checksums are not looked at: what is read from it are hashes that
 * signatures are compared with, so that damage can only lose a proof and never make one.
 * @throws Complaint where it is cut short or malformed
 */
export function* unlz4(input: Uint8Array, what: string): Generator<Uint8Array> {
  const bytes = Buffer.from(input.buffer, input.byteOffset, input.byteLength)
  const flags = bytes[4] ?? 0
  const largest = largestBlocks[((bytes[5] ?? 0) >> 4) & 7]
  if (!isLz4(bytes) || flags >> 6 !== 1 || largest === undefined) {
    throw new Complaint(`${what} is no lz4 frame that we know`)
  }
  let at = 7 + ((flags & 0x08) === 0 ? 0 : 8) + ((flags & 0x01) === 0 ? 0 : 4)
  const trailer = (flags & 0x10) === 0 ? 0 : 4
  const window = Buffer.alloc(history + largest)
  let kept = 0 // bytes of the window that earlier blocks left
  for (;;) {
    if (at + 4 > bytes.length) throw cutShort(what)
    const head = bytes.readUInt32LE(at)
    if (head === 0) return
    const block = bytes.subarray(at + 4, at + 4 + (head & 0x7fffffff))
    if (block.length < (head & 0x7fffffff) || block.length > largest) throw cutShort(what)
    const end = head >= 0x80000000 ? kept + block.copy(window, kept) : expanded(block, window, kept, what)
    yield Buffer.from(window.subarray(kept, end))
    const rest = Math.min(history, end)
    window.copyWithin(0, end - rest, end)
    kept = rest
    at += 4 + block.length + trailer
  }
}

/** One block (…/lz4_Block_format.md): literals, then a match in what came before, again and again. @returns its end */
function expanded(block: Uint8Array, window: Buffer, start: number, what: string): number {
  let from = 0
  let to = start
  const length = (nibble: number): number => {
    if (nibble < 15) return nibble
    let sum = nibble
    for (let byte = 255; byte === 255;) {
      byte = block[from++] ?? 0
      sum += byte
    }
    return sum
  }
  while (from < block.length) {
    const token = block[from++] ?? 0
    const literals = length(token >> 4)
    if (from + literals > block.length || to + literals > window.length) throw cutShort(what)
    window.set(block.subarray(from, from + literals), to)
    from += literals
    to += literals
    if (from >= block.length) return to
    const offset = (block[from] ?? 0) | ((block[from + 1] ?? 0) << 8)
    from += 2
    const match = length(token & 15) + 4
    if (offset === 0 || offset > to || to + match > window.length) throw cutShort(what)
    if (offset >= match) window.copyWithin(to, to - offset, to - offset + match)
    else for (let i = 0; i < match; i++) window[to + i] = window[to + i - offset] ?? 0
    to += match
  }
  return to
}

function cutShort(what: string): Complaint {
  return new Complaint(`${what} is cut short or damaged`)
}

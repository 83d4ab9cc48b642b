import { Complaint } from './errors.ts'

/** More than any block of 900,000 bytes takes: with this much at hand a block is decoded without waiting. */
const blockRoom = 1_500_000
const blockMagic = 0x314159265359
const endMagic = 0x177245385090
const runA = 0
const runB = 1

/**
 * Plain bytes of a .bz2 file of one or several streams. Our own, because the known packages are unmaintained, and
 * hang or pass in silence on hostile input (format: Joe Tsai, "BZIP2: Format Specification").
 * @throws Complaint where the file is cut short, damaged or followed by something else
 */
export async function* bunzipped(
  chunks: AsyncIterable<Uint8Array>,
  what: string,
): AsyncGenerator<Uint8Array> {
  const input = blockInput(chunks)
  try {
    for (let isFirst = true; await input.fill(); isFirst = false) {
      const size = await inSync(what, () => blockSizeOf(input.bits, what, isFirst))
      yield* oneStream(input, size, what)
    }
  } finally {
    await input.close()
  }
}

/** Thrown by the bit reader, and caught where the file's name is known. */
const cutShort = new Error('cut short')

async function inSync<T>(what: string, work: () => T): Promise<T> {
  try {
    return work()
  } catch (error) {
    if (error === cutShort) throw new Complaint(`${what} is cut short`)
    throw error
  }
}

/** 100,000 to 900,000; leaves the reader behind the four bytes of the header. */
function blockSizeOf(bits: Bits, what: string, isFirst: boolean): number {
  const level = bits.read(24) === 0x425a68 ? bits.read(8) - 0x30 : 0
  if (level >= 1 && level <= 9) return level * 100_000
  throw isFirst
    ? new Complaint(`${what} is damaged (no bzip2 header)`)
    : new Complaint(`${what} has bytes that do not belong to it at its end`)
}

async function* oneStream(input: BlockInput, blockSize: number, what: string): AsyncGenerator<Uint8Array> {
  let crc = 0
  for (;;) {
    await input.fill()
    const block = await inSync(what, () => decodedBlock(input.bits, blockSize, what))
    if (block === null) break
    crc = ((crc << 1) | (crc >>> 31)) ^ block.crc
    let found = 0xffffffff
    for (const piece of unrun(block.bytes)) {
      found = crcOver(found, piece)
      yield piece
    }
    if (~found !== block.crc) throw new Complaint(`${what} is damaged (checksum of a block)`)
  }
  if ((await inSync(what, () => input.bits.read(32))) !== crc >>> 0) {
    throw new Complaint(`${what} is damaged (checksum of the stream)`)
  }
  input.bits.align()
}

type BlockInput = ReturnType<typeof blockInput>

function blockInput(chunks: AsyncIterable<Uint8Array>) {
  const source = chunks[Symbol.asyncIterator]()
  const bits = bitReader()
  let isOver = false
  return {
    bits,
    /** Whether anything is left, after reading ahead as far as a block may reach. */
    async fill(): Promise<boolean> {
      const parts: Uint8Array[] = []
      for (let had = bits.left(); had < blockRoom && !isOver;) {
        const next = await source.next()
        if (next.done === true) isOver = true
        else parts.push(next.value)
        had += next.done === true ? 0 : next.value.length
      }
      if (parts.length > 0) bits.append(parts)
      return bits.left() > 0
    },
    close: async (): Promise<void> => {
      await source.return?.()
    },
  }
}

type Bits = ReturnType<typeof bitReader>

function bitReader() {
  let bytes: Uint8Array = new Uint8Array(0)
  let at = 0
  let held = 0
  let heldBits = 0
  /** At most 24 bits. */
  const few = (count: number): number => {
    while (heldBits < count) {
      const byte = bytes[at++]
      if (byte === undefined) throw cutShort
      held = ((held << 8) | byte) & 0xffffffff
      heldBits += 8
    }
    heldBits -= count
    return (held >>> heldBits) & ((1 << count) - 1)
  }
  return {
    read: (count: number): number => (count <= 24 ? few(count) : few(count - 24) * 2 ** 24 + few(24)),
    align(): void {
      heldBits -= heldBits % 8
    },
    left: (): number => bytes.length - at + (heldBits >> 3),
    append(parts: readonly Uint8Array[]): void {
      bytes = Buffer.concat([bytes.subarray(at), ...parts])
      at = 0
    },
  }
}

type Block = { crc: number; bytes: Uint8Array }

/** One block before its runs are unpacked; null at the end of the stream. */
function decodedBlock(bits: Bits, blockSize: number, what: string): Block | null {
  const magic = bits.read(24) * 2 ** 24 + bits.read(24)
  if (magic === endMagic) return null
  if (magic !== blockMagic) throw new Complaint(`${what} is damaged (no block where one should start)`)
  const crc = bits.read(32) | 0
  if (bits.read(1) === 1) throw new Complaint(`${what} is of a bzip2 older than 0.9.5`)
  const origin = bits.read(24)
  const symbols = usedBytes(bits)
  const trees = bits.read(3)
  const count = bits.read(15)
  if (symbols.length === 0 || trees < 2 || trees > 6 || count === 0) throw damaged(what)
  const selectors = selectorsOf(bits, trees, count, what)
  const tables = Array.from({ length: trees }, () => huffmanTable(bits, symbols.length + 2, what))
  const sorted = unmoved(bits, { symbols, selectors, tables, blockSize, what })
  if (origin >= sorted.length) throw damaged(what)
  return { crc, bytes: unsorted(sorted, origin) }
}

function damaged(what: string): Complaint {
  return new Complaint(`${what} is damaged`)
}

/** The byte values that occur, from a map of maps. */
function usedBytes(bits: Bits): number[] {
  const rows = bits.read(16)
  const used: number[] = []
  for (let row = 0; row < 16; row++) {
    if (((rows >> (15 - row)) & 1) === 0) continue
    const columns = bits.read(16)
    for (let column = 0; column < 16; column++) {
      if (((columns >> (15 - column)) & 1) === 1) used.push(row * 16 + column)
    }
  }
  return used
}

/** Which table decodes which 50 symbols; written as moves to the front. */
function selectorsOf(bits: Bits, trees: number, count: number, what: string): Uint8Array {
  const order = Array.from({ length: trees }, (_, tree) => tree)
  const selectors = new Uint8Array(count)
  for (let i = 0; i < count; i++) {
    let place = 0
    while (bits.read(1) === 1) if (++place >= trees) throw damaged(what)
    const [tree = 0] = order.splice(place, 1)
    order.unshift(tree)
    selectors[i] = tree
  }
  return selectors
}

/** For each code length: the last code of it, and what to add to a code to find its place among the symbols. */
type Table = { shortest: number; last: Int32Array; shift: Int32Array; symbols: number[] }

const longestCode = 20

function huffmanTable(bits: Bits, alphabet: number, what: string): Table {
  const lengths = codeLengths(bits, alphabet, what)
  const last = new Int32Array(longestCode + 2).fill(-1)
  const shift = new Int32Array(longestCode + 2)
  const symbols: number[] = []
  let code = 0
  for (let length = 1; length <= longestCode; length++) {
    shift[length] = symbols.length - code
    for (let symbol = 0; symbol < alphabet; symbol++) if (lengths[symbol] === length) symbols.push(symbol)
    code = symbols.length - (shift[length] ?? 0)
    last[length] = code - 1
    code <<= 1
  }
  return { shortest: Math.min(...lengths), last, shift, symbols }
}

function codeLengths(bits: Bits, alphabet: number, what: string): number[] {
  let length = bits.read(5)
  return Array.from({ length: alphabet }, () => {
    for (;;) {
      if (length < 1 || length > longestCode) throw damaged(what)
      if (bits.read(1) === 0) return length
      length += bits.read(1) === 0 ? 1 : -1
    }
  })
}

function nextSymbol(bits: Bits, table: Table, what: string): number {
  let length = table.shortest
  let code = bits.read(length)
  while (code > (table.last[length] ?? -1)) {
    if (++length > longestCode) throw damaged(what)
    code = (code << 1) | bits.read(1)
  }
  const symbol = table.symbols[code + (table.shift[length] ?? 0)]
  if (symbol === undefined) throw damaged(what)
  return symbol
}

type Coded = { symbols: number[]; selectors: Uint8Array; tables: Table[]; blockSize: number; what: string }

/** Huffman codes → runs and moves to the front → the sorted block. */
function unmoved(bits: Bits, { symbols, selectors, tables, blockSize, what }: Coded): Uint8Array {
  const out = new Uint8Array(blockSize)
  const order = [...symbols]
  const end = symbols.length + 1
  let size = 0
  let run = 0
  let weight = 1
  for (let coded = 0; ; coded++) {
    const table = tables[selectors[Math.floor(coded / 50)] ?? -1]
    if (table === undefined) throw damaged(what)
    const symbol = nextSymbol(bits, table, what)
    if (symbol === runA || symbol === runB) {
      run += symbol === runA ? weight : 2 * weight
      weight *= 2
      if (run > blockSize - size) throw damaged(what)
      continue
    }
    out.fill(order[0] ?? 0, size, size + run)
    size += run
    run = 0
    weight = 1
    if (symbol === end) return out.subarray(0, size)
    if (size >= blockSize) throw damaged(what)
    const [byte = 0] = order.splice(symbol - 1, 1)
    order.unshift(byte)
    out[size++] = byte
  }
}

/** Undoes the Burrows-Wheeler transform. */
function unsorted(sorted: Uint8Array, origin: number): Uint8Array {
  const starts = new Uint32Array(257)
  for (const byte of sorted) starts[byte + 1] = (starts[byte + 1] ?? 0) + 1
  for (let byte = 0; byte < 256; byte++) starts[byte + 1] = (starts[byte + 1] ?? 0) + (starts[byte] ?? 0)
  const next = new Uint32Array(sorted.length)
  for (const [place, byte] of sorted.entries()) {
    const start = starts[byte] ?? 0
    next[start] = place
    starts[byte] = start + 1
  }
  const out = new Uint8Array(sorted.length)
  let place = next[origin] ?? 0
  for (let i = 0; i < out.length; i++) {
    out[i] = sorted[place] ?? 0
    place = next[place] ?? 0
  }
  return out
}

/** After four equal bytes a count of more of them follows; in pieces, since 900 kB may stand for 46 MB. */
function* unrun(bytes: Uint8Array): Generator<Uint8Array> {
  let piece = new Uint8Array(1 << 16)
  let size = 0
  let equal = 0
  let before = -1
  for (const byte of bytes) {
    if (size + 256 > piece.length) {
      yield piece.subarray(0, size)
      piece = new Uint8Array(1 << 16)
      size = 0
    }
    if (equal === 4) {
      piece.fill(before, size, size + byte)
      size += byte
      equal = 0
      before = -1
      continue
    }
    equal = byte === before ? equal + 1 : 1
    before = byte
    piece[size++] = byte
  }
  yield piece.subarray(0, size)
}

/** CRC-32 as bzip2 has it: most significant bit first. */
const crcTable = Int32Array.from({ length: 256 }, (_, byte) => {
  let crc = byte << 24
  for (let bit = 0; bit < 8; bit++) crc = crc < 0 ? (crc << 1) ^ 0x04c11db7 : crc << 1
  return crc
})

function crcOver(before: number, bytes: Uint8Array): number {
  let crc = before
  for (const byte of bytes) crc = (crc << 8) ^ (crcTable[(crc >>> 24) ^ byte] ?? 0)
  return crc
}

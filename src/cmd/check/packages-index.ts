import { Complaint } from '../../errors.ts'
import { stanzasIn } from '../../sync/deb822.ts'

/** One entry of a `Packages` index (wiki.debian.org/DebianRepository/Format#A.22Packages.22_Indices). */
type Entry = { name: string; version: string; architecture: string; sha256: string }

const longestStanza = 4 * 1024 * 1024
const gap = Buffer.from('\n\n')
const head = Buffer.from('Package: ')
const lineEnd = 10
const blank = 32
const hardBlank = 160
const fields = ['Package', 'Version', 'Architecture', 'SHA256'] as const

/**
 * Entries of packages with these names. An index has tens of thousands of stanzas, of which a system has one in
 * twenty: the others are passed over as bytes, and everything is read through one buffer that is used again.
 * @param chunks may be used again by whoever makes them
 * @throws Complaint where a stanza is malformed or endless
 */
export async function* wantedEntries(
  chunks: AsyncIterable<Uint8Array>,
  names: ReadonlySet<string>,
  what: string,
): AsyncGenerator<Entry> {
  const isNamed = nameFilter(names)
  let held = Buffer.alloc(256 * 1024)
  let used = 0
  for await (const chunk of chunks) {
    held = withRoom(held, used, chunk.length, what)
    held.set(chunk, used)
    const text = held.subarray(0, used + chunk.length)
    let start = 0
    let end = text.indexOf(gap, Math.max(0, used - 1)) // there was none in what came before
    used = text.length
    while (end >= 0) {
      if (isWanted(text, start, end, isNamed)) yield* entriesOf(text.subarray(start, end + 1), what)
      start = end + gap.length
      end = text.indexOf(gap, start)
    }
    held.copyWithin(0, start, used)
    used -= start
  }
  if (isWanted(held, 0, used, isNamed)) yield* entriesOf(held.subarray(0, used), what)
}

function withRoom(held: Buffer<ArrayBuffer>, used: number, more: number, what: string): Buffer<ArrayBuffer> {
  if (used > longestStanza) throw new Complaint(`${what} has a stanza that is too long`)
  if (used + more <= held.length) return held
  const larger = Buffer.alloc(2 * (used + more))
  held.copy(larger, 0, 0, used)
  return larger
}

type NameFilter = (text: Buffer, from: number, to: number) => boolean

/** Whether a name may be one of these, by a sum of its bytes: no text is made of those that are none. */
function nameFilter(names: ReadonlySet<string>): NameFilter {
  const sums = new Uint8Array(1 << 16)
  const sumOf = (text: Buffer, from: number, to: number): number => {
    let sum = 0
    for (let at = from; at < to; at++) sum = (sum * 31 + (text[at] ?? 0)) & 0xffff
    return sum
  }
  for (const name of names) {
    const bytes = Buffer.from(name, 'latin1')
    sums[sumOf(bytes, 0, bytes.length)] = 1
  }
  return (text, from, to) => sums[sumOf(text, from, to)] === 1 && names.has(text.toString('latin1', from, to))
}

/** Where the name is not on the first line, or not alone there, a closer look is taken. */
function isWanted(text: Buffer, start: number, end: number, isNamed: NameFilter): boolean {
  if (end - start < head.length) return false
  for (let at = 0; at < head.length; at++) if (text[start + at] !== head[at]) return true
  let to = start + head.length
  for (; to < end && text[to] !== lineEnd; to++) {
    if ((text[to] ?? 0) <= blank || text[to] === hardBlank) return true
  }
  return isNamed(text, start + head.length, to)
}

function* entriesOf(text: Buffer, what: string): Generator<Entry> {
  for (const { fields: found } of stanzasIn(text, { what, wanted: fields })) {
    const { Package: name = '', Version: version = '', Architecture: architecture = '', SHA256 = '' } = found
    if (/^[0-9a-f]{64}$/.test(SHA256)) yield { name, version, architecture, sha256: SHA256 }
  }
}

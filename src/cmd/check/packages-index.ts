import { Complaint } from '../../errors.ts'
import { stanzas } from '../../sync/deb822.ts'

/** One entry of a `Packages` index (wiki.debian.org/DebianRepository/Format#A.22Packages.22_Indices). */
export type Entry = { name: string; version: string; architecture: string; sha256: string }

const longestStanza = 4 * 1024 * 1024
const gap = Buffer.from('\n\n')
const head = Buffer.from('Package: ')
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
  let held = Buffer.alloc(256 * 1024)
  let used = 0
  for await (const chunk of chunks) {
    held = withRoom(held, used, chunk.length, what)
    held.set(chunk, used)
    used += chunk.length
    const text = held.subarray(0, used)
    let start = 0
    for (let end = text.indexOf(gap); end >= 0; end = text.indexOf(gap, start)) {
      if (isWanted(text.subarray(start, end), names)) yield* entriesOf(text.subarray(start, end + 1), what)
      start = end + gap.length
    }
    held.copyWithin(0, start, used)
    used -= start
  }
  const last = held.subarray(0, used)
  if (isWanted(last, names)) yield* entriesOf(last, what)
}

function withRoom(held: Buffer<ArrayBuffer>, used: number, more: number, what: string): Buffer<ArrayBuffer> {
  if (used > longestStanza) throw new Complaint(`${what} has a stanza that is too long`)
  if (used + more <= held.length) return held
  const larger = Buffer.alloc(2 * (used + more))
  held.copy(larger, 0, 0, used)
  return larger
}

/** Where the name is not on the first line, or not alone there, a closer look is taken. */
function isWanted(stanza: Buffer, names: ReadonlySet<string>): boolean {
  if (stanza.length < head.length) return false
  if (stanza.compare(head, 0, head.length, 0, head.length) !== 0) return true
  const end = stanza.indexOf(10)
  const name = stanza.toString('latin1', head.length, end < 0 ? stanza.length : end)
  return names.has(name) || /\s/.test(name)
}

async function* entriesOf(text: Buffer, what: string): AsyncGenerator<Entry> {
  for await (const { fields: found } of stanzas(only(text), { what, wanted: fields })) {
    const { Package: name = '', Version: version = '', Architecture: architecture = '', SHA256 = '' } = found
    if (/^[0-9a-f]{64}$/.test(SHA256)) yield { name, version, architecture, sha256: SHA256 }
  }
}

async function* only(text: Buffer): AsyncGenerator<Uint8Array> {
  yield Buffer.from(text) // the parser may hold on to it
}

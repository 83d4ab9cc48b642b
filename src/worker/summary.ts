import { createHash } from 'node:crypto'
import { createReadStream } from 'node:fs'
import { open, type FileHandle } from 'node:fs/promises'
import { Readable } from 'node:stream'
import { extract, type Header } from 'tar-stream'
import { decompressed } from '../compression.ts'
import { sentenceOf } from '../errors.ts'
import { areEqual, byTurns } from '../hashing.ts'
import { printable } from '../log.ts'
import { rpmParts } from './rpm-parts.ts'

const unpackedLimit = 16 * 1024 ** 3
const secondsLimit = 900

/**
 * Says in a few words where two packages begin to differ: which member, which file in it, and what about it.
 * Looks into .deb (ar), .rpm and compressed tar archives; of other files it only says that they differ.
 */
export async function summaryOf(
  original: string,
  rebuilt: string,
  file: string,
  signal: AbortSignal,
): Promise<string> {
  const limited = AbortSignal.any([signal, AbortSignal.timeout(secondsLimit * 1000)])
  try {
    const where = await firstDifference(original, rebuilt, limited)
    return `${file} differs${where === null ? '' : ` in ${printable(where).slice(0, 500)}`}`
  } catch (error) {
    signal.throwIfAborted()
    return `${file} differs; it could not be taken apart: ${printable(sentenceOf(error)).slice(0, 200)}`
  }
}

async function firstDifference(
  original: string,
  rebuilt: string,
  signal: AbortSignal,
): Promise<string | null> {
  const parts = await rpmDifference(original, rebuilt, signal)
  if (parts !== null) return parts
  const [left, right] = await Promise.all([membersOf(original), membersOf(rebuilt)])
  if (left === null || right === null) return tarDifference(wholeOf(original), wholeOf(rebuilt), signal)
  for (let i = 0; i < Math.max(left.length, right.length); i++) {
    const [a, b] = [left[i], right[i]]
    if (a === undefined || b === undefined || a.name !== b.name)
      return `its members: ${a?.name ?? 'none'} against ${b?.name ?? 'none'}`
    if (a.header !== b.header && a.size === b.size) return `the time stamp or mode of ${a.name}`
    if (await rangesDiffer(original, a, rebuilt, b, signal)) {
      const within = await tarDifference(rangeOf(original, a), rangeOf(rebuilt, b), signal)
      return within === null ? a.name : `${a.name}: ${within}`
    }
  }
  return null
}

/** Which part of two rpm packages differs; the signature does whenever another part does. null: they are none. */
async function rpmDifference(original: string, rebuilt: string, signal: AbortSignal): Promise<string | null> {
  const [left, right] = await Promise.all([rpmParts(original), rpmParts(rebuilt)])
  if (left === null || right === null) return null
  const differing: string[] = []
  for (const [i, a] of left.entries()) {
    const b = right[i]
    if (b !== undefined && (await rangesDiffer(original, a, rebuilt, b, signal))) differing.push(a.name)
  }
  const telling = differing.filter((name) => name !== 'signature')
  return `the ${(telling.length > 0 ? telling : ['signature']).join(' and the ')}`
}

// --- ar (deb(5), ar(5))

type Member = {
  readonly name: string
  readonly header: string
  readonly start: number
  readonly size: number
}

/** The members of an ar archive; null where it is none. */
async function membersOf(path: string): Promise<Member[] | null> {
  await using file = await open(path, 'r')
  const bytes = (await file.stat()).size
  if ((await readText(file, 0, 8)) !== '!<arch>\n') return null
  const members: Member[] = []
  for (let at = 8; at + 60 <= bytes && members.length < 100;) {
    const header = await readText(file, at, 60)
    const size = Number(header.slice(48, 58))
    if (!Number.isSafeInteger(size) || size < 0) break
    members.push({ name: header.slice(0, 16).trim(), header: header.slice(16, 48), start: at + 60, size })
    at += 60 + size + (size % 2)
  }
  return members
}

async function readText(file: FileHandle, position: number, length: number): Promise<string> {
  const buffer = Buffer.alloc(length)
  await file.read(buffer, 0, length, position)
  return buffer.toString('latin1')
}

type Range = { readonly start: number; readonly size: number }

function rangeOf(path: string, { start, size }: Range): AsyncIterable<Uint8Array> {
  return size === 0 ? Readable.from([]) : createReadStream(path, { start, end: start + size - 1 })
}

function wholeOf(path: string): AsyncIterable<Uint8Array> {
  return createReadStream(path)
}

async function rangesDiffer(a: string, x: Range, b: string, y: Range, signal: AbortSignal): Promise<boolean> {
  if (x.size !== y.size) return true
  await using one = await open(a, 'r')
  await using other = await open(b, 'r')
  return !(await byTurns(areEqual({ ...x, file: one.fd }, { ...y, file: other.fd }), signal))
}

async function hashOf(chunks: AsyncIterable<Uint8Array>, signal: AbortSignal): Promise<string> {
  const hash = createHash('sha256')
  for await (const chunk of chunks) {
    signal.throwIfAborted()
    hash.update(chunk)
  }
  return hash.digest('hex')
}

// --- tar

type Entry = { readonly header: Header; readonly sha256: string }

/** Where two (compressed) tar archives begin to differ; null where they do not. */
async function tarDifference(
  original: AsyncIterable<Uint8Array>,
  rebuilt: AsyncIterable<Uint8Array>,
  signal: AbortSignal,
): Promise<string | null> {
  const [left, right] = [entriesOf(original, signal), entriesOf(rebuilt, signal)]
  try {
    for (;;) {
      const [a, b] = await Promise.all([left.next(), right.next()])
      if (a.done === true && b.done === true) return 'the compression only'
      if (a.done === true || b.done === true || a.value.header.name !== b.value.header.name)
        return `the list of files: ${nameOf(a)} against ${nameOf(b)}`
      const what = differenceOf(a.value, b.value)
      if (what !== null) return `${a.value.header.name} (${what})`
    }
  } finally {
    await Promise.all([left.return(undefined), right.return(undefined)])
  }
}

function nameOf(result: IteratorResult<Entry, void>): string {
  return result.done === true ? 'none' : result.value.header.name
}

const compared = ['type', 'mode', 'uid', 'gid', 'uname', 'gname', 'linkname', 'size'] as const

function differenceOf(a: Entry, b: Entry): string | null {
  const attribute = compared.find((name) => a.header[name] !== b.header[name])
  if (attribute !== undefined) return attribute
  if (a.sha256 !== b.sha256) return 'content'
  return a.header.mtime?.getTime() === b.header.mtime?.getTime() ? null : 'time stamp'
}

async function* entriesOf(
  chunks: AsyncIterable<Uint8Array>,
  signal: AbortSignal,
): AsyncGenerator<Entry, void> {
  const unpacked = Readable.from(decompressed(chunks, { limit: unpackedLimit, what: 'the archive' }))
  const archive = extract()
  unpacked.on('error', (error) => archive.destroy(error))
  unpacked.pipe(archive)
  try {
    for await (const entry of archive) {
      signal.throwIfAborted() // there may be a million without content
      const content: AsyncIterable<Uint8Array> = Readable.from(entry) // its own types do not say what it yields
      yield { header: entry.header, sha256: await hashOf(content, signal) }
    }
  } finally {
    unpacked.destroy()
    archive.destroy()
  }
}

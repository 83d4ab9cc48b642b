import { createHash, type Hash } from 'node:crypto'
import { readSync } from 'node:fs'
import { setImmediate as turn } from 'node:timers/promises'

/**
 * Hashes of files and comparisons of two, block after block.
 *
 * Blocks are read synchronously into one buffer: what a thread of the runtime's pool has read lies in the cache of another
 * core than the one that hashes it, which costs a fifth of the time. All blocks of a thread share the buffers, because
 * nothing looks at one after its turn.
 */

/** Hashes by name, in hex, and the size in bytes. */
export type Hashes<Name extends string> = Readonly<Record<Name, string>> & { readonly size: number }

/** Fits the cache next to a core, twice. */
const blockBytes = 256 * 1024
/** Bytes after which others have their turn. */
const turnBytes = 1024 * 1024

let kept: readonly [Buffer, Buffer] | undefined
function blocks(): readonly [Buffer, Buffer] {
  return (kept ??= [Buffer.allocUnsafeSlow(blockBytes), Buffer.allocUnsafeSlow(blockBytes)])
}

/** Work in small parts; it ends between two of them. */
export type Parts<T> = Generator<undefined, T, undefined>

/** Does a part of the work in each turn of the event loop. @throws the signal's reason once aborted */
export async function byTurns<T>(parts: Parts<T>, signal?: AbortSignal): Promise<T> {
  for (;;) {
    signal?.throwIfAborted()
    const { done, value } = parts.next()
    if (done === true) return value
    await turn()
  }
}

/** Hashes an open file. */
export function* hashesOf<Name extends string>(file: number, names: readonly Name[]): Parts<Hashes<Name>> {
  const hashes = names.map((name) => createHash(name))
  const size = yield* rest(file, 0, hashes)
  const digests = names.map((name, index) => [name, hashes[index]?.digest('hex')])
  return { ...Object.fromEntries(digests), size } as Hashes<Name> // one of each name
}

export type Difference = {
  readonly original: Hashes<'sha256'>
  readonly rebuilt: Hashes<'sha256'>
  /** Offset of the first byte that differs, the shorter size where one begins with the other; null: all are equal. */
  readonly firstDifference: number | null
}

/** Compares two open files byte by byte and hashes both, in one pass: as long as they are equal, so are their hashes. */
export function* differenceOf(original: number, rebuilt: number): Parts<Difference> {
  const [left, right] = blocks()
  const same = createHash('sha256')
  for (let offset = 0; ;) {
    const x = read(original, left, offset)
    const y = read(rebuilt, right, offset)
    if (!x.equals(y)) {
      const other = same.copy()
      const firstDifference = offset + firstUnequal(x, y)
      const a = yield* rest(original, offset, [same])
      const b = yield* rest(rebuilt, offset, [other])
      return { original: digestOf(same, a), rebuilt: digestOf(other, b), firstDifference }
    }
    if (x.length === 0) {
      const both = digestOf(same, offset)
      return { original: both, rebuilt: both, firstDifference: null }
    }
    same.update(x)
    offset += x.length
    if (offset % turnBytes === 0) yield
  }
}

/** A part of an open file; it may reach beyond its end. */
type Range = { readonly file: number; readonly start: number; readonly size: number }

/** Whether two parts of open files hold the same bytes. */
export function* areEqual(a: Range, b: Range): Parts<boolean> {
  if (a.size !== b.size) return false
  const [left, right] = blocks()
  for (let offset = 0; offset < a.size;) {
    const most = Math.min(blockBytes, a.size - offset)
    const x = read(a.file, left.subarray(0, most), a.start + offset)
    const y = read(b.file, right.subarray(0, most), b.start + offset)
    if (!x.equals(y)) return false
    if (x.length < most) return true // both end here
    offset += x.length
    if (offset % turnBytes === 0) yield
  }
  return true
}

/** Hashes a file from an offset on. @returns the size of the file */
function* rest(file: number, from: number, hashes: readonly Hash[]): Parts<number> {
  const [block] = blocks()
  for (let offset = from; ;) {
    const now = read(file, block, offset)
    if (now.length === 0) return offset
    for (const hash of hashes) hash.update(now)
    offset += now.length
    if (offset % turnBytes === 0) yield
  }
}

/** A block as full as the file allows; empty at its end. */
function read(file: number, block: Buffer, offset: number): Buffer {
  let filled = 0
  while (filled < block.length) {
    const bytes = readSync(file, block, filled, block.length - filled, offset + filled)
    if (bytes === 0) break
    filled += bytes
  }
  return filled === block.length ? block : block.subarray(0, filled)
}

function firstUnequal(x: Buffer, y: Buffer): number {
  const shared = Math.min(x.length, y.length)
  for (let i = 0; i < shared; i++) if (x[i] !== y[i]) return i
  return shared
}

function digestOf(hash: Hash, size: number): Hashes<'sha256'> {
  return { sha256: hash.digest('hex'), size }
}

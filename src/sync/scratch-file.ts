import { randomBytes } from 'node:crypto'
import { closeSync, openSync, readSync, unlinkSync, writeSync } from 'node:fs'
import { join } from 'node:path'

/** Lines that are written once and read again. */
export type ScratchFile = {
  /** How many bytes are there. */
  size: () => number
  /** Takes whole lines, which are not changed any more. */
  write: (lines: Buffer) => void
  /** The lines between two places, without their ends. */
  lines: (from: number, to: number) => Generator<string>
  /** Afterwards nothing can be read or written. */
  close: () => void
}

/** Bytes that are kept in memory: a short text needs no file. */
const shortest = 1 << 20
/** Bytes that are read at once. */
const window = 1 << 15

/** A file in `folder` that nobody else sees and that goes with the process, however that ends. */
export function openScratchFile(folder: string): ScratchFile {
  const waiting: Buffer[] = []
  let inMemory = 0
  let size = 0
  let file: number | null = null
  let isClosed = false
  const opened = (): number => {
    const path = join(folder, `scratch-${process.pid}-${randomBytes(6).toString('hex')}`)
    const handle = openSync(path, 'wx+', 0o600)
    unlinkSync(path)
    return handle
  }
  /** What waits as one piece, which goes on waiting. */
  const inOne = (): Buffer => {
    if (waiting.length !== 1) waiting.splice(0, waiting.length, Buffer.concat(waiting))
    return waiting[0] ?? Buffer.alloc(0)
  }
  const settle = (): number => {
    file ??= opened()
    const bytes = inOne()
    for (let done = 0; done < bytes.length;) done += writeSync(file, bytes, done)
    waiting.length = 0
    inMemory = 0
    return file
  }
  /** Fills `into` from a place of it on; tells how many bytes there were. */
  const read = (into: Buffer, start: number, from: number, to: number): number => {
    if (isClosed) throw new Error('this list is no longer there')
    const most = Math.min(into.length - start, to - from)
    const count =
      file === null
        ? inOne().copy(into, start, from, from + most)
        : readSync(inMemory > 0 ? settle() : file, into, start, most, from)
    if (count === 0) throw new Error('a scratch file has become shorter')
    return count
  }
  return {
    size: () => size,
    write(bytes) {
      waiting.push(bytes)
      size += bytes.length
      inMemory += bytes.length
      if (inMemory > shortest) settle()
    },
    *lines(from, to) {
      let bytes = Buffer.alloc(Math.min(window, to - from))
      let used = 0
      for (let at = from; at < to;) {
        if (used === bytes.length) bytes = Buffer.concat([bytes], 2 * used)
        const count = read(bytes, used, at, to)
        at += count
        used += count
        const end = bytes.lastIndexOf(10, used - 1)
        if (end >= 0) yield* bytes.toString('utf8', 0, end).split('\n')
        bytes.copyWithin(0, end + 1, used)
        used -= end + 1
      }
    },
    close() {
      isClosed = true
      waiting.length = 0
      if (file !== null) closeSync(file)
      file = null
    },
  }
}

import { randomBytes } from 'node:crypto'
import { closeSync, openSync, readSync, unlinkSync, writeSync } from 'node:fs'
import { join } from 'node:path'

/** Lines that are written once and read again. */
export type ScratchFile = {
  /** How many bytes are there. */
  size: () => number
  /** Takes a line, without its end; there is none in it. */
  write: (line: string) => void
  /** The lines between two places, without their ends. */
  lines: (from: number, to: number) => Generator<string>
  /** Afterwards nothing can be read or written. */
  close: () => void
}

/** Bytes of memory: a short text needs no file. */
const shortest = 1 << 20
/** Bytes that are read at once. */
const window = 1 << 15

/** A file in `folder` that nobody else sees and that goes with the process, however that ends. */
export function openScratchFile(folder: string): ScratchFile {
  /** What is not in the file yet: its memory is used again and again. */
  let waiting = Buffer.alloc(0)
  let used = 0
  let size = 0
  let file: number | null = null
  let isClosed = false
  const opened = (): number => {
    const path = join(folder, `scratch-${process.pid}-${randomBytes(6).toString('hex')}`)
    const handle = openSync(path, 'wx+', 0o600)
    unlinkSync(path)
    return handle
  }
  const append = (bytes: Buffer): number => {
    file ??= opened()
    for (let done = 0; done < bytes.length;) done += writeSync(file, bytes, done)
    return file
  }
  const settle = (): number => {
    const handle = append(waiting.subarray(0, used))
    used = 0
    return handle
  }
  /** Fills `into` from a place of it on; tells how many bytes there were. */
  const read = (into: Buffer, start: number, from: number, to: number): number => {
    if (isClosed) throw new Error('this list is no longer there')
    const most = Math.min(into.length - start, to - from)
    const count =
      file === null
        ? waiting.copy(into, start, from, from + most)
        : readSync(used > 0 ? settle() : file, into, start, most, from)
    if (count === 0) throw new Error('a scratch file has become shorter')
    return count
  }
  return {
    size: () => size,
    write(line) {
      const text = `${line}\n`
      const most = text.length * 3 // no character is longer as UTF-8
      if (waiting.length === 0) waiting = Buffer.allocUnsafeSlow(shortest)
      if (used + most > waiting.length) settle()
      if (most <= waiting.length) {
        const count = waiting.write(text, used)
        used += count
        size += count
      } else {
        const bytes = Buffer.from(text)
        append(bytes)
        size += bytes.length
      }
    },
    *lines(from, to) {
      let bytes = Buffer.alloc(Math.min(window, to - from))
      let filled = 0
      for (let at = from; at < to;) {
        if (filled === bytes.length) bytes = Buffer.concat([bytes], 2 * filled)
        const count = read(bytes, filled, at, to)
        at += count
        filled += count
        const end = bytes.lastIndexOf(10, filled - 1)
        if (end >= 0) yield* bytes.toString('utf8', 0, end).split('\n')
        bytes.copyWithin(0, end + 1, filled)
        filled -= end + 1
      }
    },
    close() {
      isClosed = true
      waiting = Buffer.alloc(0)
      if (file !== null) closeSync(file)
      file = null
    },
  }
}

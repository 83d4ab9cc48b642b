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
  const settle = (): number => {
    file ??= opened()
    const bytes = Buffer.concat(waiting.splice(0))
    inMemory = 0
    for (let done = 0; done < bytes.length;) done += writeSync(file, bytes, done)
    return file
  }
  const piece = (from: number, to: number): Buffer => {
    if (isClosed) throw new Error('this list is no longer there')
    if (file === null) return Buffer.concat(waiting).subarray(from, to)
    const bytes = Buffer.alloc(Math.min(window, to - from))
    return bytes.subarray(0, readSync(inMemory > 0 ? settle() : file, bytes, 0, bytes.length, from))
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
      let rest: Buffer = Buffer.alloc(0)
      for (let at = from; at < to;) {
        const read = piece(at, to)
        if (read.length === 0) throw new Error('a scratch file has become shorter')
        at += read.length
        const bytes = rest.length === 0 ? read : Buffer.concat([rest, read])
        const end = bytes.lastIndexOf(10)
        rest = bytes.subarray(end + 1)
        if (end >= 0) yield* bytes.toString('utf8', 0, end).split('\n')
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

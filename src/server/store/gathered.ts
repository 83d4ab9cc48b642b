import fs from 'node:fs'

/** fs.readSync and fs.writeSync as we call them. */
export type Move = (fd: number, bytes: Uint8Array, offset: number, length: number, position: number) => number

/** Bytes kept back at the most. */
const most = 512 * 1024

/** The writes to one file, kept back while each goes on where the one before ended. */
export type Gathered = {
  write: Move
  /** What is kept back is read as if it were in the file. */
  read: Move
  /** @throws Error of the file system; what was kept back still is, and is written the next time. */
  flush: () => void
}

/**
 * Gathers what SQLite writes to its log: a frame is two writes, of 24 bytes and of a page, and a commit has dozens of
 * frames. Whoever syncs the file flushes it first, and what was not synced may be lost with the process as it may with
 * the power: the frames of a log count up to the first one that is missing (sqlite.org/fileformat2.html#the_write_ahead_log).
 */
export function gatherWrites(fd: number): Gathered {
  const kept = Buffer.allocUnsafeSlow(most)
  let [start, length] = [0, 0]
  const flush = (): void => {
    for (let done = 0; done < length;) done += fs.writeSync(fd, kept, done, length - done, start + done)
    length = 0
  }
  return {
    flush,
    write(_, bytes, offset, size, position) {
      if (length > 0 && (position !== start + length || length + size > most)) flush()
      if (size > most) return fs.writeSync(fd, bytes, offset, size, position)
      if (length === 0) start = position
      kept.set(bytes.subarray(offset, offset + size), length)
      length += size
      return size
    },
    read(_, bytes, offset, size, position) {
      const at = position - start
      if (at >= 0 && at + size <= length) {
        bytes.set(kept.subarray(at, at + size), offset)
        return size
      }
      if (at < length && at + size > 0) flush()
      return fs.readSync(fd, bytes, offset, size, position)
    },
  }
}

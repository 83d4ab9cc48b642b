import fs from 'node:fs'
import { gatherWrites, type Gathered, type Move } from '../gathered.ts'
import { noteWritten } from '../written.ts'

/** How the name of a database's log ends (sqlite.org/wal.html). */
const logEnding = '-wal'

/** What others have done to the files in use; null: nothing. */
let taken: string | null = null

/** What another program has done to the database while it was in use, as of the last write; null: nothing. */
export function takenAway(): string | null {
  return taken
}

/** Whether a descriptor's file is still the one at its path. */
function isAt(fd: number, path: string): boolean {
  const [ours, there] = [fs.fstatSync(fd), fs.statSync(path, { throwIfNoEntry: false })]
  return there?.ino === ours.ino && there.dev === ours.dev
}

/** `log` is what was written to a log and is not in its file yet; null for a database. */
type HostFile = { path: string; position: number; log: Gathered | null }

export type HostFiles = ReturnType<typeof openHostFiles>

/** The files of the host that SQLite has open, by descriptor. */
export function openHostFiles() {
  const files = new Map<number, HostFile>()
  return {
    add(fd: number, path: string): void {
      files.set(fd, { path, position: 0, log: path.endsWith(logEnding) ? gatherWrites(fd) : null })
    },
    /** @throws Error of the file system; the file is then still open */
    close(fd: number): void {
      files.get(fd)?.log?.flush()
      files.delete(fd)
      fs.closeSync(fd)
    },
    flush: (fd: number): void => files.get(fd)?.log?.flush(),
    position: (fd: number): number => files.get(fd)?.position ?? 0,
    moveTo(fd: number, position: number): void {
      const file = files.get(fd)
      if (file !== undefined) file.position = position
    },
    reading: (fd: number): Move => files.get(fd)?.log?.read ?? fs.readSync,
    writing: (fd: number): Move => files.get(fd)?.log?.write ?? writeNoted,
    /** Whether this is a log that others have taken away, or its database, so that what is written now is lost with the process. */
    isTakenAway(fd: number): boolean {
      const file = files.get(fd)
      if (file === undefined || file.log === null) return false
      const database = [...files].find(([, { path }]) => path + logEnding === file.path)
      return noteTakenAway([fd, file.path], database === undefined ? null : [database[0], database[1].path])
    },
  }
}

type Named = readonly [fd: number, path: string]

function noteTakenAway(log: Named, database: Named | null): boolean {
  const [fd, path] = log
  if (database !== null && !isAt(...database)) {
    taken = `the file ${database[1]} was removed or replaced while it was in use`
    // SQLite would take it for the log of whatever lies there when it is opened next, and spoil that.
    if (isAt(fd, path)) fs.renameSync(path, `${path}.of-the-one-before`)
    return true
  }
  if (!isAt(fd, path)) taken ??= `its log ${path} was removed or replaced by another program`
  return taken !== null
}

/** Writes to a database, not to its log. */
function writeNoted(fd: number, bytes: Uint8Array, offset: number, length: number, position: number): number {
  noteWritten(position, length)
  return fs.writeSync(fd, bytes, offset, length, position)
}

import { mkdirSync, readFileSync, readdirSync, rmSync, rmdirSync, statSync, type Stats } from 'node:fs'
import { Complaint } from '../../errors.ts'

/** Keeps other programs from writing to a database. */
type Barrier = { release: () => void }

/**
 * Makes a database file read-only for every other program that opens it in SQLite's usual way, such as `sqlite3`.
 * They would write into our log without our knowing, and take it away when they end. In WAL mode all of them need
 * FILE-shm as shared memory (sqlite.org/wal.html#read_only_databases); we never do, and put a folder of that name
 * there: they can read, and whatever writes is told "attempt to write a readonly database".
 * @throws Complaint where another program has the database open
 */
export function keepOthersOut(path: string): Barrier {
  const place = `${path}-shm`
  if (isLocked(path) || isLocked(place)) {
    throw new Complaint(`another program has the database ${path} open`, { hint: 'stop that one first' })
  }
  try {
    if (statSync(place, { throwIfNoEntry: false })?.isFile() === true) rmSync(place) // left by one that was killed
    mkdirSync(place, { mode: 0o700 })
  } catch {
    // it is there already, or the disk is full or read-only, which is told when the database is opened
  }
  return {
    release() {
      try {
        rmdirSync(place)
      } catch {
        // somebody has removed it, or put something there
      }
    },
  }
}

/** Whether a process holds a lock on a file (proc(5), /proc/locks); SQLite holds one as long as a database is open. */
export function isLocked(path: string): boolean {
  const found = statSync(path, { throwIfNoEntry: false })
  if (found === undefined) return false
  try {
    const lines = readFileSync('/proc/locks', 'utf8').split('\n')
    const holders = lines
      .filter((line) => line.includes(`:${found.ino} `))
      .map((line) => /(-?\d+) \S+:/.exec(line)?.[1])
    return holders.some((pid) => pid !== undefined && hasOpen(pid, found))
  } catch {
    return false
  }
}

/** Other disks have files of the same number: only what the process has open tells which one it is. */
function hasOpen(pid: string, { dev, ino }: Stats): boolean {
  try {
    return readdirSync(`/proc/${pid}/fd`).some((fd) => {
      const found = statSync(`/proc/${pid}/fd/${fd}`, { throwIfNoEntry: false })
      return found?.dev === dev && found.ino === ino
    })
  } catch (error) {
    return error instanceof Error && 'code' in error && error.code === 'EACCES' // of another user: better be careful
  }
}

import fs from 'node:fs'
import { gatherWrites, type Gathered, type Move } from './gathered.ts'
import { noteWritten } from './written.ts'

/**
 * System calls for sql.js that reach the host's disk. Unmodified sql.js keeps its files in memory; its WebAssembly
 * module imports one function per system call, and those that are given a host path (or one of our descriptors)
 * are answered here with node:fs, page by page. Anything else goes on to sql.js's own memory files.
 */

type Call = (...args: number[]) => number
/** Takes the original import, gives the one to use instead. */
type Wrap = (original: Call) => Call

/** Numbers of wasi's errno (github.com/WebAssembly/WASI, wasi_snapshot_preview1) by node's error code. */
const errnos: Readonly<Record<string, number>> = {
  EACCES: 2,
  EAGAIN: 6,
  EBADF: 8,
  EBUSY: 10,
  EDQUOT: 19,
  EEXIST: 20,
  EFBIG: 22,
  EINTR: 27,
  EINVAL: 28,
  EIO: 29,
  EISDIR: 31,
  ELOOP: 32,
  EMFILE: 33,
  ENAMETOOLONG: 37,
  ENFILE: 41,
  ENODEV: 43,
  ENOENT: 44,
  ENOSPC: 51,
  ENOTDIR: 54,
  ENOTEMPTY: 55,
  ENXIO: 60,
  EOVERFLOW: 61,
  EPERM: 63,
  EROFS: 69,
  ETXTBSY: 74,
  EXDEV: 75,
}
const EIO = 29

/** Our descriptors start here, so that they never meet those of sql.js's memory files. */
const firstDescriptor = 1 << 20

/** How the name of a database's log ends (sqlite.org/wal.html). */
const logEnding = '-wal'

/** Flag of newfstatat: do not follow a link (AT_SYMLINK_NOFOLLOW). */
const noFollow = 0x100
const F_GETFL = 3
const F_GETLK = 12
const O_RDWR = 2
const F_UNLCK = 2
/** Type of a file descriptor in wasi's fdstat: a regular file. */
const regularFile = 4

/** Writes to a database, not to its log. */
function writeNoted(fd: number, bytes: Uint8Array, offset: number, length: number, position: number): number {
  noteWritten(position, length)
  return fs.writeSync(fd, bytes, offset, length, position)
}

/** 64-bit arguments arrive as BigInt. */
function wide(value: number | bigint): number {
  return Number(value)
}

function errnoOf(error: unknown): number {
  // Never throw through WebAssembly frames: it would leave its stack unbalanced.
  const code = error instanceof Error && 'code' in error ? String(error.code) : ''
  return errnos[code] ?? EIO
}

/** Views of the module's memory, made anew when it has grown. */
function viewsOf(memory: () => WebAssembly.Memory): { bytes: () => Uint8Array; data: () => DataView } {
  let buffer: ArrayBufferLike | undefined
  let bytes = new Uint8Array(0)
  let data = new DataView(new ArrayBuffer(0))
  const refresh = (): void => {
    if (buffer === memory().buffer) return
    buffer = memory().buffer
    bytes = new Uint8Array(buffer)
    data = new DataView(buffer)
  }
  return {
    bytes: () => (refresh(), bytes),
    data: () => (refresh(), data),
  }
}

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

/**
 * The calls to put in place of sql.js's imports, by their name in Emscripten.
 * @param memory gives the module's memory; it does not exist yet when the imports are made
 */
export function hostCalls(memory: () => WebAssembly.Memory): Readonly<Record<string, Wrap>> {
  const { bytes, data } = viewsOf(memory)
  const positions = new Map<number, number>()
  /** Paths of databases and of their logs, by descriptor. */
  const [files, logs] = [new Map<number, string>(), new Map<number, string>()]
  /** What was written to a log and is not in its file yet. */
  const gathered = new Map<number, Gathered>()

  /** Whether others have taken a log or its database away, so that what is written now is lost with the process. */
  const isTakenAway = (fd: number, log: string): boolean => {
    const database = [...files].find(([, path]) => path + logEnding === log)
    if (database !== undefined && !isAt(...database)) {
      taken = `the file ${database[1]} was removed or replaced while it was in use`
      // SQLite would take it for the log of whatever lies there when it is opened next, and spoil that.
      if (isAt(fd, log)) fs.renameSync(log, `${log}.of-the-one-before`)
      return true
    }
    if (!isAt(fd, log)) taken ??= `its log ${log} was removed or replaced by another program`
    return taken !== null
  }

  const pathAt = (pointer: number): string => {
    const all = bytes()
    return Buffer.from(all.subarray(pointer, all.indexOf(0, pointer))).toString()
  }
  const guarded = (work: () => number, sign: 1 | -1): number => {
    try {
      return work()
    } catch (error) {
      return sign * errnoOf(error)
    }
  }
  /** A call whose first argument is a path; /dbfile_… are sql.js's own scratch files. */
  const byPath = (call: (path: string, ...rest: number[]) => number): Wrap => {
    return (original) =>
      (pointer = 0, ...rest) => {
        const path = pathAt(pointer)
        const isOurs = path.startsWith('/') && !path.startsWith('/dbfile_')
        return isOurs ? guarded(() => call(path, ...rest), -1) : original(pointer, ...rest)
      }
  }
  /** The same for the …at calls, whose first argument is a folder's descriptor: our paths are absolute. */
  const byPathAt = (call: (path: string, ...rest: number[]) => number): Wrap => {
    return (original) =>
      (folder = 0, pointer = 0, ...rest) =>
        byPath(call)((...args) => original(folder, ...args))(pointer, ...rest)
  }
  /** A call on a descriptor: `sign` is 1 for wasi's calls, -1 for system calls in Linux's manner. */
  const byDescriptor = (call: (fd: number, ...rest: number[]) => number, sign: 1 | -1 = -1): Wrap => {
    return (original) =>
      (fd = 0, ...rest) =>
        fd >= firstDescriptor
          ? guarded(() => call(fd - firstDescriptor, ...rest), sign)
          : original(fd, ...rest)
  }

  const writeStat = (at: number, stat: fs.Stats): number => {
    const view = data()
    for (const [index, value] of [stat.dev, stat.mode, stat.nlink, stat.uid, stat.gid, stat.rdev].entries()) {
      view.setUint32(at + 4 * index, value, true)
    }
    view.setBigInt64(at + 24, BigInt(stat.size), true)
    view.setInt32(at + 32, 4096, true)
    view.setInt32(at + 36, stat.blocks, true)
    for (const [index, ms] of [stat.atimeMs, stat.mtimeMs, stat.ctimeMs].entries()) {
      view.setBigInt64(at + 40 + 16 * index, BigInt(Math.floor(ms / 1000)), true)
      view.setUint32(at + 48 + 16 * index, Math.floor(ms % 1000) * 1e6, true)
    }
    view.setBigInt64(at + 88, BigInt(stat.ino), true)
    return 0
  }

  /** Moves bytes between a file and the buffers of an iovec list, from the descriptor's position on. */
  const transfer = (fd: number, list: number, length: number, result: number, move: Move): number => {
    const view = data()
    const start = positions.get(fd) ?? 0
    let done = 0
    for (let item = list; item < list + 8 * length; item += 8) {
      const size = view.getUint32(item + 4, true)
      if (size === 0) continue
      const moved = move(fd, bytes(), view.getUint32(item, true), size, start + done)
      done += moved
      if (moved < size) break
    }
    positions.set(fd, start + done)
    data().setUint32(result, done, true)
    return 0
  }

  return {
    __syscall_openat: byPathAt((path, flags = 0, varargs = 0) => {
      const fd = fs.openSync(path, flags, varargs === 0 ? 0 : data().getInt32(varargs, true))
      positions.set(fd, 0)
      if (path.endsWith(logEnding)) {
        logs.set(fd, path)
        gathered.set(fd, gatherWrites(fd))
      } else files.set(fd, path)
      return fd + firstDescriptor
    }),
    __syscall_faccessat: byPathAt((path, mode) => (fs.accessSync(path, mode), 0)),
    __syscall_stat64: byPath((path, at = 0) => writeStat(at, fs.statSync(path))),
    __syscall_lstat64: byPath((path, at = 0) => writeStat(at, fs.lstatSync(path))),
    __syscall_newfstatat: byPathAt((path, at = 0, flags = 0) =>
      writeStat(at, (flags & noFollow) === 0 ? fs.statSync(path) : fs.lstatSync(path)),
    ),
    __syscall_fstat64: byDescriptor((fd, at = 0) => {
      gathered.get(fd)?.flush()
      return writeStat(at, fs.fstatSync(fd))
    }),
    __syscall_unlinkat: byPathAt(
      (path, flags = 0) => (flags === 0 ? fs.unlinkSync(path) : fs.rmdirSync(path), 0),
    ),
    __syscall_rmdir: byPath((path) => (fs.rmdirSync(path), 0)),
    __syscall_mkdirat: byPathAt((path, mode) => (fs.mkdirSync(path, mode), 0)),
    __syscall_readlinkat: byPathAt((path, at = 0, size = 0) => {
      const target = Buffer.from(fs.readlinkSync(path)).subarray(0, size)
      bytes().set(target, at)
      return target.length
    }),
    __syscall_chmod: byPath((path, mode = 0) => (fs.chmodSync(path, mode), 0)),
    __syscall_fchmod: byDescriptor((fd, mode = 0) => (fs.fchmodSync(fd, mode), 0)),
    __syscall_fchown32: byDescriptor((fd, user = 0, group = 0) => (fs.fchownSync(fd, user, group), 0)),
    __syscall_utimensat: byPathAt((path) => (fs.utimesSync(path, new Date(), new Date()), 0)),
    __syscall_ftruncate64: byDescriptor((fd, size = 0) => {
      gathered.get(fd)?.flush()
      fs.ftruncateSync(fd, wide(size))
      return 0
    }),
    // Locks are always granted: lock.ts keeps other processes of ours away, and exclusive mode needs no more.
    __syscall_fcntl64: byDescriptor((_fd, command = 0, varargs = 0) => {
      if (command === F_GETLK) data().setInt16(data().getUint32(varargs, true), F_UNLCK, true)
      return command === F_GETFL ? O_RDWR : 0
    }),
    _mmap_js:
      (original) =>
      (...args) =>
        (args[3] ?? 0) >= firstDescriptor ? -43 : original(...args),
    fd_close: byDescriptor((fd) => {
      gathered.get(fd)?.flush()
      gathered.delete(fd)
      positions.delete(fd)
      logs.delete(fd)
      files.delete(fd)
      fs.closeSync(fd)
      return 0
    }, 1),
    fd_sync: byDescriptor((fd) => {
      const log = logs.get(fd)
      if (log !== undefined && isTakenAway(fd, log)) return EIO
      gathered.get(fd)?.flush()
      fs.fsyncSync(fd)
      return 0
    }, 1),
    fd_fdstat_get: byDescriptor((_fd, at = 0) => {
      bytes()[at] = regularFile
      data().setInt16(at + 2, 0, true)
      data().setBigInt64(at + 8, 0n, true)
      data().setBigInt64(at + 16, 0n, true)
      return 0
    }, 1),
    fd_seek: byDescriptor((fd, offset = 0, whence = 0, result = 0) => {
      if (whence === 2) gathered.get(fd)?.flush()
      const bases = [0, positions.get(fd) ?? 0, whence === 2 ? fs.fstatSync(fd).size : 0]
      const position = (bases[whence] ?? 0) + wide(offset)
      positions.set(fd, position)
      data().setBigInt64(result, BigInt(position), true)
      return 0
    }, 1),
    fd_read: byDescriptor(
      (fd, list = 0, length = 0, result = 0) =>
        transfer(fd, list, length, result, gathered.get(fd)?.read ?? fs.readSync),
      1,
    ),
    fd_write: byDescriptor(
      (fd, list = 0, length = 0, result = 0) =>
        transfer(fd, list, length, result, gathered.get(fd)?.write ?? writeNoted),
      1,
    ),
  }
}

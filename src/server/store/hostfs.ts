import fs from 'node:fs'
import type { Move } from './gathered.ts'
import { byDescriptor, byPath, byPathAt, EIO, firstDescriptor, type Wrap } from './hostfs/calls.ts'
import { openHostFiles, type HostFiles } from './hostfs/files.ts'
import { viewsOf, writeStat, type Memory } from './hostfs/memory.ts'

/**
 * System calls for sql.js that reach the host's disk. Unmodified sql.js keeps its files in memory; its WebAssembly
 * module imports one function per system call, and those that are given a host path (or one of our descriptors)
 * are answered here with node:fs, page by page. Anything else goes on to sql.js's own memory files.
 */

/** Flag of newfstatat: do not follow a link (AT_SYMLINK_NOFOLLOW). */
const noFollow = 0x100
const F_GETFL = 3
const F_GETLK = 12
const O_RDWR = 2
const F_UNLCK = 2
/** Type of a file descriptor in wasi's fdstat: a regular file. */
const regularFile = 4

/**
 * The calls to put in place of sql.js's imports, by their name in Emscripten.
 * @param memory gives the module's memory; it does not exist yet when the imports are made
 */
export function hostCalls(memory: () => WebAssembly.Memory): Readonly<Record<string, Wrap>> {
  const views = viewsOf(memory)
  const files = openHostFiles()
  return { ...pathCalls(views, files), ...linuxCalls(views, files), ...wasiCalls(views, files) }
}

/** System calls in Linux's manner that are given a path. */
function pathCalls(memory: Memory, files: HostFiles): Readonly<Record<string, Wrap>> {
  const at = (call: (path: string, ...rest: number[]) => number): Wrap => byPathAt(memory, call)
  const by = (call: (path: string, ...rest: number[]) => number): Wrap => byPath(memory, call)
  return {
    __syscall_openat: at((path, flags = 0, varargs = 0) => {
      const fd = fs.openSync(path, flags, varargs === 0 ? 0 : memory.data().getInt32(varargs, true))
      files.add(fd, path)
      return fd + firstDescriptor
    }),
    __syscall_faccessat: at((path, mode) => (fs.accessSync(path, mode), 0)),
    __syscall_stat64: by((path, to = 0) => writeStat(memory, to, fs.statSync(path))),
    __syscall_lstat64: by((path, to = 0) => writeStat(memory, to, fs.lstatSync(path))),
    __syscall_newfstatat: at((path, to = 0, flags = 0) =>
      writeStat(memory, to, (flags & noFollow) === 0 ? fs.statSync(path) : fs.lstatSync(path)),
    ),
    __syscall_unlinkat: at((path, flags = 0) => (flags === 0 ? fs.unlinkSync(path) : fs.rmdirSync(path), 0)),
    __syscall_rmdir: by((path) => (fs.rmdirSync(path), 0)),
    __syscall_mkdirat: at((path, mode) => (fs.mkdirSync(path, mode), 0)),
    __syscall_readlinkat: at((path, to = 0, size = 0) => {
      const target = Buffer.from(fs.readlinkSync(path)).subarray(0, size)
      memory.bytes().set(target, to)
      return target.length
    }),
    __syscall_chmod: by((path, mode = 0) => (fs.chmodSync(path, mode), 0)),
    __syscall_utimensat: at((path) => (fs.utimesSync(path, new Date(), new Date()), 0)),
  }
}

/** System calls in Linux's manner on what is open. */
function linuxCalls(memory: Memory, files: HostFiles): Readonly<Record<string, Wrap>> {
  const { data } = memory
  return {
    __syscall_fstat64: byDescriptor((fd, to = 0) => {
      files.flush(fd)
      return writeStat(memory, to, fs.fstatSync(fd))
    }),
    __syscall_fchmod: byDescriptor((fd, mode = 0) => (fs.fchmodSync(fd, mode), 0)),
    __syscall_fchown32: byDescriptor((fd, user = 0, group = 0) => (fs.fchownSync(fd, user, group), 0)),
    __syscall_ftruncate64: byDescriptor((fd, size = 0) => {
      files.flush(fd)
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
  }
}

/** Calls of wasi on what is open. */
function wasiCalls(memory: Memory, files: HostFiles): Readonly<Record<string, Wrap>> {
  const { bytes, data } = memory
  return {
    fd_close: byDescriptor((fd) => (files.close(fd), 0), 1),
    fd_sync: byDescriptor((fd) => {
      if (files.isTakenAway(fd)) return EIO
      files.flush(fd)
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
      if (whence === 2) files.flush(fd)
      const bases = [0, files.position(fd), whence === 2 ? fs.fstatSync(fd).size : 0]
      const position = (bases[whence] ?? 0) + wide(offset)
      files.moveTo(fd, position)
      data().setBigInt64(result, BigInt(position), true)
      return 0
    }, 1),
    fd_read: byDescriptor((fd, ...list) => transfer(memory, files, fd, files.reading(fd), list), 1),
    fd_write: byDescriptor((fd, ...list) => transfer(memory, files, fd, files.writing(fd), list), 1),
  }
}

/** Moves bytes between a file and the buffers of an iovec list, from the descriptor's position on. */
function transfer(
  { bytes, data }: Memory,
  files: HostFiles,
  fd: number,
  move: Move,
  [list = 0, length = 0, result = 0]: readonly number[],
): number {
  const view = data()
  const start = files.position(fd)
  let done = 0
  for (let item = list; item < list + 8 * length; item += 8) {
    const size = view.getUint32(item + 4, true)
    if (size === 0) continue
    const moved = move(fd, bytes(), view.getUint32(item, true), size, start + done)
    done += moved
    if (moved < size) break
  }
  files.moveTo(fd, start + done)
  data().setUint32(result, done, true)
  return 0
}

/** 64-bit arguments arrive as BigInt. */
function wide(value: number | bigint): number {
  return Number(value)
}

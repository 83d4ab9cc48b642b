/** How a system call of sql.js becomes one of ours: its arguments, and what it says of errors. */
import { textAt, type Memory } from './memory.ts'

type Call = (...args: number[]) => number
/** Takes the original import, gives the one to use instead. */
export type Wrap = (original: Call) => Call

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
export const EIO = 29

/** Our descriptors start here, so that they never meet those of sql.js's memory files. */
export const firstDescriptor = 1 << 20

/** A call whose first argument is a path; /dbfile_… are sql.js's own scratch files. */
export function byPath(memory: Memory, call: (path: string, ...rest: number[]) => number): Wrap {
  return (original) =>
    (pointer = 0, ...rest) => {
      const path = textAt(memory, pointer)
      const isOurs = path.startsWith('/') && !path.startsWith('/dbfile_')
      return isOurs ? guarded(() => call(path, ...rest), -1) : original(pointer, ...rest)
    }
}

/** The same for the …at calls, whose first argument is a folder's descriptor: our paths are absolute. */
export function byPathAt(memory: Memory, call: (path: string, ...rest: number[]) => number): Wrap {
  return (original) =>
    (folder = 0, pointer = 0, ...rest) =>
      byPath(memory, call)((...args) => original(folder, ...args))(pointer, ...rest)
}

/** A call on a descriptor: `sign` is 1 for wasi's calls, -1 for system calls in Linux's manner. */
export function byDescriptor(call: (fd: number, ...rest: number[]) => number, sign: 1 | -1 = -1): Wrap {
  return (original) =>
    (fd = 0, ...rest) =>
      fd >= firstDescriptor ? guarded(() => call(fd - firstDescriptor, ...rest), sign) : original(fd, ...rest)
}

/** Never throws through WebAssembly frames: that would leave their stack unbalanced. */
function guarded(work: () => number, sign: 1 | -1): number {
  try {
    return work()
  } catch (error) {
    return sign * errnoOf(error)
  }
}

function errnoOf(error: unknown): number {
  const code = error instanceof Error && 'code' in error ? String(error.code) : ''
  return errnos[code] ?? EIO
}

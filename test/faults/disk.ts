/** A disk that loses power: what a program asked of it, in order, and what may be left of that. */
import fs from 'node:fs'
import { dirname } from 'node:path'

/** What was asked of the disk, in order; `ack`: something was acknowledged. */
export type Step =
  | { kind: 'create' | 'make folder' | 'unlink' | 'sync'; path: string }
  | { kind: 'rename'; path: string; to: string }
  | { kind: 'write'; path: string; at: number; bytes: Buffer }
  | { kind: 'truncate'; path: string; size: number }
  | { kind: 'ack'; number: number }

/**
 * Puts our ears into node:fs of this thread, where hostfs.ts and blobs.ts find them; syncs only wait to be counted.
 * @param prefix of the paths that are listened to
 * @returns takes the ears out
 */
export function listenTo(prefix: string, steps: Step[]): () => void {
  const { openSync, writeSync, ftruncateSync, fsyncSync, unlinkSync } = fs
  const { open, write, fsync, rename, mkdir } = fs
  const paths = new Map<number, string>()
  const isOurs = (path: unknown): path is string => typeof path === 'string' && path.startsWith(prefix)
  fs.openSync = (path, ...rest) => {
    if (isOurs(path) && !fs.existsSync(path)) steps.push({ kind: 'create', path })
    const fd = openSync(path, ...rest)
    paths.set(fd, String(path))
    return fd
  }
  const written = (fd: number, bytes: Uint8Array, offset: number, length: number, at: number): void => {
    const path = paths.get(fd)
    if (isOurs(path))
      steps.push({ kind: 'write', path, at, bytes: Buffer.from(bytes.slice(offset, offset + length)) })
  }
  fs.writeSync = ((fd: number, bytes: Uint8Array, offset: number, length: number, at: number) => {
    written(fd, bytes, offset, length, at)
    return writeSync(fd, bytes, offset, length, at)
  }) as typeof fs.writeSync // the one form that hostfs.ts uses
  fs.ftruncateSync = (fd, size) => {
    const path = paths.get(fd)
    if (isOurs(path)) steps.push({ kind: 'truncate', path, size: size ?? 0 })
    ftruncateSync(fd, size)
  }
  fs.fsyncSync = (fd) => void steps.push({ kind: 'sync', path: paths.get(fd) ?? '' })
  fs.unlinkSync = (path) => {
    if (isOurs(path)) steps.push({ kind: 'unlink', path })
    unlinkSync(path)
  }
  listenToCallbacks(steps, paths, isOurs, written)
  const before = {
    openSync,
    writeSync,
    ftruncateSync,
    fsyncSync,
    unlinkSync,
    open,
    write,
    fsync,
    rename,
    mkdir,
  }
  return () => void Object.assign(fs, before)
}

type Done = (error: Error | null, value?: unknown) => void

/** The calls that blobs.ts makes. A step counts when it is done; a sync covers what was done before it began. */
function listenToCallbacks(
  steps: Step[],
  paths: Map<number, string>,
  isOurs: (path: unknown) => path is string,
  written: (fd: number, bytes: Uint8Array, offset: number, length: number, at: number) => void,
): void {
  const { open, write, rename, mkdir } = fs
  const calls = {
    open: (path: string, flags: string, mode: number, done: Done) =>
      open(path, flags, mode, (error, fd) => {
        if (error === null) paths.set(fd, path)
        if (error === null && isOurs(path)) steps.push({ kind: 'create', path })
        done(error, fd)
      }),
    write: (fd: number, bytes: Uint8Array, offset: number, length: number, at: number, done: Done) => {
      written(fd, bytes, offset, length, at)
      write(fd, bytes, offset, length, at, done)
    },
    fsync: (fd: number, done: Done) => {
      steps.push({ kind: 'sync', path: paths.get(fd) ?? '' })
      setImmediate(done, null)
    },
    rename: (path: string, to: string, done: Done) =>
      rename(path, to, (error) => {
        if (error === null && isOurs(path)) steps.push({ kind: 'rename', path, to })
        done(error)
      }),
    mkdir: (path: string, options: fs.MakeDirectoryOptions & { recursive: true }, done: Done) =>
      mkdir(path, options, (error, first) => {
        const made: string[] = []
        const shortest = first?.length ?? Infinity
        for (let each = path; each.length >= shortest; each = dirname(each)) made.unshift(each)
        for (const each of made) steps.push({ kind: 'make folder', path: each })
        done(error, first)
      }),
  }
  Object.assign(fs, calls)
}

/** Files by their paths; a folder has the path with a slash at its end. */
export type Files = Map<string, Buffer>

/** The files as a disk may have them: what was synced is there, of the rest each write by chance. */
export function remains(
  files: Files,
  steps: readonly Step[],
  random: () => number,
): { files: Files; acknowledged: number[] } {
  const synced = new Map<string, number>()
  const acknowledged: number[] = []
  for (const [index, step] of steps.entries()) {
    if (step.kind === 'sync') synced.set(step.path, index)
    if (step.kind === 'ack') acknowledged.push(step.number)
  }
  const keep = random()
  for (const [index, step] of steps.entries()) {
    if (step.kind === 'sync' || step.kind === 'ack') continue
    const isContent = step.kind === 'write' || step.kind === 'truncate' // names are kept by the folder
    const isDurable = index < (synced.get(isContent ? step.path : dirname(step.path)) ?? -1)
    apply(files, step, isDurable, isDurable || random() < keep, random)
  }
  return { files, acknowledged }
}

function apply(
  files: Files,
  step: Exclude<Step, { kind: 'ack' }>,
  isDurable: boolean,
  isKept: boolean,
  random: () => number,
): void {
  if (!isKept) return
  if (step.kind === 'make folder' || step.kind === 'create') {
    const path = step.kind === 'create' ? step.path : `${step.path}/`
    if (files.has(`${dirname(step.path)}/`)) files.set(path, Buffer.alloc(0))
  }
  const known = files.get(step.path)
  if (known === undefined) return
  if (step.kind === 'unlink') files.delete(step.path)
  if (step.kind === 'rename') {
    files.delete(step.path)
    files.set(step.to, known)
  }
  if (step.kind === 'truncate') files.set(step.path, resized(known, step.size))
  if (step.kind !== 'write') return
  const isTorn = !isDurable && step.bytes.length > 512 && random() < 0.2
  const sectors = Math.floor(1 + random() * (step.bytes.length / 512 - 1))
  const bytes = isTorn ? step.bytes.subarray(0, 512 * sectors) : step.bytes
  const grown = resized(known, Math.max(known.length, step.at + bytes.length))
  bytes.copy(grown, step.at)
  files.set(step.path, grown)
}

function resized(bytes: Buffer, size: number): Buffer {
  if (bytes.length === size) return bytes
  const made = Buffer.alloc(size)
  bytes.copy(made)
  return made
}

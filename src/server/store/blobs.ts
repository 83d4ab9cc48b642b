import { hash, randomUUID } from 'node:crypto'
import fs from 'node:fs'
import { readFile, utimes } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { isZstd, plainParts, zstdFrame } from '../../compression.ts'
import { Complaint } from '../../errors.ts'
import { someAtATime } from '../turns.ts'

/** Largest log, diff or attestation in bytes, unpacked. */
export const longestBlob = 512 * 1024 * 1024

/** Blobs that are kept at once: each has a compressor of some megabytes, and the thread pool is no larger than half of it. */
const mostAtOnce = 8

/** A kept file: its name is the SHA-256 of its bytes as they lie on disk, a zstd frame. */
export type Blob = { sha256: string; size: number }

export type Blobs = {
  /** Keeps bytes (plain, or a sound zstd frame as it is); they are on disk when this resolves. */
  keep: (bytes: Uint8Array) => Promise<Blob>
  /** The zstd frame of a kept blob; null where the file is missing or no longer what its name says. */
  read: (sha256: string) => Promise<Uint8Array | null>
}

/** Logs, diffs and attestations as files below `folder`, outside the database. */
export function openBlobs(folder: string): Blobs {
  const pathOf = (sha256: string): string => join(folder, sha256.slice(0, 2), sha256)
  /** Files on their way to the disk: whoever keeps the same bytes meanwhile waits for the same file. */
  const underWay = new Map<string, Promise<void>>()
  const inFolder = folderMaker()
  const written = async (sha256: string, frame: Uint8Array): Promise<void> => {
    const path = pathOf(sha256)
    if (await hasSize(path, frame.length)) return
    await inFolder(dirname(path), () => writeDurably(path, frame))
  }
  const keep = async (bytes: Uint8Array): Promise<Blob> => {
    const frame = isZstd(bytes) ? await soundFrame(bytes) : await zstdFrame(bytes)
    const sha256 = hash('sha256', frame)
    const writing = underWay.get(sha256) ?? written(sha256, frame)
    underWay.set(sha256, writing)
    await writing.finally(() => underWay.delete(sha256))
    return { sha256, size: frame.length }
  }
  const inTurn = someAtATime(mostAtOnce)
  return {
    keep: (bytes) => inTurn(() => keep(bytes)),
    async read(sha256) {
      const bytes = await readFile(pathOf(sha256)).catch(() => null)
      const isWhole = bytes !== null && hash('sha256', bytes) === sha256
      return isWhole ? bytes : null
    },
  }
}

/** A frame from outside is kept as it is, but only if it can be unpacked within bounds. */
async function soundFrame(frame: Uint8Array): Promise<Uint8Array> {
  try {
    for await (const _ of plainParts(frame, longestBlob)); // what it unpacks to is not kept
    return frame
  } catch (error) {
    throw new Complaint('a log, diff or attestation is not a sound zstd frame', { cause: error, exitCode: 2 })
  }
}

/** Whether the file is there; its time is set anew first, so that the sweeper leaves it alone. */
async function hasSize(path: string, size: number): Promise<boolean> {
  const isThere = (): boolean => fs.statSync(path, { throwIfNoEntry: false })?.size === size
  if (!isThere()) return false // most are new, and an error for each would cost more than the look
  const now = new Date()
  await utimes(path, now, now).catch(() => undefined) // it has just been swept
  return isThere()
}

/**
 * Writes aside, syncs, renames, syncs the folder: after a crash the file is whole or not there. What may wait for the
 * disk is done by other threads; to close what is synced, or to open a folder, does not.
 */
async function writeDurably(path: string, bytes: Uint8Array): Promise<void> {
  const folder = dirname(path)
  const aside = join(folder, `.${randomUUID()}`)
  try {
    const file = await called<number>((done) => fs.open(aside, 'wx', 0o600, done))
    try {
      for (let at = 0; at < bytes.length;)
        at += await called<number>((done) => fs.write(file, bytes, at, bytes.length - at, at, done))
      await called<void>((done) => fs.fsync(file, done))
    } finally {
      fs.closeSync(file)
    }
    await called<void>((done) => fs.rename(aside, path, done))
    await syncFolder(folder)
  } catch (error) {
    fs.rmSync(aside, { force: true })
    throw error
  }
}

/** Runs work in a folder that is there and will be after a crash, whoever was the first to need it. */
function folderMaker() {
  const made = new Map<string, Promise<void>>()
  const ready = (folder: string): Promise<void> => {
    const known = made.get(folder) ?? makeDurably(folder)
    made.set(folder, known)
    return known
  }
  return async (folder: string, work: () => Promise<void>): Promise<void> => {
    try {
      await ready(folder)
      await work()
    } catch (error) {
      made.delete(folder) // it may have been removed: the next one looks
      throw new Complaint('cannot keep a log, diff or attestation', {
        cause: error,
        hint: 'is the disk of the data folder full?',
      })
    }
  }
}

/** Makes a folder, and those above it that are missing. */
async function makeDurably(folder: string): Promise<void> {
  const first = await called<string | undefined>((done) =>
    fs.mkdir(folder, { recursive: true, mode: 0o700 }, done),
  )
  for (let made = folder; ; made = dirname(made)) {
    await syncFolder(dirname(made))
    if (first === undefined || made === first) return
  }
}

async function syncFolder(path: string): Promise<void> {
  const folder = fs.openSync(path, 'r')
  try {
    await called<void>((done) => fs.fsync(folder, done))
  } finally {
    fs.closeSync(folder)
  }
}

type Done<T> = (error: Error | null, value: T) => void

/** A call of node:fs with descriptors as numbers: the objects of node:fs/promises take twice as long. */
export function called<T>(start: (done: Done<T>) => void): Promise<T> {
  return new Promise((resolve, reject) =>
    start((error, value) => (error === null || error === undefined ? resolve(value) : reject(error))),
  )
}

import { createHash, randomUUID } from 'node:crypto'
import { statSync } from 'node:fs'
import { mkdir, open, readFile, rename, rm, utimes, type FileHandle } from 'node:fs/promises'
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
  const written = async (sha256: string, frame: Uint8Array): Promise<void> => {
    if (!(await hasSize(pathOf(sha256), frame.length))) await writeDurably(pathOf(sha256), frame)
  }
  const keep = async (bytes: Uint8Array): Promise<Blob> => {
    const frame = isZstd(bytes) ? await soundFrame(bytes) : await zstdFrame(bytes)
    const sha256 = createHash('sha256').update(frame).digest('hex')
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
      const isWhole = bytes !== null && createHash('sha256').update(bytes).digest('hex') === sha256
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
  const isThere = (): boolean => statSync(path, { throwIfNoEntry: false })?.size === size
  if (!isThere()) return false // most are new, and an error for each would cost more than the look
  const now = new Date()
  await utimes(path, now, now).catch(() => undefined) // it has just been swept
  return isThere()
}

/** Writes aside, syncs, renames, syncs the folder: after a crash the file is whole or not there. */
async function writeDurably(path: string, bytes: Uint8Array): Promise<void> {
  const folder = dirname(path)
  const aside = join(folder, `.${randomUUID()}`)
  try {
    const file = await openIn(folder, aside)
    try {
      await file.writeFile(bytes)
      await file.sync()
    } finally {
      await file.close()
    }
    await rename(aside, path)
    await syncFolder(folder)
  } catch (error) {
    await rm(aside, { force: true })
    throw new Complaint('cannot keep a log, diff or attestation', {
      cause: error,
      hint: 'is the disk of the data folder full?',
    })
  }
}

/** A new file; its folder is made when it is the first in it. */
async function openIn(folder: string, path: string): Promise<FileHandle> {
  try {
    return await open(path, 'wx', 0o600)
  } catch (error) {
    if (!(error instanceof Error) || !('code' in error) || error.code !== 'ENOENT') throw error
    await mkdir(folder, { recursive: true, mode: 0o700 })
    await syncFolder(dirname(folder))
    return open(path, 'wx', 0o600)
  }
}

async function syncFolder(path: string): Promise<void> {
  const folder = await open(path, 'r')
  try {
    await folder.sync()
  } finally {
    await folder.close()
  }
}

import { createHash, type Hash } from 'node:crypto'
import { constants } from 'node:fs'
import { open, type FileHandle } from 'node:fs/promises'
import { Failure } from './failure.ts'

/** What a file is: hashes in hex, size in bytes. */
export type Fingerprint = { readonly sha256: string; readonly sha512: string; readonly size: number }

export type Difference = {
  readonly original: Fingerprint
  readonly rebuilt: Fingerprint
  /** Offset of the first byte that differs, the shorter size where one begins with the other; null: all are equal. */
  readonly firstDifference: number | null
}

const blockBytes = 1024 * 1024

/**
 * Compares two files byte by byte and hashes both, in one pass.
 * @throws Failure where one of them is no plain file
 */
export async function compareFiles(
  original: string,
  rebuilt: string,
  { signal }: { signal: AbortSignal },
): Promise<Difference> {
  await using a = await openPlain(original)
  await using b = await openPlain(rebuilt, { hardLinks: false })
  const [left, right] = [blocksOf(a), blocksOf(b)]
  const same = startHashes()
  let offset = 0
  for (;;) {
    signal.throwIfAborted()
    const [x, y] = await Promise.all([left(), right()])
    const equal = x.equals(y)
    if (!equal || x.length === 0) {
      if (equal)
        return { original: finish(same, offset), rebuilt: finish(same, offset), firstDifference: null }
      const firstDifference = offset + firstUnequal(x, y)
      const hashesOfRebuilt = copyOf(same) // up to here both files are one and so are their hashes
      const fingerprints = await Promise.all([
        restOf(x, left, same, offset, signal),
        restOf(y, right, hashesOfRebuilt, offset, signal),
      ])
      return { original: fingerprints[0], rebuilt: fingerprints[1], firstDifference }
    }
    update(same, x)
    offset += x.length
  }
}

/** Hashes one file. */
export async function fingerprintOf(path: string, { signal }: { signal: AbortSignal }): Promise<Fingerprint> {
  await using file = await openPlain(path)
  const next = blocksOf(file)
  return await restOf(await next(), next, startHashes(), 0, signal) // the file stays open until then
}

/** Opens a plain file; a link, a device or a pipe is refused, and never waited for. A build has to write its own bytes. */
async function openPlain(path: string, { hardLinks = true } = {}): Promise<FileHandle> {
  const flags = constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK | constants.O_NOCTTY
  const file = await open(path, flags).catch((error: unknown) => {
    if (error instanceof Error && 'code' in error && (error.code === 'ELOOP' || error.code === 'ENXIO'))
      throw new Failure('backend_error', `${path} is not a plain file`, { cause: error })
    throw error
  })
  const stat = await file.stat()
  if (stat.isFile() && (hardLinks || stat.nlink === 1)) return file
  await file.close()
  throw new Failure('backend_error', `${path} is ${stat.isFile() ? 'a hard link' : 'not a plain file'}`)
}

/** Reads block after block, the next one while the last one is looked at; an empty block is the end. */
function blocksOf(file: FileHandle): () => Promise<Buffer> {
  const buffers = [Buffer.allocUnsafe(blockBytes), Buffer.allocUnsafe(blockBytes)] as const
  let turn = 0
  let position = 0
  const read = async (): Promise<Buffer> => {
    const buffer = turn++ % 2 === 0 ? buffers[0] : buffers[1]
    let filled = 0
    while (filled < buffer.length) {
      const { bytesRead } = await file.read(buffer, filled, buffer.length - filled, position)
      if (bytesRead === 0) break
      filled += bytesRead
      position += bytesRead
    }
    return buffer.subarray(0, filled)
  }
  let ahead: Promise<Buffer> | null = null
  return async () => {
    const block = await (ahead ?? read())
    ahead = block.length === 0 ? Promise.resolve(block) : read()
    ahead.catch(() => undefined) // whoever asks for that block gets the error
    return block
  }
}

function firstUnequal(x: Buffer, y: Buffer): number {
  const shared = Math.min(x.length, y.length)
  for (let i = 0; i < shared; i++) if (x[i] !== y[i]) return i
  return shared
}

async function restOf(
  block: Buffer,
  next: () => Promise<Buffer>,
  hashes: Hashes,
  offset: number,
  signal: AbortSignal,
): Promise<Fingerprint> {
  let size = offset
  for (let now = block; now.length > 0; now = await next()) {
    signal.throwIfAborted()
    update(hashes, now)
    size += now.length
  }
  return finish(hashes, size)
}

type Hashes = { readonly sha256: Hash; readonly sha512: Hash }

function startHashes(): Hashes {
  return { sha256: createHash('sha256'), sha512: createHash('sha512') }
}

function copyOf({ sha256, sha512 }: Hashes): Hashes {
  return { sha256: sha256.copy(), sha512: sha512.copy() }
}

function update({ sha256, sha512 }: Hashes, block: Buffer): void {
  sha256.update(block)
  sha512.update(block)
}

/** The fingerprint so far; the hashes stay usable. */
function finish(hashes: Hashes, size: number): Fingerprint {
  const { sha256, sha512 } = copyOf(hashes)
  return { sha256: sha256.digest('hex'), sha512: sha512.digest('hex'), size }
}

import { createHash, type Hash } from 'node:crypto'
import { constants } from 'node:fs'
import { open, type FileHandle } from 'node:fs/promises'
import { Failure } from './failure.ts'

/** What a file is: SHA-256 in hex, size in bytes. */
export type Digest = { readonly sha256: string; readonly size: number }
/** The same with SHA-512, which attestations want and which takes more than twice the time. */
export type Fingerprint = Digest & { readonly sha512: string }

export type Difference = {
  readonly original: Digest
  readonly rebuilt: Digest
  /** Offset of the first byte that differs, the shorter size where one begins with the other; null: all are equal. */
  readonly firstDifference: number | null
}

/** Smaller ones of large files would cost more in detours to the disk than in memory that they save. */
const mostBlockBytes = 1024 * 1024
const leastBlockBytes = 4096

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
  const [left, right] = [await blocksOf(a), await blocksOf(b)]
  const same = createHash('sha256')
  let offset = 0
  for (;;) {
    signal.throwIfAborted()
    const [x, y] = await Promise.all([left(), right()])
    const equal = x.equals(y)
    if (!equal || x.length === 0) {
      if (equal)
        return { original: digestOf(same, offset), rebuilt: digestOf(same, offset), firstDifference: null }
      const firstDifference = offset + firstUnequal(x, y)
      const other = same.copy() // up to here both files are one and so are their hashes
      const sizes = await Promise.all([
        restOf(x, left, [same], offset, signal),
        restOf(y, right, [other], offset, signal),
      ])
      return { original: digestOf(same, sizes[0]), rebuilt: digestOf(other, sizes[1]), firstDifference }
    }
    same.update(x)
    offset += x.length
  }
}

/** Hashes one file. */
export async function fingerprintOf(path: string, { signal }: { signal: AbortSignal }): Promise<Fingerprint> {
  await using file = await openPlain(path)
  const next = await blocksOf(file)
  const hashes = [createHash('sha256'), createHash('sha512')] as const
  const size = await restOf(await next(), next, hashes, 0, signal)
  return { ...digestOf(hashes[0], size), sha512: hashes[1].digest('hex') }
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

/**
 * Reads block after block, the next one while the last one is looked at; an empty block is the end. Small files make
 * do with small blocks: megabytes of memory with each job make much work for the garbage collector.
 */
async function blocksOf(file: FileHandle): Promise<() => Promise<Buffer>> {
  const { size } = await file.stat()
  const bytes = Math.max(leastBlockBytes, Math.min(size, mostBlockBytes))
  const buffers = [Buffer.allocUnsafe(bytes), Buffer.allocUnsafe(bytes)] as const
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

/** Hashes this block and all that follow. @returns the size of the file */
async function restOf(
  block: Buffer,
  next: () => Promise<Buffer>,
  hashes: readonly Hash[],
  offset: number,
  signal: AbortSignal,
): Promise<number> {
  let size = offset
  for (let now = block; now.length > 0; now = await next()) {
    signal.throwIfAborted()
    for (const hash of hashes) hash.update(now)
    size += now.length
  }
  return size
}

/** The digest so far; the hash stays usable. */
function digestOf(hash: Hash, size: number): Digest {
  return { sha256: hash.copy().digest('hex'), size }
}

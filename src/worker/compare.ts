import { constants } from 'node:fs'
import { open, type FileHandle } from 'node:fs/promises'
import { during } from '../errors.ts'
import type { Difference, Hashes } from '../hashing.ts'
import { Failure } from './failure.ts'
import { done, type Share } from './hash-elsewhere.ts'

/** What a file is: SHA-256 in hex, size in bytes. */
export type Digest = Hashes<'sha256'>
/** The same with SHA-512, which attestations want and which takes more than twice the time. */
export type Fingerprint = Hashes<'sha256' | 'sha512'>

/** It is no plain file, or has a second name where that may not be. */
export class NotPlain extends Failure {
  constructor(message: string, cause?: unknown) {
    super('backend_error', message, { cause })
  }
}

/**
 * Compares two files byte by byte and hashes both, in one pass.
 * @throws NotPlain where one of them is no plain file; Failure where one changes meanwhile
 */
export async function compareFiles(original: string, rebuilt: string, share: Share): Promise<Difference> {
  await using a = await openPlain(original)
  await using b = await openPlain(rebuilt, { hardLinks: false })
  const found = await during(`comparing ${rebuilt} with ${original}`, () =>
    done('difference', [a.file.fd, b.file.fd], { ...share, bytes: a.size + b.size }),
  ).catch((error: unknown) => abortOr(error, share.signal))
  refuseChanged(original, a, found.original)
  refuseChanged(rebuilt, b, found.rebuilt)
  return found
}

/**
 * Hashes one file.
 * @throws as compareFiles
 */
export async function digestOf(path: string, share: Share): Promise<Digest> {
  await using one = await openPlain(path)
  const found = await during(`hashing ${path}`, () =>
    done('digest', [one.file.fd], { ...share, bytes: one.size }),
  ).catch((error: unknown) => abortOr(error, share.signal))
  refuseChanged(path, one, found)
  return found
}

function abortOr(error: unknown, signal: AbortSignal): never {
  signal.throwIfAborted()
  throw error
}

/** An open file, and the size it had then. */
type Plain = AsyncDisposable & { readonly file: FileHandle; readonly size: number }

/** Opens a plain file; a link, a device or a pipe is refused, and never waited for. A build has to write its own bytes. */
async function openPlain(path: string, { hardLinks = true } = {}): Promise<Plain> {
  const flags = constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK | constants.O_NOCTTY
  const file = await open(path, flags).catch((error: unknown) => {
    if (error instanceof Error && 'code' in error && (error.code === 'ELOOP' || error.code === 'ENXIO'))
      throw new NotPlain(`${path} is not a plain file`, error)
    throw error
  })
  const stat = await file.stat()
  if (stat.isFile() && (hardLinks || stat.nlink === 1))
    return { file, size: stat.size, [Symbol.asyncDispose]: () => file.close() }
  await file.close()
  throw new NotPlain(`${path} is ${stat.isFile() ? 'a hard link' : 'not a plain file'}`)
}

/** Bytes that were there and could not be read say nothing about a build. */
function refuseChanged(path: string, { size }: Plain, read: Digest): void {
  if (size === read.size) return
  throw new Failure('backend_error', `${path} had ${size} bytes, and ${read.size} when it was read`, {
    hint: 'does something else write there, or is the disk damaged?',
  })
}

import { createHash, type Hash } from 'node:crypto'
import type { IncomingMessage } from 'node:http'
import { open, type FileHandle } from 'node:fs/promises'
import { setTimeout as sleep } from 'node:timers/promises'
import { during } from '../errors.ts'
import { dropDeadBuffers } from '../runtime.ts'
import type { Fingerprint } from './compare.ts'
import { Failure } from './failure.ts'
import { getFile, webAddress } from './http.ts'

/** A file to fetch, and what the index says about it. */
export type Wanted = {
  readonly url: string
  /** In hex; null: not known. */
  readonly sha256: string | null
  /** In bytes; null: not known. */
  readonly size: number | null
}

export type DownloadOptions = {
  /** Bytes a file may have whose size is not known. */
  limit: number
  /** Seconds it may take altogether. */
  seconds: number
  signal: AbortSignal
  /** How often it is tried, and the pause before the second try, doubled each time. */
  tries?: number
  pauseMilliseconds?: number
}

export const downloadLimits = { limit: 16 * 1024 ** 3, seconds: 6 * 3600 }

/** The last segment of the address as it stands there: percent escapes stay, as in upstream's attestations. */
export function fileNameOf(address: string): string {
  const name = webAddress(address).pathname.split('/').pop() ?? ''
  if (name === '' || name.length > 255) throw new Failure('input_invalid', `${address} names no file`)
  return name
}

/** The bytes so far; a broken connection goes on behind them. */
type Partial = {
  readonly file: FileHandle
  hashes: readonly [sha256: Hash, sha512: Hash]
  offset: number
  /** ETag or date of the version that we have the beginning of. */
  version: string | null
}

/**
 * Fetches a file to a path that does not exist yet, trying again and resuming where the network breaks.
 * @throws Failure `input_unavailable`, `too_large`, or `input_mismatch` where it is not what the index names
 */
export async function download(wanted: Wanted, path: string, options: DownloadOptions): Promise<Fingerprint> {
  const limit = AbortSignal.timeout(options.seconds * 1000)
  const signal = AbortSignal.any([options.signal, limit])
  return during(`downloading ${wanted.url}`, async () => {
    await using file = await open(path, 'wx', 0o600)
    const partial: Partial = { file, hashes: startHashes(), offset: 0, version: null }
    try {
      await fetchWithRetries(wanted, partial, { ...options, signal })
    } catch (error) {
      if (limit.aborted && !options.signal.aborted)
        throw new Failure('input_unavailable', `not done after ${options.seconds} seconds`, { cause: error })
      throw error
    }
    const [sha256, sha512] = partial.hashes
    const got = { sha256: sha256.digest('hex'), sha512: sha512.digest('hex'), size: partial.offset }
    check(wanted, got)
    return got
  })
}

function startHashes(): Partial['hashes'] {
  return [createHash('sha256'), createHash('sha512')]
}

function check(wanted: Wanted, got: Fingerprint): void {
  if (wanted.size !== null && wanted.size !== got.size)
    throw new Failure('input_mismatch', `it has ${got.size} bytes, the index says ${wanted.size}`)
  if (wanted.sha256 !== null && wanted.sha256 !== got.sha256)
    throw new Failure('input_mismatch', `its SHA-256 is ${got.sha256}, the index says ${wanted.sha256}`)
}

async function fetchWithRetries(wanted: Wanted, partial: Partial, options: DownloadOptions): Promise<void> {
  const { signal, tries = 5, pauseMilliseconds = 1000 } = options
  for (let attempt = 1; ; attempt++) {
    try {
      return await fetchRest(wanted, partial, options)
    } catch (error) {
      if (!isWorthAnotherTry(error) || signal.aborted) throw error
      if (attempt >= tries) throw new Failure('input_unavailable', `failed ${tries} times`, { cause: error })
    }
    await sleep(pauseMilliseconds * 2 ** (attempt - 1) * (0.5 + Math.random()), undefined, { signal })
  }
}

/** A server that is busy or broken for the moment. */
class Unwell extends Error {}

/** Failures are final and so is our own disk; everything else is the network. */
function isWorthAnotherTry(error: unknown): boolean {
  if (error instanceof Failure || !(error instanceof Error)) return false
  return (
    !('syscall' in error) || !['write', 'open', 'ftruncate'].includes(String(error.syscall)) || isPipe(error)
  )
}

function isPipe(error: Error): boolean {
  return 'code' in error && (error.code === 'EPIPE' || error.code === 'ECONNRESET')
}

async function fetchRest(wanted: Wanted, partial: Partial, options: DownloadOptions): Promise<void> {
  const response = await getFile(wanted.url, headersFor(wanted, partial), options.signal)
  try {
    await takeStatus(response, partial)
    const most = wanted.size ?? options.limit
    const told = Number(response.headers['content-length'] ?? most)
    if (response.headers['content-length'] !== undefined) refuseLarge(wanted, partial.offset + told, most)
    const block = Buffer.allocUnsafeSlow(Math.max(1, Math.min(told, blockBytes)))
    await takeBody(response, partial, block, (bytes) => refuseLarge(wanted, bytes, most))
  } finally {
    response.destroy()
  }
}

/** Bytes written at once. They come in small pieces, and another thread has to be woken for each that is written. */
const blockBytes = 512 * 1024
/** Bytes after which the pieces that were taken are freed. */
const heapBytes = 4 * 1024 * 1024

/** Writes and hashes what comes, block by block; what came before the connection broke as well. */
async function takeBody(
  body: AsyncIterable<Buffer>,
  partial: Partial,
  block: Buffer,
  check: (bytes: number) => void,
): Promise<void> {
  let filled = 0
  const flush = async (): Promise<void> => {
    const full = block.subarray(0, filled)
    filled = 0
    await writeAll(partial.file, full, partial.offset)
    for (const hash of partial.hashes) hash.update(full)
    partial.offset += full.length
    if (Math.floor(partial.offset / heapBytes) > Math.floor((partial.offset - full.length) / heapBytes))
      dropDeadBuffers()
  }
  try {
    for await (const piece of body) {
      check(partial.offset + filled + piece.length)
      for (let taken = 0; taken < piece.length;) {
        const copied = piece.copy(block, filled, taken)
        taken += copied
        filled += copied
        if (filled === block.length) await flush()
      }
    }
  } finally {
    await flush()
  }
}

/** The rest may be asked for when we can tell that it belongs to the beginning. */
function headersFor(wanted: Wanted, { offset, version }: Partial): Record<string, string> {
  const headers: Record<string, string> = { 'accept-encoding': 'identity' }
  if (offset === 0 || (version === null && wanted.sha256 === null)) return headers
  headers['range'] = `bytes=${offset}-`
  if (version !== null) headers['if-range'] = version
  return headers
}

/** Starts over unless the reply is the rest that we asked for. */
async function takeStatus({ statusCode = 0, headers }: IncomingMessage, partial: Partial): Promise<void> {
  if (statusCode === 206 && headers['content-range']?.startsWith(`bytes ${partial.offset}-`) === true) return
  await partial.file.truncate(0)
  Object.assign(partial, { hashes: startHashes(), offset: 0, version: versionOf(headers) })
  if (statusCode === 200) return
  if (statusCode === 206 || statusCode === 416 || statusCode >= 500 || [408, 425, 429].includes(statusCode))
    throw new Unwell(`the server answered ${statusCode}`)
  throw new Failure('input_unavailable', `the server answered ${statusCode}`)
}

/** What If-Range takes: a strong ETag or a date (RFC 9110 section 13.1.5). */
function versionOf({ etag, 'last-modified': date }: IncomingMessage['headers']): string | null {
  return etag !== undefined && etag.startsWith('"') ? etag : (date ?? null)
}

function refuseLarge({ size }: Wanted, bytes: number, most: number): void {
  if (bytes <= most) return
  if (size !== null) throw new Failure('input_mismatch', `it is larger than the ${size} bytes of the index`)
  throw new Failure('too_large', `it is larger than ${most} bytes`)
}

async function writeAll(file: FileHandle, chunk: Buffer, position: number): Promise<void> {
  let written = 0
  while (written < chunk.length) {
    const { bytesWritten } = await file.write(chunk, written, chunk.length - written, position + written)
    written += bytesWritten
  }
}

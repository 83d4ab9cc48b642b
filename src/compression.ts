import { Readable } from 'node:stream'
import { pipeline } from 'node:stream/promises'
import {
  constants,
  createGunzip,
  createZstdDecompress,
  zstdCompress,
  zstdCompressSync,
  zstdDecompressSync,
} from 'node:zlib'
import { promisify } from 'node:util'
import { bunzipped } from './bunzip2.ts'
import { continued, peeked, wholeOf } from './chunks.ts'
import { Complaint } from './errors.ts'
import { unxzed } from './unxz.ts'

export type Coding = 'gzip' | 'zstd' | 'xz' | 'bzip2' | 'none'

type Chunks = AsyncIterable<Uint8Array>

/** Bytes at the start that tell the codings apart. */
const sniffed = 6

/** How a file is compressed, by its first six bytes; fewer are enough where the file is that short. */
export function codingOf(firstBytes: Uint8Array): Coding {
  const starts = (...magic: number[]): boolean => magic.every((byte, at) => firstBytes[at] === byte)
  if (starts(0x1f, 0x8b)) return 'gzip'
  if (isZstd(firstBytes)) return 'zstd'
  if (starts(0xfd, 0x37, 0x7a, 0x58, 0x5a, 0x00)) return 'xz'
  if (starts(0x42, 0x5a, 0x68) && (firstBytes[3] ?? 0) >= 0x31 && (firstBytes[3] ?? 0) <= 0x39) return 'bzip2'
  return 'none'
}

/** Whether these bytes are a zstd frame (RFC 8878 section 3.1.1). */
export function isZstd(bytes: Uint8Array): boolean {
  return bytes[0] === 0x28 && bytes[1] === 0xb5 && bytes[2] === 0x2f && bytes[3] === 0xfd
}

/**
 * Plain bytes of a file in whichever coding its first bytes name; all members, frames and streams of it.
 * @param limit most plain bytes that may come out
 * @param what names the file in complaints
 * @throws Complaint where the input is cut short, damaged, longer than its coding says, or unpacks to more than `limit`
 */
export async function* decompressed(
  chunks: Chunks,
  { limit, what }: { limit: number; what: string },
): AsyncGenerator<Uint8Array> {
  const { first, all } = await peeked(chunks, sniffed)
  let size = 0
  for await (const chunk of decoders[codingOf(first)](all, what)) {
    size += chunk.length
    if (size > limit) throw new Complaint(`${what} unpacks to more than ${limit} bytes`)
    yield chunk
  }
}

/** Compresses for storage, at a level where more time gains little. */
export async function zstdFrame(bytes: Uint8Array): Promise<Uint8Array> {
  const params = { [constants.ZSTD_c_checksumFlag]: 1, ...effort(bytes.length) }
  const options = { params, pledgedSrcSize: bytes.length }
  return bytes.length <= tinyPlain
    ? zstdCompressSync(bytes, options)
    : promisify(zstdCompress)(bytes, options)
}

/** Compressed at once, in a tenth of a millisecond: another thread, and memory for it, would take three times as long. */
const tinyPlain = 4096

/** Told the size, zstd takes memory to match; level 11 for a large log would be forty megabytes. */
function effort(size: number): Record<number, number> {
  if (size <= largePlain) return { [constants.ZSTD_c_compressionLevel]: 11 }
  return {
    [constants.ZSTD_c_compressionLevel]: 9,
    [constants.ZSTD_c_windowLog]: 20,
    [constants.ZSTD_c_hashLog]: 18,
    [constants.ZSTD_c_chainLog]: 18,
  }
}
const largePlain = 512 * 1024

/**
 * The plain bytes of a stored blob, which is a zstd frame or plain already.
 * @throws Complaint where it is damaged or longer than `limit` bytes
 */
export async function plainBytes(stored: Uint8Array, limit: number): Promise<Uint8Array> {
  return wholeOf(plainParts(stored, limit))
}

/** The same part by part, as a small blob may unpack to a long one; a short one is one part. */
export async function* plainParts(stored: Uint8Array, limit: number): AsyncGenerator<Uint8Array> {
  if (!isZstd(stored)) {
    if (stored.length > limit) throw new Complaint(`the stored data is longer than ${limit} bytes`)
    yield stored
    return
  }
  const small = plainAtOnce(stored, zstdDecompressSync, limit)
  if (small === null) yield* decompressed(only(stored), { limit, what: 'the stored data' })
  else yield small
}

/** Bytes that are unpacked at once, packed and plain: a millisecond, where a stream takes as long for a few bytes. */
const smallPacked = 64 * 1024
const smallPlain = 1024 * 1024

type Engine = { bytesWritten: number }
type Unpack = (packed: Uint8Array, options: { info: true; maxOutputLength: number }) => unknown

/** The plain bytes of something small; null where it is large, longer than `limit`, or not sound: a stream tells which. */
export function plainAtOnce(packed: Uint8Array, unpack: Unpack, limit: number): Uint8Array | null {
  if (packed.length > smallPacked) return null
  try {
    const options = { info: true, maxOutputLength: Math.min(limit, smallPlain) } as const
    const { buffer, engine } = unpack(packed, options) as { buffer: Buffer; engine: Engine } // what `info` asks for
    return engine.bytesWritten === packed.length ? buffer : null
  } catch {
    return null
  }
}

async function* only(bytes: Uint8Array): AsyncGenerator<Uint8Array> {
  yield bytes
}

const decoders: Record<Coding, (chunks: Chunks, what: string) => AsyncGenerator<Uint8Array>> = {
  none: (chunks) => continued(new Uint8Array(0), chunks[Symbol.asyncIterator]()),
  gzip: (chunks, what) => throughZlib(chunks, what, createGunzip({ chunkSize: 1 << 16 })),
  zstd: (chunks, what) => throughZlib(chunks, what, createZstdDecompress({ chunkSize: 1 << 16 })),
  xz: unxzed,
  bzip2: bunzipped,
}

type ZlibDecoder = ReturnType<typeof createGunzip> | ReturnType<typeof createZstdDecompress>

/** node:zlib stops without a word at what follows the last member: what it took is compared with what it was given. */
async function* throughZlib(chunks: Chunks, what: string, decoder: ZlibDecoder): AsyncGenerator<Uint8Array> {
  let given = 0
  const counted = async function* (): AsyncGenerator<Uint8Array> {
    for await (const chunk of chunks) {
      given += chunk.length
      yield chunk
    }
  }
  let trouble: unknown
  const piped = pipeline(Readable.from(counted()), decoder).catch((error: unknown) => {
    trouble = error
  })
  try {
    for await (const chunk of decoder) yield chunk as Uint8Array // zlib streams yield nothing else
    await piped
  } catch (error) {
    throw damaged(what, trouble ?? error)
  } finally {
    decoder.destroy()
    await piped
  }
  if (trouble !== undefined) throw damaged(what, trouble)
  if (decoder.bytesWritten !== given) throw strayEnd(what)
}

function strayEnd(what: string): Complaint {
  return new Complaint(`${what} has bytes that do not belong to it at its end`)
}

/** What the file is to blame for becomes a complaint; what happened while reading it stays what it is. */
function damaged(what: string, error: unknown): unknown {
  const code = error instanceof Error && 'code' in error ? String(error.code) : ''
  if (code === 'ERR_STREAM_PREMATURE_CLOSE') return strayEnd(what) // it ended before its input did
  if (code === 'Z_BUF_ERROR') return new Complaint(`${what} is cut short`, { cause: error })
  return /^(Z_|ZSTD_|ERR_ZSTD)/.test(code) ? new Complaint(`${what} is damaged`, { cause: error }) : error
}

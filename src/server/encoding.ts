import type { IncomingMessage } from 'node:http'
import { Readable, pipeline, type Transform } from 'node:stream'
import { promisify } from 'node:util'
import zlib from 'node:zlib'
import type { Context } from 'hono'
import { wholeOf } from '../chunks.ts'
import { plainAtOnce } from '../compression.ts'
import { incomingOf } from './incoming.ts'
import { Refusal } from './refusal.ts'
import { noRoom, type Room } from './room.ts'

/** Content codings, best first among those a caller likes equally. */
const codings = ['br', 'zstd', 'gzip', 'deflate'] as const
export type Coding = (typeof codings)[number] | 'identity'

const { constants } = zlib
const [quick, medium] = [{ params: { [constants.BROTLI_PARAM_QUALITY]: 4 } }, { level: 6 }]
/** A hundred kilobytes of memory, for what hardly repeats itself over a longer distance. */
const light = { [constants.ZSTD_c_compressionLevel]: 1, [constants.ZSTD_c_windowLog]: 17 }
const compressors = {
  br: {
    whole: (bytes: Uint8Array) => promisify(zlib.brotliCompress)(bytes, quick),
    atOnce: (bytes: Uint8Array) => zlib.brotliCompressSync(bytes, quick),
    stream: () => zlib.createBrotliCompress(quick),
    piecewise: () => zlib.createBrotliCompress({ ...quick, flush: constants.BROTLI_OPERATION_FLUSH }),
  },
  zstd: {
    // Told the size, it sets aside what that needs, not some megabytes.
    whole: (bytes: Uint8Array) => promisify(zlib.zstdCompress)(bytes, { pledgedSrcSize: bytes.length }),
    atOnce: (bytes: Uint8Array) => zlib.zstdCompressSync(bytes, { pledgedSrcSize: bytes.length }),
    stream: () => zlib.createZstdCompress(),
    piecewise: () => zlib.createZstdCompress({ params: light, flush: constants.ZSTD_e_flush }),
  },
  gzip: {
    whole: (bytes: Uint8Array) => promisify(zlib.gzip)(bytes, medium),
    atOnce: (bytes: Uint8Array) => zlib.gzipSync(bytes, medium),
    stream: () => zlib.createGzip(medium),
    piecewise: () => zlib.createGzip({ ...medium, flush: constants.Z_SYNC_FLUSH }),
  },
  deflate: {
    whole: (bytes: Uint8Array) => promisify(zlib.deflate)(bytes, medium),
    atOnce: (bytes: Uint8Array) => zlib.deflateSync(bytes, medium),
    stream: () => zlib.createDeflate(medium),
    piecewise: () => zlib.createDeflate({ ...medium, flush: constants.Z_SYNC_FLUSH }),
  },
} as const

const decoders = {
  br: { stream: () => zlib.createBrotliDecompress(), atOnce: zlib.brotliDecompressSync },
  zstd: { stream: () => zlib.createZstdDecompress(), atOnce: zlib.zstdDecompressSync },
  gzip: { stream: () => zlib.createGunzip(), atOnce: zlib.gunzipSync },
  'x-gzip': { stream: () => zlib.createGunzip(), atOnce: zlib.gunzipSync },
  deflate: { stream: () => zlib.createInflate(), atOnce: zlib.inflateSync },
} as const

/**
 * The coding for a reply (RFC 9110 section 12.5.3). Without a header, or with `*` alone, the bytes go as they are.
 * @param isTiny so few bytes that compressing them gains nothing: they go as they are unless the caller refuses that
 * @throws Refusal 406 where the caller takes nothing that we have
 */
export function codingFor(accepted: string | undefined, isTiny = false): Coding {
  const weights = weightsOf(accepted)
  const liked = codings.filter((coding) => (weights.get(coding) ?? 0) > 0)
  const best = Math.max(...liked.map((coding) => weights.get(coding) ?? 0))
  const identity = weights.get('identity') ?? (weights.get('*') === 0 ? 0 : undefined)
  if (isTiny && identity !== 0) return 'identity'
  const chosen = liked.find((coding) => weights.get(coding) === best)
  if (chosen !== undefined && (identity === undefined || best >= identity)) return chosen
  const other = codings.find((coding) => !weights.has(coding))
  if (identity === 0 && other !== undefined && (weights.get('*') ?? 0) > 0) return other
  if (identity === 0) throw new Refusal(406, 'no content coding that you accept is known here')
  return 'identity'
}

/** Whether a caller takes a zstd frame as it is. */
export function acceptsZstd(accepted: string | undefined): boolean {
  return (weightsOf(accepted).get('zstd') ?? 0) > 0
}

function weightsOf(accepted = ''): Map<string, number> {
  const weights = new Map<string, number>()
  for (const item of accepted.toLowerCase().split(',').slice(0, 32)) {
    const [name = '', ...parameters] = item.split(';').map((part) => part.trim())
    const quality = parameters.find((parameter) => parameter.startsWith('q='))
    const weight = quality === undefined ? 1 : Number(quality.slice(2))
    if (name !== '') weights.set(name, Number.isFinite(weight) ? weight : 0)
  }
  return weights
}

/** Bytes that are compressed in less time than it takes to hand them to another thread. */
const short = 128 * 1024

/** Bytes in a coding. */
export async function encoded(bytes: Uint8Array, coding: Coding): Promise<Uint8Array> {
  if (coding === 'identity') return bytes
  const { atOnce, whole } = compressors[coding]
  return bytes.length <= short ? atOnce(bytes) : whole(bytes)
}

/** Compresses what is too long to be in memory at once. */
export function compressorFor(coding: Exclude<Coding, 'identity'>): Transform {
  return compressors[coding].stream()
}

/**
 * The same of bytes as they come. When they break off, so does the stream.
 * @param pace `piecewise`: each part can be read before the next one is there
 */
export function encodedStream(
  parts: AsyncIterable<Uint8Array>,
  coding: Coding,
  pace: 'stream' | 'piecewise' = 'stream',
): ReadableStream<Uint8Array> {
  const source = Readable.from(parts)
  if (coding === 'identity') return Readable.toWeb(source) as ReadableStream<Uint8Array>
  const compressor: Transform = compressors[coding][pace]()
  pipeline(source, compressor, () => undefined) // whoever reads is told
  return Readable.toWeb(compressor) as ReadableStream<Uint8Array>
}

/**
 * Reads a request's body, decoded, within a limit on what is sent and on what that becomes, both of which take room.
 * @throws Refusal 413 over the limit, 400 where the coding is broken, 503 where there is no room for long
 */
export async function bodyOf(c: Context, limit: number, room = noRoom): Promise<Uint8Array> {
  const header = (name: string): string | undefined => c.req.header(name)
  if (Number(header('content-length') ?? 0) > limit) throw tooLarge(limit)
  const coding = (header('content-encoding') ?? '').trim().toLowerCase()
  const sent = await sentBody(c, limit, room.sent)
  if (!Object.hasOwn(decoders, coding)) return sent
  const { stream, atOnce } = decoders[coding as keyof typeof decoders] // just looked up
  return plainAtOnce(sent, atOnce, limit) ?? decoded(sent, stream(), { coding, limit, room: room.plain })
}

async function decoded(
  sent: Uint8Array,
  decoder: zlib.Gunzip,
  { coding, limit, room }: { coding: string; limit: number; room: Room },
): Promise<Uint8Array> {
  const fed = feed([sent], decoder)
  try {
    return await gathered(bounded(decoder, limit, room), limit)
  } catch (error) {
    if (error instanceof Refusal) throw error
    throw new Refusal(400, `the body is not sound ${coding}`)
  } finally {
    decoder.destroy()
    await fed
  }
}

/** The bytes as they came: from the connection itself where there is one, as a stream of the web's kind takes longer. */
function sentBody(c: Context, limit: number, room: Room): Promise<Uint8Array> {
  const incoming = incomingOf(c)
  return incoming === undefined
    ? wholeOf(bounded(c.req.raw.body ?? [], limit, room))
    : fromConnection(incoming, limit, room)
}

function fromConnection(incoming: IncomingMessage, limit: number, room: Room): Promise<Uint8Array> {
  return new Promise((resolve, reject) => {
    const chunks: Uint8Array[] = []
    let size = 0
    const end = (settle: () => void): void => {
      incoming.off('data', take).off('end', done).off('error', broken).off('close', broken)
      settle()
    }
    const refuse = (error: unknown): void => end(() => (incoming.pause(), reject(error)))
    const take = (chunk: Uint8Array): void => {
      size += chunk.length
      if (size > limit) return refuse(tooLarge(limit))
      chunks.push(chunk)
      const turn = room.grow(chunk.length)
      if (turn === undefined) return
      incoming.pause()
      turn.then(() => incoming.resume(), refuse)
    }
    const done = (): void =>
      end(() => resolve(chunks.length === 1 && chunks[0] !== undefined ? chunks[0] : Buffer.concat(chunks)))
    const broken = (): void => end(() => reject(new Refusal(400, 'the body was cut off')))
    if (incoming.destroyed) return broken()
    return void incoming.on('data', take).on('end', done).on('error', broken).on('close', broken)
  })
}

/** Writes what is sent into a decoder; trouble with it is what the decoder then ends with. */
async function feed(sent: Iterable<Uint8Array>, decoder: zlib.Gunzip): Promise<void> {
  try {
    for (const chunk of sent) {
      if (decoder.destroyed) return
      if (!decoder.write(chunk))
        await new Promise<void>((resolve) => decoder.once('drain', resolve).once('close', resolve))
    }
    decoder.end()
  } catch (error) {
    decoder.destroy(error instanceof Error ? error : undefined)
  }
}

async function* bounded(
  chunks: AsyncIterable<Uint8Array> | Iterable<Uint8Array>,
  limit: number,
  room: Room,
): AsyncGenerator<Uint8Array> {
  let size = 0
  for await (const chunk of chunks) {
    size += chunk.length
    if (size > limit) throw tooLarge(limit)
    await room.grow(chunk.length)
    yield chunk
  }
}

/** Bytes that a buffer grows by. */
const growth = 1024 * 1024

/**
 * The same into one buffer that grows, so that what is long is not in memory twice, in pieces and as a whole. Only
 * address space is set aside for the rest.
 */
async function gathered(chunks: AsyncIterable<Uint8Array>, limit: number): Promise<Uint8Array> {
  const buffer = new ArrayBuffer(0, { maxByteLength: limit })
  const bytes = new Uint8Array(buffer)
  let size = 0
  for await (const chunk of chunks) {
    if (size + chunk.length > buffer.byteLength) buffer.resize(Math.min(limit, buffer.byteLength + growth))
    bytes.set(chunk, size)
    size += chunk.length
  }
  buffer.resize(size)
  return bytes
}

function tooLarge(limit: number): Refusal {
  return new Refusal(413, `the body is larger than ${limit} bytes`)
}

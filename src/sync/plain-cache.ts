import { createHash, randomBytes } from 'node:crypto'
import { createReadStream, createWriteStream } from 'node:fs'
import { access, rename, rm, utimes } from 'node:fs/promises'
import { join } from 'node:path'
import { PassThrough } from 'node:stream'
import { pipeline } from 'node:stream/promises'
import { constants, createZstdCompress } from 'node:zlib'
import { decompressed } from '../compression.ts'
import { Complaint } from '../errors.ts'
import type { Expected } from './download.ts'

/**
 * Unpacking xz takes most of a sync, so the unpacked index is kept as zstd, which takes a twentieth. It needs no trust:
 * the Release tells the hash of the unpacked index, too.
 */
type Kept = { cache: string; plain: Expected }

function pathOf({ cache, plain }: Kept): string {
  return join(cache, `plain-${plain.sha256}.zst`)
}

/** Whether an index is there, unpacked before. */
export async function isKept(kept: Kept): Promise<boolean> {
  return access(pathOf(kept)).then(
    () => true,
    () => false,
  )
}

/**
 * The kept index; at its end it is proven, or forgotten.
 * @throws Complaint where it is not what was kept
 */
export async function* keptChunks(kept: Kept, signal: AbortSignal): AsyncGenerator<Uint8Array> {
  const path = pathOf(kept)
  const hash = createHash('sha256')
  try {
    const stored = createReadStream(path, { highWaterMark: 1 << 16, signal })
    for await (const chunk of decompressed(stored, { limit: kept.plain.size, what: path })) {
      hash.update(chunk)
      yield chunk
    }
    if (hash.digest('hex') !== kept.plain.sha256) throw new Complaint(`${path} is not what was kept there`)
  } catch (error) {
    if (error instanceof Complaint) await rm(path, { force: true })
    throw error
  }
  await utimes(path, new Date(), new Date())
}

/** Passes an unpacked index on, and keeps it if it comes to its end as the Release tells. */
export async function* keeping(chunks: AsyncIterable<Uint8Array>, kept: Kept): AsyncGenerator<Uint8Array> {
  const draft = `${pathOf(kept)}.${randomBytes(6).toString('hex')}.part`
  const input = new PassThrough({ highWaterMark: 1 << 20 })
  const params = { [constants.ZSTD_c_compressionLevel]: 3, [constants.ZSTD_c_checksumFlag]: 1 }
  const written = pipeline(
    input,
    createZstdCompress({ params }),
    createWriteStream(draft, { mode: 0o600 }),
  ).then(
    () => true,
    () => false, // a full disk costs the copy, not the sync
  )
  const hash = createHash('sha256')
  try {
    for await (const chunk of chunks) {
      hash.update(chunk)
      if (!input.write(chunk) && !input.destroyed) await drained(input)
      yield chunk
    }
    input.end()
    if ((await written) && hash.digest('hex') === kept.plain.sha256) await rename(draft, pathOf(kept))
  } finally {
    input.destroy()
    await written
    await rm(draft, { force: true })
  }
}

async function drained(input: PassThrough): Promise<void> {
  await new Promise<void>((resolve) => {
    const done = (): void => {
      input.off('drain', done).off('close', done)
      resolve()
    }
    input.on('drain', done).on('close', done)
  })
}

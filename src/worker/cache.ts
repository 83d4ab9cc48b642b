import { copyFile, link, mkdir, readdir, rename, rm, stat, utimes } from 'node:fs/promises'
import { randomUUID } from 'node:crypto'
import { join } from 'node:path'
import { download, type DownloadOptions, type Wanted } from './download.ts'
import { fingerprintOf, type Fingerprint } from './compare.ts'

/** Originals that several jobs of this machine may need: files named by SHA-256, the least used ones dropped. */
export type Cache = { readonly directory: string; readonly limit: number }

/** Bytes kept unless told otherwise. */
export const cacheLimit = 4 * 1024 ** 3

/**
 * Puts a file at a path, from the cache where its hash is known and there.
 * @throws Failure as `download`
 */
export async function fetchCached(
  wanted: Wanted,
  path: string,
  cache: Cache | null,
  options: DownloadOptions,
): Promise<Fingerprint> {
  if (cache === null || wanted.sha256 === null) return download(wanted, path, options)
  await mkdir(cache.directory, { recursive: true, mode: 0o700 })
  const kept = join(cache.directory, wanted.sha256)
  const found = await takeKept(kept, wanted.sha256, path, options.signal)
  if (found !== null) return found
  const fetched = await download(wanted, path, options)
  await keep(path, kept, cache)
  return fetched
}

/** Hands out a kept file when its bytes are still those of its name. */
async function takeKept(
  kept: string,
  sha256: string,
  path: string,
  signal: AbortSignal,
): Promise<Fingerprint | null> {
  try {
    await place(kept, path)
    const found = await fingerprintOf(path, { signal })
    if (found.sha256 === sha256) {
      await utimes(kept, new Date(), new Date()).catch(() => undefined) // swept meanwhile: we have our copy
      return found
    }
  } catch {
    signal.throwIfAborted()
  }
  await rm(path, { force: true })
  await rm(kept, { force: true })
  return null
}

/** One file under two names where the file system can, else a copy. */
async function place(from: string, to: string): Promise<void> {
  await link(from, to).catch((error: unknown) => {
    if (error instanceof Error && 'code' in error && error.code === 'ENOENT') throw error
    return copyFile(from, to)
  })
}

/** A cache that cannot take a file is no reason to fail a job. */
async function keep(path: string, kept: string, cache: Cache): Promise<void> {
  const temporary = `${kept}.${randomUUID()}`
  try {
    if ((await stat(path)).size > cache.limit / 2) return
    await place(path, temporary)
    await rename(temporary, kept)
    await sweep(cache)
  } catch {
    await rm(temporary, { force: true })
  }
}

/** Drops what was not used for longest until the rest fits. */
async function sweep({ directory, limit }: Cache): Promise<void> {
  const names = await readdir(directory)
  const found = await Promise.all(
    names.map(async (name) => ({ name, ...(await sizeAndUse(join(directory, name))) })),
  )
  const newestFirst = found.sort((a, b) => b.usedAt - a.usedAt)
  let bytes = 0
  for (const { name, size } of newestFirst) {
    bytes += size
    if (bytes > limit) await rm(join(directory, name), { force: true })
  }
}

async function sizeAndUse(path: string): Promise<{ size: number; usedAt: number }> {
  const found = await stat(path).catch(() => null)
  return { size: found?.size ?? 0, usedAt: found?.mtimeMs ?? 0 }
}

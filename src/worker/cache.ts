import { copyFile, link, mkdir, readdir, rename, rm, stat, utimes } from 'node:fs/promises'
import { randomUUID } from 'node:crypto'
import { join } from 'node:path'
import { download, type DownloadOptions, type Wanted } from './download.ts'
import { digestOf, type Fingerprint } from './compare.ts'
import type { Share } from './hash-elsewhere.ts'

/**
 * Originals that several jobs of this machine may need, the least used ones dropped. Their names are SHA-256 and SHA-512,
 * so that whoever has checked the first, which is fast, knows the second.
 */
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
  options: DownloadOptions & Share,
): Promise<Fingerprint> {
  if (cache === null || wanted.sha256 === null) return download(wanted, path, options)
  await mkdir(cache.directory, { recursive: true, mode: 0o700 })
  const found = await takeKept(wanted.sha256, path, cache, options)
  if (found !== null) return found
  const fetched = await download(wanted, path, options)
  await keep(path, join(cache.directory, nameOf(fetched)), cache)
  return fetched
}

function nameOf({ sha256, sha512 }: Omit<Fingerprint, 'size'>): string {
  return `${sha256}-${sha512}`
}

/** Hands out a kept file when its bytes are still those of its name. */
async function takeKept(
  sha256: string,
  path: string,
  { directory }: Cache,
  share: Share,
): Promise<Fingerprint | null> {
  const sha512 = (await readdir(directory)).map((name) => sha512In(name, sha256)).find((it) => it !== null)
  if (sha512 === undefined) return null
  const kept = join(directory, nameOf({ sha256, sha512 }))
  try {
    await place(kept, path)
    const found = await digestOf(path, share)
    if (found.sha256 === sha256) {
      await utimes(kept, new Date(), new Date()).catch(() => undefined) // swept meanwhile: we have our copy
      return { ...found, sha512 }
    }
  } catch {
    share.signal.throwIfAborted()
  }
  await rm(path, { force: true })
  await rm(kept, { force: true })
  return null
}

/** What the name of a kept file says beside the SHA-256; null: it is another file, or not yet kept. */
function sha512In(name: string, sha256: string): string | null {
  const sha512 = name.slice(sha256.length + 1)
  return /^[0-9a-f]{128}$/.test(sha512) && name === nameOf({ sha256, sha512 }) ? sha512 : null
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

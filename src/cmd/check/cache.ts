import { createHash, createHmac, randomBytes, randomUUID } from 'node:crypto'
import { link, readFile, readdir, rename, rm, stat, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { makeFolders } from '../../folders.ts'

/**
 * What earlier checks found, as files below one folder. They are sealed with a secret that lies elsewhere: caches are
 * handed around, as those of CI are, and what somebody else put there must not vouch for a file.
 */
export type Cache = {
  /** What was kept under a key, or null. What is damaged, or was not sealed here, is not there. */
  read: (kind: string, key: string) => Promise<Buffer | null>
  /** Keeps a text; a cache that cannot be written is no reason to fail. */
  write: (kind: string, key: string, content: string | Uint8Array) => Promise<void>
}

const sealBytes = 32
/** Files of one kind; the oldest give way. */
const mostFiles = 100

/**
 * @param folder where it lies
 * @param state folder of what is this user's own; the secret is kept there
 * @returns null where no secret can be kept: then nothing else is
 */
export async function openCache(folder: string, state: string): Promise<Cache | null> {
  const secret = await secretIn(state).catch(() => null)
  if (secret === null) return null
  const sealOf = (kind: string, key: string, content: Uint8Array): Buffer =>
    createHmac('sha256', secret)
      .update(JSON.stringify([kind, key]) + '\n')
      .update(content)
      .digest()
  return {
    async read(kind, key) {
      const bytes = await readFile(pathOf(folder, kind, key)).catch(() => null)
      if (bytes === null || bytes.length < sealBytes) return null
      const content = bytes.subarray(sealBytes)
      return sealOf(kind, key, content).equals(bytes.subarray(0, sealBytes)) ? content : null
    },
    async write(kind, key, given) {
      const path = pathOf(folder, kind, key)
      const aside = `${path}.${randomUUID()}`
      const content = Buffer.from(given)
      try {
        makeFolders(join(folder, kind), 0o700)
        await writeFile(aside, Buffer.concat([sealOf(kind, key, content), content]), { mode: 0o600 })
        await rename(aside, path)
        await removeOldest(join(folder, kind))
      } catch {
        await rm(aside, { force: true }).catch(() => {})
      }
    },
  }
}

async function removeOldest(folder: string): Promise<void> {
  const paths = (await readdir(folder)).map((name) => join(folder, name))
  if (paths.length <= mostFiles) return
  const aged = await Promise.all(paths.map(async (path) => ({ path, at: (await stat(path)).mtimeMs })))
  const old = aged.sort((a, b) => b.at - a.at).slice(mostFiles)
  await Promise.all(old.map(({ path }) => rm(path, { force: true })))
}

/** Where something is kept: below the folder of its kind, named by the SHA-256 of what it depends on. */
function pathOf(folder: string, kind: string, key: string): string {
  return join(folder, kind, createHash('sha256').update(key).digest('hex'))
}

/** The secret of this user, made once; of two checks that make it at the same time one is first. */
async function secretIn(state: string): Promise<Buffer | null> {
  const path = join(state, 'cache.secret')
  const known = await readFile(path).catch(() => null)
  if (known !== null) return known.length === sealBytes ? known : null
  const aside = `${path}.${randomUUID()}`
  makeFolders(state, 0o700)
  try {
    await writeFile(aside, randomBytes(sealBytes), { mode: 0o600 })
    await link(aside, path).catch(() => {}) // it is there already
  } finally {
    await rm(aside, { force: true })
  }
  const secret = await readFile(path)
  return secret.length === sealBytes ? secret : null
}

import { createHash, randomUUID } from 'node:crypto'
import { mkdir, readFile, rename, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'

/** Where a cached text is: below the folder of its kind, named by the SHA-256 of what it depends on. */
function pathOf(folder: string, kind: string, key: string): string {
  return join(folder, kind, createHash('sha256').update(key).digest('hex'))
}

/** What was kept under a key, or null. A damaged or unreadable cache is an empty one. */
export async function readCached(folder: string, kind: string, key: string): Promise<string | null> {
  const text = await readFile(pathOf(folder, kind, key), 'utf8').catch(() => null)
  if (text === null) return null
  const [sum = '', ...rest] = text.split('\n')
  const content = rest.join('\n')
  return sum === sumOf(content) ? content : null
}

/** Keeps a text; a cache that cannot be written is no reason to fail. */
export async function writeCached(folder: string, kind: string, key: string, content: string): Promise<void> {
  const path = pathOf(folder, kind, key)
  const aside = `${path}.${randomUUID()}`
  try {
    await mkdir(join(folder, kind), { recursive: true, mode: 0o700 })
    await writeFile(aside, `${sumOf(content)}\n${content}`, { mode: 0o600 })
    await rename(aside, path)
  } catch {
    await rm(aside, { force: true }).catch(() => {})
  }
}

function sumOf(content: string): string {
  return createHash('sha256').update(content).digest('hex')
}

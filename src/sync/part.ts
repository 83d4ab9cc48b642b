import { randomBytes } from 'node:crypto'
import { readdir, readFile, rename, rm, stat, writeFile } from 'node:fs/promises'
import { basename, dirname, join } from 'node:path'
import type { Expected } from './download.ts'

/** What is there of a file: its first `size` bytes, of the version that its server calls `etag`; null: it did not tell. */
export type Continuable = { size: number; etag: string | null }

/** The beginning of a file that is on its way, ours alone until it is disposed of; it then stays where it can be continued. */
export type Part = AsyncDisposable & {
  path: string
  size: () => Promise<number>
  /** What can be continued at this address, where the hash or the entity tag will tell whether both halves are of one file. */
  continuable: (url: string, expected: Expected | null) => Promise<Continuable>
  /** Notes that what comes now is the start of the file at this address. */
  begin: (url: string, etag: string | null) => Promise<void>
  drop: () => Promise<void>
}

/** Minutes without a byte after which nobody can be writing any more, whatever became of the process that began. */
const abandonedMinutes = 10

/** Parts that downloads of this process are writing. */
const active = new Set<string>()

/** Makes a part for `target`, from what an earlier download left of it, if any. */
export async function claimPart(target: string): Promise<Part> {
  const path = `${target}.${process.pid}-${randomBytes(6).toString('hex')}.part`
  active.add(path)
  await takeOver(target, path)
  const drop = async (): Promise<void> => {
    await rm(path, { force: true })
    await rm(noteOf(path), { force: true })
  }
  let isProvenByHash = false
  return {
    path,
    size: () => sizeOf(path),
    async continuable(url, expected) {
      isProvenByHash = expected !== null
      const note = await noteBeside(path)
      const etag = note?.url === url ? note.etag : null
      const size = await sizeOf(path)
      const isTooLong = expected !== null && size > expected.size
      return isTooLong || (expected === null && etag === null) ? { size: 0, etag: null } : { size, etag }
    },
    async begin(url, etag) {
      await rm(path, { force: true })
      await writeFile(noteOf(path), JSON.stringify({ url, etag: isStrong(etag) ? etag : null }), {
        mode: 0o600,
      })
    },
    drop,
    async [Symbol.asyncDispose]() {
      active.delete(path)
      const isOfUse = isProvenByHash || (await noteBeside(path))?.etag != null
      if (!isOfUse || (await sizeOf(path)) === 0) await drop()
    },
  }
}

function noteOf(path: string): string {
  return `${path}.note`
}

/** Gives the longest part that nobody writes any more the new name; the others go. */
async function takeOver(target: string, path: string): Promise<void> {
  const left: { name: string; size: number }[] = []
  for (const name of await abandonedParts(target)) left.push({ name, size: await sizeOf(name) })
  left.sort((a, b) => b.size - a.size)
  let isTaken = false
  for (const { name } of left) {
    if (isTaken) {
      await rm(name, { force: true })
      await rm(noteOf(name), { force: true })
      continue
    }
    isTaken = await renamed(name, path)
    if (isTaken) await renamed(noteOf(name), noteOf(path))
  }
}

/** False where another process was faster. */
async function renamed(from: string, to: string): Promise<boolean> {
  return rename(from, to).then(
    () => true,
    () => false,
  )
}

async function abandonedParts(target: string): Promise<string[]> {
  const folder = dirname(target)
  const start = `${basename(target)}.`
  const names = await readdir(folder).catch(() => []) // then there is nothing to continue
  const found: string[] = []
  for (const name of names) {
    const owner = name.startsWith(start)
      ? /^(\d{1,10})-[0-9a-f]{12}\.part$/.exec(name.slice(start.length))
      : null
    const path = join(folder, name)
    if (owner !== null && !active.has(path) && (await isAbandoned(path, Number(owner[1])))) found.push(path)
  }
  return found
}

async function isAbandoned(path: string, owner: number): Promise<boolean> {
  if (owner === process.pid || !isRunning(owner)) return true
  const { mtimeMs } = await stat(path).catch(() => ({ mtimeMs: Infinity })) // it was just finished
  return mtimeMs < Date.now() - abandonedMinutes * 60_000
}

function isRunning(pid: number): boolean {
  try {
    return process.kill(pid, 0)
  } catch (error) {
    return error instanceof Error && 'code' in error && error.code === 'EPERM' // somebody else's
  }
}

async function noteBeside(path: string): Promise<{ url: string; etag: string | null } | null> {
  try {
    const { url, etag } = JSON.parse(await readFile(noteOf(path), 'utf8')) as {
      url?: unknown
      etag?: unknown
    }
    return typeof url === 'string' ? { url, etag: typeof etag === 'string' ? etag : null } : null
  } catch {
    return null // none was written, or not to its end
  }
}

/** Only strong tags tell one byte from another (rfc-editor.org/rfc/rfc9110 section 8.8.3). */
function isStrong(etag: string | null): boolean {
  return etag !== null && etag.startsWith('"') && etag.length <= 1024
}

async function sizeOf(path: string): Promise<number> {
  return stat(path).then(
    ({ size }) => size,
    () => 0,
  )
}

import { createHash } from 'node:crypto'
import { constants, createReadStream } from 'node:fs'
import { access, mkdtemp, readFile, readdir, rename, rm, stat, utimes, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { wholeOf } from '../chunks.ts'
import { Complaint, sentenceOf } from '../errors.ts'
import { makeFolders } from '../folders.ts'
import type { Log } from '../log.ts'
import { addressOf } from './address.ts'
import { download, mismatchOf, NotAsTold, type Expected, type Validators } from './download.ts'
import { silentServers, type SilentServers } from './silent-servers.ts'

/** How far a download is; `total` is null where the mirror does not tell. */
export type Progress = { what: string; done: number; total: number | null }

/** A file of an archive as it was stored there, on this machine by now. */
export type MirrorFile = {
  /** Address or path it came from. */
  origin: string
  /** Its bytes; an error at their end where they are no longer what was expected. */
  chunks: () => AsyncIterable<Uint8Array>
}

type FetchOptions = {
  /** What a proven index says of the file; any other is refused. */
  expected?: Expected | null
  /** Most bytes that are taken. */
  limit: number
}

/** An archive: one address or folder, or several with the same content. */
export type Mirror = {
  /** Folder that outlives the sync, if any. */
  cache: string | null
  /** Null where the archive does not have the file. */
  file: (path: string, options: FetchOptions) => Promise<MirrorFile | null>
  /** What was kept of `key` at an earlier sync of this archive, and its replacement. Null without a cache. */
  recall: (key: string) => Promise<string | null>
  remember: (key: string, value: string) => Promise<void>
}

type MirrorOptions = {
  addresses: readonly string[]
  folder: DownloadFolder
  log: Log
  signal: AbortSignal
  progress?: ((progress: Progress) => void) | undefined
  retryMs?: number
  /** Shared by all archives of a sync. */
  silent?: SilentServers
}

/** Opens an archive. Nothing is fetched yet. */
export function openMirror(options: MirrorOptions): Mirror {
  const { silent = silentServers() } = options
  const noteFile = (key: string): string =>
    join(options.folder.path, `note-${shortHash(options.addresses[0] + key)}`)
  return {
    cache: options.folder.isKept ? options.folder.path : null,
    async file(path, { expected = null, limit }) {
      const failures: unknown[] = []
      for (const address of silentLast(
        options.addresses.map((base) => addressOf(base, path, base)),
        silent,
      )) {
        try {
          const found = await fileAt(address, { expected, limit }, { ...options, silent })
          if (found !== null) return found
        } catch (error) {
          options.signal.throwIfAborted()
          if (options.addresses.length > 1) options.log.warning(`sync: ${sentenceOf(error)}`)
          failures.push(error)
        }
      }
      if (failures.length === 0) return null
      throw failures[0] instanceof Error ? failures[0] : new Error(String(failures[0]))
    },
    recall: (key) => readFile(noteFile(key), 'utf8').catch(() => null),
    remember: (key, value) => writeWhole(noteFile(key), value),
  }
}

/** In their order, but those that did not answer before after all others. */
function silentLast(addresses: readonly string[], { isSilent }: SilentServers): string[] {
  const { yes = [], no = [] } = Object.groupBy(addresses, (one) =>
    isWeb(one) && isSilent(one) ? 'yes' : 'no',
  )
  return [...no, ...yes]
}

function isWeb(address: string): boolean {
  return /^https?:/.test(address) && URL.canParse(address)
}

/** Where downloads go; `isKept`: they are there at the next sync. */
type DownloadFolder = { path: string; isKept: boolean }

/** A folder for what is downloaded: `cache`, or one that is removed when it is disposed of. */
export async function downloadFolder(cache: string | null): Promise<AsyncDisposable & DownloadFolder> {
  if (cache !== null) {
    makeFolders(cache, 0o700)
    return { path: cache, isKept: true, [Symbol.asyncDispose]: () => sweep(cache) }
  }
  const path = await mkdtemp(join(tmpdir(), 'rebuilderd-sync-'))
  return { path, isKept: false, [Symbol.asyncDispose]: () => rm(path, { recursive: true, force: true }) }
}

const keptDays = 14
/** Downloads that were broken off are of use for as long as the mirror has the same file. */
const keptPartDays = 2

/** Removes what no sync has used for days: each update of an index leaves its predecessor behind. */
async function sweep(cache: string): Promise<void> {
  const names = await readdir(cache).catch(() => []) // a cache that cannot be tidied up harms no sync
  for (const name of names) {
    const isPart = /\.part(?:\.note)?$/.test(name)
    if (!isPart && !/^(?:sha256|plain|named)-/.test(name)) continue
    const path = join(cache, name)
    const { mtimeMs } = await stat(path).catch(() => ({ mtimeMs: Infinity })) // another sync was faster
    const days = isPart ? keptPartDays : keptDays
    if (mtimeMs < Date.now() - days * 86_400_000) await rm(path, { force: true })
  }
}

type Wanted = { expected: Expected | null; limit: number }

type Asking = MirrorOptions & { silent: SilentServers }

async function fileAt(address: string, wanted: Wanted, options: Asking): Promise<MirrorFile | null> {
  if (isWeb(address)) return downloadedFile(address, wanted, options)
  if (/^[a-z+]+:\/\//.test(address) && !address.startsWith('file:')) {
    throw new Complaint(`${address} has a scheme we do not read`, {
      hint: 'http, https, file or a folder',
      exitCode: 2,
    })
  }
  return localFile(address.startsWith('file:') ? fileURLToPath(address) : address, wanted, options.signal)
}

async function localFile(path: string, wanted: Wanted, signal: AbortSignal): Promise<MirrorFile | null> {
  const found = await stat(path).catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT' || error.code === 'ENOTDIR') return null
    throw new Complaint(`cannot read ${path}`, { cause: error })
  })
  if (found === null) return null
  if (!found.isFile()) throw new Complaint(`${path} is not a plain file`)
  if (wanted.expected === null && found.size > wanted.limit)
    throw new Complaint(`${path} is longer than ${wanted.limit} bytes`)
  const problem = wanted.expected === null ? null : await mismatchOf(path, wanted.expected)
  if (problem !== null) throw new NotAsTold(path, problem)
  return provenFile(path, path, wanted.expected, signal)
}

async function downloadedFile(url: string, wanted: Wanted, options: Asking): Promise<MirrorFile | null> {
  const { expected, limit } = wanted
  const { folder, signal, silent } = options
  const target = join(
    folder.path,
    expected === null ? `named-${shortHash(url)}` : `sha256-${expected.sha256}`,
  )
  const file = provenFile(url, target, expected, signal)
  if (expected !== null && (await isProven(target, expected))) {
    await utimes(target, new Date(), new Date())
    return file
  }
  const known = expected === null ? await validatorsBeside(target) : null
  const onProgress = (done: number, total: number | null): void =>
    options.progress?.({ what: url, done, total })
  const retry = options.retryMs === undefined ? {} : { retryMs: options.retryMs }
  const got = await silent.asking(url, (mostTries) =>
    download(url, { target, expected, limit, signal, known, onProgress, mostTries, ...retry }),
  )
  if (got.outcome === 'absent') return null
  if (got.outcome === 'new' && expected === null)
    await writeWhole(`${target}.json`, JSON.stringify(got.validators))
  return file
}

/** Whether an earlier download is still what it was; a disk may forget. */
async function isProven(path: string, expected: Expected): Promise<boolean> {
  return mismatchOf(path, expected).then(
    (problem) => problem === null,
    () => false,
  )
}

async function validatorsBeside(target: string): Promise<Validators | null> {
  try {
    await access(target, constants.R_OK)
    const { etag, lastModified } = JSON.parse(await readFile(`${target}.json`, 'utf8')) as Partial<Validators>
    return { etag: textOrNull(etag), lastModified: textOrNull(lastModified) }
  } catch {
    return null // whatever is wrong with it: the file is fetched again
  }
}

function textOrNull(given: unknown): string | null {
  return typeof given === 'string' ? given : null
}

function provenFile(
  origin: string,
  path: string,
  expected: Expected | null,
  signal: AbortSignal,
): MirrorFile {
  return {
    origin,
    async *chunks() {
      const hash = createHash('sha256')
      for await (const chunk of createReadStream(path, { highWaterMark: 1 << 16, signal })) {
        if (expected !== null) hash.update(chunk as Uint8Array) // no encoding is set
        yield chunk as Uint8Array
      }
      if (expected !== null && hash.digest('hex') !== expected.sha256) {
        throw new Complaint(`${origin} changed while it was read`)
      }
    },
  }
}

/**
 * The whole of a small file.
 * @throws Complaint where it is longer than `limit`
 */
export async function bytesOf(file: MirrorFile, limit: number): Promise<Buffer> {
  return wholeOf(file.chunks(), { limit, what: file.origin })
}

async function writeWhole(path: string, content: string): Promise<void> {
  const draft = `${path}.${process.pid}.part`
  await writeFile(draft, content, { mode: 0o600 })
  await rename(draft, path)
}

function shortHash(text: string): string {
  return createHash('sha256').update(text).digest('hex').slice(0, 40)
}

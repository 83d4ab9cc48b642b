import { createHash } from 'node:crypto'
import { createReadStream } from 'node:fs'
import { open, readdir, stat } from 'node:fs/promises'
import { basename, join } from 'node:path'
import { decompressed } from '../../compression.ts'
import { sentenceOf } from '../../errors.ts'
import { byTurns, hashesOf } from '../../hashing.ts'
import type { Cache } from './cache.ts'
import { isGivenFolder } from './given.ts'
import { filesIn } from './inside.ts'
import { keyOf, looseKeys, withoutEpoch, type Installed } from './installed.ts'
import { unlz4 } from './lz4.ts'
import { wantedEntries } from './packages-index.ts'

/**
 * SHA-256 of package files by `keyOf`, as the distribution publishes them: never as a rebuilder tells them. null where
 * several files of one name, version and architecture are published: which of them is installed cannot be known.
 */
export type Published = ReadonlyMap<string, string | null>

type PublishedOptions = {
  /** The system that is checked; null where there is only a list. */
  root: string | null
  /** It was unpacked for this check only: what is found there is not kept for a next time. */
  isPassing?: boolean
  /** More indexes: files, or folders of them. */
  indexes: readonly string[]
  /** Keeps what was found, so that the next time is faster; null: nothing does. */
  cache: Cache | null
  signal: AbortSignal
}

type Finding = { hashes: Published; problems: readonly string[] }

const longestIndex = 4 * 1024 * 1024 * 1024

/** What hashes are looked for in: indexes and package files that were kept; and what was found the last time. */
type Places = {
  files: readonly Index[]
  kept: readonly { path: string; key: string }[]
  stamp: string
  /** Hashes as they were found before, if nothing has changed since. */
  known: Published | null
}

/** Where hashes of these packages are: the lists of apt and pacman, given indexes, package files that were kept. */
export async function publishedPlaces(
  packages: readonly Installed[],
  options: PublishedOptions,
): Promise<Places> {
  const files = await indexFiles(options)
  const kept = options.root === null ? [] : await keptFiles(options.root, packages)
  const stamp = await stampOf([...files, ...kept], packages)
  const text = await cacheOf(options)?.read('published', stamp)
  return { files, kept, stamp, known: text == null ? null : hashesOfText(text.toString()) }
}

function cacheOf({ cache, isPassing = false }: PublishedOptions): Cache | null {
  return isPassing ? null : cache
}

/** Hashes of these packages, read where they are. */
export async function publishedHashes(
  packages: readonly Installed[],
  { files, kept, stamp, known }: Places,
  options: PublishedOptions,
): Promise<Finding> {
  const { signal } = options
  const cache = cacheOf(options)
  if (known !== null) return { hashes: known, problems: [] }
  const wanted = new Set(packages.map(keyOf))
  const names = new Set(packages.map(({ name }) => name))
  const hashes = new Map<string, string | null>()
  const problems: string[] = []
  const loose = looseKeys(packages)
  const take: Take = (one, sha256) => {
    const exact = keyOf(one)
    const bare = loose.size === 0 ? exact : keyOf({ ...one, version: withoutEpoch(one.version) })
    const key = loose.has(bare) ? bare : exact
    if (!wanted.has(key)) return
    hashes.set(key, (hashes.get(key) ?? sha256) === sha256 && hashes.get(key) !== null ? sha256 : null)
  }
  for (const one of packages) if (one.sha256 !== null) take(one, one.sha256)
  for (const file of files) {
    await readIndex(file, names, take, signal).catch((error: unknown) => {
      signal.throwIfAborted()
      problems.push(`${file.path} is passed over: ${sentenceOf(error)}`)
    })
  }
  for (const { path, key } of kept) {
    if (!hashes.has(key)) hashes.set(key, await sha256OfFile(path, signal))
  }
  if (cache !== null && problems.length === 0) await cache.write('published', stamp, textOfHashes(hashes))
  return { hashes, problems }
}

/** SHA-256 of a file in hex. */
export async function sha256OfFile(path: string, signal: AbortSignal): Promise<string> {
  const file = await open(path)
  try {
    return (await byTurns(hashesOf(file.fd, ['sha256']), signal)).sha256
  } finally {
    await file.close()
  }
}

/** A file with the name that tells its kind, which links may have hidden. */
type Index = { name: string; path: string }

async function indexFiles({ root, indexes }: PublishedOptions): Promise<Index[]> {
  const files: Index[] = []
  if (root !== null) {
    files.push(...(await filesIn(root, 'var/lib/apt/lists', isIndex)))
    files.push(...(await filesIn(root, 'var/lib/pacman/sync', isIndex)))
  }
  for (const index of indexes) {
    const paths = (await isGivenFolder('--index', index)) ? await filesBelow(index) : [index]
    files.push(...paths.map((path) => ({ name: basename(path), path })))
  }
  return files
}

function isIndex(name: string): boolean {
  return /(Packages(\.\w+)?|\.db(\.tar\.\w+)?|primary\.xml(\.\w+)?)$/.test(name)
}

/** Indexes at any depth: dnf has a folder per repository. What apt has not proven yet is in `partial`. */
async function filesBelow(folder: string): Promise<string[]> {
  const entries = await readdir(folder, { withFileTypes: true }).catch(() => [])
  const files = entries.filter((entry) => entry.isFile() && isIndex(entry.name))
  const folders = entries.filter((entry) => entry.isDirectory() && entry.name !== 'partial')
  const deeper = await Promise.all(folders.map(({ name }) => filesBelow(join(folder, name))))
  return [...files.map(({ name }) => join(folder, name)).sort(), ...deeper.flat()]
}

/** Package files that apt and pacman keep where they have downloaded them. */
async function keptFiles(
  root: string,
  packages: readonly Installed[],
): Promise<{ path: string; key: string }[]> {
  const apt = await filesIn(root, 'var/cache/apt/archives', (name) => name.endsWith('.deb'))
  const pacman = await filesIn(root, 'var/cache/pacman/pkg', (name) => /\.pkg\.tar\.\w+$/.test(name))
  const paths = new Map([...apt, ...pacman].map(({ name, path }) => [name, path]))
  if (paths.size === 0) return []
  return packages.flatMap((one) => {
    const { name, version, architecture } = one
    const names = [
      `${name}_${version.replaceAll(':', '%3a')}_${architecture}.deb`,
      ...['zst', 'xz', 'gz'].map((coding) => `${name}-${version}-${architecture}.pkg.tar.${coding}`),
    ]
    const path = names.map((each) => paths.get(each)).find((each) => each !== undefined)
    return path === undefined ? [] : [{ path, key: keyOf(one) }]
  })
}

type Take = (one: Pick<Installed, 'name' | 'version' | 'architecture'>, sha256: string) => void

/** Reads one index of whichever kind its name tells. */
async function readIndex(
  { name, path }: Index,
  names: ReadonlySet<string>,
  take: Take,
  signal: AbortSignal,
): Promise<void> {
  const chunks = plain(path, signal)
  if (/\.db(\.tar\.\w+)?$/.test(name)) {
    const { pacmanPackages } = await import('../../sync/pacman-db.ts') // loaded where it is needed
    for await (const one of pacmanPackages(chunks, path)) if (one.sha256 !== null) take(one, one.sha256)
  } else if (/primary\.xml(\.\w+)?$/.test(name)) {
    const { rpmPackages } = await import('../../sync/rpm-md.ts')
    for await (const one of rpmPackages(chunks, path)) if (one.sha256 !== null) take(one, one.sha256)
  } else {
    for await (const one of wantedEntries(chunks, names, path)) take(one, one.sha256)
  }
}

async function* plain(path: string, signal: AbortSignal): AsyncGenerator<Uint8Array> {
  if (path.endsWith('Packages.lz4')) {
    yield* unlz4(frugally(path, signal), path) // whoever reads those holds on to no block
    return
  }
  const chunks = createReadStream(path, { signal, highWaterMark: 1 << 16 }) as AsyncIterable<Uint8Array>
  yield* decompressed(chunks, { limit: longestIndex, what: path })
}

/** A file through one buffer that is used again and again: each chunk is good until the next is asked for. */
async function* frugally(path: string, signal: AbortSignal): AsyncGenerator<Uint8Array> {
  const buffer = Buffer.alloc(1 << 18)
  const file = await open(path)
  try {
    for (;;) {
      signal.throwIfAborted()
      const { bytesRead } = await file.read(buffer, 0, buffer.length, null)
      if (bytesRead === 0) return
      yield buffer.subarray(0, bytesRead)
    }
  } finally {
    await file.close()
  }
}

/** What the findings depend on. */
async function stampOf(files: readonly { path: string }[], packages: readonly Installed[]): Promise<string> {
  const hash = createHash('sha256')
  for (const { path } of files) {
    const { dev, ino, size, mtimeMs, ctimeMs } = await stat(path)
    hash.update(`${path}\n${dev} ${ino} ${size} ${mtimeMs} ${ctimeMs}\n`)
  }
  for (const one of packages)
    hash.update(`${keyOf(one)}\n${one.sha256 ?? ''}${one.lacksEpoch === true ? '?' : ''}\n`)
  return hash.digest('hex')
}

function textOfHashes(hashes: Published): string {
  return JSON.stringify([...hashes])
}

function hashesOfText(text: string): Published {
  return new Map(JSON.parse(text) as [string, string | null][]) // written by textOfHashes
}

import { Complaint } from '../errors.ts'
import { decompressed } from '../compression.ts'
import type { Stanza } from './deb822.ts'
import type { Release } from './debian-release.ts'
import { NotAsTold } from './download.ts'
import type { Mirror, MirrorFile } from './mirror.ts'
import { isKept, keeping, keptChunks } from './plain-cache.ts'

/** Where an index lies below `dists/NAME`, without its ending: `main/binary-amd64/Packages`. */
export type IndexPath = string

/** Most bytes of an index, as stored and unpacked, where the Release does not tell. */
const longestStored = 1024 * 1024 * 1024
const longestPlain = 8 * 1024 * 1024 * 1024

/** Smallest first. */
const endings = ['.xz', '.zst', '.bz2', '.gz', '']

/** An index that is at hand. */
export type Index = { origin: string; chunks: (signal: AbortSignal) => AsyncIterable<Uint8Array> }

/**
 * Fetches an index in one of its codings, unless it is still at hand; null where the archive does not have it.
 * @param release null: take what the mirror has
 */
export async function fetchIndex(
  mirror: Mirror,
  name: string,
  path: IndexPath,
  release: Release | null,
): Promise<Index | null> {
  const plain = release?.files.get(path) ?? null
  const kept = mirror.cache === null || plain === null ? null : { cache: mirror.cache, plain }
  if (kept !== null && (await isKept(kept))) {
    return { origin: `dists/${name}/${path}`, chunks: (signal) => keptChunks(kept, signal) }
  }
  const file = await fetchFile(mirror, name, path, release)
  if (file === null) return null
  const unpacked = (): AsyncIterable<Uint8Array> =>
    decompressed(file.chunks(), { limit: plain?.size ?? longestPlain, what: file.origin })
  return { origin: file.origin, chunks: () => (kept === null ? unpacked() : keeping(unpacked(), kept)) }
}

async function fetchFile(
  mirror: Mirror,
  name: string,
  path: IndexPath,
  release: Release | null,
): Promise<MirrorFile | null> {
  const folder = `dists/${name}/${path.slice(0, path.lastIndexOf('/'))}`
  let mismatch: NotAsTold | null = null
  for (const ending of endings) {
    const expected = release?.files.get(path + ending) ?? null
    if (release !== null && expected === null) continue
    const byHash = release?.hasByHash === true ? [`${folder}/by-hash/SHA256/${expected?.sha256}`] : []
    for (const address of [...byHash, `dists/${name}/${path}${ending}`]) {
      try {
        const file = await mirror.file(address, { expected, limit: expected?.size ?? longestStored })
        if (file !== null) return file
      } catch (error) {
        if (!(error instanceof NotAsTold)) throw error
        mismatch ??= error // another coding may be as it should
      }
    }
  }
  if (mismatch !== null) throw mismatch
  return null
}

/** Whether the Release lists the index in any coding. */
export function isListed(release: Release, path: IndexPath): boolean {
  return endings.some((ending) => release.files.has(path + ending))
}

/** A field that must be there and look as it should. */
export function requiredField(stanza: Stanza, field: string, pattern: RegExp, origin: string): string {
  const value = stanza.fields[field]
  if (value !== undefined && value.length <= 1024 && pattern.test(value)) return value
  throw badField(stanza, field, value, origin)
}

/** A field that is missing or none, with the place in the index. */
export function badField(
  stanza: Stanza,
  field: string,
  value: string | undefined,
  origin: string,
): Complaint {
  const where = `${origin}: the stanza at line ${stanza.line}`
  return value === undefined || value === ''
    ? new Complaint(`${where} has no ${field}`)
    : new Complaint(`${where} has a ${field} that is none: ${JSON.stringify(value.slice(0, 120))}`)
}

/** What names, versions and architectures are made of (debian-policy 5.6.7, 5.6.12); wide enough for other archives. */
export const patterns = {
  name: /^[A-Za-z0-9][A-Za-z0-9+._-]*$/,
  version: /^[A-Za-z0-9.+~:_-]+$/,
  architecture: /^[a-z0-9][a-z0-9-]*$/,
  sha256: /^[0-9a-f]{64}$/,
  size: /^\d{1,15}$/,
  any: /^[^]+$/,
}

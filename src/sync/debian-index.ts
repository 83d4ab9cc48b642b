import { Complaint } from '../errors.ts'
import { decompressed } from '../compression.ts'
import { stanzas, type Stanza } from './deb822.ts'
import type { Release } from './debian-release.ts'
import type { Mirror, MirrorFile } from './mirror.ts'

/** Where an index lies below `dists/NAME`, without its ending: `main/binary-amd64/Packages`. */
export type IndexPath = string

/** Most bytes of an index, as stored and unpacked, where the Release does not tell. */
const longestStored = 1024 * 1024 * 1024
const longestPlain = 8 * 1024 * 1024 * 1024

/** Smallest first. */
const endings = ['.xz', '.zst', '.bz2', '.gz', '']

/**
 * Fetches an index in one of its codings; null where the archive does not have it.
 * @param release null: take what the mirror has
 */
export async function fetchIndex(
  mirror: Mirror,
  name: string,
  path: IndexPath,
  release: Release | null,
): Promise<MirrorFile | null> {
  const base = `dists/${name}`
  for (const ending of endings) {
    const expected = release?.files.get(path + ending) ?? null
    if (release !== null && expected === null) continue
    const limit = expected?.size ?? longestStored
    const byHash = `${base}/${path.slice(0, path.lastIndexOf('/'))}/by-hash/SHA256/${expected?.sha256}`
    const addresses = [...(release?.hasByHash === true ? [byHash] : []), `${base}/${path}${ending}`]
    for (const address of addresses) {
      const file = await mirror.file(address, { expected, limit })
      if (file !== null) return file
    }
  }
  return null
}

/** Whether the Release lists the index in any coding. */
export function isListed(release: Release, path: IndexPath): boolean {
  return endings.some((ending) => release.files.has(path + ending))
}

/** The stanzas of a fetched index, with the fields that are wanted. */
export function stanzasOf(
  file: MirrorFile,
  path: IndexPath,
  release: Release | null,
  wanted: readonly string[],
): AsyncGenerator<Stanza> {
  const limit = release?.files.get(path)?.size ?? longestPlain
  return stanzas(decompressed(file.chunks(), { limit, what: file.origin }), { what: file.origin, wanted })
}

/** A field that must be there and look as it should. */
export function requiredField(stanza: Stanza, field: string, pattern: RegExp, origin: string): string {
  const value = stanza.fields[field]
  if (value !== undefined && value.length <= 1024 && pattern.test(value)) return value
  throw badField(stanza, field, value, origin)
}

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

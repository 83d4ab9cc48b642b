import { access } from 'node:fs/promises'
import { Complaint, sentenceOf } from '../errors.ts'
import { unproven, type SyncContext } from './distribution.ts'
import { stanzaOf } from './deb822.ts'
import type { Expected } from './download.ts'
import { bytesOf, type Mirror } from './mirror.ts'
import { readKeyrings, unprovenText, verifyClearsigned, verifyDetached } from './openpgp.ts'
import type { Profile } from './profile.ts'
import { checkNotOlder, momentOf } from './replay.ts'

/** What a Release file tells of its indexes (wiki.debian.org/DebianRepository/Format). */
export type Release = {
  index: 'signed' | 'unsigned'
  /** By path below `dists/NAME`. */
  files: ReadonlyMap<string, Expected>
  hasByHash: boolean
  /** Whether the indexes of the other architectures list the packages of `all`. */
  hasAllElsewhere: boolean
}

const longestRelease = 32 * 1024 * 1024

/** Where Debian keeps its archive's keys. */
const usualKeyrings = [
  '/usr/share/keyrings/debian-archive-keyring.gpg',
  '/usr/share/keyrings/debian-archive-keyring.pgp',
]

/**
 * Reads and proves `InRelease`, or `Release` with `Release.gpg`. Null where there is none and the profile takes
 * indexes on trust.
 * @throws Complaint where it is not signed by a key of the keyrings, too old, or of another release
 */
export async function readRelease(
  mirror: Mirror,
  name: string,
  profile: Profile,
  context: SyncContext,
): Promise<Release | null> {
  const signed = await signedContent(mirror, name, profile, context)
  if (signed === null) {
    if (profile.allow_unsigned === true) return null
    const hint = { hint: `is there a release called ${name}?` }
    throw unproven(`dists/${name}`, new Complaint('the archive has neither InRelease nor Release', hint))
  }
  const { fields } = stanzaOf(signed.content, signed.origin)
  checkName(fields, name)
  if (profile.allow_expired !== true) checkAge(fields, context.now())
  const isSigned = signed.index === 'signed'
  const date = fields['Date']
  if (date !== undefined || isSigned) {
    const dated = { key: `release-date ${name}`, what: "the archive's Release", date: date ?? '', isSigned }
    await checkNotOlder(mirror, dated, { profile, log: context.log })
  }
  return {
    index: signed.index,
    files: filesOf(fields['SHA256'] ?? '', signed.origin),
    hasByHash: fields['Acquire-By-Hash'] === 'yes',
    hasAllElsewhere: (fields['No-Support-for-Architecture-all'] ?? '').split(/\s+/).includes('Packages'),
  }
}

type Signed = { content: Uint8Array; origin: string; index: 'signed' | 'unsigned' }

async function signedContent(
  mirror: Mirror,
  name: string,
  profile: Profile,
  context: SyncContext,
): Promise<Signed | null> {
  const inline = await mirror.file(`dists/${name}/InRelease`, { limit: longestRelease })
  const file = inline ?? (await mirror.file(`dists/${name}/Release`, { limit: longestRelease }))
  if (file === null) return null
  const content = await bytesOf(file, longestRelease)
  try {
    const keys = await readKeyrings(await keyringsOf(profile))
    const proven =
      inline === null
        ? await verifyDetached(content, await detachedSignature(mirror, name), keys, context.now())
        : await verifyClearsigned(content, keys, context.now())
    return { content: proven.content, origin: file.origin, index: 'signed' }
  } catch (error) {
    if (profile.allow_unsigned !== true) throw unproven(file.origin, error)
    context.log.warning(`sync: ${file.origin} is taken on trust: ${sentenceOf(error)}`)
    return {
      content: inline === null ? content : await unprovenText(content),
      origin: file.origin,
      index: 'unsigned',
    }
  }
}

async function detachedSignature(mirror: Mirror, name: string): Promise<Uint8Array> {
  const file = await mirror.file(`dists/${name}/Release.gpg`, { limit: 1024 * 1024 })
  if (file === null) throw new Complaint('it has no signature (Release.gpg is not there)')
  return bytesOf(file, 1024 * 1024)
}

async function keyringsOf(profile: Profile): Promise<readonly string[]> {
  if (profile.keyrings !== undefined && profile.keyrings.length > 0) return profile.keyrings
  for (const file of usualKeyrings) {
    const isThere = await access(file).then(
      () => true,
      () => false,
    )
    if (isThere) return [file]
  }
  throw new Complaint('there is no keyring to check its signature with', {
    hint: 'apt-get install debian-archive-keyring, or name one: keyrings = ["/path/to/keys.gpg"]',
  })
}

/** A mirror that serves another suite under this name would make us rebuild the wrong packages. */
function checkName(fields: Readonly<Record<string, string>>, name: string): void {
  const names = [fields['Codename'], fields['Suite']].filter((given) => given !== undefined)
  if (names.length === 0 || names.includes(name) || names.includes(name.replace(/\/updates$/, ''))) return
  throw new Complaint(`the archive's Release for ${name} says that it is ${names.join(' or ')}`)
}

function checkAge(fields: Readonly<Record<string, string>>, now: Date): void {
  const until = fields['Valid-Until']
  if (until === undefined) return
  const end = momentOf(until)
  if (Number.isNaN(end))
    throw new Complaint(`the archive's Release has a date that is none: ${until.slice(0, 80)}`)
  if (end > now.getTime()) return
  throw new Complaint(`the archive's Release was valid until ${until} only`, {
    hint: 'the mirror has stopped updating; allow_expired = true reads an archive that is kept as it was',
  })
}

/** Lines of `HASH SIZE PATH`. */
function filesOf(field: string, origin: string): Map<string, Expected> {
  const files = new Map<string, Expected>()
  for (const line of field.split('\n')) {
    if (line.trim() === '') continue
    const match = /^\s*([0-9a-f]{64})\s+(\d{1,15})\s+(\S+)\s*$/.exec(line)
    if (match === null)
      throw new Complaint(`${origin} has a line under SHA256 that is none: ${line.slice(0, 120)}`)
    const [, sha256 = '', size = '', path = ''] = match
    files.set(path, { sha256, size: Number(size) })
  }
  if (files.size === 0) throw new Complaint(`${origin} lists no SHA256 of any index`)
  return files
}

import { badField, patterns, requiredField } from './debian-index.ts'
import type { Stanza } from './deb822.ts'

/** A binary package, as Packages lists it. */
export type Binary = {
  name: string
  version: string
  architecture: string
  maintainer: string | null
  source: string
  /** Version of the source package, without what a rebuild by the archive (binNMU) added. */
  sourceVersion: string
  /** What such a rebuild added: `+b2`, or nothing. */
  rebuild: string
  /** Below the archive's address. */
  path: string
  sha256: string | null
  size: number | null
}

export const binaryFields = [
  'Package',
  'Source',
  'Version',
  'Architecture',
  'Maintainer',
  'Filename',
  'SHA256',
  'Size',
]

/**
 * @throws Complaint naming line and field where one is missing or malformed
 */
export function binaryOf(stanza: Stanza, origin: string): Binary {
  const { fields } = stanza
  const name = requiredField(stanza, 'Package', patterns.name, origin)
  const version = requiredField(stanza, 'Version', patterns.version, origin)
  const { SHA256: sha256, Size: size } = fields
  if (sha256 !== undefined && !patterns.sha256.test(sha256)) throw badField(stanza, 'SHA256', sha256, origin)
  if (size !== undefined && !patterns.size.test(size)) throw badField(stanza, 'Size', size, origin)
  return {
    name,
    version,
    architecture: requiredField(stanza, 'Architecture', patterns.architecture, origin),
    maintainer: fields['Maintainer']?.slice(0, 1024) ?? null,
    path: requiredField(stanza, 'Filename', patterns.any, origin),
    sha256: sha256 ?? null,
    size: size === undefined ? null : Number(size),
    ...sourceOfBinary(stanza, name, version, origin),
  }
}

/** `Source` is `name` or `name (version)`, where they differ from those of the binary. */
function sourceOfBinary(
  stanza: Stanza,
  name: string,
  version: string,
  origin: string,
): Pick<Binary, 'source' | 'sourceVersion' | 'rebuild'> {
  const given = stanza.fields['Source'] ?? ''
  const rebuild = /\+b\d+$/.exec(version)?.[0] ?? ''
  const match = /^(\S+)(?:\s+\(([^()\s]+)\))?$/.exec(given === '' ? name : given)
  const source = match?.[1] ?? ''
  const sourceVersion = match?.[2] ?? version.slice(0, version.length - rebuild.length)
  if (!patterns.name.test(source) || !patterns.version.test(sourceVersion)) {
    throw badField(stanza, 'Source', given, origin)
  }
  return { source, sourceVersion, rebuild }
}

/** A source package, as Sources lists it; what was not asked for is empty. */
export type Source = {
  maintainer: string | null
  uploaders: string
  /** Where its files are, below the archive's address. */
  directory: string
  /** File name of its .dsc. */
  dsc: string
}

/** What is needed of Sources beside name, version and maintainer; there are many, so the rest is not kept. */
export type SourceNeeds = { uploaders: boolean; directory: boolean; dsc: boolean }

/**
 * Reads stanzas of Sources.
 * @returns the fields that it looks at, and a function that throws a Complaint naming line and field where one is missing
 * or malformed
 */
export function sourceReader(needs: SourceNeeds) {
  const fields = [
    'Package',
    'Version',
    'Maintainer',
    ...(needs.uploaders ? ['Uploaders'] : []),
    ...(needs.directory ? ['Directory'] : []),
    ...(needs.dsc ? ['Files', 'Checksums-Sha256'] : []),
  ]
  const read = (stanza: Stanza, origin: string): { key: string; source: Source } => {
    const name = requiredField(stanza, 'Package', patterns.name, origin)
    const version = requiredField(stanza, 'Version', patterns.version, origin)
    const { Maintainer: maintainer, Uploaders: uploaders = '', Directory: directory = '' } = stanza.fields
    const dsc = needs.dsc ? dscOf(stanza, origin) : ''
    const source = { maintainer: maintainer?.slice(0, 1024) ?? null, uploaders, directory, dsc }
    return { key: sourceKey(name, version), source }
  }
  return { fields, read }
}

function dscOf(stanza: Stanza, origin: string): string {
  const lists = `${stanza.fields['Checksums-Sha256'] ?? ''}\n${stanza.fields['Files'] ?? ''}`
  const name = /^\s*[0-9a-f]+\s+\d+\s+([^\s/]+\.dsc)\s*$/m.exec(lists)?.[1]
  if (name === undefined) throw badField(stanza, '.dsc under Files', undefined, origin)
  return name
}

/** `"Doe, Jane" <jane@example.org>, Team <team@example.org>` → one text each. */
export function peopleOf(list: string): string[] {
  return (list.match(/(?:"[^"]*"|[^",])+/g) ?? []).map((one) => one.trim()).filter((one) => one !== '')
}

/** A source package is known by name and version. */
export function sourceKey(name: string, version: string): string {
  return `${name} ${version}`
}

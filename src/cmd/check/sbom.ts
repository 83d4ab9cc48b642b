import { Complaint } from '../../errors.ts'
import { plainVersion } from './lines.ts'
import { inventoryOf, isWord, type Installed, type Inventory } from './installed.ts'

type Entry = { purl: string; sha256: string | null }

/**
 * Packages of a distribution that a bill of materials lists: SPDX 2 and 3 (spdx.github.io/spdx-spec) or CycloneDX
 * (cyclonedx.org/docs), both as JSON, by their package URLs. Libraries of programming languages are passed over.
 * @throws Complaint where it is neither
 */
export function sbomPackages(text: string, what: string): Inventory {
  const document = parsed(text, what)
  const entries = entriesOf(document)
  if (entries === null) {
    throw new Complaint(`${what} is neither SPDX nor CycloneDX in JSON`, { exitCode: 2 })
  }
  const packages: Installed[] = []
  const problems: string[] = []
  for (const { purl, sha256 } of entries) {
    if (!/^pkg:(deb|alpm|rpm|apk)\//.test(purl)) continue
    const one = packageOfUrl(purl)
    if (one === null) problems.push(`${what}: ${purl.slice(0, 200)} does not tell name, version and arch`)
    else packages.push({ ...one, sha256 })
  }
  return inventoryOf(packages, problems)
}

function parsed(text: string, what: string): Readonly<Record<string, unknown>> {
  try {
    return tableOf(JSON.parse(text))
  } catch (error) {
    throw new Complaint(`${what} is not JSON`, { cause: error, exitCode: 2 })
  }
}

function entriesOf(document: Readonly<Record<string, unknown>>): Entry[] | null {
  if (document['bomFormat'] === 'CycloneDX') return componentsBelow(document).flatMap(ofComponent)
  if (typeof document['spdxVersion'] === 'string') return listOf(document['packages']).flatMap(ofPackage)
  if (Array.isArray(document['@graph'])) return listOf(document['@graph']).flatMap(ofElement)
  return null
}

/** Components may hold components, as deep as somebody likes: no call for each. */
function componentsBelow(document: Readonly<Record<string, unknown>>): Readonly<Record<string, unknown>>[] {
  const found = [...listOf(document['components'])]
  for (const one of found) for (const inner of listOf(one['components'])) found.push(inner)
  return found
}

function ofComponent(component: Readonly<Record<string, unknown>>): Entry[] {
  const { purl } = component
  const hash = listOf(component['hashes']).find(({ alg }) => alg === 'SHA-256')?.['content']
  return typeof purl === 'string' ? [{ purl, sha256: hashOf(hash) }] : []
}

function ofPackage(one: Readonly<Record<string, unknown>>): Entry[] {
  const reference = listOf(one['externalRefs']).find(({ referenceType }) => referenceType === 'purl')
  const purl = reference?.['referenceLocator']
  const hash = listOf(one['checksums']).find(({ algorithm }) => algorithm === 'SHA256')?.['checksumValue']
  return typeof purl === 'string' ? [{ purl, sha256: hashOf(hash) }] : []
}

function ofElement(element: Readonly<Record<string, unknown>>): Entry[] {
  const purl = element['software_packageUrl']
  return typeof purl === 'string' ? [{ purl, sha256: null }] : []
}

const distributions: Readonly<Record<string, string>> = { 'alpm/arch': 'archlinux', 'apk/alpine': 'alpine' }

/** `pkg:deb/debian/curl@7.88.1-10?arch=amd64` (github.com/package-url/purl-spec). Null where something is missing. */
function packageOfUrl(purl: string): Omit<Installed, 'sha256'> | null {
  const match = /^pkg:([a-z]+)\/([^/@?#]+)\/([^@?#]+)@([^?#]+)(?:\?([^#]*))?/.exec(purl)
  if (match === null) return null
  const [, type = '', namespace = '', name = '', version = '', query = ''] = match
  const qualifiers = new URLSearchParams(query)
  const epoch = qualifiers.get('epoch')
  const whole = `${epoch === null ? '' : `${epoch}:`}${decoded(version)}`
  const one = {
    name: decoded(name),
    version: plainVersion(whole),
    architecture: qualifiers.get('arch') ?? '',
  }
  if (!isWord(one.name) || !isWord(one.version) || !isWord(one.architecture)) return null
  return { distribution: distributions[`${type}/${namespace}`] ?? decoded(namespace), ...one, size: null }
}

function decoded(text: string): string {
  try {
    return decodeURIComponent(text)
  } catch {
    return '' // no name of a package
  }
}

function hashOf(given: unknown): string | null {
  return typeof given === 'string' && /^[0-9a-f]{64}$/i.test(given) ? given.toLowerCase() : null
}

function tableOf(given: unknown): Readonly<Record<string, unknown>> {
  const isTable = typeof given === 'object' && given !== null && !Array.isArray(given)
  return isTable ? (given as Record<string, unknown>) : {}
}

function listOf(given: unknown): Readonly<Record<string, unknown>>[] {
  return Array.isArray(given) ? given.map(tableOf) : []
}

import { counted } from '../output.ts'
import { inventoryOf, isWord, type Installed, type Inventory } from './installed.ts'

/**
 * Packages one a line: what `rpm -qa` prints, or `NAME VERSION ARCHITECTURE [SHA256 or bytes on the disk]` between
 * blanks. Empty lines and those that begin with `#` are passed over.
 */
export function listedPackages(text: string, distribution: string, what: string): Inventory {
  const packages: Installed[] = []
  const problems: string[] = []
  for (const [index, line] of text.split('\n').entries()) {
    const words = line.trim().split(/\s+/)
    if (words[0] === '' || words[0]?.startsWith('#') || words[0]?.startsWith('gpg-pubkey')) continue
    const one = words.length === 1 ? ofRpm(words[0] ?? '', distribution) : ofWords(words, distribution)
    if (one !== null) packages.push(one)
    else problems.push(`${what}: line ${index + 1} names no package: ${line.trim().slice(0, 120)}`)
  }
  const loose = packages.filter(({ lacksEpoch }) => lacksEpoch === true).length
  if (loose > 0)
    problems.push(`${what}: ${counted(loose, 'package')} without epoch, matched by the rest of the version`)
  return inventoryOf(packages, problems)
}

/** `bash-5.2.37-1.fc42.x86_64`: neither version nor release may hold a hyphen. */
function ofRpm(word: string, distribution: string): Installed | null {
  const match = /^(.+)-([^-]+-[^-]+)\.([^.]+)$/.exec(word)
  if (match === null || !isWord(word)) return null
  const [, name = '', version = '', architecture = ''] = match
  return {
    distribution,
    name,
    version: plainVersion(version),
    architecture,
    size: null,
    sha256: null,
    lacksEpoch: true,
  }
}

function ofWords(words: readonly string[], distribution: string): Installed | null {
  const [name, version, architecture, extra = ''] = words
  if (!isWord(name) || !isWord(version) || !isWord(architecture) || words.length > 5) return null
  const size = words.slice(3).find((word) => /^\d{1,15}$/.test(word))
  const sha256 = words.slice(3).find((word) => /^[0-9a-f]{64}$/.test(word))
  if (extra !== '' && size === undefined && sha256 === undefined) return null
  return {
    distribution,
    name,
    version: plainVersion(version),
    architecture,
    size: size === undefined ? null : Number(size),
    sha256: sha256 ?? null,
  }
}

/** An epoch of 0 is not written; rpm also prints `(none):`. */
export function plainVersion(version: string): string {
  return version.replace(/^(0|\(none\)):/, '')
}

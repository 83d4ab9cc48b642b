import { counted } from '../output.ts'
import { inventoryOf, isWord, type Installed, type Inventory } from './installed.ts'

/** What a line tells of a package; null where it does not tell the architecture. */
type Line = Pick<Installed, 'name' | 'version'> &
  Partial<Pick<Installed, 'size' | 'sha256' | 'lacksEpoch'>> & { architecture: string | null }

/**
 * Packages one a line: `NAME VERSION ARCHITECTURE [SHA256 or bytes on the disk]` between blanks, or what the tools of
 * distributions print: `dpkg-query -W`, `dpkg -l`, `apt list --installed`, `pacman -Q`, `rpm -qa`, `dnf list --installed`.
 * Empty lines, headings and those that begin with `#` are passed over.
 */
export function listedPackages(text: string, distribution: string, what: string): Inventory {
  const packages: Installed[] = []
  const problems: string[] = []
  const native = nativeWords(distribution)
  let bare = 0
  for (const [index, line] of text.split('\n').entries()) {
    const words = line.trim().split(/\s+/)
    if (isPassedOver(words) || isRemoved(words)) continue
    const one = lineOf(words)
    if (one === null) {
      problems.push(`${what}: line ${index + 1} names no package: ${line.trim().slice(0, 120)}`)
      continue
    }
    const { architecture, ...rest } = one
    const plain = { distribution, size: null, sha256: null, ...rest, version: plainVersion(one.version) }
    if (architecture !== null) packages.push({ ...plain, architecture })
    else {
      bare++
      for (const word of native) packages.push({ ...plain, architecture: word, lacksArchitecture: true })
    }
  }
  const unreadable = problems.length
  const loose = packages.filter(({ lacksEpoch }) => lacksEpoch === true).length
  if (loose > 0)
    problems.push(`${what}: ${counted(loose, 'package')} without epoch, matched by the rest of the version`)
  if (bare > 0)
    problems.push(
      `${what}: ${counted(bare, 'package')} without architecture, taken for ${native.join(' or ')}`,
    )
  return inventoryOf(packages, problems, unreadable)
}

/** What packages of this machine, and of every machine, have for their architecture. */
function nativeWords(distribution: string): readonly [string, string] {
  const isArm = process.arch === 'arm64'
  const kernel = isArm ? 'aarch64' : 'x86_64'
  if (distribution.startsWith('arch')) return [kernel, 'any']
  if (/^(fedora|rhel|centos|rocky|almalinux|opensuse|sles|mageia|qubes)/.test(distribution))
    return [kernel, 'noarch']
  return [isArm ? 'arm64' : 'amd64', 'all']
}

/** Comments, keys that rpm lists beside packages, and headings: of apt, of dnf, of `dpkg -l`. */
function isPassedOver([first = '', second = '', third = '']: readonly string[]): boolean {
  if (first === '' || /^(#|gpg-pubkey|Desired=|\|\/?$|\|\|\/$|\+\+\+-)/.test(first)) return true
  return (
    first === 'Listing...' || (/^(Installed|Available)$/i.test(first) && /^packages/i.test(second + third))
  )
}

function lineOf(words: readonly string[]): Line | null {
  const [first = '', , third = ''] = words
  const one = isOfDpkg(words)
    ? ofDpkg(words)
    : first.includes('/')
      ? ofApt(words)
      : words.length === 1
        ? ofRpm(first)
        : words.length === 3 && third.startsWith('@')
          ? ofDnf(words)
          : ofWords(words)
  if (one === null || !isWord(one.name) || !isWord(one.version)) return null
  return one.architecture === null || isWord(one.architecture) ? one : null
}

/** Some packages have names of two letters, too; those lines have no version as their third word. */
function isOfDpkg([state = '', , third = '', fourth = '']: readonly string[]): boolean {
  return /^[uirph][ncHUFWti]R?$/.test(state) && /\d/.test(third) && /^[a-z][a-z0-9-]+$/.test(fourth)
}

/** Its configuration is all that is left of it, or less. */
function isRemoved(words: readonly string[]): boolean {
  return isOfDpkg(words) && !/^.[iUFWt]/.test(words[0] ?? '')
}

/** `ii  libc6:amd64  2.36-9  amd64  the description` */
function ofDpkg([, given = '', version = '', architecture = '']: readonly string[]): Line {
  return { name: given.replace(/:[a-z0-9-]+$/, ''), version, architecture }
}

/** `curl/stable,now 7.88.1-10 amd64 [installed,automatic]`; what is not installed has no such mark. */
function ofApt([given = '', version = '', architecture = '', mark = '']: readonly string[]): Line | null {
  return mark.startsWith('[installed') ? { name: given.replace(/\/.*/, ''), version, architecture } : null
}

/** `bash-5.2.37-1.fc42.x86_64`: neither version nor release may hold a hyphen. */
function ofRpm(word: string): Line | null {
  const match = /^(.+)-([^-]+-[^-]+)\.([^.]+)$/.exec(word)
  if (match === null) return null
  const [, name = '', version = '', architecture = ''] = match
  return { name, version, architecture, lacksEpoch: true }
}

/** `bash.x86_64  5.2.37-1.fc42  @anaconda` */
function ofDnf([given = '', version = '']: readonly string[]): Line | null {
  const match = /^(.+)\.([^.]+)$/.exec(given)
  return match === null ? null : { name: match[1] ?? '', version, architecture: match[2] ?? '' }
}

/** Ours; and `libc6:amd64 2.36-9` or `bash 5.2.037-5`, as dpkg-query and pacman print them. */
function ofWords(words: readonly string[]): Line | null {
  const [given = '', version = '', architecture, extra = ''] = words
  if (words.length > 5 || !/\d/.test(version)) return null
  if (architecture === undefined) {
    const match = /^(.+):([a-z0-9-]+)$/.exec(given)
    return { name: match?.[1] ?? given, version, architecture: match?.[2] ?? null }
  }
  const size = words.slice(3).find((word) => /^\d{1,15}$/.test(word))
  const sha256 = words.slice(3).find((word) => /^[0-9a-f]{64}$/.test(word))
  if (extra !== '' && size === undefined && sha256 === undefined) return null
  const told = { size: size === undefined ? null : Number(size), sha256: sha256 ?? null }
  return { name: given, version, architecture, ...told }
}

/** An epoch of 0 is not written; rpm also prints `(none):`. */
export function plainVersion(version: string): string {
  return version.replace(/^(0|\(none\)):/, '')
}

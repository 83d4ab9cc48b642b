import { wholeOf } from '../../chunks.ts'
import { Complaint } from '../../errors.ts'
import { longestInput } from './inside.ts'

/** A package that somebody has, by the identity that rebuilders know it by. */
export type Installed = {
  distribution: string
  name: string
  /** As the distribution writes it, with the epoch where there is one. */
  version: string
  architecture: string
  /** Bytes on the disk; null where it is not told. */
  size: number | null
  /** SHA-256 of the package file where the list itself tells it. */
  sha256: string | null
  /** It may have an epoch that is not told: it is matched by the rest of its version, if only one fits. */
  lacksEpoch?: true
  /** Its architecture is not told, and this is one that it may have; the one that is known is taken. */
  lacksArchitecture?: true
}

/** What was found, and what could not be read; the rest still counts. */
export type Inventory = {
  packages: readonly Installed[]
  problems: readonly string[]
  /** Packages that are there, and cannot be read. */
  unreadable: number
}

const mostPackages = 200_000

/** One text for each package, whatever else is known of it. */
export function keyOf({ name, version, architecture }: Omit<Installed, 'distribution'>): string
export function keyOf(one: { name: string; version: string; architecture: string }): string
export function keyOf(one: { name: string; version: string; architecture: string }): string {
  return `${one.name}\n${one.version}\n${one.architecture}`
}

/** The version without its epoch: what plain `rpm -qa` prints. */
export function withoutEpoch(version: string): string {
  return version.replace(/^\d+:/, '')
}

/** Keys of packages whose epochs are not told. */
export function looseKeys(packages: readonly Installed[]): Set<string> {
  return new Set(packages.filter(({ lacksEpoch }) => lacksEpoch === true).map(keyOf))
}

/** The same package twice is one package; more than a system can have is a mistake. */
export function inventoryOf(
  packages: readonly Installed[],
  problems: readonly string[],
  unreadable = problems.length,
): Inventory {
  if (packages.length > mostPackages) {
    throw new Complaint(`this lists ${packages.length} packages; at most ${mostPackages} are checked`)
  }
  const distinct = new Map(packages.map((one) => [`${one.distribution}\n${keyOf(one)}`, one]))
  return { packages: [...distinct.values()], problems, unreadable }
}

/**
 * Names, versions and architectures of any distribution: printable, without blanks, not endless.
 * What is none could not be asked for, and would only spoil the output.
 */
export function isWord(given: unknown): given is string {
  return typeof given === 'string' && /^[\x21-\x7e]{1,512}$/.test(given)
}

/**
 * All of a stream as bytes.
 * @throws Complaint where it is longer than 256 MB
 */
export async function wholeInput(input: AsyncIterable<Uint8Array>, what: string): Promise<Buffer> {
  return wholeOf(input, { limit: longestInput, what })
}

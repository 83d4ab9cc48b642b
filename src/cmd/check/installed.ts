import { constants } from 'node:fs'
import { open, readlink } from 'node:fs/promises'
import { dirname, isAbsolute, join, relative } from 'node:path'
import { Complaint } from '../../errors.ts'

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
}

/** What was found, and what could not be read; the rest still counts. */
export type Inventory = { packages: readonly Installed[]; problems: readonly string[] }

const longestInput = 256 * 1024 * 1024
const mostPackages = 200_000

/** One text for each package, whatever else is known of it. */
export function keyOf({ name, version, architecture }: Omit<Installed, 'distribution'>): string
export function keyOf(one: { name: string; version: string; architecture: string }): string
export function keyOf(one: { name: string; version: string; architecture: string }): string {
  return `${one.name}\n${one.version}\n${one.architecture}`
}

/** The same package twice is one package; more than a system can have is a mistake. */
export function inventoryOf(packages: readonly Installed[], problems: readonly string[]): Inventory {
  if (packages.length > mostPackages) {
    throw new Complaint(`this lists ${packages.length} packages; at most ${mostPackages} are checked`)
  }
  const distinct = new Map(packages.map((one) => [`${one.distribution}\n${keyOf(one)}`, one]))
  return { packages: [...distinct.values()], problems }
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
  const parts: Uint8Array[] = []
  let size = 0
  for await (const part of input) {
    size += part.length
    if (size > longestInput) throw new Complaint(`${what} is longer than ${longestInput} bytes`)
    parts.push(part)
  }
  return Buffer.concat(parts)
}

/**
 * The content of a file of the system below `root`, or null where there is none. An image may hold anything: links
 * are followed as that system would follow them, and what is no plain file is not opened for reading.
 * @throws Complaint where it is no file, leads out of the root or is longer than 256 MB
 */
export async function fileIn(root: string, path: string): Promise<Buffer | null> {
  try {
    const file = await open(await placeOf(root, path), constants.O_RDONLY | constants.O_NONBLOCK)
    try {
      const found = await file.stat()
      if (!found.isFile()) throw new Complaint(`${path} is no file`)
      if (found.size > longestInput) throw new Complaint(`${path} is longer than ${longestInput} bytes`)
      return await file.readFile()
    } finally {
      await file.close()
    }
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException // of the file system, or a Complaint, which has none
    if (code === 'ENOENT' || code === 'ENOTDIR') return null
    throw error
  }
}

const mostLinks = 20

async function placeOf(root: string, path: string): Promise<string> {
  let place = join(root, path)
  for (let links = 0; links < mostLinks; links++) {
    const target = await readlink(place).catch(() => null)
    if (target === null) return place
    place = isAbsolute(target) ? join(root, target) : join(dirname(place), target)
    const way = relative(root, place)
    if (way === '..' || way.startsWith('../')) throw new Complaint(`${path} leads out of ${root}`)
  }
  throw new Complaint(`${path} is a link that leads nowhere`)
}

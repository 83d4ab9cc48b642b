/** Files of a system that lies below some folder: an image may hold anything, and this machine is none of its business. */
import { constants } from 'node:fs'
import { open, readdir, readlink, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { Complaint } from '../../errors.ts'

export const longestInput = 256 * 1024 * 1024
/** As many links as Linux follows for one path (man7.org/linux/man-pages/man7/path_resolution.7.html). */
const mostLinks = 40

/**
 * Where a path of a system leads, as that system would follow it: `/` is its root, and there is nothing above that.
 * Yields each way that may be a link, and takes the target of it; null: it is none.
 * @throws Complaint where links lead in circles
 */
export function* followed(path: string): Generator<readonly string[], string[], string | null> {
  const left = partsOf(path)
  const way: string[] = []
  let links = 0
  for (let part = left.shift(); part !== undefined; part = left.shift()) {
    if (part === '..') {
      way.pop()
      continue
    }
    const target = yield [...way, part]
    if (target === null) {
      way.push(part)
      continue
    }
    if (++links > mostLinks) throw new Complaint(`${path} is a link that leads nowhere`)
    if (target.startsWith('/')) way.length = 0
    left.unshift(...partsOf(target))
  }
  return way
}

/**
 * Where a path of the system below `root` is for us; links, also those in its middle, are followed inside it.
 * @throws Complaint where links lead in circles
 */
export async function placeIn(root: string, path: string): Promise<string> {
  const steps = followed(path)
  let step = steps.next()
  while (step.done !== true) {
    step = steps.next(await readlink(join(root, ...step.value)).catch(() => null)) // it is no link, or not there
  }
  return join(root, ...step.value)
}

/** The names in a path. */
export function partsOf(path: string): string[] {
  return path.split('/').filter((part) => part !== '' && part !== '.')
}

/**
 * The content of a file of the system below `root`, or null where there is none.
 * @throws Complaint where it is no plain file or longer than 256 MB
 */
export async function fileIn(root: string, path: string): Promise<Buffer | null> {
  try {
    const file = await open(await placeIn(root, path), constants.O_RDONLY | constants.O_NONBLOCK)
    try {
      const found = await file.stat()
      if (!found.isFile()) throw new Complaint(`${path} is no file`)
      if (found.size > longestInput) throw new Complaint(`${path} is longer than ${longestInput} bytes`)
      return await file.readFile()
    } finally {
      await file.close()
    }
  } catch (error) {
    if (isAbsent(error)) return null
    throw error
  }
}

/** What a folder of the system below `root` holds, sorted; null where there is none. */
export async function namesIn(root: string, folder: string): Promise<string[] | null> {
  try {
    return (await readdir(await placeIn(root, folder))).sort()
  } catch (error) {
    if (isAbsent(error)) return null
    throw error
  }
}

/** The plain files of a folder of the system below `root` whose names are wanted, with where they are for us. */
export async function filesIn(
  root: string,
  folder: string,
  isWanted: (name: string) => boolean,
): Promise<{ name: string; path: string }[]> {
  const names = ((await namesIn(root, folder)) ?? []).filter(isWanted)
  const files: { name: string; path: string }[] = []
  for (const name of names) {
    const path = await placeIn(root, `${folder}/${name}`)
    if ((await stat(path).catch(() => null))?.isFile() === true) files.push({ name, path })
  }
  return files
}

function isAbsent(error: unknown): boolean {
  const { code } = error as NodeJS.ErrnoException // of the file system, or a Complaint, which has none
  return code === 'ENOENT' || code === 'ENOTDIR'
}

/** Where the parts of an image lie: in an archive, or in a folder. */
import { constants } from 'node:fs'
import { open, type FileHandle } from 'node:fs/promises'
import { join, posix } from 'node:path'
import { Complaint } from '../../errors.ts'
import { openTarReader } from '../../tar-reader.ts'
import { insideParts } from './image-tree.ts'
import { partsOf, placeIn } from './inside.ts'

/** A document or a layer of an image. */
export type Part = {
  /** Bytes, as they are stored. */
  size: number
  chunks: () => AsyncGenerator<Uint8Array>
}

export type ImageStore = {
  has: (path: string) => Promise<boolean>
  /** @throws Complaint where there is no such part */
  part: (path: string) => Promise<Part>
  /** All of it as one layer; null where that makes no sense. */
  whole: Part | null
}

type Member = { start: number; size: number } | { target: string; isHard: boolean }

const mostMembers = 10_000
/** Bytes that are read at once. */
const window = 1 << 18

/**
 * The parts of an image that lie in a plain tar, whose content is not read for that.
 * @throws Complaint where it is none
 */
export async function archiveStore(file: FileHandle, what: string): Promise<ImageStore> {
  const members = await membersOf(file, what)
  const { size } = await file.stat()
  const partAt = (start: number, length: number): Part => ({
    size: length,
    chunks: () => bytesBetween(file, start, start + length, what),
  })
  return {
    has: async (path) => members.has(path),
    async part(path) {
      const { start, size: length } = placeOf(members, path, what)
      return partAt(start, length)
    },
    whole: partAt(0, size),
  }
}

/** The parts of an image that lie in a folder; links are followed inside it. */
export function folderStore(folder: string, what: string): ImageStore {
  const opened = async (path: string): Promise<FileHandle> => {
    const place = await placeIn(folder, insideParts(path, what).join('/'))
    const file = await open(place, constants.O_RDONLY | constants.O_NONBLOCK).catch((error: unknown) => {
      throw lacking(path, what, error)
    })
    if ((await file.stat()).isFile()) return file
    await file.close()
    throw lacking(path, what)
  }
  return {
    async has(path) {
      const file = await opened(path).catch(() => null)
      await file?.close()
      return file !== null
    },
    async part(path) {
      const file = await opened(path)
      const { size } = await file.stat()
      await file.close()
      return {
        size,
        async *chunks() {
          await using again = await opened(path)
          yield* bytesBetween(again, 0, size, join(what, path))
        },
      }
    },
    whole: null,
  }
}

async function* bytesBetween(
  file: FileHandle,
  start: number,
  end: number,
  what: string,
): AsyncGenerator<Uint8Array> {
  for (let at = start; at < end;) {
    const bytes = Buffer.allocUnsafe(Math.min(window, end - at))
    const { bytesRead } = await file.read(bytes, 0, bytes.length, at)
    if (bytesRead === 0) throw new Complaint(`${what} is cut short`)
    yield bytes.subarray(0, bytesRead)
    at += bytesRead
  }
}

/** What is where in an archive. The content of members is not read. */
async function membersOf(file: FileHandle, what: string): Promise<Map<string, Member>> {
  const members = new Map<string, Member>()
  const reader = openTarReader(what, ({ name, kind, start, size, target }) => {
    const path = insideParts(name, what).join('/')
    if (isOfImage(path)) {
      if (kind === 'file') members.set(path, { start, size })
      else if (kind === 'link' || kind === 'hard link')
        members.set(path, { target, isHard: kind === 'hard link' })
    }
    if (members.size > mostMembers) throw new Complaint(`${what} has more than ${mostMembers} members`)
    return null
  })
  const bytes = Buffer.allocUnsafe(window)
  for (let at = 0; ;) {
    const { bytesRead } = await file.read(bytes, 0, bytes.length, at)
    if (bytesRead === 0) break
    reader.push(bytes.subarray(0, bytesRead))
    at += bytesRead + reader.passOver()
  }
  reader.end()
  return members
}

/** Names of documents and layers; file systems of containers have others. */
function isOfImage(path: string): boolean {
  return /^(?:(?:manifest|index)\.json|blobs\/\w+\/\w+|[0-9a-f]{64,128}(?:\.manifest\.json|(?:\/layer)?\.tar)?|[\w.-]+\/layer\.tar|[\w.-]+\.tar(?:\.\w+)?)$/.test(
    path,
  )
}

/** A member; older `docker save` has links where images share layers. */
function placeOf(
  members: ReadonlyMap<string, Member>,
  path: string,
  what: string,
): { start: number; size: number } {
  let at = partsOf(path).join('/')
  for (let links = 0; links < 10; links++) {
    const member = members.get(at)
    if (member === undefined) break
    if ('start' in member) return member
    const whole = member.isHard ? member.target : posix.join(posix.dirname(at), member.target)
    at = partsOf(posix.normalize(whole)).join('/')
  }
  throw lacking(path, what)
}

function lacking(path: string, what: string, cause?: unknown): Complaint {
  return new Complaint(`${what} lacks a part of the image: ${JSON.stringify(path.slice(0, 200))}`, { cause })
}

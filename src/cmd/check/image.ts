import { randomUUID } from 'node:crypto'
import { appendFileSync, createReadStream, createWriteStream, writeFileSync } from 'node:fs'
import { link, mkdir, mkdtemp, open, rm, type FileHandle } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { Readable } from 'node:stream'
import { pipeline } from 'node:stream/promises'
import { codingOf, decompressed } from '../../compression.ts'
import { Complaint, during } from '../../errors.ts'
import { openTarReader, type TakeContent, type TarHeader } from '../../tar-reader.ts'
import { shownBytes } from '../progress.ts'
import { givenTrouble, isGivenFolder } from './given.ts'
import { bytesOf, layersIn, type Layer } from './image-archive.ts'
import { archiveStore, folderStore, type ImageStore } from './image-store.ts'
import { openImageTree, type ImageLayer, type ImageTree } from './image-tree.ts'
import { longestInput } from './inside.ts'

/** What a system needs to be checked, taken out of an image into a folder of its own, without any link. */
type OpenedImage = AsyncDisposable & { root: string }

type ImageOptions = {
  /** Where `-` is read from. */
  input: AsyncIterable<Uint8Array>
  signal: AbortSignal
  progress: (text: string) => void
}

/** Bytes of all layers, unpacked; of an archive that is compressed as a whole; and of what is kept. */
const longestUnpacked = 64 * 1024 ** 3
const longestArchive = 32 * 1024 ** 3
const longestKept = 2 * 1024 ** 3
const mostKept = 300_000

/**
 * Opens a container image as `docker save`, `podman save` and `skopeo copy` write them: an archive (docker-archive and
 * oci-archive), or a folder (oci and dir); or the file system of a container (`podman export`). Only the lists of
 * packages and their indexes are taken out of its layers.
 * @param path `-`: standard input
 * @throws Complaint where it is none, holds several images, is damaged, or has names that lead out of it
 */
export async function openImage(path: string, options: ImageOptions): Promise<OpenedImage> {
  const folder = await mkdtemp(join(tmpdir(), 'rebuilderd-image-'))
  const dispose = (): Promise<void> => rm(folder, { recursive: true, force: true })
  const what = path === '-' ? 'standard input' : path
  try {
    await during(`reading the image ${what}`, async () => {
      const isFolder = path !== '-' && (await isGivenFolder('--image', path))
      await using file = isFolder ? null : await archiveAt(path, folder, options)
      const store = file === null ? folderStore(path, what) : await archiveStore(file, what)
      const tree = await treeOf(store, what, folder, options)
      await writeRoot(tree, join(folder, 'root'))
    })
    return { root: join(folder, 'root'), [Symbol.asyncDispose]: dispose }
  } catch (error) {
    await dispose()
    throw error
  }
}

/** The archive as a file in which any place can be read; what cannot be is written to one first. */
async function archiveAt(path: string, folder: string, options: ImageOptions): Promise<FileHandle> {
  if (path === '-') return spooled(options.input, 'standard input', folder, options)
  const file = await open(path).catch((error: unknown) => {
    throw givenTrouble('--image', path, error)
  })
  const found = await file.stat()
  const { buffer } = found.isFile() ? await file.read(Buffer.alloc(6), 0, 6, 0) : { buffer: Buffer.alloc(6) }
  if (found.isFile() && codingOf(buffer) === 'none') return file
  await file.close()
  return spooled(createReadStream(path) as AsyncIterable<Uint8Array>, path, folder, options)
}

async function spooled(
  chunks: AsyncIterable<Uint8Array>,
  what: string,
  folder: string,
  { signal, progress }: ImageOptions,
): Promise<FileHandle> {
  const spool = join(folder, 'archive.tar')
  const plain = decompressed(chunks, { limit: longestArchive, what })
  let size = 0
  const counted = async function* (): AsyncGenerator<Uint8Array> {
    for await (const chunk of plain) {
      size += chunk.length
      progress(`unpacking the image, ${shownBytes(size)}`)
      yield chunk
    }
  }
  await pipeline(Readable.from(counted()), createWriteStream(spool, { mode: 0o600 }), { signal })
  return open(spool)
}

async function treeOf(
  store: ImageStore,
  what: string,
  folder: string,
  { signal, progress }: ImageOptions,
): Promise<ImageTree> {
  const layers = await layersIn(store, what)
  const tree = openImageTree(what)
  const keep = openKeeper(folder, what)
  let unpacked = 0
  for (const [index, layer] of layers.entries()) {
    const name = layers.length === 1 ? what : `${what}, layer ${index + 1} of ${layers.length}`
    const limit = longestUnpacked - unpacked
    for await (const size of layerRead(tree.layer(), keep, { layer, name, limit })) {
      signal.throwIfAborted()
      unpacked += size
      progress(`reading layer ${index + 1} of ${layers.length}, ${shownBytes(unpacked)} so far`)
    }
  }
  return tree
}

type LayerToRead = { layer: Layer; name: string; limit: number }

/** Reads a layer to its end. Yields how many bytes were read. */
async function* layerRead(
  layer: ImageLayer,
  keep: Keep,
  { layer: place, name, limit }: LayerToRead,
): AsyncGenerator<number> {
  const reader = openTarReader(name, (header) => {
    layer.see(header)
    return keep(header, layer)
  })
  for await (const chunk of decompressed(bytesOf(place, place.digest, name), { limit, what: name })) {
    reader.push(chunk)
    yield chunk.length
  }
  reader.end(!place.isAlone) // a layer of an image has its length from there
  layer.settle()
}

/** Files that tell what is installed and what is published, wherever links lead to them. */
const wanted =
  /(?:^|\/)(?:os-release|dpkg\/status|dpkg\/status\.d\/[\x21-\x7e]+|pacman\/local\/[\x21-\x7e]+\/desc|pacman\/sync\/[\x21-\x7e]+\.db|apt\/lists\/[\x21-\x7e]+Packages(?:\.\w+)?)$/

type Keep = (header: TarHeader, layer: ImageLayer) => TakeContent | null

/** Writes the content of wanted files below a folder, by names of its own. */
function openKeeper(folder: string, what: string): Keep {
  const kept = new Map<string, string>() // hard links name files of their own layer
  let bytes = 0
  let owner: ImageLayer | null = null
  return ({ name, kind, size, target }, layer) => {
    if (owner !== layer) kept.clear()
    owner = layer
    if ((kind !== 'file' && kind !== 'hard link') || !wanted.test(name)) return null
    if (kind === 'hard link') {
      const content = kept.get(plainName(target))
      if (content === undefined)
        throw new Complaint(`${what}: ${JSON.stringify(name)} is a link to what is not kept`)
      layer.add(name, content)
      return null
    }
    if (size > longestInput) throw new Complaint(`${what}: ${name} is longer than ${longestInput} bytes`)
    bytes += size
    if (bytes > longestKept || kept.size > mostKept)
      throw new Complaint(`${what} has more lists of packages than any system`)
    const content = join(folder, randomUUID())
    kept.set(plainName(name), content)
    layer.add(name, content)
    writeFileSync(content, '', { flag: 'wx', mode: 0o600 })
    return (part) => appendFileSync(content, part)
  }
}

function plainName(name: string): string {
  return name.replace(/^(?:\.?\/)+/, '')
}

const files = ['etc/os-release', 'usr/lib/os-release', 'var/lib/dpkg/status']
const folders = ['var/lib/dpkg/status.d', 'var/lib/pacman/sync', 'var/lib/apt/lists']
const pacman = 'var/lib/pacman/local'

/** Puts what was kept where the system of the image has it. */
async function writeRoot(tree: ImageTree, root: string): Promise<void> {
  await mkdir(root, { mode: 0o700 })
  const paths = [
    ...files,
    ...folders.flatMap((folder) => tree.namesIn(folder).map((name) => `${folder}/${name}`)),
    ...tree.namesIn(pacman).map((name) => `${pacman}/${name}/desc`),
  ]
  for (const path of paths) {
    const content = tree.contentOf(path)
    if (content === null) continue
    await mkdir(dirname(join(root, path)), { recursive: true, mode: 0o700 })
    await link(content, join(root, path))
  }
}

import { createHash } from 'node:crypto'
import type { FileHandle } from 'node:fs/promises'
import { posix } from 'node:path'
import * as v from 'valibot'
import { Complaint } from '../../errors.ts'
import { openTarReader } from '../../tar-reader.ts'
import { checked } from '../../wire/schema.ts'
import { insideParts } from './image-tree.ts'
import { partsOf } from './inside.ts'

/** A layer of an image: where it is in the archive, and what its bytes are said to be. */
export type Layer = { start: number; size: number; digest: Digest | null }
type Digest = { algorithm: string; hex: string }

type Member = { start: number; size: number } | { target: string; isHard: boolean }

const mostMembers = 10_000
const mostLayers = 1000
const mostManifests = 100
const longestDocument = 8 * 1024 * 1024
/** Bytes that are read at once. */
const window = 1 << 18

/** An archive of an image, or of the file system of a container, which is a layer by itself. */
export async function layersIn(file: FileHandle, what: string): Promise<Layer[]> {
  const members = await membersOf(file, what)
  const documentAt = (path: string, digest: Digest | null): Promise<unknown> =>
    documentOf(file, placeOf(members, path, what), digest, `${what}: ${path}`)
  const layers = members.has('manifest.json')
    ? dockerLayers(await documentAt('manifest.json', null), members, what)
    : members.has('index.json')
      ? await ociLayers(documentAt, members, what)
      : [{ start: 0, size: (await file.stat()).size, digest: null }]
  if (layers.length > mostLayers) throw new Complaint(`${what} has more than ${mostLayers} layers`)
  return layers
}

/** The bytes of a layer; an error at their end where they are not what the image says. */
export async function* bytesOf(
  file: FileHandle,
  { start, size, digest }: Layer,
  what: string,
): AsyncGenerator<Uint8Array> {
  const hash = digest === null ? null : createHash(digest.algorithm)
  for (let at = start; at < start + size;) {
    const bytes = Buffer.allocUnsafe(Math.min(window, start + size - at))
    const { bytesRead } = await file.read(bytes, 0, bytes.length, at)
    if (bytesRead === 0) throw new Complaint(`${what} is cut short`)
    hash?.update(bytes.subarray(0, bytesRead))
    yield bytes.subarray(0, bytesRead)
    at += bytesRead
  }
  if (hash !== null && hash.digest('hex') !== digest?.hex)
    throw new Complaint(`${what} is not what the image says: its ${digest?.algorithm} is another one`)
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
  return /^(?:(?:manifest|index)\.json|blobs\/\w+\/\w+|[0-9a-f]{64}(?:\/layer)?\.tar|[\w.-]+\/layer\.tar|[\w.-]+\.tar(?:\.\w+)?)$/.test(
    path,
  )
}

/** A member; older `docker save` has links where images share layers. */
function placeOf(members: ReadonlyMap<string, Member>, path: string, what: string): Layer {
  let at = partsOf(path).join('/')
  for (let links = 0; links < 10; links++) {
    const member = members.get(at)
    if (member === undefined) break
    if ('start' in member) return { ...member, digest: null }
    const whole = member.isHard ? member.target : posix.join(posix.dirname(at), member.target)
    at = partsOf(posix.normalize(whole)).join('/')
  }
  throw new Complaint(`${what} lacks a part of the image: ${JSON.stringify(path.slice(0, 200))}`)
}

async function documentOf(
  file: FileHandle,
  { start, size }: Layer,
  digest: Digest | null,
  what: string,
): Promise<unknown> {
  if (size > longestDocument) throw new Complaint(`${what} is too long`)
  const parts: Uint8Array[] = []
  for await (const part of bytesOf(file, { start, size, digest }, what)) parts.push(part)
  try {
    return JSON.parse(Buffer.concat(parts).toString('utf8'))
  } catch (error) {
    throw new Complaint(`${what} is not JSON`, { cause: error })
  }
}

// --- docker save (github.com/moby/docker-image-spec/blob/main/v1.2.md, "Combined Image JSON + Filesystem Changeset Format")

const DockerManifest = v.array(
  v.object({
    RepoTags: v.optional(v.nullable(v.array(v.string())), null),
    Layers: v.nullable(v.array(v.string())),
  }),
)

function dockerLayers(document: unknown, members: ReadonlyMap<string, Member>, what: string): Layer[] {
  const images = checked(DockerManifest, document, `${what}: manifest.json`)
  const names = images.map(({ RepoTags }) => RepoTags?.[0] ?? 'one without a name')
  const image = onlyOne(images, names, what)
  return (image.Layers ?? []).map((path) => {
    const blob = /^blobs\/(sha256|sha512)\/([0-9a-f]+)$/.exec(path)
    const digest = blob === null ? null : { algorithm: blob[1] ?? '', hex: blob[2] ?? '' }
    return { ...placeOf(members, path, what), digest }
  })
}

// --- OCI image layout (github.com/opencontainers/image-spec/blob/main/image-layout.md)

const Descriptor = v.object({
  mediaType: v.optional(v.string(), ''),
  digest: v.string(),
  platform: v.optional(v.object({ os: v.string(), architecture: v.string() })),
  annotations: v.optional(v.record(v.string(), v.string()), {}),
})
type Descriptor = v.InferOutput<typeof Descriptor>
const Document = v.object({
  manifests: v.optional(v.array(Descriptor)),
  layers: v.optional(v.array(Descriptor)),
})

type DocumentAt = (path: string, digest: Digest | null) => Promise<unknown>

/** An index may hold others; what is of another kind than an image, or not in the archive, is passed over. */
async function ociLayers(
  documentAt: DocumentAt,
  members: ReadonlyMap<string, Member>,
  what: string,
): Promise<Layer[]> {
  const images: { name: string; platform: string; layers: Descriptor[] }[] = []
  const waiting: { path: string; digest: Digest | null; from: Descriptor | null }[] = [
    { path: 'index.json', digest: null, from: null },
  ]
  const seen = new Set<string>()
  for (let next = waiting.shift(); next !== undefined; next = waiting.shift()) {
    if (seen.has(next.path)) continue
    seen.add(next.path)
    if (seen.size > mostManifests) throw new Complaint(`${what} has more than ${mostManifests} manifests`)
    const document = checked(Document, await documentAt(next.path, next.digest), `${what}: ${next.path}`)
    for (const from of document.manifests ?? []) {
      const digest = digestOf(from, what)
      const path = pathOf(digest)
      if (isOfContainer(from) && members.has(path)) waiting.push({ path, digest, from })
    }
    if (document.layers !== undefined) images.push({ ...told(next.from), layers: document.layers })
  }
  const fitting = images.filter(({ platform }) => platform === thisPlatform())
  const choice = images.length > 1 && fitting.length === 1 ? fitting : images
  const { layers } = onlyOne(
    choice,
    choice.map(({ name, platform }) => [name, platform].filter((part) => part !== '').join(' for ')),
    what,
  )
  return layers.map((one) => {
    const digest = digestOf(one, what)
    return { ...placeOf(members, pathOf(digest), what), digest }
  })
}

/** Attestations lie beside images as if they were some of an unknown platform. */
function isOfContainer({ platform, annotations }: Descriptor): boolean {
  return platform?.os !== 'unknown' && annotations['vnd.docker.reference.type'] === undefined
}

function told(from: Descriptor | null): { name: string; platform: string } {
  const name = from?.annotations['org.opencontainers.image.ref.name'] ?? from?.digest.slice(0, 19) ?? ''
  const platform = from?.platform
  return { name, platform: platform === undefined ? '' : `${platform.os}/${platform.architecture}` }
}

function thisPlatform(): string {
  return `linux/${process.arch === 'x64' ? 'amd64' : process.arch}`
}

function digestOf({ digest }: Descriptor, what: string): Digest {
  const match = /^(sha256|sha512):([0-9a-f]{64,128})$/.exec(digest)
  if (match === null) throw new Complaint(`${what} has a digest that is none: ${digest.slice(0, 200)}`)
  return { algorithm: match[1] ?? '', hex: match[2] ?? '' }
}

function pathOf({ algorithm, hex }: Digest): string {
  return `blobs/${algorithm}/${hex}`
}

/** @throws Complaint where there are several, or none */
function onlyOne<T>(images: readonly T[], names: readonly string[], what: string): T {
  const [first] = images
  if (first !== undefined && images.length === 1) return first
  if (first === undefined) throw new Complaint(`${what} holds no image`, { exitCode: 2 })
  throw new Complaint(`${what} holds ${images.length} images: ${names.slice(0, 10).join(', ')}`, {
    hint: 'save one of them',
    exitCode: 2,
  })
}

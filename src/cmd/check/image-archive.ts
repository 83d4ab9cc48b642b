import { createHash } from 'node:crypto'
import * as v from 'valibot'
import { wholeOf } from '../../chunks.ts'
import { Complaint } from '../../errors.ts'
import { checked } from '../../wire/schema.ts'
import type { ImageStore, Part } from './image-store.ts'

/** A layer of an image, and what its bytes are said to be. */
export type Layer = Part & {
  digest: Digest | null
  /** It is the file system of a container, saved by itself. */
  isAlone: boolean
}
type Digest = { algorithm: string; hex: string }

const mostLayers = 1000
const mostManifests = 100
const longestDocument = 8 * 1024 * 1024

/**
 * Layers of an image, the lowest first.
 * @throws Complaint where it is none, or holds several
 */
export async function layersIn(store: ImageStore, what: string): Promise<Layer[]> {
  const documentAt = async (path: string, digest: Digest | null): Promise<unknown> =>
    documentOf(await store.part(path), digest, `${what}: ${path}`)
  const layers = await layersOf(store, documentAt, what)
  if (layers.length > mostLayers) throw new Complaint(`${what} has more than ${mostLayers} layers`)
  return layers
}

async function layersOf(store: ImageStore, documentAt: DocumentAt, what: string): Promise<Layer[]> {
  if (await store.has('manifest.json')) {
    const document = await documentAt('manifest.json', null)
    if (Array.isArray(document)) return dockerLayers(document, store, what)
    return layoutLayers(flat, documentAt, store, what)
  }
  return (await store.has('index.json')) ? layoutLayers(oci, documentAt, store, what) : alone(store)
}

function alone({ whole }: ImageStore): Layer[] {
  if (whole !== null) return [{ ...whole, digest: null, isAlone: true }]
  throw new Complaint('it is a folder without an image: it has neither index.json nor manifest.json', {
    hint: '--root takes the folder of a file system',
    exitCode: 2,
  })
}

/** The bytes of a part; an error at their end where they are not what the image says. */
export async function* bytesOf(
  { chunks }: Part,
  digest: Digest | null,
  what: string,
): AsyncGenerator<Uint8Array> {
  const hash = digest === null ? null : createHash(digest.algorithm)
  for await (const bytes of chunks()) {
    hash?.update(bytes)
    yield bytes
  }
  if (hash !== null && hash.digest('hex') !== digest?.hex)
    throw new Complaint(`${what} is not what the image says: its ${digest?.algorithm} is another one`)
}

async function documentOf(part: Part, digest: Digest | null, what: string): Promise<unknown> {
  if (part.size > longestDocument) throw new Complaint(`${what} is too long`)
  const bytes = await wholeOf(bytesOf(part, digest, what))
  try {
    return JSON.parse(bytes.toString('utf8'))
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

async function dockerLayers(document: readonly unknown[], store: ImageStore, what: string): Promise<Layer[]> {
  const images = checked(DockerManifest, document, `${what}: manifest.json`)
  const names = images.map(({ RepoTags }) => RepoTags?.[0] ?? 'one without a name')
  const image = onlyOne(images, names, what)
  const layers = (image.Layers ?? []).slice(0, mostLayers + 1).map(async (path): Promise<Layer> => {
    const blob = /^blobs\/(sha256|sha512)\/([0-9a-f]+)$/.exec(path)
    const digest = blob === null ? null : { algorithm: blob[1] ?? '', hex: blob[2] ?? '' }
    return { ...(await store.part(path)), digest, isAlone: false }
  })
  return Promise.all(layers)
}

// --- OCI image layout (github.com/opencontainers/image-spec/blob/main/image-layout.md), and the folders that
// `skopeo copy … dir:` makes (github.com/containers/image/blob/main/docs/containers-transports.5.md, "dir:path")

/** Where an image has what its digests name. */
type Layout = {
  first: string
  manifestAt: (digest: Digest) => string
  layerAt: (digest: Digest) => string
}
const oci: Layout = { first: 'index.json', manifestAt: blobPath, layerAt: blobPath }
const flat: Layout = {
  first: 'manifest.json',
  manifestAt: ({ hex }) => `${hex}.manifest.json`,
  layerAt: ({ hex }) => hex,
}

function blobPath({ algorithm, hex }: Digest): string {
  return `blobs/${algorithm}/${hex}`
}

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
  fsLayers: v.optional(v.unknown()),
})

type DocumentAt = (path: string, digest: Digest | null) => Promise<unknown>

/** An index may hold others; what is of another kind than an image, or not in the archive, is passed over. */
async function layoutLayers(
  { first, manifestAt, layerAt }: Layout,
  documentAt: DocumentAt,
  store: ImageStore,
  what: string,
): Promise<Layer[]> {
  const images: { name: string; platform: string; layers: Descriptor[] }[] = []
  const waiting: { path: string; digest: Digest | null; from: Descriptor | null }[] = [
    { path: first, digest: null, from: null },
  ]
  const seen = new Set<string>()
  for (let next = waiting.shift(); next !== undefined; next = waiting.shift()) {
    if (seen.has(next.path)) continue
    seen.add(next.path)
    if (seen.size > mostManifests) throw new Complaint(`${what} has more than ${mostManifests} manifests`)
    const document = checked(Document, await documentAt(next.path, next.digest), `${what}: ${next.path}`)
    if (document.fsLayers !== undefined) throw ofOldForm(what)
    for (const from of document.manifests ?? []) {
      const digest = digestOf(from, what)
      const path = manifestAt(digest)
      if (isOfContainer(from) && (await store.has(path))) waiting.push({ path, digest, from })
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
  const found = layers.slice(0, mostLayers + 1).map(async (one): Promise<Layer> => {
    const digest = digestOf(one, what)
    return { ...(await store.part(layerAt(digest))), digest, isAlone: false }
  })
  return Promise.all(found)
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

/** Its layers stand in another order, and its manifest has no digest to hold it against. */
function ofOldForm(what: string): Complaint {
  return new Complaint(`${what} has a manifest of Docker's first schema`, {
    hint: 'copy it in a newer form: skopeo copy --format oci',
    exitCode: 2,
  })
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

/** Archives of container images, made from nothing. */
import { createHash } from 'node:crypto'
import { gzipSync, zstdCompressSync } from 'node:zlib'
import { pack, type Header } from 'tar-stream'

/** A member: the content of a file, or a header of another kind. */
export type Member = string | Uint8Array | Partial<Header>

/** A tar of members, in their order; a name may come twice as a pair of a list. */
export async function aTar(
  members: Readonly<Record<string, Member>> | readonly (readonly [string, Member])[],
): Promise<Buffer> {
  const tar = pack()
  const pairs = Array.isArray(members) ? (members as (readonly [string, Member])[]) : Object.entries(members)
  for (const [name, member] of pairs) {
    if (typeof member === 'string') tar.entry({ name }, member)
    else if (member instanceof Uint8Array) tar.entry({ name }, Buffer.from(member))
    else tar.entry({ name, ...member })
  }
  tar.finalize()
  return Buffer.concat(await Array.fromAsync(tar as AsyncIterable<Buffer>))
}

export type Coding = 'plain' | 'gzip' | 'zstd'
export const coded: Readonly<Record<Coding, (bytes: Uint8Array) => Buffer>> = {
  plain: (bytes) => Buffer.from(bytes),
  gzip: (bytes) => gzipSync(bytes),
  zstd: (bytes) => zstdCompressSync(bytes),
}

export function digest(bytes: Uint8Array | string): string {
  return createHash('sha256').update(bytes).digest('hex')
}

/** As `docker save` wrote it until its version 25: a folder for each layer. */
export async function dockerArchive(layers: readonly Uint8Array[], names = ['app:1']): Promise<Buffer> {
  const paths = layers.map((_, i) => `${digest(`${i}`)}/layer.tar`)
  const images = names.map((name) => ({ Config: 'config.json', RepoTags: [name], Layers: paths }))
  const files = paths.map((path, i): [string, Member] => [path, layers[i] ?? ''])
  return aTar([...files, ['config.json', '{}'], ['manifest.json', JSON.stringify(images)]])
}

type Platform = { os: string; architecture: string }

/** An OCI layout with an image per platform, as `podman save --format oci-archive` writes it for one. */
export async function ociArchive(
  images: readonly {
    layers: readonly Uint8Array[]
    platform?: Platform
    annotations?: Record<string, string>
  }[],
  change: (files: Record<string, Member>) => void = () => {},
): Promise<Buffer> {
  const files: Record<string, Member> = { 'oci-layout': '{"imageLayoutVersion": "1.0.0"}' }
  const blob = (content: Uint8Array | string): { digest: string; size: number } => {
    files[`blobs/sha256/${digest(content)}`] = content
    return { digest: `sha256:${digest(content)}`, size: Buffer.byteLength(content) }
  }
  const manifests = images.map(({ layers, ...told }) => {
    const mediaType = 'application/vnd.oci.image.manifest.v1+json'
    const content = { schemaVersion: 2, mediaType, config: blob('{}'), layers: layers.map(blob) }
    return { mediaType, ...blob(JSON.stringify(content)), ...told }
  })
  files['index.json'] = JSON.stringify({ schemaVersion: 2, manifests })
  change(files)
  return aTar(files)
}

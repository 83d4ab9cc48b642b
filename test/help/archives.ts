import { spawnSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import { mkdir, mkdtemp, readFile, rm, stat, writeFile } from 'node:fs/promises'
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import type { TestContext } from 'node:test'
import { zstdCompressSync } from 'node:zlib'
import { gzipSync } from 'fflate' // other hands than those that read it
import {
  createCleartextMessage,
  createMessage,
  generateKey,
  sign,
  type PrivateKey,
  type PublicKey,
} from 'openpgp'
import { pack } from 'tar-stream'

/** A folder that is gone when the test is. */
export async function aFolder(t: TestContext): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), 'rebuilderd-test-'))
  t.after(() => rm(folder, { recursive: true, force: true }))
  return folder
}

/** Writes a file and the folders above it. */
export async function put(path: string, content: string | Uint8Array): Promise<void> {
  await mkdir(dirname(path), { recursive: true })
  await writeFile(path, content)
}

export function sha256(bytes: string | Uint8Array): string {
  return createHash('sha256').update(bytes).digest('hex')
}

/** Pieces of odd sizes, so that every boundary falls somewhere inside. */
export async function* inPieces(bytes: Uint8Array, size: number): AsyncGenerator<Uint8Array> {
  for (let at = 0; at < bytes.length; at += size) yield bytes.subarray(at, at + size)
}

/** What a program makes of its input; null where this machine does not have it. */
export function through(program: string, args: readonly string[], input: Uint8Array): Buffer | null {
  const { error, status, stdout, stderr } = spawnSync(program, args, { input, maxBuffer: 1 << 28 })
  if (error !== undefined) return null
  if (status !== 0) throw new Error(`${program}: ${stderr.toString()}`)
  return stdout
}

// --- a web server over a folder

type WebServer = {
  url: string
  /** Paths that were asked for. */
  requests: string[]
  /** Answers a request itself when it returns true. */
  intercept: (request: IncomingMessage, response: ServerResponse) => boolean
}

/** Serves a folder with entity tags and ranges, until the test is over. */
export async function serveFolder(t: TestContext, folder: string): Promise<WebServer> {
  const state: WebServer = { url: '', requests: [], intercept: () => false }
  const server = createServer((request, response) => {
    state.requests.push(request.url ?? '')
    if (state.intercept(request, response)) return
    void sendFile(join(folder, decodeURIComponent(request.url ?? '')), request, response)
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  t.after(
    () =>
      new Promise<void>((resolve) => {
        server.closeAllConnections()
        server.close(() => resolve())
      }),
  )
  const address = server.address()
  state.url = `http://127.0.0.1:${typeof address === 'object' && address !== null ? address.port : 0}`
  return state
}

async function sendFile(path: string, request: IncomingMessage, response: ServerResponse): Promise<void> {
  const found = await stat(path).catch(() => null)
  if (found === null || !found.isFile()) {
    response.writeHead(404).end()
    return
  }
  const bytes = await readFile(path)
  const etag = `"${sha256(bytes).slice(0, 16)}"`
  if (request.headers['if-none-match'] === etag) {
    response.writeHead(304, { etag }).end()
    return
  }
  const isSame = [undefined, etag].includes(request.headers['if-range'] as string | undefined) // sent once at most
  const from = isSame ? Number(/^bytes=(\d+)-$/.exec(request.headers.range ?? '')?.[1] ?? 0) : 0
  if (from > 0 && from >= bytes.length) {
    response.writeHead(416).end()
    return
  }
  const headers = { etag, 'content-length': bytes.length - from, 'accept-ranges': 'bytes' }
  const range = { 'content-range': `bytes ${from}-${bytes.length - 1}/${bytes.length}` }
  response
    .writeHead(from > 0 ? 206 : 200, from > 0 ? { ...headers, ...range } : headers)
    .end(bytes.subarray(from))
}

// --- keys

export type TestKey = { privateKey: PrivateKey; publicKey: PublicKey; revocationCertificate: string }

/** When test archives are signed, and long before which their keys are made: tests bring their own clock. */
const signingDay = new Date('2026-11-21T12:00:00Z')
const keyDay = new Date('2025-11-21T12:00:00Z')

/** A throw-away OpenPGP key. */
export async function aKey(options: { date?: Date; lifetimeSeconds?: number } = {}): Promise<TestKey> {
  return generateKey({
    type: 'ecc',
    curve: 'ed25519Legacy',
    userIDs: [{ name: 'Test archive', email: 'archive@example.org' }],
    format: 'object',
    date: options.date ?? keyDay,
    ...(options.lifetimeSeconds === undefined ? {} : { keyExpirationTime: options.lifetimeSeconds }),
  })
}

export async function clearsigned(text: string, key: TestKey, date = signingDay): Promise<string> {
  const message = await createCleartextMessage({ text })
  return sign({ message, signingKeys: key.privateKey, date })
}

export async function detachedSignature(content: string, key: TestKey): Promise<string> {
  const message = await createMessage({ binary: Buffer.from(content) })
  return sign({ message, signingKeys: key.privateKey, detached: true, format: 'armored', date: signingDay })
}

// --- Debian

export type Fields = Readonly<Record<string, string>>

/** A stanza of Packages; what is given replaces what is usual. */
export function aBinary(fields: Fields = {}): Fields {
  const { Package: name = 'hello', Version: version = '1.0-1', Architecture: architecture = 'amd64' } = fields
  const file = `${name}_${version.replace(/^\d+:/, '')}_${architecture}.deb`
  return {
    Package: name,
    Version: version,
    Architecture: architecture,
    Maintainer: 'Jane Doe <jane@example.org>',
    Filename: `pool/main/${name.slice(0, 1)}/${name}/${file}`,
    Size: '1234',
    SHA256: sha256(file),
    ...fields,
  }
}

/** A stanza of Sources. */
export function aSource(fields: Fields = {}): Fields {
  const { Package: name = 'hello', Version: version = '1.0-1' } = fields
  return {
    Package: name,
    Binary: name,
    Version: version,
    Maintainer: 'Jane Doe <jane@example.org>',
    Architecture: 'any',
    Directory: `pool/main/${name.slice(0, 1)}/${name}`,
    Files: `\n d41d8cd98f00b204e9800998ecf8427e 0 ${name}_${version.replace(/^\d+:/, '')}.dsc`,
    ...fields,
  }
}

export function stanzasText(stanzas: readonly Fields[]): string {
  const texts = stanzas.map((fields) =>
    Object.entries(fields)
      .map(([name, value]) => (value.startsWith('\n') ? `${name}:${value}\n` : `${name}: ${value}\n`))
      .join(''),
  )
  return texts.join('\n')
}

export type DebianArchive = {
  release?: string
  /** Packages by `component/architecture`. */
  binaries: Readonly<Record<string, readonly Fields[]>>
  /** Sources by component. */
  sources: Readonly<Record<string, readonly Fields[]>>
  /** More fields of the Release file, or other values. */
  fields?: Fields
  key?: TestKey | null
  coding?: 'gz' | 'zst' | 'plain'
  byHash?: boolean
}

/** Writes an archive with one release into a folder; without a key there is no Release file at all. */
export async function writeDebianArchive(folder: string, archive: DebianArchive): Promise<void> {
  const { release = 'test', coding = 'gz', key = null, byHash = false } = archive
  const indexes = [
    ...Object.entries(archive.binaries).map(([where, stanzas]) => {
      const [architecture = '', ...component] = where.split('/').reverse()
      return { path: `${component.reverse().join('/')}/binary-${architecture}/Packages`, stanzas }
    }),
    ...Object.entries(archive.sources).map(([component, stanzas]) => ({
      path: `${component}/source/Sources`,
      stanzas,
    })),
  ]
  const hashes: string[] = []
  for (const { path, stanzas } of indexes) {
    const plain = Buffer.from(stanzasText(stanzas))
    const [ending, stored] = coded(plain, coding)
    hashes.push(` ${sha256(plain)} ${plain.length} ${path}`)
    if (ending !== '') hashes.push(` ${sha256(stored)} ${stored.length} ${path}${ending}`)
    const name = byHash ? `${dirname(path)}/by-hash/SHA256/${sha256(stored)}` : `${path}${ending}`
    await put(join(folder, 'dists', release, name), stored)
  }
  if (key === null) return
  const fields = {
    Suite: release,
    Codename: release,
    Date: 'Sat, 21 Nov 2026 10:00:00 UTC',
    ...(byHash ? { 'Acquire-By-Hash': 'yes' } : {}),
    ...archive.fields,
    SHA256: `\n${hashes.join('\n')}`,
  }
  await put(join(folder, 'dists', release, 'InRelease'), await clearsigned(stanzasText([fields]), key))
}

function coded(plain: Buffer, coding: 'gz' | 'zst' | 'plain'): [string, Buffer] {
  if (coding === 'gz') return ['.gz', Buffer.from(gzipSync(plain, { mtime: 0 }))]
  return coding === 'zst' ? ['.zst', zstdCompressSync(plain)] : ['', plain]
}

// --- Arch Linux

/** A pacman database as a plain tar: fields or text of the description by `NAME-VERSION`; names with a slash are other files. */
export async function pacmanDb(entries: Readonly<Record<string, Fields | string>>): Promise<Buffer> {
  const tar = pack()
  for (const [name, content] of Object.entries(entries)) {
    const text = typeof content === 'string' ? content : descriptionText(content)
    if (!name.includes('/')) tar.entry({ name: `${name}/`, type: 'directory' })
    tar.entry({ name: name.includes('/') ? name : `${name}/desc` }, text)
  }
  tar.finalize()
  const parts: Buffer[] = []
  for await (const part of tar) parts.push(part as Buffer)
  return Buffer.concat(parts)
}

export function aPacmanPackage(fields: Fields = {}): Fields {
  const { NAME: name = 'hello', VERSION: version = '1.0-1', ARCH: architecture = 'x86_64' } = fields
  return {
    FILENAME: `${name}-${version}-${architecture}.pkg.tar.zst`,
    NAME: name,
    BASE: name,
    VERSION: version,
    CSIZE: '1234',
    SHA256SUM: sha256(name + version),
    ARCH: architecture,
    PACKAGER: 'Jane Doe <jane@example.org>',
    ...fields,
  }
}

function descriptionText(fields: Fields): string {
  return Object.entries(fields)
    .map(([name, value]) => `%${name}%\n${value}\n\n`)
    .join('')
}

// --- Fedora

export type RpmFields = {
  name?: string
  epoch?: string
  version?: string
  release?: string
  architecture?: string
  source?: string
  path?: string
}

/** Writes repodata with one primary.xml.gz below `folder`, and returns the text of repomd.xml. */
export async function writeRpmRepository(folder: string, packages: readonly RpmFields[]): Promise<string> {
  const plain = Buffer.from(primaryXml(packages))
  const stored = gzipSync(plain, { mtime: 0 })
  const path = `repodata/${sha256(stored)}-primary.xml.gz`
  const repomd = `<?xml version="1.0" encoding="UTF-8"?>
<repomd xmlns="http://linux.duke.edu/metadata/repo">
  <data type="filelists"><location href="repodata/none.xml.gz"/></data>
  <data type="primary">
    <checksum type="sha256">${sha256(stored)}</checksum>
    <open-checksum type="sha256">${sha256(plain)}</open-checksum>
    <location href="${path}"/>
    <size>${stored.length}</size>
    <open-size>${plain.length}</open-size>
  </data>
</repomd>
`
  await put(join(folder, path), stored)
  await put(join(folder, 'repodata/repomd.xml'), repomd)
  return repomd
}

export function primaryXml(packages: readonly RpmFields[]): string {
  return `<?xml version="1.0" encoding="UTF-8"?>
<metadata xmlns="http://linux.duke.edu/metadata/common" xmlns:rpm="http://linux.duke.edu/metadata/rpm" packages="${packages.length}">
${packages.map(rpmXml).join('')}</metadata>
`
}

function rpmXml(fields: RpmFields): string {
  const { name = 'hello', epoch = '0', version = '1.0', release = '1.fc43', architecture = 'x86_64' } = fields
  const { source = `${name}-${version}-${release}.src.rpm` } = fields
  const { path = `Packages/${name.slice(0, 1)}/${name}-${version}-${release}.${architecture}.rpm` } = fields
  return `<package type="rpm"><name>${name}</name><arch>${architecture}</arch>
<version epoch="${epoch}" ver="${version}" rel="${release}"/>
<checksum type="sha256" pkgid="YES">${sha256(path)}</checksum>
<summary>A &amp; B</summary><packager>Fedora Project</packager>
<size package="4321" installed="1" archive="1"/><location href="${path}"/>
<format><rpm:sourcerpm>${source}</rpm:sourcerpm><rpm:provides><rpm:entry name="x"/></rpm:provides></format></package>
`
}

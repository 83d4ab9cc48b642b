import { SaxesParser, type SaxesTagPlain } from 'saxes'
import { Complaint, sentenceOf } from '../errors.ts'

/** A package of a primary.xml. */
export type RpmPackage = {
  name: string
  architecture: string
  /** `EPOCH:VERSION-RELEASE`; an epoch of 0 is not written. */
  version: string
  packager: string | null
  /** Below the folder that has `repodata`. */
  path: string
  /** File name of the source package; null for source packages themselves. */
  sourceFile: string | null
  sha256: string | null
  size: number | null
}

/** What repomd.xml says of one file of metadata. */
type MetadataFile = {
  path: string
  sha256: string | null
  size: number | null
  plainSize: number | null
}

/** A repomd.xml: the file that was asked for, and when the newest of all was made (seconds since 1970), if it tells. */
type Metadata = { file: MetadataFile; madeAt: number | null }

/** An element: where it is (`package/format/rpm:sourcerpm`), what it says. */
type Element = { path: string; attributes: Readonly<Record<string, string>>; text: string; line: number }

const deepest = 32
/** Characters of one element that are looked at without an end in sight. */
const longestElement = 4 * 1024 * 1024

/**
 * The file of metadata of one type (createrepo_c: `primary`, `filelists`, …).
 * @throws Complaint where repomd.xml is malformed, or lists none
 */
export async function metadataFile(
  chunks: AsyncIterable<Uint8Array>,
  type: string,
  what: string,
): Promise<Metadata> {
  const none: MetadataFile = { path: '', sha256: null, size: null, plainSize: null }
  let file = none
  let found: MetadataFile | null = null
  let madeAt = 0
  for await (const { path, attributes, text } of elements(chunks, what)) {
    if (path === 'repomd/data/location') file = { ...file, path: attributes['href'] ?? '' }
    if (path === 'repomd/data/checksum' && attributes['type'] === 'sha256') file = { ...file, sha256: text }
    if (path === 'repomd/data/size') file = { ...file, size: sizeOf(text, what) }
    if (path === 'repomd/data/open-size') file = { ...file, plainSize: sizeOf(text, what) }
    if (path === 'repomd/data/timestamp' && /^\d{1,11}(?:\.\d+)?$/.test(text))
      madeAt = Math.max(madeAt, Math.floor(Number(text)))
    if (path !== 'repomd/data') continue
    if (attributes['type'] === type && file.path !== '') found ??= file
    file = none
  }
  if (found === null) throw new Complaint(`${what} lists no ${type}`)
  return { file: found, madeAt: madeAt === 0 ? null : madeAt }
}

function sizeOf(text: string, what: string): number {
  if (!/^\d{1,15}$/.test(text)) throw new Complaint(`${what} has a size that is none: ${text.slice(0, 40)}`)
  return Number(text)
}

/**
 * Packages of an unpacked primary.xml, one at a time.
 * @throws Complaint with the line, where it is malformed or a package lacks what must be there
 */
export async function* rpmPackages(
  chunks: AsyncIterable<Uint8Array>,
  what: string,
): AsyncGenerator<RpmPackage> {
  let parts = new Map<string, Element>()
  for await (const element of elements(chunks, what)) {
    if (element.path === 'metadata/package') {
      yield packageOf(parts, `${what}: the package that ends at line ${element.line}`)
      parts = new Map()
    } else if (wanted.has(element.path)) {
      parts.set(element.path.slice('metadata/package/'.length), element)
    }
  }
}

const wanted: ReadonlySet<string> = new Set(
  ['name', 'arch', 'version', 'checksum', 'packager', 'size', 'location', 'format/rpm:sourcerpm'].map(
    (path) => `metadata/package/${path}`,
  ),
)

/** What names, versions and architectures of rpms are made of; names of files may not lead out of a folder. */
const word = /^[A-Za-z0-9._+~^%@{}:-]+$/

function packageOf(parts: ReadonlyMap<string, Element>, what: string): RpmPackage {
  const textOf = (path: string): string => parts.get(path)?.text ?? ''
  const required = (path: string, value: string): string => {
    if (value === '') throw new Complaint(`${what} has no ${path}`)
    if (value.length > 1024 || !word.test(value)) {
      throw new Complaint(`${what} has a ${path} that is none: ${JSON.stringify(value.slice(0, 120))}`)
    }
    return value
  }
  const architecture = required('arch', textOf('arch'))
  const { epoch = '0', ver = '', rel = '' } = parts.get('version')?.attributes ?? {}
  const checksum = parts.get('checksum')
  const size = parts.get('size')?.attributes['package']
  const packager = textOf('packager')
  return {
    name: required('name', textOf('name')),
    architecture,
    version: required('version', `${epoch === '0' || epoch === '' ? '' : `${epoch}:`}${ver}-${rel}`),
    packager: packager === '' ? null : packager.slice(0, 1024),
    path: parts.get('location')?.attributes['href'] ?? '',
    sourceFile: architecture === 'src' ? null : required('rpm:sourcerpm', textOf('format/rpm:sourcerpm')),
    sha256: checksum?.attributes['type'] === 'sha256' ? checksum.text : null,
    size: size === undefined ? null : sizeOf(size, what),
  }
}

/** Elements of an XML document in the order in which they end. */
async function* elements(chunks: AsyncIterable<Uint8Array>, what: string): AsyncGenerator<Element> {
  const decoder = new TextDecoder('utf-8', { fatal: true })
  const reader = elementReader(what)
  try {
    for await (const chunk of chunks) yield* reader.read(decoder.decode(chunk, { stream: true }))
    yield* reader.read(decoder.decode())
    reader.end()
  } catch (error) {
    if (!(error instanceof Error) || !(error instanceof TypeError || error.name === 'XmlError')) throw error
    throw new Complaint(`${what} is no valid XML: ${sentenceOf(error)}`)
  }
}

function elementReader(what: string) {
  const parser = new SaxesParser({ xmlns: false })
  const open: { name: string; tag: SaxesTagPlain; text: string }[] = []
  let done: Element[] = []
  let pending = 0
  parser.on('error', (error) => {
    error.name = 'XmlError'
    throw error
  })
  parser.on('opentag', (tag) => {
    if (open.length >= deepest) throw new Complaint(`${what}: line ${parser.line} nests too deeply`)
    open.push({ name: tag.name, tag, text: '' })
    pending = 0
  })
  parser.on('text', (text) => {
    const last = open.at(-1)
    if (last !== undefined) last.text += text
  })
  parser.on('closetag', () => {
    const path = open.map(({ name }) => name).join('/')
    const { tag, text } = open.pop() ?? { tag: { attributes: {} }, text: '' }
    done.push({ path, attributes: tag.attributes, text: text.trim(), line: parser.line })
    pending = 0
  })
  return {
    *read(text: string): Generator<Element> {
      pending += text.length
      parser.write(text)
      if (pending > longestElement)
        throw new Complaint(`${what}: line ${parser.line} has an element without an end`)
      const ready = done
      done = []
      yield* ready
    },
    end: () => void parser.close(),
  }
}

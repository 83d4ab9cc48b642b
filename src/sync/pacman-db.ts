import { extract, type Extract, type Header } from 'tar-stream'
import { Complaint } from '../errors.ts'

/** A package of a pacman database. */
export type PacmanPackage = {
  name: string
  base: string
  version: string
  architecture: string
  packager: string | null
  /** File name, beside the database. */
  file: string
  sha256: string | null
  size: number | null
  /** Detached OpenPGP signature of the file, as base64. */
  signature: string | null
  /** Seconds since 1970. */
  builtAt: number | null
}

/** Bytes of one description: the longest of Arch has 40 kB. */
const longestDescription = 1024 * 1024
const mostEntries = 1_000_000
/** Characters: what a server takes, ten times what RSA with 4096 bits needs. */
const longestSignature = 8192

/**
 * Packages of an unpacked database, which is a tar of `NAME-VERSION/desc` files (man.archlinux.org/man/repo-add.8).
 * @param what names the file in complaints
 * @throws Complaint where the tar is cut short, or a description lacks what must be there
 */
export async function* pacmanPackages(
  chunks: AsyncIterable<Uint8Array>,
  what: string,
): AsyncGenerator<PacmanPackage> {
  let entries = 0
  for await (const { header, content } of tarFiles(chunks, what)) {
    if (++entries > mostEntries) throw new Complaint(`${what} has more than ${mostEntries} entries`)
    const { name, type, size } = header
    if (type !== 'file' || !/(?:^|\/)desc$/.test(name)) continue
    if (size > longestDescription) throw new Complaint(`${what}: ${quoted(name)} is too long`)
    yield packageOf(await content(), `${what}: ${quoted(name)}`)
  }
}

type TarFile = { header: Header; content: () => Promise<string> }

/** Entries of a tar; what is not asked for of an entry is passed over. */
async function* tarFiles(chunks: AsyncIterable<Uint8Array>, what: string): AsyncGenerator<TarFile> {
  const tar = extract()
  const fed = feed(tar, chunks, what)
  try {
    for await (const entry of tar) {
      let isRead = false
      const content = async (): Promise<string> => {
        isRead = true
        return textOf(entry).catch((error: unknown) => {
          throw problemOf(error, what)
        })
      }
      yield { header: entry.header, content }
      if (!isRead) entry.resume()
    }
  } catch (error) {
    throw problemOf(error, what)
  } finally {
    tar.destroy()
    await fed
  }
}

async function textOf(entry: AsyncIterable<unknown>): Promise<string> {
  const parts: Uint8Array[] = []
  for await (const part of entry) parts.push(part as Uint8Array) // no encoding is set
  return Buffer.concat(parts).toString('utf8')
}

/** What the tar reader says of a tar has no code; what goes wrong with the input has, or is a complaint already. */
function problemOf(error: unknown, what: string): unknown {
  if (error instanceof Complaint || !(error instanceof Error) || 'code' in error) return error
  return new Complaint(`${what} is no whole tar: ${error.message}`)
}

/** A tar ends in zeros (man.archlinux.org/man/tar.5); the reader would take one cut between two files as whole. */
async function feed(tar: Extract, chunks: AsyncIterable<Uint8Array>, what: string): Promise<void> {
  let end = Buffer.alloc(0)
  try {
    for await (const chunk of chunks) {
      if (tar.destroyed) return
      end = Buffer.concat([end, chunk]).subarray(-512)
      if (!tar.write(chunk)) await writable(tar)
    }
    if (end.length < 512 || end.some((byte) => byte !== 0)) throw new Complaint(`${what} is cut short`)
    tar.end(undefined)
  } catch (error) {
    tar.destroy(error instanceof Error ? error : new Error(String(error)))
  }
}

async function writable(tar: Extract): Promise<void> {
  await new Promise<void>((resolve) => {
    const done = (): void => {
      tar.off('drain', done).off('close', done)
      resolve()
    }
    tar.on('drain', done).on('close', done)
  })
}

function quoted(name: string): string {
  return JSON.stringify(name.slice(0, 200))
}

/** What we ask of each field: names may not lead out of a folder, nothing may hold control bytes. */
const patterns = {
  file: /^[A-Za-z0-9@_+][A-Za-z0-9@._+:~-]*$/,
  name: /^[A-Za-z0-9@_+][A-Za-z0-9@._+-]*$/,
  version: /^[A-Za-z0-9._+:~-]+$/,
  architecture: /^[A-Za-z0-9_-]+$/,
  sha256: /^[0-9a-f]{64}$/,
  size: /^\d{1,15}$/,
  seconds: /^\d{1,11}$/,
  signature: /^(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?$/,
}

function packageOf(text: string, what: string): PacmanPackage {
  const fields = fieldsOf(text, what)
  const optional = (name: string, pattern: RegExp, longest = 255): string | null => {
    const value = fields.get(name)
    if (value === undefined) return null
    if (value.length <= longest && pattern.test(value)) return value
    throw new Complaint(`${what} has a %${name}% that is none: ${quoted(value)}`)
  }
  const field = (name: string, pattern: RegExp): string => {
    const value = optional(name, pattern)
    if (value === null) throw new Complaint(`${what} has no %${name}%`)
    return value
  }
  const name = field('NAME', patterns.name)
  const size = optional('CSIZE', patterns.size)
  const builtAt = optional('BUILDDATE', patterns.seconds)
  return {
    name,
    base: optional('BASE', patterns.name) ?? name,
    version: field('VERSION', patterns.version),
    architecture: field('ARCH', patterns.architecture),
    packager: fields.get('PACKAGER')?.slice(0, 1024) ?? null,
    file: field('FILENAME', patterns.file),
    sha256: optional('SHA256SUM', patterns.sha256),
    size: size === null ? null : Number(size),
    signature: optional('PGPSIG', patterns.signature, longestSignature),
    builtAt: builtAt === null ? null : Number(builtAt),
  }
}

/** The first value of each `%FIELD%`. */
function fieldsOf(text: string, what: string): Map<string, string> {
  const fields = new Map<string, string>()
  for (const block of text.split(/\n{2,}/)) {
    const [header = '', value = ''] = block.replace(/^\n+/, '').split('\n')
    if (header === '') continue
    const name = /^%([A-Z0-9]+)%$/.exec(header)?.[1]
    if (name === undefined) throw new Complaint(`${what} has a line that is no %FIELD%: ${quoted(header)}`)
    if (fields.has(name)) throw new Complaint(`${what} has %${name}% a second time`)
    if (/[\0-\x1f\x7f]/.test(value)) throw new Complaint(`${what} has control bytes in %${name}%`)
    fields.set(name, value)
  }
  return fields
}

import { Complaint } from '../errors.ts'
import { openTarReader, wholeContent } from '../tar-reader.ts'

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
  const ready: PacmanPackage[] = []
  let entries = 0
  const reader = openTarReader(what, ({ name, kind, size }) => {
    if (++entries > mostEntries) throw new Complaint(`${what} has more than ${mostEntries} entries`)
    if (kind !== 'file' || !/(?:^|\/)desc$/.test(name)) return null
    const where = `${what}: ${quoted(name)}`
    if (size > longestDescription) throw new Complaint(`${where} is too long`)
    return wholeContent(size, (content) => void ready.push(packageOf(content.toString('utf8'), where)))
  })
  for await (const chunk of chunks) {
    reader.push(chunk)
    yield* ready.splice(0)
  }
  reader.end()
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

const percent = 37

/** The first value of each `%FIELD%`: blocks of lines, with empty ones between them. */
function fieldsOf(text: string, what: string): Map<string, string> {
  const fields = new Map<string, string>()
  const mayHaveControls = /[\0-\x09\x0b-\x1f\x7f]/.test(text)
  let header: string | null = null
  let isFirst = false
  for (let at = 0, end = 0; at < text.length; at = end + 1) {
    end = text.indexOf('\n', at)
    if (end < 0) end = text.length
    if (end === at) {
      header = null
    } else if (header === null) {
      header = headerIn(text, at, end)
      if (header === null)
        throw new Complaint(`${what} has a line that is no %FIELD%: ${quoted(text.slice(at, end))}`)
      if (fields.has(header)) throw new Complaint(`${what} has %${header}% a second time`)
      fields.set(header, '')
      isFirst = true
    } else if (isFirst) {
      const value = text.slice(at, end)
      if (mayHaveControls && /[\0-\x1f\x7f]/.test(value))
        throw new Complaint(`${what} has control bytes in %${header}%`)
      fields.set(header, value)
      isFirst = false
    }
  }
  return fields
}

/** `FIELD` of a line `%FIELD%`, null for what is none: capital letters and digits. */
function headerIn(text: string, from: number, to: number): string | null {
  if (to - from < 3 || text.charCodeAt(from) !== percent || text.charCodeAt(to - 1) !== percent) return null
  for (let at = from + 1; at < to - 1; at++) {
    const code = text.charCodeAt(at)
    if (!((code >= 65 && code <= 90) || (code >= 48 && code <= 57))) return null
  }
  return text.slice(from + 1, to - 1)
}

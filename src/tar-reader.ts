import { asBuffer } from './chunks.ts'
import { Complaint } from './errors.ts'

/** One member of a tar. */
export type TarHeader = {
  name: string
  kind: 'file' | 'hard link' | 'link' | 'folder' | 'other'
  /** Bytes of content that follow, and how many of the tar are before them. */
  size: number
  start: number
  /** Where a link of either kind leads; empty for others. */
  target: string
}

/** Takes the content of a member part by part: `size` bytes in all. Parts are good until it returns. */
export type TakeContent = (part: Buffer) => void

type TarReader = {
  /** Takes the next bytes. @throws Complaint where they are no tar, and whatever `begin` or a taker throws */
  push: (chunk: Uint8Array) => void
  /** How many bytes that come now nobody asks for. They count as taken: who reads from a file reads on behind them. */
  passOver: () => number
  /**
   * @param mayLackZeros something else tells that all of it came: not every program writes the zeros at the end
   * @throws Complaint where the tar is not whole
   */
  end: (mayLackZeros?: boolean) => void
}

const block = 512
/** Bytes of a header that follows another one with a name, or with times and attributes. */
const longestExtension = 1 << 20
const [magicAt, prefixAt, sumAt] = [257, 345, 148]
const [capitalK, capitalL, smallG, smallX] = [75, 76, 103, 120]

const kinds: Readonly<Record<number, TarHeader['kind']>> = {
  0: 'file',
  48: 'file',
  49: 'hard link',
  50: 'link',
  53: 'folder',
  55: 'file',
}

/** What headers of extension say of the member behind them. */
type Extension = { name?: string; target?: string; size?: number }

/**
 * Reads a tar as it arrives: ustar, pax and GNU's long names and sizes
 * (pubs.opengroup.org/onlinepubs/9799919799/utilities/pax.html, man7.org/linux/man-pages/man5/tar.5.html).
 * Nothing waits for anything: archives of thousands of small files take as long as their bytes.
 * @param what names the archive in complaints
 * @param begin is told of each member, and gives what takes its content; null: it is passed over
 */
export function openTarReader(what: string, begin: (header: TarHeader) => TakeContent | null): TarReader {
  let held: Buffer = Buffer.alloc(0) // the beginning of a header
  let left = 0 // bytes of content that are still to come
  let padding = 0
  let take: TakeContent | null = null
  let extension: Extension = {}
  let isEnded = false
  let read = 0
  const broken = (problem: string): Complaint => new Complaint(`${what} is no whole tar: ${problem}`)
  const readHeader = (header: Buffer): void => {
    isEnded = isZero(header)
    if (isEnded) return
    if (!isSound(header)) throw broken(`there is no header at byte ${read}`)
    const type = header[156] ?? 0
    const own = numberAt(header, 124, 12)
    if (type === smallX || type === smallG || type === capitalL || type === capitalK) {
      if (!(own <= longestExtension)) throw broken(`the header at byte ${read} is too long`)
      left = own
      padding = paddingOf(own)
      take = wholeContent(own, (content) => extend(type, content))
      return
    }
    const kind = kinds[type] ?? 'other'
    const name = extension.name ?? nameIn(header)
    const isFolder = kind === 'folder' || (type === 0 && name.endsWith('/'))
    const hasContent = kind === 'file' || (kind === 'other' && !isBare(type))
    const size = hasContent && !isFolder ? (extension.size ?? own) : 0
    if (!Number.isSafeInteger(size)) throw broken(`the header at byte ${read} has no size`)
    const target =
      extension.target ?? (kind === 'link' || kind === 'hard link' ? textAt(header, 157, 100) : '')
    extension = {}
    left = size
    padding = paddingOf(size)
    take = begin({ name, kind: isFolder ? 'folder' : kind, size, target, start: read + block })
  }
  const extend = (type: number, content: Buffer): void => {
    if (type === smallX) Object.assign(extension, recordsOf(content))
    else if (type === capitalL) extension.name = textAt(content, 0, content.length)
    else if (type === capitalK) extension.target = textAt(content, 0, content.length)
    if (extension.size !== undefined && !(extension.size >= 0))
      throw broken(`a size before byte ${read} is none`)
  }
  return {
    push(chunk) {
      const bytes = asBuffer(chunk)
      for (let at = 0; at < bytes.length;) {
        if (left > 0) {
          const part = bytes.subarray(at, at + left)
          take?.(part)
          left -= part.length
          at += part.length
          read += part.length
        } else if (padding > 0) {
          const passed = Math.min(padding, bytes.length - at)
          padding -= passed
          at += passed
          read += passed
        } else {
          const more = block - held.length
          const part = bytes.subarray(at, at + more)
          at += part.length
          held = held.length === 0 ? part : Buffer.concat([held, part])
          if (held.length < block) {
            held = Buffer.from(held) // whoever sent it may use its bytes again
            return
          }
          const header = held
          held = Buffer.alloc(0)
          readHeader(header)
          read += block
        }
      }
    },
    passOver() {
      if (take !== null && left > 0) return 0
      const passed = left + padding
      left = 0
      padding = 0
      read += passed
      return passed
    },
    end(mayLackZeros = false) {
      // it ends in zeros: one cut off between two members would look whole else
      const hasZeros = isEnded && padding === 0
      if (!(hasZeros || mayLackZeros) || left > 0 || held.length > 0)
        throw new Complaint(`${what} is cut short`)
    },
  }
}

/** Takes the whole content of a small member of `size` bytes, and hands it on; it is good until `done` returns. */
export function wholeContent(size: number, done: (content: Buffer) => void): TakeContent | null {
  if (size === 0) {
    done(Buffer.alloc(0))
    return null
  }
  let content: Buffer | null = null
  let filled = 0
  return (part) => {
    if (part.length === size) return done(part)
    content ??= Buffer.allocUnsafe(size)
    filled += part.copy(content, filled)
    if (filled === size) done(content)
  }
}

/** Links, devices and pipes have no content, whatever their header says. */
function isBare(type: number): boolean {
  return type >= 49 && type <= 54
}

function paddingOf(size: number): number {
  return (block - (size % block)) % block
}

function isZero(header: Buffer): boolean {
  return header[0] === 0 && header.every((byte) => byte === 0)
}

/** The sum of its bytes is right, its own eight digits counted as blanks; and it is of a kind that we know. */
function isSound(header: Buffer): boolean {
  let sum = 8 * 32
  for (let at = 0; at < sumAt; at++) sum += header[at] ?? 0
  for (let at = sumAt + 8; at < block; at++) sum += header[at] ?? 0
  return sum === numberAt(header, sumAt, 8) && header.toString('latin1', magicAt, magicAt + 5) === 'ustar'
}

/** Octal digits, or the bytes of a number that has its first bit set. NaN where it is none. */
function numberAt(header: Buffer, from: number, length: number): number {
  const first = header[from] ?? 0
  if (first >= 0x80) {
    let value = first & 0x7f
    for (let at = from + 1; at < from + length; at++) value = value * 256 + (header[at] ?? 0)
    return value
  }
  let value = 0
  let hasDigits = false
  for (let at = from; at < from + length; at++) {
    const byte = header[at] ?? 0
    if (byte >= 48 && byte <= 55) {
      value = value * 8 + byte - 48
      hasDigits = true
    } else if (byte === 0 || (byte === 32 && hasDigits)) return value
    else if (byte !== 32) return NaN
  }
  return value
}

function nameIn(header: Buffer): string {
  const name = textAt(header, 0, 100)
  const isPosix = header[magicAt + 5] === 0 // GNU has other things where the prefix is
  return isPosix && header[prefixAt] !== 0 ? `${textAt(header, prefixAt, 155)}/${name}` : name
}

function textAt(bytes: Buffer, from: number, length: number): string {
  const end = bytes.indexOf(0, from)
  return bytes.toString('utf8', from, end < 0 || end > from + length ? from + length : end)
}

/** Records `LENGTH KEY=VALUE\n` of a pax header. */
function recordsOf(content: Buffer): Extension {
  const found: Extension = {}
  for (let at = 0; at < content.length;) {
    const blank = content.indexOf(32, at)
    const length = blank < 0 ? NaN : Number(content.toString('latin1', at, blank))
    if (!(length > blank - at)) break
    const text = content.toString('utf8', blank + 1, at + length - 1)
    const equals = text.indexOf('=')
    const value = text.slice(equals + 1)
    switch (text.slice(0, equals)) {
      case 'path':
        found.name = value
        break
      case 'linkpath':
        found.target = value
        break
      case 'size':
        found.size = /^\d+$/.test(value) ? Number(value) : NaN
    }
    at += length
  }
  return found
}

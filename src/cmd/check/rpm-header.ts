import { Complaint } from '../../errors.ts'

const tags = {
  name: 1000,
  version: 1001,
  release: 1002,
  epoch: 1003,
  architecture: 1022,
  sourceRpm: 1044,
} as const
const lead = 96

/**
 * Name, version with epoch, and architecture of an rpm (rpm.org/docs/latest/manual/format_v4.html).
 * @param bytes its beginning, with both headers
 * @throws Complaint where the headers are malformed
 */
export function rpmIdentity(bytes: Buffer): { name: string; version: string; architecture: string } {
  const signature = headerAt(bytes, lead)
  const main = headerAt(bytes, lead + Math.ceil((signature.end - lead) / 8) * 8)
  const text = (tag: number): string => main.text(tag) ?? ''
  const epoch = main.number(tags.epoch)
  const version = `${epoch === null || epoch === 0 ? '' : `${epoch}:`}${text(tags.version)}-${text(tags.release)}`
  const isSource = main.text(tags.sourceRpm) === null
  return { name: text(tags.name), version, architecture: isSource ? 'src' : text(tags.architecture) }
}

type Header = { end: number; text: (tag: number) => string | null; number: (tag: number) => number | null }

/** Magic, counts, an index of (tag, type, offset, count), then the values. */
function headerAt(bytes: Buffer, start: number): Header {
  if (start + 16 > bytes.length || bytes.readUInt32BE(start) !== 0x8eade801) throw damaged()
  const entries = bytes.readUInt32BE(start + 8)
  const values = start + 16 + entries * 16
  const end = values + bytes.readUInt32BE(start + 12)
  if (entries > 65_536 || end > bytes.length) throw damaged()
  const offsets = new Map<number, number>()
  for (let at = start + 16; at < values; at += 16) {
    offsets.set(bytes.readUInt32BE(at), values + bytes.readUInt32BE(at + 8))
  }
  const text = (tag: number): string | null => {
    const from = offsets.get(tag)
    if (from === undefined) return null
    const to = bytes.indexOf(0, from)
    if (to < 0 || to > end) throw damaged()
    return bytes.toString('utf8', from, to)
  }
  const number = (tag: number): number | null => {
    const from = offsets.get(tag)
    if (from === undefined) return null
    if (from + 4 > end) throw damaged()
    return bytes.readUInt32BE(from)
  }
  return { end, text, number }
}

function damaged(): Complaint {
  return new Complaint('it is a damaged .rpm')
}

import { open, type FileHandle } from 'node:fs/promises'

/** A piece of a file, in bytes. */
type Part = { readonly name: string; readonly start: number; readonly size: number }

/** A header says how large it is; more than this is none of rpm's (its own limit is 256 MiB). */
const longestHeader = 256 * 1024 * 1024

/**
 * The parts of an rpm package: signature, header, payload (rpm.org/docs/latest/manual/format_v4.html).
 * @returns null where the file is none
 */
export async function rpmParts(path: string): Promise<Part[] | null> {
  await using file = await open(path, 'r')
  const { size } = await file.stat()
  const lead = await bytesAt(file, 0, 4)
  if (lead.toString('hex') !== 'edabeedb') return null
  const signature = await headerSize(file, 96)
  if (signature === null) return null
  const start = 96 + 8 * Math.ceil(signature / 8)
  const header = await headerSize(file, start)
  if (header === null || start + header > size) return null
  return [
    { name: 'signature', start: 96, size: signature },
    { name: 'header', start, size: header },
    { name: 'payload', start: start + header, size: size - start - header },
  ]
}

/** Bytes of a header with its index; null where there is none. */
async function headerSize(file: FileHandle, at: number): Promise<number | null> {
  const intro = await bytesAt(file, at, 16)
  if (intro.length < 16 || intro.toString('hex', 0, 4) !== '8eade801') return null
  const size = 16 + 16 * intro.readUInt32BE(8) + intro.readUInt32BE(12)
  return size > longestHeader ? null : size
}

async function bytesAt(file: FileHandle, position: number, length: number): Promise<Buffer> {
  const { buffer, bytesRead } = await file.read(Buffer.alloc(length), 0, length, position)
  return buffer.subarray(0, bytesRead)
}

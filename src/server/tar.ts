/** Headers of tar archives (pubs.opengroup.org/onlinepubs/9799919799/utilities/pax.html, ustar interchange format). */

const block = 512
/** What a size of eleven octal digits can say. */
const largestOctal = 8 ** 11 - 1

/** The header of a plain file; names have at most 100 bytes. Larger sizes than ustar knows are written as GNU tar does. */
export function tarHeader(name: string, size: number, moment: Date): Uint8Array {
  const header = Buffer.alloc(block)
  const octal = (value: number, digits: number): string => value.toString(8).padStart(digits, '0')
  header.write(name, 0, 100)
  header.write(octal(0o600, 7), 100)
  header.write(octal(0, 7), 108)
  header.write(octal(0, 7), 116)
  if (size <= largestOctal) header.write(octal(size, 11), 124)
  else {
    header[124] = 0x80
    header.writeBigUInt64BE(BigInt(size), 128)
  }
  header.write(octal(Math.floor(moment.getTime() / 1000), 11), 136)
  header.write('        ', 148)
  header.write('0', 156)
  header.write('ustar\u000000', 257)
  const sum = header.reduce((total, byte) => total + byte, 0)
  header.write(`${octal(sum, 6)}\u0000 `, 148)
  return header
}

/** What follows the bytes of a file up to the next block. */
export function tarPadding(size: number): Uint8Array {
  return new Uint8Array((block - (size % block)) % block)
}

/** How an archive ends. */
export const tarEnd: Uint8Array = new Uint8Array(2 * block)

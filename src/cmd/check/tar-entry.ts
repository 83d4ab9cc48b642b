import { Complaint } from '../../errors.ts'

const block = 512
const longestEntry = 4 * 1024 * 1024

/**
 * The content of the first file of a tar whose name matches, read no further than that
 * (pubs.opengroup.org/onlinepubs/9799919799/utilities/pax.html, "ustar Interchange Format"). Null where there is none.
 */
export async function tarEntry(
  chunks: AsyncIterable<Uint8Array>,
  wanted: RegExp,
): Promise<Uint8Array | null> {
  let held: Buffer = Buffer.alloc(0)
  let skip = 0
  for await (const chunk of chunks) {
    const passed = Math.min(skip, chunk.length)
    skip -= passed
    held = Buffer.concat([held, chunk.subarray(passed)])
    while (skip === 0 && held.length >= block) {
      const { name, size, isFile, isEnd } = headerOf(held)
      if (isEnd) return null
      const whole = block + Math.ceil(size / block) * block
      if (isFile && wanted.test(name)) {
        if (size > longestEntry) throw new Complaint(`${name} is too long`)
        if (held.length < block + size) break
        return held.subarray(block, block + size)
      }
      skip = Math.max(0, whole - held.length)
      held = held.subarray(Math.min(whole, held.length))
    }
  }
  return null
}

function headerOf(bytes: Buffer): { name: string; size: number; isFile: boolean; isEnd: boolean } {
  if (bytes.subarray(0, block).every((byte) => byte === 0))
    return { name: '', size: 0, isFile: false, isEnd: true }
  const text = (from: number, to: number): string => bytes.toString('utf8', from, to).replace(/\0.*$/s, '')
  const size = Number.parseInt(text(124, 136).trim() || '0', 8)
  if (text(257, 262) !== 'ustar' || !Number.isSafeInteger(size) || size < 0) {
    throw new Complaint('it is no package', {
      hint: '.deb, .pkg.tar.zst and .rpm files can be checked',
      exitCode: 2,
    })
  }
  const type = text(156, 157)
  return { name: text(0, 100), size, isFile: type === '0' || type === '', isEnd: false }
}

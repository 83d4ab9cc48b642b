import type { Complaint } from '../errors.ts'

/**
 * Bytes of one element that come in pieces, however small.
 * @param longest bytes of an element at most, without its end
 * @param tooLong what is thrown for a longer one
 */
export function gathered(longest: number, tooLong: () => Complaint) {
  let held = Buffer.alloc(0)
  let size = 0
  const bytes = (): Buffer => held.subarray(0, size)
  return {
    /** @throws what `tooLong` makes */
    take(part: Buffer): void {
      if (size + part.length > longest) throw tooLong()
      if (size + part.length > held.length) {
        const larger = Buffer.alloc(2 * (size + part.length))
        held.copy(larger, 0, 0, size)
        held = larger
      }
      part.copy(held, size)
      size += part.length
    },
    /** What has come so far, until more is taken. */
    bytes,
    /** All of it with this at its end; the next one begins. */
    end(part: Buffer): Buffer {
      const all = size === 0 ? part : Buffer.concat([bytes(), part])
      size = 0
      return all
    },
  }
}

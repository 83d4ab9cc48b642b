import { zstdDecompressSync } from 'node:zlib'
import { isZstd, plainAtOnce } from './compression.ts'

/** Bytes that are unpacked in one go, packed and plain: less than a millisecond of work. */
const [mostPacked, mostPlain] = [64 * 1024, 512 * 1024]

type Frame = { place: number; bytes: Uint8Array; size: number }

/**
 * Unpacks many small zstd frames with one decoder after the other for some dozens of them: a decoder of its own for
 * each would take ten times as long as the work, and leave a hundred kilobytes behind.
 * @returns the plain bytes of each; null for what is not one frame that tells its size, unpacks to more than `limit`
 *   bytes, or lies beside one that is damaged. Those are left to `plainBytes`.
 */
export function plainFrames(stored: readonly (Uint8Array | null)[], limit: number): (Uint8Array | null)[] {
  const plain = stored.map((): Uint8Array | null => null)
  const frames = stored.flatMap((bytes, place): Frame[] => {
    const size = bytes === null || bytes.length > mostPacked ? null : sizeOfFrame(bytes)
    return bytes === null || size === null || size > limit ? [] : [{ place, bytes, size }]
  })
  for (const together of bundles(frames)) {
    const packed = Buffer.concat(together.map(({ bytes }) => bytes))
    const unpacked = plainAtOnce(packed, zstdDecompressSync, mostPlain)
    const length = together.reduce((sum, { size }) => sum + size, 0)
    if (unpacked?.length !== length) continue
    let at = 0
    for (const { place, size } of together) plain[place] = unpacked.subarray(at, (at += size))
  }
  return plain
}

function* bundles(frames: readonly Frame[]): Generator<Frame[]> {
  let [bundle, packed, plain]: [Frame[], number, number] = [[], 0, 0]
  for (const frame of frames) {
    const { bytes, size } = frame
    if (size > mostPlain) continue
    if (packed + bytes.length > mostPacked || plain + size > mostPlain) {
      yield bundle
      ;[bundle, packed, plain] = [[], 0, 0]
    }
    bundle.push(frame)
    packed += bytes.length
    plain += size
  }
  if (bundle.length > 0) yield bundle
}

const magicLength = 4
/** Block_Type of those whose bytes are one, repeated, and of those that there are not. */
const [repeated, reserved] = [1, 3]

/**
 * The plain size that a frame tells of itself (RFC 8878 section 3.1.1); null where these bytes are not exactly one
 * frame that tells it. Its blocks are gone through, so that none can take bytes of what is put behind it.
 */
export function sizeOfFrame(bytes: Uint8Array): number | null {
  if (!isZstd(bytes)) return null
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  const descriptor = bytes[magicLength] ?? 0
  const isSingle = (descriptor & 0x20) !== 0
  const dictionaryLength = [0, 1, 2, 4][descriptor & 3] ?? 0
  const sizeLength = [isSingle ? 1 : 0, 2, 4, 8][descriptor >> 6] ?? 0
  const sizeAt = magicLength + 1 + (isSingle ? 0 : 1) + dictionaryLength
  if (sizeLength === 0 || sizeAt + sizeLength > bytes.length) return null
  const checksumLength = (descriptor & 4) === 0 ? 0 : 4
  if (blocksEnd(view, sizeAt + sizeLength) !== bytes.length - checksumLength) return null
  if (sizeLength === 1) return view.getUint8(sizeAt)
  if (sizeLength === 2) return view.getUint16(sizeAt, true) + 256
  return sizeLength === 4 ? view.getUint32(sizeAt, true) : Number(view.getBigUint64(sizeAt, true))
}

/** Where the blocks end that start here; null where they are cut short. */
function blocksEnd(view: DataView, start: number): number | null {
  for (let at = start; at + 3 <= view.byteLength;) {
    const header = view.getUint16(at, true) | (view.getUint8(at + 2) << 16)
    const type = (header >> 1) & 3
    if (type === reserved) return null
    at += 3 + (type === repeated ? 1 : header >> 3)
    if ((header & 1) === 1) return at
  }
  return null
}

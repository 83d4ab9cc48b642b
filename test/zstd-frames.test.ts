import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { test } from 'node:test'
import { constants, createZstdCompress, zstdCompressSync } from 'node:zlib'
import { zstdFrame } from '../src/compression.ts'
import { plainFrames, sizeOfFrame } from '../src/zstd-frames.ts'

const limit = 64 * 1024

function packed(plain: Uint8Array, params: Record<number, number> = {}): Buffer {
  return zstdCompressSync(plain, { params, pledgedSrcSize: plain.length })
}

/** Texts, noise and runs, which become blocks of each type. */
const samples = [0, 1, 255, 256, 257, 1300, 65_000].flatMap((length) => [
  Buffer.from('{"signed":"text"}'.repeat(length).slice(0, length)),
  randomBytes(length),
  Buffer.alloc(length, 'a'),
])

function isSame(given: Uint8Array | null, expected: Uint8Array | null): boolean {
  return given === null || expected === null ? given === expected : Buffer.compare(given, expected) === 0
}

test('many frames come out in their order, each as it was, whatever is between them', async () => {
  const ours = await Promise.all(samples.map((plain) => zstdFrame(plain)))
  const others = samples.map((plain) => packed(plain, { [constants.ZSTD_c_checksumFlag]: 0 }))
  const stored = [...ours, null, Buffer.from('no frame'), ...others]

  const plain = plainFrames(stored, limit)

  assert.equal(plain.length, stored.length)
  for (const [place, sample] of [...samples, null, null, ...samples].entries())
    assert.ok(isSame(plain[place] ?? null, sample), `frame ${place}`)
})

test('a frame tells its size; what is no frame alone, or tells none, has none', async () => {
  const [plain, tail] = [randomBytes(300), packed(Buffer.from('more'))]
  const frame = packed(plain)
  const stream = createZstdCompress()
  stream.end(plain)
  const parts = await stream.toArray()

  assert.equal(sizeOfFrame(frame), 300)
  assert.equal(sizeOfFrame(Buffer.concat(parts as Buffer[])), null)
  assert.equal(sizeOfFrame(Buffer.concat([frame, tail])), null)
  assert.equal(sizeOfFrame(Buffer.alloc(0)), null)
  for (let length = 0; length < frame.length; length++)
    assert.equal(sizeOfFrame(frame.subarray(0, length)), null)
})

test('a frame that would take the one behind it for its own is not unpacked together with it', () => {
  const victim = packed(Buffer.from('{"signed":"by them"}'))
  const forged = packed(Buffer.from('{"signed":"by me!!"}'))
  const skippable = Buffer.alloc(8) // RFC 8878 section 3.1.2: the bytes of the next blob are to be skipped
  skippable.writeUInt32LE(0x184d2a50, 0)
  skippable.writeUInt32LE(victim.length, 4)
  const rawBlock = Buffer.from(packed(randomBytes(100)).subarray(0, 9 + 50))

  for (const thief of [Buffer.concat([packed(Buffer.from('{}')), forged, skippable]), rawBlock]) {
    const [first, second] = plainFrames([thief, victim], limit)
    assert.equal(first, null)
    assert.equal(Buffer.from(second ?? '').toString(), '{"signed":"by them"}')
  }
})

test('frames over the limit, and those beside a damaged one, are left to be looked at one by one', () => {
  const [small, large] = [packed(Buffer.alloc(limit)), packed(Buffer.alloc(limit + 1))]
  const damaged = packed(randomBytes(400), { [constants.ZSTD_c_checksumFlag]: 1 })
  damaged[100] = (damaged[100] ?? 0) ^ 1

  assert.deepEqual(
    plainFrames([small, large], limit).map((plain) => plain?.length),
    [limit, undefined],
  )
  assert.deepEqual(plainFrames([small, damaged], limit), [null, null])
})

import assert from 'node:assert/strict'
import { once } from 'node:events'
import { pipeline } from 'node:stream/promises'
import { test } from 'node:test'
import zlib from 'node:zlib'
import { encoded, encodedStream, type Coding } from '../../src/server/encoding.ts'

const decoders = {
  identity: (bytes: Uint8Array): Uint8Array => bytes,
  br: zlib.brotliDecompressSync,
  zstd: zlib.zstdDecompressSync,
  gzip: zlib.gunzipSync,
  deflate: zlib.inflateSync,
} satisfies Record<Coding, (bytes: Uint8Array) => Uint8Array>

test('bytes of any length come back from every coding as they were', async () => {
  for (const length of [0, 1, 1000, 128 * 1024, 128 * 1024 + 1, 3_000_000]) {
    const bytes = Uint8Array.from({ length }, (_, index) => (index * index) >> 3)
    for (const [coding, decode] of Object.entries(decoders)) {
      const sent = await encoded(bytes, coding as Coding) // a key of the table above
      assert.ok(Buffer.from(decode(sent)).equals(bytes), `${length} bytes, ${coding}`)
    }
  }
})

test('what comes piecewise can be read before the next piece is there, and breaks off where that does', async () => {
  for (const [coding, decoder] of [
    ['br', zlib.createBrotliDecompress()],
    ['zstd', zlib.createZstdDecompress()],
    ['gzip', zlib.createGunzip()],
    ['deflate', zlib.createInflate()],
  ] as const) {
    const read = Promise.withResolvers<void>()
    const parts = async function* (): AsyncGenerator<Uint8Array> {
      yield Buffer.from('the first piece')
      await read.promise
      throw new Error('there is no second one')
    }
    const whole = pipeline(encodedStream(parts(), coding, 'piecewise'), decoder)

    const [first] = (await once(decoder, 'data')) as [Buffer]
    read.resolve()

    assert.equal(first.toString(), 'the first piece', coding)
    await assert.rejects(whole, /no second one/, coding)
  }
})

import assert from 'node:assert/strict'
import { test } from 'node:test'
import zlib from 'node:zlib'
import { encoded, type Coding } from '../../src/server/encoding.ts'

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

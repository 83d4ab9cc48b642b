import assert from 'node:assert/strict'
import { test } from 'node:test'
import { zstdCompressSync } from 'node:zlib'
import { Hono } from 'hono'
import { plainParts } from '../../src/compression.ts'
import { frameReply } from '../../src/server/frames.ts'

const limit = 1024 ** 3

/** Asks for what is kept as these frames, by somebody who does not take zstd. */
async function asked(frame: Uint8Array, headers: Record<string, string>): Promise<Response> {
  const app = new Hono()
  const kept = { frame, sha256: 'a'.repeat(64), plain: () => plainParts(frame, limit) }
  app.get('/', (c) => frameReply(c, 'text/plain', kept))
  return app.request('/', { headers })
}

const text = Buffer.from(Array.from({ length: 300_000 }, (_, index) => index % 251))

test('parts are given of frames that do not tell their size, across the parts they are unpacked in', async () => {
  const frames = Buffer.concat(
    [text.subarray(0, 1000), text.subarray(1000)].map((part) => zstdCompressSync(part)),
  )

  const middle = await asked(frames, { range: 'bytes=998-200001' })
  const end = await asked(frames, { range: 'bytes=-3' })

  assert.deepEqual(
    [middle.status, middle.headers.get('content-range')],
    [206, `bytes 998-200001/${text.length}`],
  )
  assert.deepEqual(Buffer.from(await middle.arrayBuffer()), text.subarray(998, 200_002))
  assert.deepEqual([...new Uint8Array(await end.arrayBuffer())], [...text.subarray(-3)])
})

for (const [what, pieces] of [
  ['that tells its size', 1],
  ['that does not', 2],
] as const) {
  test(`of what is long, ${what}, only the frame is given in parts`, async () => {
    const piece = zstdCompressSync(Buffer.alloc((65 * 1024 * 1024) / pieces))
    const frames = Buffer.concat(Array.from({ length: pieces }, () => piece))

    const plain = await asked(frames, { range: 'bytes=0-1' })
    const packed = await asked(frames, { range: 'bytes=0-1', 'accept-encoding': 'zstd' })
    await plain.body?.cancel()

    assert.equal(plain.status, 200)
    assert.deepEqual([packed.status, packed.headers.get('accept-ranges')], [206, 'bytes'])
    assert.deepEqual([...new Uint8Array(await packed.arrayBuffer())], [0x28, 0xb5])
  })
}

import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { describe, test } from 'node:test'
import { gzipSync, zstdCompressSync } from 'node:zlib'
import { codingOf, decompressed, isZstd, plainBytes, zstdFrame, type Coding } from '../src/compression.ts'
import { Complaint } from '../src/errors.ts'
import { inPieces, through } from './help/archives.ts'

const plain = Buffer.from(Array.from({ length: 1500 }, (_, i) => `line ${i * i} of the text\n`).join(''))

/** `xz` and `bzip2 -9` of "rebuilderd\n", for machines without the programs. */
const small = {
  xz: '/Td6WFoAAATm1rRGAgAhARYAAAB0L+WjAQAKcmVidWlsZGVyZAoAADqNp3nIb9v3AAEjC8Ib/QkftvN9AQAAAAAEWVo=',
  bzip2: 'QlpoOTFBWSZTWY783c8AAATBgAAQFiQSACAAMQwIIGmamqTEDh4u5IpwoSEd+bue',
}

const codings: Readonly<Record<Exclude<Coding, 'none'>, (bytes: Uint8Array) => Buffer | null>> = {
  gzip: (bytes) => gzipSync(bytes),
  zstd: (bytes) => zstdCompressSync(bytes),
  xz: (bytes) => through('xz', ['-c'], bytes),
  bzip2: (bytes) => through('bzip2', ['-c1'], bytes),
}

async function unpacked(bytes: Uint8Array, { size = 65_536, limit = 1e8 } = {}): Promise<Buffer> {
  const parts: Uint8Array[] = []
  for await (const part of decompressed(inPieces(bytes, size), { limit, what: 'file' })) parts.push(part)
  return Buffer.concat(parts)
}

for (const [coding, compress] of Object.entries(codings)) {
  describe(`a ${coding} file`, () => {
    const stored = compress(plain)
    const skip = stored === null ? `needs the program ${coding}` : false
    const file = stored ?? Buffer.alloc(0)

    test('is told by its first bytes', { skip }, () => {
      assert.equal(codingOf(file.subarray(0, 6)), coding)
    })

    for (const size of [3, 4096, 1 << 20]) {
      test(`is unpacked when it comes in pieces of ${size}`, { skip }, async () => {
        assert.deepEqual(await unpacked(file, { size }), plain)
      })
    }

    test('may consist of several', { skip }, async () => {
      const twice = await unpacked(Buffer.concat([file, file]), { size: 1000 })

      assert.deepEqual(twice, Buffer.concat([plain, plain]))
    })

    test('is refused when it is cut short', { skip }, async () => {
      for (const length of [7, Math.floor(file.length / 3), file.length - 9, file.length - 1]) {
        await assert.rejects(unpacked(file.subarray(0, length)), Complaint, `cut at ${length}`)
      }
    })

    test('is refused when something follows it', { skip }, async () => {
      await assert.rejects(unpacked(Buffer.concat([file, Buffer.from('more')])), Complaint)
      await assert.rejects(unpacked(Buffer.concat([file, Buffer.from('more')]), { size: 5 }), Complaint)
    })

    test('never comes out altered when a bit of it is flipped', { skip }, async () => {
      for (let i = 0; i < 60; i++) {
        const damaged = Buffer.from(file)
        const at = 6 + Math.floor(((file.length - 6) * i) / 60)
        damaged[at] = (damaged[at] ?? 0) ^ (1 << (i % 8))

        const outcome = await unpacked(damaged).catch((error: unknown) => error)

        if (outcome instanceof Complaint) continue
        assert.ok(outcome instanceof Buffer, String(outcome))
        if (coding !== 'zstd') assert.deepEqual(outcome, plain, `bit flipped at ${at}`) // frames of node's zstd have no checksum
      }
    })

    test('is given up at the limit', { skip }, async () => {
      await assert.rejects(unpacked(file, { limit: plain.length - 1 }), /unpacks to more than/)
      assert.equal((await unpacked(file, { limit: plain.length })).length, plain.length)
    })
  })
}

test('a file that explodes is given up early', async () => {
  const bomb = gzipSync(Buffer.alloc(16 * 1024 * 1024))
  const many = Buffer.concat(Array.from({ length: 50 }, () => bomb))
  const before = process.memoryUsage().rss

  await assert.rejects(unpacked(many, { limit: 1e6 }), /unpacks to more than 1000000 bytes/)

  assert.ok(process.memoryUsage().rss - before < 64 * 1024 * 1024)
})

test('xz and bzip2 are unpacked without programs', async () => {
  for (const stored of Object.values(small)) {
    assert.equal((await unpacked(Buffer.from(stored, 'base64'))).toString(), 'rebuilderd\n')
  }
})

test('an xz file with a dictionary beyond our decoder goes through the program', async (t) => {
  const stored = through('xz', ['-c', '--lzma2=dict=128MiB'], plain)
  if (stored === null) return t.skip('needs the program xz')

  assert.deepEqual(await unpacked(stored, { size: 100 }), plain)
  await assert.rejects(unpacked(stored.subarray(0, -20)), Complaint)
})

for (const path of [process.env['PATH'], '/nonexistent']) {
  const decoder = path === '/nonexistent' ? 'our own decoder' : 'the program'
  test(`a large xz file is read by ${decoder}, whole or not at all`, async (t) => {
    const large = randomBytes(1_500_000)
    const stored = through('xz', ['-c'], large)
    if (stored === null) return t.skip('needs the program xz')
    const usual = process.env['PATH']
    t.after(() => (process.env['PATH'] = usual))
    process.env['PATH'] = path
    const flipped = Buffer.from(stored)
    flipped[1_000_000] = (flipped[1_000_000] ?? 0) ^ 1

    assert.ok((await unpacked(stored)).equals(large))
    assert.ok((await unpacked(Buffer.concat([stored, stored]))).equals(Buffer.concat([large, large])))
    await assert.rejects(unpacked(stored.subarray(0, -100)), /is cut short/)
    await assert.rejects(unpacked(flipped), /is damaged/)
    await assert.rejects(
      unpacked(Buffer.concat([stored, Buffer.from('bytes of something else')])),
      decoder === 'the program' ? /is damaged/ : /do not belong to it/,
    )
    await assert.rejects(unpacked(stored, { limit: 1_000_000 }), /unpacks to more than 1000000 bytes/)
  })
}

test('a reader who gives up halfway does not lock out the next', async (t) => {
  const stored = through('xz', ['-c'], plain)
  if (stored === null) return t.skip('needs the program xz')

  for (let i = 0; i < 3; i++) {
    for await (const part of decompressed(inPieces(stored, 100), { limit: 1e8, what: 'file' })) {
      assert.ok(part.length > 0)
      break
    }
  }

  assert.deepEqual(await unpacked(stored), plain)
})

test('bzip2 unpacks long runs and every byte', async (t) => {
  const runs = Buffer.concat([
    Buffer.alloc(3_000_000, 'a'),
    Buffer.from(Array.from({ length: 256 }, (_, i) => i)),
  ])
  const stored = through('bzip2', ['-c9'], runs)
  if (stored === null) return t.skip('needs the program bzip2')

  assert.deepEqual(await unpacked(stored, { size: 11 }), runs)
})

test('what is not compressed passes as it is', async () => {
  for (const bytes of [Buffer.alloc(0), Buffer.from('B'), Buffer.from('BZh'), plain]) {
    assert.equal(codingOf(bytes), 'none')
    assert.deepEqual(await unpacked(bytes, { size: 1000 }), bytes)
  }
})

test('an error of the source is told as it is', async () => {
  async function* failing(): AsyncGenerator<Uint8Array> {
    yield gzipSync(plain).subarray(0, 500)
    throw new RangeError('the disk is gone')
  }

  await assert.rejects(async () => {
    for await (const part of decompressed(failing(), { limit: 1e8, what: 'file' })) assert.ok(part)
  }, /the disk is gone/)
})

test('a stored blob is given back, whether it was compressed or not', async () => {
  const frame = await zstdFrame(plain)

  assert.ok(isZstd(frame))
  assert.ok(frame.length < plain.length / 3)
  assert.deepEqual(await plainBytes(frame, plain.length), plain)
  assert.deepEqual(await plainBytes(plain, plain.length), plain)
  await assert.rejects(plainBytes(frame, plain.length - 1), Complaint)
  await assert.rejects(plainBytes(plain, plain.length - 1), Complaint)
})

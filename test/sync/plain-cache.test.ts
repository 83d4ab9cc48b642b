import assert from 'node:assert/strict'
import { readdir, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, test, type TestContext } from 'node:test'
import { isKept, keeping, keptChunks } from '../../src/sync/plain-cache.ts'
import { aFolder, inPieces, put, sha256 } from '../help/archives.ts'
import { patienceMilliseconds } from '../help/until.ts'

const content = Buffer.from('Package: a\n\n'.repeat(200_000))
async function drain(chunks: AsyncIterable<Uint8Array>): Promise<Buffer> {
  const parts: Uint8Array[] = []
  for await (const part of chunks) parts.push(part)
  return Buffer.concat(parts)
}

async function aCache(t: TestContext) {
  return { cache: await aFolder(t), plain: { sha256: sha256(content), size: content.length } }
}

describe('an unpacked index', () => {
  test('is passed on as it is, and kept for the next time', async (t) => {
    const kept = await aCache(t)
    assert.equal(await isKept(kept), false)

    const passed = await drain(keeping(inPieces(content, 70_001), kept))

    assert.ok(passed.equals(content))
    assert.equal(await isKept(kept), true)
    assert.ok((await drain(keptChunks(kept, AbortSignal.timeout(patienceMilliseconds)))).equals(content))
  })

  test('is not kept where it is not what the Release tells, nor where it was not read to its end', async (t) => {
    const kept = await aCache(t)

    await drain(keeping(inPieces(content.subarray(1), 70_001), kept))
    for await (const part of keeping(inPieces(content, 70_001), kept)) {
      assert.ok(part.length > 0)
      break
    }

    assert.deepEqual(await readdir(kept.cache), [])
  })

  test('that was damaged since is refused, and forgotten', async (t) => {
    for (const damage of ['flipped', 'cut', 'other'] as const) {
      const kept = await aCache(t)
      await drain(keeping(inPieces(content, 70_001), kept))
      const [name = ''] = await readdir(kept.cache)
      const file = join(kept.cache, name)
      const bytes = await readFile(file)
      if (damage === 'flipped') bytes[bytes.length - 10] = (bytes[bytes.length - 10] ?? 0) ^ 4
      await put(
        file,
        damage === 'cut' ? bytes.subarray(0, -10) : damage === 'other' ? content.subarray(12) : bytes,
      )

      await assert.rejects(
        drain(keptChunks(kept, AbortSignal.timeout(patienceMilliseconds))),
        /damaged|cut short|not what was kept|does not belong|do not belong/,
      )

      assert.equal(await isKept(kept), false, damage)
    }
  })

  test('is passed on even where nothing can be kept', async (t) => {
    const kept = { ...(await aCache(t)), cache: '/nowhere/at/all' }

    assert.ok((await drain(keeping(inPieces(content, 70_001), kept))).equals(content))
  })
})

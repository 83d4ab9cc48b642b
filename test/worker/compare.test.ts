import { test, type TestContext } from 'node:test'
import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import { execFileSync } from 'node:child_process'
import { link, mkdtemp, rm, symlink, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { compareFiles, fingerprintOf } from '../../src/worker/compare.ts'

const { signal } = new AbortController()
const sha = (name: string, bytes: Uint8Array): string => createHash(name).update(bytes).digest('hex')

async function aFolder(t: TestContext): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), 'rebuilderd-compare-'))
  t.after(() => rm(folder, { recursive: true }))
  return folder
}

async function twoFiles(t: TestContext, a: Uint8Array, b: Uint8Array): Promise<[string, string]> {
  const folder = await aFolder(t)
  await writeFile(join(folder, 'a'), a)
  await writeFile(join(folder, 'b'), b)
  return [join(folder, 'a'), join(folder, 'b')]
}

const block = 1024 * 1024
const bytes = (length: number, changedAt?: number): Uint8Array => {
  const made = Buffer.alloc(length, 'reproducible ')
  if (changedAt !== undefined) made[changedAt] = (made[changedAt] ?? 0) ^ 255
  return made
}

for (const [what, a, b, expected] of [
  ['empty files', bytes(0), bytes(0), null],
  ['equal files', bytes(5000), bytes(5000), null],
  ['equal files of exactly two blocks', bytes(2 * block), bytes(2 * block), null],
  ['the first byte', bytes(10, 0), bytes(10), 0],
  ['a byte within', bytes(5000, 1234), bytes(5000), 1234],
  ['the last byte of a block', bytes(3 * block, block - 1), bytes(3 * block), block - 1],
  ['the first byte of a block', bytes(3 * block, block), bytes(3 * block), block],
  ['a shorter original', bytes(block), bytes(block + 1), block],
  ['a shorter rebuild', bytes(block + 7), bytes(block), block],
  ['an empty rebuild', bytes(3), bytes(0), 0],
] as const) {
  test(`comparing ${what} → ${expected ?? 'no difference'}`, async (t) => {
    const [original, rebuilt] = await twoFiles(t, a, b)

    const difference = await compareFiles(original, rebuilt, { signal })

    assert.equal(difference.firstDifference, expected)
    assert.deepEqual(difference.original, { sha256: sha('sha256', a), size: a.length })
    assert.deepEqual(difference.rebuilt, { sha256: sha('sha256', b), size: b.length })
    assert.deepEqual(await fingerprintOf(rebuilt, { signal }), {
      ...difference.rebuilt,
      sha512: sha('sha512', b),
    })
  })
}

test('a rebuilt file that is a symbolic link to the original is refused', async (t) => {
  const folder = await aFolder(t)
  await writeFile(join(folder, 'original'), 'x')
  await symlink(join(folder, 'original'), join(folder, 'rebuilt'))

  const comparing = compareFiles(join(folder, 'original'), join(folder, 'rebuilt'), { signal })

  await assert.rejects(comparing, { name: 'Failure', reason: 'backend_error' })
})

test('a rebuilt file that is a hard link is refused, an original may be one', async (t) => {
  const [original, rebuilt] = await twoFiles(t, bytes(1), bytes(1))
  await link(original, `${original}.again`)
  assert.equal((await compareFiles(original, rebuilt, { signal })).firstDifference, null)
  await link(rebuilt, `${rebuilt}.again`)

  await assert.rejects(compareFiles(original, rebuilt, { signal }), /hard link/)
})

test('a pipe in place of a rebuilt file is refused and not waited for', async (t) => {
  const folder = await aFolder(t)
  await writeFile(join(folder, 'original'), 'x')
  execFileSync('mkfifo', [join(folder, 'rebuilt')])

  await assert.rejects(compareFiles(join(folder, 'original'), join(folder, 'rebuilt'), { signal }), {
    reason: 'backend_error',
  })
})

test('a comparison ends when it is told to', async (t) => {
  const [original, rebuilt] = await twoFiles(t, bytes(block), bytes(block))

  await assert.rejects(compareFiles(original, rebuilt, { signal: AbortSignal.abort() }), {
    name: 'AbortError',
  })
})

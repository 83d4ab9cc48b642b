import { test, type TestContext } from 'node:test'
import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import { execFileSync } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { link, mkdtemp, open, rm, symlink, truncate, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Worker } from 'node:worker_threads'
import { sentenceOf } from '../../src/errors.ts'
import { compareFiles, digestOf, NotPlain } from '../../src/worker/compare.ts'
import { Failure, reasonOf } from '../../src/worker/failure.ts'
import { until } from '../help/until.ts'

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
    assert.deepEqual(await digestOf(rebuilt, { signal }), difference.rebuilt)
  })
}

test('a rebuilt file that is a symbolic link to the original is refused', async (t) => {
  const folder = await aFolder(t)
  await writeFile(join(folder, 'original'), 'x')
  await symlink(join(folder, 'original'), join(folder, 'rebuilt'))

  const comparing = compareFiles(join(folder, 'original'), join(folder, 'rebuilt'), { signal })

  await assert.rejects(comparing, NotPlain)
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

/** So large that a thread of its own hashes it; it takes next to nothing of the disk. */
const manyBytes = 160 * 1024 * 1024
/** Nobody waits until all of it is read. */
const endlessBytes = 64 * 1024 ** 3

/** A file of zeros with these bytes at its end. */
async function aLargeFile(folder: string, end: string, length = manyBytes): Promise<string> {
  const path = join(folder, end)
  await using file = await open(path, 'wx')
  await file.write(end, length - end.length)
  return path
}

/** Threads that this process has started so far: nodejs.org/api/process.html#event-worker */
const started: Worker[] = []
process.on('worker', (thread) => started.push(thread))
/** Resolves once this process has read so much more that somebody is at work on its files (proc_pid_io(5)). */
function untilRead(): Promise<boolean> {
  const readSoFar = (): number => Number(/^rchar: (\d+)$/m.exec(readFileSync('/proc/self/io', 'utf8'))?.[1])
  const before = readSoFar()
  return until(() => readSoFar() > before + 64 * block, 'the beginning')
}

const sha256sum = (path: string): string =>
  execFileSync('sha256sum', [path], { encoding: 'utf8' }).slice(0, 64)

test('large files are hashed in a thread as sha256sum does, several at once', async (t) => {
  const folder = await aFolder(t)
  const [original, rebuilt] = [await aLargeFile(folder, 'one end'), await aLargeFile(folder, 'another')]

  const [found, equal] = await Promise.all([
    compareFiles(original, rebuilt, { signal }),
    compareFiles(rebuilt, rebuilt, { signal }),
  ])

  const [one, other] = [original, rebuilt].map((path) => ({ sha256: sha256sum(path), size: manyBytes }))
  const firstDifference = manyBytes - 'one end'.length
  assert.deepEqual(found, { original: one, rebuilt: other, firstDifference })
  assert.deepEqual(equal, { original: other, rebuilt: other, firstDifference: null })
  assert.equal(started.length, 1)
})

test('whoever is alone in a process compares large files without a thread', async (t) => {
  const folder = await aFolder(t)
  const [original, rebuilt] = [await aLargeFile(folder, 'one end'), await aLargeFile(folder, 'another')]
  const before = started.length

  const found = await compareFiles(original, rebuilt, { signal, alone: true })

  assert.equal(found.firstDifference, manyBytes - 'one end'.length)
  assert.equal(started.length, before)
})

test('a process that has hashed a large file ends before the thread that waits for another one', async (t) => {
  const folder = await aFolder(t)
  const file = await aLargeFile(folder, 'a file')
  const compare = new URL('../../src/worker/compare.ts', import.meta.url).href
  const script = join(folder, 'script.mjs')
  await writeFile(
    script,
    `import { digestOf } from ${JSON.stringify(compare)}
     process.on('worker', (thread) => thread.on('exit', () => console.log('the thread ended')))
     const { size } = await digestOf(process.argv[2], { signal: new AbortController().signal })
     console.log(size)`,
  )

  const said = execFileSync(process.execPath, [script, file], { encoding: 'utf8' })

  assert.equal(said, `${manyBytes}\n`)
})

test('a comparison of large files ends at once when it is told to, others go on', async (t) => {
  const folder = await aFolder(t)
  const endless = await aLargeFile(folder, 'endless', endlessBytes)
  const other = await aLargeFile(folder, 'other')
  const over = new AbortController()
  const comparing = compareFiles(endless, endless, { signal: over.signal })
  const hashing = compareFiles(other, other, { signal })
  await untilRead()

  over.abort()

  await assert.rejects(comparing, { name: 'AbortError' })
  assert.equal((await hashing).original.sha256, sha256sum(other))
})

test('a file that shrinks while it is compared is a failure of ours, not a difference', async (t) => {
  const folder = await aFolder(t)
  const [original, rebuilt] = [
    await aLargeFile(folder, 'original', endlessBytes),
    await aLargeFile(folder, 'rebuilt', endlessBytes),
  ]
  const refused = assert.rejects(compareFiles(original, rebuilt, { signal }), (error: Error) => {
    assert.match(error.message, /original had 68719476736 bytes, and \d+ when it was read/)
    return error instanceof Failure && error.reason === 'backend_error' && !(error instanceof NotPlain)
  })
  await untilRead()

  await Promise.all([truncate(original, 4096), truncate(rebuilt, 4096)])

  await refused
})

test('where the thread is killed the comparison is made all the same', async (t) => {
  const file = await aLargeFile(await aFolder(t), 'some end')
  const before = started.length
  const comparing = compareFiles(file, file, { signal })
  await Promise.all(started.map((thread) => thread.terminate()))

  const { original, firstDifference } = await comparing

  assert.deepEqual(original, { sha256: sha256sum(file), size: manyBytes })
  assert.equal(firstDifference, null)
  await compareFiles(file, file, { signal })
  assert.equal(started.length, before + 1, 'the next one has another thread')
})

test('what the disk cannot read is told with the names of the files', async () => {
  const memory = '/proc/self/mem' // a plain file by its looks, unreadable at its beginning

  await assert.rejects(digestOf(memory, { signal }), (error) => {
    assert.match(sentenceOf(error), /^hashing \/proc\/self\/mem: EIO/)
    return reasonOf(error) === 'backend_error'
  })
})

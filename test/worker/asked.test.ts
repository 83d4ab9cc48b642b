import assert from 'node:assert/strict'
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { test } from 'node:test'
import { openAsked } from '../../src/worker/asked.ts'
import { aFolder } from '../help/files.ts'

test('a question keeps its name until it was answered, across restarts', async (t) => {
  const folder = await aFolder(t)
  const first = await openAsked(folder, [])
  const name = await first.name()

  const again = await first.name()
  const second = await openAsked(folder, [])
  const after = await second.name()
  second.answered()

  assert.deepEqual([again, after], [name, name])
  assert.notEqual(await second.name(), name)
})

test('a name under which a job is known to have been held is not used again', async (t) => {
  const folder = await aFolder(t)
  const name = await (await openAsked(folder, [])).name()

  assert.notEqual(await (await openAsked(folder, [name])).name(), name)
})

test('a file that is no name is replaced', async (t) => {
  const folder = await aFolder(t)
  await writeFile(join(folder, 'asked'), '../../etc')

  assert.match(await (await openAsked(folder, [])).name(), /^[0-9a-f-]{36}$/)
})

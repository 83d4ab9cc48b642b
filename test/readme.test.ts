import assert from 'node:assert/strict'
import { readFile, writeFile } from 'node:fs/promises'
import { test } from 'node:test'
import { allCommands } from '../src/cmd/commands.ts'
import { referenceBlocks, withBlocks } from './help/reference.ts'

const path = new URL('../README.md', import.meta.url)

test('the tables of README are those that the program prints (UPDATE_README=1 mends them)', async () => {
  const readme = await readFile(path, 'utf8')
  const mended = withBlocks(readme, referenceBlocks(await allCommands()))
  if (process.env['UPDATE_README'] === '1') await writeFile(path, mended)

  assert.equal(process.env['UPDATE_README'] === '1' ? mended : readme, mended)
})

test('README names no host of a package registry and no path of a machine', async () => {
  const readme = await readFile(path, 'utf8')

  assert.doesNotMatch(readme, /deb\.debian|registry\.npm|\/root\//)
})

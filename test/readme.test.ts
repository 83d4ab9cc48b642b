import assert from 'node:assert/strict'
import { existsSync } from 'node:fs'
import { readFile, writeFile } from 'node:fs/promises'
import { test } from 'node:test'
import { allCommands } from '../src/cmd/commands.ts'
import { parse } from '../src/cmd/parse.ts'
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

/** Command lines of the program in blocks of code and in words, as lists of arguments. */
function commandLines(readme: string): string[][] {
  const blocks = [...readme.matchAll(/^```\w*\n([^]*?)^```/gm)].flatMap(([, block = '']) =>
    block.replaceAll('\\\n', ' ').split(/\n|\|/),
  )
  const words = [...readme.matchAll(/(?<!`)`([^`\n]+)`/g)].map(([, word = '']) => word)
  return [...blocks, ...words]
    .map((line) => /^(?:\$ )?\s*rebuilderd (.+?)(?: {2,}#.*)?$/.exec(line)?.[1] ?? '')
    .filter((line) => line !== '' && !/[<[…]/.test(line)) // those are patterns
    .map((line) => [...line.matchAll(/'([^']*)'|(\S+)/g)].map(([, quoted, plain]) => quoted ?? plain ?? ''))
}

test('every command line in README is one that the program takes', async () => {
  const lines = commandLines(await readFile(path, 'utf8'))
  const commands = await allCommands()

  assert.ok(lines.length > 20, `${lines.length} command lines`)
  for (const line of lines) assert.ok(parse(line, commands, {}).wants !== 'version', line.join(' '))
})

test('README names scripts, folders and files that are there', async () => {
  const readme = await readFile(path, 'utf8')
  const { scripts } = JSON.parse(await readFile(new URL('../package.json', import.meta.url), 'utf8')) as {
    scripts: Record<string, string>
  }
  const named = [...readme.matchAll(/npm run ([\w:]+)/g)].map(([, name = '']) => name)
  const files = [...readme.matchAll(/`((?:src|store|backends|server|worker|sync)\/[\w./-]+|\w+\.ts)`/g)]
  const places = ['', 'src/', 'src/server/', 'src/worker/', 'src/sync/']

  assert.deepEqual(
    [...new Set(named)].filter((name) => !Object.hasOwn(scripts, name)),
    [],
  )
  assert.deepEqual(
    files
      .map(([, file = '']) => file)
      .filter((file) => !places.some((place) => existsSync(new URL(`../${place}${file}`, import.meta.url)))),
    [],
  )
})

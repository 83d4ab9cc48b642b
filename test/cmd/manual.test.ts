import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { readFile, readdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { test } from 'node:test'
import { longName } from '../../src/cmd/command.ts'
import { allCommands } from '../../src/cmd/commands.ts'
import { groupDocs, helpOf } from '../../src/cmd/help.ts'
import { manualFiles } from '../../src/cmd/manual.ts'
import { parse } from '../../src/cmd/parse.ts'
import { roffOf } from '../../src/cmd/roff.ts'
import { loadSettings, serverSettings, workerSettings, type SettingsTable } from '../../src/config.ts'
import { readProfiles } from '../../src/sync/profile.ts'
import { runHere, tempFolder } from './program.ts'

const noGroff = spawnSync('groff', ['--version']).status === 0 ? false : 'groff is missing'
const commands = await allCommands()
const files = manualFiles(commands)

test('manual writes its files below a folder, and names them', async (t) => {
  const home = await tempFolder(t)

  const { code, stdout } = await runHere(['manual', join(home, 'doc')], { home })

  const written = (await readdir(join(home, 'doc'), { recursive: true, withFileTypes: true }))
    .filter((entry) => entry.isFile())
    .map((entry) => join(entry.parentPath, entry.name))
  assert.equal(code, 0)
  assert.deepEqual(stdout.trim().split('\n').sort(), written.sort())
  assert.deepEqual(written.map((path) => path.slice(home.length + 5)).sort(), [...files.keys()].sort())
  for (const [name, content] of files) assert.equal(await readFile(join(home, 'doc', name), 'utf8'), content)
})

for (const [name, content] of files) {
  if (!name.startsWith('man/')) continue
  test(`groff finds no fault in ${name}`, { skip: noGroff }, () => {
    const { stderr, stdout } = spawnSync('groff', ['-man', '-Kutf8', '-Tutf8', '-P-cbou', '-ww'], {
      input: content,
      encoding: 'utf8',
    })

    assert.equal(stderr, '')
    assert.match(stdout, /NAME/)
  })
}

test('the pages name every command and every option', () => {
  const pages = [...files]
    .filter(([name]) => name.startsWith('man/'))
    .map(([, content]) => content.replaceAll('\\-', '-'))
  const all = pages.join('\n')

  for (const { usage, options } of commands) {
    assert.ok(all.includes(`"${usage}"`), usage)
    for (const [name, option] of Object.entries(options)) {
      assert.ok(option.hidden || all.includes(`--${longName(name)}`), `${usage}: ${name}`)
    }
  }
})

for (const [name, settings] of [
  ['rebuilderd.conf', serverSettings],
  ['rebuilderd-worker.conf', workerSettings],
] as const satisfies [string, SettingsTable][]) {
  test(`the sample of ${name} can be read as it is and with everything uncommented`, async (t) => {
    const home = await tempFolder(t)
    const sample = files.get(`samples/${name}`) ?? ''
    const [asIs, uncommented] = [join(home, 'as-is'), join(home, 'uncommented')]
    await writeFile(asIs, sample)
    await writeFile(uncommented, sample.replace(/^#(?! )/gm, ''))

    const defaults = await loadSettings(settings, [])
    const read: Record<string, unknown> = await loadSettings(settings, [uncommented])

    assert.deepEqual(await loadSettings(settings, [asIs]), defaults)
    for (const [setting, value] of Object.entries(defaults)) {
      if (value === null) assert.notEqual(read[setting], null, setting)
      else assert.deepEqual(read[setting], value, setting)
    }
  })
}

test('the sample profiles can be read', async (t) => {
  const file = join(await tempFolder(t), 'sync.conf')
  await writeFile(file, files.get('samples/rebuilderd-sync.conf') ?? '')

  const profiles = await readProfiles(file)

  assert.deepEqual([...profiles.keys()], ['debian-trixie'])
})

test('text that roff could take for a request or an escape stays text', { skip: noGroff }, () => {
  const evil = '.so /etc/passwd\n\'br\n\\fBbold\\fP -x "quoted"'
  const parts = [
    { kind: 'text', text: evil },
    { kind: 'term', term: '.so "x" \\n', text: evil },
  ] as const
  const page = roffOf(
    { name: 'x', section: 1, doc: evil.replaceAll('\n', ' '), sections: [{ title: 'T', parts }] },
    '1',
  )

  const { stdout } = spawnSync('groff', ['-man', '-Kutf8', '-Tascii', '-P-cbou'], {
    input: page,
    encoding: 'utf8',
  })

  const words = stdout.replace(/\s+/g, ' ')
  assert.equal(words.split('.so /etc/passwd').length, 4)
  assert.equal(words.split('\\fBbold\\fP -x "quoted"').length, 4)
})

for (const { usage, examples } of commands) {
  for (const example of examples) {
    test(`the example of ${usage} is a command line: ${example}`, () => {
      const ours = /rebuilderd (.*?)(?: >.*|\))?$/.exec(example)?.[1] ?? ''
      const argv = ours.split(' ').map((word) => word.replaceAll("'", ''))

      assert.equal(parse(argv, commands, {}).wants, 'run')
    })
  }
}

test('every group of commands says what it is for', () => {
  const groups = new Set(
    commands.flatMap(({ words }) => words.slice(0, -1).map((_, i) => words.slice(0, i + 1).join(' '))),
  )

  for (const group of groups) assert.notEqual(groupDocs[group], undefined, group)
})

test('help says once that an option is repeatable', () => {
  for (const { words } of commands)
    assert.doesNotMatch(helpOf(words, commands, 'rebuilderd'), /repeatable.*repeatable/)
})

import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { test } from 'node:test'
import { allCommands } from '../../src/cmd/commands.ts'
import { completionsFor, shells } from '../../src/cmd/completions.ts'
import { runHere, tempFolder } from './program.ts'

const commands = await allCommands()

function missing(shell: string): string | false {
  return spawnSync(shell, ['--version']).status === 0 ? false : `${shell} is missing`
}

/** What bash offers at the end of a line. */
function offered(...words: string[]): string[] {
  const quoted = words.map((word) => `'${word}'`).join(' ')
  const script = `${completionsFor('bash', commands)}
    COMP_WORDS=(${quoted}); COMP_CWORD=${words.length - 1}; _rebuilderd; printf '%s\\n' "\${COMPREPLY[@]}"`
  const { stdout, stderr } = spawnSync('bash', ['--norc', '-c', script], { encoding: 'utf8' })
  assert.equal(stderr, '')
  return stdout.trim().split('\n')
}

test('bash offers the words that may follow, under each name', { skip: missing('bash') }, () => {
  const inQueue = commands.filter(({ words }) => words[0] === 'ctl' && words[1] === 'queue')
  const next = inQueue.map(({ words }) => words[2])

  assert.ok(next.includes('push'))
  assert.deepEqual(offered('rebuilderd', 'ctl', 'queue', ''), next)
  assert.deepEqual(offered('/usr/bin/rebuildctl', 'qu'), ['queue'])
  assert.deepEqual(offered('rebuildctl', '-v', 'pkgs', 'at'), ['attestation'])
})

test('bash offers options, and the words that an option takes', { skip: missing('bash') }, () => {
  assert.deepEqual(offered('rebuildctl', 'pkgs', 'ls', '--stat'), ['--status'])
  assert.deepEqual(offered('rebuildctl', 'pkgs', 'ls', '--status', ''), ['GOOD', 'BAD', 'FAIL', 'UNKWN'])
  assert.deepEqual(offered('rebuildctl', 'pkgs', 'ls', '--name', ''), [''])
})

for (const shell of shells) {
  test(
    `${shell} finds no fault in its script, which knows every command`,
    { skip: missing(shell) },
    async (t) => {
      const home = await tempFolder(t)

      const { stdout } = await runHere(['ctl', 'completions', shell], { home })
      const { status, stderr } = spawnSync(shell, ['-n'], { input: stdout, encoding: 'utf8' })

      assert.equal(status, 0, stderr)
      for (const { words } of commands) assert.ok(stdout.includes(words.join(' ')), words.join(' '))
    },
  )
}

test('scripts quote what a shell could take for something else', () => {
  const [first] = commands
  assert.ok(first !== undefined)
  const evil = { ...first, words: ['evil'], doc: `it's $(touch x) \`y\` "z": \\` }

  const [bash, zsh, fish] = shells.map((shell) => completionsFor(shell, [evil]))

  assert.ok(!bash?.includes('touch'))
  assert.ok(zsh?.includes(`'evil:it'\\''s $(touch x) \`y\` "z"\\: \\'`))
  assert.ok(fish?.includes(`-d 'it\\'s $(touch x) \`y\` "z": \\\\'`))
})

test('an unknown shell is wrong usage', async (t) => {
  const { code, stderr } = await runHere(['ctl', 'completions', 'bsh'], { home: await tempFolder(t) })

  assert.equal(stderr, 'rebuilderd: no completions for the shell bsh\n  there are: bash, zsh, fish\n')
  assert.equal(code, 2)
})

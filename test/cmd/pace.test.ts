import assert from 'node:assert/strict'
import { test } from 'node:test'
import { allCommands } from '../../src/cmd/commands.ts'
import { setRuntimePace } from '../../src/runtime.ts'

test('what runs for long or reads much spares memory, a worker within bounds, every other command time', async () => {
  const commands = await allCommands()

  const those = (which: string): string[] =>
    commands
      .filter(({ pace }) => pace === which)
      .map(({ words }) => words.join(' '))
      .sort()
  const others = new Set(commands.map(({ pace }) => pace).filter((pace) => pace !== 'sparing'))

  assert.deepEqual(those('sparing'), [
    'ctl pkgs sync',
    'ctl pkgs sync-profile',
    'ctl pkgs sync-stdin',
    'demo',
    'serve',
    'worker build',
  ])
  assert.deepEqual(those('busy'), ['worker', 'worker connect'])
  assert.deepEqual([...others].sort(), ['busy', 'fast'])
})

test('a sparing pace takes back what a busy one has set', () => {
  const flags: string[] = []

  setRuntimePace('busy', (flag) => flags.push(flag))
  setRuntimePace('sparing', (flag) => flags.push(flag))

  assert.deepEqual(flags, [
    '--no-optimize-for-size',
    '--heap-growing-percent=40',
    '--optimize-for-size',
    '--heap-growing-percent=0',
  ])
})

/** Runs every test file, or those that are named. The long ones come first, so that no core waits for the last of them. */
import { globSync } from 'node:fs'
import { run } from 'node:test'
import { spec } from 'node:test/reporters'

/** Each takes a minute or more of one core. */
const long = [
  'test/worker/verdicts.test.ts',
  'test/contracts/rows-credentials.test.ts',
  'test/trips/demo.test.ts',
  'test/trips/distributions.test.ts',
  'test/server/faults.test.ts',
]

const named = process.argv.slice(2)
const found = globSync('test/**/*.test.ts')
const files = named.length > 0 ? named : [...long, ...found.filter((file) => !long.includes(file)).sort()]

// Three at once on two cores: tests wait for programs and timers as much as they compute.
const tests = run({ files, concurrency: 3, execArgv: process.execArgv })
tests.on('test:summary', ({ file, success }) => {
  if (file === undefined && !success) process.exitCode = 1
})
tests.compose(new spec()).pipe(process.stdout)

/** Runs every test file, or those that are named. The long ones come first, so that no core waits for the last of them. */
import { globSync } from 'node:fs'
import { resolve } from 'node:path'
import { run } from 'node:test'
import { spec } from 'node:test/reporters'

/** Those that cost most, the dearest first: each ten seconds or more of one core. */
const long = [
  'test/worker/verdicts.test.ts',
  'test/trips/demo.test.ts',
  'test/trips/distributions.test.ts',
  'test/server/faults.test.ts',
  'test/server/takeover.test.ts',
  'test/server/mended.test.ts',
  'test/server/web.test.ts',
  'test/contracts/rows-credentials.test.ts',
  'test/contracts/scheduling-leases.test.ts',
  'test/server/backup.test.ts',
  'test/trips/built-in-sync.test.ts',
  'test/check/hostile.test.ts',
  'test/cmd/watch.test.ts',
  'test/check/systems.test.ts',
  'test/cmd/sync-server.test.ts',
]

const named = process.argv.slice(2)
const found = globSync('test/**/*.test.ts')
const files = named.length > 0 ? named : [...long, ...found.filter((file) => !long.includes(file)).sort()]

/** No test takes that long: a file whose tests are over but which does not end would keep us for ever. */
const silence = 10 * 60_000
const hung = new AbortController()
const giveUp = setTimeout(() => {
  console.error(`No test has ended for ${silence / 60_000} minutes; those that run are given up.`)
  process.exitCode = 1
  hung.abort()
}, silence).unref()

// Four at once on two cores: tests wait for programs and timers as much as they compute.
const tests = run({ files, concurrency: 4, signal: hung.signal, execArgv: process.execArgv })
tests.on('test:complete', () => void giveUp.refresh())
tests.on('test:summary', ({ file, success }) => {
  if (file === undefined && !success) process.exitCode = 1
})

/** The end of what files wrote to standard error: why those ended that have no test to tell it. */
const said = new Map<string, string>()
const ended = new Set<string>()
tests.on(
  'test:stderr',
  ({ file, message }) => void said.set(file, `${said.get(file) ?? ''}${message}`.slice(-2000)),
)
tests.on('test:fail', ({ name, file }) => {
  if (file !== undefined && file === resolve(name)) ended.add(file)
})

// The failures come last, each with its file: often only the end of all this is seen.
const report = tests.compose(new spec())
report.pipe(process.stdout, { end: false })
report.on('end', () => {
  for (const file of ended) console.log(`\n${file} ended with its tests undone:\n${said.get(file) ?? ''}`)
})

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { submitBuild } from '../../src/wire/builds.ts'
import { getDashboard } from '../../src/wire/meta.ts'
import { explainPackage } from '../../src/wire/queue.ts'
import { momentOf } from '../../src/wire/schema.ts'
import {
  aPackage,
  aResult,
  anArtifact,
  importPackages,
  pop,
  someEvidence,
  startServer,
} from '../help/server.ts'
import { runHere, tempFolder } from '../cmd/program.ts'

const packages = ['one', 'two', 'three', 'four'].map((name) =>
  aPackage({ name, artifacts: [anArtifact({ name, component: name === 'four' ? 'contrib' : 'main' })] }),
)

/** Three that failed for two reasons, and one that is good. */
async function aServerWithFailures(t: Parameters<typeof startServer>[0]) {
  const server = await startServer(t)
  await importPackages(server.call, packages)
  for (let job = await pop(server.call); job !== null; job = await pop(server.call)) {
    const reason =
      ({ one: 'tests_failed', two: 'no_space', four: 'tests_failed' } as const)[job.job.name] ?? null
    const status = reason === null ? 'GOOD' : 'FAIL'
    await server.call(submitBuild, { body: aResult(job, { status, reason }) })
  }
  return server
}

test('the dashboard counts what is not good by its reason', async (t) => {
  const server = await aServerWithFailures(t)

  const [all, main, none] = await Promise.all([
    server.call(getDashboard),
    server.call(getDashboard, { query: { component: 'main' } }),
    server.call(getDashboard, { query: { release: 'trixie' } }),
  ])

  assert.deepEqual(all.reasons, { tests_failed: 2, no_space: 1 })
  assert.deepEqual(main.reasons, { tests_failed: 1, no_space: 1 })
  assert.deepEqual(none.reasons, {})
  assert.deepEqual(all.rebuilds, { good: 1, bad: 0, fail: 3, unknown: 0 })
})

test('a package that is no longer listed counts no more', async (t) => {
  const server = await aServerWithFailures(t)

  await importPackages(server.call, packages.slice(1))

  assert.deepEqual((await server.call(getDashboard)).reasons, { tests_failed: 1, no_space: 1 })
})

test('ctl pkgs ls --reason takes one, several, and refuses what is none', async (t) => {
  const server = await aServerWithFailures(t)
  const home = await tempFolder(t)
  const names = async (...args: string[]): Promise<string[]> => {
    const { stdout } = await runHere(['ctl', 'pkgs', 'ls', '--json', ...args, '-H', server.address], {
      home,
    })
    return (JSON.parse(stdout) as { name: string }[]).map(({ name }) => name)
  }

  assert.deepEqual(await names('--reason', 'tests_failed'), ['four', 'one'])
  assert.deepEqual(await names('--reason', 'tests_failed,NO_SPACE'), ['four', 'one', 'two'])
  assert.deepEqual(await names('--reason', 'no_space', '--reason', 'build_failed'), ['two'])
  const wrong = await runHere(['ctl', 'pkgs', 'ls', '--reason', 'no_spaec', '-H', server.address], {
    home,
  })
  assert.equal(wrong.code, 2)
  assert.match(wrong.stderr, /did you mean no_space\?/)
})

test('a failure that may pass is tried again soon and does not use up the tries of the package', async (t) => {
  const server = await startServer(t, { settings: { 'schedule.max_retries': 1 } })
  await importPackages(server.call, [aPackage()])
  const job = await pop(server.call)
  assert.ok(job !== null)

  const evidence = { ...someEvidence, temporary: true }
  await server.call(submitBuild, {
    body: aResult(job, { status: 'FAIL', reason: 'tests_failed', evidence }),
  })

  const [outlook] = await server.call(explainPackage, { query: { name: 'hello' } })
  assert.equal(outlook?.reason, 'tests_failed')
  assert.deepEqual([outlook.retries, outlook.infrastructure_retries], [0, 1])
  const due = momentOf(outlook.job?.next_retry ?? '').getTime() - Date.now()
  assert.ok(due < 15 * 60_000, `${due} ms`)
})

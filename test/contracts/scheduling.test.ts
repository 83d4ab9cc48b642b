/** When is what rebuilt, by whom, and how often: the rules that operators rely on. */
import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { submitBuild } from '../../src/wire/builds.ts'
import { dropJobs, pingJob, requestRebuild } from '../../src/wire/queue.ts'
import {
  aPackage,
  aResult,
  anArtifact,
  anArtifactResult,
  importPackages,
  pop,
  startServer,
  anyBuild,
} from '../help/server.ts'
import {
  between,
  binariesOf,
  buildsOf,
  hour,
  jobsOf,
  onlyJob,
  popped,
  rebuilt,
  second,
  sourcesOf,
} from './asking.ts'

describe('what a job looks like', { concurrency: 4 }, () => {
  test('a package that is imported gets one job: priority 1, due at once, not running', async (t) => {
    const { call } = await startServer(t)

    await importPackages(call, [aPackage()])

    const { priority, next_retry, started_at, name, release, backend, architecture } = await onlyJob(call)
    assert.deepEqual([priority, next_retry, started_at], [1, null, null])
    assert.deepEqual([name, release, backend, architecture], ['hello', 'sid', 'debian', 'amd64'])
  })

  test('importing it again changes neither the job nor its times', async (t) => {
    const { call, clock } = await startServer(t)
    await importPackages(call, [aPackage()])
    const before = await onlyJob(call)
    clock.ahead = hour

    await importPackages(call, [aPackage()])

    assert.deepEqual(await onlyJob(call), before)
  })

  test('an initial delay of 60 makes a job due exactly 60 s after it was queued, however often it is imported', async (t) => {
    const { call, clock } = await startServer(t, { settings: { 'schedule.initial_delay': 60 } })

    await importPackages(call, [aPackage()])
    const job = await onlyJob(call)
    await importPackages(call, [aPackage()])

    assert.equal(between(job.queued_at, job.next_retry), 60 * second)
    assert.deepEqual(await onlyJob(call), job)
    assert.equal(await pop(call), null)
    clock.ahead = 61 * second
    assert.equal((await popped(call)).job.id, job.id)
  })
})

describe('friends: the same input in several releases', { concurrency: 4 }, () => {
  test('the same input for a second release is two sources, two binaries and one job', async (t) => {
    const { call } = await startServer(t)

    await importPackages(call, [aPackage()])
    await importPackages(call, [aPackage()], { release: 'trixie' })

    assert.equal((await sourcesOf(call)).length, 2)
    assert.equal((await binariesOf(call)).length, 2)
    await onlyJob(call)
  })

  test('one GOOD rebuild counts for all friends that there are', async (t) => {
    const { call } = await startServer(t)
    await importPackages(call, [aPackage()])
    await importPackages(call, [aPackage()], { release: 'trixie' })

    await rebuilt(call)

    assert.deepEqual(
      (await binariesOf(call)).map(({ release, status }) => [release, status]),
      [
        ['sid', 'GOOD'],
        ['trixie', 'GOOD'],
      ],
    )
    assert.equal((await buildsOf(call)).length, 2)
    assert.deepEqual(await jobsOf(call), [])
  })

  for (const status of ['GOOD', 'BAD'] as const) {
    test(`a friend imported after a ${status} result gets a copy with retries 0, and no job of its own`, async (t) => {
      const { call } = await startServer(t)
      await importPackages(call, [aPackage()])
      await rebuilt(call, { status })
      const before = await jobsOf(call)

      await importPackages(call, [aPackage()], { release: 'trixie' })

      const [copy] = await buildsOf(call, { release: 'trixie' })
      assert.deepEqual([copy?.status, copy?.retries], [status, 0])
      assert.equal((await binariesOf(call, { release: 'trixie' }))[0]?.status, status)
      assert.deepEqual(await jobsOf(call), before)
    })
  }

  test('another distribution, another architecture or another input is no friend', async (t) => {
    const { call } = await startServer(t)
    await importPackages(call, [aPackage()])
    await rebuilt(call)

    await importPackages(call, [aPackage()], { distribution: 'ubuntu' })
    await importPackages(call, [aPackage()], { architecture: 'arm64' })
    await importPackages(call, [aPackage({ url: 'https://buildinfos.example/other.buildinfo' })], {
      release: 'trixie',
    })

    assert.equal((await buildsOf(call)).length, 1)
    assert.equal((await jobsOf(call)).length, 3)
  })

  test('a job covers the files of all friends, and each friend gets the verdicts of its own', async (t) => {
    const { call } = await startServer(t)
    const main = anArtifact()
    const debug = anArtifact({ name: 'hello-dbgsym' })
    await importPackages(call, [aPackage({ artifacts: [main] })])
    await importPackages(call, [aPackage({ artifacts: [main, debug] })], { release: 'sid-debug' })

    const job = await popped(call)
    const results = job.artifacts.map(({ name, url }) =>
      anArtifactResult({ name, url, status: name === 'hello' ? 'GOOD' : 'BAD', reason: null }),
    )
    await call(submitBuild, { body: aResult(job, { status: 'BAD', artifacts: results }) })

    assert.deepEqual(job.artifacts.map(({ name }) => name).sort(), ['hello', 'hello-dbgsym'])
    const verdicts = (await binariesOf(call)).map(
      ({ release, name, status }) => `${release} ${name} ${status}`,
    )
    assert.deepEqual(verdicts.sort(), [
      'sid hello GOOD',
      'sid-debug hello GOOD',
      'sid-debug hello-dbgsym BAD',
    ])
    const wholes = (await sourcesOf(call)).map(({ release, status }) => `${release} ${status}`)
    assert.deepEqual(wholes, ['sid GOOD', 'sid-debug BAD'])
  })

  test('a friend that lists a file nobody has rebuilt yet gets a job for it', async (t) => {
    const { call } = await startServer(t)
    await importPackages(call, [aPackage({ artifacts: [anArtifact()] })])
    await rebuilt(call)
    const debug = anArtifact({ name: 'hello-dbgsym' })

    await importPackages(call, [aPackage({ artifacts: [anArtifact(), debug] })], { release: 'sid-debug' })

    const found = (await binariesOf(call, { release: 'sid-debug' })).map(({ name, status }) => [name, status])
    assert.deepEqual(found, [
      ['hello', 'GOOD'],
      ['hello-dbgsym', null],
    ])
    assert.equal((await onlyJob(call)).release, 'sid-debug')
  })
})

describe('manual requests', { concurrency: 4 }, () => {
  test('a request after BAD makes it due now with priority 0', async (t) => {
    const { call } = await startServer(t)
    await importPackages(call, [aPackage()])
    await rebuilt(call, { status: 'BAD' })

    const { affected } = await call(requestRebuild, { body: { ...anyBuild, name: 'hello' } })

    const job = await onlyJob(call)
    assert.equal(affected, 1)
    assert.equal(job.priority, 0)
    assert.ok(between(job.next_retry, new Date().toISOString().slice(0, 23)) >= 0)
    assert.ok(await pop(call))
  })

  test('a request takes its own priority, and may be less urgent than all', async (t) => {
    const { call } = await startServer(t)
    await importPackages(call, [aPackage({ name: 'one' }), aPackage({ name: 'two' })])

    await call(requestRebuild, { body: { ...anyBuild, name: 'one', priority: 5 } })

    assert.equal((await popped(call)).job.name, 'two')
    assert.equal((await popped(call)).job.priority, 5)
  })

  test('GOOD packages are rebuilt when asked for', async (t) => {
    const { call } = await startServer(t)
    await importPackages(call, [aPackage()])
    await rebuilt(call)

    await call(requestRebuild, { body: { ...anyBuild, status: 'GOOD' } })

    assert.ok(await pop(call))
  })

  test('the status is that of the latest result, not of any before', async (t) => {
    const { call } = await startServer(t)
    await importPackages(call, [aPackage()])
    await rebuilt(call, { status: 'BAD' })
    await call(requestRebuild, { body: anyBuild })
    await rebuilt(call)

    const { affected } = await call(requestRebuild, { body: { ...anyBuild, status: 'BAD' } })

    assert.equal(affected, 0)
    assert.deepEqual(await jobsOf(call), [])
  })

  test('UNKWN asks for what was never rebuilt', async (t) => {
    const { call } = await startServer(t)
    await importPackages(call, [aPackage({ name: 'one' }), aPackage({ name: 'two' })])
    const { job } = await rebuilt(call)

    const { affected } = await call(requestRebuild, { body: { ...anyBuild, status: 'UNKWN' } })

    assert.equal(affected, 1)
    assert.notEqual((await onlyJob(call)).name, job.name)
  })

  test('an empty request is for everything listed, packages without artifacts too', async (t) => {
    const { call } = await startServer(t)
    await importPackages(call, [aPackage({ name: 'one' }), aPackage({ name: 'two', artifacts: [] })])
    await call(dropJobs)

    const { affected } = await call(requestRebuild, { body: anyBuild })

    assert.equal(affected, 2)
    assert.deepEqual(
      (await jobsOf(call)).map(({ priority }) => priority),
      [0, 0],
    )
  })

  test('a request for a friend raises the job that there is', async (t) => {
    const { call } = await startServer(t)
    await importPackages(call, [aPackage()])
    await importPackages(call, [aPackage()], { release: 'trixie' })

    await call(requestRebuild, { body: { ...anyBuild, release: 'trixie' } })

    const job = await onlyJob(call)
    assert.deepEqual([job.priority, job.release], [0, 'sid'])
  })

  test('a request for a running job leaves it with its worker', async (t) => {
    const { call } = await startServer(t)
    await importPackages(call, [aPackage()])
    const { job } = await popped(call)

    await call(requestRebuild, { body: anyBuild })

    assert.equal(await pop(call), null)
    await call(pingJob, { params: { id: job.id } })
  })
})

/** What a report counts for, and when its package is tried again. */
import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { submitBuild } from '../../src/wire/builds.ts'
import { pingJob, requestRebuild } from '../../src/wire/queue.ts'
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
  minute,
  onlyJob,
  popped,
  rebuilt,
  refusal,
  second,
  sourcesOf,
} from './asking.ts'

describe('after a report', { concurrency: 4 }, () => {
  test('GOOD leaves no job, and no import makes one again', async (t) => {
    const { call } = await startServer(t)
    await importPackages(call, [aPackage()])

    await rebuilt(call)
    await importPackages(call, [aPackage()])

    assert.deepEqual(await jobsOf(call), [])
    assert.equal((await sourcesOf(call))[0]?.status, 'GOOD')
  })

  for (const status of ['BAD', 'FAIL'] as const) {
    test(`${status} queues it again: priority 2, due in the future, not running, with a new id`, async (t) => {
      const { call } = await startServer(t)
      await importPackages(call, [aPackage()])

      const { job } = await rebuilt(call, { status })

      const again = await onlyJob(call)
      assert.deepEqual([again.priority, again.started_at], [2, null])
      assert.ok(between(again.queued_at, again.next_retry) > 0)
      assert.notEqual(again.id, job.id)
      assert.equal((await sourcesOf(call))[0]?.status, status)
      const [binary] = await binariesOf(call)
      assert.deepEqual([binary?.status, binary?.build_id], [status === 'BAD' ? 'BAD' : null, 1])
    })
  }

  test('the n-th failure of a package waits n times the base delay', async (t) => {
    const { call, clock } = await startServer(t, { settings: { 'schedule.retry_delay_base': 2 } })
    await importPackages(call, [aPackage()])
    const waits: number[] = []

    for (let n = 0; n < 4; n++) {
      await rebuilt(call, { status: 'BAD' })
      const { queued_at, next_retry } = await onlyJob(call)
      waits.push(between(queued_at, next_retry) / hour)
      clock.ahead += 2 * (n + 1) * hour + minute
    }

    assert.deepEqual(waits, [2, 4, 6, 8])
    assert.deepEqual(
      (await buildsOf(call)).map(({ retries }) => retries),
      [1, 2, 3, 4],
    )
  })

  test('a job is not handed out before it is due, and is when it is', async (t) => {
    const { call, clock } = await startServer(t)
    await importPackages(call, [aPackage()])
    await rebuilt(call, { status: 'BAD' })

    clock.ahead = 24 * hour - minute
    assert.equal(await pop(call), null)
    clock.ahead = 24 * hour + second
    assert.ok(await pop(call))
  })

  test('trouble of infrastructure comes back sooner, on a budget of its own, and leaves a verdict standing', async (t) => {
    const { call, clock } = await startServer(t, { settings: { 'schedule.max_retries': 2 } })
    await importPackages(call, [aPackage()])
    await rebuilt(call, { status: 'BAD' })
    const waits: number[] = []

    for (let n = 0; n < 3; n++) {
      clock.ahead += 25 * hour
      await rebuilt(call, { status: 'FAIL', reason: 'no_space' })
      const { queued_at, next_retry } = await onlyJob(call)
      waits.push(between(queued_at, next_retry) / minute)
    }

    assert.deepEqual(waits, [10, 20, 40])
    assert.equal((await sourcesOf(call))[0]?.status, 'BAD')
    assert.equal((await binariesOf(call))[0]?.status, 'BAD')
    assert.equal((await buildsOf(call)).length, 4)
  })

  test('after trouble of infrastructure another worker is asked first', async (t) => {
    const { call, clock, worker } = await startServer(t)
    const other = await worker('key-2', 'worker-2')
    await importPackages(call, [aPackage()])
    await rebuilt(call, { status: 'FAIL', reason: 'no_space' })

    clock.ahead = 11 * minute
    assert.equal(await pop(call), null)
    assert.ok(await pop(other.call))
  })

  test('the only worker gets a job back that it had trouble with', async (t) => {
    const { call, clock } = await startServer(t)
    await importPackages(call, [aPackage()])
    await rebuilt(call, { status: 'FAIL', reason: 'no_space' })

    clock.ahead = 11 * minute

    assert.ok(await pop(call))
  })

  test('UNKWN from a worker is a FAIL', async (t) => {
    const { call } = await startServer(t)
    await importPackages(call, [aPackage()])

    await rebuilt(call, { status: 'UNKWN' })

    assert.equal((await sourcesOf(call))[0]?.status, 'FAIL')
  })

  test('a GOOD about no file proves nothing', async (t) => {
    const { call } = await startServer(t)
    await importPackages(call, [aPackage()])

    await rebuilt(call, { status: 'GOOD', artifacts: [] })

    const [source] = await sourcesOf(call)
    assert.deepEqual([source?.status, source?.reason], ['FAIL', 'nothing_to_compare'])
    assert.equal((await binariesOf(call))[0]?.status, null)
  })

  test('a GOOD that leaves a file out is not GOOD for that file, and is tried again', async (t) => {
    const { call } = await startServer(t)
    const artifacts = [anArtifact(), anArtifact({ name: 'hello-doc' })]
    await importPackages(call, [aPackage({ artifacts })])

    const job = await popped(call)
    const [first] = job.artifacts
    const result = anArtifactResult({ name: 'hello', url: first?.url ?? null })
    await call(submitBuild, { body: aResult(job, { artifacts: [result] }) })

    const found = (await binariesOf(call)).map(({ name, status }) => [name, status])
    assert.deepEqual(found, [
      ['hello', 'GOOD'],
      ['hello-doc', null],
    ])
    assert.notEqual((await sourcesOf(call))[0]?.status, 'GOOD')
    await onlyJob(call)
  })
})

describe('giving up', { concurrency: 4 }, () => {
  const settings = { 'schedule.max_retries': 1 }

  test('with max_retries 1 one BAD empties the queue, and imports keep it empty', async (t) => {
    const { call } = await startServer(t, { settings })
    await importPackages(call, [aPackage()])

    await rebuilt(call, { status: 'BAD' })
    await importPackages(call, [aPackage()])
    await importPackages(call, [aPackage()], { release: 'trixie' })

    assert.deepEqual(await jobsOf(call), [])
  })

  test('a manual request queues what was given up, and it can be taken', async (t) => {
    const { call } = await startServer(t, { settings })
    await importPackages(call, [aPackage()])
    await rebuilt(call, { status: 'BAD' })

    await call(requestRebuild, { body: { ...anyBuild, name: 'hello' } })

    assert.equal((await popped(call)).job.priority, 0)
  })

  test('the next failure after a manual request stops again', async (t) => {
    const { call } = await startServer(t, { settings })
    await importPackages(call, [aPackage()])
    await rebuilt(call, { status: 'BAD' })
    await call(requestRebuild, { body: { ...anyBuild, name: 'hello' } })

    await rebuilt(call, { status: 'BAD' })

    assert.deepEqual(await jobsOf(call), [])
  })

  test('max_retries 0 means what leaving it out means', async (t) => {
    const { call } = await startServer(t, { settings: { 'schedule.max_retries': 0 } })
    await importPackages(call, [aPackage()])

    await rebuilt(call, { status: 'BAD' })

    await onlyJob(call)
  })
})

describe('reports', { concurrency: 4 }, () => {
  test('the same report again is taken again and changes nothing', async (t) => {
    const { call } = await startServer(t)
    await importPackages(call, [aPackage()])
    const job = await popped(call)
    await call(submitBuild, { body: aResult(job, { status: 'BAD' }) })
    const [jobs, builds] = [await jobsOf(call), await buildsOf(call)]

    await call(submitBuild, { body: aResult(job, { status: 'BAD' }) })

    assert.deepEqual([await jobsOf(call), await buildsOf(call)], [jobs, builds])
  })

  test('the same report twice at the same moment is one build', async (t) => {
    const { call } = await startServer(t)
    await importPackages(call, [aPackage()])
    const body = aResult(await popped(call), { status: 'BAD' })

    await Promise.all([1, 2, 3, 4].map(() => call(submitBuild, { body })))

    assert.equal((await buildsOf(call)).length, 1)
    assert.equal((await jobsOf(call)).length, 1)
  })

  test('a report of an older worker, which names no lease, is taken all the same', async (t) => {
    const { call } = await startServer(t)
    await importPackages(call, [aPackage()])
    const job = await popped(call)

    await call(submitBuild, { body: aResult(job, { lease: null }) })

    assert.equal((await binariesOf(call))[0]?.status, 'GOOD')
  })

  test('nobody reports a job that it never held', async (t) => {
    const { call, worker } = await startServer(t)
    const other = await worker('key-2')
    await importPackages(call, [aPackage()])
    const job = await popped(call)

    assert.equal(await refusal(other.call(submitBuild, { body: aResult(job) })), 404)
    assert.equal(await refusal(other.call(submitBuild, { body: aResult(job, { lease: null }) })), 404)
    assert.equal(await refusal(call(submitBuild, { body: { ...aResult(job), queue_id: 4711 } })), 404)

    assert.deepEqual(await buildsOf(call), [])
    await call(pingJob, { params: { id: job.job.id } })
  })

  test('a report about files that the job does not have says nothing about them', async (t) => {
    const { call } = await startServer(t)
    await importPackages(call, [aPackage()])
    const job = await popped(call)
    const artifacts = [anArtifactResult({ name: 'other', url: null })]

    await call(submitBuild, { body: aResult(job, { artifacts }) })

    assert.equal((await sourcesOf(call))[0]?.status, 'FAIL')
    assert.equal((await binariesOf(call))[0]?.status, null)
  })

  test('a GOOD about other bytes than the index names is no GOOD', async (t) => {
    const { call } = await startServer(t)
    await importPackages(call, [aPackage({ artifacts: [anArtifact({ sha256: 'a'.repeat(64) })] })])
    const job = await popped(call)
    const artifacts = [anArtifactResult({ name: 'hello', sha256: 'b'.repeat(64) })]

    await call(submitBuild, { body: aResult(job, { artifacts }) })

    const [binary] = await binariesOf(call)
    assert.deepEqual([binary?.status, binary?.reason], [null, 'input_mismatch'])
  })

  test('new bytes under an old version have no verdict, and get a job', async (t) => {
    const { call } = await startServer(t)
    const of = (letter: string) => [
      aPackage({ artifacts: [anArtifact({ sha256: letter.repeat(64), size: 10 })] }),
    ]
    await importPackages(call, of('a'))
    await rebuilt(call)

    await importPackages(call, of('b'))

    assert.deepEqual(
      (await binariesOf(call)).map(({ status, sha256 }) => [status, sha256?.[0]]),
      [[null, 'b']],
    )
    await onlyJob(call)
  })

  test('a worker’s clock does not decide which result is the latest', async (t) => {
    const { call } = await startServer(t)
    await importPackages(call, [aPackage()])
    await rebuilt(call, { status: 'BAD', built_at: '2099-01-01T00:00:00' })
    await call(requestRebuild, { body: anyBuild })

    await rebuilt(call, { built_at: '2001-01-01T00:00:00' })

    assert.equal((await binariesOf(call))[0]?.status, 'GOOD')
  })
})

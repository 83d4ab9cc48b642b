/** When is what rebuilt, by whom, and how often: the rules that operators rely on. */
import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { submitBuild } from '../../src/wire/builds.ts'
import { dropJob, dropJobs, getJob, pingJob, popQueue, requestRebuild } from '../../src/wire/queue.ts'
import { getWorker, listWorkers, registerWorker, removeWorker } from '../../src/wire/workers.ts'
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

describe('taking jobs', { concurrency: 4 }, () => {
  test('a foreign backend or architecture gets Nothing; the native architecture does not count', async (t) => {
    const { call } = await startServer(t)
    await importPackages(call, [aPackage()])
    const ask = (supported_backends: string[], supported_architectures: string[], architecture: string) =>
      call(popQueue, { body: { supported_backends, supported_architectures, architecture } })

    assert.equal(await ask(['archlinux'], ['amd64'], 'amd64'), 'Nothing')
    assert.equal(await ask(['debian'], ['arm64'], 'amd64'), 'Nothing')
    assert.equal(await ask([], ['amd64'], 'amd64'), 'Nothing')
    assert.equal(await ask(['debian'], [], 'amd64'), 'Nothing')
    assert.notEqual(await ask(['debian'], ['amd64'], 'riscv64'), 'Nothing')
  })

  for (const [asked, listed] of [
    ['x86_64', 'amd64'],
    ['amd64', 'x86_64'],
    ['x86', 'i386'],
    ['i386', 'x86'],
    ['aarch64', 'arm64'],
    ['arm64', 'aarch64'],
    ['powerpc64', 'ppc64'],
    ['ppc64', 'powerpc64'],
    ['*', 'riscv64'],
    ['all', 'all'],
    ['riscv64', 'riscv64'],
  ] as const) {
    test(`a worker for ${asked} gets jobs for ${listed}`, async (t) => {
      const { call } = await startServer(t)

      await importPackages(call, [aPackage()], { architecture: listed })

      assert.equal((await popped(call, [asked])).job.architecture, listed)
    })
  }

  test('all, any and noarch have no other name', async (t) => {
    const { call } = await startServer(t)
    await importPackages(call, [aPackage()], { architecture: 'all' })

    assert.equal(await pop(call, ['any', 'noarch', 'amd64']), null)
  })

  test('the assignment shows the job as it was before: started_at is null', async (t) => {
    const { call } = await startServer(t)
    await importPackages(call, [aPackage()])

    const { job, artifacts } = await popped(call)

    assert.equal(job.started_at, null)
    assert.deepEqual(artifacts, [
      {
        name: 'hello',
        version: '1.0-1',
        architecture: 'amd64',
        url: 'http://mirror.example/pool/hello_1.0-1_amd64.deb',
        sha256: null,
        size: null,
      },
    ])
    assert.notEqual((await onlyJob(call)).started_at, null)
  })

  test('most urgent first, then the one that has waited longest', async (t) => {
    const { call, clock } = await startServer(t)
    const names = ['zeta', 'alpha', 'urgent', 'failed']
    await importPackages(call, [aPackage({ name: 'failed' })])
    await rebuilt(call, { status: 'BAD' })
    for (const [index, name] of names.entries()) {
      clock.ahead = 24 * hour + index * minute
      await importPackages(
        call,
        names.slice(0, index + 1).map((each) => aPackage({ name: each })),
        { release: name },
      )
    }
    await call(requestRebuild, { body: { ...anyBuild, name: 'urgent' } })
    clock.ahead = 30 * hour

    const order: string[] = []
    for (let next = await pop(call); next !== null; next = await pop(call)) order.push(next.job.name)

    assert.deepEqual(order, ['urgent', 'zeta', 'alpha', 'failed'])
  })

  test('two workers asking at the same moment never get the same job', async (t) => {
    const { call, worker } = await startServer(t)
    const packages = Array.from({ length: 8 }, (_, index) => aPackage({ name: `package-${index}` }))
    await importPackages(call, packages)
    const workers = await Promise.all(packages.map((_, index) => worker(`key-${index + 2}`)))

    const jobs = await Promise.all([...workers, ...workers].map((one) => pop(one.call)))

    const ids = jobs.flatMap((job) => (job === null ? [] : [job.job.id]))
    assert.equal(ids.length, 8)
    assert.equal(new Set(ids).size, 8)
  })

  test('a worker that asks shows up online, with what it works on', async (t) => {
    const { call } = await startServer(t)
    await importPackages(call, [aPackage()])

    await pop(call)

    const [worker] = (await call(listWorkers)).records
    assert.equal(worker?.is_online, true)
    assert.match(worker?.status ?? '', /hello 1\.0-1/)
  })

  test('the status of a worker is gone after its job', async (t) => {
    const { call } = await startServer(t)
    await importPackages(call, [aPackage()])

    await rebuilt(call)

    assert.equal((await call(getWorker, { params: { id: 1 } })).status, null)
  })
})

describe('pings and workers that stop answering', { concurrency: 4 }, () => {
  test('a ping for a job that does not exist, that waits, or that is another worker’s is 404', async (t) => {
    const { call, worker } = await startServer(t)
    const other = await worker('key-2')
    await importPackages(call, [aPackage({ name: 'one' }), aPackage({ name: 'two' })])
    const { job } = await popped(call)
    const [, waiting] = await jobsOf(call)

    assert.equal(await refusal(call(pingJob, { params: { id: 4711 } })), 404)
    assert.equal(await refusal(call(pingJob, { params: { id: waiting?.id ?? 0 } })), 404)
    assert.equal(await refusal(other.call(pingJob, { params: { id: job.id } })), 404)
    await call(pingJob, { params: { id: job.id } })
  })

  test('pings keep a job for longer than the lease; without them it is free at the next tick, with nobody asking', async (t) => {
    const { call, clock, worker } = await startServer(t)
    const other = await worker('key-2')
    await importPackages(call, [aPackage()])
    const { job } = await popped(call)

    clock.ahead = 500 * second
    await call(pingJob, { params: { id: job.id } })
    clock.ahead = 1000 * second
    assert.equal(await pop(other.call), null)
    clock.ahead = 1100 * second

    assert.equal(await freed(() => onlyJob(call)), true)
    const again = await popped(other.call)
    assert.equal(again.job.id, job.id)
    assert.equal(again.job.priority, job.priority)
    assert.equal(again.job.queued_at, job.queued_at)
  })

  test('the report of a worker that lost its job counts while nobody else has it', async (t) => {
    const { call, clock } = await startServer(t)
    await importPackages(call, [aPackage()])
    const job = await popped(call)
    clock.ahead = 600 * second
    await freed(() => onlyJob(call))

    await call(submitBuild, { body: aResult(job) })

    assert.deepEqual(await jobsOf(call), [])
    assert.equal((await binariesOf(call))[0]?.status, 'GOOD')
  })

  test('once somebody else has the job, the late report is history and the new holder’s counts', async (t) => {
    const { call, clock, worker } = await startServer(t)
    const other = await worker('key-2')
    await importPackages(call, [aPackage()])
    const late = await popped(call)
    clock.ahead = 600 * second
    await freed(() => onlyJob(call))
    const taken = await popped(other.call)

    await call(submitBuild, { body: aResult(late, { status: 'BAD' }) })

    assert.notEqual((await onlyJob(call)).started_at, null)
    assert.equal((await binariesOf(call))[0]?.status, null)
    await other.call(pingJob, { params: { id: taken.job.id } })
    await other.call(submitBuild, { body: aResult(taken) })
    assert.equal((await binariesOf(call))[0]?.status, 'GOOD')
    assert.deepEqual(
      (await buildsOf(call)).map(({ status }) => status),
      ['BAD', 'GOOD'],
    )
  })

  test('a worker that is silent goes offline, and its status with it', async (t) => {
    const { call, clock } = await startServer(t)
    await importPackages(call, [aPackage()])
    await popped(call)
    clock.ahead = 1200 * second
    await freed(() => onlyJob(call))

    const [worker] = (await call(listWorkers)).records

    assert.deepEqual([worker?.is_online, worker?.status], [false, null])
  })

  test('a worker that registers again keeps its job until the deadline, with a plain status', async (t) => {
    const { call } = await startServer(t)
    await importPackages(call, [aPackage()])
    const { job } = await popped(call)

    await call(registerWorker, { body: { name: 'renamed', tags: [] } })

    const [worker, ...others] = (await call(listWorkers)).records
    assert.deepEqual([worker?.name, worker?.status, others.length], ['renamed', null, 0])
    await call(pingJob, { params: { id: job.id } })
  })

  test('the job of a removed worker is free at once, and the worker is refused', async (t) => {
    const { call, worker } = await startServer(t)
    const other = await worker('key-2')
    await importPackages(call, [aPackage()])
    const { job } = await popped(other.call)

    await other.call(removeWorker, { params: { id: 2 } })

    assert.equal(await refusal(other.call(pingJob, { params: { id: job.id } })), 403)
    assert.equal((await popped(call)).job.id, job.id)
  })
})

/** Whether a running job becomes free without anybody asking for work: the server looks every few seconds. */
async function freed(job: () => Promise<{ started_at: string | null }>): Promise<boolean> {
  for (let tries = 0; tries < 100; tries++) {
    if ((await job()).started_at === null) return true
    await new Promise((resolve) => setTimeout(resolve, 100))
  }
  return false
}

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

describe('dropping jobs', { concurrency: 4 }, () => {
  test('a dropped job that runs: pings 404, its report is kept as history', async (t) => {
    const { call } = await startServer(t)
    await importPackages(call, [aPackage()])
    const job = await popped(call)

    await call(dropJob, { params: { id: job.job.id } })

    assert.equal(await refusal(call(pingJob, { params: { id: job.job.id } })), 404)
    await call(submitBuild, { body: aResult(job) })
    assert.equal((await buildsOf(call)).length, 1)
    assert.equal((await call(getWorker, { params: { id: 1 } })).status, null)
  })

  test('without a filter the whole queue goes, running jobs too; the next import queues what is not GOOD', async (t) => {
    const { call } = await startServer(t)
    const packages = ['one', 'two', 'three'].map((name) => aPackage({ name }))
    await importPackages(call, packages)
    await rebuilt(call)
    await popped(call)

    await call(dropJobs)

    assert.deepEqual(await jobsOf(call), [])
    await importPackages(call, packages)
    assert.deepEqual((await jobsOf(call)).map(({ name }) => name).sort(), ['three', 'two'])
  })

  for (const [filter, left] of [
    [{ name: 'one' }, ['two']],
    [{ name: 'one', release: 'sid' }, ['one', 'two']],
    [{ release: 'trixie' }, ['one', 'two']],
    [{ distribution: 'archlinux' }, ['one', 'one', 'two']],
    [{ version: '9' }, ['one', 'one', 'two']],
    [{ architecture: 'amd64' }, ['one']],
    [{ component: 'contrib' }, ['one', 'one']],
  ] as const) {
    test(`dropping by ${JSON.stringify(filter)} drops just those`, async (t) => {
      const { call } = await startServer(t)
      const contrib = [anArtifact({ name: 'two', component: 'contrib' })]
      await importPackages(call, [aPackage({ name: 'one' }), aPackage({ name: 'two', artifacts: contrib })])
      await importPackages(call, [aPackage({ name: 'one' })], { release: 'trixie', architecture: 'arm64' })

      await call(dropJobs, { query: filter })

      assert.deepEqual((await jobsOf(call)).map(({ name }) => name).sort(), left)
    })
  }

  test('an unknown job cannot be dropped or looked at', async (t) => {
    const { call } = await startServer(t)

    assert.equal(await refusal(call(dropJob, { params: { id: 1 } })), 404)
    assert.equal(await refusal(call(getJob, { params: { id: 1 } })), 404)
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

describe('a worker that names its question', { concurrency: 4 }, () => {
  const question = {
    supported_backends: ['debian'],
    architecture: 'x86_64',
    supported_architectures: ['amd64', 'all'],
  }
  const name = '0f8fad5b-d9cb-469f-a165-70867728950e'

  test('gets the same job when it asks again, and another one under another name', async (t) => {
    const { call } = await startServer(t)
    await importPackages(call, [aPackage({ name: 'one' }), aPackage({ name: 'two' })])

    const first = await call(popQueue, { body: { ...question, lease: name } })
    const again = await call(popQueue, { body: { ...question, lease: name } })
    const other = await call(popQueue, { body: { ...question, lease: name.replace(/^0/, '1') } })

    assert.ok(first !== 'Nothing' && again !== 'Nothing' && other !== 'Nothing')
    assert.deepEqual([again.Rebuild.job.id, again.Rebuild.lease], [first.Rebuild.job.id, name])
    assert.deepEqual(again.Rebuild.artifacts, first.Rebuild.artifacts)
    assert.notEqual(other.Rebuild.job.id, first.Rebuild.job.id)
  })

  test('gets a new job under a new name once that one is over', async (t) => {
    const { call } = await startServer(t)
    await importPackages(call, [aPackage({ name: 'one' }), aPackage({ name: 'two' })])
    const first = await call(popQueue, { body: { ...question, lease: name } })
    assert.ok(first !== 'Nothing')
    await call(submitBuild, { body: aResult(first.Rebuild) })

    const next = await call(popQueue, { body: { ...question, lease: name } })

    assert.ok(next !== 'Nothing')
    assert.notEqual(next.Rebuild.lease, name)
    assert.notEqual(next.Rebuild.job.name, first.Rebuild.job.name)
  })

  test('cannot get at the job of another one that way', async (t) => {
    const { call, worker } = await startServer(t)
    const other = await worker('key-2')
    await importPackages(call, [aPackage()])
    await call(popQueue, { body: { ...question, lease: name } })

    assert.equal(await other.call(popQueue, { body: { ...question, lease: name } }), 'Nothing')
  })
})

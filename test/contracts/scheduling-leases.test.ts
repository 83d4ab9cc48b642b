/** Who gets a job, how long it is theirs, and what ends that. */
import assert from 'node:assert/strict'
import { describe, test, type TestContext } from 'node:test'
import { isDeepStrictEqual } from 'node:util'
import { submitBuild } from '../../src/wire/builds.ts'
import {
  dropJob,
  dropJobs,
  getJob,
  pingJob,
  popQueue,
  requestRebuild,
  type Assignment,
} from '../../src/wire/queue.ts'
import { getWorker, listWorkers, registerWorker, removeWorker } from '../../src/wire/workers.ts'
import { until } from '../help/until.ts'
import {
  aPackage,
  aResult,
  anArtifact,
  anyBuild,
  importPackages,
  pop,
  someEvidence,
  startServer,
} from '../help/server.ts'
import {
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
} from './asking.ts'

/** How often the servers of these tests look for what is over, in milliseconds. */
const tick = 50

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

  test('a worker with two jobs does the later one, and the earlier one once that is reported', async (t) => {
    const { call } = await startServer(t)
    await importPackages(call, [aPackage({ name: 'first' }), aPackage({ name: 'second' })])
    const status = async (): Promise<string | null | undefined> =>
      (await call(listWorkers)).records[0]?.status

    const first = await popped(call)
    const second = await popped(call)
    assert.equal(await status(), `working hard on ${second.job.name} ${second.job.version}`)
    await call(submitBuild, { body: aResult(second) })
    assert.equal(await status(), `working hard on ${first.job.name} ${first.job.version}`)
    await call(submitBuild, { body: aResult(first) })
    assert.equal(await status(), null)
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
    const { call, clock, worker } = await startServer(t, { tick })
    const other = await worker('key-2')
    await importPackages(call, [aPackage()])
    const { job } = await popped(call)

    clock.ahead = 500 * second
    await call(pingJob, { params: { id: job.id } })
    clock.ahead = 1000 * second
    assert.equal(await pop(other.call), null)
    clock.ahead = 1100 * second

    await freed(call)
    const again = await popped(other.call)
    assert.equal(again.job.id, job.id)
    assert.equal(again.job.priority, job.priority)
    assert.equal(again.job.queued_at, job.queued_at)
  })

  test('the report of a worker that lost its job counts while nobody else has it', async (t) => {
    const { call, clock } = await startServer(t, { tick })
    await importPackages(call, [aPackage()])
    const job = await popped(call)
    clock.ahead = 600 * second
    await freed(call)

    await call(submitBuild, { body: aResult(job) })

    assert.deepEqual(await jobsOf(call), [])
    assert.equal((await binariesOf(call))[0]?.status, 'GOOD')
  })

  test('once somebody else has the job, the late report is history and the new holder’s counts', async (t) => {
    const { call, clock, worker } = await startServer(t, { tick })
    const other = await worker('key-2')
    await importPackages(call, [aPackage()])
    const late = await popped(call)
    clock.ahead = 600 * second
    await freed(call)
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
    const { call, clock } = await startServer(t, { tick })
    await importPackages(call, [aPackage()])
    await popped(call)
    const told = async (): Promise<unknown[]> =>
      (await call(listWorkers)).records.map((worker) => [worker.is_online, worker.status])
    assert.deepEqual(await told(), [[true, 'working hard on hello 1.0-1']])
    clock.ahead = 1200 * second

    await until(async () => isDeepStrictEqual(await told(), [[false, null]]), 'that the worker is offline')
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

describe('a package that leaves its release while its job runs', { concurrency: 4 }, () => {
  const [old, other] = [aPackage(), aPackage({ name: 'other' })]
  const evidence = { ...someEvidence, temporary: true }
  const handedBack = (job: Assignment) => aResult(job, { status: 'FAIL', reason: 'worker_lost', evidence })

  /** A worker holds the job of a package that is listed no more. */
  async function held(t: TestContext) {
    const server = await startServer(t, { tick })
    await importPackages(server.call, [old])
    const job = await popped(server.call)
    await importPackages(server.call, [other])
    await rebuilt(await server.worker('key-2').then(({ call }) => call))
    assert.equal((await onlyJob(server.call)).id, job.job.id)
    return { ...server, job }
  }

  for (const [how, ends] of [
    ['its worker stops answering', ({ clock }) => void (clock.ahead = 600 * second)],
    ['its worker hands it back', ({ call, job }) => call(submitBuild, { body: handedBack(job) })],
    ['its worker is removed', ({ call }) => call(removeWorker, { params: { id: 1 } })],
  ] satisfies [string, (house: Awaited<ReturnType<typeof held>>) => unknown][]) {
    test(`is handed to nobody else when ${how}`, async (t) => {
      const house = await held(t)

      await ends(house)

      await until(async () => (await jobsOf(house.call)).length === 0, 'that the job is gone')
    })
  }

  test('is rebuilt all the same when it is queued by hand, with the files it had', async (t) => {
    const { call, clock, job } = await held(t)
    await call(submitBuild, { body: aResult(job) })
    clock.ahead = second
    await call(requestRebuild, { body: { ...anyBuild, name: 'hello', version: '1.0-1' } })

    const again = await popped(call)
    assert.deepEqual(again.artifacts, job.artifacts)
    await call(submitBuild, { body: handedBack(again) })

    assert.equal((await onlyJob(call)).name, 'hello')
  })
})

/** Waits until the running job is free, with nobody asking for work. */
async function freed(call: Parameters<typeof onlyJob>[0]): Promise<void> {
  await until(async () => (await onlyJob(call)).started_at === null, 'that the job is free')
}

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

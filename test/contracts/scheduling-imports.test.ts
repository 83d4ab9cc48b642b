/** What becomes of what the indexes list: packages, artifacts, jobs, and what is no longer listed. */
import assert from 'node:assert/strict'
import { readdir, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, test } from 'node:test'
import { getBuildLog, submitBuild } from '../../src/wire/builds.ts'
import { getDashboard, listReleases } from '../../src/wire/meta.ts'
import { submitPackages } from '../../src/wire/packages.ts'
import { requestRebuild } from '../../src/wire/queue.ts'
import { aPackage, aReport, aResult, anArtifact, importPackages, pop, startServer } from '../help/server.ts'
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
  sourcesOf,
} from './asking.ts'

const names = (records: readonly { name: string }[]): string[] => records.map(({ name }) => name).sort()

describe('what is listed', { concurrency: 4 }, () => {
  test('a package is seen when it was listed last, and keeps when it was seen first', async (t) => {
    const { call, clock } = await startServer(t)
    await importPackages(call, [aPackage()])
    const [first] = await binariesOf(call)
    clock.ahead = hour

    await importPackages(call, [aPackage()])

    const [again] = await binariesOf(call)
    assert.equal(again?.first_seen, first?.first_seen)
    assert.ok((again?.last_seen ?? '') > (first?.last_seen ?? ''))
    assert.equal(again?.seen_in_last_sync, true)
    const [source] = await sourcesOf(call)
    assert.equal(source?.last_seen, again?.last_seen)
  })

  test('a new version is a new package; the old one stays, no longer seen', async (t) => {
    const { call } = await startServer(t)
    await importPackages(call, [aPackage()])

    await importPackages(call, [aPackage({ version: '2.0-1' })])

    const found = (await sourcesOf(call)).map(({ version, seen_in_last_sync }) => [
      version,
      seen_in_last_sync,
    ])
    assert.deepEqual(found, [
      ['1.0-1', false],
      ['2.0-1', true],
    ])
    assert.equal((await onlyJob(call)).version, '2.0-1')
  })

  test('a package that comes back is seen again, with the verdict it had', async (t) => {
    const { call } = await startServer(t)
    await importPackages(call, [aPackage()])
    await rebuilt(call)
    await importPackages(call, [aPackage({ name: 'other' })])

    await importPackages(call, [aPackage(), aPackage({ name: 'other' })])

    const [source] = await sourcesOf(call, { name: 'hello' })
    assert.deepEqual([source?.seen_in_last_sync, source?.status], [true, 'GOOD'])
    assert.equal((await onlyJob(call)).name, 'other')
  })

  test('an artifact without a component is one record, however often it is imported', async (t) => {
    const { call } = await startServer(t)
    const packages = [aPackage({ artifacts: [anArtifact({ component: null })] })]

    for (let n = 0; n < 3; n++) await importPackages(call, packages)

    const [binary, ...others] = await binariesOf(call)
    assert.deepEqual([binary?.component, others.length], [null, 0])
  })

  test('a release of null stays null, and is another than any other', async (t) => {
    const { call } = await startServer(t)

    await importPackages(call, [aPackage()], { release: null })
    await importPackages(call, [aPackage()], { release: 'sid' })

    const releases = (await sourcesOf(call)).map(({ release }) => release)
    assert.deepEqual(releases, [null, 'sid'])
    assert.deepEqual(await call(listReleases, { params: { distribution: 'debian' } }), [null, 'sid'])
  })

  test('an artifact that moves gets its new address, and keeps its verdict', async (t) => {
    const { call } = await startServer(t)
    await importPackages(call, [aPackage()])
    await rebuilt(call)
    const url = 'http://other.example/pool/hello_1.0-1_amd64.deb'

    await importPackages(call, [aPackage({ artifacts: [anArtifact({ url })] })])

    const [binary, ...others] = await binariesOf(call)
    assert.deepEqual([binary?.url, binary?.status, others.length], [url, 'GOOD', 0])
    assert.deepEqual(await jobsOf(call), [])
  })

  test('an artifact that is no longer listed is not part of jobs, nor in the way of GOOD', async (t) => {
    const { call } = await startServer(t)
    const [kept, gone] = [anArtifact(), anArtifact({ name: 'hello-gone' })]
    await importPackages(call, [aPackage({ artifacts: [kept, gone] })])

    await importPackages(call, [aPackage({ artifacts: [kept] })])
    const { artifacts } = await rebuilt(call)

    assert.deepEqual(names(artifacts), ['hello'])
    assert.equal((await sourcesOf(call))[0]?.status, 'GOOD')
    assert.deepEqual(await jobsOf(call), [])
    const found = (await binariesOf(call)).map(({ name, seen_in_last_sync }) => [name, seen_in_last_sync])
    assert.deepEqual(found, [
      ['hello', true],
      ['hello-gone', false],
    ])
    assert.deepEqual(names(await binariesOf(call, { seen_only: 'true' })), ['hello'])
    assert.deepEqual(names(await binariesOf(call, { seen_only: 'false' })), ['hello-gone'])
  })

  test('an artifact that is new under a GOOD package gets a job', async (t) => {
    const { call } = await startServer(t)
    await importPackages(call, [aPackage()])
    await rebuilt(call)

    await importPackages(call, [aPackage({ artifacts: [anArtifact(), anArtifact({ name: 'hello-new' })] })])

    assert.notEqual((await sourcesOf(call))[0]?.status, 'GOOD')
    assert.deepEqual(names((await popped(call)).artifacts), ['hello', 'hello-new'])
  })

  test('a package without artifacts is queued, and never GOOD', async (t) => {
    const { call } = await startServer(t)
    await importPackages(call, [aPackage({ artifacts: [] })])

    await rebuilt(call, { artifacts: [] })

    assert.equal((await sourcesOf(call))[0]?.status, 'FAIL')
  })

  test('what is listed twice is one package with each artifact once', async (t) => {
    const { call } = await startServer(t)
    const doc = aPackage({ artifacts: [anArtifact({ name: 'hello-doc' })] })

    await importPackages(call, [aPackage(), aPackage(), doc])

    assert.equal((await sourcesOf(call)).length, 1)
    assert.deepEqual(names(await binariesOf(call)), ['hello', 'hello-doc'])
    await onlyJob(call)
  })

  test('another input for the same version is a second input of the same source package', async (t) => {
    const { call } = await startServer(t)
    await importPackages(call, [aPackage()])
    const url = 'https://buildinfos.example/again.buildinfo'

    await importPackages(call, [aPackage({ url })])

    assert.equal((await sourcesOf(call)).length, 1)
    assert.equal((await onlyJob(call)).url, url)
  })
})

describe('what is no longer listed', { concurrency: 4 }, () => {
  test('a job that waits for a package that is gone goes with it', async (t) => {
    const { call } = await startServer(t)
    await importPackages(call, [aPackage({ name: 'one' }), aPackage({ name: 'two' })])

    await importPackages(call, [aPackage({ name: 'two' })])

    assert.equal((await onlyJob(call)).name, 'two')
  })

  test('a job that runs goes on; its result is stored and it is not queued again', async (t) => {
    const { call } = await startServer(t)
    await importPackages(call, [aPackage({ name: 'one' })])
    const job = await popped(call)
    await importPackages(call, [aPackage({ name: 'two' })])

    await call(submitBuild, { body: aResult(job, { status: 'BAD' }) })

    assert.equal((await buildsOf(call, { name: 'one' }))[0]?.status, 'BAD')
    assert.equal((await onlyJob(call)).name, 'two')
  })

  test('a package that leaves one release stays queued for its friend in another', async (t) => {
    const { call } = await startServer(t)
    await importPackages(call, [aPackage()])
    await importPackages(call, [aPackage()], { release: 'trixie' })

    await importPackages(call, [aPackage({ name: 'other' })])

    const job = (await jobsOf(call)).find(({ name }) => name === 'hello')
    assert.equal(job?.release, 'trixie')
  })

  test('an empty report takes everything out of its scope, and nothing out of others', async (t) => {
    const { call } = await startServer(t)
    await importPackages(call, [aPackage({ name: 'one' })])
    await importPackages(call, [aPackage({ name: 'two', url: 'https://b.example/2' })], {
      architecture: 'arm64',
    })
    await importPackages(call, [aPackage({ name: 'three' })], { release: 'trixie' })

    await importPackages(call, [])

    assert.deepEqual(names(await jobsOf(call)), ['three', 'two'])
    assert.deepEqual(names(await sourcesOf(call, { seen_only: 'true' })), ['three', 'two'])
    assert.deepEqual(names(await sourcesOf(call, { seen_only: 'false' })), ['one'])
  })

  test('a report for one architecture says nothing about another', async (t) => {
    const { call } = await startServer(t)
    const on = (architecture: string) => [
      aPackage({
        url: `https://buildinfos.example/hello_${architecture}.buildinfo`,
        artifacts: [anArtifact({ architecture })],
      }),
    ]
    await importPackages(call, on('amd64'))
    await importPackages(call, on('arm64'), { architecture: 'arm64' })

    await importPackages(call, [], { architecture: 'arm64' })

    const found = (await binariesOf(call)).map(({ architecture, seen_in_last_sync }) => [
      architecture,
      seen_in_last_sync,
    ])
    assert.deepEqual(found, [
      ['amd64', true],
      ['arm64', false],
    ])
    assert.equal((await sourcesOf(call, { architecture: 'amd64' }))[0]?.seen_in_last_sync, true)
    assert.equal((await sourcesOf(call, { architecture: 'arm64' }))[0]?.seen_in_last_sync, false)
    assert.equal((await sourcesOf(call))[0]?.seen_in_last_sync, true)
    assert.equal((await onlyJob(call)).architecture, 'amd64')
  })

  test('what is gone is not counted, and not rebuilt by a request for everything', async (t) => {
    const { call } = await startServer(t)
    await importPackages(call, [aPackage({ name: 'one' })])
    await rebuilt(call)
    await importPackages(call, [aPackage({ name: 'two' })])

    const { rebuilds } = await call(getDashboard)
    const body = {
      distribution: 'debian',
      release: null,
      component: null,
      name: 'one',
      version: null,
      architecture: null,
      status: null,
      priority: null,
      reason: null,
    }
    const { affected } = await call(requestRebuild, { body })

    assert.deepEqual(rebuilds, { good: 0, bad: 0, fail: 0, unknown: 1 })
    assert.equal(affected, 0)
  })
})

describe('short reports', { concurrency: 4 }, () => {
  const many = (count: number) => Array.from({ length: count }, (_, n) => aPackage({ name: `package-${n}` }))

  test('a report that lists less than half of the last one is refused, and changes nothing', async (t) => {
    const { call } = await startServer(t)
    await importPackages(call, many(20))

    assert.equal(await refusal(importPackages(call, many(9))), 409)
    assert.equal(await refusal(importPackages(call, [])), 409)

    assert.equal((await sourcesOf(call, { seen_only: 'true' })).length, 20)
    assert.equal((await jobsOf(call)).length, 20)
  })

  test('half of the last one is taken, and any number when it is forced', async (t) => {
    const { call } = await startServer(t)
    await importPackages(call, many(40))

    await importPackages(call, many(20))
    await call(submitPackages, { body: aReport([]), query: { force: 'true' } })

    assert.deepEqual(await sourcesOf(call, { seen_only: 'true' }), [])
    assert.deepEqual(await jobsOf(call), [])
  })

  test('the first report of another scope may be of any length', async (t) => {
    const { call } = await startServer(t)
    await importPackages(call, many(20))

    await importPackages(call, many(1), { release: 'trixie' })

    assert.equal((await sourcesOf(call, { release: 'trixie' })).length, 1)
  })
})

describe('imports and everything else at the same time', () => {
  test('importing the same again writes nothing but the time of the import', async (t) => {
    const { call, data } = await startServer(t)
    const packages = Array.from({ length: 300 }, (_, n) => aPackage({ name: `package-${n}` }))
    await importPackages(call, packages)
    const written = async (): Promise<number> => (await stat(join(data, 'rebuilderd.db-wal'))).size
    const [before, sources] = [await written(), await sourcesOf(call)]

    await importPackages(call, packages)

    assert.ok((await written()) - before < 40_000, `${(await written()) - before} bytes were written`)
    const times = ({ id, first_seen, status }: (typeof sources)[number]) => [id, first_seen, status]
    assert.deepEqual((await sourcesOf(call)).map(times), sources.map(times))
  })

  test('two imports of the same scope at the same moment leave one truth', async (t) => {
    const { call } = await startServer(t)
    const packages = Array.from({ length: 150 }, (_, n) => aPackage({ name: `package-${n}` }))

    await Promise.all([packages, packages.toReversed(), packages].map((list) => importPackages(call, list)))

    assert.equal((await sourcesOf(call)).length, 150)
    assert.equal((await jobsOf(call)).length, 150)
  })

  test('workers take and report jobs while an import runs', async (t) => {
    const { call } = await startServer(t)
    await importPackages(call, [aPackage()])
    let [reports, isInTime] = [0, false]
    // A disk may make a report wait, and not an import: a larger one then.
    for (let count = 2000; count <= 16_000 && !isInTime; count *= 2) {
      const packages = Array.from({ length: count }, (_, n) => aPackage({ name: `package-${n}` }))
      let isOver = false
      const importing = importPackages(call, [aPackage(), ...packages]).then(() => (isOver = true))

      await rebuilt(call)
      reports += 1
      isInTime = !isOver
      await importing
    }

    assert.equal(isInTime, true)
    assert.equal((await jobsOf(call)).length, 1000)
    assert.equal((await buildsOf(call)).length, reports)
  })

  test('copies for friends share their logs: what is stored once is stored once', async (t) => {
    const { call, data } = await startServer(t)
    await importPackages(call, [aPackage()])
    await rebuilt(call)

    await importPackages(call, [aPackage()], { release: 'trixie' })

    const files = await readdir(join(data, 'blobs'), { recursive: true, withFileTypes: true })
    assert.equal(files.filter((file) => file.isFile()).length, 1)
    const [first, copy] = await buildsOf(call)
    const logs = await Promise.all(
      [first, copy].map((build) => call(getBuildLog, { params: { id: build?.id ?? 0 } })),
    )
    assert.deepEqual(
      logs.map((log) => new TextDecoder().decode(log)),
      ['the log\n', 'the log\n'],
    )
  })

  test('a failed package keeps its wait over an import', async (t) => {
    const { call, clock } = await startServer(t)
    await importPackages(call, [aPackage()])
    await rebuilt(call, { status: 'BAD' })
    const job = await onlyJob(call)
    clock.ahead = 10 * minute

    await importPackages(call, [aPackage()])

    assert.deepEqual(await onlyJob(call), job)
    assert.equal(await pop(call), null)
  })
})

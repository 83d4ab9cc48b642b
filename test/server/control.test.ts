import assert from 'node:assert/strict'
import { test } from 'node:test'
import { ruleFor, rulesOf, servedSets } from '../../src/server/rules.ts'
import { submitBuild } from '../../src/wire/builds.ts'
import { explainPackage, getQueueControl, requestRebuild, setQueueControl } from '../../src/wire/queue.ts'
import { drainWorker, listWorkers, registerWorker } from '../../src/wire/workers.ts'
import { aPackage, aResult, anArtifact, anyBuild, importPackages, pop, startServer } from '../help/server.ts'

for (const [what, item, expected] of [
  ['a glob on the source package', { source: 'linux-signed' }, { priority: 5, tags: 'big,kvm' }],
  ['the size of its files', { bytes: 3_000_000 }, { priority: null, tags: 'disk' }],
  ['the release', { release: 'sid' }, { priority: 0, tags: '' }],
  ['nothing', {}, { priority: null, tags: '' }],
] as const) {
  test(`a rule matches by ${what}`, () => {
    const rules = rulesOf([
      { source: 'linux*', priority: 5, tags: ['kvm', 'big'] },
      { larger_than: 2_000_000, tags: ['disk'] },
      { distribution: 'debian', release: 'sid', priority: 0 },
    ])

    const said = ruleFor(rules, {
      distribution: 'debian',
      release: 'trixie',
      source: 'hello',
      bytes: 10,
      ...item,
    })

    assert.deepEqual(said, expected)
  })
}

test('a rule with an unknown member is refused by its number', () => {
  assert.throws(() => rulesOf([{}, { sources: 'x' }]), /schedule\.rule number 2/)
})

test('a worker serves the tag sets it has wholly', () => {
  const rules = rulesOf([{ tags: ['big', 'kvm'] }, { tags: ['kvm'] }, { tags: ['disk'] }])

  assert.deepEqual(servedSets(rules, 'big,kvm'), ['', 'big,kvm', 'kvm'])
})

test('a job that needs tags goes only to a worker that has them', async (t) => {
  const server = await startServer(t, {
    settings: { 'schedule.rule': [{ source: 'chromium', tags: ['big'] }] },
  })
  const big = await server.worker('key-big')
  await big.call(registerWorker, { body: { name: 'big', tags: ['big'] } })
  await importPackages(server.call, [aPackage({ name: 'chromium' })])

  const small = await pop(server.call)
  const job = await pop(big.call)

  assert.equal(small, null)
  assert.equal(job?.job.name, 'chromium')
})

test('a paused queue hands nothing out, and tells since when and why', async (t) => {
  const { call } = await startServer(t)
  await importPackages(call, [aPackage()])
  await call(setQueueControl, { body: { paused: true, note: 'mirror is moving' } })

  const paused = await pop(call)
  const control = await call(getQueueControl)
  await call(setQueueControl, { body: { paused: false, note: null } })

  assert.equal(paused, null)
  assert.equal(control.note, 'mirror is moving')
  assert.equal((await pop(call))?.job.name, 'hello')
})

test('a draining worker keeps its job and gets no other', async (t) => {
  const { call } = await startServer(t)
  await importPackages(call, [aPackage({ name: 'a' }), aPackage({ name: 'b' })])
  const job = await pop(call)
  const [worker] = (await call(listWorkers)).records
  await call(drainWorker, { params: { id: worker?.id ?? 0 }, body: { draining: true } })

  const next = await pop(call)
  await call(submitBuild, { body: aResult(job!) })

  assert.equal(next, null)
  assert.equal((await call(listWorkers)).records[0]?.draining, true)
})

test('a package tells how many jobs go before it', async (t) => {
  const { call } = await startServer(t)
  await importPackages(call, [aPackage({ name: 'a' }), aPackage({ name: 'b' }), aPackage({ name: 'c' })])

  const [outlook] = await call(explainPackage, { query: { name: 'c' } })

  assert.equal(outlook?.ahead, 2)
  assert.equal(outlook?.job?.started_at, null)
  assert.equal(outlook?.able_workers, 1)
})

test('what failed for one reason is queued again at once', async (t) => {
  const { call } = await startServer(t)
  await importPackages(call, [aPackage({ name: 'a' }), aPackage({ name: 'b' })])
  const full = await pop(call)
  await call(submitBuild, { body: aResult(full!, { status: 'FAIL', reason: 'no_space' }) })
  const broken = await pop(call)
  await call(submitBuild, { body: aResult(broken!, { status: 'FAIL', reason: 'build_failed' }) })

  const { affected } = await call(requestRebuild, { body: { ...anyBuild, reason: 'no_space' } })

  assert.equal(affected, 1)
  assert.equal((await pop(call))?.job.name, full?.job.name)
})

test('jobs wait for a rule that came with a restart', async (t) => {
  const before = await startServer(t)
  await importPackages(before.call, [
    aPackage({ name: 'big', artifacts: [anArtifact({ name: 'big', size: 5000 })] }),
  ])
  await before.stop()

  const after = await startServer(t, {
    data: before.data,
    settings: { 'schedule.rule': [{ larger_than: 4000, tags: ['disk'] }] },
  })

  assert.equal(await pop(after.call), null)
})

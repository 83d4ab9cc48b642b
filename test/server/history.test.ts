import assert from 'node:assert/strict'
import { test, type TestContext } from 'node:test'
import { getPace, listChanges, listReleaseStates, listTrends } from '../../src/wire/history.ts'
import { aSigningWorker, aSmallDistribution } from '../help/pages.ts'
import { startServer, type TestServer } from '../help/server.ts'

async function aRebuiltDistribution(t: TestContext): Promise<TestServer> {
  const server = await startServer(t)
  await aSmallDistribution(server.call, await aSigningWorker(server))
  return server
}

test('each release tells its verdicts, over all and by architecture, and the reasons', async (t) => {
  const { call } = await aRebuiltDistribution(t)

  const states = await call(listReleaseStates)
  const [sid] = await call(listReleaseStates, { query: { distribution: 'debian', release: 'sid' } })

  assert.ok(states.some(({ release }) => release === 'sid'))
  assert.equal(sid?.release, 'sid')
  const sum = (key: 'good' | 'bad' | 'fail' | 'unknown'): number =>
    sid.architectures.reduce((all, each) => all + each[key], 0)
  assert.deepEqual(
    [sid.good, sid.bad, sid.fail, sid.unknown],
    [sum('good'), sum('bad'), sum('fail'), sum('unknown')],
  )
  assert.ok(sid.bad > 0 && sid.fail > 0)
  const reasons = Object.values(sid.reasons).reduce((all, n) => all + n, 0)
  assert.equal(reasons, sid.bad + sid.fail)
  assert.deepEqual(await call(listReleaseStates, { query: { distribution: 'nowhere' } }), [])
})

test('changes of verdicts are told newest first, by what turned and from where on', async (t) => {
  const { call } = await aRebuiltDistribution(t)

  const changes = await call(listChanges)
  const worse = await call(listChanges, { query: { turn: 'worse' } })
  const named = await call(listChanges, { query: { distribution: 'debian', release: 'sid', name: 'zlib' } })
  const older = await call(listChanges, { query: { before: changes[0]?.id ?? 0, limit: 1 } })

  assert.deepEqual(
    changes.map(({ name, before, status, turn }) => [name, before, status, turn]),
    [
      ['hello', 'GOOD', 'BAD', 'worse'],
      ['zlib', null, 'FAIL', 'other'],
    ],
  )
  assert.deepEqual(worse, [changes[0]])
  assert.deepEqual(named, [changes[1]])
  assert.deepEqual(older, [changes[1]])
  assert.deepEqual(await call(listChanges, { query: { maintainer: 'nobody' } }), [])
})

test('the pace tells what runs and waits, and who rebuilt how much', async (t) => {
  const { call } = await aRebuiltDistribution(t)

  const pace = await call(getPace)

  assert.ok(pace.per_hour > 0)
  assert.equal(pace.paused, false)
  const done = pace.done.reduce((all, { good, bad, fail }) => all + good + bad + fail, 0)
  assert.ok(done >= 4, `${done} rebuilds`)
})

test('the trend has no more days than were asked for, and knows when it has not changed', async (t) => {
  const { call, address } = await aRebuiltDistribution(t)

  const trends = await call(listTrends, { query: { days: 7 } })
  const reply = await fetch(`${address}/api/v1/trend`)
  const again = await fetch(`${address}/api/v1/trend`, {
    headers: { 'if-none-match': reply.headers.get('etag') ?? '' },
  })

  for (const { days } of trends) assert.ok(days.length <= 8)
  assert.equal(again.status, 304)
})

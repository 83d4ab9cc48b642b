import assert from 'node:assert/strict'
import { test } from 'node:test'
import { submitBuild } from '../../src/wire/builds.ts'
import { getDashboardV0, getLogV0, listPackagesV0, listQueueV0 } from '../../src/wire/v0.ts'
import { aPackage, aResult, importPackages, pop, startServer } from '../help/server.ts'

const day = 24 * 3_600_000

test('the list has what is listed, and for ninety days what has left', async (t) => {
  const server = await startServer(t)
  await importPackages(server.call, [aPackage({ name: 'old' }), aPackage({ name: 'stays' })])
  server.clock.ahead = day
  await importPackages(server.call, [aPackage({ name: 'stays' })])

  const soon = await server.call(listPackagesV0)
  server.clock.ahead = 100 * day
  await importPackages(server.call, [aPackage({ name: 'stays' }), aPackage({ name: 'new' })])
  // another list than before: one that took long on a busy machine is given out again for a while
  const later = await server.call(listPackagesV0, { query: { distro: 'debian' } })

  assert.deepEqual(
    soon.map((item) => item.name),
    ['stays', 'old'],
  )
  assert.deepEqual(
    later.map((item) => item.name),
    ['stays', 'new'],
  )
})

test('the log of a build is found by the id that the list gives', async (t) => {
  const { call } = await startServer(t)
  await importPackages(call, [aPackage({ name: 'a' }), aPackage({ name: 'b' })])
  for (const name of ['a', 'b']) {
    const job = await pop(call)
    await call(submitBuild, {
      body: aResult(job!, { build_log: new TextEncoder().encode(`log of ${name}`) }),
    })
  }

  const [item] = await call(listPackagesV0, { query: { name: 'b' } })
  const log = await call(getLogV0, { params: { id: item?.build_id ?? 0 } })

  assert.equal(new TextDecoder().decode(log), 'log of b')
})

test('the dashboard counts what waits, and shows what is built', async (t) => {
  const { call } = await startServer(t)
  await importPackages(call, [aPackage({ name: 'a' }), aPackage({ name: 'b' }), aPackage({ name: 'c' })])
  await pop(call)

  const dashboard = await call(getDashboardV0)
  const queue = await call(listQueueV0, { body: { limit: 2 } })

  assert.equal(dashboard.queue_length, 2)
  assert.deepEqual(
    dashboard.active_builds.map((build) => build.pkgbase.name),
    ['a'],
  )
  assert.deepEqual(dashboard.suites, { main: { good: 0, bad: 0, unknown: 3 } })
  assert.equal(queue.queue.length, 2)
})

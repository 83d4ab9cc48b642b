import assert from 'node:assert/strict'
import { test } from 'node:test'
import { submitBuild } from '../../src/wire/builds.ts'
import { eventsOf, watchEvents } from '../help/events.ts'
import { VerdictEvent } from '../../src/wire/gates.ts'
import { checked } from '../../src/wire/schema.ts'
import { aPackage, aResult, importPackages, pop, startServer, type TestServer } from '../help/server.ts'

async function aVerdict({ call }: TestServer, status: 'GOOD' | 'BAD' = 'GOOD'): Promise<void> {
  const job = await pop(call)
  await call(submitBuild, { body: aResult(job!, { status }) })
}

test('those who watch are told of a verdict when it is stored', async (t) => {
  const server = await startServer(t)
  await importPackages(server.call, [aPackage({ name: 'hello' })])
  const first = await watchEvents(`${server.address}/api/v1/events?kinds=verdict`)

  await aVerdict(server, 'BAD')

  const [event] = await first(1)
  const { name, status, before } = checked(VerdictEvent, event?.data, 'the event')
  assert.deepEqual({ name, status, before }, { name: 'hello', status: 'BAD', before: null })
})

test('who was away is told what happened since the last event it saw, and nothing twice', async (t) => {
  const server = await startServer(t)
  await importPackages(server.call, [aPackage({ name: 'a' }), aPackage({ name: 'b' })])
  await aVerdict(server)
  await aVerdict(server)

  const all = await eventsOf(`${server.address}/api/v1/events?after=0&kinds=verdict`, 2)
  const rest = await eventsOf(`${server.address}/api/v1/events?kinds=verdict`, 1, {
    'last-event-id': String(all[0]?.id),
  })

  assert.equal(all.length, 2)
  assert.deepEqual(
    rest.map((event) => event.id),
    [all[1]?.id],
  )
})

test('an import tells how many jobs it added, and to how many who wait for work', async (t) => {
  const server = await startServer(t)
  await importPackages(server.call, [aPackage({ name: 'a' }), aPackage({ name: 'b' })])

  const [event] = await eventsOf(`${server.address}/api/v1/events?after=0&kinds=queue`, 1)

  assert.deepEqual(event?.data, { change: 'added', count: 2, listeners: 1 })
})

test('a server that stops ends the streams of those who watch', async (t) => {
  const server = await startServer(t)
  const reply = await fetch(`${server.address}/api/v1/events`, { signal: AbortSignal.timeout(120_000) })

  await server.stop()

  assert.match(await reply.text(), /^: watching\n/)
})

import assert from 'node:assert/strict'
import { once } from 'node:events'
import { createServer, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { test, type TestContext } from 'node:test'
import { openWake, waitFor } from '../../src/worker/wake.ts'
import { silentLog } from '../../src/log.ts'

/** Numbers from 0 to 1, evenly. */
const dice = Array.from({ length: 1000 }, (_, index) => index / 1000)

for (const [count, listeners] of [
  [1, 300],
  [10, 300],
  [1, 2],
  [500, 300],
] as const) {
  test(`of ${listeners} who wait for ${count} jobs about as many ask at once, and all in the end`, () => {
    const waits = dice.map((random) => waitFor(count, listeners, random))

    const first = waits.filter((wait) => wait < 150).length * (listeners / 1000)
    const wanted = Math.min(count + 2, listeners)
    const isSpread = Math.max(...waits) > 150 && count > 100 // many jobs: all have a turn of the first, spread over a moment
    if (!isSpread) assert.ok(Math.abs(first - wanted) <= 1, `${first} of ${listeners}`)
    assert.ok(Math.max(...waits) < 2000)
  })
}

/** A server of events: what it is told to send, all who listen are sent. */
async function anEventServer(t: TestContext) {
  const streams: ServerResponse[] = []
  const server = createServer((_, reply) => {
    reply.writeHead(200, { 'content-type': 'text/event-stream' }).write(': watching\n\n')
    streams.push(reply)
    server.emit('listening to events')
  }).listen(0, '127.0.0.1')
  await once(server, 'listening')
  t.after(() => server.close().closeAllConnections())
  const { port } = server.address() as AddressInfo
  return {
    base: `http://127.0.0.1:${port}`,
    listened: () => once(server, 'listening to events'),
    tell(...events: object[]) {
      const text = events.map((data) => `event: queue\ndata: ${JSON.stringify(data)}\n\n`).join('')
      for (const stream of streams) stream.write(text)
    },
  }
}

/** A worker that listens, and has asked once, as all do when they begin to. */
async function aListener(t: TestContext, options: { random: () => number; lateMilliseconds: number }) {
  const events = await anEventServer(t)
  const over = new AbortController()
  t.after(() => over.abort())
  const listened = events.listened()
  const wake = openWake(events.base, silentLog, over.signal, options)
  await listened
  await wake(over.signal)
  return { ...events, wake: () => wake(over.signal) }
}

const added = { change: 'added', count: 1, listeners: 300 }
const started = { change: 'started', count: 1, listeners: 300 }

test('a worker whose turn is late does not ask for work that another has begun, until much later', async (t) => {
  let turn = 0
  const late = 3_600_000
  const { tell, wake } = await aListener(t, { random: () => turn, lateMilliseconds: late })
  turn = 0.05
  tell(added, started)
  const woken = wake().then(() => 'woken')

  const afterItsTurn = waitFor(1, 300, turn) + 500
  const first = await Promise.race([
    woken,
    new Promise((resolve) => setTimeout(resolve, afterItsTurn, 'asleep')),
  ])
  assert.equal(first, 'asleep')

  turn = 0
  tell({ ...added, count: 2 })
  assert.equal(await woken, 'woken')
})

test('a worker whose turn is late asks where nobody has begun the work', async (t) => {
  let turn = 0
  const { tell, wake } = await aListener(t, { random: () => turn, lateMilliseconds: 3_600_000 })
  turn = 0.99

  tell(added)

  await wake()
})

test('what others have begun may have been other work: a worker looks all the same, later', async (t) => {
  let turn = 0
  const { tell, wake } = await aListener(t, { random: () => turn, lateMilliseconds: 100 })
  turn = 0.99

  tell(added, started)

  await wake()
})

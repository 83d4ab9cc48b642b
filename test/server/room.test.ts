/** Large bodies: how much of them is in memory at once, and how long senders may take. */
import assert from 'node:assert/strict'
import { once } from 'node:events'
import { Agent, request, type IncomingMessage } from 'node:http'
import { connect } from 'node:net'
import { test } from 'node:test'
import { setImmediate as turn } from 'node:timers/promises'
import { openRooms } from '../../src/server/room.ts'
import { startServer } from '../help/server.ts'
import { until } from '../help/until.ts'

test('bodies that find no room wait until another leaves; the one that waits longest gets a pass', async () => {
  const enter = openRooms(100)
  const [first, second, third] = [enter(), enter(), enter()]
  let granted = ''
  const waitFor = async (name: string, room: ReturnType<typeof enter>, bytes: number): Promise<void> => {
    await room.grow(bytes)
    granted += `${name} `
  }

  assert.equal(first.grow(60), undefined)
  assert.equal(second.grow(40), undefined)
  const waits = [waitFor('second', second, 1000), waitFor('third', third, 50), waitFor('first', first, 50)]
  await turn() // whoever was let in has gone on by then
  assert.equal(granted, 'second ')
  assert.equal(second.grow(1000), undefined)

  second.leave()
  await waits[1]
  assert.equal(granted, 'second third ')
  third.leave()

  await Promise.all(waits)
  assert.equal(granted, 'second third first ')
})

test('a body that waits too long is refused, and gives back what it had', async () => {
  const enter = openRooms(100, 30)
  const [first, second, third, fourth] = [enter(), enter(), enter(), enter()]
  void first.grow(50)
  void second.grow(50)
  await third.grow(10) // with the pass

  await assert.rejects(async () => second.grow(1), /too many large bodies at once/)
  second.leave()
  third.leave()

  assert.equal(fourth.grow(50), undefined)
})

test('a body that leaves while it waits takes nothing with it', async () => {
  const enter = openRooms(100)
  const [first, second, third] = [enter(), enter(), enter()]
  void first.grow(100)
  await second.grow(100)
  const wait = third.grow(100)
  third.leave()
  second.leave()
  first.leave()
  await wait

  const [fourth, fifth] = [enter(), enter()]
  assert.equal(fourth.grow(1), undefined)
  assert.equal(fifth.grow(99), undefined)
})

/** Asks over a connection that is kept: what its first request takes is not part of the limits of the next. */
async function served(base: string, agent: Agent): Promise<number> {
  const [reply] = (await once(request(base + '/api/v1/health', { agent }).end(), 'response')) as [
    IncomingMessage,
  ]
  await reply.toArray()
  return reply.statusCode ?? 0
}

/** What the server says to somebody who sends this and no more, and after how many milliseconds it closes. */
async function sent(address: string, text: string): Promise<{ told: string; after: number }> {
  const { hostname, port } = new URL(address)
  const began = performance.now()
  const socket = connect(Number(port), hostname)
  let told = ''
  socket.on('data', (chunk: Buffer) => (told += chunk.toString()))
  socket.write(text)
  await new Promise((resolve) => socket.on('close', resolve))
  return { told, after: performance.now() - began }
}

test('who does not finish its headers or its body in time is told 408, and others are served meanwhile', async (t) => {
  const { address, cookie } = await startServer(t, {
    timeLimits: { headers: 300, request: 600 },
    settings: { 'worker.signup_secret': 'another' }, // so that the test asks nothing at first
  })
  const agent = new Agent({ keepAlive: true, maxSockets: 1 })
  t.after(() => agent.destroy())
  await until(async () => (await served(address, agent)) === 200)
  const slow = [
    sent(address, 'GET /api/v1/dashboard HTTP/1.1\r\nhost: a\r\nx-part: '),
    sent(
      address,
      `POST /api/v1/packages HTTP/1.1\r\nhost: a\r\nx-auth-cookie: ${cookie}\r\ncontent-type: application/json\r\ncontent-length: 100\r\n\r\n{"dist`,
    ),
  ]

  assert.equal(await served(address, agent), 200)
  for (const { told, after } of await Promise.all(slow)) {
    assert.match(told, /^HTTP\/1\.1 408 Request Timeout\r\n/)
    assert.match(told, /\r\n\r\n$/)
    assert.ok(after > 250, `closed after ${after} ms`)
  }
})

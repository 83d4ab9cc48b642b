/** Large bodies: how much of them is in memory at once, and how long senders may take. */
import assert from 'node:assert/strict'
import { connect } from 'node:net'
import { test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { openRooms } from '../../src/server/room.ts'
import { ask } from '../contracts/raw.ts'
import { startServer } from '../help/server.ts'

test('bodies that find no room wait until another leaves; the first never waits', async () => {
  const enter = openRooms(100)
  const [first, second, third] = [enter(), enter(), enter()]

  assert.equal(first.grow(60), undefined)
  assert.equal(second.grow(40), undefined)
  assert.equal(first.grow(1000), undefined)
  let granted = ''
  const waits = [
    Promise.resolve(second.grow(10)).then(() => (granted += 'second ')),
    Promise.resolve(third.grow(50)).then(() => (granted += 'third ')),
  ]
  await sleep(20)
  assert.equal(granted, '')

  first.leave()

  await Promise.all(waits)
  assert.equal(granted, 'second third ')
})

test('a body that waits too long is refused, and gives back what it had', async () => {
  const enter = openRooms(100, 30)
  const [first, second, third] = [enter(), enter(), enter()]
  void first.grow(50)
  void second.grow(50)

  await assert.rejects(async () => second.grow(1), /too many large bodies at once/)
  second.leave()

  assert.equal(third.grow(50), undefined)
})

test('a body that leaves while it waits takes nothing with it', async () => {
  const enter = openRooms(100)
  const [first, second] = [enter(), enter()]
  void first.grow(100)
  const wait = second.grow(100)
  second.leave()
  first.leave()
  await wait

  const [third, fourth] = [enter(), enter()]
  assert.equal(third.grow(1), undefined)
  assert.equal(fourth.grow(99), undefined)
})

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
  const { address, cookie } = await startServer(t, { timeLimits: { headers: 300, request: 600 } })
  const slow = [
    sent(address, 'GET /api/v1/dashboard HTTP/1.1\r\nhost: a\r\nx-part: '),
    sent(
      address,
      `POST /api/v1/packages HTTP/1.1\r\nhost: a\r\nx-auth-cookie: ${cookie}\r\ncontent-type: application/json\r\ncontent-length: 100\r\n\r\n{"dist`,
    ),
  ]

  const meanwhile = await ask(address, 'GET', '/api/v1/dashboard')

  assert.equal(meanwhile.status, 200)
  for (const { told, after } of await Promise.all(slow)) {
    assert.match(told, /^HTTP\/1\.1 408 Request Timeout\r\n/)
    assert.match(told, /\r\n\r\n$/)
    assert.ok(after > 250, `closed after ${after} ms`)
  }
})

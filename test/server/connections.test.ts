/** Connections are bounded, and those that nobody uses starve nobody. */
import assert from 'node:assert/strict'
import { once } from 'node:events'
import { Agent, createServer, request, type IncomingMessage } from 'node:http'
import { connect, type AddressInfo, type Socket } from 'node:net'
import { test, type TestContext } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { boundConnections, possibleConnections } from '../../src/server/connections.ts'
import { startServer } from '../help/server.ts'

type Reply = { status: number; headers: IncomingMessage['headers']; text: string }

/** Asks over a connection of its own, or that of an agent. */
function asked(
  base: string,
  path: string,
  headers: Record<string, string> = {},
  agent?: Agent,
): Promise<Reply> {
  return new Promise((resolve, reject) => {
    const sent = request(
      base + path,
      { headers, agent: agent ?? new Agent({ keepAlive: false }) },
      (reply) => {
        let text = ''
        reply
          .on('data', (chunk: Buffer) => (text += chunk.toString()))
          .on('end', () => resolve({ status: reply.statusCode ?? 0, headers: reply.headers, text }))
      },
    )
    sent.on('error', reject).end()
  })
}

/** A stream of events that stays; `isOpen` tells whether it still does. */
async function watching(t: TestContext, base: string): Promise<{ isOpen: () => boolean }> {
  let isOpen = true
  const sent = request(`${base}/api/v1/events`, { agent: new Agent({ keepAlive: false }) })
  const [reply] = (await once(sent.end(), 'response')) as [IncomingMessage]
  reply.resume().on('close', () => (isOpen = false))
  sent.on('error', () => undefined)
  t.after(() => sent.destroy())
  return { isOpen: () => isOpen }
}

/** Connections that were used once and are kept. */
async function idling(t: TestContext, base: string, count: number): Promise<Agent[]> {
  const agents = Array.from({ length: count }, () => new Agent({ keepAlive: true, maxSockets: 1 }))
  t.after(() => agents.forEach((agent) => agent.destroy()))
  for (const agent of agents) await asked(base, '/api/v1/health', {}, agent)
  return agents
}

test('where all connections are busy, others are told to come back, and who shows a key or cookie is served', async (t) => {
  const { address, cookie } = await startServer(t, { settings: { 'http.max_connections': 4 } })
  await asked(address, '/api/v1/health') // the test's own calls have ended
  await sleep(1100)
  const streams = [await watching(t, address), await watching(t, address), await watching(t, address)]
  streams.push(await watching(t, address))

  const refused = await asked(address, '/api/v1/health')
  const admin = await asked(address, '/api/v0/workers', { 'x-auth-cookie': cookie })
  const worker = await asked(address, '/api/v1/queue', { 'x-worker-key': 'key-1' })

  assert.equal(refused.status, 503)
  assert.match(refused.text, /^too many connections at once; try again in \d+ seconds$/)
  assert.deepEqual(
    [refused.headers['content-type'], refused.headers.connection, Number(refused.headers['retry-after']) > 0],
    ['text/plain; charset=utf-8', 'close', true],
  )
  assert.deepEqual([admin.status, worker.status], [200, 200])
  assert.ok(
    streams.every(({ isOpen }) => isOpen()),
    'streams stay',
  )
})

test('connections that are kept and not used make room, the longest idle first; streams stay', async (t) => {
  const { address } = await startServer(t, { settings: { 'http.max_connections': 6 } })
  await sleep(1100)
  const stream = await watching(t, address)
  const kept = await idling(t, address, 5)
  await sleep(1100)
  const last = kept.at(-1)
  await asked(address, '/api/v1/health', {}, last) // it is in use

  const statuses: number[] = []
  for (const _ of [1, 2, 3]) {
    const held = new Agent({ keepAlive: true, maxSockets: 1 })
    t.after(() => held.destroy())
    statuses.push((await asked(address, '/api/v1/health', {}, held)).status)
  }

  const sockets = kept.map(({ freeSockets }) => Object.values(freeSockets).flat().length)
  assert.deepEqual(statuses, [200, 200, 200])
  assert.ok(stream.isOpen())
  assert.deepEqual(sockets.slice(0, 2).concat(sockets.slice(-1)), [0, 0, 1])
})

test('connections that never ask anything make room as well', async (t) => {
  const { address } = await startServer(t, { settings: { 'http.max_connections': 3 } })
  const { hostname, port } = new URL(address)
  const silent: Socket[] = []
  for (let count = 0; count < 3; count++) {
    const socket = connect(Number(port), hostname)
    await once(socket, 'connect')
    socket.on('error', () => undefined).write('GET / HT')
    silent.push(socket)
  }
  t.after(() => silent.forEach((socket) => socket.destroy()))
  await sleep(1100)

  assert.equal((await asked(address, '/api/v1/health')).status, 200)
})

test('one address has half of the connections at most, unless many stand behind it', async (t) => {
  for (const [isOpen, expected] of [
    [false, [200, 200, 503]],
    [true, [200, 200, 200]],
  ] as const) {
    const server = createServer((incoming, outgoing) => {
      if (admits(incoming, outgoing)) outgoing.writeHead(200).write('for ever')
    })
    const admits = boundConnections(server, 4, () => isOpen)
    await once(server.listen(0, '127.0.0.1'), 'listening')
    t.after(() => {
      server.closeAllConnections()
      server.close()
    })
    const base = `http://127.0.0.1:${(server.address() as AddressInfo).port}`
    const statuses: number[] = []
    for (const _ of expected) {
      const sent = request(base, { agent: new Agent({ keepAlive: false }) })
      const [reply] = (await once(sent.end(), 'response')) as [IncomingMessage]
      reply.resume()
      statuses.push(reply.statusCode ?? 0)
    }

    assert.deepEqual(statuses, expected)
  }
})

test('there are no more connections than this process may open files', () => {
  const limits = (files: string): string =>
    `Limit  Soft Limit  Hard Limit  Units\nMax open files            ${files}  files\n`

  assert.equal(possibleConnections(4096, limits('524288               524288')), 4096)
  assert.equal(possibleConnections(4096, limits('1024                 1024')), 614)
  assert.equal(possibleConnections(4096, limits('100                  100')), 1)
  assert.equal(possibleConnections(4096, limits('unlimited            unlimited')), 4096)
  assert.equal(possibleConnections(7, ''), 7)
})

test('a server that nobody could connect to does not start', async (t) => {
  await assert.rejects(
    startServer(t, { settings: { 'http.max_connections': 0 } }),
    /max_connections must be at least 1/,
  )
})

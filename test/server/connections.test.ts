/** Connections are bounded, and those that nobody uses starve nobody. */
import assert from 'node:assert/strict'
import { once } from 'node:events'
import { Agent, createServer, request, type IncomingMessage } from 'node:http'
import { connect, type AddressInfo } from 'node:net'
import { test, type TestContext } from 'node:test'
import { boundConnections, possibleConnections } from '../../src/server/connections.ts'
import { startServer } from '../help/server.ts'
import { until } from '../help/until.ts'

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

/** A connection that is kept when it was used. */
function anAgent(t: TestContext): Agent {
  const agent = new Agent({ keepAlive: true, maxSockets: 1 })
  t.after(() => agent.destroy())
  return agent
}

/** A stream, such as that of events, that stays; `isOpen` tells whether it still does. */
async function watching(
  t: TestContext,
  base: string,
  path = '/api/v1/events',
): Promise<{ status: number; isOpen: () => boolean }> {
  let isOpen = true
  const sent = request(base + path, { agent: new Agent({ keepAlive: false }) })
  const [reply] = (await once(sent.end(), 'response')) as [IncomingMessage]
  reply.resume().on('close', () => (isOpen = false))
  sent.on('error', () => undefined)
  t.after(() => sent.destroy())
  return { status: reply.statusCode ?? 0, isOpen: () => isOpen }
}

/**
 * A bare server whose connections are bounded. It answers at once, and where `/for-ever` is asked for never to the end;
 * `until` waits until it has seen so many connections, ends of such, and requests to their end.
 */
async function bounded(t: TestContext, most: number, isOpen = true) {
  const clock = { now: 0 }
  const seen = { connections: 0, closed: 0, ended: 0 }
  const server = createServer((incoming, outgoing) => {
    if (!admits(incoming, outgoing)) return
    outgoing.once('close', () => seen.ended++)
    if (incoming.url === '/for-ever') outgoing.writeHead(200).write('and on')
    else outgoing.end('well')
  })
  const admits = boundConnections(
    server,
    most,
    () => isOpen,
    () => clock.now,
  )
  server.on('connection', (socket) => {
    seen.connections++
    socket.once('close', () => seen.closed++)
  })
  await once(server.listen(0, '127.0.0.1'), 'listening')
  t.after(() => {
    server.closeAllConnections()
    server.close()
  })
  const base = `http://127.0.0.1:${(server.address() as AddressInfo).port}`
  return { base, clock, until: (wanted: Partial<typeof seen>) => until(() => isSubset(wanted, seen)) }
}

function isSubset(wanted: Record<string, number>, seen: Record<string, number>): boolean {
  return Object.entries(wanted).every(([name, count]) => seen[name] === count)
}

test('where all connections are busy, others are told to come back, and who shows a key or cookie is served', async (t) => {
  // with a secret that the test has not, so that it has no connection of its own
  const settings = { 'http.max_connections': 4, 'worker.signup_secret': 'another' }
  const { address, cookie } = await startServer(t, { settings })
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
  const server = await bounded(t, 6)
  const stream = await watching(t, server.base, '/for-ever')
  const kept = Array.from({ length: 5 }, () => anAgent(t))
  let ended = 0
  const use = async (agent: Agent | undefined): Promise<number> => {
    const { status } = await asked(server.base, '/', {}, agent)
    await server.until({ ended: ++ended }) // its connection is idle from now on
    return status
  }
  for (const agent of kept) await use(agent)
  const early = await asked(server.base, '/', {}, anAgent(t))
  await server.until({ closed: 1 })
  server.clock.now += 1000
  await use(kept.at(-1))

  const statuses = [await use(anAgent(t)), await use(anAgent(t)), await use(anAgent(t))]

  assert.equal(early.status, 503, 'who came just now is about to ask')
  assert.deepEqual(statuses, [200, 200, 200])
  assert.ok(stream.isOpen())
  const isKept = (agent: Agent | undefined): boolean =>
    Object.values(agent?.freeSockets ?? {}).flat().length === 1
  await until(() => kept.filter(isKept).length === 2, 'that three connections are closed')
  assert.deepEqual(kept.map(isKept), [false, false, false, true, true])
})

test('connections that never ask anything make room as well', async (t) => {
  const server = await bounded(t, 3)
  const { hostname, port } = new URL(server.base)
  for (let count = 1; count <= 3; count++) {
    const socket = connect(Number(port), hostname)
    t.after(() => socket.destroy())
    socket.on('error', () => undefined).write('GET / HT')
    await server.until({ connections: count })
  }
  server.clock.now += 1000

  assert.equal((await asked(server.base, '/')).status, 200)
})

test('one address has half of the connections at most, unless many stand behind it', async (t) => {
  for (const [isOpen, expected] of [
    [false, [200, 200, 503]],
    [true, [200, 200, 200]],
  ] as const) {
    const { base } = await bounded(t, 4, isOpen)
    const statuses: number[] = []
    for (const _ of expected) statuses.push((await watching(t, base, '/for-ever')).status)

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

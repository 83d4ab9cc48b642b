import assert from 'node:assert/strict'
import { once } from 'node:events'
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { test, type TestContext } from 'node:test'
import { eventsIn, followedEvents, type ServerEvent } from '../src/event-stream.ts'
import { patienceMilliseconds, until } from './help/until.ts'

async function* cut(text: string, size: number): AsyncGenerator<Uint8Array> {
  const bytes = new TextEncoder().encode(text)
  for (let at = 0; at < bytes.length; at += size) yield bytes.subarray(at, at + size)
}

for (const size of [1, 2, 3, 7, 1000]) {
  test(`events are read from pieces of ${size} bytes`, async () => {
    const text =
      ': hello\n\nid: 5\nevent: log\ndata: {"text":"ä€😀"}\n\nretry: 3\ndata: one\r\ndata: two\r\n\r\ndata: cut off'

    const events = await Array.fromAsync(eventsIn(cut(text, size)))

    assert.deepEqual(events, [
      { id: '5', kind: 'log', data: '{"text":"ä€😀"}' },
      { id: '5', kind: 'message', data: 'one\ntwo' },
    ])
  })
}

test('an event without end is refused', async () => {
  const endless = cut(`data: ${'x'.repeat(5 * 1024 * 1024)}`, 65_536)

  await assert.rejects(Array.fromAsync(eventsIn(endless)), /too large/)
})

type Answer = (request: IncomingMessage, response: ServerResponse) => void

/** A server that answers the nth request with the nth of these, and later ones with the last. */
async function aServer(
  t: TestContext,
  ...answers: Answer[]
): Promise<{ url: string; heard: IncomingMessage[] }> {
  const heard: IncomingMessage[] = []
  const server = createServer((request, response) => {
    heard.push(request)
    answers[Math.min(heard.length, answers.length) - 1]?.(request, response)
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  t.after(() => {
    server.closeAllConnections()
    server.close()
  })
  return { url: `http://127.0.0.1:${(server.address() as AddressInfo).port}/events`, heard }
}

/** @param ending `breaks`: once its one event is among those that were read, else it might get lost with the connection */
function sends(text: string, ending: 'ends' | 'stays' | { breaks: readonly ServerEvent[] }): Answer {
  return (_, response) => {
    response.writeHead(200, { 'content-type': 'text/event-stream' })
    response.write(text)
    if (ending === 'ends') response.end()
    else if (ending !== 'stays') void until(() => ending.breaks.length > 0).finally(() => response.destroy())
  }
}
const says =
  (status: number): Answer =>
  (_, response) =>
    void response.writeHead(status).end()

/** Reads so many events; they are in `events`, and what was told of lost connections in `lost`, as they come. */
async function read(
  url: string,
  most: number,
  given: { events?: ServerEvent[]; lost?: string[]; after?: string } = {},
): Promise<void> {
  const { events = [], lost = [], after = null } = given
  const onLost = (why: string): void => void lost.push(why)
  for await (const event of followedEvents(url, {
    after,
    signal: AbortSignal.timeout(patienceMilliseconds),
    onLost,
    pause: 10,
  })) {
    events.push(event)
    if (events.length === most) break
  }
}

test('a stream that breaks, ends or is refused for a while goes on after the last event', async (t) => {
  const [events, lost]: [ServerEvent[], string[]] = [[], []]
  const { url, heard } = await aServer(
    t,
    sends('id: 7\ndata: one\n\n', { breaks: events }),
    says(503),
    says(503),
    sends('id: 8\ndata: two\n\n', 'ends'),
    sends(': nothing new\n\n', 'ends'),
    sends('id: 9\ndata: three\n\n', 'stays'),
  )

  await read(url, 3, { events, lost })

  assert.deepEqual(
    events.map(({ data }) => data),
    ['one', 'two', 'three'],
  )
  assert.deepEqual(
    heard.map(({ headers }) => headers['last-event-id']),
    [undefined, '7', '7', '7', '8', '8'],
  )
  assert.equal(lost.length, 4, 'the second refusal told nothing new')
})

test('what is known already is told with the first question', async (t) => {
  const { url, heard } = await aServer(t, sends('id: 100\ndata: x\n\n', 'stays'))

  await read(url, 1, { after: '99' })

  assert.equal(heard[0]?.headers['last-event-id'], '99')
})

for (const [what, answer, expected] of [
  ['a server that knows no events', says(404), /404/],
  ['a reply that is no stream', ((_, response) => void response.end('hello')) as Answer, /sends no events/],
  ['a server that fails at once', says(500), /500/],
] as const) {
  test(`${what} is told to the person, and not asked again`, async (t) => {
    const { url, heard } = await aServer(t, answer)

    await assert.rejects(read(url, 1), expected)

    assert.equal(heard.length, 1)
  })
}

test('a refusal after the connection was lost ends it', async (t) => {
  const events: ServerEvent[] = []
  const { url } = await aServer(t, sends('data: one\n\n', { breaks: events }), says(403))

  await assert.rejects(read(url, 2, { events }), /403/)
  assert.equal(events.length, 1)
})

test('a stop ends the waiting with its reason', async (t) => {
  const { url } = await aServer(t, sends('data: one\n\n', 'stays'))
  const stop = new AbortController()
  const events = followedEvents(url, { after: null, signal: stop.signal, onLost: () => undefined })
  await events.next()

  const waiting = events.next()
  stop.abort(new Error('enough'))

  await assert.rejects(waiting, /enough/)
})

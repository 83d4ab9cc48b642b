import assert from 'node:assert/strict'
import { test } from 'node:test'
import { openEventTail, openNews, openPulse, openTold, openWatchers } from '../../src/server/events.ts'
import { openLiveLogs } from '../../src/server/livelog.ts'
import { happened } from '../../src/server/store/events.ts'
import { migrate } from '../../src/server/store/schema.ts'
import { openSqlite } from '../../src/server/store/sqlite.ts'
import type { Database } from '../../src/server/store/database.ts'
import { aPackage, importPackages, pop, startServer, temporaryFolder } from '../help/server.ts'
import type { TestContext } from 'node:test'

async function aDatabase(t: TestContext): Promise<Database> {
  const file = `${await temporaryFolder(t)}/test.db`
  const db = await openSqlite(file)
  t.after(() => db.close())
  await migrate(db, file)
  return db
}

async function write(db: Database, count: number): Promise<void> {
  await db.transaction(async (tx) => {
    const data = { change: 'added', jobs: 1 } as unknown as Parameters<typeof happened>[0]['data']
    for (let index = 0; index < count; index++)
      await tx.all(happened({ kind: 'queue', data } as Parameters<typeof happened>[0], '2026-01-01T00:00:00'))
  })
}

test('streams are bounded by address and in all, and a place is free when one ends', () => {
  const watchers = openWatchers(false, 5, 2)
  const first = new AbortController()
  const { signal } = new AbortController()
  watchers.enter('192.0.2.1', first.signal)
  watchers.enter('192.0.2.1', signal)

  assert.throws(() => watchers.enter('192.0.2.1', signal), /too many of your address/)
  watchers.enter('2001:db8::1', signal)
  watchers.enter('2001:db8::ffff', signal)
  assert.throws(() => watchers.enter('2001:db8::2', signal), /too many of your address/)
  watchers.enter('192.0.2.2', signal)
  assert.throws(() => watchers.enter('192.0.2.3', signal), /too many watch already/)
  first.abort()
  watchers.enter('192.0.2.1', signal)
})

test('those behind a proxy that does not name them share only the bound of all', () => {
  const watchers = openWatchers(true, 4, 1)
  const { signal } = new AbortController()
  for (let index = 0; index < 4; index++) watchers.enter('127.0.0.1', signal)

  assert.throws(() => watchers.enter('127.0.0.1', signal), /too many watch already/)
})

test('everyone who watches is told every event once, in order, however many are written meanwhile', async (t) => {
  const db = await aDatabase(t)
  const tail = openEventTail(db)
  await write(db, 10)
  const watch = async (from: number): Promise<number[]> => {
    const seen: number[] = []
    while ((seen.at(-1) ?? from) < 3010)
      for (const event of await tail.after(seen.at(-1) ?? from)) seen.push(event.id)
    return seen
  }

  const watching = [0, 4, 10, 10].map(watch)
  for (let round = 0; round < 10; round++) await write(db, 300)
  const [all = [], ...later] = await Promise.all(watching)

  const expected = Array.from({ length: 3010 }, (_, index) => index + 1)
  assert.deepEqual(all, expected)
  assert.deepEqual(later, [expected.slice(4), expected.slice(10), expected.slice(10)])
})

test('what is committed before one asks is in the answer, also while others ask', async (t) => {
  const db = await aDatabase(t)
  const tail = openEventTail(db)
  for (let id = 1; id <= 50; id++) {
    const others = [tail.after(id - 1), tail.after(id - 1)]
    await write(db, 1)

    const events = await tail.after(id - 1)

    assert.deepEqual(
      events.map((event) => event.id),
      [id],
    )
    await Promise.all(others)
  }
})

test('a beat wakes all who wait, others having their turn in between, and who waits again waits for the next', async () => {
  const pulse = openPulse()
  const { signal } = new AbortController()
  const order: string[] = []
  const all = Array.from({ length: 120 }, () => pulse.next(signal).then(() => order.push('watcher')))
  pulse.hear(() => order.push('hearer'))

  pulse.beat()
  const again = pulse.next(signal)
  setImmediate(() => order.push('other'))
  await Promise.all(all)

  assert.equal(order[0], 'hearer')
  assert.deepEqual([order.length, order.indexOf('other') < 120], [122, true])
  assert.equal(await Promise.race([again, Promise.resolve('waits')]), 'waits')
  pulse.beat()
  assert.equal(await again, true)
})

test('streams are woken by events alone, which are looked for once for all, and only while there is a stream', async () => {
  const pulse = openPulse()
  let [looks, newest] = [0, 0]
  const news = openNews(pulse, { newest: async () => (looks++, newest) })
  const [first, second] = [new AbortController(), new AbortController()]
  pulse.beat()
  assert.equal(looks, 0)
  for (const { signal } of [first, second]) news.enter(signal)
  let woken = 0
  const waiting = [first, second].map(({ signal }) => news.next(signal).then((isBeat) => isBeat && woken++))

  pulse.beat()
  await new Promise(setImmediate)
  assert.deepEqual([looks, woken], [1, 0])
  newest = 7
  pulse.beat()
  await Promise.all(waiting)

  assert.deepEqual([looks, woken], [2, 2])
  for (const each of [first, second]) each.abort()
  pulse.beat()
  assert.equal(looks, 2)
})

test('an event is written once for all who are told it, with as many who wait as there are', () => {
  const told = openTold()
  const event = { id: 3, at: '', kind: 'queue', data: '{"change":"added"}' }

  const [one, other, later] = [told([event], 5), told([event], 5), told([event], 6)]

  assert.equal(one, other)
  assert.match(Buffer.from(later).toString(), /"listeners":6}/)
})

test('the end of a log that grows is whole lines, numbered from its beginning', async (t) => {
  const logs = openLiveLogs(await temporaryFolder(t))
  const text = Array.from({ length: 1000 }, (_, index) => `line ${index + 1}\n`).join('')
  const tailOf = async (most: number): Promise<[number, string]> => {
    const { linesBefore, text: bytes, end } = await logs.tail(7, most)
    assert.ok(end <= text.length)
    return [linesBefore, new TextDecoder().decode(bytes)]
  }
  assert.deepEqual(await tailOf(100), [0, ''])

  await logs.append(7, 0, Buffer.from(text.slice(0, 5000)))
  const [before] = await tailOf(100)
  await logs.append(7, 5000, Buffer.from(`${text.slice(5000)}half`))

  assert.ok(before > 400)
  assert.deepEqual(await tailOf(24), [998, 'line 999\nline 1000\n'])
  assert.deepEqual(await tailOf(100_000), [0, text])
})

test('who follows a log goes on after the last piece it has seen, wherever it began', async (t) => {
  const server = await startServer(t)
  await importPackages(server.call, [aPackage({ name: 'hello' })])
  const job = await pop(server.call)
  const address = `${server.address}/api/v1/queue/${job?.job.id ?? 0}/log`
  const written = await fetch(`${address}?offset=0`, {
    method: 'POST',
    body: 'one\ntwo\n',
    headers: { 'x-worker-key': 'key-1' },
  })
  assert.equal(written.status, 204)

  const reply = await fetch(`${address}?follow=1&offset=0`, { headers: { 'last-event-id': '4' } })
  const reader = reply.body?.pipeThrough(new TextDecoderStream()).getReader()
  let told = ''
  while (!told.includes('\n\n')) told += (await reader?.read())?.value ?? assert.fail('the stream ended')
  await reader?.cancel()

  assert.match(told, /^id: 8\nevent: log\ndata: .*"text":"two\\n"/)
})

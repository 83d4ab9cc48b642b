import assert from 'node:assert/strict'
import { test } from 'node:test'
import { dates } from '../../src/server/revision.ts'
import { rebuilt } from '../contracts/asking.ts'
import { ask } from '../contracts/raw.ts'
import { aPackage, anArtifact, importPackages, startServer, temporaryFolder } from '../help/server.ts'
import { until } from '../help/until.ts'

const at = (seconds: number): Date => new Date(1_800_000_000_000 + seconds * 1000)

/** Dates of a series of [number of changes, seconds at which somebody asks], in seconds; none: nobody may be told 304. */
function seen(series: readonly (readonly [number, number])[]): [number, boolean][] {
  const dated = dates()
  return series.map(([count, seconds]) => {
    const { modified, isSettled } = dated(count, at(seconds))
    return [(modified.getTime() - at(0).getTime()) / 1000, isSettled]
  })
}

for (const [what, series, expected] of [
  [
    'a change has the end of its second as its date, once that is over',
    [
      [1, 0.1],
      [1, 0.9],
      [1, 1],
      [1, 7],
    ],
    [
      [0, false],
      [0, false],
      [1, true],
      [1, true],
    ],
  ],
  [
    'two changes in one second have one date, which is not told before both were made',
    [
      [1, 0.1],
      [2, 0.6],
      [2, 5],
    ],
    [
      [0, false],
      [0, false],
      [1, true],
    ],
  ],
  [
    'after a date was told no change has it',
    [
      [1, 0.9],
      [1, 1],
      [2, 1],
      [2, 2],
    ],
    [
      [0, false],
      [1, true],
      [1, false],
      [2, true],
    ],
  ],
  [
    'a clock that is set back gives no date twice',
    [
      [1, 100.5],
      [1, 101],
      [2, 50],
      [3, 50.5],
      [3, 101.5],
      [3, 102],
    ],
    [
      [100, false],
      [101, true],
      [50, false],
      [50, false],
      [101, false],
      [102, true],
    ],
  ],
  [
    'an answer from before a change, given after it, is no news',
    [
      [2, 0.5],
      [1, 3],
      [2, 3],
    ],
    [
      [0, false],
      [0, false],
      [1, true],
    ],
  ],
] as const) {
  test(what, () => {
    assert.deepEqual(seen(series), expected)
  })
}

/** On a busy machine a long list is given out again for a while, with the date of what it shows. */
async function untilNew(address: string, target: string): Promise<void> {
  await until(async () => (await ask(address, 'GET', target)).text.includes('other'), `a new ${target}`)
}

test('who knows only a date is told of the second change in a second', async (t) => {
  const { address, call, clock } = await startServer(t)
  clock.stopped = at(0).getTime() + 100
  await importPackages(call, [aPackage()])
  const targets = [
    '/api/v0/pkgs/list',
    '/api/v1/packages/binary',
    '/api/v1/packages/source',
    '/api/v1/builds',
  ]
  await rebuilt(call, { status: 'FAIL', reason: 'build_failed' })
  const first = await Promise.all(targets.map((target) => ask(address, 'GET', target)))
  clock.stopped += 500
  await importPackages(call, [aPackage({ name: 'other', artifacts: [anArtifact({ name: 'other' })] })], {
    release: 'trixie',
  })
  await rebuilt(call)
  await untilNew(address, targets[0] ?? '')
  const since = (reply: (typeof first)[number], index: number) =>
    ask(address, 'GET', targets[index] ?? '', {
      headers: { 'if-modified-since': reply.headers['last-modified'] ?? '' },
    })

  const within = await Promise.all(first.map(since))
  clock.stopped += 10_000
  const later = await Promise.all(first.map(since))
  const known = await Promise.all(later.map(since))

  assert.deepEqual(
    [...within, ...later].map(({ status }) => status),
    Array(8).fill(200),
  )
  assert.ok([...within, ...later].every(({ text }) => text.includes('other')))
  assert.deepEqual(
    known.map(({ status, text }) => [status, text]),
    known.map(() => [304, '']),
  )
})

test('a date that no mail or web program writes is no date', async (t) => {
  const { address, call, clock } = await startServer(t)
  await importPackages(call, [aPackage()])
  await ask(address, 'GET', '/api/v0/pkgs/list')
  clock.ahead = 2000

  for (const [given, status] of [
    ['Fri, 01 Jan 2100 00:00:00 GMT', 304],
    ['1 Jan 2100 00:00 +0200', 304],
    ['2100-01-01', 200],
    ['2100', 200],
    ['Fri, 01 Jan 1999 00:00:00 GMT', 200],
    ['', 200],
  ] as const) {
    const reply = await ask(address, 'GET', '/api/v0/pkgs/list', { headers: { 'if-modified-since': given } })

    assert.equal(reply.status, status, given)
  }
})

test('the numbers of the dashboard are told anew when a wait ends, also before that is written down', async (t) => {
  const { address, call, clock } = await startServer(t, { tick: 1000 })
  clock.stopped = at(0).getTime()
  await importPackages(call, [aPackage()])
  await rebuilt(call, { status: 'BAD' })
  const dashboard = (headers: Record<string, string> = {}) =>
    ask(address, 'GET', '/api/v1/dashboard', { headers })
  await dashboard()
  clock.stopped += 5000
  const before = await dashboard()
  const known = { 'if-none-match': before.headers['etag'] ?? '' }
  const dated = { 'if-modified-since': before.headers['last-modified'] ?? '' }
  const unchanged = [await dashboard(known), await dashboard(dated)]

  clock.stopped += 25 * 3_600_000
  const after = [await dashboard(known), await dashboard(dated)]
  await until(
    async () => (await dashboard()).headers['etag']?.includes('T') === false,
    'that the end of the wait is written down',
  )
  const later = [await dashboard(known), await dashboard(dated)]

  assert.match(before.text, /"available":0,"pending":1/)
  assert.deepEqual(
    [...unchanged, ...after, ...later].map(({ status }) => status),
    [304, 304, 200, 200, 200, 200],
  )
  for (const { text } of [...after, ...later]) assert.match(text, /"available":1,"pending":0/)
})

test('what settings decide has another tag under other settings', async (t) => {
  const tags: (string | undefined)[] = []
  const data = await temporaryFolder(t)
  for (const tries of [3, 3, 4]) {
    const server = await startServer(t, { data, settings: { 'schedule.max_retries': tries } })
    for (const target of ['/api/v1/meta/policy', '/api/v1/queue/why?name=hello'])
      tags.push((await ask(server.address, 'GET', target)).headers['etag'])
    await server.stop()
  }

  const policies = tags.filter((_, index) => index % 2 === 0)
  assert.equal(policies[0], policies[1])
  assert.notEqual(policies[1], policies[2])
  assert.notEqual(tags[3]?.split('-').at(-1), tags[5]?.split('-').at(-1))
})

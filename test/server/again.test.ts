/** Kept pages that are answered without anything being built for them. */
import assert from 'node:assert/strict'
import { ServerResponse, request, type IncomingMessage } from 'node:http'
import { once } from 'node:events'
import { test } from 'node:test'
import { openAgain, type Reply } from '../../src/server/again.ts'
import { aSigningWorker, aSmallDistribution, rebuildNext } from '../help/pages.ts'
import { aPackage, importPackages, startServer } from '../help/server.ts'
import { until } from '../help/until.ts'

type Got = { status: number; headers: [string, string][]; body: Buffer }

/** A page as it comes over the wire, without the date. */
async function get(address: string, headers: Record<string, string> = {}): Promise<Got> {
  const asked = request(address, { headers }).end()
  const [reply] = (await once(asked, 'response')) as [IncomingMessage]
  const body = Buffer.concat(await reply.toArray())
  const names = Object.entries(reply.headers).filter(([name]) => name !== 'date')
  return {
    status: reply.statusCode ?? 0,
    headers: names.map(([name, value]): [string, string] => [name, String(value)]).toSorted(),
    body,
  }
}

test('a page that is asked for again is the same to the byte, with the same headers', async (t) => {
  const server = await startServer(t)
  await aSmallDistribution(server.call, await aSigningWorker(server))

  for (const path of [
    '/',
    '/queue',
    '/workers',
    '/reasons',
    '/search?q=a',
    '/about',
    '/debian/sid?sort=newest',
  ])
    for (const coding of ['identity', 'gzip', 'zstd', 'br']) {
      const headers = { 'accept-encoding': coding }
      const first = await get(server.address + path, headers)
      assert.deepEqual(await get(server.address + path, headers), first, `${path} ${coding}`)
      const etag = first.headers.find(([name]) => name === 'etag')?.[1] ?? ''
      const unchanged = await get(server.address + path, { ...headers, 'if-none-match': etag })
      assert.equal(unchanged.status, 304)
      assert.deepEqual(unchanged.body, Buffer.alloc(0))
      const told = new Map(unchanged.headers)
      assert.equal(told.get('etag'), etag)
      assert.equal(told.get('access-control-allow-origin'), '*')
      assert.match(told.get('content-security-policy') ?? '', /default-src 'none'/)
      assert.equal(told.get('content-length'), undefined)
    }
})

test('a page that is asked for again tells what has happened since', async (t) => {
  const server = await startServer(t)
  await importPackages(server.call, [aPackage({ name: 'hello' })])
  const page = async (): Promise<string> => (await get(`${server.address}/debian/sid/hello`)).body.toString()
  const search = async (): Promise<string> => (await get(`${server.address}/search?q=second`)).body.toString()
  assert.equal(await page(), await page())
  assert.doesNotMatch(await search(), /second-package/)
  assert.doesNotMatch(await search(), /second-package/)

  await rebuildNext(await aSigningWorker(server), 'BAD')
  await importPackages(server.call, [aPackage({ name: 'hello' }), aPackage({ name: 'second-package' })])

  assert.match(await page(), /BAD/)
  // On a busy machine what took long to count is told again for a while.
  await until(async () => (await search()).includes('second-package'), 'that the new package is found')
})

test('the host and the scheme that a caller sees are those of his own addresses', async (t) => {
  const server = await startServer(t)
  const linkOf = async (headers: Record<string, string>): Promise<string | undefined> =>
    /curl [^<]*(https?:\/\/[^/<]+)/.exec((await get(`${server.address}/about`, headers)).body.toString())?.[1]

  for (let times = 0; times < 2; times++) {
    assert.equal(await linkOf({ host: 'one.example' }), 'http://one.example')
    assert.equal(await linkOf({ host: 'two.example', 'x-forwarded-proto': 'https' }), 'https://two.example')
  }
})

test('replies are kept as far as there is room, the latest', () => {
  const again = openAgain(250)
  const ask = (url: string, method = 'GET'): IncomingMessage =>
    ({ method, url, headers: {} }) as IncomingMessage
  const reply: Reply = { headers: { etag: 'W/"1"' }, bytes: Buffer.alloc(100), isCurrent: async () => true }

  for (const url of ['/a', '/b', '/b', '/c', `/${'x'.repeat(2000)}`]) again.remember(ask(url), reply)
  again.remember(ask('/d', 'HEAD'), reply)

  const isKnown = (incoming: IncomingMessage): boolean =>
    again.answer(incoming, new ServerResponse(incoming)) !== false
  const known = ['/a', '/b', '/c', '/d', `/${'x'.repeat(2000)}`].filter((url) => isKnown(ask(url)))
  assert.deepEqual(known, ['/b', '/c'])
  assert.equal(isKnown(ask('/b', 'HEAD')), false)
})

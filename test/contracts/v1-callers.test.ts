/** Who may do what: every endpoint against every kind of caller. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { Endpoint } from '../../src/wire/endpoint.ts'
import { hasBody } from '../../src/wire/endpoint.ts'
import { endpoints } from '../../src/wire/index.ts'
import { aPackage, importPackages, signupSecret, startServer, type TestServer } from '../help/server.ts'
import { popped } from './asking.ts'
import { ask, documentOf, type RawReply } from './raw.ts'

/** Each kind of caller by the headers it sends. */
function callers(cookie: string): Record<string, Record<string, string>> {
  return {
    nobody: {},
    'a wrong cookie': { 'x-auth-cookie': `${cookie.slice(0, -1)}!` },
    'an empty cookie': { 'x-auth-cookie': '' },
    'a longer cookie': { 'x-auth-cookie': `${cookie}x` },
    'an unknown worker': { 'x-worker-key': 'nobody knows me' },
    'an unknown worker with a wrong secret': { 'x-worker-key': 'new', 'x-signup-secret': 'wrong' },
    admin: { 'x-auth-cookie': cookie },
    worker: { 'x-worker-key': 'key-1' },
    signup: { 'x-worker-key': 'key-1', 'x-signup-secret': signupSecret },
  }
}

/** Who is let in where: what the cookie opens is not opened by a worker's key, and the other way round. */
const welcome: Record<Endpoint['caller'], readonly string[]> = {
  anyone: Object.keys(callers('')),
  'anyone or admin': Object.keys(callers('')),
  admin: ['admin'],
  worker: ['worker', 'signup'],
  signup: ['signup'],
  'worker or admin': ['admin'], // a worker only for itself: see below
}

const closed = endpoints.filter((row) => !row.caller.startsWith('anyone') && row.path.startsWith('/api/'))

test('the table of endpoints is what it should be', () => {
  const open = endpoints.filter(({ caller, method }) => caller === 'anyone' && method !== 'GET')
  const paths = open.map(({ path }) => path).filter((path) => !path.startsWith('/api/v0/'))

  assert.deepEqual(paths, ['/api/v1/attestations', '/api/v1/packages/lookup'])
  for (const [method, path, caller] of [
    ['POST', '/api/v1/builds', 'worker'],
    ['POST', '/api/v1/packages', 'admin'],
    ['POST', '/api/v1/queue', 'admin'],
    ['DELETE', '/api/v1/queue', 'admin'],
    ['DELETE', '/api/v1/queue/{id}', 'admin'],
    ['POST', '/api/v1/queue/pop', 'worker'],
    ['POST', '/api/v1/queue/{id}/ping', 'worker'],
    ['POST', '/api/v1/workers', 'signup'],
    ['DELETE', '/api/v1/workers/{id}', 'worker or admin'],
    ['GET', '/api/v1/workers', 'anyone or admin'],
    ['GET', '/api/v0/workers', 'admin'],
  ]) {
    const row = endpoints.find((each) => each.method === method && each.path === path)
    assert.equal(row?.caller, caller, `${method} ${path}`)
  }
})

for (const row of closed) {
  test(`${row.method} ${row.path} is for ${row.caller}`, async (t) => {
    const { address, cookie } = await startServer(t)
    const target = row.path.replace(/\{\w+\}/g, '4711')
    const given = hasBody(row)
      ? { body: '{}', type: 'application/json' }
      : { body: undefined, type: undefined }

    for (const [name, headers] of Object.entries(callers(cookie))) {
      const typed = given.type === undefined ? headers : { ...headers, 'content-type': given.type }
      const sent = given.body === undefined ? {} : { body: given.body }
      const { status, text } = await ask(address, row.method, target, { headers: typed, ...sent })
      const isWelcome = welcome[row.caller].includes(name)
      assert.equal(status === 403, !isWelcome, `${name}: ${status} ${text}`)
      if (!isWelcome)
        assert.equal(text, row.path.startsWith('/api/v0') ? 'Authentication failed\n' : '', name)
      assert.ok(status < 500, `${name}: ${status}`)
    }
  })
}

function register(address: string, headers: Record<string, string>): Promise<RawReply> {
  const type = { 'content-type': 'application/json' }
  return ask(address, 'POST', '/api/v1/workers', { headers: { ...type, ...headers }, body: '{"name":"w"}' })
}

test('registration is closed unless the operator opens it', async (t) => {
  const { address, isClosed, cookie } = await startServer(t, { settings: { 'worker.signup_secret': null } })

  assert.equal(isClosed, true)
  for (const headers of [
    {},
    { 'x-signup-secret': '' },
    { 'x-signup-secret': 'null' },
    { 'x-auth-cookie': cookie },
  ])
    assert.equal((await register(address, { 'x-worker-key': 'key', ...headers })).status, 403)
})

test('a list of workers opens it for those keys, without a secret', async (t) => {
  const settings = { 'worker.signup_secret': null, 'worker.authorized_workers': ['listed'] }
  const { address, isClosed } = await startServer(t, { settings })

  assert.equal(isClosed, false)
  assert.equal((await register(address, { 'x-worker-key': 'listed' })).status, 204)
  assert.equal((await register(address, { 'x-worker-key': 'other' })).status, 403)
  assert.equal((await register(address, {})).status, 403)
})

test('with a list and a secret both must be right', async (t) => {
  const settings = { 'worker.signup_secret': 'both', 'worker.authorized_workers': ['listed'] }
  const { address } = await startServer(t, { settings })
  const tried = async (key: string, secret: string): Promise<number> =>
    (await register(address, { 'x-worker-key': key, 'x-signup-secret': secret })).status

  assert.deepEqual(
    [await tried('listed', 'both'), await tried('listed', 'no'), await tried('other', 'both')],
    [204, 403, 403],
  )
})

test('a worker taken off the list is refused at its next request', async (t) => {
  const data = await startServer(t)
  const { call } = data
  await importPackages(call, [aPackage()])
  const { job } = await popped(call)
  await data.stop()
  const settings = { 'worker.authorized_workers': ['another'] }

  const again = await startServer(t, {
    data: data.data,
    settings: { ...settings, 'worker.signup_secret': null },
  })

  const ping = await ask(again.address, 'POST', `/api/v1/queue/${job.id}/ping`, {
    headers: { 'x-worker-key': 'key-1', 'content-length': '0' },
  })
  assert.equal(ping.status, 403)
})

test('the key of a worker may be any visible text, the empty one too; other bytes count as none', async (t) => {
  const { address } = await startServer(t)
  const secret = { 'x-signup-secret': signupSecret }

  assert.equal((await register(address, { ...secret, 'x-worker-key': '' })).status, 204)
  assert.equal((await register(address, { ...secret, 'x-worker-key': 'a b/c+d=' })).status, 204)
  assert.equal((await register(address, { ...secret, 'x-worker-key': 'k\xe9y' })).status, 403)
  assert.equal((await register(address, secret)).status, 403)
})

test('registering again gives the same worker a new name', async (t) => {
  const { address } = await startServer(t)
  const headers = {
    'x-worker-key': 'key-1',
    'x-signup-secret': signupSecret,
    'content-type': 'application/json',
  }

  await ask(address, 'POST', '/api/v1/workers', { headers, body: '{"name":"renamed"}' })

  const { total, records } = documentOf<{ total: number; records: { name: string }[] }>(
    await ask(address, 'GET', '/api/v1/workers'),
  )
  assert.deepEqual([total, records[0]?.name], [1, 'renamed'])
})

test('a worker removes itself, not others; the administrator removes any', async (t) => {
  const { address, worker, cookie } = await startServer(t)
  await worker('key-2')
  await worker('key-3')
  const remove = async (id: number, headers: Record<string, string>): Promise<number> =>
    (await ask(address, 'DELETE', `/api/v1/workers/${id}`, { headers })).status

  assert.equal(await remove(1, { 'x-worker-key': 'key-2' }), 403)
  assert.equal(await remove(2, { 'x-worker-key': 'key-2' }), 204)
  assert.equal(await remove(2, { 'x-worker-key': 'key-2' }), 403)
  assert.equal(await remove(3, { 'x-auth-cookie': cookie }), 204)
  assert.equal(await remove(3, { 'x-auth-cookie': cookie }), 404)
})

test('no reply tells a worker’s key, the cookie or the sign-up secret', async (t) => {
  const { address, cookie, worker, call } = await startServer(t)
  await worker('a key that is secret', 'named')
  await importPackages(call, [aPackage()])
  await popped(call)

  // A backup is the database itself, for administrators; a stream of events does not end.
  const left = ['/api/v1/events', '/api/v1/backup']
  for (const row of endpoints.filter(({ method, path }) => method === 'GET' && !left.includes(path))) {
    const target = row.path.replace(/\{\w+\}/g, '1')
    const { text } = await ask(address, 'GET', target, { headers: { 'x-auth-cookie': cookie } })
    for (const secret of ['a key that is secret', 'key-1', cookie, signupSecret])
      assert.equal(text.includes(secret), false, `${target} tells ${secret}`)
  }
})

/** Makes 40 failed attempts at one moment, and tells what the first and the last of them were answered. */
async function failures(
  { address, clock }: TestServer,
  headers: Record<string, string> = {},
): Promise<unknown[]> {
  clock.stopped ??= Date.now() // they count within a minute
  const statuses: number[] = []
  for (let n = 0; n < 40; n++) {
    const sent = { headers: { 'x-auth-cookie': 'wrong', ...headers } }
    statuses.push((await ask(address, 'DELETE', '/api/v1/queue', sent)).status)
  }
  return [statuses[0], statuses.at(-1)]
}

test('who fails again and again has to wait, with a short secret even if it is right; after a minute it is let in', async (t) => {
  const server = await startServer(t, { settings: { 'auth.cookie': 'short' } })
  const { address, clock } = server
  const drop = async (): Promise<RawReply> =>
    ask(address, 'DELETE', '/api/v1/queue', { headers: { 'x-auth-cookie': 'short' } })

  assert.deepEqual(await failures(server), [403, 429])
  const waits = await drop()
  assert.deepEqual([waits.status, waits.headers['retry-after']], [429, '60'])
  assert.equal((await ask(address, 'GET', '/api/v1/dashboard')).status, 200)
  clock.stopped = (clock.stopped ?? 0) + 61_000
  assert.equal((await drop()).status, 204)
})

test('secrets that nobody can guess open at once, whatever others behind the same proxy do', async (t) => {
  const server = await startServer(t)
  const { address, cookie, worker } = server
  const key = 'a key of 44 characters, as those of workers are'
  await worker(key)
  const drop = async (given: Record<string, string>): Promise<number> =>
    (await ask(address, 'DELETE', '/api/v1/queue', { headers: given })).status

  assert.deepEqual(await failures(server), [403, 429])

  assert.equal(await drop({ 'x-auth-cookie': cookie }), 204)
  assert.equal(await drop({ 'x-auth-cookie': `${cookie}x` }), 429)
  const ping = { headers: { 'x-worker-key': key, 'content-length': '0' } }
  assert.equal((await ask(address, 'POST', '/api/v1/queue/4711/ping', ping)).status, 404)
  const both = { headers: { 'x-worker-key': 'x'.repeat(44), 'x-auth-cookie': 'guess' } }
  assert.equal((await ask(address, 'DELETE', '/api/v1/workers/1', both)).status, 429)
})

test('guesses where no secret is needed count too, and open nothing once they are many', async (t) => {
  const { address, clock } = await startServer(t, { settings: { 'auth.cookie': 'short' } })
  clock.stopped = Date.now()
  const told = async (cookie: string): Promise<unknown> => {
    const reply = await ask(address, 'GET', '/api/v1/workers/1', { headers: { 'x-auth-cookie': cookie } })
    return documentOf<{ address: string }>(reply).address
  }

  assert.equal(await told('short'), '127.0.0.1')
  for (let n = 0; n < 40; n++) assert.equal(await told('wrong'), '')
  assert.equal(await told('short'), '')
})

test('a proxy that tells addresses keeps callers apart by the last it names, and IPv6 by network', async (t) => {
  const settings = { 'http.real_ip_header': 'x-forwarded-for', 'auth.cookie': 'short' }
  const server = await startServer(t, { settings })
  const drop = async (from: string): Promise<number> => {
    const headers = { 'x-auth-cookie': 'short', 'x-forwarded-for': from }
    return (await ask(server.address, 'DELETE', '/api/v1/queue', { headers })).status
  }

  await failures(server, { 'x-forwarded-for': '192.0.2.9, 192.0.2.1' })
  await failures(server, { 'x-forwarded-for': '2001:db8::1' })

  assert.deepEqual([await drop('192.0.2.1'), await drop('192.0.2.9')], [429, 204])
  assert.equal(await drop('2001:db8:0:0:ffff::7'), 429)
  assert.equal(await drop('2001:db8:0:1::1'), 204)
})

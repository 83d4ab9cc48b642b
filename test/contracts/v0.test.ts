/** API v0, as status tools and web pages from before 2026 read it. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { submitBuild } from '../../src/wire/builds.ts'
import {
  aPackage,
  aResult,
  anArtifact,
  anArtifactResult,
  importPackages,
  startServer,
} from '../help/server.ts'
import { popped } from './asking.ts'
import { ask, documentOf, type RawReply } from './raw.ts'

type PackageV0 = Record<string, unknown> & { name: string; version: string; status: string; build_id: number }

/** GOOD, BAD (with a diff) and FAIL packages, one that runs, one that waits, and one version that is history. */
async function aServerWithHistory(t: Parameters<typeof startServer>[0]) {
  const server = await startServer(t)
  const { call } = server
  await importPackages(call, [aPackage({ name: 'good', version: '0.9' })])
  await call(submitBuild, { body: aResult(await popped(call)) })
  const names = ['good', 'bad', 'fail', 'runs', 'waits']
  const packages = names.map((name) =>
    aPackage({ name, artifacts: [anArtifact({ name, component: name === 'waits' ? null : 'main' })] }),
  )
  for (const count of packages.keys()) await importPackages(call, packages.slice(0, count + 1)) // so that jobs come in this order
  const diff = new TextEncoder().encode('a diff\n')
  for (const status of ['GOOD', 'BAD', 'FAIL'] as const) {
    const job = await popped(call)
    const artifacts = job.artifacts.map(({ name, url }) =>
      anArtifactResult({
        name,
        url,
        status: status === 'BAD' ? 'BAD' : 'GOOD',
        diffoscope: status === 'BAD' ? diff : null,
      }),
    )
    await call(submitBuild, { body: aResult(job, { status, artifacts: status === 'FAIL' ? [] : artifacts }) })
  }
  await popped(call)
  const get = (target: string, headers: Record<string, string> = {}): Promise<RawReply> =>
    ask(server.address, 'GET', `/api/v0${target}`, { headers })
  const list = async (query: string): Promise<PackageV0[]> => documentOf(await get(`/pkgs/list${query}`))
  return { ...server, get, list }
}

test('the list of packages', async (t) => {
  const { get, list, address, clock } = await aServerWithHistory(t)

  await t.test('is a bare array, with every member: what is listed, then what left lately', async () => {
    const all = await list('')
    const [old, others] = [all.at(-1), all.slice(0, -1)]

    assert.deepEqual(old, {
      name: 'good',
      version: '0.9',
      status: 'GOOD',
      distro: 'debian',
      suite: 'main',
      architecture: 'amd64',
      artifact_url: 'http://mirror.example/pool/good_0.9_amd64.deb',
      build_id: 1,
      built_at: '2026-11-22T19:40:00.500',
      has_diffoscope: false,
      has_attestation: false,
    })
    const found = others.map(({ name, status, suite, build_id, has_diffoscope }) => [
      name,
      status,
      suite,
      build_id,
      has_diffoscope,
    ])
    assert.deepEqual(found, [
      ['good', 'GOOD', 'main', 2, false],
      ['bad', 'BAD', 'main', 3, true],
      ['fail', 'UNKWN', 'main', 4, false],
      ['runs', 'UNKWN', 'main', null, false],
      ['waits', 'UNKWN', '', null, false],
    ])
  })

  for (const [query, names] of [
    ['?name=good', ['good', 'good']],
    ['?status=BAD', ['bad']],
    ['?status=UNKWN', ['fail', 'runs', 'waits']],
    ['?suite=main&status=GOOD', ['good', 'good']],
    ['?suite=', ['waits']],
    ['?distro=archlinux', []],
    ['?distro=debian&architecture=amd64&name=bad', ['bad']],
    ['?architecture=arm64', []],
    ['?unknown=1&name=bad', ['bad']],
  ] as const) {
    await t.test(`${query} → ${names.join(', ') || 'none'}`, async () => {
      assert.deepEqual(
        (await list(query)).map(({ name }) => name),
        names,
      )
    })
  }

  for (const query of ['?status=FAIL', '?status=good', '?status=', '?name=a&name=b']) {
    await t.test(`${query} is 400`, async () => {
      assert.equal((await get(`/pkgs/list${query}`)).status, 400)
    })
  }

  await t.test('has a date, and whoever knows it gets 304; a date that is none is ignored', async () => {
    await get('/pkgs/list')
    clock.ahead += 2000 // the second in which the last change was seen is over
    const date = (await get('/pkgs/list')).headers['last-modified'] ?? ''
    const since = async (given: string): Promise<RawReply> =>
      get('/pkgs/list', { 'if-modified-since': given })

    assert.match(date, /^\w{3}, \d\d \w{3} \d{4} \d\d:\d\d:\d\d GMT$/)
    assert.deepEqual([(await since(date)).status, (await since(date)).text], [304, ''])
    assert.equal((await since('Thu, 01 Jan 1970 00:00:00 GMT')).status, 200)
    assert.equal((await since('yesterday')).status, 200)
  })

  await t.test('is the same packed and whole', async () => {
    const whole = await ask(address, 'GET', '/api/v0/pkgs/list')
    const packed = await ask(address, 'GET', '/api/v0/pkgs/list', { headers: { 'accept-encoding': 'zstd' } })

    assert.equal(packed.headers['content-encoding'], 'zstd')
    assert.ok(packed.bytes.length < whole.bytes.length)
  })
})

test('logs, diffs and attestations take the build’s id from the list', async (t) => {
  const { get, list } = await aServerWithHistory(t)
  const [bad] = await list('?name=bad')
  const id = bad?.build_id ?? 0

  assert.deepEqual((await get(`/builds/${id}/log`)).text, 'the log\n')
  const diff = await get(`/builds/${id}/diffoscope`)
  assert.deepEqual([diff.text, diff.headers['content-type']], ['a diff\n', 'text/plain; charset=utf-8'])
  for (const target of [`/builds/${id}/attestation`, '/builds/4711/log', '/builds/1/diffoscope']) {
    const { status, text } = await get(target)
    assert.deepEqual([status, text], [404, 'Not found\n'], target)
  }
})

test('the dashboard and the queue', async (t) => {
  const { get, address, call } = await aServerWithHistory(t)
  await importPackages(call, [aPackage({ name: 'late' })], { release: 'forky' })

  const dashboard = documentOf<{
    suites: unknown
    active_builds: Record<string, unknown>[]
    queue_length: number
    now: string
  }>(await get('/dashboard'))
  assert.deepEqual(dashboard.suites, {
    '': { good: 0, unknown: 1, bad: 0 },
    main: { good: 1, unknown: 3, bad: 1 },
  })
  const [active, ...others] = dashboard.active_builds
  assert.equal(others.length, 0)
  assert.deepEqual(active?.['pkgbase'], {
    name: 'runs',
    version: '1.0-1',
    distro: 'debian',
    suite: '',
    architecture: 'amd64',
    input_url: 'https://buildinfos.example/runs_1.0-1_amd64.buildinfo',
    artifacts: [{ name: 'runs', version: '1.0-1', url: 'http://mirror.example/pool/runs_1.0-1_amd64.deb' }],
  })
  assert.deepEqual([active?.['version'], active?.['worker_id']], ['1.0-1', 1])
  assert.equal(typeof active?.['last_ping'], 'string')
  assert.equal(dashboard.queue_length, 4) // bad and fail again, waits, late
  assert.match(dashboard.now, /^\d{4}-\d\d-\d\dT[\d:.]+$/)

  const headers = { 'content-type': 'application/json' }
  const queue = async (body: string): Promise<RawReply> =>
    ask(address, 'POST', '/api/v0/queue/list', { headers, body })
  const all = documentOf<{ now: string; queue: { pkgbase: { name: string } }[] }>(
    await queue('{"limit":null}'),
  )
  assert.deepEqual(
    all.queue.map(({ pkgbase }) => pkgbase.name),
    ['runs', 'waits', 'late', 'bad', 'fail'],
  )
  assert.equal(documentOf<{ queue: unknown[] }>(await queue('{"limit":2}')).queue.length, 2)
  assert.equal(documentOf<{ queue: unknown[] }>(await queue('{"limit":-1}')).queue.length, 5)
  assert.equal((await queue('limit')).status, 400)
})

test('routes that wrote read their body, then answer 501 without one, whoever asks', async (t) => {
  const { address } = await startServer(t)
  const headers = { 'content-type': 'application/json' }

  for (const [path, body] of [
    ['/pkgs/sync', { distro: 'd', suite: 's', groups: [] }],
    ['/queue/push', { name: 'n', priority: 1, distro: 'd', suite: 's' }],
    ['/queue/pop', { supported_backends: [] }],
    ['/queue/drop', { name: 'n', distro: 'd', suite: 's' }],
    ['/pkg/requeue', { priority: 1, reset: true }],
    ['/build/ping', { queue_id: 1 }],
    ['/build/report', { queue: {}, build_log: [], rebuilds: [] }],
  ] as const) {
    const gone = await ask(address, 'POST', `/api/v0${path}`, { headers, body: JSON.stringify(body) })
    assert.deepEqual([gone.status, gone.text], [501, ''], path)
    assert.equal((await ask(address, 'POST', `/api/v0${path}`, { headers, body: '{}' })).status, 400, path)
  }
})

test('workers are for the administrator, without their keys', async (t) => {
  const { address, cookie } = await startServer(t)
  const get = (headers: Record<string, string>): Promise<RawReply> =>
    ask(address, 'GET', '/api/v0/workers', { headers })

  const refused = await get({})
  assert.deepEqual([refused.status, refused.text], [403, 'Authentication failed\n'])
  const [worker] = documentOf<Record<string, unknown>[]>(await get({ 'x-auth-cookie': cookie }))
  assert.deepEqual(
    [worker?.['addr'], worker?.['address'], worker?.['online'], 'key' in (worker ?? {})],
    ['127.0.0.1', '127.0.0.1', true, false],
  )
})

test('the public key is that of v1', async (t) => {
  const { address } = await startServer(t)

  const [old, now] = await Promise.all(
    ['/api/v0/public-keys', '/api/v1/meta/public-keys'].map((path) => ask(address, 'GET', path)),
  )

  assert.equal(old?.text, now?.text)
})

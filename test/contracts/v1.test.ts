/** How HTTP is spoken: statuses, headers, codings, paths and bodies, as older clients know them. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import zlib from 'node:zlib'
import { aReport, aPackage, aResult, anArtifactResult, importPackages, startServer } from '../help/server.ts'
import { submitBuild } from '../../src/wire/builds.ts'
import { popped } from './asking.ts'
import { ask, decoded, documentOf, type RawReply, type RawRequest } from './raw.ts'

const json = { 'content-type': 'application/json' }

/** A server with one package, rebuilt GOOD with a log, and one BAD with a diff. */
async function aBusyServer(t: Parameters<typeof startServer>[0]) {
  const server = await startServer(t)
  await importPackages(server.call, [aPackage(), aPackage({ name: 'worse' })])
  const log = new TextEncoder().encode('a log of some length\n'.repeat(100))
  for (const status of ['GOOD', 'BAD'] as const) {
    const job = await popped(server.call)
    const artifacts = job.artifacts.map(({ name, url }) =>
      anArtifactResult({ name, url, status, diffoscope: status === 'BAD' ? log : null }),
    )
    await server.call(submitBuild, { body: aResult(job, { status, build_log: log, artifacts }) })
  }
  const get = (target: string, headers: Record<string, string> = {}): Promise<RawReply> =>
    ask(server.address, 'GET', target, { headers })
  const post = (target: string, given: RawRequest): Promise<RawReply> =>
    ask(server.address, 'POST', target, {
      ...given,
      headers: { 'x-auth-cookie': server.cookie, 'x-worker-key': 'key-1', ...given.headers },
    })
  return { ...server, get, post, log }
}

test('replies', async (t) => {
  const { get, address } = await aBusyServer(t)

  await t.test('JSON replies are application/json, without a charset', async () => {
    const reply = await get('/api/v1/dashboard')

    assert.equal(reply.status, 200)
    assert.equal(reply.headers['content-type'], 'application/json')
    assert.equal(reply.headers['content-encoding'], undefined)
    assert.deepEqual(documentOf(reply), {
      rebuilds: { good: 1, bad: 1, fail: 0, unknown: 0 },
      jobs: { running: 0, available: 0, pending: 1 },
      reasons: { content_differs: 1 },
    })
  })

  for (const [target, status] of [
    ['/api/v1/nothing', 404],
    ['/api/v0/queue', 404],
    ['/api/v2/dashboard', 404],
    ['/api', 404],
    ['/api/v1/queue/99999', 404],
    ['/api/v1/builds/99999', 404],
    ['/api/v1/builds/99999/log', 404],
    ['/api/v1/packages/source/99999', 404],
    ['/api/v1/packages/binary/99999', 404],
    ['/api/v1/workers/99999', 404],
    ['/api/v1/builds/1/artifacts/99999', 404],
    ['/api/v1/builds/2/artifacts/1', 404],
    ['/api/v1/builds/1/artifacts/1/diffoscope', 404],
    ['/api/v1/builds/1/artifacts/1/attestation', 404],
  ] as const) {
    await t.test(`GET ${target} is ${status}`, async () => {
      assert.equal((await get(target)).status, status)
    })
  }

  await t.test('404 has no body, no type and a length of 0', async () => {
    for (const target of ['/api/v1/nothing', '/api/v1/queue/99999']) {
      const { status, text, headers } = await get(target)

      assert.deepEqual([status, text, headers['content-length']], [404, '', '0'])
      assert.equal(headers['content-type'], undefined)
    }
  })

  for (const id of ['abc', '99999999999', '4294967296', '1.5', '-1', '0x1', '%00']) {
    await t.test(`an id that is none of 32 bits (${id}) is 404`, async () => {
      assert.equal((await get(`/api/v1/builds/${id}`)).status, 404)
    })
  }

  await t.test('the artifacts of an unknown build are an empty list', async () => {
    const reply = await get('/api/v1/builds/99999/artifacts')

    assert.deepEqual([reply.status, documentOf(reply)], [200, []])
  })

  for (const [method, target] of [
    ['PUT', '/api/v1/dashboard'],
    ['DELETE', '/api/v1/dashboard'],
    ['POST', '/api/v1/dashboard'],
    ['PATCH', '/api/v1/queue'],
    ['POST', '/api/v1/queue/1'],
    ['TRACE', '/api//v1/queue'],
  ] as const) {
    await t.test(`a method that a path does not know is 404: ${method} ${target}`, async () => {
      const { status, text } = await ask(address, method, target)

      assert.deepEqual([status, text], [404, ''])
    })
  }

  await t.test('HEAD answers as GET does, without the body', async () => {
    const reply = await ask(address, 'HEAD', '/api/v1/packages/binary')

    assert.deepEqual([reply.status, reply.bytes.length], [200, 0])
    assert.equal(reply.headers['content-type'], 'application/json')
  })

  await t.test('web pages of other sites may read, and may not send secrets', async () => {
    const asked = await ask(address, 'OPTIONS', '/api/v1/packages/binary', {
      headers: { origin: 'https://other.example', 'access-control-request-method': 'GET' },
    })
    const read = await get('/api/v1/packages/binary', { origin: 'https://other.example' })

    assert.equal(asked.status, 204)
    assert.equal(asked.headers['access-control-allow-origin'], '*')
    assert.doesNotMatch(asked.headers['access-control-allow-methods'] ?? '', /POST|DELETE|PUT/)
    assert.equal(asked.headers['access-control-allow-headers'], undefined)
    assert.equal(asked.headers['access-control-allow-credentials'], undefined)
    assert.equal(read.headers['access-control-allow-origin'], '*')
  })
})

test('paths', async (t) => {
  const { get, post } = await aBusyServer(t)

  for (const target of [
    '/api/v1/builds/',
    '/api/v1//builds',
    '//api/v1/builds',
    '/api///v1/builds//',
    '/api/v1/builds/?limit=1',
    '/api/v1//builds?limit=1',
  ]) {
    await t.test(`${target} reaches the builds`, async () => {
      const reply = await get(target)

      assert.equal(reply.status, 200)
      assert.equal(documentOf<{ total: number }>(reply).total, 2)
    })
  }

  await t.test('a body arrives whole by a path that is tidied up', async () => {
    const body = JSON.stringify({ name: 'hello' })

    const reply = await post('//api/v1//queue/', { headers: json, body })

    assert.deepEqual([reply.status, documentOf(reply)], [200, { affected: 1 }])
  })
})

test('a base path', async (t) => {
  const { address } = await startServer(t, { settings: { 'http.base_path': '/amd64/' } })
  const origin = new URL(address).origin

  assert.equal(new URL(address).pathname, '/amd64')
  for (const target of ['/amd64/api/v1/dashboard', '/amd64//api/v1/dashboard/', '/api/v1/dashboard']) {
    await t.test(`${target} is served`, async () => {
      assert.equal((await ask(origin, 'GET', target)).status, 200)
    })
  }
  await t.test('what only begins like it is not', async () => {
    assert.equal((await ask(origin, 'GET', '/amd64x/api/v1/dashboard')).status, 404)
  })
})

test('codings of replies', async (t) => {
  const { get, log } = await aBusyServer(t)
  const target = '/api/v1/packages/binary'
  const plain = (await get(target)).text

  for (const [accepted, coding] of [
    [undefined, undefined],
    ['', undefined],
    ['*', undefined],
    ['identity', undefined],
    ['zstd', 'zstd'],
    ['gzip', 'gzip'],
    ['deflate', 'deflate'],
    ['br', 'br'],
    ['GZIP', 'gzip'],
    ['gzip, zstd', 'zstd'],
    ['gzip, deflate, br, zstd', 'br'],
    ['gzip;q=0.5, zstd;q=0.4', 'gzip'],
    ['zstd;q=0, gzip', 'gzip'],
    ['gzip;q=0', undefined],
    ['compress', undefined],
    ['identity;q=1, gzip;q=0.5', undefined],
    ['gzip;q=0.5, *;q=0', 'gzip'],
  ] as const) {
    await t.test(`accept-encoding ${accepted ?? 'absent'} → ${coding ?? 'as it is'}`, async () => {
      const reply = await get(target, accepted === undefined ? {} : { 'accept-encoding': accepted })

      assert.equal(reply.status, 200)
      assert.equal(reply.headers['content-encoding'], coding)
      assert.equal(decoded(reply).toString(), plain)
      assert.match(reply.headers['vary'] ?? '', /accept-encoding/i)
    })
  }

  for (const accepted of ['identity;q=0', '*;q=0', 'compress, identity;q=0']) {
    await t.test(`a caller that takes nothing (${accepted}) is told so: 406`, async () => {
      assert.equal((await get(target, { 'accept-encoding': accepted })).status, 406)
    })
  }

  await t.test('a log goes out as the frame that is kept, with its length', async () => {
    const reply = await get('/api/v1/builds/1/log', { 'accept-encoding': 'zstd' })

    assert.equal(reply.headers['content-encoding'], 'zstd')
    assert.equal(reply.headers['content-length'], String(reply.bytes.length))
    assert.deepEqual([...reply.bytes.subarray(0, 4)], [0x28, 0xb5, 0x2f, 0xfd])
    assert.deepEqual(decoded(reply), Buffer.from(log))
  })

  for (const accepted of ['', 'gzip', 'br', 'deflate', 'zstd;q=0', 'zstd;q=0.1']) {
    await t.test(`a log is the same for a caller that takes ${accepted || 'no coding'}`, async () => {
      const reply = await get('/api/v1/builds/1/log', { 'accept-encoding': accepted })

      assert.deepEqual(decoded(reply), Buffer.from(log))
      assert.equal(reply.headers['vary'], 'accept-encoding')
    })
  }

  for (const target of ['/api/v1/builds/1/log', '/api/v1/builds/2/artifacts/2/diffoscope']) {
    await t.test(`${target} is text that no browser makes more of`, async () => {
      const { headers, status } = await get(target)

      assert.equal(status, 200)
      assert.equal(headers['content-type'], 'text/plain; charset=utf-8')
      assert.equal(headers['x-content-type-options'], 'nosniff')
      assert.equal(headers['content-security-policy'], "default-src 'none'")
    })
  }
})

test('bodies', async (t) => {
  const { post, address, cookie } = await aBusyServer(t)
  const body = JSON.stringify({ name: 'hello' })

  for (const [coding, sent] of [
    ['zstd', zlib.zstdCompressSync(body)],
    ['gzip', zlib.gzipSync(body)],
    ['x-gzip', zlib.gzipSync(body)],
    ['deflate', zlib.deflateSync(body)],
    ['br', zlib.brotliCompressSync(body)],
    ['ZSTD', zlib.zstdCompressSync(body)],
    ['identity', Buffer.from(body)],
    ['snappy', Buffer.from(body)],
    ['', Buffer.from(body)],
  ] as const) {
    await t.test(
      `content-encoding ${coding || '(empty)'} is understood, with a length and in chunks`,
      async () => {
        const headers = { ...json, 'content-encoding': coding }

        for (const chunked of [false, true]) {
          const reply = await post('/api/v1/queue', { headers, body: sent, chunked })
          assert.deepEqual([reply.status, reply.text], [200, '{"affected":1}'])
        }
      },
    )
  }

  for (const [what, coding, sent] of [
    ['zstd cut short', 'zstd', zlib.zstdCompressSync(body).subarray(0, 12)],
    ['zstd that is none', 'zstd', Buffer.from(body)],
    ['gzip cut short', 'gzip', zlib.gzipSync(body).subarray(0, 15)],
    ['gzip with a false checksum', 'gzip', falsified(zlib.gzipSync(body))],
    ['brotli that is none', 'br', Buffer.from('\xff\xff\xff\xff')],
    ['nothing at all as zstd', 'zstd', Buffer.alloc(0)],
  ] as const) {
    await t.test(`${what} is 400`, async () => {
      const reply = await post('/api/v1/queue', {
        headers: { ...json, 'content-encoding': coding },
        body: sent,
      })

      assert.equal(reply.status, 400)
      assert.equal(reply.headers['content-type'], 'text/plain; charset=utf-8')
    })
  }

  for (const type of [
    'application/json',
    'application/json; charset=utf-8',
    'application/json;charset=UTF-8',
    'text/json',
    'application/vnd.api+json',
    'APPLICATION/JSON',
  ]) {
    await t.test(`${type} is JSON`, async () => {
      assert.equal((await post('/api/v1/queue', { headers: { 'content-type': type }, body })).status, 200)
    })
  }

  for (const type of [
    null,
    'text/plain',
    'application/x-www-form-urlencoded',
    'application/jsonp',
    'json',
    '',
  ]) {
    await t.test(`${type ?? 'no type'} is not: 400`, async () => {
      const headers: Record<string, string> = type === null ? {} : { 'content-type': type }
      const reply = await post('/api/v1/queue', { headers, body })

      assert.deepEqual([reply.status, reply.text], [400, 'Content type error'])
    })
  }

  for (const broken of [
    '',
    '{',
    '[]',
    'null',
    '"text"',
    '{"name":1}',
    '{"priority":"1"}',
    '{"priority":1.5}',
    '{"priority":2147483648}',
    '{"status":"good"}',
    '{"status":"UNKNOWN"}',
    '\xff{}',
    '{"name":"a"}}',
  ]) {
    await t.test(`the body ${JSON.stringify(broken)} is 400 with one line of reason`, async () => {
      const reply = await post('/api/v1/queue', { headers: json, body: Buffer.from(broken, 'latin1') })

      assert.equal(reply.status, 400)
      assert.match(reply.text, /^Json deserialize error: [^\n]+$/)
    })
  }

  await t.test(
    'members that nobody knows are ignored, missing ones are null, priorities may be negative',
    async () => {
      const sent = JSON.stringify({ name: 'hello', priority: -2147483648, extra: { deep: [1] } })

      const reply = await post('/api/v1/queue', { headers: json, body: sent })

      assert.deepEqual([reply.status, reply.text], [200, '{"affected":1}'])
    },
  )

  await t.test(
    'a body longer than the route takes is 413, by its length and when it is longer than told',
    async () => {
      const long = JSON.stringify({ name: 'x'.repeat(70_000) })

      for (const chunked of [false, true])
        assert.equal((await post('/api/v1/queue', { headers: json, body: long, chunked })).status, 413)
    },
  )

  await t.test('a body that becomes too long when it is unpacked is 413', async () => {
    const bomb = zlib.zstdCompressSync(Buffer.alloc(50_000_000, 0x20))

    const reply = await post('/api/v1/queue', {
      headers: { ...json, 'content-encoding': 'zstd' },
      body: bomb,
    })

    assert.equal(reply.status, 413)
    assert.equal(reply.headers['content-type'], 'text/plain; charset=utf-8')
  })

  await t.test('JSON that is nested without end, or has parts without number, is 400 at once', async () => {
    for (const text of ['['.repeat(5_000_000), `{"packages":[${'{},'.repeat(4_100_000)}{}]}`]) {
      const headers = { ...json, 'content-encoding': 'gzip' }
      const reply = await post('/api/v1/packages', { headers, body: zlib.gzipSync(text) })

      assert.equal(reply.status, 400)
      assert.match(reply.text, /too (deep|many)/)
    }
  })

  await t.test('who may not is told so before the body is read', async () => {
    const reply = await ask(address, 'POST', '/api/v1/packages', {
      headers: { ...json, 'content-length': '900000000', connection: 'close' },
      body: '{"dist',
    })

    assert.deepEqual([reply.status, reply.text], [403, ''])
  })

  await t.test(
    'a package report that an older client sends, with a component of its own, is taken',
    async () => {
      const { index: _, ...report } = aReport([])
      const old = {
        ...report,
        distribution: 'old',
        component: 'main',
        packages: [
          {
            name: 'a',
            version: '1',
            url: 'u',
            artifacts: [{ name: 'a', version: '1', architecture: 'any', url: 'f' }],
          },
        ],
      }

      const reply = await post('/api/v1/packages', {
        headers: { ...json, 'x-auth-cookie': cookie },
        body: JSON.stringify(old),
      })

      assert.deepEqual([reply.status, reply.text, reply.headers['content-length']], [204, '', undefined])
    },
  )

  for (const missing of ['distribution', 'architecture', 'packages']) {
    await t.test(`a package report without its ${missing} is 400`, async () => {
      const report = { ...aReport([]), [missing]: undefined }

      const reply = await post('/api/v1/packages', { headers: json, body: JSON.stringify(report) })

      assert.equal(reply.status, 400)
    })
  }
})

function falsified(gzip: Buffer): Buffer {
  const copy = Buffer.from(gzip)
  copy.writeUInt8((copy.at(-5) ?? 0) ^ 0xff, copy.length - 5)
  return copy
}

test('what a rebuild report may hold', async (t) => {
  const { post, get, call } = await aBusyServer(t)
  await post('/api/v1/queue', { headers: json, body: '{"name":"hello"}' })
  const { job } = await popped(call)
  const good = {
    queue_id: job.id,
    built_at: '2026-11-22T19:40:00.500',
    build_log: [40, 41],
    status: 'GOOD',
    artifacts: [{ name: 'hello', status: 'GOOD' }],
  }
  const report = (changed: Record<string, unknown>): Promise<RawReply> =>
    post('/api/v1/builds', { headers: json, body: JSON.stringify({ ...good, ...changed }) })

  for (const time of [
    '2026-11-22T19:40:00Z',
    '2026-11-22T19:40:00+00:00',
    '2026-11-22 19:40:00',
    '2026-11-22T19:40',
    '2026-13-22T19:40:00',
    '2026-02-30T19:40:00',
    '2026-11-22T24:40:00',
    '2026-11-22T19:40:61',
    1763840400,
    null,
    '',
  ]) {
    await t.test(`built_at ${JSON.stringify(time)} is 400`, async () => {
      assert.equal((await report({ built_at: time })).status, 400)
    })
  }

  for (const log of ['text', null, [256], [-1], [1.5], ['1'], {}]) {
    await t.test(`build_log ${JSON.stringify(log)} is 400`, async () => {
      assert.equal((await report({ build_log: log })).status, 400)
    })
  }

  for (const changed of [
    { status: 'good' },
    { status: 'UNKNOWN' },
    { status: null },
    { queue_id: 0 },
    { queue_id: 2147483648 },
    { queue_id: '1' },
    { artifacts: null },
    { artifacts: [{ name: 'hello', status: 'FAIL' }] },
    { artifacts: [{ status: 'GOOD' }] },
    { artifacts: [{ name: 'hello', status: 'GOOD', attestation: 'text' }] },
  ]) {
    await t.test(`${JSON.stringify(changed)} is 400`, async () => {
      assert.equal((await report(changed)).status, 400)
    })
  }

  await t.test('an unknown job is 404', async () => {
    assert.equal((await report({ queue_id: 4711 })).status, 404)
  })

  await t.test('a blob that says it is zstd and is not is refused, and nothing is kept of it', async () => {
    const { status } = await report({ build_log: [0x28, 0xb5, 0x2f, 0xfd, 1, 2, 3] })

    assert.equal(status, 400)
  })

  await t.test(
    'one-digit fields, blanks around and second 60 are taken; the reply is 204 without a body',
    async () => {
      const reply = await report({ built_at: ' 2026-1-2T3:4:60.5 ' })
      const { records } = documentOf<{ records: { built_at: string }[] }>(
        await get('/api/v1/builds?name=hello'),
      )

      assert.deepEqual([reply.status, reply.text], [204, ''])
      assert.equal(records.at(-1)?.built_at, '2026-01-02T03:04:60.500')
    },
  )
})

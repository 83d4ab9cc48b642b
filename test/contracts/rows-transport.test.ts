/** What holds for every request: transport, errors, scalars, enums, and the endpoints of logs, diffs and attestations. */
import assert from 'node:assert/strict'
import zlib from 'node:zlib'
import { endpoints } from '../../src/wire/index.ts'
import { decoded, documentOf } from './raw.ts'
import { aReport } from '../help/server.ts'
import { hasMembers, json, log, moment, testRows, told } from './rows.ts'

const builds = '/api/v1/builds'
const queue = '/api/v1/queue'

testRows('transport', {
  'server: HTTP/1.1 without TLS at one address': ({ address }) =>
    assert.match(address, /^http:\/\/127\.0\.0\.1:\d+$/),
  'base paths: /api/v0 and /api/v1, and nothing but pages for people below others': async ({ get }) => {
    told(await get('/api/v1/dashboard'), 200)
    told(await get('/api/v0/dashboard'), 200)
    for (const target of ['/api/v2/dashboard', '/v1/dashboard', '/api/dashboard', '/api'])
      told(await get(target), 404)
  },
  'path normalisation: slashes at the end are dropped, repeated ones merged': async ({ list }) => {
    for (const target of ['/builds/', '//builds', '//builds//', '/builds/?limit=9'])
      assert.equal((await list(`/api/v1${target}`)).total, 3)
  },
  'unknown route: 404, content-length: 0': async ({ get }) => {
    const reply = await get('/api/v1/nothing')
    told(reply, 404, '')
    assert.deepEqual([reply.headers['content-length'], reply.headers['content-type']], ['0', undefined])
  },
  'wrong method on an existing path: 404; HEAD and OPTIONS are answered (ours)': async ({ sent }) => {
    for (const method of ['PUT', 'PATCH', 'DELETE', 'POST'])
      told(await sent(method, '/api/v1/dashboard'), 404, '')
    told(await sent('HEAD', '/api/v1/dashboard'), 200, '')
    told(await sent('OPTIONS', '/api/v1/dashboard'), 204, '')
  },
  'JSON responses: application/json without a charset': async ({ get }) => {
    for (const target of [builds, queue, '/api/v1/meta/distributions', '/api/v0/pkgs/list'])
      assert.equal((await get(target)).headers['content-type'], 'application/json')
  },
  'empty responses: no content-type; 204 without a length': async ({ post, asAdmin }) => {
    const reply = await post('/api/v1/packages', aReport([], { distribution: 'empty' }), asAdmin)
    told(reply, 204, '')
    assert.deepEqual([reply.headers['content-type'], reply.headers['content-length']], [undefined, undefined])
  },
  'response compression: negotiated, with vary; br, then zstd, gzip; * is identity; nothing acceptable is 406':
    async ({ get }) => {
      for (const [accepted, coding] of [
        ['br, gzip, zstd', 'br'],
        ['gzip, zstd', 'zstd'],
        ['gzip;q=1, zstd;q=0.5', 'gzip'],
        ['deflate', 'deflate'],
        ['*', undefined],
        ['*, br;q=0, identity;q=0', 'zstd'],
      ] as const) {
        const reply = await get(builds, { 'accept-encoding': accepted })
        assert.deepEqual(
          [reply.headers['content-encoding'], reply.headers['vary']],
          [coding, 'accept-encoding'],
        )
        assert.equal((JSON.parse(decoded(reply).toString()) as { total: number }).total, 3)
      }
      told(await get(builds, { 'accept-encoding': 'identity;q=0' }), 406)
    },
  'request compression: zstd, gzip, deflate and br are decoded, an unknown coding is ignored': async ({
    sent,
    asAdmin,
  }) => {
    const body = Buffer.from('{"name":"nobody"}')
    for (const [coding, bytes] of [
      ['zstd', zlib.zstdCompressSync(body)],
      ['gzip', zlib.gzipSync(body)],
      ['deflate', zlib.deflateSync(body)],
      ['br', zlib.brotliCompressSync(body)],
      ['unknown', body],
    ] as const)
      told(
        await sent('POST', queue, {
          headers: { ...json, ...asAdmin, 'content-encoding': coding },
          body: bytes,
        }),
        200,
        '{"affected":0}',
      )
  },
  'upstream clients: zstd of level 11 with a length is taken, and zstd given back': async ({
    sent,
    asAdmin,
  }) => {
    const body = zlib.zstdCompressSync('{"name":"nobody"}', {
      params: { [zlib.constants.ZSTD_c_compressionLevel]: 11 },
    })
    const headers = {
      ...json,
      ...asAdmin,
      accept: '*/*',
      'accept-encoding': 'zstd',
      'content-encoding': 'zstd',
    }
    const reply = await sent('POST', queue, { headers, body })
    assert.deepEqual([reply.status, decoded(reply).toString()], [200, '{"affected":0}'])
  },
  'JSON request media type: json or +json as subtype; others are 400': async ({ sent, asAdmin }) => {
    for (const [type, status] of [
      ['application/json; charset=utf-8', 200],
      ['text/json', 200],
      ['application/vnd.api+json', 200],
      ['text/plain', 400],
      ['', 400],
    ] as const)
      told(
        await sent('POST', queue, {
          headers: { ...asAdmin, 'content-type': type },
          body: '{"name":"nobody"}',
        }),
        status,
      )
  },
  'body limit: by content-length and by decoded size, 413 as text': async ({ sent, asAdmin }) => {
    const long = Buffer.alloc(70_000, ' ')
    for (const [coding, body] of [
      ['identity', long],
      ['zstd', zlib.zstdCompressSync(long)],
    ] as const) {
      const reply = await sent('POST', queue, {
        headers: { ...json, ...asAdmin, 'content-encoding': coding },
        body,
      })
      told(reply, 413, /larger than 65536 bytes/)
      assert.equal(reply.headers['content-type'], 'text/plain; charset=utf-8')
    }
  },
  'order of checks: who may not is told so before the body is looked at (ours)': async ({ post }) => {
    told(await post(queue, '{broken'), 403, '')
    told(await post(queue, '{}'), 403, '')
  },
  'unknown JSON members and unknown query parameters: ignored': async ({ post, list, asAdmin }) => {
    told(await post(queue, { name: 'nobody', extra: [{}] }, asAdmin), 200)
    assert.equal((await list(`${builds}?extra=1&extra=2`)).total, 3)
  },
  'unknown query parameters where jobs are dropped: refused, and nothing is dropped (ours)': async ({
    sent,
    list,
    asAdmin,
  }) => {
    const { total } = await list(queue)
    for (const [query, told_so] of [
      ['nmae=waits', /^nothing was done: `nmae` is no filter \(did you mean name\?\)$/],
      ['name=waits&extra=1', /^nothing was done: `extra` is no filter \(there are distribution, .*\)$/],
      ['%1b%5b2J=1', /^nothing was done: `\\x1b\[2J` is no filter/],
    ] as const)
      told(await sent('DELETE', `${queue}?${query}`, { headers: asAdmin }), 400, told_so)
    assert.equal((await list(queue)).total, total)
  },
  'missing optional members: the same as null': async ({ post, asAdmin }) => {
    told(await post(queue, { name: 'nobody' }, asAdmin), 200, '{"affected":0}')
    told(
      await post(queue, { name: 'nobody', release: null, status: null, priority: null }, asAdmin),
      200,
      '{"affected":0}',
    )
  },
  'duplicate query parameter: 400 where it is known': async ({ get }) => {
    told(await get(`${builds}?limit=1&limit=1`), 400, /^Query deserialize error: duplicate field `limit`$/)
    told(await get('/api/v0/pkgs/list?name=a&name=a'), 400)
  },
})

testRows('error bodies', {
  '400: one line of text': async ({ get, post, asAdmin }) => {
    for (const reply of [
      await get(`${builds}?limit=x`),
      await post(queue, '{', asAdmin),
      await post(queue, '{}', { ...asAdmin, 'content-type': 'a/b' }),
    ]) {
      told(reply, 400, /^[^\n]+$/)
      assert.equal(reply.headers['content-type'], 'text/plain; charset=utf-8')
    }
  },
  '403: v1 says nothing, v0 `Authentication failed` and a line feed': async ({ get, sent }) => {
    told(await sent('DELETE', queue), 403, '')
    const refused = await get('/api/v0/workers')
    told(refused, 403, 'Authentication failed\n')
    assert.match(refused.headers['content-type'] ?? '', /^text\/plain/) // ours; the existing server names no type
  },
  '404: v1 says nothing, v0 `Not found` and a line feed': async ({ get }) => {
    told(await get('/api/v1/builds/4711'), 404, '')
    told(await get('/api/v0/builds/4711/log'), 404, 'Not found\n')
  },
  '404: an id that is none of 32 bits, with a reason': async ({ get }) => {
    for (const id of ['abc', '99999999999'])
      told(await get(`${builds}/${id}`), 404, /^Path deserialize error: [^\n]+$/)
  },
  '413: with a reason': async ({ post, asAdmin }) =>
    told(await post(queue, ' '.repeat(70_000), asAdmin), 413, /^[^\n]+$/),
  '500: what the existing server fails at is 400 or 404 here': async ({ get, post, asWorker }) => {
    told(await get(`${builds}?sort=bogus`), 400)
    told(await get(`${builds}/4711/log`), 404)
    const report = {
      queue_id: 4711,
      built_at: '2026-01-01T00:00:00',
      build_log: [],
      status: 'GOOD',
      artifacts: [],
    }
    told(await post(builds, report, asWorker), 404)
  },
  '501: routes of v0 that wrote, without a body': async ({ post }) =>
    told(await post('/api/v0/build/ping', { queue_id: 1 }), 501, ''),
  '401: never': async ({ get, sent }) => {
    const authorization = { authorization: 'Basic YTph' }
    told(await get('/api/v0/workers', authorization), 403)
    told(await sent('DELETE', queue, { headers: authorization }), 403)
  },
})

const dates = async (
  list: (target: string) => Promise<{ records: Record<string, unknown>[] }>,
): Promise<unknown[]> => [
  ...(await list(builds)).records.flatMap(({ started_at, built_at }) => [started_at, built_at]),
  ...(await list(queue)).records.flatMap(({ queued_at, next_retry }) => [queued_at, next_retry]),
  ...(await list('/api/v1/packages/binary')).records.map(({ last_seen }) => last_seen),
  ...(await list('/api/v1/workers')).records.map(({ last_ping }) => last_ping),
]

testRows('scalars', {
  'ids: integers from 1, of 32 bits': async ({ column, get }) => {
    for (const id of await column(builds, 'id')) assert.ok(Number.isInteger(id) && Number(id) >= 1)
    told(await get(`${builds}/2147483648`), 404)
  },
  'counts: integers': async ({ list }) => assert.ok(Number.isInteger((await list(builds)).total)),
  'date-time out: without a zone, a fraction of 0, 3, 6 or 9 digits': async ({ list }) => {
    for (const date of await dates(list)) if (typeof date === 'string') assert.match(date, moment)
  },
  'date-time in: T and seconds are needed, a zone is refused': async ({ post, asWorker, running }) => {
    for (const built_at of [
      '2026-11-22T19:40:00Z',
      '2026-11-22T19:40:00+00:00',
      '2026-11-22 19:40:00',
      '2026-11-22T19:40',
      5,
      null,
    ]) {
      const report = { queue_id: running.job.id, built_at, build_log: [], status: 'FAIL', artifacts: [] }
      told(await post(builds, report, asWorker), 400, /built_at/)
    }
  },
  'date-time out to upstream clients: no Z': async ({ list }) => {
    for (const date of await dates(list)) assert.doesNotMatch(String(date), /Z|\+/)
  },
  'byte blobs: a list of integers from 0 to 255; all else is 400': async ({ post, asWorker, running }) => {
    for (const build_log of ['text', 'dGV4dA==', null, [256], [-1], [1.5]]) {
      const report = {
        queue_id: running.job.id,
        built_at: '2026-11-22T19:40:00',
        build_log,
        status: 'FAIL',
        artifacts: [],
      }
      told(await post(builds, report, asWorker), 400, /build_log/)
    }
  },
  'enums: in exact case': async ({ get, post, asAdmin }) => {
    told(await get(`${builds}?direction=descending`), 400)
    told(await post(queue, { status: 'good' }, asAdmin), 400)
  },
  'optional members out: always there, null when there is none': async ({ list }) => {
    const [arch] = (await list('/api/v1/packages/binary?distribution=archlinux&seen_only=true')).records
    assert.deepEqual(
      [arch?.['release'], arch?.['status'], arch?.['build_id'], arch?.['artifact_id']],
      [null, null, null, null],
    )
  },
  'precision: nanoseconds of a worker are kept': async ({ post, asWorker, asAdmin, list }) => {
    told(await post(queue, { name: 'waits', distribution: 'debian' }, asAdmin), 200)
    const assigned = documentOf<{ Rebuild: { job: { id: number } } }>(
      await post(
        `${queue}/pop`,
        { supported_backends: ['debian'], architecture: 'x86_64', supported_architectures: ['amd64'] },
        asWorker,
      ),
    )
    const report = {
      queue_id: assigned.Rebuild.job.id,
      built_at: '2026-11-22T19:36:35.547365455',
      build_log: [],
      status: 'FAIL',
      artifacts: [],
    }
    told(await post(builds, report, asWorker), 204)
    assert.equal(
      (await list(`${builds}?name=waits`)).records[0]?.['built_at'],
      '2026-11-22T19:36:35.547365455',
    )
  },
})

testRows('spellings of enums', {
  'build status: GOOD, BAD, FAIL, UNKWN': async ({ post, column, asAdmin }) => {
    assert.deepEqual(await column(`${builds}?limit=3`, 'status'), ['GOOD', 'BAD', 'FAIL'])
    for (const status of ['GOOD', 'BAD', 'FAIL', 'UNKWN'])
      told(await post(queue, { name: 'nobody', status }, asAdmin), 200)
    told(await post(queue, { status: 'UNKNOWN' }, asAdmin), 400)
  },
  'artifact status: GOOD, BAD, UNKWN': async ({ post, asWorker, running }) => {
    const report = (status: string) => ({
      queue_id: running.job.id,
      built_at: '2026-11-22T19:40:00',
      build_log: [],
      status: 'BAD',
      artifacts: [{ name: 'runs', status }],
    })
    told(await post(builds, report('FAIL'), asWorker), 400)
    told(await post(builds, report('BAD'), asWorker), 204)
  },
  'sort direction: Ascending, Descending': async ({ column }) => {
    const [up, down] = [
      await column(`${builds}?direction=Ascending`, 'id'),
      await column(`${builds}?direction=Descending`, 'id'),
    ]
    assert.deepEqual(up.toReversed(), down)
  },
  'v0 status: GOOD, BAD, UNKWN': async ({ get }) => {
    for (const status of ['GOOD', 'BAD', 'UNKWN']) told(await get(`/api/v0/pkgs/list?status=${status}`), 200)
    told(await get('/api/v0/pkgs/list?status=FAIL'), 400)
  },
  'v0 success and job: not used, as v0 is for reading': () =>
    assert.ok(
      endpoints.filter(({ path, method }) => path.startsWith('/api/v0') && method === 'GET').length >= 7,
    ),
  'job assignment: the string "Nothing", or an object with the single member Rebuild': async ({
    post,
    asWorker,
    asAdmin,
  }) => {
    const pop = (backend: string) =>
      post(
        `${queue}/pop`,
        { supported_backends: [backend], architecture: 'x', supported_architectures: ['amd64'] },
        asWorker,
      )
    told(await pop('none'), 200, '"Nothing"')
    told(await post(queue, { name: 'good', distribution: 'debian' }, asAdmin), 200)
    assert.deepEqual(Object.keys(documentOf<object>(await pop('debian'))), ['Rebuild'])
  },
  'priority: an integer of 32 bits, negative ones too': async ({ post, list, asAdmin }) => {
    told(await post(queue, { name: 'waits', priority: -2147483648 }, asAdmin), 200)
    assert.equal((await list(`${queue}?name=waits`)).records[0]?.['priority'], -2147483648)
    told(await post(queue, { priority: 1.5 }, asAdmin), 400)
    told(await post(queue, { priority: '1' }, asAdmin), 400)
  },
})

const [logs, diff] = [`${builds}/1/log`, `${builds}/2/artifacts/2/diffoscope`]
const attestation = `${builds}/1/artifacts/1/attestation`

testRows('logs, diffs and attestations', {
  'storage: what comes with the magic of zstd is kept as it came, all else is compressed': async ({
    post,
    get,
    asWorker,
    running,
  }) => {
    const frame = zlib.zstdCompressSync('kept as it is')
    const report = {
      queue_id: running.job.id,
      built_at: '2026-11-22T19:40:00',
      build_log: [...frame],
      status: 'FAIL',
      artifacts: [],
    }
    told(await post(builds, report, asWorker), 204)
    assert.deepEqual((await get(`${builds}/4/log`, { 'accept-encoding': 'zstd' })).bytes, frame)
    assert.deepEqual(
      [...(await get(logs, { 'accept-encoding': 'zstd' })).bytes.subarray(0, 4)],
      [0x28, 0xb5, 0x2f, 0xfd],
    )
  },
  'a client that takes zstd gets the frame with its length; vary is told, as shared caches need it (ours)':
    async ({ get }) => {
      for (const accepted of ['zstd', 'gzip, zstd;q=0.1']) {
        const reply = await get(logs, { 'accept-encoding': accepted })
        assert.deepEqual(
          [reply.headers['content-encoding'], reply.headers['content-length']],
          ['zstd', String(reply.bytes.length)],
        )
        assert.equal(reply.headers['vary'], 'accept-encoding')
        assert.equal(decoded(reply).toString(), log)
      }
    },
  'a client that does not gets it plain, or in a coding that it takes': async ({ get }) => {
    for (const accepted of ['', 'gzip', 'br', 'deflate', 'zstd;q=0']) {
      const reply = await get(logs, { 'accept-encoding': accepted })
      assert.equal(decoded(reply).toString(), log)
      assert.equal(reply.headers['content-encoding'], /^(gzip|br|deflate)$/.exec(accepted)?.[0])
    }
  },
  'one range: 206 of the plain bytes, or of the frame where zstd is taken; none of it there: 416 (ours)':
    async ({ get }) => {
      const frame = (await get(logs, { 'accept-encoding': 'zstd' })).bytes
      for (const [accepted, all] of [
        ['', Buffer.from(log)],
        ['zstd', frame],
      ] as const) {
        const size = all.length
        for (const [range, first, last] of [
          ['bytes=0-0', 0, 0],
          ['bytes=3-9', 3, 9],
          ['Bytes = 3 - 9999999', 3, size - 1],
          ['bytes=5-', 5, size - 1],
          ['bytes=-4', size - 4, size - 1],
          ['bytes=-999999999999999', 0, size - 1],
        ] as const) {
          const reply = await get(logs, { 'accept-encoding': accepted, range })
          told(reply, 206)
          assert.deepEqual(reply.bytes, all.subarray(first, last + 1), range)
          const {
            'content-range': place,
            'content-length': length,
            'content-encoding': coding,
          } = reply.headers
          assert.deepEqual(
            [place, length, coding],
            [`bytes ${first}-${last}/${size}`, String(reply.bytes.length), /zstd/.exec(accepted)?.[0]],
          )
        }
        for (const range of [`bytes=${size}-`, 'bytes=-0', 'bytes=999999999999999-']) {
          const reply = await get(logs, { 'accept-encoding': accepted, range })
          told(reply, 416, /none of those/)
          assert.equal(reply.headers['content-range'], `bytes */${size}`)
        }
      }
    },
  'several ranges, words nobody knows, codings made for one caller: all of it; accept-ranges tells (ours)':
    async ({ get, sent }) => {
      const [several, wrong] = [
        'bytes=0-1,4-5',
        'lines=1-2, bytes=5-2, bytes=, bytes=-, bytes=1000000000000000000-',
      ]
      for (const range of [several, ...wrong.split(', ')]) told(await get(logs, { range }), 200, log)
      const packed = await get(logs, { 'accept-encoding': 'gzip', range: 'bytes=0-1' })
      assert.deepEqual([packed.status, packed.headers['accept-ranges']], [200, 'none'])
      const head = await sent('HEAD', logs, { headers: { range: 'bytes=0-1' } })
      told(head, 200, '')
      assert.deepEqual(
        [head.headers['accept-ranges'], head.headers['content-length']],
        ['bytes', String(log.length)],
      )
    },
  'ETag: the same for ever, another in each coding; If-None-Match is 304, If-Range decides about parts (ours)':
    async ({ get, sent }) => {
      const [plain, frame, packed] = await Promise.all(
        ['', 'zstd', 'gzip'].map(async (accepted) => {
          const { etag = '' } = (await get(logs, { 'accept-encoding': accepted })).headers
          told(await get(logs, { 'accept-encoding': accepted, 'if-none-match': etag }), 304, '')
          return etag
        }),
      )
      assert.equal(new Set([plain, frame, packed]).size, 3)
      assert.match(packed ?? '', /^W\//)
      const range = 'bytes=0-3'
      told(await get(logs, { range, 'if-range': plain ?? '' }), 206, log.slice(0, 4))
      for (const condition of [frame ?? '', `W/${plain}`, new Date().toUTCString()])
        told(await get(logs, { range, 'if-range': condition }), 200, log)
      told(await sent('HEAD', logs, { headers: { 'if-none-match': plain ?? '' } }), 304, '')
    },
  'headers: nosniff, and nothing may load': async ({ get }) => {
    for (const target of [logs, diff, attestation]) {
      const { headers } = await get(target)
      assert.deepEqual(
        [headers['x-content-type-options'], headers['content-security-policy']],
        ['nosniff', "default-src 'none'"],
      )
    }
  },
  'content types: text for logs and diffs, JSON for attestations, both with a charset': async ({ get }) => {
    for (const target of [logs, diff])
      assert.equal((await get(target)).headers['content-type'], 'text/plain; charset=utf-8')
    const signed = await get(attestation)
    assert.equal(signed.headers['content-type'], 'application/json; charset=utf-8')
    hasMembers(documentOf(signed), 'signatures:array signed:object')
  },
})

/** What our server tells beyond the existing one, and old clients ignore: one test for each row. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import * as v from 'valibot'
import { submitBuild } from '../../src/wire/builds.ts'
import { isSpecial, type Endpoint } from '../../src/wire/endpoint.ts'
import { endpoints } from '../../src/wire/index.ts'
import { aPackage, aResult, anArtifact, importPackages, pop, startServer } from '../help/server.ts'
import { eventsOf } from '../help/events.ts'
import { rebuilt } from './asking.ts'
import { ask, decoded, documentOf } from './raw.ts'
import { hasMembers, testRows, told, type Document } from './rows.ts'

const v1 = '/api/v1'

testRows('members of ours', {
  'a rebuild: reason, worker, decided_at; one alone its evidence too': async ({ list, document }) => {
    const members = 'reason:string? worker:string? decided_at:date?'
    for (const record of (await list(`${v1}/builds`)).records) hasMembers(record, members)
    hasMembers(await document(`${v1}/builds/2`), `${members} evidence:object?`)
  },
  'an artifact of a rebuild: reason, hashes and sizes': async ({ document }) => {
    const [artifact] = await document<Document[]>(`${v1}/builds/2/artifacts`)
    hasMembers(
      artifact,
      'reason:string? sha256:string? size:int? rebuilt_sha256:string? rebuilt_size:int? first_difference:int? url:string?',
    )
  },
  'a source package: reason, first_seen, decided_at': async ({ list }) => {
    for (const record of (await list(`${v1}/packages/source`)).records)
      hasMembers(record, 'reason:string? first_seen:date? decided_at:date?')
  },
  'a binary package: reason, sha256, size, worker, first_seen, decided_at, source_name': async ({ list }) => {
    for (const record of (await list(`${v1}/packages/binary`)).records)
      hasMembers(
        record,
        'reason:string? sha256:string? size:int? worker:string? first_seen:date? decided_at:date? source_name:string?',
      )
    const [bad] = (await list(`${v1}/packages/binary?name=bad`)).records
    assert.deepEqual(
      [bad?.['reason'], bad?.['worker'], bad?.['source_name']],
      ['content_differs', 'builder', 'bad'],
    )
  },
  'a job: who holds it': async ({ list }) =>
    assert.equal((await list(`${v1}/queue?name=runs`)).records[0]?.['worker'], 'builder'),
})

testRows('filters of ours', {
  'status: one or several': async ({ column }) => {
    assert.deepEqual(await column(`${v1}/packages/binary?status=GOOD,BAD`), ['good', 'bad'])
    assert.deepEqual(await column(`${v1}/builds?status=BAD,FAIL`), ['bad', 'fail'])
  },
  'reason: one or several': async ({ column }) => {
    assert.deepEqual(await column(`${v1}/packages/source?reason=content_differs,too_large`), ['bad'])
    assert.deepEqual(await column(`${v1}/builds?reason=content_differs`), ['bad'])
  },
  'search: exact, the beginning or somewhere (those two: capitals or not)': async ({ column, get }) => {
    for (const [query, found] of [
      ['search=waits&search_type=exact', ['waits']],
      ['search=wai&search_type=starts_with', ['waits', 'waits-doc']],
      ['search=WAI&search_type=starts_with', ['waits', 'waits-doc']],
      ['search=Waits&search_type=exact', []],
      ['search=AIT&search_type=contains', ['waits', 'waits-doc']],
    ] as const)
      assert.deepEqual(await column(`${v1}/packages/binary?${query}`), found, query)
    assert.deepEqual(await column(`${v1}/packages/source?search=ait&search_type=contains`), ['waits'])
    told(await get(`${v1}/packages/source?search=a&search_type=regex`), 400)
  },
  'releases: several': async ({ call, column }) => {
    await importPackages(call, [aPackage({ name: 'other' })], { release: 'trixie' })
    assert.deepEqual(
      await column(`${v1}/packages/source?releases=trixie,sid&search=o&search_type=contains`),
      ['good', 'other'],
    )
  },
  'releases: of builds and jobs, too': async ({ list, column }) => {
    assert.deepEqual(await column(`${v1}/builds?releases=trixie,forky`), [])
    assert.deepEqual(await column(`${v1}/builds?releases=sid,trixie&status=BAD`), ['bad'])
    assert.deepEqual(await column(`${v1}/queue?releases=trixie`), ['other'])
    const { total, records } = await list(`${v1}/queue?releases=sid,trixie&limit=50`)
    assert.deepEqual([total, records.length], [5, 5])
    assert.deepEqual(await column(`${v1}/queue?releases=none`), [])
  },
  'maintainer: whose packages': async ({ call, column }) => {
    const maintainer = 'A Person <person@mirror.example>'
    await importPackages(call, [aPackage({ name: 'theirs', maintainer })], { release: 'maintained' })
    assert.deepEqual(await column(`${v1}/packages/source?maintainer=${encodeURIComponent(maintainer)}`), [
      'theirs',
    ])
    assert.deepEqual(await column(`${v1}/packages/binary?maintainer=${encodeURIComponent(maintainer)}`), [
      'theirs',
    ])
  },
  'since: decided from then on': async ({ column }) => {
    assert.deepEqual(await column(`${v1}/builds?since=2000-01-01T00:00:00`), ['good', 'bad', 'fail'])
    assert.deepEqual(await column(`${v1}/builds?since=2999-01-01T00:00:00`), [])
    assert.deepEqual(await column(`${v1}/packages/binary?since=2999-01-01T00:00:00`), [])
  },
})

/** Endpoints that reply with a list, with their parameters filled in. */
const lists = endpoints
  .filter(({ method, caller, reply }) => method === 'GET' && caller.startsWith('anyone') && isList(reply))
  .map(({ path }) =>
    path
      .replaceAll('{distribution}', 'debian')
      .replaceAll('{release}', 'sid')
      .replaceAll('{component}', 'main')
      .replaceAll(/\{\w+\}/g, '1')
      .replace(/why$/, 'why?name=good'),
  )

function isList(reply: Endpoint['reply']): boolean {
  if (isSpecial(reply)) return false
  return (
    reply.type === 'array' ||
    (reply.type === 'object' &&
      'entries' in reply &&
      v.is(v.looseObject({ total: v.any(), records: v.any() }), reply.entries))
  )
}

/** Other answers that are asked for again and again. */
const others = ['dashboard', 'meta/policy', 'meta/public-keys', 'queue/control', 'openapi.json'].map(
  (path) => `${v1}/${path}`,
)

testRows('conditional requests', {
  'ETag: on every list; whoever has it gets 304 without a body': async ({ get }) => {
    assert.ok(lists.length > 12, `${lists.length} lists`)
    for (const target of [...lists, ...others]) {
      const first = await get(target)
      const tag = first.headers['etag'] ?? ''
      told(first, 200)
      assert.notEqual(tag, '', target)
      told(await get(target, { 'if-none-match': tag }), 304, '')
      told(await get(target, { 'if-none-match': `"other", ${tag.replace('W/', '')}` }), 304, '')
      told(await get(target, { 'if-none-match': '"other"' }), 200)
    }
  },
  'Last-Modified: on every list; whoever has it gets 304 once the second is over': async ({ get, clock }) => {
    for (const target of [...lists, ...others]) await get(target)
    clock.ahead += 2000
    for (const target of [...lists, ...others]) {
      const date = (await get(target)).headers['last-modified'] ?? ''
      assert.match(date, / GMT$/, target)
      told(await get(target, { 'if-modified-since': date }), 304, '')
      told(await get(target, { 'if-modified-since': 'Thu, 01 Jan 1970 00:00:00 GMT' }), 200)
    }
  },
  'a change makes both anew': async ({ get, call }) => {
    const tags = new Map<string, string>()
    for (const target of lists) tags.set(target, (await get(target)).headers['etag'] ?? '')
    await importPackages(call, [aPackage({ name: 'new' })], { release: 'new' })
    for (const target of [
      '/api/v1/packages/source',
      '/api/v1/meta/distributions',
      '/api/v0/pkgs/list',
      '/api/v1/queue',
      '/api/v1/queue/why?name=good',
      '/api/v1/scopes',
      '/api/v1/releases',
    ])
      told(await get(target, { 'if-none-match': tags.get(target) ?? '' }), 200)
  },
})

const wanted = (name: string) => ({ distribution: 'debian', name, version: '1.0-1', architecture: 'amd64' })

testRows('look-ups and exports', {
  'lookup: up to 10,000 at once, in the order asked, with verdict, ids and hashes': async ({ post }) => {
    const packages = [
      wanted('bad'),
      ...Array.from({ length: 9998 }, (_, n) => wanted(`none-${n}`)),
      wanted('good'),
    ]
    const reply = await post(`${v1}/packages/lookup`, { packages })
    told(reply, 200)
    const { records } = documentOf<{ records: (Document | null)[] }>(reply)
    assert.equal(records.length, 10_000)
    hasMembers(
      records[0],
      'status:string reason:string? build_id:int artifact_id:int sha256:string? size:int? has_attestation:boolean',
    )
    assert.deepEqual([records[0]?.['status'], records[1], records.at(-1)?.['status']], ['BAD', null, 'GOOD'])
    told(
      await post(`${v1}/packages/lookup`, { packages: [...packages, wanted('more')] }),
      400,
      /at most 10000 packages at once/,
    )
  },
  'export: JSON and NDJSON hold the same, in a stable order, each package once': async ({
    document,
    get,
    call,
  }) => {
    await importPackages(
      call,
      [aPackage({ name: 'good' }), aPackage({ name: 'aaa', artifacts: [anArtifact({ name: 'aaa' })] })],
      { release: 'trixie' },
    )
    const records = await document<Document[]>(`${v1}/export/debian`)
    const lines = (await get(`${v1}/export/debian?format=ndjson`)).text
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line) as Document)
    assert.deepEqual(lines, records)
    const keys = records.map(({ architecture, name, version }) =>
      [name, version, architecture].map(String).join(' '),
    )
    assert.deepEqual(keys, [...new Set(keys)].sort())
    const good = records.find(({ name }) => name === 'good')
    assert.deepEqual(good?.['releases'], ['sid', 'trixie'])
    hasMembers(
      good,
      'source_name:string source_version:string status:string reason:string? sha256:string? build_id:int artifact_id:int',
    )
  },
  'export: names the evidence, which is there': async ({ document, get }) => {
    for (const { evidence, build_id } of await document<Document[]>(`${v1}/export/debian`))
      if (build_id !== null) told(await get(String(evidence)), 200)
  },
  'export: of chosen releases; content types and codings': async ({ document, get }) => {
    assert.deepEqual(
      (await document<Document[]>(`${v1}/export/debian?releases=trixie`)).map(({ name }) => name),
      ['aaa', 'good'],
    )
    assert.equal(
      (await get(`${v1}/export/debian?format=ndjson`)).headers['content-type'],
      'application/x-ndjson',
    )
    const packed = await get(`${v1}/export/debian`, { 'accept-encoding': 'zstd' })
    assert.deepEqual(JSON.parse(decoded(packed).toString()), await document(`${v1}/export/debian`))
    told(await get(`${v1}/export/debian?format=xml`), 400)
    assert.deepEqual(await document(`${v1}/export/nothing`), [])
  },
})

testRows('reading by other methods and from other sites', {
  'HEAD: what GET says, without the body': async ({ sent, get }) => {
    for (const target of [
      '/api/v1/builds',
      '/api/v1/builds/1/log',
      '/api/v0/pkgs/list',
      '/api/v1/export/debian',
      '/api/v1/nothing',
      '/api/v1/builds/none',
      '/builds/none',
    ]) {
      const [head, whole] = [await sent('HEAD', target), await get(target)]
      assert.deepEqual([head.status, head.bytes.length], [whole.status, 0], target)
      for (const name of ['content-type', 'content-length', 'etag'])
        assert.equal(head.headers[name], whole.headers[name], `${target} ${name}`)
      if (head.status >= 400) assert.notEqual(head.headers['content-length'], undefined, target)
    }
  },
  'OPTIONS: what may be asked from a page of another site: reading, without secrets': async ({ sent }) => {
    const reply = await sent('OPTIONS', '/api/v1/builds', {
      headers: { origin: 'https://a.example', 'access-control-request-method': 'GET' },
    })
    told(reply, 204, '')
    assert.deepEqual(
      [
        reply.headers['allow'],
        reply.headers['access-control-allow-origin'],
        reply.headers['access-control-allow-headers'],
      ],
      ['GET, HEAD, OPTIONS', '*', undefined],
    )
    told(await sent('OPTIONS', '*'), 204, '')
  },
  'CORS: replies to readers may be read, also those that say that there is nothing': async ({
    get,
    sent,
  }) => {
    for (const target of [
      '/api/v1/builds',
      '/api/v1/builds/1/log',
      '/api/v1/builds/4711',
      '/api/v1/builds?limit=x',
      '/api/v0/pkgs/list',
      '/api/v1/export/debian',
    ])
      assert.equal((await get(target)).headers['access-control-allow-origin'], '*', target)
    assert.equal((await sent('DELETE', '/api/v1/queue')).headers['access-control-allow-origin'], undefined)
  },
})

testRows('the description', {
  'OpenAPI 3.1: every endpoint with every parameter, every member of its replies': async ({ document }) => {
    const { openapi, paths } = await document<{
      openapi: string
      paths: Record<
        string,
        Record<string, { parameters: { name: string; in: string }[]; responses: Document }>
      >
    }>(`${v1}/openapi.json`)
    assert.match(openapi, /^3\.1\./)
    for (const row of endpoints) {
      const told = paths[row.path]?.[row.method.toLowerCase()]
      const names = (place: string): string[] =>
        (told?.parameters ?? []).filter((one) => one.in === place).map(({ name }) => name)
      assert.deepEqual(names('query'), Object.keys(row.query.entries), `${row.method} ${row.path}`)
      assert.deepEqual(
        names('path'),
        [...row.path.matchAll(/\{(\w+)\}/g)].map(([, name]) => name),
        row.path,
      )
      const reply = row.reply as { type?: string; entries?: object }
      if (reply.type === 'object')
        for (const member of Object.keys(reply.entries ?? {}))
          assert.ok(JSON.stringify(told?.responses['200']).includes(`"${member}"`), `${row.path}: ${member}`)
    }
  },
})

test('the evidence of an export is named below the base path', async (t) => {
  const { address, call } = await startServer(t, { settings: { 'http.base_path': '/amd64' } })
  await importPackages(call, [aPackage()])
  await rebuilt(call)

  const [record] = documentOf<Document[]>(await ask(address, 'GET', '/api/v1/export/debian'))

  assert.equal(record?.['evidence'], '/amd64/api/v1/builds/1')
  assert.equal((await ask(new URL(address).origin, 'GET', record['evidence'])).status, 200)
})

test('events are resumed by id after the server was started anew', async (t) => {
  const first = await startServer(t)
  await importPackages(first.call, [aPackage({ name: 'a' }), aPackage({ name: 'b' })])
  const verdict = async ({ call }: typeof first): Promise<void> => {
    const job = await pop(call)
    assert.ok(job)
    await call(submitBuild, { body: aResult(job) })
  }
  await verdict(first)
  const [seen] = await eventsOf(`${first.address}/api/v1/events?after=0&kinds=verdict`, 1)
  await first.stop()

  const second = await startServer(t, { data: first.data })
  await verdict(second)
  const rest = await eventsOf(`${second.address}/api/v1/events?kinds=verdict`, 1, {
    'last-event-id': String(seen?.id),
  })

  assert.equal(rest.length, 1)
  assert.ok((rest[0]?.id ?? 0) > (seen?.id ?? 0))
  assert.match(JSON.stringify(rest[0]?.data), /"name":"b"/)
})

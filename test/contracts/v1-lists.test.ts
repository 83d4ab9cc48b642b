/** Lists: pages, cursors, order, filters, and the JSON of what they hold. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { submitBuild } from '../../src/wire/builds.ts'
import {
  aPackage,
  aResult,
  anArtifact,
  anArtifactResult,
  importPackages,
  pop,
  someEvidence,
  startServer,
} from '../help/server.ts'
import { until } from '../help/until.ts'
import { popped } from './asking.ts'
import { ask, documentOf, type RawReply } from './raw.ts'

type Records = { total: number; records: Record<string, unknown>[] }

const lists = [
  [
    '/api/v1/builds',
    [
      'id',
      'name',
      'version',
      'distribution',
      'release',
      'architecture',
      'backend',
      'retries',
      'started_at',
      'built_at',
      'status',
    ],
  ],
  [
    '/api/v1/packages/source',
    [
      'id',
      'name',
      'version',
      'distribution',
      'release',
      'status',
      'last_seen',
      'seen_in_last_sync',
      'build_id',
    ],
  ],
  [
    '/api/v1/packages/binary',
    [
      'id',
      'name',
      'version',
      'distribution',
      'release',
      'component',
      'architecture',
      'artifact_url',
      'url',
      'status',
      'diffoscope_log_id',
      'attestation_log_id',
      'last_seen',
      'seen_in_last_sync',
      'build_id',
      'artifact_id',
    ],
  ],
  [
    '/api/v1/queue',
    [
      'id',
      'name',
      'version',
      'distribution',
      'release',
      'architecture',
      'backend',
      'url',
      'next_retry',
      'priority',
      'queued_at',
      'started_at',
    ],
  ],
  ['/api/v1/workers', ['id', 'name', 'address', 'status', 'last_ping', 'online', 'is_online']],
] as const

const names = ['echo', 'alpha', 'delta', 'bravo', 'charlie']

/** Five packages of sid (two in contrib, one with doc), alpha also in trixie and rolling; echo GOOD, alpha BAD, delta FAIL, bravo runs. */
async function aFullServer(
  t: Parameters<typeof startServer>[0],
  options?: Parameters<typeof startServer>[1],
) {
  const server = await startServer(t, options)
  const { call, worker } = server
  await worker('key-2', 'another')
  const component = (name: string): string => (name < 'c' ? 'contrib' : 'main')
  const packages = names.map((name) =>
    aPackage({
      name,
      artifacts: [
        anArtifact({
          name,
          component: component(name),
          sha256: name === 'echo' ? 'e'.repeat(64) : null,
          size: 5,
        }),
        ...(name === 'echo' ? [anArtifact({ name: 'echo-doc', architecture: 'all', component: null })] : []),
      ],
    }),
  )
  for (const count of packages.keys()) await importPackages(call, packages.slice(0, count + 1)) // so that ids are in this order
  const log = new TextEncoder().encode('words\n')
  for (const status of ['GOOD', 'BAD', 'FAIL'] as const) {
    const job = await popped(call)
    const artifacts = job.artifacts.map(({ name, url }) =>
      anArtifactResult({
        name,
        url,
        status: status === 'BAD' ? 'BAD' : 'GOOD',
        diffoscope: status === 'BAD' ? log : null,
      }),
    )
    const reason = status === 'FAIL' ? 'build_failed' : null
    await call(submitBuild, {
      body: aResult(job, {
        status,
        reason,
        evidence: someEvidence,
        artifacts: status === 'FAIL' ? [] : artifacts,
      }),
    })
  }
  await importPackages(call, [aPackage({ name: 'alpha', version: '2' })], {
    release: 'trixie',
    architecture: 'arm64',
  })
  await importPackages(call, [aPackage({ name: 'alpha', version: '3' })], {
    release: null,
    distribution: 'archlinux',
  })
  await importPackages(call, [aPackage({ name: 'alpha', version: '4' })], {
    release: null,
    distribution: 'archlinux',
  })
  await popped(call)
  const get = (target: string): Promise<RawReply> => ask(server.address, 'GET', target)
  const list = async (target: string): Promise<Records> => {
    const reply = await get(target)
    assert.equal(reply.status, 200, `${target}: ${reply.text}`)
    return documentOf<Records>(reply)
  }
  const column = async (target: string, member = 'name'): Promise<unknown[]> =>
    (await list(target)).records.map((record) => record[member])
  return { ...server, get, list, column }
}

test('pages', async (t) => {
  const { get, list, column } = await aFullServer(t)
  const all = '/api/v1/packages/source'
  const sid = '/api/v1/packages/source?release=sid'

  await t.test(
    'records come by id, and total counts what the filter leaves, before cursors and limit',
    async () => {
      assert.deepEqual(await column(sid), names)
      assert.deepEqual(await column(sid, 'id'), [1, 2, 3, 4, 5])
      const { total, records } = await list(`${sid}&limit=2&after=1`)
      assert.deepEqual([total, records.map(({ id }) => id)], [5, [2, 3]])
      assert.equal((await list(all)).total, 8)
    },
  )

  for (const [query, ids] of [
    ['limit=0', []],
    ['limit=2', [1, 2]],
    ['limit=-1', [1, 2, 3, 4, 5]],
    ['limit=%2B3', [1, 2, 3]],
    ['limit=2147483647', [1, 2, 3, 4, 5]],
    ['direction=Ascending', [1, 2, 3, 4, 5]],
    ['direction=Descending', [5, 4, 3, 2, 1]],
    ['direction=Descending&limit=2', [5, 4]],
    ['after=2', [3, 4, 5]],
    ['before=4', [1, 2, 3]],
    ['after=1&before=4', [2, 3]],
    ['after=5', []],
    ['before=1', []],
    ['after=0', [1, 2, 3, 4, 5]],
    ['after=-5', [1, 2, 3, 4, 5]],
    ['after=4711', []],
    ['before=4711&direction=Descending&limit=2', [5, 4]],
    ['before=4&direction=Descending&limit=2', [3, 2]],
    ['after=2&direction=Descending&limit=2', [4, 3]],
    ['before=4&limit=2', [2, 3]],
    ['sort=name', [2, 4, 5, 3, 1]],
    ['sort=name&direction=Descending', [1, 3, 5, 4, 2]],
    ['sort=name&limit=2', [2, 4]],
    ['sort=name&after=4', [5, 3, 1]],
    ['sort=name&after=4&limit=1', [5]],
    ['sort=name&before=3', [2, 4, 5]],
    ['sort=name&before=3&limit=1', [5]],
    ['sort=name&before=3&direction=Descending&limit=2', [5, 4]],
    ['sort=name&after=4&direction=Descending', [1, 3, 5]],
    ['sort=name&after=4&before=1', [5, 3]],
    ['sort=name&after=4711', []],
    ['sort=version', [1, 2, 3, 4, 5]],
    ['sort=version&direction=Descending', [5, 4, 3, 2, 1]],
    ['sort=version&after=3', [4, 5]],
    ['sort=id&after=3', [4, 5]],
  ] as const) {
    await t.test(`${query} → ${ids.join(', ') || 'none'}`, async () => {
      assert.deepEqual(await column(`${sid}&${query}`, 'id'), ids)
    })
  }

  await t.test(
    'walking by cursors in either direction meets every record once, whatever is sorted by',
    async () => {
      for (const [path, sorts] of lists)
        for (const sort of sorts) {
          const whole = await column(`${path}?sort=${sort}`, 'id')
          assert.ok(whole.length >= 2, path)
          const up: unknown[] = []
          for (let next = await column(`${path}?sort=${sort}&limit=1`, 'id'); next.length > 0;) {
            up.push(...next)
            next = await column(`${path}?sort=${sort}&limit=2&after=${String(up.at(-1))}`, 'id')
          }
          const down: unknown[] = []
          for (
            let next = await column(`${path}?sort=${sort}&limit=1&direction=Descending`, 'id');
            next.length > 0;
          ) {
            down.push(...next)
            next = await column(
              `${path}?sort=${sort}&limit=2&direction=Descending&before=${String(down.at(-1))}`,
              'id',
            )
          }
          assert.deepEqual(up, whole, `${path} by ${sort}`)
          assert.deepEqual(down, whole.toReversed(), `${path} by ${sort}, descending`)
        }
    },
  )

  for (const query of [
    'limit=abc',
    'limit=',
    'limit=1.5',
    'limit=2147483648',
    'limit=-2147483649',
    'limit=1&limit=2',
    'before=x',
    'after=',
    'direction=descending',
    'direction=',
    'sort=',
    'sort=bogus',
    'sort=build_log',
    'sort=name%3Bdrop',
    'sort=__proto__',
    'sort=constructor',
    'seen_only=1',
    'seen_only=True',
    'seen_only=',
  ]) {
    await t.test(`${query} is 400 with one line of text`, async () => {
      const reply = await get(`${all}?${query}`)

      assert.equal(reply.status, 400)
      assert.equal(reply.headers['content-type'], 'text/plain; charset=utf-8')
      assert.match(reply.text, /^[^\n]+$/)
    })
  }

  for (const query of ['unknown=1', 'status_=x', 'has_disagreement=true', 'peer=x']) {
    await t.test(`${query}, which nobody knows, is ignored`, async () => {
      assert.equal((await list(`${all}?${query}`)).total, 8)
    })
  }
})

test('filters', async (t) => {
  const { column, list } = await aFullServer(t)
  const source = '/api/v1/packages/source'
  const binary = '/api/v1/packages/binary'

  for (const [target, found] of [
    [`${source}?name=alpha&release=sid`, ['1.0-1']],
    [`${source}?name=alpha`, ['1.0-1', '2', '3', '4']],
    [`${source}?name=Alpha`, []],
    [`${source}?name=al%25`, []],
    [`${source}?name=al*`, []],
    [`${source}?name=`, []],
    [`${source}?distribution=archlinux`, ['3', '4']],
    [`${source}?distribution=`, []],
    [`${source}?release=`, ['3', '4']],
    [`${source}?release=trixie`, ['2']],
    [`${source}?architecture=arm64`, ['2']],
    [`${source}?architecture=riscv64`, []],
    [`${source}?version=3`, ['3']],
    [`${source}?distribution=archlinux&seen_only=true`, ['4']],
    [`${source}?distribution=archlinux&seen_only=false`, ['3']],
    [`${source}?component=contrib&release=sid`, ['1.0-1', '1.0-1']],
    [`${source}?component=nothing`, []],
    [`${source}?release=sid&status=FAIL,BAD`, ['1.0-1', '1.0-1']],
    [`${source}?releases=trixie,sid&name=alpha`, ['1.0-1', '2']],
    [`${source}?search=ALPH&search_type=contains&release=trixie`, ['2']],
  ] as const) {
    await t.test(`${target} → ${found.join(', ') || 'none'}`, async () => {
      assert.deepEqual(await column(target, 'version'), found)
    })
  }

  for (const [target, found] of [
    [`${binary}?source_name=echo`, ['echo', 'echo-doc']],
    [`${binary}?source_name=echo-doc`, []],
    [`${binary}?component=contrib&release=sid`, ['alpha', 'bravo']],
    [`${binary}?component=&release=sid`, ['echo-doc']],
    [`${binary}?architecture=all`, ['echo-doc']],
    [`${binary}?release=sid&status=BAD`, ['alpha']],
    [`${binary}?release=sid&status=GOOD`, ['echo', 'echo-doc']],
    [`${binary}?release=sid&status=UNKWN`, ['bravo', 'charlie']],
    [`${binary}?reason=build_failed`, ['delta']],
    [`${binary}?search=doc&search_type=contains`, ['echo-doc']],
    [`${binary}?search=echo&search_type=starts_with`, ['echo', 'echo-doc']],
    [`${binary}?search=echo&search_type=exact`, ['echo']],
    [`${binary}?search=%25&search_type=contains`, []],
    [`${binary}?seen_only=false`, ['alpha']],
    ['/api/v1/builds?name=echo', ['echo']],
    ['/api/v1/builds?status=FAIL', ['delta']],
    ['/api/v1/builds?release=&distribution=debian', []],
    ['/api/v1/queue?name=charlie', ['charlie']],
    ['/api/v1/queue?component=contrib&release=sid', ['alpha', 'bravo']],
    ['/api/v1/queue?architecture=arm64', ['alpha']],
  ] as const) {
    await t.test(`${target} → ${found.join(', ') || 'none'}`, async () => {
      assert.deepEqual((await column(target)).sort(), found)
    })
  }

  await t.test('total agrees with the number of records, for every filter', async () => {
    for (const query of [
      '',
      '?release=sid',
      '?component=contrib',
      '?status=BAD',
      '?status=UNKWN',
      '?seen_only=true',
      '?architecture=amd64',
      '?reason=build_failed',
      '?name=echo',
      '?search=a',
      '?release=&seen_only=false',
    ])
      for (const path of [source, binary]) {
        const reply = await list(path + query)
        assert.equal(reply.total, reply.records.length, path + query)
      }
  })
})

test('the JSON of records', async (t) => {
  const { list, get, address, cookie } = await aFullServer(t)
  const moment = /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.(\d{3}){1,3})?$/

  await t.test('a binary package', async () => {
    const [record] = (await list('/api/v1/packages/binary?name=alpha&release=sid')).records

    assert.deepEqual(
      pick(
        record,
        'id name version distribution release component architecture url status build_id artifact_id seen_in_last_sync',
      ),
      {
        id: 3,
        name: 'alpha',
        version: '1.0-1',
        distribution: 'debian',
        release: 'sid',
        component: 'contrib',
        architecture: 'amd64',
        url: 'http://mirror.example/pool/alpha_1.0-1_amd64.deb',
        status: 'BAD',
        build_id: 2,
        artifact_id: 3,
        seen_in_last_sync: true,
      },
    )
    assert.equal(typeof record?.['diffoscope_log_id'], 'number')
    assert.equal(record?.['attestation_log_id'], null)
    assert.match(String(record?.['last_seen']), moment)
  })

  await t.test('after a FAIL the status is null and the build is named', async () => {
    const [record] = (await list('/api/v1/packages/binary?name=delta')).records

    assert.deepEqual(pick(record, 'status build_id artifact_id reason'), {
      status: null,
      build_id: 3,
      artifact_id: null,
      reason: 'build_failed',
    })
  })

  await t.test('before the first rebuild everything about it is null', async () => {
    const [record] = (await list('/api/v1/packages/binary?name=charlie')).records

    assert.deepEqual(
      pick(record, 'status build_id artifact_id diffoscope_log_id attestation_log_id reason decided_at'),
      {
        status: null,
        build_id: null,
        artifact_id: null,
        diffoscope_log_id: null,
        attestation_log_id: null,
        reason: null,
        decided_at: null,
      },
    )
  })

  await t.test('a source package', async () => {
    const [record] = (await list('/api/v1/packages/source?name=delta')).records

    assert.deepEqual(pick(record, 'id name version distribution release status build_id seen_in_last_sync'), {
      id: 3,
      name: 'delta',
      version: '1.0-1',
      distribution: 'debian',
      release: 'sid',
      status: 'FAIL',
      build_id: 3,
      seen_in_last_sync: true,
    })
    assert.match(String(record?.['last_seen']), moment)
  })

  await t.test('a rebuild', async () => {
    const [record] = (await list('/api/v1/builds?name=alpha')).records

    assert.deepEqual(
      pick(record, 'id name version distribution release architecture backend retries built_at status'),
      {
        id: 2,
        name: 'alpha',
        version: '1.0-1',
        distribution: 'debian',
        release: 'sid',
        architecture: 'amd64',
        backend: 'debian',
        retries: 1,
        built_at: '2026-11-22T19:40:00.500',
        status: 'BAD',
      },
    )
    assert.match(String(record?.['started_at']), moment)
  })

  await t.test('its artifacts', async () => {
    const records = documentOf<Record<string, unknown>[]>(await get('/api/v1/builds/2/artifacts'))

    assert.deepEqual(
      records.map((record) => pick(record, 'id name has_diffoscope has_attestation status')),
      [{ id: 3, name: 'alpha', has_diffoscope: true, has_attestation: false, status: 'BAD' }],
    )
    assert.deepEqual(documentOf(await get('/api/v1/builds/2/artifacts/3')), records[0])
  })

  await t.test('its evidence, environment and all', async () => {
    const { evidence } = documentOf<{ evidence: unknown }>(await get('/api/v1/builds/2'))

    assert.deepEqual(evidence, someEvidence)
  })

  await t.test('a job that waits and one that runs', async () => {
    const [waiting] = (await list('/api/v1/queue?name=charlie')).records
    const [running] = (await list('/api/v1/queue?name=bravo')).records

    assert.deepEqual(
      pick(
        waiting,
        'name version distribution release architecture backend url next_retry priority started_at',
      ),
      {
        name: 'charlie',
        version: '1.0-1',
        distribution: 'debian',
        release: 'sid',
        architecture: 'amd64',
        backend: 'debian',
        url: 'https://buildinfos.example/charlie_1.0-1_amd64.buildinfo',
        next_retry: null,
        priority: 1,
        started_at: null,
      },
    )
    assert.match(String(running?.['started_at']), moment)
    assert.match(String(running?.['queued_at']), moment)
  })

  await t.test('a job is found by its own id', async () => {
    const [waiting] = (await list('/api/v1/queue?name=charlie')).records

    assert.deepEqual(documentOf(await get(`/api/v1/queue/${String(waiting?.['id'])}`)), waiting)
  })

  await t.test('a worker; its address is for administrators', async () => {
    const headers = { 'x-auth-cookie': cookie }
    const known = await ask(address, 'GET', '/api/v1/workers', { headers })
    const [record] = documentOf<Records>(known).records
    const [stranger] = (await list('/api/v1/workers')).records
    const one = await ask(address, 'GET', '/api/v1/workers/1', { headers })
    const again = { 'if-none-match': known.headers['etag'] ?? '' }

    assert.deepEqual(pick(record, 'id name address is_online'), {
      id: 1,
      name: 'worker-1',
      address: '127.0.0.1',
      is_online: true,
    })
    assert.deepEqual(stranger, { ...record, address: '' })
    assert.deepEqual(documentOf(one), record)
    assert.deepEqual(documentOf(await get('/api/v1/workers/1')), stranger)
    assert.equal((await ask(address, 'GET', '/api/v1/workers', { headers: again })).status, 200)
    assert.equal(
      (await ask(address, 'GET', '/api/v1/workers', { headers: { ...headers, ...again } })).status,
      304,
    )
    assert.match(String(record?.['last_ping']), moment)
    assert.equal(Object.keys(record ?? {}).includes('key'), false)
  })

  await t.test('what there is', async () => {
    const meta = async (target: string): Promise<unknown> =>
      documentOf(await get(`/api/v1/meta/distributions${target}`))

    assert.deepEqual(await meta(''), ['archlinux', 'debian'])
    assert.deepEqual(await meta('?seen_only=true'), ['archlinux', 'debian'])
    assert.deepEqual(await meta('/debian/releases'), ['sid', 'trixie'])
    assert.deepEqual(await meta('/archlinux/releases'), [null])
    assert.deepEqual(await meta('/nothing/releases'), [])
    assert.deepEqual(await meta('/debian/architectures'), ['amd64', 'arm64'])
    assert.deepEqual(await meta('/debian/releases/sid/architectures'), ['amd64'])
    assert.deepEqual(await meta('/archlinux/releases/-/architectures'), ['amd64'])
  })

  await t.test('the numbers', async () => {
    const numbers = async (query: string): Promise<unknown> =>
      documentOf(await get(`/api/v1/dashboard${query}`))

    assert.deepEqual(await numbers(''), {
      rebuilds: { good: 1, bad: 1, fail: 1, unknown: 4 },
      jobs: { running: 1, available: 3, pending: 2 },
      reasons: { build_failed: 1, content_differs: 1 },
    })
    assert.deepEqual(await numbers('?release=sid'), {
      rebuilds: { good: 1, bad: 1, fail: 1, unknown: 2 },
      jobs: { running: 1, available: 1, pending: 2 },
      reasons: { build_failed: 1, content_differs: 1 },
    })
    assert.deepEqual(await numbers('?component=contrib'), {
      rebuilds: { good: 0, bad: 1, fail: 0, unknown: 1 },
      jobs: { running: 1, available: 0, pending: 1 },
      reasons: { content_differs: 1 },
    })
    assert.deepEqual(await numbers('?architecture=arm64'), {
      rebuilds: { good: 0, bad: 0, fail: 0, unknown: 1 },
      jobs: { running: 0, available: 1, pending: 0 },
      reasons: {},
    })
  })

  await t.test('the public key: CRLF, 64 columns, one element, a NULL parameter', async () => {
    const { current } = documentOf<{ current: string[] }>(await get('/api/v1/meta/public-keys'))

    assert.equal(current.length, 1)
    assert.match(
      current[0] ?? '',
      /^-----BEGIN PUBLIC KEY-----\r\nMCwwBwYDK2VwBQADIQ[A-Za-z0-9+/]{44}==\r\n-----END PUBLIC KEY-----\r\n$/,
    )
  })
})

test('unchanged lists', async (t) => {
  const { get, call, address, clock } = await aFullServer(t, { tick: 50 })
  const paths = lists.map(([path]) => path)
  const again = (path: string, tag: string): Promise<RawReply> =>
    ask(address, 'GET', path, { headers: { 'if-none-match': tag } })

  await t.test('every list has a tag, and whoever knows it gets 304 without a body', async () => {
    for (const path of paths) {
      const first = await get(path)
      const tag = first.headers['etag'] ?? ''
      assert.notEqual(tag, '', path)
      const second = await again(path, tag)
      assert.deepEqual([second.status, second.text, second.headers['etag']], [304, '', tag], path)
      assert.equal((await again(path, '"other"')).status, 200, path)
      assert.equal((await again(path, `"other", ${tag}`)).status, 304, path)
    }
  })

  await t.test('a worker that falls silent changes the tag of workers', async () => {
    const tag = (await get('/api/v1/workers')).headers['etag'] ?? ''
    clock.ahead = 3_600_000

    await until(async () => {
      const { records } = documentOf<Records>(await get('/api/v1/workers'))
      return records.every(({ is_online }) => is_online === false)
    }, 'that the workers are offline')

    assert.equal((await again('/api/v1/workers', tag)).status, 200)
  })

  await t.test('a report changes the tags of packages, builds, the queue and workers', async () => {
    const tags = new Map<string, string>()
    for (const path of paths) tags.set(path, (await get(path)).headers['etag'] ?? '')
    const job = await pop(call)
    assert.ok(job)

    await call(submitBuild, { body: aResult(job) })

    for (const [path, tag] of tags) assert.equal((await again(path, tag)).status, 200, path)
  })
})

function pick(record: Record<string, unknown> | undefined, members: string): Record<string, unknown> {
  return Object.fromEntries(members.split(' ').map((member) => [member, record?.[member]]))
}

/** Query parameters that lists share: what they mean, one test for each row. */
import assert from 'node:assert/strict'
import { submitBuild } from '../../src/wire/builds.ts'
import { endpoints } from '../../src/wire/index.ts'
import { requestRebuild } from '../../src/wire/queue.ts'
import { anyBuild, aResult, importPackages, aPackage } from '../help/server.ts'
import { popped } from './asking.ts'
import { testRows, told, type Rows } from './rows.ts'

const v1 = '/api/v1'
const source = `${v1}/packages/source`
const binary = `${v1}/packages/binary`
const builds = `${v1}/builds`
const queue = `${v1}/queue`
const workers = `${v1}/workers`

/** Which endpoints take all of some parameters. */
function thoseWith(parameters: string): string[] {
  const names = parameters.split(' ')
  const rows = endpoints.filter(
    (row) => row.upstream && row.path.startsWith(v1) && names.every((name) => name in row.query.entries),
  )
  return rows.map(({ method, path }) => `${method} ${path.slice(v1.length)}`).sort()
}

testRows('common query parameters', {
  'page: limit, before, after, sort, direction': () =>
    assert.deepEqual(thoseWith('limit before after sort direction'), [
      'GET /builds',
      'GET /packages/binary',
      'GET /packages/source',
      'GET /queue',
      'GET /workers',
    ]),
  'origin: distribution, release, component, architecture': () =>
    assert.deepEqual(thoseWith('distribution release component architecture'), [
      'DELETE /queue',
      'GET /builds',
      'GET /dashboard',
      'GET /packages/binary',
      'GET /packages/source',
      'GET /queue',
    ]),
  'source identity: name, version': () =>
    assert.deepEqual(thoseWith('name version'), [
      'DELETE /queue',
      'GET /builds',
      'GET /packages/binary',
      'GET /packages/source',
      'GET /queue',
    ]),
  'binary identity: name, version, source_name': () =>
    assert.deepEqual(thoseWith('name version source_name'), ['GET /packages/binary']),
  'freshness: seen_only, true or false and nothing else': async ({ get }) => {
    for (const path of [
      '/packages/source',
      '/packages/binary',
      '/meta/distributions',
      '/meta/distributions/debian/releases',
    ])
      for (const [value, status] of [
        ['true', 200],
        ['false', 200],
        ['1', 400],
        ['True', 400],
        ['', 400],
      ] as const)
        told(await get(`${v1}${path}?seen_only=${value}`), status)
  },
})

testRows('what filters mean', {
  'distribution, release, name, version, source_name: exact, case counts, % and * mean nothing': async ({
    column,
  }) => {
    for (const [query, found] of [
      ['distribution=archlinux&version=2', ['good']],
      ['release=sid&name=bad', ['bad']],
      ['source_name=waits', ['waits', 'waits-doc']],
      ['name=Bad', []],
      ['name=b%25', []],
      ['name=b*', []],
      ['name=', []],
    ] as const)
      assert.deepEqual(await column(`${binary}?${query}`), found, query)
  },
  'an empty release or component: those without one (ours)': async ({ column }) => {
    assert.deepEqual(await column(`${source}?release=`, 'distribution'), ['archlinux', 'archlinux'])
    assert.deepEqual(await column(`${binary}?component=&release=sid`), ['waits-doc'])
  },
  'component: of sources those with a package in it, of packages its own (ours)': async ({ column }) => {
    for (const path of [source, queue, binary])
      assert.deepEqual(await column(`${path}?component=contrib`), ['waits'], path)
    assert.deepEqual(await column(`${builds}?component=contrib`), [])
  },
  'architecture: of a binary its own, elsewhere that of the build input': async ({ column }) => {
    assert.deepEqual(await column(`${binary}?architecture=all`), ['waits-doc'])
    for (const path of [source, queue, builds])
      assert.deepEqual(await column(`${path}?architecture=all`), [], path)
    assert.deepEqual(await column(`${source}?architecture=x86_64`, 'version'), ['1', '2'])
  },
  'seen_only=true: what the last report listed': async ({ column }) =>
    assert.deepEqual(await column(`${source}?distribution=archlinux&seen_only=true`, 'version'), ['2']),
  'seen_only=false: only what it did not list; without it both': async ({ column }) => {
    assert.deepEqual(await column(`${source}?seen_only=false`, 'version'), ['1'])
    assert.deepEqual(await column(`${source}?distribution=archlinux`, 'version'), ['1', '2'])
  },
  'status: a list of statuses (ours; the existing server has no such filter)': async ({ column }) => {
    assert.deepEqual(await column(`${source}?status=BAD,FAIL`), ['bad', 'fail'])
    assert.deepEqual(await column(`${binary}?status=GOOD`), ['good'])
    assert.deepEqual(await column(`${builds}?status=FAIL`), ['fail'])
  },
  'all filters hold together': async ({ column }) =>
    assert.deepEqual(
      await column(
        `${binary}?distribution=debian&release=sid&component=main&architecture=amd64&seen_only=true&version=1.0-1&status=BAD`,
      ),
      ['bad'],
    ),
})

const sid = `${source}?release=sid`

testRows('pages', {
  'default limit: 1000': async ({ call, list, column }) => {
    const many = Array.from({ length: 1001 }, (_, n) => aPackage({ name: `many-${n}` }))
    await importPackages(call, many, { distribution: 'many', release: 'many' })
    assert.equal((await column(`${source}?distribution=many`)).length, 1000)
    assert.equal((await list(`${source}?distribution=many`)).total, 1001)
    assert.equal((await column(`${source}?distribution=many&limit=1001`)).length, 1001)
  },
  'limit=0: no rows; a negative one: as many as a page may hold': async ({ list, column }) => {
    assert.deepEqual(await list(`${sid}&limit=0`), { total: 5, records: [] })
    for (const limit of [-1, -2147483648]) assert.equal((await column(`${sid}&limit=${limit}`)).length, 5)
  },
  'default order: by id, of the queue too': async ({ column }) => {
    for (const path of [source, binary, builds, queue, workers]) {
      const ids = (await column(`${path}?limit=50`, 'id')).map(Number)
      assert.deepEqual(
        ids,
        ids.toSorted((a, b) => a - b),
        path,
      )
    }
  },
  'sort=priority: the queue in the order in which jobs are handed out (ours)': async ({
    post,
    column,
    asAdmin,
  }) => {
    told(await post(`${v1}/queue`, { name: 'waits', priority: -1 }, asAdmin), 200)
    const names = await column(`${v1}/queue?sort=priority`)
    assert.equal(names[0], 'waits')
  },
  'direction without sort: by id, up or down': async ({ column }) => {
    assert.deepEqual(await column(`${sid}&direction=Descending`, 'id'), [5, 4, 3, 2, 1])
    assert.deepEqual(await column(`${sid}&direction=Ascending`, 'id'), [1, 2, 3, 4, 5])
  },
  'after=N and before=N without sort: above N, below N, between both': async ({ column }) => {
    assert.deepEqual(await column(`${sid}&after=3`, 'id'), [4, 5])
    assert.deepEqual(await column(`${sid}&before=3`, 'id'), [1, 2])
    assert.deepEqual(await column(`${sid}&after=1&before=4`, 'id'), [2, 3])
  },
  'sort=F: by F and then id, both up or both down': async ({ column }) => {
    assert.deepEqual(await column(`${sid}&sort=name`), ['bad', 'fail', 'good', 'runs', 'waits'])
    assert.deepEqual(await column(`${sid}&sort=name&direction=Descending`), [
      'waits',
      'runs',
      'good',
      'fail',
      'bad',
    ])
    assert.deepEqual(await column(`${sid}&sort=version&direction=Descending`, 'id'), [5, 4, 3, 2, 1])
  },
  'after=N with sort: what comes after the row N': async ({ column }) =>
    assert.deepEqual(await column(`${sid}&sort=name&after=3`), ['good', 'runs', 'waits']),
  'before=N with sort: what comes before it': async ({ column }) =>
    assert.deepEqual(await column(`${sid}&sort=name&before=1`), ['bad', 'fail']),
  'direction and cursors: before and Descending go down from a row': async ({ column }) => {
    assert.deepEqual(await column(`${sid}&before=4&direction=Descending&limit=2`, 'id'), [3, 2])
    assert.deepEqual(await column(`${sid}&sort=name&before=1&direction=Descending&limit=1`), ['fail'])
  },
  'after and Descending: the rows next above, largest first (ours: next to the cursor)': async ({ column }) =>
    assert.deepEqual(await column(`${sid}&after=2&direction=Descending&limit=2`, 'id'), [4, 3]),
  'before and Ascending: the page just before the row (ours)': async ({ column }) =>
    assert.deepEqual(await column(`${sid}&before=5&limit=2`, 'id'), [3, 4]),
  'a cursor row that is not there: no rows where its value is needed': async ({ column }) =>
    assert.deepEqual(await column(`${sid}&sort=name&after=4711`), []),
  'rows without a value: first when ascending, and a cursor meets each of them once (ours)': async ({
    column,
  }) => {
    const whole = await column(`${sid}&sort=build_id`, 'id')
    assert.deepEqual(whole, [4, 5, 1, 2, 3])
    assert.deepEqual(await column(`${sid}&sort=build_id&after=4`, 'id'), [5, 1, 2, 3])
  },
  'total: what the filter leaves, before cursors and limit': async ({ list }) => {
    const { total, records } = await list(`${sid}&after=3&limit=1`)
    assert.deepEqual([total, records.length], [5, 1])
  },
  'sort of other letters, of an unknown column or empty: 400 (ours)': async ({ get }) => {
    for (const sort of ['name;', 'a-b', 'bogus', '']) told(await get(`${source}?sort=${sort}`), 400)
  },
  'page envelope: total and records': async ({ document }) => {
    for (const path of [source, binary, builds, queue, workers])
      assert.deepEqual(Object.keys(await document(path)), ['total', 'records'])
  },
})

const sorts: Readonly<Record<string, string>> = {
  '/builds': 'id name version distribution release architecture backend retries started_at built_at status',
  '/packages/source': 'id name version distribution release status last_seen seen_in_last_sync',
  '/packages/binary':
    'id name version distribution release component architecture artifact_url status diffoscope_log_id attestation_log_id last_seen seen_in_last_sync',
  '/queue':
    'id name version distribution release architecture backend url next_retry priority queued_at started_at',
  '/workers': 'id name address status last_ping online',
}
/** Names of JSON that the existing server does not take. */
const aliases: Readonly<Record<string, string>> = {
  '/packages/source': 'build_id',
  '/packages/binary': 'url build_id artifact_id',
  '/workers': 'is_online',
}

const sortRows = Object.entries(sorts).map(([path, names]): [string, Rows[string]] => [
  `${path}: names of columns, and those of JSON (ours)`,
  async ({ column }) => {
    const all = (await column(v1 + path, 'id')).map(Number).sort((a, b) => a - b)
    for (const name of `${names} ${aliases[path] ?? ''}`.trim().split(' '))
      for (const direction of ['Ascending', 'Descending']) {
        const ids = await column(`${v1}${path}?sort=${name}&direction=${direction}`, 'id')
        assert.deepEqual(
          ids.map(Number).sort((a, b) => a - b),
          all,
          `${path} by ${name}`,
        )
      }
  },
])

testRows('what lists can be sorted by', Object.fromEntries(sortRows))

testRows('the latest rebuild', {
  'of a build input it is the last that was decided, whatever the clock of its worker says (ours)': async ({
    call,
    column,
    worker,
  }) => {
    const { call: asWorker } = await worker('another')
    await call(requestRebuild, { body: { ...anyBuild, distribution: 'debian', name: 'good' } })
    const job = await popped(asWorker)
    await asWorker(submitBuild, { body: aResult(job, { status: 'BAD', built_at: '2020-01-01T00:00:00' }) })
    assert.deepEqual(await column(`${source}?release=sid&name=good`, 'status'), ['BAD'])
    assert.deepEqual(await column(`${builds}?name=good`, 'status'), ['GOOD', 'BAD'])
    assert.deepEqual(await column(`${v1}/packages/binary?release=sid&name=good`, 'status'), ['BAD'])
  },
})

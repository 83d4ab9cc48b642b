/** API v0, one test for each row: routes, the list of packages, the dashboard, and what its clients need. */
import assert from 'node:assert/strict'
import { aPackage, importPackages } from '../help/server.ts'
import { documentOf } from './raw.ts'
import { hasMembers, json, log, moment, testRows, told, type Document, type Stocked } from './rows.ts'

const v0 = '/api/v0'
const member =
  'name:string version:string status:string distro:string suite:string architecture:string artifact_url:string build_id:int? built_at:date? has_diffoscope:boolean has_attestation:boolean'
const item =
  'id:int pkgbase:object version:string queued_at:date worker_id:int? started_at:date? last_ping:date?'

testRows('routes of v0', {
  'write routes: 400 where the body does not fit, else 501 without a body, whoever asks': async ({
    post,
  }) => {
    for (const [path, body] of [
      ['/pkgs/sync', { distro: 'd', suite: 's', groups: [] }],
      ['/queue/push', { name: 'n', priority: 1, distro: 'd', suite: 's' }],
      ['/queue/pop', { supported_backends: [] }],
      ['/queue/drop', { name: 'n', distro: 'd', suite: 's' }],
      ['/pkg/requeue', { priority: 1, reset: true }],
      ['/build/ping', { queue_id: 1 }],
      ['/build/report', { queue: {}, build_log: [], rebuilds: [] }],
    ] as const) {
      told(await post(v0 + path, body), 501, '')
      told(await post(v0 + path, '{}'), 400)
    }
  },
  'GET workers: for administrators, those online, with addr and without a key (ours)': async ({
    get,
    asAdmin,
  }) => {
    told(await get(`${v0}/workers`), 403)
    const [worker] = documentOf<Document[]>(await get(`${v0}/workers`, asAdmin))
    hasMembers(
      worker,
      'id:int name:string addr:string address:string status:string? last_ping:date online:boolean',
    )
    assert.equal('key' in (worker ?? {}), false)
  },
  'POST queue/list: {now, queue} in the order of the queue; limit null is everything': async ({ post }) => {
    const queue = async (limit: number | null): Promise<{ now: string; queue: { pkgbase: Document }[] }> =>
      documentOf(await post(`${v0}/queue/list`, { limit }))
    const { now, queue: all } = await queue(null)
    assert.match(now, moment)
    for (const each of all) hasMembers(each, item)
    assert.deepEqual(
      all.map(({ pkgbase }) => pkgbase['name']),
      ['runs', 'waits', 'good', 'bad', 'fail'],
    )
    assert.equal((await queue(2)).queue.length, 2)
    told(await post(`${v0}/queue/list`, {}), 200)
    told(await post(`${v0}/queue/list`, ''), 400)
  },
  'GET builds/{id}/log: by the id that the list gives (ours)': async ({ get }) => {
    const [bad] = documentOf<Document[]>(await get(`${v0}/pkgs/list?name=bad`))
    told(await get(`${v0}/builds/${String(bad?.['build_id'])}/log`), 200, log)
  },
  'GET builds/{id}/diffoscope: the first that there is': async ({ get }) => {
    told(await get(`${v0}/builds/2/diffoscope`), 200, 'a diff\n')
    told(await get(`${v0}/builds/1/diffoscope`), 404, 'Not found\n')
  },
  'GET builds/{id}/attestation: the first that there is': async ({ get }) => {
    const reply = await get(`${v0}/builds/1/attestation`)
    hasMembers(documentOf(reply), 'signatures:array signed:object')
    assert.equal(reply.headers['content-type'], 'application/json; charset=utf-8')
  },
  'GET dashboard: {suites, active_builds, queue_length, now}': async ({ document }) =>
    hasMembers(
      await document(`${v0}/dashboard`),
      'suites:object active_builds:array queue_length:int now:date',
    ),
  'GET public-keys: as in v1': async ({ get }) =>
    assert.equal((await get(`${v0}/public-keys`)).text, (await get('/api/v1/meta/public-keys')).text),
  'GET pkgs/list: a bare array': async ({ document }) =>
    assert.ok(Array.isArray(await document(`${v0}/pkgs/list`))),
})

const found =
  (names: readonly string[], query: string) =>
  async ({ document }: Stocked): Promise<void> => {
    const records = await document<Document[]>(`${v0}/pkgs/list?${query}`)
    assert.deepEqual(records.map(({ name }) => name).sort(), names)
  }

testRows('the list of v0', {
  'name: of the binary package': found(['waits-doc'], 'name=waits-doc'),
  'distro: of the source package': found(['good', 'good'], 'distro=archlinux'),
  'suite: component of the binary package': found(['waits'], 'suite=contrib'),
  'architecture: of the build input, though the member shows that of the package': async ({ document }) => {
    const records = await document<Document[]>(`${v0}/pkgs/list?architecture=amd64&name=waits-doc`)
    assert.deepEqual(
      records.map(({ architecture }) => architecture),
      ['all'],
    )
  },
  'status: of the artifact (ours); another word is 400': async ({ document, get }) => {
    assert.deepEqual(
      (await document<Document[]>(`${v0}/pkgs/list?status=BAD`)).map(({ status }) => status),
      ['BAD'],
    )
    told(await get(`${v0}/pkgs/list?status=FAIL`), 400)
  },
  'every member with its type': async ({ document }) => {
    for (const record of await document<Document[]>(`${v0}/pkgs/list`)) hasMembers(record, member)
  },
  'status: UNKWN where no artifact was compared': async ({ document }) => {
    const [fail] = await document<Document[]>(`${v0}/pkgs/list?name=fail`)
    assert.deepEqual([fail?.['status'], fail?.['build_id']], ['UNKWN', 3])
  },
  'suite: the empty text where there is no component': async ({ document }) =>
    assert.equal((await document<Document[]>(`${v0}/pkgs/list?name=waits-doc`))[0]?.['suite'], ''),
  'build_id, built_at: of the latest rebuild, or null': async ({ document }) => {
    const [good] = await document<Document[]>(`${v0}/pkgs/list?name=good&distro=debian`)
    assert.deepEqual([good?.['build_id'], good?.['built_at']], [1, '2026-11-22T19:40:00.500'])
    const [waits] = await document<Document[]>(`${v0}/pkgs/list?name=waits`)
    assert.deepEqual([waits?.['build_id'], waits?.['built_at']], [null, null])
  },
  'conditional requests: last-modified in seconds, 304 without a body from then on; no date is ignored':
    async ({ get, clock }) => {
      await get(`${v0}/pkgs/list`)
      clock.ahead += 2000
      const date = (await get(`${v0}/pkgs/list`)).headers['last-modified'] ?? ''
      assert.match(date, /^\w{3}, \d\d \w{3} \d{4} \d\d:\d\d:\d\d GMT$/)
      told(await get(`${v0}/pkgs/list`, { 'if-modified-since': date }), 304, '')
      told(await get(`${v0}/pkgs/list`, { 'if-modified-since': date.replace('GMT', '+0000') }), 304, '')
      told(await get(`${v0}/pkgs/list`, { 'if-modified-since': 'Thu, 01 Jan 1970 00:00:00 GMT' }), 200)
      told(await get(`${v0}/pkgs/list`, { 'if-modified-since': 'yesterday' }), 200)
    },
  'what is listed, and what left in the last 90 days (ours; the existing server: whatever it ever saw)':
    async ({ call, document, clock }) => {
      // another list each time: one that took long on a busy machine is given out again for a while
      const versions = async (name: string): Promise<unknown[]> =>
        (await document<Document[]>(`${v0}/pkgs/list?distro=archlinux${name}`))
          .map(({ version }) => version)
          .sort()
      assert.deepEqual(await versions(''), ['1', '2'])
      clock.ahead = 91 * 24 * 3_600_000
      await importPackages(call, [aPackage()], { distribution: 'other' }) // lists are kept until something changes
      assert.deepEqual(await versions('&name=good'), ['2'])
      clock.ahead = 0
    },
})

testRows('the dashboard of v0', {
  'suites: binary packages by component and status, those that are listed': async ({ document }) =>
    assert.deepEqual((await document(`${v0}/dashboard`))['suites'], {
      '': { good: 0, unknown: 1, bad: 0 },
      contrib: { good: 0, unknown: 1, bad: 0 },
      main: { good: 1, unknown: 3, bad: 1 },
    }),
  'active_builds: what runs; its suite is the empty text': async ({ document }) => {
    const { active_builds: active } = await document<{ active_builds: Document[] }>(`${v0}/dashboard`)
    assert.equal(active.length, 1)
    hasMembers(active[0], item)
    const group = active[0]?.['pkgbase']
    hasMembers(
      group,
      'name:string version:string distro:string suite:string architecture:string input_url:string? artifacts:array',
    )
    assert.deepEqual([(group as Document)['name'], (group as Document)['suite']], ['runs', ''])
    assert.deepEqual((group as { artifacts: unknown }).artifacts, [
      { name: 'runs', version: '1.0-1', url: 'http://mirror.example/pool/runs_1.0-1_amd64.deb' },
    ])
  },
  'queue_length: jobs that wait (ours; the existing server counts those that run)': async ({ document }) =>
    assert.equal((await document(`${v0}/dashboard`))['queue_length'], 4),
})

testRows('what clients of v0 need', {
  'status tools: every member with its type, status GOOD, BAD or UNKWN, built_at without Z': async ({
    document,
  }) => {
    const records = await document<Document[]>(`${v0}/pkgs/list`)
    for (const record of records) {
      hasMembers(record, member)
      assert.match(String(record['status']), /^(GOOD|BAD|UNKWN)$/)
      assert.doesNotMatch(String(record['built_at']), /Z/)
    }
  },
  'arch-repro-status: logs by build_id of the list; 404 says `Not found` and a line feed': async ({
    document,
    get,
  }) => {
    const [good] = await document<Document[]>(`${v0}/pkgs/list?distro=debian&name=good`)
    told(await get(`${v0}/builds/${String(good?.['build_id'])}/log`), 200, log)
    told(await get(`${v0}/builds/4711/log`), 404, 'Not found\n')
  },
  'web pages: suite is text to group by, architecture is that of the package, suites is a map': async ({
    document,
  }) => {
    const records = await document<Document[]>(`${v0}/pkgs/list`)
    for (const { suite } of records) assert.equal(typeof suite, 'string')
    assert.ok(records.some(({ architecture }) => architecture === 'all'))
    assert.equal(Array.isArray((await document(`${v0}/dashboard`))['suites']), false)
  },
  'all: without a secret, compressed only when asked': async ({ sent }) => {
    for (const [method, path] of [
      ['GET', '/pkgs/list'],
      ['GET', '/dashboard'],
      ['GET', '/public-keys'],
      ['GET', '/builds/1/log'],
      ['POST', '/queue/list'],
    ] as const) {
      const given = method === 'POST' ? { headers: json, body: '{}' } : {}
      const reply = await sent(method, v0 + path, given)
      told(reply, 200)
      assert.equal(reply.headers['content-encoding'], undefined)
    }
  },
})

/** Members of every JSON object with their types, and where the older description of the API says otherwise than the API. */
import assert from 'node:assert/strict'
import { aPackage, aReport, importPackages } from '../help/server.ts'
import { documentOf } from './raw.ts'
import { hasMembers, testRows, told, type Document, type Stocked } from './rows.ts'

const v1 = '/api/v1'
const report = {
  queue_id: 1,
  built_at: '2026-11-22T19:40:00.500',
  build_log: [],
  status: 'FAIL',
  artifacts: [],
}
const pop = { supported_backends: ['debian'], architecture: 'x86_64', supported_architectures: ['amd64'] }
const job =
  'id:int name:string version:string distribution:string release:string? architecture:string backend:string url:string next_retry:date? priority:int queued_at:date started_at:date?'

/** A body without one of its members, and with each of some others in its place. */
async function needs(
  { post, asAdmin, asWorker }: Stocked,
  path: string,
  whole: Document,
  required: string,
): Promise<void> {
  for (const name of required.split(' ')) {
    const { [name]: _, ...rest } = whole
    for (const body of [rest, { ...rest, [name]: null }])
      told(await post(v1 + path, body, { ...asAdmin, ...asWorker }), 400, new RegExp(name))
  }
}

testRows('JSON objects that come back', {
  Rebuild: async ({ list, document }) => {
    const members =
      'id:int name:string version:string distribution:string release:string? architecture:string backend:string retries:int started_at:date? built_at:date? status:string?'
    for (const record of (await list(`${v1}/builds`)).records) hasMembers(record, members)
    hasMembers(await document(`${v1}/builds/1`), members)
  },
  'Rebuild.retries: of that attempt (ours)': async ({ column }) =>
    assert.deepEqual(await column(`${v1}/builds`, 'retries'), [0, 1, 1]),
  'RebuildArtifact: its name is that of the package': async ({ document }) => {
    const members = 'id:int name:string has_diffoscope:boolean has_attestation:boolean status:string?'
    const all = [
      ...(await document<Document[]>(`${v1}/builds/1/artifacts`)),
      ...(await document<Document[]>(`${v1}/builds/2/artifacts`)),
    ]
    for (const artifact of all) hasMembers(artifact, members)
    assert.deepEqual(
      all.map(({ name, status, has_diffoscope, has_attestation }) => [
        name,
        status,
        has_diffoscope,
        has_attestation,
      ]),
      [
        ['good', 'GOOD', false, true],
        ['bad', 'BAD', true, false],
      ],
    )
    assert.deepEqual(await document(`${v1}/builds/2/artifacts/2`), all[1])
  },
  SourcePackage: async ({ list, document }) => {
    const members =
      'id:int name:string version:string distribution:string release:string? status:string? build_id:int? last_seen:date seen_in_last_sync:boolean'
    for (const record of (await list(`${v1}/packages/source`)).records) hasMembers(record, members)
    hasMembers(await document(`${v1}/packages/source/1`), members)
  },
  BinaryPackage: async ({ list, document }) => {
    const members =
      'id:int name:string version:string distribution:string release:string? component:string? architecture:string url:string status:string? build_id:int? artifact_id:int? diffoscope_log_id:int? attestation_log_id:int? last_seen:date seen_in_last_sync:boolean'
    for (const record of (await list(`${v1}/packages/binary`)).records) hasMembers(record, members)
    hasMembers(await document(`${v1}/packages/binary/1`), members)
  },
  'BinaryPackage: a null status with a build_id is a FAIL, and no build_id one that was not tried': async ({
    list,
  }) => {
    const found = (await list(`${v1}/packages/binary?release=sid`)).records
    assert.deepEqual(
      found.map(({ name, status, build_id }) => [name, status, build_id]),
      [
        ['good', 'GOOD', 1],
        ['bad', 'BAD', 2],
        ['fail', null, 3],
        ['runs', null, null],
        ['waits', null, null],
        ['waits-doc', null, null],
      ],
    )
  },
  'BinaryPackage: build_id and artifact_id lead to the artifact': async ({ list, get }) => {
    const [bad] = (await list(`${v1}/packages/binary?name=bad`)).records
    const [good] = (await list(`${v1}/packages/binary?name=good&release=sid`)).records
    told(
      await get(
        `${v1}/builds/${String(bad?.['build_id'])}/artifacts/${String(bad?.['artifact_id'])}/diffoscope`,
      ),
      200,
      'a diff\n',
    )
    told(
      await get(
        `${v1}/builds/${String(good?.['build_id'])}/artifacts/${String(good?.['artifact_id'])}/attestation`,
      ),
      200,
    )
    assert.deepEqual([bad?.['attestation_log_id'], good?.['diffoscope_log_id']], [null, null])
  },
  QueuedJob: async ({ list, document, running }) => {
    for (const record of (await list(`${v1}/queue`)).records) hasMembers(record, job)
    hasMembers(await document(`${v1}/queue/${running.job.id}`), job)
  },
  'QueuedJob: next_retry null is due, started_at null is not running': async ({ list }) => {
    const { records } = await list(`${v1}/queue?distribution=debian`)
    const shown = records.map(({ name, next_retry, started_at }) => [
      name,
      next_retry !== null,
      started_at !== null,
    ])
    assert.deepEqual(shown.sort(), [
      ['bad', true, false],
      ['fail', true, false],
      ['runs', false, true],
      ['waits', false, false],
    ])
  },
  Worker: async ({ list, document }) => {
    const members = 'id:int name:string address:string status:string? last_ping:date is_online:boolean'
    for (const record of (await list(`${v1}/workers`)).records) hasMembers(record, members)
    hasMembers(await document(`${v1}/workers/1`), members)
  },
  'DashboardState: rebuilds and jobs': async ({ document }) => {
    const { rebuilds, jobs } = await document(`${v1}/dashboard?distribution=debian`)
    assert.deepEqual(
      [rebuilds, jobs],
      [
        { good: 1, bad: 1, fail: 1, unknown: 2 },
        { running: 1, available: 1, pending: 2 },
      ],
    )
  },
  'PublicKeys: one PEM with CRLF, 64 columns and a NULL parameter': async ({ document }) => {
    const { current } = await document<{ current: string[] }>(`${v1}/meta/public-keys`)
    assert.equal(current.length, 1)
    assert.match(
      current[0] ?? '',
      /^-----BEGIN PUBLIC KEY-----\r\nMCwwBwYDK2VwBQADIQ[A-Za-z0-9+/]{44}==\r\n-----END PUBLIC KEY-----\r\n$/,
    )
  },
})

testRows('JSON objects that are sent', {
  'RebuildReport: what it must have': (server) =>
    needs(server, '/builds', report, 'queue_id built_at build_log status artifacts'),
  'RebuildReport.artifacts: name and status must be there, blobs may be absent or null': async ({
    post,
    asWorker,
    running,
    document,
  }) => {
    const sent = (artifacts: unknown) =>
      post(`${v1}/builds`, { ...report, queue_id: running.job.id, status: 'BAD', artifacts }, asWorker)
    told(await sent([{ status: 'BAD' }]), 400, /name/)
    told(await sent([{ name: 'runs' }]), 400, /status/)
    told(await sent([{ name: 'runs', status: 'BAD', diffoscope: 'text' }]), 400, /diffoscope/)
    told(await sent([{ name: 'runs', status: 'BAD', diffoscope: null }]), 204)
    hasMembers((await document<Document[]>(`${v1}/builds/4/artifacts`))[0], 'name:string')
  },
  'SourcePackage: once, also where it is built for two architectures (ours)': async ({ call, column }) => {
    await importPackages(call, [aPackage({ name: 'bad' })], { architecture: 'arm64' })
    assert.deepEqual(await column(`${v1}/packages/source?name=bad`, 'status'), ['BAD'])
  },
  'PackageReport: what it must have': (server) =>
    needs(server, '/packages', aReport([], { distribution: 'other' }), 'distribution architecture packages'),
  'PackageReport.packages: what each must have': async (server) => {
    const artifact = { name: 'a', version: '1', architecture: 'all', url: 'f' }
    const whole = { name: 'a', version: '1', url: 'u', artifacts: [artifact] }
    const sent = (packages: unknown) =>
      server.post(`${v1}/packages`, { distribution: 'other', architecture: 'all', packages }, server.asAdmin)
    for (const name of Object.keys(whole))
      told(await sent([{ ...whole, [name]: undefined }]), 400, new RegExp(name))
    for (const name of Object.keys(artifact))
      told(await sent([{ ...whole, artifacts: [{ ...artifact, [name]: undefined }] }]), 400, new RegExp(name))
    told(await sent([whole]), 204)
  },
  'PackageReport: release and component may be absent or null; a component of the whole report is ignored':
    async ({ post, asAdmin, list }) => {
      const artifacts = [{ name: 'a', version: '1', component: null, architecture: 'any', url: 'f' }]
      const packages = [{ name: 'a', version: '1', url: 'u', artifacts }]
      told(
        await post(
          `${v1}/packages`,
          { distribution: 'old', component: 'main', release: null, architecture: 'any', packages },
          asAdmin,
        ),
        204,
      )
      const [record] = (await list(`${v1}/packages/binary?distribution=old`)).records
      assert.deepEqual([record?.['release'], record?.['component']], [null, null])
    },
  'QueueJobRequest: every member may be absent; {} is for everything': async ({ post, asAdmin }) => {
    told(await post(`${v1}/queue`, {}, asAdmin), 200, /^\{"affected":([6-9]|1\d)\}$/)
    for (const part of [
      { distribution: 'debian' },
      { release: 'sid' },
      { component: 'main' },
      { name: 'bad' },
      { version: '1.0-1' },
      { architecture: 'amd64' },
      { status: 'BAD' },
      { priority: 3 },
    ])
      assert.ok(
        documentOf<{ affected: number }>(await post(`${v1}/queue`, part, asAdmin)).affected >= 1,
        JSON.stringify(part),
      )
  },
  'PopQueuedJobRequest: what it must have': (server) =>
    needs(server, '/queue/pop', pop, 'supported_backends architecture supported_architectures'),
  'JobAssignment: "Nothing"': async ({ post, asWorker }) =>
    told(await post(`${v1}/queue/pop`, { ...pop, supported_backends: [] }, asWorker), 200, '"Nothing"'),
  'JobAssignment: Rebuild with job and artifacts; started_at is still null': async ({ post, asWorker }) => {
    const { Rebuild } = documentOf<{ Rebuild: { job: Document; artifacts: Document[] } }>(
      await post(`${v1}/queue/pop`, pop, asWorker),
    )
    hasMembers(Rebuild.job, job)
    assert.equal(Rebuild.job['started_at'], null)
    assert.ok(Rebuild.artifacts.length > 0)
    for (const artifact of Rebuild.artifacts)
      hasMembers(artifact, 'name:string version:string architecture:string url:string')
  },
  'RegisterWorkerRequest: the name; the key is in the header': async ({ post, list }) => {
    const headers = { 'x-worker-key': 'a new one', 'x-signup-secret': 'let me in' }
    told(await post(`${v1}/workers`, {}, headers), 400, /name/)
    told(await post(`${v1}/workers`, { name: 'new', key: 'not this' }, headers), 204)
    assert.ok((await list(`${v1}/workers`)).records.some(({ name }) => name === 'new'))
  },
})

testRows('where the older description says otherwise', {
  'unauthorised: 403': async ({ sent }) => told(await sent('DELETE', `${v1}/queue`), 403),
  'error body: text or nothing': async ({ get }) => told(await get(`${v1}/builds?limit=x`), 400, /^[^{]+$/),
  'direction: Ascending and Descending': async ({ get }) => {
    told(await get(`${v1}/builds?direction=Ascending`), 200)
    told(await get(`${v1}/builds?direction=ascending`), 400)
  },
  'unknown status: UNKWN': async ({ column }) =>
    assert.deepEqual(
      await column('/api/v1/packages/binary?status=UNKWN&distribution=archlinux&seen_only=true'),
      ['good'],
    ),
  'log of an unknown build: 404, as described (ours)': async ({ get }) =>
    told(await get(`${v1}/builds/4711/log`), 404, ''),
  'artifacts of an unknown build: 200 with an empty list': async ({ get }) =>
    told(await get(`${v1}/builds/4711/artifacts`), 200, '[]'),
  'empty release and component: those without one, as described (ours)': async ({ column }) =>
    assert.deepEqual(await column(`${v1}/packages/source?release=&seen_only=true`), ['good']),
  'limit: 0 and negatives are taken': async ({ get }) => {
    for (const limit of [0, -1]) told(await get(`${v1}/builds?limit=${limit}`), 200)
  },
  'byte blobs: lists of integers, no base64': async ({ post, asWorker }) =>
    told(await post(`${v1}/builds`, { ...report, build_log: 'AA==' }, asWorker), 400),
  'attestation media type: application/json; charset=utf-8': async ({ get }) =>
    assert.equal(
      (await get(`${v1}/builds/1/artifacts/1/attestation`)).headers['content-type'],
      'application/json; charset=utf-8',
    ),
  'RegisterWorkerRequest.key: in the header X-Worker-Key': async ({ post }) =>
    told(await post(`${v1}/workers`, { name: 'n', key: 'k' }, { 'x-signup-secret': 'let me in' }), 403),
  'QueueJobRequest: status and priority exist': async ({ post, asAdmin }) => {
    told(await post(`${v1}/queue`, { status: 'FAIL', priority: 7 }, asAdmin), 200, '{"affected":1}')
  },
  'QueuedJob: no component; next_retry, priority, queued_at and started_at': async ({ list }) => {
    const [record] = (await list(`${v1}/queue`)).records
    assert.equal('component' in (record ?? {}), false)
    hasMembers(record, 'next_retry:date? priority:int queued_at:date started_at:date?')
  },
  'SourcePackage: no component, no architecture; status, last_seen and seen_in_last_sync': async ({
    list,
  }) => {
    const [record] = (await list(`${v1}/packages/source`)).records
    assert.deepEqual(['component' in (record ?? {}), 'architecture' in (record ?? {})], [false, false])
    hasMembers(record, 'status:string? last_seen:date seen_in_last_sync:boolean')
  },
  'BinaryPackage: status, ids of both blobs, last_seen and seen_in_last_sync are there': async ({ list }) =>
    hasMembers(
      (await list(`${v1}/packages/binary`)).records[0],
      'status:string? diffoscope_log_id:int? attestation_log_id:int? last_seen:date seen_in_last_sync:boolean',
    ),
  'PackageReport: component of each artifact, which may be absent, as may the release': async ({
    post,
    asAdmin,
  }) =>
    told(
      await post(`${v1}/packages`, { distribution: 'bare', architecture: 'any', packages: [] }, asAdmin),
      204,
    ),
  'Rebuild: no component': async ({ list }) =>
    assert.equal('component' in ((await list(`${v1}/builds`)).records[0] ?? {}), false),
  'dashboard: good, bad, fail, unknown are of rebuilds; running, available, pending of jobs': async ({
    document,
  }) => {
    const { rebuilds, jobs } = await document(`${v1}/dashboard`)
    hasMembers(rebuilds, 'good:int bad:int fail:int unknown:int')
    hasMembers(jobs, 'running:int available:int pending:int')
  },
  'public-keys: an object with a list of strings': async ({ document }) =>
    hasMembers(await document(`${v1}/meta/public-keys`), 'current:array'),
  'pop, report and unregister: the key of a worker, not the cookie (unregister: also the cookie, ours)':
    async ({ post, sent, asAdmin, asWorker }) => {
      told(await post(`${v1}/queue/pop`, pop, asAdmin), 403)
      told(await post(`${v1}/builds`, report, asAdmin), 403)
      told(await sent('DELETE', `${v1}/workers/4711`, { headers: asWorker }), 403)
      told(await sent('DELETE', `${v1}/workers/4711`, { headers: asAdmin }), 404)
    },
  'seen_only: also on packages/source and packages/binary': async ({ column }) => {
    for (const path of ['source', 'binary'])
      assert.deepEqual(await column(`${v1}/packages/${path}?seen_only=false`, 'version'), ['1'])
  },
  'architecture on packages/source: works': async ({ list }) =>
    assert.equal((await list(`${v1}/packages/source?architecture=amd64`)).total, 5),
  'POST /queue: 200 with how many matched, as 0.28 has it': async ({ post, asAdmin }) =>
    told(await post(`${v1}/queue`, { name: 'bad' }, asAdmin), 200, '{"affected":1}'),
})

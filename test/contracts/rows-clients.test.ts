/** What each existing client asks, as it asks it, and the exact strings that clients depend on. */
import assert from 'node:assert/strict'
import { readdir } from 'node:fs/promises'
import { request } from 'node:http'
import zlib from 'node:zlib'
import { parseEnvelope, publicKeyFromPem, verifyEnvelope } from '../../src/attestation.ts'
import { aReport, aPackage } from '../help/server.ts'
import { decoded, documentOf } from './raw.ts'
import { hasMembers, json, log, testRows, told, type Document, type Records } from './rows.ts'

const v1 = '/api/v1'
const v0 = '/api/v0'
const tool = { accept: '*/*', 'accept-encoding': 'zstd' }
const packed = (body: unknown) => ({
  body: zlib.zstdCompressSync(JSON.stringify(body)),
  headers: { ...tool, ...json, 'content-encoding': 'zstd' },
})

testRows('requests of existing clients', {
  'rebuildctl: walks packages by name until an empty page': async ({ get }) => {
    const page = async (query: string): Promise<Document[]> =>
      (
        JSON.parse(
          decoded(await get(`${v1}/packages/binary?limit=3&sort=name${query}`, tool)).toString(),
        ) as Records
      ).records
    const names: unknown[] = []
    for (
      let records = await page('');
      records.length > 0;
      records = await page(`&after=${String(records.at(-1)?.['id'])}`)
    )
      names.push(...records.map(({ name }) => name))
    assert.deepEqual(names, ['bad', 'fail', 'good', 'good', 'good', 'runs', 'waits', 'waits-doc'])
  },
  'rebuildctl: workers, the queue, logs, diffs and attestations': async ({ get, asAdmin }) => {
    for (const target of [
      '/workers',
      '/queue?limit=1000',
      '/queue?limit=1000&after=2',
      '/builds/1/log',
      '/builds/2/artifacts/2/diffoscope',
      '/builds/1/artifacts/1/attestation',
    ]) {
      const reply = await get(v1 + target, { ...tool, ...asAdmin })
      told(reply, 200)
      assert.equal(reply.headers['content-encoding'], 'zstd')
    }
  },
  'rebuildctl: queues, drops and imports': async ({ sent, asAdmin }) => {
    const whole = {
      distribution: 'debian',
      release: null,
      component: 'main',
      name: 'bad',
      version: null,
      architecture: null,
      status: null,
      priority: 0,
    }
    const { body, headers } = packed(whole)
    const pushed = await sent('POST', `${v1}/queue`, { body, headers: { ...headers, ...asAdmin } })
    assert.equal(decoded(pushed).toString(), '{"affected":1}')
    told(
      await sent('DELETE', `${v1}/queue?name=bad&distribution=debian&component=main`, {
        headers: { ...tool, ...asAdmin },
      }),
      204,
    )
    const report = packed(aReport([aPackage()], { distribution: 'new' }))
    told(
      await sent('POST', `${v1}/packages`, { body: report.body, headers: { ...report.headers, ...asAdmin } }),
      204,
    )
  },
  'rebuilderd-worker: registers, pops, pings without a body, reports': async ({ sent, asAdmin, post }) => {
    const key = {
      'x-worker-key': 'RWVlZWVlZWVlZWVlZWVlZWVlZWVlZWVlZWVlZWVlZWU=',
      'x-signup-secret': 'let me in',
    }
    const asked = async (path: string, body: unknown) => {
      const given = packed(body)
      return sent('POST', v1 + path, { body: given.body, headers: { ...given.headers, ...key } })
    }
    told(await asked('/workers', { name: 'w1' }), 204, '')
    told(await post(`${v1}/queue`, { name: 'waits' }, asAdmin), 200)
    const pop = await asked('/queue/pop', {
      supported_backends: ['debian'],
      architecture: 'x86_64',
      supported_architectures: ['amd64', 'all'],
    })
    const { job, artifacts } = (
      JSON.parse(decoded(pop).toString()) as { Rebuild: { job: Document; artifacts: Document[] } }
    ).Rebuild
    told(
      await sent('POST', `${v1}/queue/${String(job['id'])}/ping`, {
        headers: { ...tool, ...key, 'content-length': '0' },
      }),
      204,
      '',
    )
    told(
      await sent('POST', `${v1}/queue/4711/ping`, { headers: { ...tool, ...key, 'content-length': '0' } }),
      404,
      '',
    )
    const results = artifacts.map(({ name }) => ({
      name,
      diffoscope: null,
      attestation: null,
      status: 'GOOD',
    }))
    const report = {
      queue_id: job['id'],
      built_at: '2026-11-22T19:36:35.547365455',
      build_log: [...zlib.zstdCompressSync('built\n')],
      status: 'GOOD',
      artifacts: results,
    }
    told(await asked('/builds', report), 204, '')
  },
  'debian-repro-status: the whole list of v0, behind a path too, without accept-encoding': async ({
    address,
  }) => {
    const { hostname, port } = new URL(address)
    const list = await new Promise<Document[]>((resolve, reject) => {
      request(
        { hostname, port, path: '/api/v0/pkgs/list', setDefaultHeaders: false, headers: { host: hostname } },
        (reply) => {
          let text = ''
          reply
            .on('data', (chunk: Buffer) => (text += chunk.toString()))
            .on('end', () => resolve(JSON.parse(text) as Document[]))
        },
      )
        .on('error', reject)
        .end()
    })
    assert.ok(
      list.some(
        ({ name, architecture, version, status }) =>
          name === 'good' && architecture === 'amd64' && version === '1.0-1' && status === 'GOOD',
      ),
    )
  },
  'arch-repro-status: the list of its distribution, logs and diffs by build_id': async ({
    document,
    get,
  }) => {
    assert.equal((await document<Document[]>(`${v0}/pkgs/list?distro=archlinux`)).length, 2)
    const [bad] = await document<Document[]>(`${v0}/pkgs/list?distro=debian&name=bad`)
    told(await get(`${v0}/builds/${String(bad?.['build_id'])}/log`), 200, log)
    told(await get(`${v0}/builds/${String(bad?.['build_id'])}/diffoscope`), 200, 'a diff\n')
  },
  'rebuilderd-website: dashboard and list of v0, links by build_id': async ({ document, get }) => {
    hasMembers(
      await document(`${v0}/dashboard`),
      'suites:object active_builds:array queue_length:int now:date',
    )
    const linked = (await document<Document[]>(`${v0}/pkgs/list`)).filter(
      ({ has_attestation }) => has_attestation === true,
    )
    assert.equal(linked.length, 1)
    for (const { build_id } of linked) told(await get(`${v0}/builds/${String(build_id)}/attestation`), 200)
  },
  'rebuilderd-website-ts: addresses in dashboard and list are addresses': async ({ document }) => {
    const { active_builds } = await document<{ active_builds: { pkgbase: { input_url: string } }[] }>(
      `${v0}/dashboard`,
    )
    for (const { pkgbase } of active_builds) assert.ok(URL.canParse(pkgbase.input_url))
    for (const { artifact_url } of await document<Document[]>(`${v0}/pkgs/list`))
      assert.ok(URL.canParse(String(artifact_url)))
  },
  'web pages for many distributions: releases with null, numbers and packages of one of them': async ({
    document,
    column,
    get,
  }) => {
    assert.deepEqual(await document(`${v1}/meta/distributions/archlinux/releases`), [null])
    hasMembers(
      await document(`${v1}/dashboard?distribution=archlinux&release=`),
      'rebuilds:object jobs:object',
    )
    assert.deepEqual(
      await column(
        `${v1}/packages/binary?distribution=debian&release=sid&architecture=amd64&component=main&limit=2&after=1&seen_only=true`,
      ),
      ['bad', 'fail'],
    )
    assert.deepEqual(await column(`${v1}/packages/binary?status=GOOD,BAD&release=sid&component=main`), [
      'good',
      'bad',
    ])
    assert.deepEqual(
      await column(`${v1}/packages/binary?search=wai&search_type=starts_with&has_disagreement=true&peer=x`),
      ['waits', 'waits-doc'],
    )
    assert.deepEqual(await document(`${v1}/meta/distributions/debian/sid/architectures`), ['amd64'])
    for (const path of ['/stats', '/peers']) told(await get(v1 + path), 404, '')
  },
  'repro-threshold: key, packages by name, version and architecture, and each attestation': async ({
    document,
    list,
    get,
  }) => {
    const { current } = await document<{ current: string[] }>(`${v1}/meta/public-keys`)
    const { records } = await list(`${v1}/packages/binary?name=good&version=1.0-1&architecture=amd64`)
    assert.equal(records.length, 1)
    for (const { build_id, artifact_id } of records) {
      const { bytes } = await get(
        `${v1}/builds/${String(build_id)}/artifacts/${String(artifact_id)}/attestation`,
      )
      assert.ok(verifyEnvelope(parseEnvelope(bytes), publicKeyFromPem(current[0] ?? '')))
    }
  },
  'OpenWrt scripts: 50,000 packages at once': async ({ column }) =>
    assert.equal(
      (await column(`${v1}/packages/binary?distribution=debian&limit=50000&seen_only=true`)).length,
      6,
    ),
})

testRows('exact strings', {
  'X-Auth-Cookie, X-Worker-Key, X-Signup-Secret: headers': async ({ sent, asAdmin, post }) => {
    told(await sent('DELETE', `${v1}/queue/4711`, { headers: asAdmin }), 404)
    told(await sent('POST', `${v1}/queue/4711/ping`, { headers: { 'x-worker-key': 'key-1' } }), 404)
    told(
      await post(`${v1}/workers`, { name: 'n' }, { 'x-worker-key': 'n', 'x-signup-secret': 'let me in' }),
      204,
    )
  },
  'GOOD, BAD, FAIL, UNKWN: statuses': async ({ column, post, asAdmin }) => {
    assert.deepEqual(await column(`${v1}/builds`, 'status'), ['GOOD', 'BAD', 'FAIL'])
    told(await post(`${v1}/queue`, { name: 'nobody', status: 'UNKWN' }, asAdmin), 200)
  },
  'Ascending, Descending: direction': async ({ get }) => {
    for (const direction of ['Ascending', 'Descending'])
      told(await get(`${v1}/queue?direction=${direction}`), 200)
  },
  '"Nothing" and {"Rebuild":{"job":…,"artifacts":…}}: pop': async ({ post, asWorker }) => {
    const pop = (backend: string) =>
      post(
        `${v1}/queue/pop`,
        { supported_backends: [backend], architecture: 'x', supported_architectures: ['amd64'] },
        asWorker,
      )
    told(await pop('none'), 200, '"Nothing"')
    told(await pop('debian'), 200, /^\{"Rebuild":\{"job":\{"id":.*"artifacts":\[\{"name":/)
  },
  '{"affected":N}: POST /queue': async ({ post, asAdmin }) =>
    told(await post(`${v1}/queue`, { name: 'nobody' }, asAdmin), 200, '{"affected":0}'),
  '{"total":N,"records":[…]}: lists': async ({ get }) =>
    told(await get(`${v1}/builds?limit=1`), 200, /^\{"total":3,"records":\[\{"id":1,.*\}\]\}$/),
  '{"current":[PEM]}: keys': async ({ get }) =>
    told(
      await get(`${v1}/meta/public-keys`),
      200,
      /^\{"current":\["-----BEGIN PUBLIC KEY-----\\r\\n[A-Za-z0-9+/=]+\\r\\n-----END PUBLIC KEY-----\\r\\n"\]\}$/,
    ),
  'Not found, Authentication failed: v0': async ({ get }) => {
    told(await get(`${v0}/builds/4711/log`), 404, 'Not found\n')
    told(await get(`${v0}/workers`), 403, 'Authentication failed\n')
  },
  'text/plain; charset=utf-8, application/json; charset=utf-8, application/json: content types': async ({
    get,
  }) => {
    for (const [target, type] of [
      ['/builds/1/log', 'text/plain; charset=utf-8'],
      ['/builds/1/artifacts/1/attestation', 'application/json; charset=utf-8'],
      ['/builds', 'application/json'],
    ] as const)
      assert.equal((await get(v1 + target)).headers['content-type'], type)
  },
  '28 b5 2f fd: magic of zstd': async ({ get }) =>
    assert.equal(
      (await get(`${v1}/builds/1/log`, { 'accept-encoding': 'zstd' })).bytes.subarray(0, 4).toString('hex'),
      '28b52ffd',
    ),
  '-: no release, in paths of meta': async ({ document }) =>
    assert.deepEqual(await document(`${v1}/meta/distributions/archlinux/releases/-/architectures`), [
      'x86_64',
    ]),
  'rebuilderd.db, rebuilderd.sign.key, auth-cookie: files': async ({ data }) => {
    const files = await readdir(data)
    for (const file of ['rebuilderd.db', 'rebuilderd.sign.key', 'auth-cookie'])
      assert.ok(files.includes(file), file)
  },
  '_type link, keyid, sig, signed, signatures, environment, byproducts, command, materials, products: attestation':
    async ({ get }) => {
      const { signatures, signed } = documentOf<{ signatures: Document[]; signed: Document }>(
        await get(`${v1}/builds/1/artifacts/1/attestation`),
      )
      assert.equal(signatures.length, 2)
      for (const signature of signatures) assert.deepEqual(Object.keys(signature).sort(), ['keyid', 'sig'])
      assert.deepEqual(Object.keys(signed).sort(), [
        '_type',
        'byproducts',
        'command',
        'environment',
        'materials',
        'name',
        'products',
      ])
      assert.equal(signed['_type'], 'link')
    },
})

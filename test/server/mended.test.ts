/** Weaknesses that rebuilders of this kind have had, each shown not to be here; those with a home elsewhere are there. */
import assert from 'node:assert/strict'
import { chmod, stat, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { test } from 'node:test'
import { promisify } from 'node:util'
import zlib from 'node:zlib'
import { generateSigningKey, makeLink, serialiseEnvelope, signLink } from '../../src/attestation.ts'
import { openClient, type Client } from '../../src/client.ts'
import type { Log } from '../../src/log.ts'
import { errorReply } from '../../src/server/route.ts'
import { openCookie, openSigningKey } from '../../src/server/secrets.ts'
import { sql, trusted } from '../../src/server/store/database.ts'
import { pageOfRows } from '../../src/server/store/page.ts'
import { openSqlite } from '../../src/server/store/sqlite.ts'
import { listArtifacts, listBuilds, submitBuild } from '../../src/wire/builds.ts'
import { dropJobs, listQueue, requestRebuild } from '../../src/wire/queue.ts'
import { listReleases } from '../../src/wire/meta.ts'
import { registerWorker } from '../../src/wire/workers.ts'
import { binariesOf, buildsOf, hour, popped, rebuilt, refusal, sourcesOf } from '../contracts/asking.ts'
import { ask, documentOf } from '../contracts/raw.ts'
import {
  aPackage,
  aResult,
  anArtifact,
  anArtifactResult,
  anyBuild,
  importPackages,
  signupSecret,
  startServer,
  temporaryFolder,
} from '../help/server.ts'

const sha256 = 'a'.repeat(64)
const hashed = (file: string, hash = sha256) => ({ file, sha256: hash, sha512: 'b'.repeat(128) })
const file = 'hello_1.0-1_amd64.deb'

test('the server puts its signature under nothing but a link of this worker about this very file', async (t) => {
  const server = await startServer(t)
  const key = generateSigningKey()
  const workerKey = Buffer.from(key.publicKey).toString('base64')
  const { call } = openClient({ base: server.address, workerKey, signupSecret })
  await call(registerWorker, { body: { name: 'w', tags: [] } })
  const input = hashed('hello.buildinfo')
  const own = signLink(makeLink({ artifact: hashed(file), input }), key)
  const layout = { signed: { _type: 'layout', steps: [], inspect: [], keys: {}, expires: '', readme: '' } }
  const [signature] = own.signatures
  const stranger = generateSigningKey()
  const given: Record<string, Uint8Array> = {
    layout: Buffer.from(JSON.stringify({ ...layout, signatures: [signature] })),
    stranger: serialiseEnvelope(signLink(own.signed, stranger)),
    'other file': serialiseEnvelope(signLink(makeLink({ artifact: hashed('other.deb'), input }), key)),
    'other hash': serialiseEnvelope(
      signLink(makeLink({ artifact: hashed(file, 'c'.repeat(64)), input }), key),
    ),
    'no JSON': Buffer.from('{"signed"'),
    'its own': serialiseEnvelope(own),
  }
  const attested: Record<string, boolean> = {}
  await importPackages(server.call, [aPackage({ artifacts: [anArtifact({ sha256, size: 1 })] })])

  for (const [what, attestation] of Object.entries(given)) {
    await server.call(requestRebuild, { body: anyBuild })
    const job = await popped(call)
    const artifacts = [anArtifactResult({ url: job.artifacts[0]?.url ?? null, attestation, sha256 })]
    await call(submitBuild, { body: aResult(job, { artifacts }) })
    const id = (await call(listBuilds)).records.at(-1)?.id ?? 0
    const [artifact] = await call(listArtifacts, { params: { id } })
    attested[what] = artifact?.has_attestation ?? true
  }

  const none = Object.keys(given).map((what) => [what, what === 'its own'])
  assert.deepEqual(attested, Object.fromEntries(none))
})

test('a worker that tells its hash by its attestation only is held to the index by it', async (t) => {
  const server = await startServer(t)
  const key = generateSigningKey()
  const workerKey = Buffer.from(key.publicKey).toString('base64')
  const { call } = openClient({ base: server.address, workerKey, signupSecret })
  await call(registerWorker, { body: { name: 'w', tags: [] } })
  const link = (hash: string): Uint8Array =>
    serialiseEnvelope(signLink(makeLink({ artifact: hashed(file, hash), input: hashed('i') }), key))
  const results: unknown[] = []
  await importPackages(server.call, [aPackage({ artifacts: [anArtifact({ sha256, size: 1 })] })])

  for (const hash of ['c'.repeat(64), sha256]) {
    await server.call(requestRebuild, { body: anyBuild })
    const job = await popped(call)
    const artifacts = [anArtifactResult({ attestation: link(hash) })]
    await call(submitBuild, { body: aResult(job, { artifacts }) })
    const build = (await call(listBuilds)).records.at(-1)
    const [artifact] = await call(listArtifacts, { params: { id: build?.id ?? 0 } })
    results.push([build?.status, build?.reason, artifact?.has_attestation, artifact?.rebuilt_sha256])
  }

  assert.deepEqual(results, [
    ['FAIL', 'input_mismatch', false, 'c'.repeat(64)],
    ['GOOD', null, true, sha256],
  ])
})

test('what was compared for a friend says nothing about a file of the same name with other bytes', async (t) => {
  const { call } = await startServer(t)
  const url = 'https://buildinfos.example/shared.buildinfo'
  const listed = (hash: string) => [aPackage({ url, artifacts: [anArtifact({ sha256: hash, size: 1 })] })]
  const other = 'c'.repeat(64)
  await importPackages(call, listed(sha256), { release: 'sid' })
  await importPackages(call, listed(other), { release: 'trixie' })
  const job = await popped(call)
  const artifacts = [anArtifactResult({ url: job.artifacts[0]?.url ?? null, sha256, rebuilt_sha256: sha256 })]
  await call(submitBuild, { body: aResult(job, { artifacts }) })
  await importPackages(call, listed(other), { release: 'forky' })

  const verdicts: Record<string, unknown> = {}
  for (const release of ['sid', 'trixie', 'forky']) {
    const [source] = await sourcesOf(call, { release })
    const [binary] = await binariesOf(call, { release })
    verdicts[release] = [source?.status, binary?.status]
  }

  assert.deepEqual(verdicts, {
    sid: ['GOOD', 'GOOD'],
    trixie: ['FAIL', null],
    forky: ['FAIL', null],
  })
})

test('a result from the future pins neither itself nor the date of the list', async (t) => {
  const { call, address } = await startServer(t)
  await importPackages(call, [aPackage()])
  await rebuilt(call, { built_at: '2099-01-01T00:00:00', status: 'BAD' })
  await call(requestRebuild, { body: anyBuild })
  await rebuilt(call, { built_at: '2020-01-01T00:00:00', status: 'GOOD' })

  const list = await ask(address, 'GET', '/api/v0/pkgs/list')

  assert.ok(Date.parse(list.headers['last-modified'] ?? '') <= Date.now())
  assert.deepEqual(
    (await sourcesOf(call)).map(({ status }) => status),
    ['GOOD'],
  )
})

test('a small log that unpacks to more than any log has is refused, and keeps no memory', async (t) => {
  const { call } = await startServer(t)
  await importPackages(call, [aPackage()])
  const job = await popped(call)
  const megabytes = zlib.zstdCompressSync(Buffer.alloc(64 * 1024 * 1024))
  const bomb = Buffer.concat(Array.from({ length: 9 }, () => megabytes)) // 576 MiB

  const status = await refusal(call(submitBuild, { body: aResult(job, { build_log: bomb }) }))

  assert.equal(status, 400)
  assert.deepEqual(await buildsOf(call), [])
})

test('a long log of few bytes is sent as it is unpacked, to whoever takes no zstd', async (t) => {
  const { call, address } = await startServer(t)
  const size = 128 * 1024 * 1024
  await importPackages(call, [aPackage()])
  const build_log = await promisify(zlib.zstdCompress)(Buffer.alloc(size, 'all work and no play\n'))
  await rebuilt(call, { build_log })
  const before = process.memoryUsage.rss()
  let most = 0
  const lengthOf = async (coding: string): Promise<number> => {
    const reply = await fetch(`${address}/api/v1/builds/1/log`, { headers: { 'accept-encoding': coding } })
    let length = 0
    for await (const part of reply.body ?? []) {
      length += part.length
      most = Math.max(most, process.memoryUsage.rss() - before)
    }
    return length
  }

  const lengths = await Promise.all([lengthOf('identity'), lengthOf('gzip')])
  const followed = await ask(address, 'GET', '/api/v1/builds/1/log?follow=1')

  assert.deepEqual(lengths, [size, size])
  assert.ok(most < size, `${most} bytes`)
  assert.equal(followed.status, 413)
})

test('a page has 50,000 records at most, whatever is asked', async (t) => {
  const db = await openSqlite(join(await temporaryFolder(t), 'many.db'))
  t.after(() => db.close())
  await db.transaction(async (tx) => {
    await tx.all(sql`CREATE TABLE many (id INTEGER PRIMARY KEY)`)
    await tx.all(
      sql`INSERT INTO many WITH RECURSIVE n (id) AS (SELECT 1 UNION ALL SELECT id + 1 FROM n WHERE id < 60000) SELECT id FROM n`,
    )
  })
  const listing = { columns: trusted('m.id'), from: trusted('many m'), id: 'm.id', sorts: {} }

  for (const [limit, expected] of [
    [undefined, 1000],
    [-1, 50_000],
    [2 ** 31 - 1, 50_000],
    [50_000, 50_000],
    [0, 0],
  ] as const)
    assert.equal((await pageOfRows(db, listing, { limit }, [])).length, expected)
})

test('secrets are closed to others, also where an older file was open', async (t) => {
  const folder = await temporaryFolder(t)
  const [cookie, key] = [join(folder, 'auth-cookie'), join(folder, 'data/sign.key')]
  await writeFile(cookie, 'old', { mode: 0o644 })
  await chmod(cookie, 0o644)

  await openCookie('new', cookie)
  await openSigningKey(key)

  for (const path of [cookie, key]) assert.equal((await stat(path)).mode & 0o777, 0o600)
})

test('what goes wrong inside is for the log, not for the caller', async () => {
  const lines: string[] = []
  const write = (line: string): void => void lines.push(line)
  const log: Log = { debug: write, info: write, warning: write, error: write }

  const reply = errorReply(new Error('no such column: base_query.secret'), log, 'GET /x')

  assert.equal(reply.status, 500)
  assert.doesNotMatch(await reply.text(), /column|secret|at .*\.ts/)
  assert.match(lines.join('\n'), /GET \/x: [^]*no such column: base_query\.secret/)
})

test('what administrators change is in the log, with the address it came from', async (t) => {
  const lines: string[] = []
  const write = (line: string): void => void lines.push(line)
  const { call, cookie } = await startServer(t, {
    log: { debug: write, info: write, warning: write, error: write },
  })

  await importPackages(call, [aPackage()])
  await call(requestRebuild, { body: anyBuild })
  await call(dropJobs, { query: { name: 'hello' } })
  await call(listQueue)

  const told = lines.filter((line) => line.startsWith('administrator'))
  assert.deepEqual(told, [
    'administrator at 127.0.0.1: POST /api/v1/packages',
    'administrator at 127.0.0.1: POST /api/v1/queue',
    'administrator at 127.0.0.1: DELETE /api/v1/queue?name=hello',
  ])
  assert.ok(!lines.some((line) => line.includes(cookie)))
})

test('the name and the tags of a worker are bounded', async (t) => {
  const { call } = await startServer(t)
  const long = 'x'.repeat(257)

  for (const body of [
    { name: long, tags: [] },
    { name: 'w', tags: [long] },
    { name: 'w', tags: Array<string>(65).fill('t') },
  ])
    assert.equal(await refusal(call(registerWorker, { body })), 400)
})

test('a source package that is built for two architectures is listed once, and cursors skip none', async (t) => {
  const { call } = await startServer(t)
  for (const architecture of ['amd64', 'arm64', 'all']) {
    const packages = ['one', 'two', 'three'].map((name) =>
      aPackage({
        name,
        url: `https://buildinfos.example/${name}_${architecture}.buildinfo`,
        artifacts: [anArtifact({ name, architecture })],
      }),
    )
    await importPackages(call, packages, { architecture })
  }

  const [first] = await sourcesOf(call, { limit: '1' })
  const rest = await sourcesOf(call, { limit: '10', after: String(first?.id) })

  assert.deepEqual([first?.name, ...rest.map(({ name }) => name)].sort(), ['one', 'three', 'two'])
})

test('each attempt keeps the number of tries that it was', async (t) => {
  const { call, clock } = await startServer(t)
  await importPackages(call, [aPackage()])
  for (const _ of [1, 2, 3]) {
    await rebuilt(call, { status: 'BAD' })
    clock.ahead += 200 * hour
    await importPackages(call, [aPackage()])
  }

  assert.deepEqual(
    (await buildsOf(call)).map(({ retries }) => retries),
    [1, 2, 3],
  )
})

test('the cache of the database is bounded, in bytes', async (t) => {
  const server = await startServer(t)
  const { data } = server
  await server.stop()
  const db = await openSqlite(join(data, 'rebuilderd.db'))
  t.after(() => db.close())
  const [[cache], [page]] = await Promise.all([
    db.all<{ cache_size: number }>(sql`PRAGMA cache_size`),
    db.all<{ page_size: number }>(sql`PRAGMA page_size`),
  ])

  const size = cache?.cache_size ?? 0
  const bytes = size < 0 ? -size * 1024 : size * (page?.page_size ?? 0)
  assert.ok(bytes > 0 && bytes <= 512 * 1024 * 1024, `${bytes} bytes`)
})

test('whatever may be removed is found by an index in every table that names it', async (t) => {
  const server = await startServer(t)
  const { data } = server
  await server.stop()
  const db = await openSqlite(join(data, 'rebuilderd.db'))
  t.after(() => db.close())
  type Reference = { child: string; parent: string; column: string }
  const references = await db.all<Reference>(sql`
    SELECT m.name AS child, f."table" AS parent, f."from" AS "column" FROM sqlite_schema m, pragma_foreign_key_list(m.name) f
     WHERE m.type = 'table'`)
  const indexed = await db.all<{ child: string; column: string }>(sql`
    SELECT m.name AS child, c.name AS "column" FROM sqlite_schema m, pragma_index_list(m.name) i, pragma_index_info(i.name) c
     WHERE m.type = 'table' AND c.seqno = 0`)
  const removable = references.filter(({ parent }) => ['workers', 'blobs', 'builds'].includes(parent))

  assert.ok(references.some(({ child, parent }) => child === 'jobs' && parent === 'workers'))
  assert.ok(removable.length >= 6)
  assert.deepEqual(
    removable.filter((one) => !indexed.some((by) => by.child === one.child && by.column === one.column)),
    [],
  )
})

test('a listed package whose build input becomes that of a friend gets its result, old or new', async (t) => {
  const { call } = await startServer(t)
  const input = 'https://buildinfos.example/shared.buildinfo'
  await importPackages(call, [aPackage({ url: 'https://buildinfos.example/own.buildinfo' })], {
    release: 'forky',
  })
  await rebuilt(call, { status: 'BAD' })
  await importPackages(call, [aPackage({ url: input })], { release: 'trixie' })
  await importPackages(call, [aPackage({ url: input })], { release: 'sid' })
  await call(requestRebuild, { body: { ...anyBuild, release: 'sid' } })
  await rebuilt(call)

  await importPackages(call, [aPackage({ url: input })], { release: 'forky' })

  const [source] = await sourcesOf(call, { release: 'forky', architecture: 'amd64' })
  const friends = (await buildsOf(call, { release: 'forky' })).map(({ status }) => status)
  assert.deepEqual(friends, ['BAD', 'GOOD'])
  assert.ok(source !== undefined)
})

test('a worker that asks while a release is imported gets its job or none, never a refusal', async (t) => {
  const { call, worker } = await startServer(t)
  const packages = Array.from({ length: 4000 }, (_, index) =>
    aPackage({ name: `p${index}`, artifacts: [anArtifact({ name: `p${index}` })] }),
  )
  await importPackages(call, packages.slice(0, 1), { release: 'trixie' })
  const workers: Client[] = await Promise.all(['a', 'b', 'c', 'd'].map((key) => worker(key)))
  const over = new AbortController()
  const importing = importPackages(call, packages).finally(() => over.abort())
  let asked = 0

  while (!over.signal.aborted) {
    await Promise.all(workers.map((client) => popped(client.call).catch(noJob)))
    asked += workers.length
  }
  await importing

  assert.ok(asked >= 4)
})

/** There may be no job yet; anything else is an error. */
function noJob(error: unknown): void {
  if (!(error instanceof assert.AssertionError)) throw error
}

test('releases tell null for a distribution without any, and our own client reads it', async (t) => {
  const { call, address } = await startServer(t)
  await importPackages(call, [aPackage()], { distribution: 'archlinux', release: null })

  const read = await call(listReleases, { params: { distribution: 'archlinux' } })
  const raw = await ask(address, 'GET', '/api/v1/meta/distributions/archlinux/releases')

  assert.deepEqual([read, documentOf(raw)], [[null], [null]])
})

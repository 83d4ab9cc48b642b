import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { mkdir, readFile, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { test, type TestContext } from 'node:test'
import { openClient } from '../../src/client.ts'
import { plainBytes, zstdFrame } from '../../src/compression.ts'
import { checkData, sweepBlobs } from '../../src/server/maintenance.ts'
import { forgetLogs } from '../../src/server/retention.ts'
import { sql, trusted, type Database } from '../../src/server/store/database.ts'
import { openSqlite } from '../../src/server/store/sqlite.ts'
import { getBackup } from '../../src/wire/backup.ts'
import {
  getDiffoscope,
  getDiffoscopeHtml,
  listArtifacts,
  listBuilds,
  submitBuild,
} from '../../src/wire/builds.ts'
import { requestRebuild } from '../../src/wire/queue.ts'
import { noTerminal, runOnTerminal, runHere } from '../cmd/program.ts'
import {
  aPackage,
  aResult,
  anArtifact,
  anArtifactResult,
  anyBuild,
  importPackages,
  pop,
  startServer,
  temporaryFolder,
  type TestServer,
} from '../help/server.ts'

const page = '<!DOCTYPE html><title>diff</title><p>sides</p>'

/** A report on the next job: every file differs and has a text, and a page unless told otherwise. */
async function differing(
  { call }: Pick<TestServer, 'call'>,
  more: { html?: string | null; again?: boolean } = {},
): Promise<void> {
  const { html = page, again = false } = more
  if (again) await call(requestRebuild, { body: { ...anyBuild, distribution: 'debian' } })
  const job = await pop(call)
  assert.ok(job)
  const pageBytes = html === null ? {} : { diffoscope_html: await zstdFrame(Buffer.from(html)) }
  const artifacts = job.artifacts.map(({ name, url }) =>
    anArtifactResult({
      name,
      url,
      status: 'BAD',
      diffoscope: Buffer.from(`-${name}\n+diff\n`),
      ...pageBytes,
    }),
  )
  await call(submitBuild, { body: aResult(job, { status: 'BAD', artifacts }) })
}

const htmlPath = '/api/v1/builds/1/artifacts/1/diffoscope.html'

test('the page of a diff is kept beside the text, and told of', async (t) => {
  const server = await startServer(t)
  await importPackages(server.call, [aPackage({ name: 'one' }), aPackage({ name: 'two' })])
  await differing(server)
  await differing(server, { html: null })

  const [one, two] = await Promise.all(
    [1, 2].map(async (id) => (await server.call(listArtifacts, { params: { id } }))[0]),
  )
  const params = { id: 1, artifact_id: one?.id ?? 0 }
  const kept = await server.call(getDiffoscopeHtml, { params })
  const text = await server.call(getDiffoscope, { params })

  assert.deepEqual([one?.has_diffoscope_html, two?.has_diffoscope_html], [true, false])
  assert.equal(Buffer.from(await plainBytes(kept, 1000)).toString(), page)
  assert.match(Buffer.from(text).toString(), /^-\w+\n\+diff\n$/)
  const none = await fetch(`${server.address}/api/v1/builds/2/artifacts/${two?.id}/diffoscope.html`)
  assert.equal(none.status, 404)
})

for (const accepted of ['identity', 'gzip', 'zstd']) {
  test(`a page from outside is harmless wherever it is opened, sent as ${accepted}`, async (t) => {
    const server = await startServer(t)
    await importPackages(server.call, [aPackage()])
    await differing(server)

    const reply = await fetch(server.address + htmlPath, { headers: { 'accept-encoding': accepted } })

    assert.equal(reply.status, 200)
    assert.equal(reply.headers.get('content-type'), 'text/html; charset=utf-8')
    const policy = reply.headers.get('content-security-policy') ?? ''
    assert.deepEqual(policy.split('; ').sort(), [
      "default-src 'none'",
      "frame-ancestors 'self'",
      'img-src data:',
      'sandbox',
      "style-src 'unsafe-inline'",
    ])
    assert.equal(reply.headers.get('x-content-type-options'), 'nosniff')
    assert.match(reply.headers.get('content-disposition') ?? '', /^inline; filename="[\w.-]+\.html"$/)
  })
}

test('a page that is no sound frame is refused, and nothing of the report is taken', async (t) => {
  const { call } = await startServer(t)
  await importPackages(call, [aPackage()])
  const job = await pop(call)
  assert.ok(job)
  const [{ name, url }] = job.artifacts as [(typeof job.artifacts)[number]]
  const broken = (await zstdFrame(Buffer.from(page))).subarray(0, 20)
  const artifacts = [anArtifactResult({ name, url, status: 'BAD', diffoscope_html: broken })]

  await assert.rejects(
    call(submitBuild, { body: aResult(job, { status: 'BAD', artifacts }) }),
    /not a sound zstd frame/,
  )

  assert.equal((await call(listBuilds, {})).total, 0)
})

test('a friend that is imported later has the page, too', async (t) => {
  const server = await startServer(t)
  await importPackages(server.call, [aPackage()])
  await differing(server)

  await importPackages(server.call, [aPackage()], { release: 'trixie' })

  const [copy] = await server.call(listArtifacts, { params: { id: 2 } })
  assert.equal(copy?.has_diffoscope_html, true)
})

/** The data of a stopped server with one package that was rebuilt so often, each time with another page. */
async function aHistory(t: TestContext, attempts: number): Promise<{ data: string; db: Database }> {
  const data = await temporaryFolder(t)
  const server = await startServer(t, { data })
  await importPackages(server.call, [aPackage()])
  for (let n = 0; n < attempts; n++) await differing(server, { html: `page ${n}`, again: true })
  await server.stop()
  const db = await openSqlite(join(data, 'rebuilderd.db'))
  t.after(() => db.close())
  return { data, db }
}

const { signal } = new AbortController()
const day = 86_400_000

test('pages of old attempts go with their logs, and their files a day later', async (t) => {
  const { data, db } = await aHistory(t, 3)
  const pages = async (): Promise<unknown[]> =>
    db.all(sql`SELECT build_id FROM artifacts WHERE html_id IS NOT NULL ORDER BY 1`)

  await forgetLogs(db, 1, new Date(), signal)
  const left = await pages()
  const soon = await sweepBlobs(db, join(data, 'blobs'), new Date(), signal)
  const later = await sweepBlobs(db, join(data, 'blobs'), new Date(Date.now() + 2 * day), signal)

  assert.deepEqual(left, [{ build_id: 3 }])
  assert.deepEqual([soon.rows, later.rows], [0, 2]) // all attempts have one log and one text
})

test('whatever names a kept file keeps it from being swept', async (t) => {
  const { data, db } = await aHistory(t, 1)
  const tables = await db.all<{ name: string }>(sql`SELECT name FROM sqlite_master WHERE type = 'table'`)
  const naming: { table: string; column: string }[] = []
  for (const { name } of tables) {
    const keys = await db.all<{ table: string; from: string }>(trusted(`PRAGMA foreign_key_list(${name})`))
    for (const key of keys) if (key.table === 'blobs') naming.push({ table: name, column: key.from })
  }
  const long = new Date(Date.now() + 2 * day)

  for (const { table, column } of naming) {
    const sha256 = column.padEnd(64, '0')
    await db.transaction(async (tx) => {
      await tx.all(
        sql`INSERT INTO blobs (sha256, size, kept_at) VALUES (${sha256}, 1, '2026-01-01T00:00:00')`,
      )
      await tx.all(
        sql`UPDATE ${trusted(table)} SET ${trusted(column)} = (SELECT id FROM blobs WHERE sha256 = ${sha256})`,
      )
    })
    await sweepBlobs(db, join(data, 'blobs'), long, signal)

    const rows = await db.all(sql`SELECT id FROM blobs WHERE sha256 = ${sha256}`)
    assert.equal(rows.length, 1, `${table}.${column}`)
  }
  assert.ok(naming.length >= 5, 'log, environment, diff, page, attestation')
})

const noTar = spawnSync('tar', ['--version']).status === 0 ? false : 'tar (Debian package tar) is missing'

test('a backup has the pages, and a look at what was restored misses none', { skip: noTar }, async (t) => {
  const server = await startServer(t)
  await importPackages(server.call, [aPackage()])
  await differing(server)
  const archive = await openClient({ base: server.address, cookie: server.cookie }).call(getBackup)
  const data = join(await temporaryFolder(t), 'data')
  await mkdir(data)

  const { status } = spawnSync('tar', ['-x', '-C', data], { input: archive })
  const { problems, blobs } = await checkData(data)
  const db = await openSqlite(join(data, 'rebuilderd.db'))
  const [row] = await db.all<{ sha256: string }>(
    sql`SELECT f.sha256 FROM artifacts a JOIN blobs f ON f.id = a.html_id`,
  )
  await db.close()
  const sha256 = row?.sha256 ?? ''
  await rm(join(data, 'blobs', sha256.slice(0, 2), sha256))
  const spoilt = await checkData(data)

  assert.deepEqual([status, problems, blobs], [0, [], 3])
  assert.deepEqual(spoilt.problems, [`the blob ${sha256} is missing`])
})

test('ctl gets the page, into a file or for another program, and not onto a terminal', async (t) => {
  const server = await startServer(t)
  const artifacts = [anArtifact({ name: 'one' })]
  await importPackages(server.call, [aPackage({ name: 'one', artifacts }), aPackage({ name: 'two' })])
  await differing(server)
  await differing(server, { html: null })
  const home = await temporaryFolder(t)
  const ctl = (...words: string[]) =>
    runHere(['ctl', 'pkgs', 'diffoscope', ...words, '-H', server.address], { home })
  const names = await Promise.all(
    [1, 2].map(async (id) => (await server.call(listArtifacts, { params: { id } }))[0]?.name ?? ''),
  )
  const [withPage = '', without = ''] = names

  const piped = await ctl(withPage, '--page')
  const filed = await ctl(withPage, '--page', '--output', 'diff.html')
  const text = await ctl(withPage, '-o', 'diff.txt')
  const none = await ctl(without, '--page')
  const nowhere = await ctl(withPage, '-o', 'no/such/folder')

  assert.equal(piped.stdout, page, piped.stderr)
  assert.deepEqual([filed.stdout, await readFile(join(home, 'diff.html'), 'utf8')], ['', page])
  assert.deepEqual(
    [text.stdout, await readFile(join(home, 'diff.txt'), 'utf8')],
    ['', `-${withPage}\n+diff\n`],
  )
  assert.equal(none.code, 1)
  assert.match(none.stderr, /no HTML page of the diff of \w+ 1\.0-1\n.*without --page/)
  assert.match(nowhere.stderr, /writing the diff: [^\n]*: there is no such file or folder\n$/)
  await t.test('a terminal', { skip: noTerminal }, async () => {
    const words = ['ctl', 'pkgs', 'diffoscope', withPage, '--page', '-H', server.address]
    const { code, stdout } = await runOnTerminal(words, { home })

    assert.equal(code, 2)
    assert.match(stdout, /--output diff\.html/)
  })
})

import assert from 'node:assert/strict'
import { readFile, readdir, rm, utimes, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { test } from 'node:test'
import { checkData, sweepBlobs } from '../../src/server/maintenance.ts'
import { openBlobs } from '../../src/server/store/blobs.ts'
import { sql, trusted } from '../../src/server/store/database.ts'
import { openSqlite } from '../../src/server/store/sqlite.ts'
import { submitBuild } from '../../src/wire/builds.ts'
import { aPackage, aResult, importPackages, pop, startServer, temporaryFolder } from '../help/server.ts'
import type { TestContext } from 'node:test'

/** The folder of a stopped server that has taken two reports. */
async function aUsedFolder(t: TestContext): Promise<string> {
  const data = await temporaryFolder(t)
  const { call, stop } = await startServer(t, { data })
  await importPackages(
    call,
    ['one', 'two', 'three'].map((name) => aPackage({ name })),
  )
  for (const log of ['the first log', 'the second log']) {
    const job = await pop(call)
    assert.ok(job)
    await call(submitBuild, { body: aResult(job, { build_log: Buffer.from(log) }) })
  }
  await stop()
  return data
}

async function filesIn(folder: string): Promise<string[]> {
  const entries = await readdir(folder, { recursive: true, withFileTypes: true })
  return entries.filter((entry) => entry.isFile()).map((entry) => join(entry.parentPath, entry.name))
}

async function change(data: string, statement: string): Promise<void> {
  const db = await openSqlite(join(data, 'rebuilderd.db'))
  await db.transaction((tx) => tx.all(trusted(statement)))
  await db.close()
}

test('a folder in order has no problems', async (t) => {
  const data = await aUsedFolder(t)

  const { problems, blobs, unqueued } = await checkData(data)

  assert.deepEqual({ problems, blobs, unqueued }, { problems: [], blobs: 2, unqueued: 0 })
})

test('blobs that are missing or altered are named', async (t) => {
  const data = await aUsedFolder(t)
  const [missing = '', altered = ''] = await filesIn(join(data, 'blobs'))
  await rm(missing)
  await writeFile(altered, Buffer.concat([await readFile(altered), Buffer.of(0)]))

  const { problems } = await checkData(data)

  const expected = [`the blob ${missing.slice(-64)} is missing`, `the blob ${altered.slice(-64)} is altered`]
  assert.deepEqual(problems.sort(), expected.sort())
})

test('files and rows that nobody names are counted apart from problems', async (t) => {
  const data = await aUsedFolder(t)
  await openBlobs(join(data, 'blobs')).keep(Buffer.from('of a report that was never finished'))
  await change(data, `INSERT INTO blobs (sha256, size, kept_at) SELECT 'b', size, kept_at FROM blobs LIMIT 1`)

  const { problems, orphans } = await checkData(data)

  assert.deepEqual(problems, ['the blob b is missing'])
  assert.deepEqual(orphans, { rows: 1, files: 1 })
})

for (const [what, statement, expected] of [
  ['a counter that is wrong', 'UPDATE binary_counts SET n = n + 1', /binary_counts differ/],
  ['a counter that is missing', 'DELETE FROM source_counts', /source_counts differ/],
  ['a job counted and gone', 'UPDATE job_counts SET n = n + 1', /job_counts differ/],
  ['a build that is not counted', 'DELETE FROM build_counts', /build_counts differ/],
  [
    'a report counted twice',
    'INSERT INTO builds SELECT id + 100, build_input_id, lease_id, is_latest, started_at, built_at, decided_at, status, reason, retries, worker, worker_key, log_id, evidence, environment_id FROM builds WHERE id = 1',
    /a report is counted twice/,
  ],
  ['a job that runs without a lease', `UPDATE jobs SET state = 'running'`, /a job runs without its lease/],
] as const) {
  test(`${what} is told`, async (t) => {
    const data = await aUsedFolder(t)
    await change(data, statement)

    const { problems } = await checkData(data)

    assert.match(problems.join('\n'), expected)
  })
}

test('a damaged file is told', async (t) => {
  const data = await aUsedFolder(t)
  const file = join(data, 'rebuilderd.db')
  const bytes = await readFile(file)
  for (let at = 8 * 4096; at < 24 * 4096; at += 4096) bytes.fill(0x55, at, at + 64)
  await writeFile(file, bytes)

  const found = await checkData(data).then(
    ({ problems }) => problems.join('\n'),
    (error: unknown) => String(error),
  )

  assert.match(found, /malformed|btree|never used|Tree|damaged/i)
})

test('a folder in use is not checked', async (t) => {
  const { data } = await startServer(t)

  await assert.rejects(checkData(data), /in use/)
})

test('blobs that no row has named for a day are swept, others stay', async (t) => {
  const data = await aUsedFolder(t)
  const folder = join(data, 'blobs')
  const blobs = openBlobs(folder)
  const [old, young] = [await blobs.keep(Buffer.from('old')), await blobs.keep(Buffer.from('young'))]
  const pathOf = (sha256: string): string => join(folder, sha256.slice(0, 2), sha256)
  const longAgo = new Date(Date.now() - 2 * 86_400_000)
  for (const path of await filesIn(folder))
    if (!path.endsWith(young.sha256)) await utimes(path, longAgo, longAgo)
  const db = await openSqlite(join(data, 'rebuilderd.db'))
  t.after(() => db.close())

  const swept = await sweepBlobs(db, folder, new Date(), new AbortController().signal)

  assert.deepEqual(swept, { rows: 0, files: 1 })
  const left = await filesIn(folder)
  assert.equal(left.length, 3)
  assert.ok(!left.includes(pathOf(old.sha256)) && left.includes(pathOf(young.sha256)))
})

test('a blob whose builds are gone is forgotten after a day, then its file goes', async (t) => {
  const data = await aUsedFolder(t)
  const folder = join(data, 'blobs')
  const db = await openSqlite(join(data, 'rebuilderd.db'))
  t.after(() => db.close())
  await db.transaction((tx) => tx.all(sql`UPDATE builds SET log_id = NULL WHERE id = 1`))
  const longAgo = new Date(Date.now() - 2 * 86_400_000)
  for (const path of await filesIn(folder)) await utimes(path, longAgo, longAgo)

  const early = await sweepBlobs(db, folder, new Date(), new AbortController().signal)
  const late = await sweepBlobs(db, folder, new Date(Date.now() + 90_000_000), new AbortController().signal)

  assert.deepEqual(
    [early, late],
    [
      { rows: 0, files: 0 },
      { rows: 1, files: 1 },
    ],
  )
  assert.equal((await filesIn(folder)).length, 1)
})

test('keeping the same bytes again makes an old file young', async (t) => {
  const folder = await temporaryFolder(t)
  const blobs = openBlobs(folder)
  await blobs.keep(Buffer.from('the same'))
  const [path = ''] = await filesIn(folder)
  const longAgo = new Date(Date.now() - 2 * 86_400_000)
  await utimes(path, longAgo, longAgo)
  const db = await openSqlite(join(folder, 'empty.db'))
  t.after(() => db.close())
  await db.transaction((tx) =>
    tx.all(sql`CREATE TABLE blobs (id INTEGER PRIMARY KEY, sha256 TEXT, size INTEGER, kept_at TEXT)`),
  )

  await blobs.keep(Buffer.from('the same'))
  const swept = await sweepBlobs(db, folder, new Date(0), new AbortController().signal)

  assert.deepEqual(swept, { rows: 0, files: 0 })
})

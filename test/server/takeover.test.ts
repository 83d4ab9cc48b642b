import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { test, type TestContext } from 'node:test'
import { sentenceOf } from '../../src/errors.ts'
import { checkData } from '../../src/server/maintenance.ts'
import { openSqlite } from '../../src/server/store/sqlite.ts'
import { takeOver, type TakeoverOptions } from '../../src/server/takeover.ts'
import { getAttestation, getBuildLog, getDiffoscope, listBuilds } from '../../src/wire/builds.ts'
import { listBinaryPackages, listSourcePackages } from '../../src/wire/packages.ts'
import { listQueue } from '../../src/wire/queue.ts'
import { listWorkers } from '../../src/wire/workers.ts'
import { aPackage, importPackages, startServer, temporaryFolder } from '../help/server.ts'
import { anUpstreamDatabase, changeUpstream, type UpstreamVersion } from '../help/upstream-database.ts'

async function folders(t: TestContext, shape: { version?: UpstreamVersion; sources?: number } = {}) {
  const folder = await temporaryFolder(t)
  const file = join(folder, 'upstream.db')
  await anUpstreamDatabase(file, shape)
  const options: TakeoverOptions = {
    file,
    data: join(folder, 'data'),
    merge: false,
    signal: new AbortController().signal,
  }
  return options
}

/** A takeover that must fail; the whole chain is looked at. */
async function refused(options: TakeoverOptions, expected: RegExp): Promise<void> {
  await assert.rejects(
    takeOver(options).catch((error: unknown) => {
      throw new Error(sentenceOf(error))
    }),
    expected,
  )
}

const textOf = (bytes: Uint8Array): string => Buffer.from(bytes).toString()

for (const version of ['0.26', '0.28'] as const) {
  test(`a server goes on with what one of ${version} has kept, under the same addresses`, async (t) => {
    const options = await folders(t, { version })
    const before = await readFile(options.file)

    const taken = await takeOver(options)

    assert.deepEqual(taken, {
      workers: 1,
      source_packages: 4,
      build_inputs: 4,
      binary_packages: 8,
      rebuilds: 8,
      queue: 1,
      damaged: 0,
    })
    assert.deepEqual(await readFile(options.file), before, 'the original is only read')
    assert.deepEqual((await checkData(options.data)).problems, [])
    const { call } = await startServer(t, { data: options.data })
    const sources = (await call(listSourcePackages, { query: { release: 'trixie' } })).records
    assert.deepEqual(
      sources.map(({ id, name, status, seen_in_last_sync: seen, last_seen }) => [
        id,
        name,
        status,
        seen,
        last_seen,
      ]),
      [
        [10, 'p1', 'GOOD', true, '2026-11-01T10:00:00.123456789'],
        [20, 'p2', 'BAD', true, '2026-11-01T10:00:00.123456789'],
        [30, 'p3', 'GOOD', false, '2026-11-01T10:00:00.123456789'],
      ],
    )
    const [binary] = (await call(listBinaryPackages, { query: { name: 'p1', release: 'sid' } })).records
    assert.deepEqual(
      [binary?.id, binary?.status, binary?.component, binary?.build_id, binary?.artifact_id],
      [40, 'GOOD', 'main', 41, 82],
    )
    const builds = (await call(listBuilds, { query: { name: 'p2' } })).records
    assert.deepEqual(
      builds.map(({ id, status, built_at, started_at }) => [id, status, built_at, started_at]),
      [
        [20, 'BAD', '2026-10-01T11:00:00.500', '2026-10-01T10:00:00'],
        [21, 'BAD', '2026-10-03T11:00:00', null],
      ],
    )
    assert.equal(textOf(await call(getBuildLog, { params: { id: 21 } })), 'second log of p2\n')
    assert.equal(
      textOf(await call(getBuildLog, { params: { id: 41 } })),
      'second log of p1\n',
      'shared by friends',
    )
    assert.equal(textOf(await call(getDiffoscope, { params: { id: 21, artifact_id: 42 } })), 'diff of p2\n')
    assert.equal(textOf(await call(getAttestation, { params: { id: 11, artifact_id: 22 } })), '{"of":"p1"}')
    const [job] = (await call(listQueue)).records
    assert.deepEqual(
      [job?.name, job?.priority, job?.started_at, job?.next_retry, job?.queued_at],
      ['p2', 2, null, '2027-01-01T00:00:00', '2026-10-03T11:00:01'],
    )
    assert.ok((await call(listWorkers)).records.some(({ name }) => name === 'w1'))
    await importPackages(call, [aPackage({ name: 'p1', url: 'https://buildinfos.example/p1.buildinfo' })])
  })
}

test('an interrupted takeover goes on where it was; until then no server starts', async (t) => {
  const options = await folders(t, { sources: 250 })
  for (const stop of ['source packages', 'builds with logs', 'builds with logs', 'results']) {
    const stopping = new AbortController()
    const progress = (what: string): void => {
      if (what === stop) stopping.abort(new Error('cut off'))
    }
    await refused({ ...options, signal: stopping.signal, progress }, /cut off/)
    await assert.rejects(startServer(t, { data: options.data }), /has not come to its end/)
  }

  const taken = await takeOver(options)

  assert.equal(taken.rebuilds, 502)
  assert.deepEqual((await checkData(options.data)).problems, [])
  const { call } = await startServer(t, { data: options.data })
  assert.equal((await call(listBuilds)).total, 502)
  assert.equal((await call(listSourcePackages, { query: { release: 'trixie' } })).total, 250)
})

test('a folder that is not empty is left alone, unless told to merge', async (t) => {
  const options = await folders(t)
  const { call, stop } = await startServer(t, { data: options.data })
  await importPackages(call, [aPackage({ name: 'own' })])
  await stop()

  await refused(options, /has packages, builds or workers already/)
  await takeOver({ ...options, merge: true })

  assert.deepEqual((await checkData(options.data)).problems, [])
  const again = await startServer(t, { data: options.data })
  const names = (await again.call(listSourcePackages)).records.map(({ name }) => name)
  assert.deepEqual(names.sort(), ['own', 'p1', 'p1', 'p2', 'p3'])
  assert.equal((await again.call(listBuilds)).total, 8)
})

test('what was taken over into a release leaves it with the next report, though that is the last one again', async (t) => {
  const options = await folders(t)
  const { call, stop } = await startServer(t, { data: options.data })
  const report = { release: 'sid', architecture: 'amd64' }
  await importPackages(call, [aPackage({ name: 'own' })], report)
  await stop()
  await takeOver({ ...options, merge: true })
  const again = await startServer(t, { data: options.data })
  const listed = async (): Promise<string[]> => {
    const { records } = await again.call(listSourcePackages, { query: { release: 'sid', seen_only: true } })
    return records.map(({ name }) => name).sort()
  }

  assert.deepEqual(await listed(), ['own', 'p1'])
  await importPackages(again.call, [aPackage({ name: 'own' })], report)
  assert.deepEqual(await listed(), ['own'])
})

for (const [what, statement, expected] of [
  [
    'a newer schema',
    `INSERT INTO __diesel_schema_migrations VALUES ('20270101000000', '')`,
    /it has taken the step 20270101000000/,
  ],
  ['a missing table', 'DROP TABLE attestation_logs', /attestation_logs\.id is missing/],
  [
    'an older schema',
    'ALTER TABLE source_packages DROP COLUMN seen_in_last_sync',
    /seen_in_last_sync is missing/,
  ],
] as const) {
  test(`${what} is refused, and nothing taken over`, async (t) => {
    const options = await folders(t)
    await changeUpstream(options.file, statement)

    await assert.rejects(takeOver(options), expected)
    await takeOver({ ...options, file: await sound(t) })
  })
}

async function sound(t: TestContext): Promise<string> {
  return (await folders(t)).file
}

test('what is no database is refused', async (t) => {
  const options = await folders(t)

  await refused({ ...options, file: import.meta.filename }, /takeover\.test\.ts: .*not a database/)
  await assert.rejects(
    takeOver({ ...options, file: join(options.data, 'nothing.db') }),
    /there is no database/,
  )
})

test('a log that cannot be unpacked is left out and counted; upstream hands out no such log either', async (t) => {
  const options = await folders(t)
  await changeUpstream(options.file, `UPDATE build_logs SET build_log = X'28b52ffd00000000ff' WHERE id = 20`)

  const { damaged } = await takeOver(options)

  assert.equal(damaged, 1)
  const { call } = await startServer(t, { data: options.data })
  await assert.rejects(call(getBuildLog, { params: { id: 20 } }), /404/)
  assert.equal((await call(listBuilds, { query: { name: 'p2' } })).total, 2)
})

test('GOOD of nothing is not taken over as GOOD', async (t) => {
  const options = await folders(t)
  await changeUpstream(options.file, 'DELETE FROM rebuild_artifacts WHERE rebuild_id = 11')

  await takeOver(options)

  const { call } = await startServer(t, { data: options.data })
  const builds = (await call(listBuilds, { query: { name: 'p1', release: 'trixie' } })).records
  assert.deepEqual(builds.at(-1)?.status, 'FAIL')
})

test('a database that another program has open is refused', async (t) => {
  const options = await folders(t)
  const holder = spawn('flock', [options.file, 'sh', '-c', 'echo held; exec cat'], {
    stdio: ['pipe', 'pipe', 'ignore'],
  })
  const isThere = await once(holder, 'spawn').then(
    () => true,
    () => false,
  )
  if (!isThere) return t.skip('flock (Debian package util-linux) is missing')
  t.after(() => holder.stdin.end())
  await once(holder.stdout, 'data')

  await refused(options, /another program has/)
})

test('the copy it reads from is gone in the end', async (t) => {
  const options = await folders(t)
  await takeOver(options)

  const db = await openSqlite(join(options.data, 'rebuilderd.db'))
  t.after(() => db.close())
  await assert.rejects(readFile(join(options.data, 'copying', 'upstream.db')), /ENOENT/)
})

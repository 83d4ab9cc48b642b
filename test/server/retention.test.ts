import assert from 'node:assert/strict'
import { join } from 'node:path'
import { test, type TestContext } from 'node:test'
import { silentLog } from '../../src/log.ts'
import { copiesFolder, openHousekeeping } from '../../src/server/housekeeping.ts'
import { checkData } from '../../src/server/maintenance.ts'
import { forgetLogs } from '../../src/server/retention.ts'
import { sql, type Database } from '../../src/server/store/database.ts'
import { openSqlite } from '../../src/server/store/sqlite.ts'
import { submitBuild, type RebuildReport } from '../../src/wire/builds.ts'
import { requestRebuild } from '../../src/wire/queue.ts'
import {
  aPackage,
  aResult,
  anArtifactResult,
  importPackages,
  pop,
  startServer,
  temporaryFolder,
  anyBuild,
} from '../help/server.ts'

/** A stopped server's data with one package, rebuilt as told, each time with another log and diff. */
async function aHistory(
  t: TestContext,
  attempts: readonly ('GOOD' | 'BAD' | 'FAIL')[],
): Promise<{ data: string; db: Database }> {
  const data = await temporaryFolder(t)
  const { call, stop } = await startServer(t, { data })
  await importPackages(call, [aPackage()])
  for (const [index, status] of attempts.entries()) {
    await call(requestRebuild, { body: { ...anyBuild, distribution: 'debian' } })
    const job = await pop(call)
    assert.ok(job)
    const artifact = anArtifactResult({ status: 'BAD', diffoscope: Buffer.from(`diff ${index}`) })
    const more: Partial<RebuildReport> =
      status === 'BAD' ? { artifacts: [artifact] } : status === 'FAIL' ? { reason: 'no_space' } : {}
    await call(submitBuild, {
      body: aResult(job, { status, build_log: Buffer.from(`log ${index}`), ...more }),
    })
  }
  await stop()
  const db = await openSqlite(join(data, 'rebuilderd.db'))
  t.after(() => db.close())
  return { data, db }
}

async function buildsWithLog(db: Database): Promise<number[]> {
  const rows = await db.all<{ id: number }>(sql`SELECT id FROM builds WHERE log_id IS NOT NULL ORDER BY id`)
  return rows.map((row) => row.id)
}

const signal = new AbortController().signal

test('old attempts give up logs and diffs, and keep their verdicts', async (t) => {
  const { db } = await aHistory(t, ['BAD', 'BAD', 'BAD', 'BAD', 'BAD'])

  const forgotten = await forgetLogs(db, 2, new Date(), signal)

  assert.equal(forgotten, 3)
  assert.deepEqual(await buildsWithLog(db), [4, 5])
  const diffs = await db.all(sql`SELECT build_id FROM artifacts WHERE diffoscope_id IS NOT NULL ORDER BY 1`)
  assert.deepEqual(diffs, [{ build_id: 4 }, { build_id: 5 }])
  const verdicts = await db.all(sql`SELECT status, count(*) AS n FROM builds GROUP BY status`)
  assert.deepEqual(verdicts, [{ status: 'BAD', n: 5 }])
  assert.equal(await forgetLogs(db, 2, new Date(), signal), 0, 'nothing is left to forget')
})

test('the latest result keeps its log, however many attempts came to nothing since', async (t) => {
  const { db } = await aHistory(t, ['BAD', 'BAD', 'FAIL', 'FAIL', 'FAIL'])

  await forgetLogs(db, 1, new Date(), signal)

  assert.deepEqual(await buildsWithLog(db), [2, 5])
})

test('0 keeps every log', async (t) => {
  const { db } = await aHistory(t, ['BAD', 'BAD'])

  assert.equal(await forgetLogs(db, 0, new Date(), signal), 0)
  assert.deepEqual(await buildsWithLog(db), [1, 2])
})

test('files of forgotten logs go a day later, and what is kept then is in order', async (t) => {
  const { data, db } = await aHistory(t, ['BAD', 'BAD', 'GOOD'])
  const clock = { ahead: 0 }
  const service = { db, log: silentLog, now: () => new Date(Date.now() + clock.ahead) }
  const folders = { blobs: join(data, 'blobs'), copies: join(data, copiesFolder) }
  const housekeeping = openHousekeeping(service, folders, 1)
  const countBlobs = async (): Promise<number> => (await db.all(sql`SELECT id FROM blobs`)).length

  await housekeeping.round()
  const soon = await countBlobs()
  clock.ahead = 86_400_000 + 60_000
  await housekeeping.round()
  const later = await countBlobs()

  assert.deepEqual([soon, later], [5, 1])
  await housekeeping.stop()
  await db.close()
  assert.deepEqual((await checkData(data)).problems, [])
})

import assert from 'node:assert/strict'
import { readdir } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { test, type TestContext } from 'node:test'
import { Complaint } from '../../../src/errors.ts'
import { sql, trusted, type Database } from '../../../src/server/store/database.ts'
import { migrate, migrations } from '../../../src/server/store/schema.ts'
import { openSqlite } from '../../../src/server/store/sqlite.ts'
import { temporaryFolder } from '../../help/server.ts'

async function aDatabase(t: TestContext): Promise<{ db: Database; file: string }> {
  const file = join(await temporaryFolder(t), 'rebuilderd.db')
  const db = await openSqlite(file)
  t.after(() => db.close())
  return { db, file }
}

const first = 'CREATE TABLE things (name TEXT NOT NULL);\n'
const second = 'ALTER TABLE things ADD COLUMN size INTEGER;\n'

test('a new database takes every step, and no copy is kept of nothing', async (t) => {
  const { db, file } = await aDatabase(t)

  await migrate(db, file)

  const [row] = await db.all<{ user_version: number }>(sql`PRAGMA user_version`)
  assert.equal(row?.user_version, migrations.length)
  assert.deepEqual(
    (await readdir(dirname(file))).filter((name) => name.includes('.version-')),
    [],
  )
  assert.deepEqual(await db.all(trusted('PRAGMA foreign_key_check')), [])
})

test('once taken, steps are not taken again', async (t) => {
  const { db, file } = await aDatabase(t)
  await migrate(db, file)
  await db.transaction((tx) =>
    tx.all(sql`INSERT INTO releases (distribution, name) VALUES ('debian', 'sid')`),
  )

  await migrate(db, file)

  assert.equal((await db.all(sql`SELECT * FROM releases`)).length, 1)
})

test('before a database with data takes a step, a copy is kept that opens as it was', async (t) => {
  const { db, file } = await aDatabase(t)
  await migrate(db, file, [first])
  await db.transaction((tx) => tx.all(sql`INSERT INTO things VALUES ('kept')`))

  await migrate(db, file, [first, second])

  assert.deepEqual(await db.all(sql`SELECT * FROM things`), [{ name: 'kept', size: null }])
  const copy = await openSqlite(`${file}.version-1`)
  t.after(() => copy.close())
  assert.deepEqual(await copy.all(sql`SELECT * FROM things`), [{ name: 'kept' }])
})

test('whoever waits is told of each step of a database that has data, and of none of a new one', async (t) => {
  const { db, file } = await aDatabase(t)
  const told: string[] = []
  const tell = (text: string): void => void told.push(text)

  await migrate(db, file, [first], tell)
  assert.deepEqual(told, [])
  await migrate(db, file, [first, second], tell)

  assert.match(told.join('\n'), /of version 1, 2 is wanted.*version-1\n.*to version 2 of 2.*\n.*up to date$/)
})

test('a step that fails leaves the database at the step before, and the next try goes on from there', async (t) => {
  const { db, file } = await aDatabase(t)
  const broken = `${second}INSERT INTO nowhere VALUES (1);\n`
  await migrate(db, file, [first])

  await assert.rejects(migrate(db, file, [first, broken]), /no such table/)
  assert.deepEqual(await db.all(sql`PRAGMA user_version`), [{ user_version: 1 }])
  await migrate(db, file, [first, second])

  assert.deepEqual(await db.all(sql`SELECT * FROM things`), [])
})

test('a database of a newer program is refused, with advice, and left alone', async (t) => {
  const { db, file } = await aDatabase(t)
  await migrate(db, file, [first, second])

  await assert.rejects(migrate(db, file, [first]), (error) => {
    assert.ok(error instanceof Complaint)
    assert.match(error.message, /newer rebuilderd \(version 2, this one knows 1\)/)
    assert.match(error.hint ?? '', /newer program/)
    return true
  })

  assert.deepEqual(await db.all(sql`PRAGMA user_version`), [{ user_version: 2 }])
})

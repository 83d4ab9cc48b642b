import assert from 'node:assert/strict'
import { spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { existsSync } from 'node:fs'
import { mkdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { test, type TestContext } from 'node:test'
import { Complaint } from '../../../src/errors.ts'
import { sql, type Database } from '../../../src/server/store/database.ts'
import { openSqlite } from '../../../src/server/store/sqlite.ts'
import { temporaryFolder } from '../../help/server.ts'

const skip = spawnSync('sqlite3', ['--version']).status !== 0 && 'the program sqlite3 is missing'

async function aDatabase(t: TestContext): Promise<{ db: Database; file: string }> {
  const file = join(await temporaryFolder(t), 'numbers.db')
  const db = await openSqlite(file)
  t.after(() => db.close())
  await db.transaction((tx) => tx.batch([sql`CREATE TABLE numbers (n)`, sql`INSERT INTO numbers VALUES (1)`]))
  return { db, file }
}

const add = (db: Database, n: number): Promise<unknown> =>
  db.transaction((tx) => tx.all(sql`INSERT INTO numbers VALUES (${n})`))
const countOf = async (db: Database): Promise<number> =>
  (await db.all<{ n: number }>(sql`SELECT count(*) AS n FROM numbers`))[0]?.n ?? 0

test('while a database is open, sqlite3 can read it and not write', { skip }, async (t) => {
  const { db, file } = await aDatabase(t)
  const theirs = (question: string) => spawnSync('sqlite3', [file, question], { encoding: 'utf8' })

  const read = theirs('SELECT n FROM numbers')
  const refused = [
    'INSERT INTO numbers VALUES (99)',
    'CREATE TABLE more (x)',
    'VACUUM',
    'PRAGMA wal_checkpoint(truncate)',
    'PRAGMA journal_mode = delete',
  ].map(theirs)
  await add(db, 2)

  assert.deepEqual([read.status, read.stdout], [0, '1\n'])
  for (const { status, stderr } of refused) {
    assert.notEqual(status, 0)
    assert.match(stderr, /readonly database/)
  }
  assert.equal(theirs('SELECT count(*) FROM numbers').stdout, '2\n', 'they see what was added')
  assert.equal(await countOf(db), 2)
  assert.deepEqual(await db.all(sql`PRAGMA integrity_check`), [{ integrity_check: 'ok' }])
})

test(
  'one that reads all the time hinders nobody, and takes nothing away when it ends',
  { skip },
  async (t) => {
    const { db, file } = await aDatabase(t)
    const reader = spawn('sqlite3', [file], { stdio: ['pipe', 'pipe', 'ignore'] })
    t.after(() => reader.kill('SIGKILL'))
    reader.stdin.write('BEGIN; SELECT count(*) FROM numbers;\n')
    await once(reader.stdout, 'data')

    for (let n = 2; n <= 50; n++) await add(db, n)
    reader.stdin.end('COMMIT;\n')
    await once(reader, 'exit')
    await add(db, 51)

    assert.equal(await countOf(db), 51)
    assert.ok(existsSync(`${file}-wal`))
  },
)

test('when it is closed, other programs can write again', async (t) => {
  const { db, file } = await aDatabase(t)
  await db.close()

  const opened = new DatabaseSync(file)
  opened.exec('INSERT INTO numbers VALUES (2)')
  opened.close()

  const again = await openSqlite(file)
  t.after(() => again.close())
  assert.equal(await countOf(again), 2)
})

test('a database that another program has open is not opened', { skip }, async (t) => {
  const { db, file } = await aDatabase(t)
  await db.close()
  const other = spawn('sqlite3', [file], { stdio: ['pipe', 'pipe', 'ignore'] })
  t.after(() => other.kill('SIGKILL'))
  other.stdin.write('INSERT INTO numbers VALUES (2); SELECT 1;\n')
  await once(other.stdout, 'data')

  await assert.rejects(
    openSqlite(file),
    (error) => error instanceof Complaint && /another program has the database .* open/.test(error.message),
  )

  other.stdin.end()
  await once(other, 'exit')
  const again = await openSqlite(file)
  t.after(() => again.close())
  assert.equal(await countOf(again), 2)
})

test('what one of us that was killed left behind is no hindrance, nor is what sqlite3 left', async (t) => {
  const folder = await temporaryFolder(t)
  await mkdir(join(folder, 'ours.db-shm'))
  await writeFile(join(folder, 'theirs.db-shm'), Buffer.alloc(32_768))

  for (const name of ['ours.db', 'theirs.db']) {
    const db = await openSqlite(join(folder, name))
    await db.all(sql`SELECT 1 AS one`)
    await db.close()

    assert.equal(existsSync(join(folder, `${name}-shm`)), false)
  }
})

import assert from 'node:assert/strict'
import { join } from 'node:path'
import { test, type TestContext } from 'node:test'
import { sql, type Database } from '../../src/server/store/database.ts'
import { openSqlite } from '../../src/server/store/sqlite.ts'
import { readUntilChange } from '../../src/server/unchanged.ts'
import { temporaryFolder } from '../help/server.ts'

async function aDatabase(t: TestContext): Promise<Database> {
  const db = await openSqlite(join(await temporaryFolder(t), 'test.db'))
  t.after(() => db.close())
  await add(db, 0)
  return db
}

async function add(db: Database, n: number): Promise<void> {
  await db.transaction(async (tx) => {
    await tx.all(sql`CREATE TABLE IF NOT EXISTS numbers (n INTEGER)`)
    await tx.all(sql`INSERT INTO numbers VALUES (${n})`)
  })
}

/** Reads the sum; how often that was done. */
function aReader(db: Database) {
  const times = { read: 0 }
  const read = readUntilChange(db, async () => {
    times.read++
    return (await db.all<{ sum: number }>(sql`SELECT sum(n) AS sum FROM numbers`))[0]?.sum
  })
  return { read, times }
}

test('what nobody has changed is read once', async (t) => {
  const db = await aDatabase(t)
  const { read, times } = aReader(db)

  for (let asked = 0; asked < 5; asked++) assert.equal(await read(), 0)
  assert.deepEqual(await Promise.all([read(), read()]), [0, 0])

  assert.equal(times.read, 1)
})

test('whoever was told of a change reads what came of it', async (t) => {
  const db = await aDatabase(t)
  const { read } = aReader(db)

  for (let n = 1, sum = 0; n <= 50; n++) {
    const early = read()
    await add(db, n)
    sum += n
    assert.equal(await read(), sum)
    assert.ok([sum - n, sum].includes((await early) ?? -1))
  }
})

test('what is taken back was never read', async (t) => {
  const db = await aDatabase(t)
  const { read } = aReader(db)
  await read()

  const failing = db.transaction(async (tx) => {
    await tx.all(sql`INSERT INTO numbers VALUES (1000)`)
    throw new Error('on second thoughts')
  })
  await assert.rejects(failing, /second thoughts/)

  assert.equal(await read(), 0)
})

test('what could not be read is read again', async (t) => {
  const db = await aDatabase(t)
  let times = 0
  const read = readUntilChange(db, async () => {
    if (++times === 1) throw new Error('not now')
    return 'there'
  })

  await assert.rejects(read(), /not now/)
  assert.equal(await read(), 'there')
})

test('where others may change something without a word, it is read each time', async (t) => {
  const db = await aDatabase(t)
  const { change: _change, ...others } = db
  const { read, times } = aReader(others)

  await read()
  await read()

  assert.equal(times.read, 2)
})

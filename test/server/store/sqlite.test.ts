import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { appendFileSync, writeFileSync } from 'node:fs'
import { copyFile, rename, rm, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { test, type TestContext } from 'node:test'
import { fileURLToPath } from 'node:url'
import { Complaint } from '../../../src/errors.ts'
import { sql, trusted, type Database } from '../../../src/server/store/database.ts'
import { openSqlite } from '../../../src/server/store/sqlite.ts'
import { written } from '../../../src/server/store/work.ts'
import { temporaryFolder } from '../../help/server.ts'

/** A database with one table of numbers. */
async function numbers(t: TestContext): Promise<{ db: Database; file: string }> {
  const file = join(await temporaryFolder(t), 'numbers.db')
  const db = await openSqlite(file)
  t.after(() => db.close())
  await db.transaction((tx) => tx.all(sql`CREATE TABLE numbers (n INTEGER PRIMARY KEY)`))
  return { db, file }
}

const add = (db: Database, n: number): Promise<unknown> =>
  written(db, [sql`INSERT INTO numbers VALUES (${n})`])
const all = async (db: Database): Promise<number[]> =>
  (await db.all<{ n: number }>(sql`SELECT n FROM numbers ORDER BY n`)).map(({ n }) => n)

test('transactions that wait at the same moment share a commit', async (t) => {
  const { db, file } = await numbers(t)
  const logged = async (): Promise<number> => (await stat(`${file}-wal`)).size
  await add(db, 0)
  const before = await logged()

  for (let n = 1; n <= 20; n++) await add(db, n)
  const alone = (await logged()) - before
  // A commit is due after some milliseconds, in which a busy machine may do few of them: not each time.
  let [together, rounds] = [Infinity, 0]
  while (together * 4 >= alone && rounds < 50) {
    rounds += 1
    const start = await logged()
    await atOneMoment(db, (n) => add(db, rounds * 100 + n))
    together = (await logged()) - start
  }

  assert.equal((await all(db)).length, 21 + rounds * 20)
  assert.ok(together * 4 < alone, `${together} bytes together, ${alone} one by one`)
})

/** Does something twenty times, all of which wait for the end of another transaction. */
async function atOneMoment(db: Database, work: (n: number) => Promise<unknown>): Promise<void> {
  const [begun, gate] = [Promise.withResolvers<void>(), Promise.withResolvers<void>()]
  const first = db.transaction(async (tx) => {
    await tx.all(sql`SELECT 1 AS one`)
    begun.resolve()
    await gate.promise
  })
  await begun.promise
  const waiting = Array.from({ length: 20 }, (_, n) => work(n))
  gate.resolve()
  await Promise.all([first, ...waiting])
}

test('a text comes as the bytes of it, in a transaction and outside', async (t) => {
  const { db } = await numbers(t)
  const text = (bytes: Uint8Array): string => Buffer.from(bytes).toString()
  const told = sql`SELECT ${'ü\u{1F600}'} || count(*) FROM numbers`

  assert.equal(text(await db.bytes(told)), 'ü\u{1F600}0')
  assert.equal(text(await db.transaction((tx) => tx.bytes(told))), 'ü\u{1F600}0')
  assert.equal(text(await db.bytes(sql`SELECT n FROM numbers`)), '')
})

test('one that throws leaves nothing, and takes nothing away from those beside it', async (t) => {
  const { db } = await numbers(t)
  const failing = (n: number): Promise<unknown> =>
    db.transaction(async (tx) => {
      await tx.all(sql`INSERT INTO numbers VALUES (${n})`)
      throw new Error('on purpose')
    })

  const results = await Promise.allSettled([
    failing(1),
    add(db, 2),
    failing(3),
    add(db, 4),
    add(db, 4),
    failing(5),
  ])

  assert.deepEqual(
    results.map(({ status }) => status),
    ['rejected', 'fulfilled', 'rejected', 'fulfilled', 'rejected', 'rejected'],
  )
  assert.deepEqual(await all(db), [2, 4])
})

test('a read does not see into a transaction that has not ended', async (t) => {
  const { db } = await numbers(t)
  const seen: number[][] = []
  let read: Promise<void> | undefined

  const writing = db.transaction(async (tx) => {
    await tx.all(sql`INSERT INTO numbers VALUES (1)`)
    read = all(db).then((rows) => void seen.push(rows))
    await new Promise((resolve) => setTimeout(resolve, 30))
    await tx.all(sql`INSERT INTO numbers VALUES (2)`)
  })
  await writing
  await read

  assert.deepEqual(seen, [[1, 2]])
})

test('a read never tells what is taken back afterwards', async (t) => {
  const { db } = await numbers(t)
  const told: number[][] = []
  const failing = db.transaction(async (tx) => {
    await tx.all(sql`INSERT INTO numbers VALUES (1)`)
    throw new Error('on purpose')
  })

  await Promise.all([
    failing.catch(() => undefined),
    all(db).then((rows) => told.push(rows)),
    add(db, 2),
    all(db).then((rows) => told.push(rows)),
  ])

  for (const rows of told) assert.equal(rows.includes(1), false)
})

test('values never become SQL, and lists are one value', async (t) => {
  const { db } = await numbers(t)
  const hostile = `1'; DROP TABLE numbers; --`

  const [row] = await db.all<{ text: string; listed: number }>(
    sql`SELECT ${hostile} AS text, ${hostile} IN ${['a', hostile]} AS listed`,
  )

  assert.deepEqual(row, { text: hostile, listed: 1 })
  assert.deepEqual(await all(db), [])
})

test('a statement that is wrong fails alone', async (t) => {
  const { db } = await numbers(t)

  await assert.rejects(db.all(trusted('SELECT n FROM nowhere')), /no such table/)

  assert.deepEqual(await all(db), [])
})

test('what waits when it is closed is still done; what comes later is refused', async (t) => {
  const { db, file } = await numbers(t)

  const waiting = [add(db, 1), add(db, 2)]
  await db.close()
  await Promise.all(waiting)

  await assert.rejects(add(db, 3), /closed/)
  const again = await openSqlite(file)
  t.after(() => again.close())
  assert.deepEqual(await all(again), [1, 2])
})

test('a file that is no database is a complaint with advice, and stays as it is', async (t) => {
  const file = join(await temporaryFolder(t), 'text.db')
  writeFileSync(file, 'this is a letter, not a database; '.repeat(200))

  await assert.rejects(
    openSqlite(file),
    (error) => error instanceof Complaint && /text\.db/.test(error.message),
  )

  assert.equal((await stat(file)).size, 34 * 200)
})

test('the text and number that go in come out, to the last bit', async (t) => {
  const { db } = await numbers(t)
  const values = ['', 'ä€😀', 'a\u0000b', "it's", 0, -1, 2 ** 31, 2 ** 53 - 1, 0.1, null]

  for (const value of values) {
    const [row] = await db.all<{ value: string | number | null }>(sql`SELECT ${value} AS value`)
    assert.equal(row?.value, value)
  }
})

const writer = `
import { openSqlite } from ${JSON.stringify(fileURLToPath(new URL('../../../src/server/store/sqlite.ts', import.meta.url)))}
import { sql } from ${JSON.stringify(fileURLToPath(new URL('../../../src/server/store/database.ts', import.meta.url)))}
import { writeSync } from 'node:fs'
const db = await openSqlite(process.argv[2])
const add = (n) => db.transaction((tx) => tx.all(sql\`INSERT INTO numbers VALUES (\${n})\`)).then(() => writeSync(1, n + '\\n'))
for (let n = Number(process.argv[3]); ; n += 8) await Promise.all([0, 1, 2, 3, 4, 5, 6, 7].map((more) => add(n + more)))
`

test('values of one statement keep apart, whatever letters they have', async (t) => {
  const { db } = await numbers(t)
  const long = 'ä'.repeat(700_000)
  const rows = [
    ['plain', '', 'text', null, 0, -1, 2 ** 31, 0.5],
    ['ä', 'plain', '€uro', null, 2 ** 53 - 1, -(2 ** 31), 1e300, 7],
    ['😀', '', '\u0001', null, 1, 2, 3, 4],
    [long, 'behind it', '', null, 1, 2, 3, 4],
    ['\ud83d', '\ude00', 'halves', null, 1, 2, 3, 4],
  ] as const

  for (const [a, b, c, d, e, f, g, h] of rows) {
    const [row] = await db.all(
      sql`SELECT ${a} AS a, ${b} AS b, ${c} AS c, ${d} AS d, ${e} AS e, ${f} AS f, ${g} AS g, ${h} AS h`,
    )
    const whole = (text: string): string => text.toWellFormed()
    assert.deepEqual(row, { a: whole(a), b: whole(b), c, d, e, f, g, h })
  }
})

test('what was acknowledged survives kill -9, again and again', { timeout: 300_000 }, async (t) => {
  const { db, file } = await numbers(t)
  await db.close()
  const script = `${file}.mts`
  appendFileSync(script, writer)
  const acknowledged: number[] = []

  for (let round = 1; round <= 4; round++) {
    const child = spawn(process.execPath, [script, file, String(round * 1_000_000)], {
      stdio: ['ignore', 'pipe', 'inherit'],
    })
    t.after(() => child.kill('SIGKILL'))
    let text = ''
    child.stdout.on('data', (chunk: Buffer) => (text += chunk.toString()))
    while (text.split('\n').length <= 8 * round) await once(child.stdout, 'data')
    await new Promise((resolve) => setTimeout(resolve, 20 * round))
    child.kill('SIGKILL')
    await once(child, 'close')
    acknowledged.push(...text.split('\n').slice(0, -1).map(Number))
  }

  const again = await openSqlite(file)
  t.after(() => again.close())
  const kept = new Set(await all(again))
  assert.ok(acknowledged.length > 20, 'something was acknowledged')
  assert.deepEqual(
    acknowledged.filter((n) => !kept.has(n)),
    [],
  )
  assert.deepEqual(await again.all(trusted('PRAGMA integrity_check')), [{ integrity_check: 'ok' }])
})

for (const [what, harm, expected] of [
  ['whose log is removed', (file: string) => rm(`${file}-wal`), /its log .*-wal was removed or replaced/],
  [
    'that is replaced',
    (file: string) => copyFile(file, `${file}.copy`).then(() => rename(`${file}.copy`, file)),
    /the file .* was removed or replaced/,
  ],
  ['that is removed', (file: string) => rm(file), /the file .* was removed or replaced/],
] as const) {
  test(`a database ${what} while it is in use takes no more writes and says why; what is left opens soundly`, async (t) => {
    const { db, file } = await numbers(t)
    await db.transaction((tx) => tx.all(sql`INSERT INTO numbers VALUES (1)`))

    await harm(file)

    for (let attempt = 0; attempt < 2; attempt++) {
      await assert.rejects(
        written(db, [sql`INSERT INTO numbers VALUES (2)`]),
        (error) =>
          error instanceof Complaint &&
          expected.test(error.message) &&
          /start it again/.test(error.hint ?? ''),
      )
    }
    assert.deepEqual(await all(db), [1], 'what is known is still answered')
    await db.close()
    const again = await openSqlite(file)
    t.after(() => again.close())
    assert.deepEqual(await again.all(trusted('PRAGMA integrity_check')), [{ integrity_check: 'ok' }])
    await again.transaction((tx) => tx.all(trusted('CREATE TABLE more (n INTEGER)')))
  })
}

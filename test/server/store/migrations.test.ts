/** Every step of the schema, taken from the version before it by a database that has rows. */
import assert from 'node:assert/strict'
import { join } from 'node:path'
import { test, type TestContext } from 'node:test'
import { sql, trusted, type Database, type Row } from '../../../src/server/store/database.ts'
import { contradictionsIn, damageOf } from '../../../src/server/store/maintenance.ts'
import { migrate, migrations } from '../../../src/server/store/schema.ts'
import { openSqlite } from '../../../src/server/store/sqlite.ts'
import { temporaryFolder } from '../../help/server.ts'

const moment = '2026-11-01T10:00:00'

/** A package that was rebuilt and one that waits, with columns that the first version has already. */
const rows = [
  `INSERT INTO releases (id, distribution, name) VALUES (1, 'debian', 'sid')`,
  `INSERT INTO scopes (id, release_id, architecture, imported_at, listed) VALUES (1, 1, 'amd64', '${moment}', 1)`,
  `INSERT INTO source_packages (id, release_id, name, version, seen, first_seen, last_seen, status, build_id)
   VALUES (1, 1, 'hello', '1.0-1', 1, '${moment}', '${moment}', 'GOOD', 1)`,
  `INSERT INTO friend_groups (id, url, backend, architecture, retries, infrastructure_retries)
   VALUES (1, 'https://buildinfos.example/hello', 'debian', 'amd64', 0, 0)`,
  `INSERT INTO build_inputs (id, source_package_id, group_id, scope_id, seen, needs_work, status, build_id)
   VALUES (1, 1, 1, 1, 1, 1, 'GOOD', 1)`,
  `INSERT INTO binary_packages (id, build_input_id, source_package_id, release_id, scope_id, name, version, component,
     architecture, url, file, seen, first_seen, last_seen, status, build_id, artifact_id)
   VALUES (1, 1, 1, 1, 1, 'hello', '1.0-1', 'main', 'amd64', 'http://mirror.example/hello.deb', 'hello.deb', 1,
     '${moment}', '${moment}', 'GOOD', 1, 1)`,
  `INSERT INTO workers (id, key, name, address, last_ping, online, tags, draining, registered_at)
   VALUES (1, 'key', 'worker', '192.0.2.1', '${moment}', 1, '', 0, '${moment}')`,
  `INSERT INTO jobs (id, group_id, build_input_id, backend, architecture, state, priority, queued_at, requires)
   VALUES (1, 1, 1, 'debian', 'amd64', 'ready', 1, '${moment}', '')`,
  `INSERT INTO leases (id, token, job_id, group_id, build_input_id, worker_id, started_at, ended_at, outcome)
   VALUES (1, 'token', 1, 1, 1, 1, '${moment}', '${moment}', 'reported')`,
  `INSERT INTO blobs (id, sha256, size, kept_at) VALUES (1, '${'a'.repeat(64)}', 1, '${moment}')`,
  `INSERT INTO builds (id, build_input_id, lease_id, is_latest, decided_at, status, retries, log_id)
   VALUES (1, 1, 1, 1, '${moment}', 'GOOD', 0, 1)`,
  `INSERT INTO artifacts (id, build_id, name, file, status) VALUES (1, 1, 'hello', 'hello.deb', 'GOOD')`,
  `INSERT INTO switches (name, value, changed_at) VALUES ('paused', 'why', '${moment}')`,
]
const tables = rows.map((row) => /INTO (\w+)/.exec(row)?.[1] ?? '')

async function contentOf(db: Database): Promise<Record<string, Row[]>> {
  const content = await Promise.all(tables.map((name) => db.all(trusted(`SELECT * FROM ${name}`))))
  return Object.fromEntries(tables.map((name, index) => [name, content[index] ?? []]))
}

const versionOf = async (db: Database): Promise<unknown> =>
  (await db.all<{ user_version: number }>(sql`PRAGMA user_version`))[0]?.user_version

async function aDatabaseAt(t: TestContext, version: number): Promise<{ db: Database; file: string }> {
  const file = join(await temporaryFolder(t), 'rebuilderd.db')
  const db = await openSqlite(file)
  t.after(() => db.close())
  await migrate(db, file, migrations.slice(0, version))
  await db.transaction((tx) => tx.batch(rows.map(trusted)))
  return { db, file }
}

/** The rows before must be there with every value they had; new columns may have come. */
function assertKept(before: Record<string, Row[]>, after: Record<string, Row[]>): void {
  for (const [name, [row]] of Object.entries(before)) {
    const [now] = after[name] ?? []
    const same = Object.fromEntries(Object.keys(row ?? {}).map((column) => [column, now?.[column]]))
    assert.deepEqual(same, row, name)
  }
}

for (let version = 1; version < migrations.length; version++) {
  test(`a database of version ${version} keeps its rows in the next, and a copy of it stays`, async (t) => {
    const { db, file } = await aDatabaseAt(t, version)
    const before = await contentOf(db)

    await migrate(db, file, migrations.slice(0, version + 1))

    assert.equal(await versionOf(db), version + 1)
    assertKept(before, await contentOf(db))
    assert.deepEqual(await damageOf(db), [])
    const copy = await openSqlite(`${file}.version-${version}`)
    t.after(() => copy.close())
    assert.equal(await versionOf(copy), version)
    assert.deepEqual(await contentOf(copy), before)
  })

  test(`a step from version ${version} that is cut off changes nothing, and is taken the next time`, async (t) => {
    const { db, file } = await aDatabaseAt(t, version)
    const before = await contentOf(db)
    const cutOff = `${migrations[version] ?? ''}\nINSERT INTO nowhere VALUES (1);\n`

    await assert.rejects(migrate(db, file, [...migrations.slice(0, version), cutOff]), /no such table/)

    assert.equal(await versionOf(db), version)
    assert.deepEqual(await contentOf(db), before)
    await migrate(db, file)
    assert.equal(await versionOf(db), migrations.length)
    assertKept(before, await contentOf(db))
    assert.deepEqual(await contradictionsIn(db), [])
  })
}

for (const [rules, expected] of [
  ['[]', ''],
  ['[{"tags":["big"]}]', null],
] as const) {
  test(`jobs of before that no rule was asked about require ${expected === '' ? 'nothing' : 'what the rules will say'} where the rules are ${rules}`, async (t) => {
    const { db, file } = await aDatabaseAt(t, 8)
    const switched = sql`INSERT INTO switches (name, value, changed_at) VALUES ('schedule.rules', ${rules}, ${moment})`
    await db.transaction((tx) => tx.batch([trusted('UPDATE jobs SET requires = NULL'), switched]))

    await migrate(db, file)

    assert.deepEqual(await db.all(sql`SELECT requires FROM jobs`), [{ requires: expected }])
  })
}

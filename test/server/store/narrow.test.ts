/** Lists with filters: whichever way the records are found, they are the same. */
import assert from 'node:assert/strict'
import { join } from 'node:path'
import { test, type TestContext } from 'node:test'
import { bounds, counted, tallied } from '../../../src/server/store/counting.ts'
import { sql, trusted, type Database } from '../../../src/server/store/database.ts'
import { namesContaining, type Containing } from '../../../src/server/store/names.ts'
import { answerOf } from '../../../src/server/store/narrow.ts'
import type { PackageFilter } from '../../../src/server/store/packages.ts'
import { binaryPage } from '../../../src/server/store/binaries.ts'
import type { PageRequest } from '../../../src/server/store/page.ts'
import { openSqlite } from '../../../src/server/store/sqlite.ts'
import { aPackage, anArtifact, importPackages, startServer } from '../../help/server.ts'
import { rebuilt } from '../../contracts/asking.ts'

const names = ['ada', 'Ada-Tools', 'libada', 'zeta', 'z%ta', 'z_ta', 'a', 'b-é', 'lib']

/** A database with a package of each name, some with verdicts; asked from this thread, so that bounds can be moved. */
async function aDatabase(t: TestContext): Promise<Database> {
  const server = await startServer(t)
  for (const release of ['sid', 'trixie'])
    await importPackages(
      server.call,
      names.map((name, index) =>
        aPackage({
          name,
          maintainer: index % 2 === 0 ? 'Ada <ada@example.org>' : 'Bob <bob@example.org>',
          url: `https://mirror.example/${release}/${name}`,
          artifacts: [
            anArtifact({ name, component: index < 4 ? 'main' : 'contrib' }),
            anArtifact({ name: `${name}-doc`, architecture: 'all', component: 'main' }),
          ],
        }),
      ),
      { release },
    )
  for (const status of ['GOOD', 'BAD', 'FAIL', 'GOOD', 'BAD'] as const) await rebuilt(server.call, { status })
  await server.stop()
  const { all, batch, bytes, close } = await openSqlite(join(server.data, 'rebuilderd.db'))
  t.after(close)
  return { all, batch, bytes } as Database
}

async function withBound<T>(few: number, work: () => Promise<T>): Promise<T> {
  const usual = bounds.few
  bounds.few = few
  try {
    return await work()
  } finally {
    bounds.few = usual
  }
}

const filters: readonly PackageFilter[] = [
  {},
  { search: 'ada' },
  { search: 'A' },
  { search: 'é' },
  { search: 'z%t' },
  { search: '_' },
  { search: 'nowhere' },
  { search: 'li', search_type: 'starts_with' },
  { search: 'AD', search_type: 'starts_with' },
  { search: 'z%T', search_type: 'starts_with' },
  { search: 'ada', search_type: 'exact' },
  { search: 'ada', release: 'sid', status: ['BAD', 'GOOD'] },
  { maintainer: 'ADA@' },
  { maintainer: 'example.org', architecture: 'all' },
  { maintainer: 'nobody' },
  { component: 'contrib' },
  { component: 'contrib', status: ['UNKWN'] },
  { status: ['BAD'] },
  { status: ['GOOD', 'UNKWN'], releases: ['sid', 'trixie'] },
  { reason: ['content_differs', 'build_failed'] },
  { since: '2026-01-01T00:00:00' },
  { since: '2026-01-01T00:00:00', release: 'sid', maintainer: 'bob' },
  { source_name: 'zeta' },
  { name: 'zeta-doc' },
  { release: 'nowhere' },
]

test('a list is the same, looked up or walked through, in every order and page by page', async (t) => {
  const db = await aDatabase(t)
  const page = async (filter: PackageFilter, request: Record<string, unknown>) => {
    const text = await binaryPage(db, { filter, request })
    const { total, records } = JSON.parse(new TextDecoder().decode(text)) as {
      total: number
      records: { id: number }[]
    } // as it is written
    return { total, ids: records.map(({ id }) => id) }
  }

  for (const filter of filters)
    for (const sort of ['id', 'name', 'decided_at', 'source_name', 'status', 'last_seen'])
      for (const direction of ['Ascending', 'Descending']) {
        const words = JSON.stringify({ filter, sort, direction })
        const found = await withBound(1000, () => page(filter, { sort, direction }))
        const walked = await withBound(-1, () => page(filter, { sort, direction }))
        const cursor = direction === 'Ascending' ? 'after' : 'before'
        const paged: number[] = []
        for (let ids = found.ids.slice(0, 1); ids.length > 0;) {
          paged.push(...ids)
          const few = paged.length % 2 === 0 ? 1000 : -1
          ids = (
            await withBound(few, () => page(filter, { sort, direction, limit: 3, [cursor]: paged.at(-1) }))
          ).ids
        }

        assert.equal(found.total, found.ids.length, words)
        assert.deepEqual(walked, found, words)
        assert.deepEqual(paged, found.ids, words)
      }
})

test('frequent lists ask for little, and put nothing in order that an index has', async (t) => {
  const { all, batch, bytes } = await aDatabase(t)
  const texts: string[] = []
  const watched: Pick<Database, 'all' | 'batch' | 'bytes'> = {
    batch,
    all: (query) => {
      texts.push(query.text)
      return all(query)
    },
    bytes: (query) => {
      texts.push(query.text)
      return bytes(query)
    },
  }
  const asked = async (filter: PackageFilter, request: PageRequest) => {
    texts.length = 0
    await binaryPage(watched as Database, { filter, request })
    return { questions: texts.length, isSorted: texts.some((text) => text.includes('ORDER BY +')) }
  }

  assert.deepEqual(await asked({}, {}), { questions: 2, isSorted: false })
  assert.deepEqual(await asked({}, { sort: 'name' }), { questions: 2, isSorted: false })
  assert.deepEqual(await asked({ seen_only: true }, { sort: 'name' }), { questions: 3, isSorted: false })
  assert.deepEqual(await asked({ name: 'zeta-doc' }, {}), { questions: 2, isSorted: true })
})

test('a text is found in names whatever the case of its letters, and in those that came later', async (t) => {
  const db = await aDatabase(t)
  const containing = (text: string, most: number): Promise<Containing> =>
    answerOf(() => namesContaining(db, 'source', text, most))
  const found = async (text: string): Promise<string[]> => (await containing(text, 100)).names.sort()
  const first = await found('ADA')
  await db.all(sql`
    INSERT INTO source_packages (release_id, name, version, seen, first_seen, last_seen) VALUES (1, 'newada', '1', 1, '', '')`)

  assert.deepEqual(first, ['Ada-Tools', 'ada', 'libada'])
  assert.deepEqual(await found('ada'), ['Ada-Tools', 'ada', 'libada', 'newada'])
  assert.deepEqual(await found('%'), ['z%ta'])
  assert.deepEqual(await found('e'), ['newada', 'zeta'])
  assert.deepEqual(await found('\n'), [])
  const { names, rows, isCut } = await containing('zeta', 0)
  assert.deepEqual({ names, rows, isCut }, { names: [], rows: 2, isCut: true })
})

test('a text is found where it begins a name, with every way in which it is written there', async (t) => {
  const db = await aDatabase(t)
  const beginning = (text: string, most = 100): Promise<Containing> =>
    answerOf(() => namesContaining(db, 'source', text, most, 'beginning'))
  const { names, spelt } = await beginning('aDA')
  await db.all(sql`
    INSERT INTO source_packages (release_id, name, version, seen, first_seen, last_seen) VALUES (1, 'aDa', '1', 1, '', '')`)

  assert.deepEqual(
    [names.sort(), spelt],
    [
      ['Ada-Tools', 'ada'],
      ['Ada', 'ada'],
    ],
  )
  assert.deepEqual((await beginning('ada')).names.sort(), ['Ada-Tools', 'aDa', 'ada'])
  assert.deepEqual((await beginning('tools')).names, [])
  assert.deepEqual((await beginning('z%')).names, ['z%ta'])
  const { rows, isCut } = await beginning('zeta', 0)
  assert.deepEqual([rows, isCut], [2, true])
})

test('what no counter knows is counted in turns, and told again until the data moved on', async (t) => {
  const db = await aDatabase(t)
  await db.all(sql`
    INSERT INTO source_packages (id, release_id, name, version, seen, first_seen, last_seen, status)
    SELECT 100000 + value, 1, 'many', value, 1, '', '', iif(value % 3 = 0, 'GOOD', 'BAD')
      FROM (WITH RECURSIVE c(value) AS (SELECT 1 UNION ALL SELECT value + 1 FROM c WHERE value < 30000) SELECT value FROM c)`)
  const counting = (status: string, revision = '1') => ({
    table: trusted('source_packages s'),
    id: 's.id',
    conditions: [sql`s.name = 'many'`, sql`s.status = ${status}`],
    revision,
  })
  const whole = async <T>(ask: () => Promise<T | null>): Promise<{ answer: T; asked: number }> => {
    for (let asked = 1; ; asked++) {
      const answer = await ask()
      if (answer !== null) return { answer, asked }
      assert.ok(asked < 10_000)
    }
  }

  const { answer: good } = await whole(() => counted(db, counting('GOOD')))
  const { answer: bad } = await whole(() => counted(db, counting('BAD')))
  const again = await whole(() => counted(db, counting('BAD')))
  const { answer: kinds } = await whole(() =>
    tallied(
      db,
      { ...counting('GOOD'), conditions: [sql`s.name = 'many'`] },
      { word: 's.status', detail: `''` },
    ),
  )

  assert.deepEqual([good.n, good.ids?.length], [10_000, 10_000])
  assert.deepEqual([bad.n, bad.ids], [20_000, null])
  assert.equal(again.asked, 1)
  assert.deepEqual(Object.fromEntries(kinds.map(({ word, n }) => [word, n])), { GOOD: 10_000, BAD: 20_000 })
})

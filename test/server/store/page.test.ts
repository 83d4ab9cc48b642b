import assert from 'node:assert/strict'
import { test } from 'node:test'
import { Complaint } from '../../../src/errors.ts'
import { trusted } from '../../../src/server/store/database.ts'
import { refuseLongSort } from '../../../src/server/store/page.ts'
import { buildsOf, rebuilt } from '../../contracts/asking.ts'
import { ask } from '../../contracts/raw.ts'
import { aPackage, anArtifact, importPackages, startServer } from '../../help/server.ts'

const listing = {
  columns: trusted('m.id'),
  from: trusted('many m'),
  id: 'm.id',
  sorts: { id: 'm.id', name: 'm.name', size: 'm.size' },
  walked: ['id', 'name'],
}

test('a long list is given only in orders that cost the same however long it is', () => {
  for (const [sort, total] of [
    [undefined, 10_000_000],
    ['id', 10_000_000],
    ['name', 10_000_000],
    ['size', 100_000],
  ] as const)
    refuseLongSort(listing, sort === undefined ? {} : { sort }, total)

  assert.throws(
    () => refuseLongSort(listing, { sort: 'size' }, 100_001),
    (error) => error instanceof Complaint && error.exitCode === 2 && /id, name/.test(error.hint ?? ''),
  )
})

test('builds come by the names of their packages, page by page, up and down', async (t) => {
  const { call, address } = await startServer(t)
  const names = ['b', 'd', 'a', 'c']
  for (const name of names) {
    await importPackages(call, [aPackage({ name, artifacts: [anArtifact({ name })] })], { release: name })
    await rebuilt(call)
  }
  await importPackages(
    call,
    [aPackage({ name: 'b', version: '2', artifacts: [anArtifact({ name: 'b' })] })],
    {
      release: 'b',
    },
  )
  await rebuilt(call)
  const walk = async (direction: string, cursor: string): Promise<string[]> => {
    const seen: string[] = []
    for (let last: number | undefined; ;) {
      const page = await buildsOf(call, {
        sort: 'name',
        limit: '2',
        direction,
        ...(last === undefined ? {} : { [cursor]: String(last) }),
      })
      if (page.length === 0) return seen
      seen.push(...page.map(({ name, version }) => name + version))
      last = page.at(-1)?.id
    }
  }

  const [up, down] = [await walk('Ascending', 'after'), await walk('Descending', 'before')]

  assert.deepEqual(up, ['a1.0-1', 'b1.0-1', 'b2', 'c1.0-1', 'd1.0-1'])
  assert.deepEqual(down, up.toReversed())
  for (const word of ['version', 'release', 'status', 'reason', 'built_at'])
    assert.equal((await ask(address, 'GET', `/api/v1/builds?sort=${word}`)).status, 200)
})

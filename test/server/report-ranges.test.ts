/** Reports that differ a little from the last one are compared a little, and nothing else is different for that. */
import assert from 'node:assert/strict'
import { join } from 'node:path'
import { test, type TestContext } from 'node:test'
import { importReport, type ImportOptions, type ImportResult } from '../../src/server/imports.ts'
import { rangesOf, toCompare } from '../../src/server/report-ranges.ts'
import { sql, trusted, type Database } from '../../src/server/store/database.ts'
import { contradictionsIn } from '../../src/server/store/maintenance.ts'
import { migrate } from '../../src/server/store/schema.ts'
import { openSqlite } from '../../src/server/store/sqlite.ts'
import type { PackageReport } from '../../src/wire/packages.ts'
import { seeded } from '../bench/data.ts'
import { aPackage, aReport, anArtifact, temporaryFolder } from '../help/server.ts'

type Packages = PackageReport['packages']

const named = (names: readonly string[]): Packages => names.map((name) => aPackage({ name }))
const many = Array.from({ length: 1000 }, (_, index) => `pkg-${index}`)

function digests(packages: Packages): Map<string, string> {
  return new Map(rangesOf(packages)?.map(({ from, digest }) => [from, digest]))
}

/** How many packages have to be compared after another list of them. */
function comparedOf(before: Packages, after: Packages): number {
  return toCompare({ packages: after }, rangesOf(after), digests(before)).packages.length
}

test('the ranges of a report have every package once and every name there could be', () => {
  const ranges = rangesOf(named(many)) ?? []

  assert.ok(ranges.length > 5, `${ranges.length}`)
  assert.deepEqual(ranges.flatMap(({ packages }) => packages.map(({ name }) => name)).sort(), many.toSorted())
  assert.deepEqual([ranges[0]?.from, ranges.at(-1)?.to], ['', null])
  for (const [index, { from }] of ranges.slice(1).entries()) assert.equal(ranges[index]?.to, from)
})

test('a package that is changed, new or gone has its own range compared, in whatever order a report lists them', () => {
  const before = named(many)
  const boundary = rangesOf(before)?.[3]?.from ?? ''
  const changed = before.map((item) =>
    item.name === 'pkg-500' ? aPackage({ name: item.name, version: '9' }) : item,
  )

  assert.equal(comparedOf(before, before.toReversed()), 0)
  for (const [what, after] of Object.entries({
    changed,
    new: [...before, aPackage({ name: 'pkg-500a' })],
    gone: before.filter(({ name }) => name !== 'pkg-500'),
    first: before.filter(({ name }) => name !== boundary),
    last: [...before, aPackage({ name: 'zzz' })],
  })) {
    const compared = comparedOf(before, after)
    assert.ok(compared > 0 && compared < 400, `${what}: ${compared}`)
  }
})

test('names that databases order otherwise than programs are compared as a whole', () => {
  const packages = named([...many, '\u{1f4e6}', '\uffee'])

  assert.equal(rangesOf(packages), null)
  assert.equal(toCompare({ packages }, null, new Map()).packages.length, packages.length)
})

/** A list in which some packages are other ones than in the list before; one scope alone has maintainers, which scopes share. */
function turned(packages: Packages, random: () => number, architecture: string): Packages {
  const share = random() < 0.2 ? 0.5 : 0.005
  const kept = packages.flatMap((item): Packages => {
    if (random() >= share) return [item]
    const { name, version, url } = item
    const artifact = anArtifact({ name, version })
    const others: Packages[] = [
      [],
      [aPackage({ name: `${name}~`, version, url })],
      [aPackage({ name, version: `${version}+b1` })],
      [
        {
          ...item,
          maintainer: architecture === 'amd64' ? `M${Math.floor(random() * 5)} <m@b.example>` : null,
        },
      ],
      [
        {
          ...item,
          artifacts: [artifact, anArtifact({ name: `${name}-data`, version, architecture: 'all' })],
        },
      ],
      [{ ...item, artifacts: [{ ...artifact, component: 'contrib' }] }],
      [{ ...item, artifacts: [{ ...artifact, sha256: 'a'.repeat(64), size: 1 }] }],
      [{ ...item, artifacts: [{ ...artifact, sha256: 'b'.repeat(64), size: 2 }] }],
      [{ ...item, artifacts: [{ ...artifact, sha256: null, size: null }] }],
      [item, { ...item, artifacts: [anArtifact({ name: `${name}-doc`, version })] }],
      [item, aPackage({ name, version, url: `${url}.other` })],
      [item, aPackage({ name: `${name}\u00e9` })],
    ]
    return others[Math.floor(random() * others.length)] ?? []
  })
  return random() < 0.2 ? kept.toReversed() : kept
}

const options: ImportOptions = {
  schedule: {
    retryDelayHours: 24,
    maxRetries: null,
    infrastructureRetryMinutes: 30,
    infrastructureMaxRetries: 10,
    initialDelaySeconds: 0,
    leaseSeconds: 60,
    rules: [],
  },
  shrinkLimitPercent: 0,
  force: true,
  now: () => new Date(0),
}

async function aDatabase(t: TestContext): Promise<Database> {
  const file = join(await temporaryFolder(t), 'rebuilderd.db')
  const db = await openSqlite(file)
  t.after(() => db.close())
  await migrate(db, file)
  return db
}

const tables = [
  'scopes',
  'source_packages',
  'build_inputs',
  'binary_packages',
  'jobs',
  'friend_groups',
  'binary_counts',
]

async function contentOf(db: Database): Promise<unknown> {
  return Promise.all(tables.map((name) => db.all(trusted(`SELECT * FROM ${name} ORDER BY 1, 2, 3, 4, 5, 6`))))
}

test('whatever reports say one after another, comparing what differs leads to what comparing all leads to', async (t) => {
  const [db, whole] = [await aDatabase(t), await aDatabase(t)]
  const random = seeded(5)
  const lists: Record<string, Packages> = {
    amd64: named(many.slice(0, 500)),
    arm64: named(many.slice(200, 600)),
  }
  let isPartial = 0
  for (let step = 0; step < 24; step++) {
    const architecture = random() < 0.7 ? 'amd64' : 'arm64'
    const packages = turned(lists[architecture] ?? [], random, architecture)
    isPartial += Number(comparedOf(lists[architecture] ?? [], packages) < packages.length / 2)
    lists[architecture] = packages
    const report = aReport(packages, { architecture })
    const at = { ...options, now: () => new Date(Date.UTC(2026, 0, 1, step)) }
    await whole.transaction((tx) => tx.all(sql`DELETE FROM report_ranges`))

    const result = await importReport(db, report, at)

    assert.deepEqual(result, await importReport(whole, report, at), `step ${step}`)
    assert.deepEqual(await contentOf(db), await contentOf(whole), `step ${step}`)
  }
  assert.ok(isPartial > 5, `${isPartial} of 24`)
  assert.deepEqual(await contradictionsIn(db), [])
})

test('after an import that was cut short everything is compared', async (t) => {
  const db = await aDatabase(t)
  const imported = (packages: Packages): Promise<ImportResult> => importReport(db, aReport(packages), options)
  await imported(named(many))
  // as one leaves it that has opened its scope and written some: the digest is gone
  await db.transaction((tx) =>
    tx.batch([sql`UPDATE scopes SET digest = NULL`, sql`UPDATE build_inputs SET seen = 0 WHERE id % 3 = 0`]),
  )

  const { written } = await imported([...named(many), aPackage({ name: 'new' })])

  assert.equal(written, 334)
})

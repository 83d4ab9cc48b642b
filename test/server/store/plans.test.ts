/** No question walks through a table that grows, whatever is asked. */
import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { fileURLToPath } from 'node:url'
import * as v from 'valibot'
import { Complaint } from '../../../src/errors.ts'
import { hasBody } from '../../../src/wire/endpoint.ts'
import { listBuilds, submitBuild } from '../../../src/wire/builds.ts'
import { endpoints } from '../../../src/wire/index.ts'
import { listBinaryPackages, listSourcePackages } from '../../../src/wire/packages.ts'
import { dropJob, listQueue, requestRebuild } from '../../../src/wire/queue.ts'
import { confirmScope, listScopes } from '../../../src/wire/sync.ts'
import { sql, trusted, type Database } from '../../../src/server/store/database.ts'
import { migrations } from '../../../src/server/store/schema.ts'
import { leaseReturned, listBuildRows, type BuildFilter } from '../../../src/server/store/builds.ts'
import { bounds, counted, tallied } from '../../../src/server/store/counting.ts'
import { eventsAfter, forgottenEvents, lastEvent } from '../../../src/server/store/events.ts'
import { attestationShas, lookedUp } from '../../../src/server/store/gates.ts'
import { listedInputs } from '../../../src/server/store/imports.ts'
import { revisionOf } from '../../../src/server/store/narrow.ts'
import { binaryPage } from '../../../src/server/store/binaries.ts'
import type { PackageFilter } from '../../../src/server/store/packages.ts'
import { listSourceRows } from '../../../src/server/store/sources.ts'
import { countVerdicts } from '../../../src/server/store/verdicts.ts'
import type { PageRequest } from '../../../src/server/store/page.ts'
import {
  countJobs,
  listJobs,
  type JobFilter,
  freeJobs,
  heldLease,
  knownArchitectures,
  leaseNamed,
  promoted,
  ruledJob,
  rulesForgotten,
  unruled,
  unruledJobs,
  workerSeen,
} from '../../../src/server/store/queue.ts'
import { inputsAfter, outlivedBuilds, withoutLogs } from '../../../src/server/store/retention.ts'
import { forgottenChanges, snapshotTaken } from '../../../src/server/store/web.ts'
import { listSources, listedNames, scopesOf, type ReleaseRow } from '../../../src/server/store/web-release.ts'
import {
  drainWorker,
  freeTold,
  keyForgotten,
  keyProven,
  markOffline,
} from '../../../src/server/store/workers.ts'
import { openSqlite } from '../../../src/server/store/sqlite.ts'
import { popped, rebuilt } from '../../contracts/asking.ts'
import { ask } from '../../contracts/raw.ts'
import { inOneLine, statementsBelow } from '../../help/statements.ts'
import {
  aPackage,
  aResult,
  anArtifact,
  importPackages,
  startServer,
  type TestServer,
} from '../../help/server.ts'

/** Tables that grow with history or with the archive. */
const growing =
  /^(binary_packages|build_inputs|builds|artifacts|source_packages|leases|friend_groups|blobs|jobs|events|changes|snapshots)$/

/** Statements that may walk or sort what grows, each with the reason. */
const allowed: readonly (readonly [why: string, what: RegExp])[] = [
  [
    'a list is put in order where it is short, or where no index has the order and it is not refused as too long',
    /AS id FROM (?:(?! WHERE ).)*(?: WHERE [+(E][^]*)? ORDER BY \+/,
  ],
  ['the whole queue is dropped', /SELECT j\.id FROM jobs j CROSS JOIN (?:(?! WHERE ).)*\)/],
  ['changed rules are asked about all that waits, once', /^UPDATE jobs SET requires = NULL/],
]

/** Files whose statements run beside a server only, or before it: they have nobody to keep waiting. */
const elsewhere: Readonly<Record<string, string>> = {
  'store/maintenance.ts': '`ctl db check` looks at every row of a copy',
  'store/takeover.ts': '`ctl db import` fills a database before a server starts on it',
  'store/upstream.ts': "reads another server's database, which has indexes of its own",
}

type Step = { parent: number; detail: string }

/** Steps of a plan that cost more the more there is: walks from end to end, but for those that end with the page. */
function walksOf(plan: readonly Step[], text: string): string[] {
  const isPage = /LIMIT \?\s*\)?\s*$/.test(text)
  return plan
    .filter(({ parent, detail }) => {
      const isSorted = plan.some((step) => step.parent === parent && step.detail.includes('FOR ORDER BY'))
      const isPartial = detail.endsWith('jobs_without_rule') // has no others
      // Look-ups of many at once must not go by versions, which thousands of packages may share.
      const isShared = /_by_version \(version=\?\)/.test(detail) && text.includes('json_extract')
      if (isShared) return true
      return growing.test(walkedBy(detail, text) ?? '') && !isPartial && !(isPage && !isSorted)
    })
    .map(({ detail }) => detail)
}

/** The table that a step of a plan walks through from end to end, or null. */
function walkedBy(detail: string, text: string): string | null {
  const name = /^SCAN (\w+)/.exec(detail)?.[1]
  if (name === undefined) return null
  // A key that an INSERT might have broken is looked for only while some key is broken: foreign keys, never here.
  if (name === 'leases' && /^\s*INSERT/.test(text)) return null
  const isCalled = new RegExp(`(?:FROM|JOIN|,)\\s+(\\w+)\\s+(?:AS\\s+)?${name}\\b`)
  return isCalled.exec(text)?.[1] ?? name
}

/** What ANALYZE says of a database of half a million binaries and two million builds. */
const statistics = JSON.parse(readFileSync(new URL('large-statistics.json', import.meta.url), 'utf8')) as [
  string,
  string | null,
  string,
][]

const sources = fileURLToPath(new URL('../../../src/server/', import.meta.url))
const statement = /^\s*(SELECT|INSERT|UPDATE|DELETE|WITH)\b/

/** Steps of the schema are taken before a server is ready. */
const steps = migrations.join()
function isMigration(text: string): boolean {
  return steps.includes(text.trim().replace(/;$/, ''))
}

const pages = [
  '/',
  '/debian',
  '/debian/sid',
  '/debian/sid?status=FAIL&sort=newest',
  '/debian/sid?status=UNKWN&architecture=amd64&reason=no_space',
  '/debian/sid?component=main&maintainer=a&q=o',
  '/debian/sid?sort=oldest&after=1',
  '/debian/sid?sort=name-down&before=2',
  '/debian/sid/one',
  '/debian/sid/one/1.0-1',
  '/builds/1',
  '/builds/1/log',
  '/builds/1/diff/1',
  '/jobs/1',
  '/queue',
  '/workers',
  '/reasons',
  '/changes?turn=worse&of=debian+sid',
  '/changes?maintainer=a&before=9',
  '/search?q=one',
  '/search?q=n',
  '/about',
  '/sitemap.xml',
  '/feed.atom',
  '/feed.atom?maintainer=a',
  '/feed/debian/sid.atom',
  '/feed/debian/sid/one.atom',
  '/badge/debian/sid/one.svg',
]

const now = '2026-01-01T00:00:00'

/** What a server does by its clock, or when things go wrong, and parts that take turns. */
async function others(db: Database): Promise<void> {
  const lease = { id: 1, job_id: 1, group_id: 1, build_input_id: 1, started_at: now, outcome: null, holds: 1 }
  const package1 = { distribution: 'debian', name: 'one', version: '1', architecture: 'all' }
  await freeJobs(db, now, now)
  await db.batch([
    ...snapshotTaken('2026-01-01'),
    forgottenChanges(),
    forgottenEvents(),
    markOffline(now),
    ...leaseReturned(lease, { workerId: 1, avoidWorkerId: 1, now }),
    ...withoutLogs([1, 2], now),
    workerSeen(1, now),
    ruledJob(1, '', 1),
    rulesForgotten,
    unruled(1),
    promoted(now, 1),
    freeTold(1, '{}'),
    keyProven('key', now),
    keyForgotten(1),
  ])
  for (const table of ['builds h', 'jobs h', 'binary_packages h', 'source_packages h', 'build_inputs h']) {
    const counting = { table: trusted(table), id: 'h.id', conditions: [trusted('+h.id > 0')], revision: '1' }
    assert.notEqual(await counted(db, counting), null)
    assert.notEqual(await tallied(db, counting, { word: `'a'`, detail: `'b'` }), null)
  }
  await revisionOf(db, ['packages'])
  await eventsAfter(db, 0, 1)
  await lastEvent(db)
  await lookedUp(db, [package1])
  await attestationShas(db, [{ build_id: 1, artifact_id: 1 }])
  await knownArchitectures(db)
  await leaseNamed(db, 'token')
  await heldLease(db, 1, 1)
  await unruledJobs(db, 1)
  await inputsAfter(db, 0, 1)
  await outlivedBuilds(db, [1, 2], 1, 1)
  await listedNames(db, 1, 1)
  await drainWorker(db, 1, false)
  const scope = { id: 1, release_id: 1, listed: 1 }
  for (const to of ['b', null]) await listedInputs(db, scope, { from: 'a', to }, 0, 1)
}

const orders = [
  'id',
  'name',
  'version',
  'last_seen',
  'started_at',
  'built_at',
  'status',
  'retries',
  'worker',
  'decided_at',
]

const queries = [
  '',
  '?limit=5',
  '?name=a',
  '?version=1',
  '?name=a&version=1',
  '?distribution=debian',
  '?distribution=debian&release=sid',
  '?release=sid&component=main',
  '?release=sid&architecture=amd64',
  '?seen_only=true',
  '?status=BAD',
  '?status=BAD,FAIL',
  '?status=UNKWN',
  '?sort=name',
  '?sort=name&after=1',
  '?sort=name&direction=Descending&before=1',
  '?after=1',
  '?before=1',
  '?search=a',
  '?maintainer=a',
  '?search=a&search_type=exact',
  '?search=a&search_type=starts_with',
  '?search=a&search_type=starts_with&sort=name',
  '?source_name=a',
  '?reason=build_failed',
  '?since=2026-01-01T00:00:00',
  '?component=main',
  '?component=main&architecture=amd64&status=BAD',
  '?release=sid',
  '?release=sid&status=BAD,FAIL',
  '?release=sid&search=n',
  '?releases=sid,trixie',
  '?architecture=amd64',
  '?architecture=all',
  '?maintainer=a&status=BAD',
  '?since=2026-01-01T00:00:00&status=FAIL',
  '?search=n&after=1',
  ...orders.flatMap((word) => [
    `?sort=${word}&limit=3`,
    `?sort=${word}&status=BAD&direction=Descending&before=2`,
  ]),
]

async function busy({ call, clock, address, cookie }: TestServer): Promise<void> {
  const packages = ['one', 'two', 'three', 'four'].map((name) =>
    aPackage({ name, artifacts: [anArtifact({ name, sha256: 'a'.repeat(64), size: 1 })] }),
  )
  await importPackages(call, packages)
  await importPackages(call, packages, { release: 'trixie' })
  await rebuilt(call)
  await rebuilt(call, { status: 'BAD' })
  await rebuilt(call, { status: 'FAIL', reason: 'no_space' })
  await call(submitBuild, { body: aResult(await popped(call)) })
  await importPackages(call, packages.slice(1), { release: 'trixie' })
  await importPackages(call, packages, { release: 'forky' })
  const everything = {
    distribution: 'debian',
    release: 'sid',
    component: 'main',
    name: 'one',
    version: null,
    architecture: 'amd64',
    status: null,
    reason: null,
    priority: null,
  }
  await call(requestRebuild, { body: everything })
  const [job] = (await call(listQueue)).records
  await call(dropJob, { params: { id: job?.id ?? 0 } })
  const [scope] = await call(listScopes)
  assert.ok(scope?.digest)
  const { distribution, release, architecture, digest } = scope
  const confirmed = await call(confirmScope, { body: { distribution, release, architecture, digest } })
  assert.ok(confirmed.known)
  clock.ahead = 700_000
  const headers = { 'x-auth-cookie': cookie, 'x-worker-key': 'key-1' }
  for (const row of endpoints.filter(({ path }) => !path.endsWith('/events'))) {
    const target = row.path.replace('{distribution}', 'debian').replace(/\{\w+\}/g, '1')
    const isList = row.method === 'GET' && 'limit' in row.query.entries
    for (const query of isList ? queries : ['']) {
      const sent = hasBody(row) ? { body: '{"name":"one","packages":[]}' } : {}
      await ask(address, row.method, target + query, {
        headers: { ...headers, 'content-type': 'application/json' },
        ...sent,
      })
    }
  }
  for (const query of ['component=main', 'component=contrib', 'name=one', 'release=sid'])
    await ask(address, 'GET', `/api/v1/dashboard?${query}`)
  for (const page of pages) await ask(address, 'GET', page)
  const moved = [anArtifact({ name: 'one-data' })]
  await importPackages(call, [aPackage({ name: 'one', artifacts: moved }), ...packages.slice(1)], {
    release: 'forky',
  })
  await ask(address, 'GET', '/search?q=data')
}

/** Lists refuse orders that they do not have. */
async function unlessRefused(work: Promise<unknown>): Promise<void> {
  await work.catch((error: unknown) => assert.ok(error instanceof Complaint, String(error)))
}

/** What a server does when so many rows match that it walks the order asked for: lists, and counts of what no counter has. */
async function asThoughManyMatched({ all, batch, bytes }: Database): Promise<void> {
  const db = { all, batch, bytes } as Database // without its thread: all is asked from here, where the bound can be lowered
  const few = bounds.few
  bounds.few = -1
  try {
    for (const query of queries.map((text) => new URLSearchParams(text))) {
      const given = Object.fromEntries(query)
      const asked = <S extends Parameters<typeof v.parse>[0]>(schema: S) => v.parse(schema, given)
      const binary = asked(listBinaryPackages.query) as PackageFilter & PageRequest
      await unlessRefused(binaryPage(db, { filter: binary, request: binary }))
      const source = asked(listSourcePackages.query) as PackageFilter & PageRequest
      await unlessRefused(listSourceRows(db, source, source))
      await countVerdicts(db, source)
      const build = asked(listBuilds.query) as BuildFilter & PageRequest
      await unlessRefused(listBuildRows(db, build, build))
      const job = asked(listQueue.query) as JobFilter & PageRequest
      await unlessRefused(listJobs(db, job, job))
      await countJobs(db, job, now)
    }
    const [release] = await db.all<ReleaseRow>(
      sql`SELECT id, distribution, name FROM releases WHERE name = 'sid'`,
    )
    const filters = [
      {},
      { component: 'main' },
      { maintainer: 'a' },
      { search: 'n' },
      { architecture: 'amd64' },
    ]
    if (release !== undefined)
      for (const filter of filters)
        for (const sort of ['name', 'decided'])
          await listSources(db, release, await scopesOf(db, release.id), filter, { sort, limit: 3 })
  } finally {
    bounds.few = few
  }
}

test('every statement finds what it asks for by an index', { timeout: 600_000 }, async (t) => {
  const server = await startServer(t)
  await busy(server)
  const asked = await server.statements()
  await server.stop()
  const db = await openSqlite(join(server.data, 'rebuilderd.db'))
  t.after(() => db.close())
  await others(db)
  await asThoughManyMatched(db)
  const run = new Set([...asked, ...(await db.statements())])
  const statements = [...run].filter((text) => statement.test(text) && !isMigration(text))

  await t.test('every statement of the source was run', () => {
    const lines = statements.map(inOneLine)
    const unmet = statementsBelow(sources).filter(
      ({ where, pattern }) =>
        elsewhere[where.replace(/:.*/, '')] === undefined && !lines.some((line) => pattern.test(line)),
    )
    assert.deepEqual(
      unmet.map(({ where, text }) => `${where} ${inOneLine(text)}`),
      [],
    )
  })

  const slow = async (): Promise<string[]> => {
    const found: string[] = []
    for (const text of statements) {
      const why = walksOf(await db.all<Step>(trusted(`EXPLAIN QUERY PLAN ${text}`)), text)
      if (why.length > 0 && !allowed.some(([, what]) => what.test(inOneLine(text))))
        found.push(
          `${why.join('; ')}: ${inOneLine(text)}`.replace(/SELECT json_object.*AS record/, 'SELECT …'),
        )
    }
    return found
  }

  await t.test('as a server plans them', async () => assert.deepEqual(await slow(), []))

  await t.test('with the statistics of half a million binaries', async () => {
    await db.all(sql`ANALYZE`)
    await db.all(sql`DELETE FROM sqlite_stat1`)
    for (const [table, index, stat] of statistics)
      await db.all(sql`INSERT INTO sqlite_stat1 (tbl, idx, stat) VALUES (${table}, ${index}, ${stat})`)
    await db.all(sql`ANALYZE sqlite_schema`)

    assert.deepEqual(await slow(), [])
  })

  await t.test('nothing is allowed that does not happen', async () => {
    const plans = await Promise.all(
      statements.map(
        async (text) => [text, await db.all<Step>(trusted(`EXPLAIN QUERY PLAN ${text}`))] as const,
      ),
    )
    const walking = plans
      .filter(([text, plan]) => walksOf(plan, text).length > 0)
      .map(([text]) => inOneLine(text))
    for (const [why, what] of allowed)
      assert.ok(
        walking.some((text) => what.test(text)),
        why,
      )
  })
})

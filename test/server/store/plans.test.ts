/** No question walks through a table that grows, whatever is asked. */
import assert from 'node:assert/strict'
import { join } from 'node:path'
import { test } from 'node:test'
import { hasBody } from '../../../src/wire/endpoint.ts'
import { submitBuild } from '../../../src/wire/builds.ts'
import { endpoints } from '../../../src/wire/index.ts'
import { dropJob, listQueue, requestRebuild } from '../../../src/wire/queue.ts'
import { confirmScope, listScopes } from '../../../src/wire/sync.ts'
import { trusted } from '../../../src/server/store/database.ts'
import { openSqlite } from '../../../src/server/store/sqlite.ts'
import { popped, rebuilt } from '../../contracts/asking.ts'
import { ask } from '../../contracts/raw.ts'
import {
  aPackage,
  aResult,
  anArtifact,
  importPackages,
  startServer,
  type TestServer,
} from '../../help/server.ts'

/** Tables that grow with history or with the archive. */
const growing = /^(binary_packages|build_inputs|builds|artifacts|source_packages|leases|friend_groups|blobs)$/

/**
 * Questions that are a walk by their nature, each named by what tells it apart: text inside names, and counts of what
 * no counter has. People ask them, rarely.
 */
const walks = [
  / LIKE \?/,
  /instr\(lower\(/,
  /EXISTS \(SELECT 1 FROM binary_packages b WHERE b\.source_package_id = s\.id/,
  /count\(\*\) AS n FROM builds h [^?]*WHERE r\.name = \? AND c\.architecture = \?$/,
]

/** Orders that no index has: asked for a list of more than 100,000 records they are refused. */
const bounded =
  / ORDER BY ([bs]\.(status|decided_at|last_seen) (ASC|DESC), |s\.version (ASC|DESC), h\.id )[^]*LIMIT \?\s*\)?\s*$/

/** The table that a step of a plan walks through from end to end, or null. */
function walkedBy(detail: string, text: string): string | null {
  const name = /^SCAN (\w+)/.exec(detail)?.[1]
  if (name === undefined) return null
  // A key that an INSERT might have broken is looked for only while some key is broken: foreign keys, never here.
  if (name === 'leases' && /^\s*INSERT/.test(text)) return null
  const isCalled = new RegExp(`(?:FROM|JOIN|,)\\s+(\\w+)\\s+(?:AS\\s+)?${name}\\b`)
  return isCalled.exec(text)?.[1] ?? name
}

/** Orders that an index has; others are made of so many records and no more. */
const walked = [
  'id',
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
  '?source_name=a',
  '?reason=build_failed',
  '?since=2026-01-01T00:00:00',
  ...walked.map((word) => `?sort=${word}&limit=3`),
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
}

test('every statement finds what it asks for by an index', { timeout: 120_000 }, async (t) => {
  const server = await startServer(t)
  await busy(server)
  const statements = await server.statements()
  await server.stop()
  const db = await openSqlite(join(server.data, 'rebuilderd.db'))
  t.after(() => db.close())

  const slow: string[] = []
  const shared: string[] = [] // look-ups of many that go by versions, which thousands of packages may share
  const questions = statements.filter((text) => /^\s*(SELECT|INSERT|UPDATE|DELETE|WITH)/.test(text))
  for (const text of questions) {
    const plan = await db.all<{ detail: string }>(trusted(`EXPLAIN QUERY PLAN ${text}`))
    const details = plan.map(({ detail }) => detail)
    const isByVersion = details.some((detail) => /_by_version \(version=\?\)/.test(detail))
    if (isByVersion && text.includes('json_extract')) shared.push(text)
    const isWalkInOrder =
      /LIMIT \?\s*\)?\s*$/.test(text) &&
      !details.some((detail) => detail.includes('TEMP B-TREE FOR ORDER BY'))
    const scans = details.filter((detail) => growing.test(walkedBy(detail, text) ?? ''))
    if (scans.length > 0 && !isWalkInOrder && ![...walks, bounded].some((walk) => walk.test(text)))
      slow.push(`${scans.join('; ')}: ${text}`)
  }

  assert.ok(questions.length > 80, `${questions.length} statements were seen`)
  assert.deepEqual(slow, [])
  assert.deepEqual(shared, [])
})

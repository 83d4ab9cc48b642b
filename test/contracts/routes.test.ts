/** Every request that clients of the existing rebuilderd make: one test each, named by it. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { endpoints } from '../../src/wire/index.ts'
import { submitBuild } from '../../src/wire/builds.ts'
import { listQueue } from '../../src/wire/queue.ts'
import { aPackage, aReport, aResult, anArtifactResult, importPackages, startServer } from '../help/server.ts'
import { popped } from './asking.ts'
import { ask, documentOf } from './raw.ts'

type As = 'anyone' | 'admin' | 'worker' | 'signup'
type Route = {
  route: string
  target: string
  as?: As
  body?: unknown
  status?: number
  /** `page`, `list`, `text` and `none`, or the members of the object that comes. */
  reply: string
}

const build = 'id name version distribution release architecture backend retries started_at built_at status'
const artifact = 'id name has_diffoscope has_attestation status'
const source = 'id name version distribution release status build_id last_seen seen_in_last_sync'
const binary = `${source} component architecture url artifact_id diffoscope_log_id attestation_log_id`
const job =
  'id name version distribution release architecture backend url next_retry priority queued_at started_at'
const pop = { supported_backends: ['none'], architecture: 'x86_64', supported_architectures: ['amd64'] }
const report = {
  queue_id: 4711,
  built_at: '2026-11-22T19:40:00',
  build_log: [],
  status: 'FAIL',
  artifacts: [],
}
const v1 = '/api/v1'

/** In the order they are asked: those that take things away come last. */
const routes: readonly Route[] = [
  { route: `GET ${v1}/builds`, target: '/builds', reply: 'page' },
  { route: `GET ${v1}/builds/{id}`, target: '/builds/2', reply: build },
  { route: `GET ${v1}/builds/{id}/log`, target: '/builds/2/log', reply: 'text' },
  { route: `GET ${v1}/builds/{id}/artifacts`, target: '/builds/2/artifacts', reply: 'list' },
  {
    route: `GET ${v1}/builds/{id}/artifacts/{artifact_id}`,
    target: '/builds/2/artifacts/2',
    reply: artifact,
  },
  {
    route: `GET ${v1}/builds/{id}/artifacts/{artifact_id}/diffoscope`,
    target: '/builds/2/artifacts/2/diffoscope',
    reply: 'text',
  },
  {
    route: `GET ${v1}/builds/{id}/artifacts/{artifact_id}/attestation`,
    target: '/builds/2/artifacts/2/attestation',
    status: 404,
    reply: 'none',
  },
  { route: `POST ${v1}/builds`, target: '/builds', as: 'worker', body: report, status: 404, reply: 'text' },
  { route: `GET ${v1}/dashboard`, target: '/dashboard', reply: 'rebuilds jobs' },
  { route: `GET ${v1}/meta/distributions`, target: '/meta/distributions', reply: 'list' },
  {
    route: `GET ${v1}/meta/distributions/{distribution}/releases`,
    target: '/meta/distributions/debian/releases',
    reply: 'list',
  },
  {
    route: `GET ${v1}/meta/distributions/{distribution}/architectures`,
    target: '/meta/distributions/debian/architectures',
    reply: 'list',
  },
  {
    route: `GET ${v1}/meta/distributions/{distribution}/releases/{release}/architectures`,
    target: '/meta/distributions/debian/releases/sid/architectures',
    reply: 'list',
  },
  { route: `GET ${v1}/meta/public-keys`, target: '/meta/public-keys', reply: 'current' },
  { route: `GET ${v1}/packages/source`, target: '/packages/source', reply: 'page' },
  { route: `GET ${v1}/packages/source/{id}`, target: '/packages/source/1', reply: source },
  { route: `GET ${v1}/packages/binary`, target: '/packages/binary', reply: 'page' },
  { route: `GET ${v1}/packages/binary/{id}`, target: '/packages/binary/1', reply: binary },
  { route: `GET ${v1}/queue`, target: '/queue', reply: 'page' },
  { route: `GET ${v1}/queue/{id}`, target: '/queue/JOB', reply: job },
  { route: `POST ${v1}/queue`, target: '/queue', as: 'admin', body: {}, reply: 'affected' },
  { route: `POST ${v1}/queue/pop`, target: '/queue/pop', as: 'worker', body: pop, reply: 'Nothing' },
  {
    route: `POST ${v1}/queue/{id}/ping`,
    target: '/queue/4711/ping',
    as: 'worker',
    status: 404,
    reply: 'none',
  },
  { route: `GET ${v1}/workers`, target: '/workers', reply: 'page' },
  {
    route: `GET ${v1}/workers/{id}`,
    target: '/workers/1',
    reply: 'id name address status last_ping is_online',
  },
  {
    route: `POST ${v1}/workers`,
    target: '/workers',
    as: 'signup',
    body: { name: 'w' },
    status: 204,
    reply: 'none',
  },
  {
    route: `POST ${v1}/packages`,
    target: '/packages',
    as: 'admin',
    body: aReport([aPackage()], { release: 'other' }),
    status: 204,
    reply: 'none',
  },
  { route: `DELETE ${v1}/queue/{id}`, target: '/queue/JOB', as: 'admin', status: 204, reply: 'none' },
  { route: `DELETE ${v1}/queue`, target: '/queue', as: 'admin', status: 204, reply: 'none' },
  { route: `DELETE ${v1}/workers/{id}`, target: '/workers/1', as: 'worker', status: 204, reply: 'none' },
]

test('requests of API v1', async (t) => {
  const server = await startServer(t)
  const { call, address, cookie } = server
  const names = ['hello', 'worse', 'waits'] // one after the other, so that ids are in this order
  for (const count of names.keys())
    await importPackages(
      call,
      names.slice(0, count + 1).map((name) => aPackage({ name })),
    )
  for (const status of ['GOOD', 'BAD'] as const) {
    const given = await popped(call)
    const diffoscope = status === 'BAD' ? new TextEncoder().encode('a diff\n') : null
    const artifacts = given.artifacts.map(({ name, url }) =>
      anArtifactResult({ name, url, status, diffoscope }),
    )
    await call(submitBuild, { body: aResult(given, { status, artifacts }) })
  }
  const headersOf: Record<As, Record<string, string>> = {
    anyone: {},
    admin: { 'x-auth-cookie': cookie },
    worker: { 'x-worker-key': 'key-1' },
    signup: { 'x-worker-key': 'key-1', 'x-signup-secret': 'let me in' },
  }

  const [waiting] = (await call(listQueue)).records

  for (const { route, target, as = 'anyone', body, status = 200, reply } of routes) {
    await t.test(`${route}: ${as} gets ${status} and ${reply}`, async () => {
      const [method = ''] = route.split(' ')
      const sent = body === undefined ? {} : { body: JSON.stringify(body) }
      const type: Record<string, string> = body === undefined ? {} : { 'content-type': 'application/json' }
      const headers = { ...headersOf[as], ...type }
      const told = await ask(address, method, v1 + target.replace('JOB', String(waiting?.id)), {
        headers,
        ...sent,
      })

      assert.equal(told.status, status, told.text)
      if (reply === 'none') return assert.equal(told.text, '')
      if (reply === 'text') return assert.equal(told.headers['content-type'], 'text/plain; charset=utf-8')
      assert.equal(told.headers['content-type'], 'application/json')
      if (reply === 'Nothing') return assert.equal(told.text, '"Nothing"')
      const document = documentOf<Record<string, unknown>>(told)
      if (reply === 'list') return assert.ok(Array.isArray(document))
      const members = reply === 'page' ? 'total records' : reply
      for (const member of members.split(' ')) assert.ok(member in document, `has ${member}`)
    })
  }

  await t.test('every request of clients of the existing rebuilderd is among them', () => {
    const known = endpoints.filter(({ path, upstream }) => upstream && path.startsWith(v1))
    const tested = new Set(routes.map(({ route }) => route))

    for (const { method, path } of known)
      if (path !== `${v1}/backup`) assert.ok(tested.has(`${method} ${path}`), `${method} ${path}`)
  })
})

/** What our server knows beyond upstream's: look-ups, exports and the description of it all. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { endpoints } from '../../src/wire/index.ts'
import { lookupPackages } from '../../src/wire/gates.ts'
import { aPackage, anArtifact, importPackages, startServer } from '../help/server.ts'
import { rebuilt } from './asking.ts'
import { ask, decoded, documentOf } from './raw.ts'

test('look-ups answer in the order asked, null for what is not known', async (t) => {
  const { call } = await startServer(t)
  await importPackages(call, [aPackage({ name: 'one' })])
  await rebuilt(call)
  await importPackages(call, [aPackage({ name: 'one' }), aPackage({ name: 'two' })])
  const wanted = ['two', 'none', 'one'].map((name) => ({
    distribution: 'debian',
    name,
    version: '1.0-1',
    architecture: 'amd64',
  }))

  const { records } = await call(lookupPackages, { body: { packages: wanted } })

  assert.deepEqual(
    records.map((record) => record?.status ?? null),
    ['UNKWN', null, 'GOOD'],
  )
})

test('a long look-up is one document, the keys first, in each coding', async (t) => {
  const { call, address } = await startServer(t)
  await importPackages(call, [aPackage({ name: 'one' })])
  const wanted = Array.from({ length: 777 }, (_, index) => ({
    distribution: 'debian',
    name: index % 100 === 0 ? 'one' : 'none',
    version: '1.0-1',
    architecture: 'amd64',
  }))
  const body = JSON.stringify({ packages: wanted, with: ['keys'] })
  for (const coding of [undefined, 'zstd', 'gzip', 'br', 'deflate']) {
    const headers = { 'content-type': 'application/json', ...(coding && { 'accept-encoding': coding }) }

    const reply = await ask(address, 'POST', '/api/v1/packages/lookup', { headers, body })

    assert.equal(reply.headers['content-encoding'], coding)
    assert.match(reply.headers['content-type'] ?? '', /^application\/json/)
    const text = decoded(reply).toString()
    assert.ok(text.startsWith('{"public_keys":{"current":["-----BEGIN'), text.slice(0, 50))
    const { records } = JSON.parse(text) as { records: ({ status: string } | null)[] }
    assert.deepEqual(
      records.map((record) => record?.status ?? null),
      wanted.map(({ name }) => (name === 'one' ? 'UNKWN' : null)),
    )
  }
})

test('more than 10,000 packages at once are refused', async (t) => {
  const { address } = await startServer(t)
  const wanted = { distribution: 'd', name: 'n', version: '1', architecture: 'a' }
  const body = JSON.stringify({ packages: Array.from({ length: 10_001 }, () => wanted) })

  const reply = await ask(address, 'POST', '/api/v1/packages/lookup', {
    headers: { 'content-type': 'application/json' },
    body,
  })

  assert.equal(reply.status, 400)
})

test('an export has each listed package once, the same in both formats and every time', async (t) => {
  const { call, address } = await startServer(t)
  for (const release of ['sid', 'trixie'])
    await importPackages(
      call,
      ['b', 'a'].map((name) => aPackage({ name })),
      { release },
    )
  await rebuilt(call)
  const get = (query: string) => ask(address, 'GET', `/api/v1/export/debian${query}`)

  const records = documentOf<{ name: string; releases: string[] }[]>(await get(''))
  const lines = (await get('?format=ndjson')).text
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line) as unknown)

  assert.deepEqual(
    records.map(({ name, releases }) => [name, releases.toSorted()]),
    [
      ['a', ['sid', 'trixie']],
      ['b', ['sid', 'trixie']],
    ],
  )
  assert.deepEqual(lines, records)
  assert.equal((await get('')).text, (await get('')).text)
})

test('web pages made for 0.26 find components and their architectures', async (t) => {
  const { call, address } = await startServer(t)
  const artifacts = [anArtifact(), anArtifact({ name: 'hello-doc', component: null })]
  await importPackages(call, [aPackage({ artifacts })])
  const meta = async (path: string): Promise<unknown> =>
    documentOf(await ask(address, 'GET', `/api/v1/meta/distributions/debian${path}`))

  for (const path of ['/components', '/releases/sid/components', '/sid/components'])
    assert.deepEqual(await meta(path), [null, 'main'], path)
  assert.deepEqual(await meta('/components?seen_only=false'), [])
  assert.deepEqual(await meta('/sid/architectures'), ['amd64'])
  assert.deepEqual(await meta('/releases/sid/components/-/architectures'), ['amd64'])
  assert.deepEqual(await meta('/releases/sid/components/contrib/architectures'), [])
})

test('the description names every endpoint with its method', async (t) => {
  const { address } = await startServer(t)

  const { openapi, paths } = documentOf<{ openapi: string; paths: Record<string, Record<string, unknown>> }>(
    await ask(address, 'GET', '/api/v1/openapi.json'),
  )

  assert.match(openapi, /^3\.1/)
  for (const { method, path } of endpoints)
    assert.ok(paths[path]?.[method.toLowerCase()], `${method} ${path}`)
})

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { endpoints } from '../../src/wire/index.ts'
import { getDashboard, getPublicKeys } from '../../src/wire/meta.ts'
import { openApi } from '../../src/wire/openapi.ts'
import { watchReplies } from '../help/described.ts'

test('the description has every endpoint, once', () => {
  const { paths } = openApi(endpoints, '1.0.0') as { paths: Record<string, Record<string, unknown>> }
  const described = Object.entries(paths).flatMap(([path, methods]) =>
    Object.keys(methods).map((method) => `${method.toUpperCase()} ${path}`),
  )

  assert.deepEqual(described.sort(), endpoints.map((row) => `${row.method} ${row.path}`).sort())
})

test('a reply with another member type is noticed', () => {
  const { observe, problems } = watchReplies()

  observe(getPublicKeys, 200, '{"current":["PEM"]}')
  observe(getPublicKeys, 200, '{"current":"PEM"}')

  assert.equal(problems.length, 1)
  assert.match(problems[0] ?? '', /current must be array/)
})

test('a reply without a member that clients need is noticed', () => {
  const { observe, problems } = watchReplies()

  observe(getDashboard, 200, '{"rebuilds":{"good":1,"bad":0,"fail":0,"unknown":0}}')

  assert.match(problems[0] ?? '', /must have required property 'jobs'/)
})

test('a reply with a status that is not described is noticed', () => {
  const { observe, problems } = watchReplies()

  for (const status of [200, 304, 406, 408, 503, 404]) observe(getDashboard, status)

  assert.deepEqual(problems, ['GET /api/v1/dashboard: the status 404'])
})

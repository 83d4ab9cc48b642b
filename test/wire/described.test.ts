/** What the description of the API says of requests and errors. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { endpoints } from '../../src/wire/index.ts'
import { openApi } from '../../src/wire/openapi.ts'

type Operation = {
  parameters: { name: string; schema: object }[]
  requestBody?: { content: Record<string, { schema: { properties: Record<string, unknown> } }> }
  responses: Record<string, { content?: Record<string, unknown>; headers?: Record<string, unknown> }>
}
const { paths } = openApi(endpoints, '1.0.0') as { paths: Record<string, Record<string, Operation>> }
const operation = (method: string, path: string): Operation => {
  const found = paths[path]?.[method]
  assert.ok(found, `${method} ${path}`)
  return found
}

test('bytes in a report are an array of integers, and dates have no zone', () => {
  const { requestBody } = operation('post', '/api/v1/builds')

  const { build_log: log, built_at: built } =
    requestBody?.content['application/json']?.schema.properties ?? {}
  assert.deepEqual(log, { type: 'array', items: { type: 'integer', minimum: 0, maximum: 255 } })
  assert.match(JSON.stringify(built), /"pattern":"\^.*\$"/)
})

test('limits, cursors and ids are integers, and negative limits are allowed', () => {
  const { parameters } = operation('get', '/api/v1/packages/binary')
  const [id] = operation('get', '/api/v1/builds/{id}').parameters

  for (const name of ['limit', 'before', 'after'])
    assert.deepEqual(parameters.find((each) => each.name === name)?.schema, {
      type: 'integer',
      minimum: -2147483648,
      maximum: 2147483647,
    })
  assert.deepEqual(id?.schema, { type: 'integer', minimum: 1, maximum: 2147483647 })
})

test('errors are plain text, who may not gets 403 and never 401, and writes of v0 get 501', () => {
  for (const methods of Object.values(paths))
    for (const { responses } of Object.values(methods)) {
      assert.equal('401' in responses, false)
      assert.deepEqual(Object.keys(responses['400']?.content ?? {}), ['text/plain; charset=utf-8'])
    }
  assert.ok('403' in operation('post', '/api/v1/queue').responses)
  const gone = Object.keys(operation('post', '/api/v0/pkgs/sync').responses)
  assert.deepEqual(gone, ['400', '408', '413', '501', '503'])
})

test('busy, slow, unchanged and unreadable are told of where they occur, and when to try again', () => {
  const statuses = (method: string, path: string): string =>
    Object.keys(operation(method, path).responses).join()

  assert.equal(statuses('get', '/api/v1/packages/binary'), '200,304,400,406,408,503')
  assert.equal(statuses('post', '/api/v1/builds'), '204,400,403,404,408,413,429,503')
  assert.equal(statuses('post', '/api/v1/packages'), '204,400,403,408,409,413,429,503')
  assert.equal(statuses('get', '/api/v1/events'), '200,400,408,429,503')
  assert.equal(statuses('get', '/api/v1/builds/{id}/log'), '200,206,304,400,404,406,408,413,416,429,503')
  for (const status of ['429', '503'])
    assert.ok('Retry-After' in (operation('post', '/api/v1/queue/pop').responses[status]?.headers ?? {}))
})

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { Hono } from 'hono'
import { keeper } from '../../src/server/kept.ts'
import { describe, type Revision } from '../../src/server/revision.ts'

const revision = (tag: string, second: number): Revision => ({
  tag,
  modified: new Date(second * 1000),
  isSettled: true,
})

test('a list that is given out again although the data moved on keeps its own tag and date', async (t) => {
  let moment = 0
  t.mock.method(performance, 'now', () => moment)
  const app = new Hono()
  const keep = keeper(1)
  let [current, made] = [revision('"1"', 1), 0]
  app.get('/', async (c) => {
    const reply = await keep(c, 'all', current, 'text/plain', async function* () {
      moment += 200 // so long that making it for each change would be too much
      yield String(++made)
    })
    describe(reply, current)
    return reply
  })
  const asked = async () => {
    const reply = await app.request('/')
    return [await reply.text(), reply.headers.get('etag'), reply.headers.get('last-modified')]
  }

  const first = await asked()
  current = revision('"2"', 2)
  moment += 1999
  const again = await asked()
  moment += 1
  const later = await asked()

  assert.deepEqual(first, ['1', '"1"', 'Thu, 01 Jan 1970 00:00:01 GMT'])
  assert.deepEqual(again, first)
  assert.deepEqual(later, ['2', '"2"', 'Thu, 01 Jan 1970 00:00:02 GMT'])
})

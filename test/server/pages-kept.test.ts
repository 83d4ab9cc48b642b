/** Which pages are kept, and under what. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { Hono } from 'hono'
import { addressOf, pageKeeper } from '../../src/server/pages-kept.ts'

/** Pages that know the parameter q; how often each address was made. */
function somePages(most: number) {
  const keep = pageKeeper(most)
  const made: string[] = []
  const app = new Hono()
  app.get('*', (c) => {
    const address = addressOf(c, ['q'])
    return keep(c, address, 'revision-1', async () => {
      made.push(address)
      return { text: address, type: 'text/html' }
    })
  })
  const get = async (path: string): Promise<string> => (await app.request(path)).text()
  return { get, made }
}

test('parameters that a page does not know, their order and blanks make no copies of it', async () => {
  const { get, made } = somePages(10)

  for (const path of ['/a?q=x', '/a?q=x&bust=1', '/a?bust=2&q=x', '/a?q=+x+', '/a?q=x&q=y', '/%61?q=x'])
    assert.equal(await get(path), '/a?q=x', path)
  await get('/a')
  await get('/a?bust=3')
  await get('/a?q=')

  assert.deepEqual(made, ['/a?q=x', '/a?'])
})

test('where there is no more room, the page goes that nobody has asked for longest', async () => {
  const { get, made } = somePages(2)

  for (const path of ['/home', '/once', '/home', '/twice', '/home']) await get(path)

  assert.deepEqual(made, ['/home?', '/once?', '/twice?'])
})

test('a page that is never the same is made once for all who ask at the same moment', async () => {
  const keep = pageKeeper(10)
  const gate = Promise.withResolvers<void>()
  const begun = Promise.withResolvers<void>()
  let made = 0
  const app = new Hono()
  app.get('*', (c) =>
    keep(c, '/job', null, async () => {
      const number = ++made
      begun.resolve()
      await gate.promise
      return { text: `page ${number}`, type: 'text/html' }
    }),
  )
  const textsOf = (count: number): Promise<string[]> =>
    Promise.all(Array.from({ length: count }, async () => (await app.request('/job')).text()))

  const first = textsOf(30)
  await begun.promise
  const later = textsOf(30)
  gate.resolve()

  assert.deepEqual([...new Set(await first)], ['page 1'])
  assert.deepEqual([...new Set(await later)], ['page 2'])
})

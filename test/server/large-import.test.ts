/** Reports of whole releases are taken in a thread of their own; nobody can tell but by the time. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { ServerSaid } from '../../src/client.ts'
import { getDashboard } from '../../src/wire/meta.ts'
import { listBinaryPackages, submitPackages } from '../../src/wire/packages.ts'
import { aPackage, aReport, startServer } from '../help/server.ts'

/** Well over the size from which on another thread takes a report. */
const many = Array.from({ length: 3000 }, (_, index) => aPackage({ name: `pkg-${index}` }))
const large = aReport(many)

async function refused(work: Promise<unknown>): Promise<ServerSaid> {
  const error: unknown = await work.then(
    () => null,
    (reason: unknown) => reason,
  )
  assert.ok(error instanceof ServerSaid)
  return error
}

test('a large report is imported whole, and others are answered meanwhile', async (t) => {
  const { call } = await startServer(t)
  const done = new AbortController()
  const importing = call(submitPackages, { body: large }).finally(() => done.abort())
  let answers = 0
  while (!done.signal.aborted) {
    await call(getDashboard)
    answers += 1
  }
  await importing

  assert.equal((await call(listBinaryPackages, { query: { limit: 1 } })).total, many.length)
  assert.ok(answers > 3, `${answers} answers`)
})

test('a large report that lists far fewer packages than the last one is refused in words', async (t) => {
  const { call } = await startServer(t)
  await call(submitPackages, { body: large })
  const padding = 'x'.repeat(700)
  const shrunken = many.slice(0, 700).map((item) => ({ ...item, maintainer: padding }))

  const { status, message } = await refused(call(submitPackages, { body: aReport(shrunken) }))

  assert.equal(status, 409)
  assert.match(message, /lists 700 packages where the last one listed 3000/)
  assert.equal((await call(listBinaryPackages, { query: { limit: 1 } })).total, many.length)
})

test('what is wrong with a large report is named', async (t) => {
  const { address, cookie } = await startServer(t)
  const spoilt = { ...large, packages: [...large.packages, { name: 'last' }] }
  const headers = { 'x-auth-cookie': cookie, 'content-type': 'application/json' }

  const reply = await fetch(`${address}/api/v1/packages`, {
    method: 'POST',
    headers,
    body: JSON.stringify(spoilt),
  })

  assert.equal(reply.status, 400)
  assert.match(await reply.text(), /packages\.3000\.version/)
})

import assert from 'node:assert/strict'
import { readFile, writeFile } from 'node:fs/promises'
import { connect, createServer } from 'node:net'
import { join } from 'node:path'
import { test } from 'node:test'
import { sql } from '../../src/server/store/database.ts'
import { openSqlite } from '../../src/server/store/sqlite.ts'
import { aPackage, importPackages, startServer, temporaryFolder } from '../help/server.ts'
import { until } from '../help/until.ts'

test(
  'a data folder that cannot be made is told in words, also below /proc',
  { timeout: 300_000 },
  async (t) => {
    await assert.rejects(startServer(t, { data: '/proc/nope/deeper' }), /cannot write to the data folder/)
  },
)

test('a second server on the same data folder is refused', async (t) => {
  const first = await startServer(t)

  await assert.rejects(startServer(t, { data: first.data }), /in use by another server/)
})

test('a folder is free again when its server has stopped', async (t) => {
  const first = await startServer(t)
  await first.stop()

  const second = await startServer(t, { data: first.data })

  assert.equal(second.cookie, first.cookie)
  assert.equal(second.publicKey, first.publicKey)
})

test('the names of all packages are read before anybody searches', async (t) => {
  const { statements } = await startServer(t)
  const readsNames = /FROM (binary|source)_packages WHERE name > [^]* ORDER BY name LIMIT/

  await until(
    async () => (await statements()).filter((text) => readsNames.test(text)).length === 2,
    'the names of both kinds are read',
  )
})

test('a port in use is told in words, and the folder is given back', async (t) => {
  const data = await temporaryFolder(t)
  const other = createServer()
  await new Promise<void>((resolve) => other.listen(0, '127.0.0.1', resolve))
  t.after(() => other.close())
  const address = other.address()
  const port = typeof address === 'object' && address !== null ? address.port : 0

  await assert.rejects(
    startServer(t, { data, settings: { 'http.bind_addr': `127.0.0.1:${port}` } }),
    /another program listens there/,
  )
  await startServer(t, { data })
})

test('a damaged database is told in words, and not a byte of it is changed', async (t) => {
  const data = await temporaryFolder(t)
  const file = join(data, 'rebuilderd.db')
  await writeFile(file, 'this is no database, but somebody may want it back'.repeat(200))
  const before = await readFile(file, 'utf8')

  await assert.rejects(startServer(t, { data }), /cannot open the database.*not a database/)
  assert.equal(await readFile(file, 'utf8'), before)
})

test('a database that is damaged inside is told in words, not as a fault of the program', async (t) => {
  const data = await temporaryFolder(t)
  const first = await startServer(t, { data })
  await importPackages(first.call, [aPackage({ name: 'one' })])
  await first.stop()
  const file = join(data, 'rebuilderd.db')
  const db = await openSqlite(file)
  const [root] = await db.all<{ page: number }>(
    sql`SELECT rootpage AS page FROM sqlite_schema WHERE name = 'binary_packages'`,
  )
  await db.close()
  const bytes = await readFile(file)
  bytes.fill(0x55, ((root?.page ?? 0) - 1) * 4096, (root?.page ?? 0) * 4096)
  await writeFile(file, bytes)

  const { address } = await startServer(t, { data })
  const reply = await fetch(`${address}/api/v1/packages/binary`)

  assert.equal(reply.status, 503)
  assert.match(await reply.text(), /^the database is damaged: .*ctl db check/)
})

test('a load balancer that probes by HTTP/1.0, without a Host, is answered', async (t) => {
  const { address } = await startServer(t)
  const probe = connect(Number(new URL(address).port), '127.0.0.1')
  probe.write('GET /api/v1/dashboard HTTP/1.0\r\n\r\n')

  assert.match(Buffer.concat(await probe.toArray()).toString(), /^HTTP\/1\.1 200 /)
})

test('an address to listen on that is none is told in words', async (t) => {
  await assert.rejects(
    startServer(t, { settings: { 'http.bind_addr': 'everywhere' } }),
    /everywhere is no address to listen on/,
  )
})

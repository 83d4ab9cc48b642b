import assert from 'node:assert/strict'
import { readFile, writeFile } from 'node:fs/promises'
import { createServer } from 'node:net'
import { join } from 'node:path'
import { test } from 'node:test'
import { startServer, temporaryFolder } from '../help/server.ts'

test(
  'a data folder that cannot be made is told in words, also below /proc',
  { timeout: 20_000 },
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

test('an address to listen on that is none is told in words', async (t) => {
  await assert.rejects(
    startServer(t, { settings: { 'http.bind_addr': 'everywhere' } }),
    /everywhere is no address to listen on/,
  )
})

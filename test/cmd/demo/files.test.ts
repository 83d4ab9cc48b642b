import assert from 'node:assert/strict'
import { mkdir, symlink, writeFile } from 'node:fs/promises'
import { request } from 'node:http'
import { join } from 'node:path'
import { test, type TestContext } from 'node:test'
import { serveFolder } from '../../../src/cmd/demo/files.ts'
import { aFolder } from '../../help/files.ts'

async function aMirror(t: TestContext): Promise<{ address: string; folder: string }> {
  const folder = join(await aFolder(t), 'mirror')
  await mkdir(join(folder, 'pool'), { recursive: true })
  await writeFile(join(folder, 'pool/a+b~1.deb'), 'bytes')
  await writeFile(join(folder, '../secret'), 'secret')
  const server = await serveFolder(folder)
  t.after(() => server.close())
  return { address: server.address, folder }
}

/** As it is typed: fetch() would tidy the path. */
async function statusOf(address: string, path: string): Promise<number | undefined> {
  return new Promise((resolve, reject) => {
    const sent = request(`${address}/`, { path }, (reply) => {
      reply.resume()
      resolve(reply.statusCode)
    })
    sent.on('error', reject)
    sent.end()
  })
}

test('files are served by their path, escaped or not', async (t) => {
  const { address } = await aMirror(t)

  const plain = await fetch(`${address}/pool/a+b~1.deb`)
  const escaped = await fetch(`${address}/pool/a%2bb%7e1.deb`)

  assert.equal(await plain.text(), 'bytes')
  assert.equal(await escaped.text(), 'bytes')
  assert.equal(plain.headers.get('content-length'), '5')
})

for (const path of [
  '/',
  '/pool',
  '/pool/',
  '/none',
  '/../secret',
  '/%2e%2e/secret',
  '/pool/..%2f..%2fsecret',
  '/%00',
  '/%',
  '//',
]) {
  test(`${path} is not there`, async (t) => {
    const { address } = await aMirror(t)

    assert.equal(await statusOf(address, path), 404)
  })
}

test('a link inside the archive is followed', async (t) => {
  const { address, folder } = await aMirror(t)
  await symlink('a+b~1.deb', join(folder, 'pool/link.deb'))

  const reply = await fetch(`${address}/pool/link.deb`)

  assert.equal(await reply.text(), 'bytes')
})

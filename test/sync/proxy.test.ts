import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { join } from 'node:path'
import { test } from 'node:test'
import { promisify } from 'node:util'
import { aFolder, put, serveFolder } from '../help/archives.ts'
import { patienceMilliseconds } from '../help/until.ts'

test('downloads go through the proxy of the environment, except where NO_PROXY says not to', async (t) => {
  const folder = await aFolder(t)
  await put(join(folder, 'index'), 'by way of nothing')
  const direct = await serveFolder(t, folder)
  const proxy = await serveFolder(t, folder)
  proxy.intercept = (request, response) => {
    response.end(`by way of the proxy: ${request.url}`)
    return true
  }
  const source = join(import.meta.dirname, '../../src')
  const program = `
    import { silentLog } from '${source}/log.ts'
    import { bytesOf, downloadFolder, openMirror } from '${source}/sync/mirror.ts'
    for (const address of process.argv.slice(1)) {
      await using folder = await downloadFolder(null)
      const mirror = openMirror({ addresses: [address], folder, log: silentLog, signal: AbortSignal.timeout(${patienceMilliseconds}) })
      console.log(String(await bytesOf(await mirror.file('index', { limit: 1000 }), 1000)))
    }`
  const env = { PATH: process.env['PATH'], HTTP_PROXY: proxy.url, NO_PROXY: '127.0.0.1' }

  const args = ['--input-type=module', '--eval', program, 'http://mirror.example/debian', direct.url]
  const { stdout } = await promisify(execFile)(process.execPath, args, { env, timeout: patienceMilliseconds })

  assert.equal(stdout, 'by way of the proxy: http://mirror.example/debian/index\nby way of nothing\n')
})

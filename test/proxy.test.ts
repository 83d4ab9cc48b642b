import assert from 'node:assert/strict'
import { test } from 'node:test'
import { wantedSeverity } from '../src/log.ts'
import { proxiesOf } from '../src/proxy.ts'
import { serveFolder, aFolder } from './help/archives.ts'
import { runProgram, tempFolder } from './cmd/program.ts'

test('ALL_PROXY is for what the others leave open, and this machine is never asked through a proxy', () => {
  const proxies = proxiesOf({
    ALL_PROXY: 'http://all',
    https_proxy: 'http://secure',
    NO_PROXY: 'near.example',
  })

  assert.deepEqual(proxies, {
    http_proxy: 'http://all',
    https_proxy: 'http://secure',
    no_proxy: 'near.example,localhost,127.0.0.1,[::1],::1',
  })
  assert.equal(proxiesOf({ HTTP_PROXY: '', NO_PROXY: '*' }), undefined)
})

test('ctl asks a server through the proxy of the environment', async (t) => {
  const home = await tempFolder(t)
  const proxy = await serveFolder(t, await aFolder(t))
  const asked: (string | undefined)[] = []
  proxy.intercept = (request, response) => {
    asked.push(request.url)
    response.setHeader('content-type', 'application/json').end('{"total":0,"records":[]}')
    return true
  }
  const environment = { HTTP_PROXY: proxy.url, NO_PROXY: '' }

  const { code, stderr } = await runProgram(['ctl', 'workers', 'ls', '-H', 'http://far.example/amd64'], {
    home,
    environment,
  })

  assert.equal(code, 0, stderr)
  assert.match(asked[0] ?? '', /^http:\/\/far\.example\/amd64\/api\/v1\/workers/)
})

for (const [filter, severity] of [
  ['debug', 'debug'],
  ['warn', 'warning'],
  ['off', 'error'],
  ['warn,rebuilderd=trace', 'debug'],
  ['hyper=debug', null],
  ['', null],
  [undefined, null],
] as const) {
  test(`RUST_LOG ${filter ?? 'absent'} → ${severity ?? 'as the options say'}`, () => {
    assert.equal(wantedSeverity(filter), severity)
  })
}

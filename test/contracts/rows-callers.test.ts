/** Who may do what, by which secret, and where programs have their secrets from: one test for each row. */
import assert from 'node:assert/strict'
import { mkdir, readFile, stat, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { test } from 'node:test'
import { chooseServer, findCookie } from '../../src/cmd/credentials.ts'
import { wantsColours } from '../../src/cmd/run.ts'
import { loadSettings, serverSettings } from '../../src/config.ts'
import { openCookie } from '../../src/server/secrets.ts'
import { aReport, signupSecret, startServer } from '../help/server.ts'
import { runHere, tempFolder } from '../cmd/program.ts'
import { ask } from './raw.ts'
import { json, testRows, told } from './rows.ts'

const v1 = '/api/v1'
const registration = (key: string, more: Record<string, string> = {}) => ({ 'x-worker-key': key, ...more })
const secret = { 'x-signup-secret': signupSecret }

testRows('headers', {
  'X-Auth-Cookie: the secret of administrators, byte for byte': async ({ sent, cookie }) => {
    const drop = (given: string) =>
      sent('DELETE', `${v1}/queue/4711`, { headers: { 'x-auth-cookie': given } })
    told(await drop(cookie), 404)
    for (const given of [
      '',
      cookie.slice(1),
      `${cookie}a`,
      cookie.toLowerCase() === cookie ? cookie.toUpperCase() : cookie.toLowerCase(),
    ])
      told(await drop(given), 403, '')
  },
  'X-Worker-Key: any text, the empty one too; the base64 of 32 bytes as the existing worker sends it':
    async ({ post, sent }) => {
      for (const key of ['', 'a b', 'RWVlZWVlZWVlZWVlZWVlZWVlZWVlZWVlZWVlZWVlZWU=']) {
        told(await post(`${v1}/workers`, { name: 'w' }, registration(key, secret)), 204, '')
        told(await sent('POST', `${v1}/queue/4711/ping`, { headers: { 'x-worker-key': key } }), 404)
      }
    },
  'X-Signup-Secret: for registration, and not looked at elsewhere': async ({ post, sent, asWorker }) => {
    told(await post(`${v1}/workers`, { name: 'w' }, registration('k')), 403)
    told(
      await sent('POST', `${v1}/queue/4711/ping`, { headers: { ...asWorker, 'x-signup-secret': 'wrong' } }),
      404,
    )
  },
  'a value that is not visible ASCII: counts as missing': async ({ post }) =>
    told(await post(`${v1}/workers`, { name: 'w' }, registration('k\xe9y', secret)), 403),
})

testRows('levels', {
  'admin: the cookie, and no key of a worker': async ({ post, asAdmin, asWorker }) => {
    told(await post(`${v1}/packages`, aReport([], { distribution: 'none' }), asAdmin), 204)
    told(await post(`${v1}/packages`, aReport([], { distribution: 'none' }), asWorker), 403)
  },
  'worker: a key that is registered, which is then online': async ({ sent, asWorker, list }) => {
    told(await sent('POST', `${v1}/queue/4711/ping`, { headers: asWorker }), 404)
    told(await sent('POST', `${v1}/queue/4711/ping`, { headers: { 'x-worker-key': 'unknown' } }), 403)
    assert.ok(
      (await list(`${v1}/workers`)).records.some(
        ({ name, is_online }) => name === 'builder' && is_online === true,
      ),
    )
  },
  'signup: a key, and the secret': async ({ post }) => {
    told(await post(`${v1}/workers`, { name: 'w' }, registration('k', secret)), 204)
    told(await post(`${v1}/workers`, { name: 'w' }, registration('k', { 'x-signup-secret': 'wrong' })), 403)
    told(await post(`${v1}/workers`, { name: 'w' }, secret), 403)
  },
  'the cookie does not help for registration, pop, ping and report': async ({ post, asAdmin }) => {
    for (const [path, body] of [
      ['/workers', { name: 'w' }],
      ['/queue/pop', { supported_backends: [], architecture: 'x', supported_architectures: [] }],
      ['/queue/4711/ping', ''],
      ['/builds', {}],
    ] as const)
      told(await post(v1 + path, body, asAdmin), 403, '')
  },
  'proof of possession: ours prove that they hold their key, others need not': async ({
    get,
    asWorker,
    post,
  }) => {
    told(await get(`${v1}/workers/challenge`, { ...asWorker, ...secret }), 200, /"nonce"/)
    told(await post(`${v1}/workers`, { name: 'builder' }, { ...asWorker, ...secret }), 204)
  },
  'workers are listed for anyone, without any header': async ({ list }) =>
    assert.equal((await list(`${v1}/workers`)).total > 1, true),
})

const register = async (address: string, headers: Record<string, string>): Promise<number> =>
  (await ask(address, 'POST', `${v1}/workers`, { headers: { ...json, ...headers }, body: '{"name":"w"}' }))
    .status

for (const [row, settings, allowed] of [
  ['neither list nor secret: nobody may register (ours)', {}, []],
  ['a secret: who knows it', { 'worker.signup_secret': 's' }, ['other with secret', 'listed with secret']],
  ['a list: who is on it', { 'worker.authorized_workers': ['listed'] }, ['listed', 'listed with secret']],
  [
    'both: both must be right',
    { 'worker.signup_secret': 's', 'worker.authorized_workers': ['listed'] },
    ['listed with secret'],
  ],
] as const) {
  test(`registration, ${row}`, async (t) => {
    const { address, isClosed } = await startServer(t, {
      settings: { 'worker.signup_secret': null, ...settings },
    })
    const let_in: string[] = []
    for (const key of ['other', 'listed'])
      for (const sent of [{}, { 'x-signup-secret': 's' }])
        if ((await register(address, registration(key, sent))) === 204)
          let_in.push('x-signup-secret' in sent ? `${key} with secret` : key)

    assert.deepEqual(let_in.sort(), allowed.toSorted())
    assert.equal(isClosed, allowed.length === 0)
  })
}

test('the cookie of the server: of its configuration, else of its file, else 32 random letters and digits', async (t) => {
  const file = join(await tempFolder(t), 'deep', 'auth-cookie')

  const made = await openCookie(null, file)
  const kept = await openCookie(null, file)
  const told = await openCookie('configured', file)

  assert.match(made, /^[A-Za-z0-9]{32}$/)
  assert.equal(kept, made)
  assert.equal(told, 'configured')
  assert.equal(await readFile(file, 'utf8'), 'configured\n')
  assert.equal((await stat(file)).mode & 0o777, 0o600)
})

test('what ctl merges: system, user and -c, key by key; the last slash of an endpoint is dropped, its path kept', async (t) => {
  const home = await tempFolder(t)
  const folders = {
    HOME: '/nowhere',
    XDG_CONFIG_HOME: join(home, 'config'),
    XDG_DATA_HOME: join(home, 'data'),
  }
  await mkdir(folders.XDG_CONFIG_HOME)
  await mkdir(folders.XDG_DATA_HOME)
  await writeFile(
    join(folders.XDG_CONFIG_HOME, 'rebuilderd.conf'),
    '[http]\nendpoint = "https://a.example/amd64/"\n',
  )
  await writeFile(join(folders.XDG_DATA_HOME, 'rebuilderd-auth-cookie'), 'local\n')

  const nothing = { endpoint: undefined, config: undefined, cookieFile: undefined }
  const configured = await chooseServer(nothing, folders)
  const given = await chooseServer({ endpoint: 'http://127.0.0.1:8484', config: undefined }, folders)
  const plain = await chooseServer(nothing, { ...folders, XDG_CONFIG_HOME: home })

  assert.equal(configured.endpoint.replace(/\/$/, ''), 'https://a.example/amd64')
  assert.equal(given.endpoint, 'http://127.0.0.1:8484')
  assert.equal(await findCookie(plain.endpoint, plain.files, nothing, folders), 'local')
})

test('HTTP_ADDR and REBUILDERD_SIGNUP_SECRET are read from the environment, over the file', async (t) => {
  const file = join(await tempFolder(t), 'server.conf')
  await writeFile(file, '[http]\nbind_addr = "127.0.0.1:1"\n')

  const settings = await loadSettings(serverSettings, [file], {
    HTTP_ADDR: '127.0.0.1:2',
    REBUILDERD_SIGNUP_SECRET: 's',
  })

  assert.deepEqual([settings['http.bind_addr'], settings['worker.signup_secret']], ['127.0.0.1:2', 's'])
})

test('REBUILDERD_WORKER_CONFIG and REBUILDERD_WORKER_BACKEND are read by the worker; --backend goes before', async (t) => {
  const home = await tempFolder(t)
  for (const script of ['one.sh', 'two.sh'])
    await writeFile(join(home, script), '#!/bin/sh\n', { mode: 0o755 })
  await writeFile(join(home, 'worker.conf'), 'endpoint = "https://a.example"\n')
  const environment = {
    REBUILDERD_WORKER_CONFIG: 'worker.conf',
    REBUILDERD_WORKER_BACKEND: `mine=${home}/one.sh`,
  }

  const inherited = await runHere(['worker', 'check-config'], { home, environment })
  const given = await runHere(['worker', 'check-config', '--backend', `mine=${home}/two.sh`], {
    home,
    environment,
  })

  assert.equal(inherited.code, 0, inherited.stderr)
  const shown = JSON.parse(inherited.stdout) as {
    endpoint: string
    backend: Record<string, { path: string }>
  }
  assert.deepEqual([shown.endpoint, shown.backend['mine']?.path], ['https://a.example', `${home}/one.sh`])
  assert.match(given.stdout, /two\.sh/)
  assert.doesNotMatch(given.stdout, /one\.sh/)
})

for (const [environment, isTerminal, expected] of [
  [{}, true, true],
  [{}, false, false],
  [{ CLICOLOR: '0' }, true, false],
  [{ CLICOLOR_FORCE: '1' }, false, true],
  [{ CLICOLOR_FORCE: '0' }, false, false],
  [{ NO_COLOR: '1', CLICOLOR_FORCE: '1' }, true, false],
] as const) {
  test(`${JSON.stringify(environment)} ${isTerminal ? 'on a terminal' : 'in a pipe'}: ${expected ? 'colours' : 'none'}`, () => {
    assert.equal(wantsColours(environment, isTerminal), expected)
  })
}

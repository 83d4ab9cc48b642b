import assert from 'node:assert/strict'
import { existsSync } from 'node:fs'
import { mkdir, writeFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { test, type TestContext } from 'node:test'
import { chooseServer, findCookie, sameServer } from '../../src/cmd/credentials.ts'
import { runHere, startStandIn, tempFolder } from './program.ts'

type Case = {
  title: string
  files?: Record<string, string>
  endpoint?: string
  config?: string
  cookieFile?: string
  environment?: Record<string, string>
  server: string
  cookie: string | null
}

const local = 'http://127.0.0.1:8484'
const remote = 'https://rebuilder.example/amd64'
const user = '.config/rebuilderd.conf'
const machine = '.local/share/rebuilderd-auth-cookie'
const state = '.local/state/rebuilderd/auth-cookie'

const configured = ['/etc/rebuilderd.conf', '/var/lib/rebuilderd/auth-cookie'].find((path) =>
  existsSync(path),
)
const skip = configured === undefined ? false : `this machine has its own ${configured}`

const cases: readonly Case[] = [
  { title: 'nothing is configured', server: local, cookie: null },
  { title: 'the local server left its cookie', files: { [machine]: 'abc\n' }, server: local, cookie: 'abc' },
  {
    title: 'the local server keeps its state in the home folder',
    files: { [state]: 'abc' },
    server: local,
    cookie: 'abc',
  },
  {
    title: 'the local cookie is not for others',
    files: { [machine]: 'abc' },
    endpoint: remote,
    server: remote,
    cookie: null,
  },
  {
    title: 'the local cookie is not for another port either, where somebody else may listen',
    files: { [machine]: 'abc' },
    endpoint: 'http://127.0.0.1:9999',
    server: 'http://127.0.0.1:9999',
    cookie: null,
  },
  {
    title: 'the configuration names server and cookie',
    files: { [user]: `[http]\nendpoint = "${remote}"\n[auth]\ncookie = "r"\n`, [machine]: 'abc' },
    server: remote,
    cookie: 'r',
  },
  {
    title: 'the local cookie is not for the server of the configuration',
    files: { [user]: `[http]\nendpoint = "${remote}"\n`, [machine]: 'abc' },
    server: remote,
    cookie: null,
  },
  {
    title: 'the cookie of the configuration is not for another server',
    files: { [user]: `[auth]\ncookie = "r"\n` },
    endpoint: remote,
    server: remote,
    cookie: null,
  },
  {
    title: 'each server has its own cookie',
    files: { [user]: `[auth]\ncookie = "r"\n[endpoints."${remote}/"]\ncookie = "other"\n` },
    endpoint: remote,
    server: remote,
    cookie: 'other',
  },
  {
    title: 'the file of -c wins, its own cookie too',
    files: {
      [user]: `[auth]\ncookie = "r"\n`,
      'mine.conf': `[http]\nendpoint = "${remote}"\n[auth]\ncookie = "m"\n`,
    },
    config: 'mine.conf',
    server: remote,
    cookie: 'm',
  },
  {
    title: 'a later file can lead back to this machine',
    files: {
      [user]: `[http]\nendpoint = "${remote}"\n[auth]\ncookie = "r"\n`,
      'mine.conf': `[http]\nendpoint = "${local}"\n`,
    },
    config: 'mine.conf',
    server: local,
    cookie: null,
  },
  {
    title: 'tables of servers of several files are joined',
    files: {
      [user]: `[endpoints."${remote}"]\ncookie = "u"\n`,
      'mine.conf': `[endpoints."https://a.example"]\ncookie = "a"\n`,
    },
    config: 'mine.conf',
    endpoint: remote,
    server: remote,
    cookie: 'u',
  },
  {
    title: 'REBUILDERD_COOKIE_PATH is for the configured server',
    files: { [user]: `[http]\nendpoint = "${remote}"\n`, given: 'g' },
    environment: { REBUILDERD_COOKIE_PATH: 'given' },
    server: remote,
    cookie: 'g',
  },
  {
    title: 'REBUILDERD_COOKIE_PATH is for this machine',
    files: { given: 'g' },
    environment: { REBUILDERD_COOKIE_PATH: 'given' },
    endpoint: 'http://[::1]:8181',
    server: 'http://[::1]:8181',
    cookie: 'g',
  },
  {
    title: 'REBUILDERD_COOKIE_PATH is not for any server of -H',
    files: { given: 'g' },
    environment: { REBUILDERD_COOKIE_PATH: 'given' },
    endpoint: 'https://127.0.0.1.example',
    server: 'https://127.0.0.1.example',
    cookie: null,
  },
  {
    title: '--cookie-file is for this server, whichever',
    files: { given: 'g' },
    cookieFile: 'given',
    endpoint: remote,
    server: remote,
    cookie: 'g',
  },
]

/** Paths of a case, and the environment, with the folder of the test before them. */
async function laidOut(t: TestContext, one: Case): Promise<Omit<Case, 'title'>> {
  const home = await tempFolder(t)
  for (const [name, content] of Object.entries(one.files ?? {})) {
    await mkdir(dirname(join(home, name)), { recursive: true })
    await writeFile(join(home, name), content)
  }
  const at = (name: string | undefined): string | undefined =>
    name === undefined ? undefined : join(home, name)
  const path = at(one.environment?.['REBUILDERD_COOKIE_PATH'])
  const found: Omit<Case, 'title'> = {
    ...one,
    environment: { HOME: home, ...(path === undefined ? {} : { REBUILDERD_COOKIE_PATH: path }) },
  }
  const [config, cookieFile] = [at(one.config), at(one.cookieFile)]
  return {
    ...found,
    ...(config === undefined ? {} : { config }),
    ...(cookieFile === undefined ? {} : { cookieFile }),
  }
}

for (const one of cases) {
  test(
    `${one.title}: ${one.cookie === null ? 'no cookie' : `cookie ${one.cookie}`} for ${one.server}`,
    { skip },
    async (t) => {
      const { endpoint, config, cookieFile, environment = {} } = await laidOut(t, one)

      const server = await chooseServer({ endpoint, config }, environment)
      const cookie = await findCookie(server.endpoint, server.files, { endpoint, cookieFile }, environment)

      assert.equal(server.endpoint, one.server)
      assert.equal(cookie, one.cookie)
    },
  )
}

test('without a cookie nothing is sent, and the way to give one is told', async (t) => {
  const home = await tempFolder(t)
  const { url, asked } = await startStandIn(t, () => ({ body: { affected: 1 } }))

  const { code, stderr } = await runHere(['ctl', 'queue', 'push', 'debian', 'main', '-H', url], { home })

  assert.match(stderr, new RegExp(`no cookie is known for ${url}\n {2}--cookie-file FILE`))
  assert.deepEqual([code, asked], [1, []])
})

test('a question that anyone may ask carries no cookie, but for one that administrators are told more about', async (t) => {
  const home = await tempFolder(t)
  const { url, asked } = await startStandIn(t, () => ({ body: { total: 0, records: [] } }))
  await mkdir(join(home, '.config'))
  await writeFile(join(home, user), `[http]\nendpoint = "${url}"\n[auth]\ncookie = "secret"\n`)

  const codes = []
  for (const words of [['queue', 'ls'], ['status']])
    codes.push((await runHere(['ctl', ...words], { home })).code)

  assert.deepEqual(codes, [0, 0])
  assert.deepEqual(
    asked.map(({ path, cookie }) => [path, cookie]),
    [
      ['/api/v1/queue', undefined],
      ['/api/v1/workers', 'secret'],
    ],
  )
})

test('an unknown setting, and a file that is not there, are wrong usage', async (t) => {
  const home = await tempFolder(t)
  await writeFile(join(home, 'bad.conf'), '[http]\nendpont = "x"\n')

  const unknown = await runHere(['ctl', 'status', '-c', 'bad.conf'], { home })
  const missing = await runHere(['ctl', 'status', '-c', 'none.conf'], { home })

  assert.match(unknown.stderr, /bad\.conf: unknown setting http\.endpont\n {2}did you mean http\.endpoint\?/)
  assert.match(missing.stderr, /cannot read none\.conf/)
  assert.deepEqual([unknown.code, missing.code], [2, 2])
})

test('a cookie that could break a header is refused', async (t) => {
  const home = await tempFolder(t)
  await writeFile(join(home, 'cookie'), 'one\ntwo')

  const push = ['ctl', 'queue', 'push', 'debian', 'main', '--cookie-file', 'cookie']
  const { code, stderr } = await runHere(push, { home })

  assert.match(stderr, /reading the cookie of cookie: this file holds no cookie/)
  assert.equal(code, 1)
})

test('addresses that mean one server are the same', () => {
  assert.ok(sameServer('http://A.example:80/x/', 'http://a.example/x'))
  assert.ok(!sameServer('http://a.example/x', 'https://a.example/x'))
  assert.ok(!sameServer('http://a.example/x', 'http://a.example/y'))
  assert.ok(!sameServer('http://a.example@b.example', 'http://a.example'))
})

/** Where server, ctl and worker have their secrets and settings from, by their command lines: one test for each row. */
import assert from 'node:assert/strict'
import { spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { chmod, mkdir, readFile, readdir, stat, writeFile } from 'node:fs/promises'
import { createServer, type IncomingHttpHeaders } from 'node:http'
import type { AddressInfo } from 'node:net'
import { dirname, join } from 'node:path'
import { suite, test, type TestContext } from 'node:test'
import {
  generateSigningKey,
  publicKeyToPem,
  signingKeyToDer,
  signingKeyToPem,
} from '../../src/attestation.ts'
import {
  cleanEnvironment,
  firstArgs,
  noTerminal,
  program,
  runOnTerminal,
  runHere,
  runProgram,
  serveHere,
  startStandIn,
  tempFolder,
} from '../cmd/program.ts'
import { aServer, files } from '../help/files.ts'

type Files = Readonly<Record<string, string>>
type Given = {
  home: string
  args?: readonly string[]
  environment?: Readonly<Record<string, string>>
  /** Below the home; absent: the place that a server takes by itself. */
  data?: string
  /** Run as an ordinary user. */
  asNobody?: boolean
}

const nobody = '65534'
const unprivileged = ['setpriv', '--reuid', nobody, '--regid', nobody, '--clear-groups'] as const
const isRoot = process.getuid?.() === 0
/** Why nothing can be run as another user here, or false. */
const noOther =
  !isRoot || spawnSync('setpriv', [...unprivileged.slice(1), program, ...firstArgs, '--version']).status === 0
    ? false
    : 'the sources or setpriv are out of reach for an ordinary user'

/** A folder with files below it, by their paths. */
async function aHome(t: TestContext, given: Files = {}): Promise<string> {
  const home = await tempFolder(t)
  for (const [path, content] of Object.entries(given)) {
    await mkdir(dirname(join(home, path)), { recursive: true })
    await writeFile(join(home, path), content)
  }
  return home
}

/** A server, gone when the test is; as any user but root it would choose its own folder. */
async function serving(
  t: TestContext,
  { home, args = [], environment = {}, data = 'data', asNobody = false }: Given,
) {
  const listen = args.includes('--listen') || 'HTTP_ADDR' in environment ? [] : ['--listen', '127.0.0.1:0']
  const words = ['--data', join(home, data), ...listen, ...args]
  const { address, err } = asNobody
    ? await servingAsNobody(t, home, words)
    : await serveHere(t, words, { home, environment })
  const opens = async (cookie: string): Promise<boolean> =>
    (await fetch(`${address}/api/v0/workers`, { headers: { 'x-auth-cookie': cookie } })).status === 200
  return { address, opens, err }
}

/** The same in a process of an ordinary user. */
async function servingAsNobody(t: TestContext, home: string, args: readonly string[]) {
  const [command, ...before] = unprivileged
  const child = spawn(command, [...before, program, ...firstArgs, 'serve', ...args], {
    env: cleanEnvironment(home),
    cwd: home,
  })
  const ended = once(child, 'close')
  let [out, err] = ['', '']
  child.stdout.on('data', (chunk: Buffer) => (out += chunk.toString()))
  child.stderr.on('data', (chunk: Buffer) => (err += chunk.toString()))
  t.after(async () => {
    child.kill('SIGTERM')
    await ended
  })
  while (!/ready at (\S+)/.test(out)) {
    const said = once(child.stdout, 'data')
    await Promise.race([said, ended.then(() => assert.fail(`the server ended: ${err}`))])
  }
  const [, address = ''] = /ready at (\S+)/.exec(out) ?? []
  return { address, err: () => err }
}

const [user, left] = ['.config/rebuilderd.conf', '.local/share/rebuilderd-auth-cookie']
const withCookie = (cookie: string): string => `[auth]\ncookie = "${cookie}"\n`

suite('the cookie of the server', { concurrency: 2 }, () => {
  test('1. the file of REBUILDERD_COOKIE_PATH, trimmed', async (t) => {
    const home = await aHome(t, { given: ' from-the-file \n' })
    const { opens } = await serving(t, { home, environment: { REBUILDERD_COOKIE_PATH: join(home, 'given') } })

    assert.ok(await opens('from-the-file'))
  })

  test('1. where it cannot be read: the start ends in words (ours; the existing server makes another cookie)', async (t) => {
    const home = await aHome(t)
    await mkdir(join(home, 'folder'))

    const { code, stderr } = await runHere(['serve', '--data', 'data', '--listen', '127.0.0.1:0'], {
      home,
      environment: { REBUILDERD_COOKIE_PATH: join(home, 'folder') },
    })

    assert.equal(code, 1)
    assert.match(stderr, /cannot read .*folder/)
  })

  test("2. [auth] cookie of the user's configuration, also beside another one that is named", async (t) => {
    const home = await aHome(t, { [user]: withCookie('of-the-user'), 'mine.conf': '' })
    const { opens } = await serving(t, { home, args: ['-c', 'mine.conf'] })

    assert.ok(await opens('of-the-user'))
  })

  test('2. but not where that speaks of a server elsewhere (ours): the cookie is for that one', async (t) => {
    const elsewhere = `[http]\nendpoint = "https://rebuilder.example"\n${withCookie('of-another')}`
    const home = await aHome(t, { [user]: elsewhere })
    const { opens } = await serving(t, { home })

    assert.equal(await opens('of-another'), false)
  })

  test('3. [auth] cookie of the file of -c, before all others (ours; the existing server ignores it)', async (t) => {
    const home = await aHome(t, {
      [user]: withCookie('of-the-user'),
      'mine.conf': withCookie('named'),
      given: 'given',
    })
    const environment = { REBUILDERD_COOKIE_PATH: join(home, 'given') }
    const { opens } = await serving(t, { home, args: ['-c', 'mine.conf'], environment })

    assert.deepEqual(
      [await opens('named'), await opens('of-the-user'), await opens('given')],
      [true, false, false],
    )
    assert.equal(await readFile(join(home, 'given'), 'utf8'), 'named\n')
  })

  test('4. auth-cookie in the folder of its data, which is /var/lib/rebuilderd for root', async (t) => {
    const home = await aHome(t, { 'data/auth-cookie': 'kept\n' })
    const { opens } = await serving(t, { home })

    assert.ok(await opens('kept'))
  })

  test(
    '5. what an older server of this user left in rebuilderd-auth-cookie, where the server has its usual folder',
    { skip: noOther },
    async (t) => {
      const home = await aHome(t, { [left]: 'left\n' })
      if (isRoot) spawnSync('chown', ['-R', nobody, home])
      const { opens } = await serving(t, { home, data: '.local/state/rebuilderd', asNobody: isRoot })

      assert.ok(await opens('left'))
    },
  )

  test('a configuration that is not TOML ends the search, and the start (ours), in words', async (t) => {
    const home = await aHome(t, { [user]: '[auth\n', 'data/auth-cookie': 'kept\n' })

    const { code, stderr } = await runHere(['serve', '--data', 'data', '--listen', '127.0.0.1:0'], {
      home,
    })

    assert.equal(code, 2)
    assert.match(stderr, /rebuilderd\.conf is not valid TOML/)
    assert.equal(await readFile(join(home, 'data/auth-cookie'), 'utf8'), 'kept\n')
  })

  test('nothing found: 32 letters and digits, written where it is looked for next time, for nobody else to read', async (t) => {
    const home = await aHome(t)
    const { opens } = await serving(t, {
      home,
      environment: { REBUILDERD_COOKIE_PATH: join(home, 'deep/cookie') },
    })
    const made = await readFile(join(home, 'deep/cookie'), 'utf8')

    assert.match(made, /^[A-Za-z0-9]{32}\n$/)
    assert.ok(await opens(made.trim()))
    assert.equal((await stat(join(home, 'deep/cookie'))).mode & 0o777, 0o600)
  })

  test('an older file with an open mode is closed (ours)', async (t) => {
    const home = await aHome(t, { 'data/auth-cookie': 'old\n', 'mine.conf': withCookie('new') })
    await chmod(join(home, 'data/auth-cookie'), 0o644)
    await serving(t, { home, args: ['-c', 'mine.conf'] })

    assert.equal((await stat(join(home, 'data/auth-cookie'))).mode & 0o777, 0o600)
  })

  test('--check-config, --keygen and --derive-pubkey write nothing (ours), and the first shows no secret', async (t) => {
    const home = await aHome(t, {
      'mine.conf': `${withCookie('hush')}[worker]\nsignup_secret = "hush"\n`,
      'key.pem': signingKeyToPem(generateSigningKey()),
    })
    const before = await readdir(home)

    for (const [words, shown] of [
      [['--check-config', '-c', 'mine.conf'], /^auth\.cookie = \(set, not shown\)$/m],
      [['--keygen'], /BEGIN PRIVATE KEY/],
      [['--derive-pubkey', 'key.pem'], /BEGIN PUBLIC KEY/],
    ] as const) {
      const { code, stdout } = await runHere(['serve', ...words], { home })
      assert.equal(code, 0)
      assert.match(stdout, shown)
      assert.doesNotMatch(stdout, /hush/)
    }

    assert.deepEqual(await readdir(home), before)
  })

  test('server and ctl agree, whatever configuration gives the cookie', async (t) => {
    const home = await aHome(t, { 'mine.conf': '', [user]: withCookie('of-the-user') })
    const { address } = await serving(t, { home, args: ['-c', 'mine.conf'] })
    await writeFile(join(home, user), `[http]\nendpoint = "${address}"\n${withCookie('of-the-user')}`)

    const { code, stderr } = await runHere(['ctl', 'queue', 'push', 'debian', 'main'], { home })

    assert.equal(code, 0, stderr)
  })
})

/** What a stand-in for a server was sent by ctl, which is given a configuration, files and words. */
async function heardFromCtl(
  t: TestContext,
  {
    config,
    words = ['queue', 'push', 'debian', 'main', 'hello'],
    environment = () => ({}),
  }: {
    config: (url: string) => Files
    words?: readonly string[]
    environment?: (home: string) => Record<string, string>
  },
) {
  const { url, asked } = await startStandIn(t, () => ({ body: { affected: 1, total: 0, records: [] } }))
  const home = await aHome(t, config(url))
  const wanted = words.map((word) => word.replace('URL', url))
  const ended = await runHere(['ctl', ...wanted], { home, environment: environment(home) })
  return { ...ended, url, paths: asked.map(({ path }) => path), cookies: asked.map(({ cookie }) => cookie) }
}

suite('the server and the cookie of ctl', { concurrency: 2 }, () => {
  test('config merge: of the user and of -c, later ones setting by setting, tables of servers one by one', async (t) => {
    const { cookies, stderr } = await heardFromCtl(t, {
      config: (url) => ({
        [user]: `[http]\nendpoint = "https://elsewhere.example"\n[endpoints."${url}"]\ncookie = "u"\n[endpoints."https://a.example"]\ncookie = "a"\n`,
        'mine.conf': `[http]\nendpoint = "${url}"\n[endpoints."https://b.example"]\ncookie = "b"\n`,
      }),
      words: ['queue', 'push', 'debian', 'main', 'hello', '-c', 'mine.conf'],
    })

    assert.deepEqual(cookies, ['u'], stderr)
  })

  test('config merge: the file of -c has to be there', async (t) => {
    const { code, stderr } = await runHere(['ctl', 'status', '-c', 'none.conf'], { home: await aHome(t) })

    assert.equal(code, 2)
    assert.match(stderr, /cannot read none\.conf/)
  })

  test('endpoint: -H, else [http] endpoint; a slash at its end is dropped, its path kept', async (t) => {
    const given = await heardFromCtl(t, {
      config: () => ({ [user]: '[http]\nendpoint = "http://127.0.0.1:1"\n' }),
      words: ['queue', 'ls', '-H', 'URL/amd64/'],
    })
    const configured = await heardFromCtl(t, {
      config: (url) => ({ [user]: `[http]\nendpoint = "${url}/amd64/"\n` }),
      words: ['queue', 'ls'],
    })

    assert.deepEqual([given.paths, configured.paths], [['/amd64/api/v1/queue'], ['/amd64/api/v1/queue']])
  })

  test('endpoint: else http://127.0.0.1:8484', async (t) => {
    const home = await aHome(t)
    const { stdout, stderr } = await runHere(['ctl', 'status', '-c', '/dev/null'], { home })

    assert.match(stdout + stderr, /http:\/\/127\.0\.0\.1:8484|=> |^No worker/m)
  })

  test('cookie, step 1: that of [endpoints] for the server of -H, however its address is written (ours)', async (t) => {
    const { cookies } = await heardFromCtl(t, {
      config: (url) => ({ [user]: `[endpoints."${url}/"]\ncookie = "e"\n${withCookie('of-the-user')}` }),
      words: ['queue', 'push', 'debian', 'main', 'hello', '-H', 'URL'],
    })

    assert.deepEqual(cookies, ['e'])
  })

  test('cookie, step 2: REBUILDERD_COOKIE_PATH for the configured server', async (t) => {
    const { cookies } = await heardFromCtl(t, {
      config: (url) => ({ [user]: `[http]\nendpoint = "${url}"\n`, given: 'g\n' }),
      environment: (home) => ({ REBUILDERD_COOKIE_PATH: join(home, 'given') }),
    })

    assert.deepEqual(cookies, ['g'])
  })

  test('cookie, step 2: not for any other server of -H (ours): nothing is sent there', async (t) => {
    const home = await aHome(t, { given: 'g\n' })
    const { code, stderr } = await runHere(
      ['ctl', 'queue', 'push', 'debian', 'main', 'hello', '-H', 'http://rebuilder.example'],
      { home, environment: { REBUILDERD_COOKIE_PATH: join(home, 'given') } },
    )

    assert.equal(code, 1)
    assert.match(
      stderr,
      /no cookie is known for http:\/\/rebuilder\.example; that of REBUILDERD_COOKIE_PATH goes only to/,
    )
  })

  test('cookie, step 2: a file that cannot be read is an error in words', async (t) => {
    const { code, stderr, cookies } = await heardFromCtl(t, {
      config: (url) => ({ [user]: `[http]\nendpoint = "${url}"\n` }),
      environment: (home) => ({ REBUILDERD_COOKIE_PATH: join(home, 'none') }),
    })

    assert.deepEqual([code, cookies], [1, []])
    assert.match(stderr, /reading the cookie of .*none/)
  })

  test('cookie, step 2: without -H [auth] cookie of the configuration', async (t) => {
    const { cookies } = await heardFromCtl(t, {
      config: (url) => ({ [user]: `[http]\nendpoint = "${url}"\n${withCookie('of-the-user')}` }),
    })

    assert.deepEqual(cookies, ['of-the-user'])
  })

  test('cookie, step 2: nothing found is an error, but not for a dry run (ours)', async (t) => {
    const push = await heardFromCtl(t, { config: (url) => ({ [user]: `[http]\nendpoint = "${url}"\n` }) })
    const listing = join(await aHome(t, { 'stable/index.html': '<a href="tails-amd64-6.0/">' }), '')
    const { code, stdout, stderr } = await runHere(
      [
        'ctl',
        'pkgs',
        'sync',
        'tails',
        listing,
        '--release',
        'stable',
        '--architecture',
        'amd64',
        '--trust',
        'unsigned',
        '--print-json',
      ],
      { home: await aHome(t) },
    )

    assert.deepEqual([push.code, push.cookies], [1, []])
    assert.ok(!/cookie/.test(stderr), stderr)
    assert.ok(code !== null && !stdout.includes('cookie'))
  })

  test('[auth] cookie of the file of -c counts (ours; the existing client does not look there)', async (t) => {
    const { cookies } = await heardFromCtl(t, {
      config: (url) => ({ 'mine.conf': `[http]\nendpoint = "${url}"\n${withCookie('named')}` }),
      words: ['queue', 'push', 'debian', 'main', 'hello', '-c', 'mine.conf'],
    })

    assert.deepEqual(cookies, ['named'])
  })

  test('commands that need no cookie send none', async (t) => {
    const { cookies } = await heardFromCtl(t, {
      config: (url) => ({ [user]: `[http]\nendpoint = "${url}"\n${withCookie('of-the-user')}` }),
      words: ['pkgs', 'ls'],
    })

    assert.deepEqual(cookies, [undefined])
  })
})

/** A worker that connects to a stand-in which lets nobody in; what it sent. */
async function heardFromWorker(
  t: TestContext,
  {
    config = '',
    words = [],
    environment = {},
    given = {},
  }: {
    config?: string
    words?: readonly string[]
    environment?: Record<string, string>
    given?: Files
  },
) {
  const heard: IncomingHttpHeaders[] = []
  const server = createServer((request, response) => {
    heard.push(request.headers)
    request.resume()
    response.writeHead(403).end()
  })
  await once(server.listen(0, '127.0.0.1'), 'listening')
  t.after(() => server.close())
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`
  const script = '#!/bin/sh\n'
  const home = await aHome(t, { 'worker.conf': config.replaceAll('URL', url), 'script.sh': script, ...given })
  await chmod(join(home, 'script.sh'), 0o755)
  const args = ['worker', 'connect', ...words.map((word) => word.replace('URL', url))]
  const ended = await runHere(
    [...args, '-c', 'worker.conf', '--data', 'work', '--backend', 'debian=./script.sh'],
    {
      home,
      environment: Object.fromEntries(
        Object.entries(environment).map(([name, value]) => [name, value.replace('HOME', home)]),
      ),
    },
  )
  return { ...ended, heard, home }
}

suite('the credentials of the worker', { concurrency: 2 }, () => {
  test('cookie: it sends none, though one is to be found (ours)', async (t) => {
    const { heard, stderr } = await heardFromWorker(t, {
      words: ['URL'],
      environment: { REBUILDERD_COOKIE_PATH: 'HOME/given' },
      given: { given: 'g\n', [user]: withCookie('of-the-user'), [left]: 'left\n' },
    })

    assert.ok(heard.length > 0, stderr)
    for (const headers of heard) assert.equal(headers['x-auth-cookie'], undefined)
  })

  test('cookie: that of [endpoints] for its server neither (ours): it needs none', async (t) => {
    const { heard } = await heardFromWorker(t, {
      words: ['URL'],
      given: { [user]: '[endpoints."http://127.0.0.1:1"]\ncookie = "e"\n' },
    })

    assert.ok(heard.length > 0)
    for (const headers of heard) assert.equal(headers['x-auth-cookie'], undefined)
  })

  test('signup_secret of its configuration: sent where it registers', async (t) => {
    const { heard } = await heardFromWorker(t, { config: 'endpoint = "URL"\nsignup_secret = "in"\n' })

    assert.ok(heard.length > 0)
    for (const headers of heard) assert.equal(headers['x-signup-secret'], 'in')
  })

  test('key file: rebuilder.v2.key, PKCS#8 of version 2 in 83 bytes, for nobody else to read (ours)', async (t) => {
    const { heard, home } = await heardFromWorker(t, { words: ['URL'] })
    const der = await readFile(join(home, 'work/rebuilder.v2.key'))

    assert.equal(der.length, 83)
    assert.match(der.toString('hex'), /^3051020101300506032b657004220420[0-9a-f]{64}812100[0-9a-f]{64}$/)
    assert.equal((await stat(join(home, 'work/rebuilder.v2.key'))).mode & 0o777, 0o600)
    assert.equal(heard[0]?.['x-worker-key'], der.subarray(51).toString('base64'))
  })

  test('key file: in the folder of the worker (ours), where one of an existing worker is taken over', async (t) => {
    const home = await aHome(t)
    const key = generateSigningKey()
    await mkdir(join(home, 'work'))
    await writeFile(join(home, 'work/rebuilder.v2.key'), signingKeyToDer(key))
    await writeFile(join(home, 'work/rebuilder.key'), 'an older one')
    const { url, asked } = await startStandIn(t, () => ({ status: 403 }))
    await writeFile(join(home, 'script.sh'), '#!/bin/sh\n', { mode: 0o755 })

    await runHere(['worker', 'connect', url, '--data', 'work', '--backend', 'debian=./script.sh'], {
      home,
    })

    assert.ok(asked.length > 0)
    assert.deepEqual(await readFile(join(home, 'work/rebuilder.v2.key')), Buffer.from(signingKeyToDer(key)))
  })

  test('key file: the 48 bytes of version 1, as Node writes them, are taken as well (ours)', async (t) => {
    const key = generateSigningKey()
    const v1 = Buffer.concat([
      Buffer.from('302e020100300506032b657004220420', 'hex'),
      Buffer.from(signingKeyToDer(key)).subarray(16, 48),
    ])
    const home = await aHome(t)
    await mkdir(join(home, 'work'))
    await writeFile(join(home, 'work/rebuilder.v2.key'), v1)

    const { code, stderr } = await runHere(
      [
        'worker',
        'build',
        'testing',
        'http://127.0.0.1:1/a.deb',
        '--data',
        'work',
        '--backend',
        'testing=/bin/true',
      ],
      { home },
    )

    assert.equal(code, 2)
    assert.doesNotMatch(stderr, /key/)
  })
})

const mirror = { '/hello.buildinfo': 'Source: hello\n', '/hello_1.0-1_amd64.deb': 'good bytes' }

async function built(t: TestContext, script: string, environment: Record<string, string>) {
  const base = await aServer(t, files(mirror))
  const home = await aHome(t, { 'script.sh': `#!/bin/sh\n${script}\n` })
  await chmod(join(home, 'script.sh'), 0o755)
  const urls = [`${base}/hello_1.0-1_amd64.deb`, '--input-url', `${base}/hello.buildinfo`]
  const ended = await runProgram(
    ['worker', 'build', 'testing', ...urls, '--backend', 'testing=./script.sh', '--data', 'work'],
    { home, environment },
  )
  return { ...ended, home }
}

suite('variables of the environment', { concurrency: 2 }, () => {
  test('HTTP_ADDR: the server listens there, whatever its configuration says', async (t) => {
    const home = await aHome(t, { 'mine.conf': '[http]\nbind_addr = "127.0.0.1:1"\n' })
    const { address } = await serving(t, {
      home,
      args: ['-c', 'mine.conf'],
      environment: { HTTP_ADDR: '127.0.0.2:0' },
    })

    assert.match(address, /^http:\/\/127\.0\.0\.2:\d+$/)
  })

  test('REBUILDERD_SIGNING_KEY: the key of the server, made there when it is missing', async (t) => {
    const home = await aHome(t)
    const { address } = await serving(t, {
      home,
      environment: { REBUILDERD_SIGNING_KEY: join(home, 'my.key') },
    })
    const { current } = (await (await fetch(`${address}/api/v1/meta/public-keys`)).json()) as {
      current: string[]
    }
    const { stdout } = await runHere(['serve', '--derive-pubkey', 'my.key'], { home })

    assert.equal((await stat(join(home, 'my.key'))).mode & 0o777, 0o600)
    assert.deepEqual(current, [stdout])
    assert.ok(!(await readdir(join(home, 'data'))).includes('rebuilderd.sign.key'))
  })

  test('REBUILDERD_SIGNING_KEY: --signing-key goes before it', async (t) => {
    const [given, inherited] = [generateSigningKey(), generateSigningKey()]
    const home = await aHome(t, { 'given.key': signingKeyToPem(given), 'my.key': signingKeyToPem(inherited) })
    const { address } = await serving(t, {
      home,
      args: ['--signing-key', 'given.key'],
      environment: { REBUILDERD_SIGNING_KEY: join(home, 'my.key') },
    })
    const { current } = (await (await fetch(`${address}/api/v1/meta/public-keys`)).json()) as {
      current: string[]
    }

    assert.deepEqual(current, [publicKeyToPem(given.publicKey)])
  })

  test('REBUILDERD_WORKER_CONFIG: the configuration of the worker; -c goes before it', async (t) => {
    const home = await aHome(t, { 'one.conf': 'idle_delay = 1\n', 'two.conf': 'idle_delay = 2\n' })
    const delay = async (...more: string[]): Promise<unknown> => {
      const { stdout, stderr } = await runHere(['worker', 'check-config', ...more], {
        home,
        environment: { REBUILDERD_WORKER_CONFIG: 'one.conf' },
      })
      assert.equal(stderr, '')
      return (JSON.parse(stdout) as { idle_delay: number }).idle_delay
    }

    assert.deepEqual([await delay(), await delay('-c', 'two.conf')], [1, 2])
  })

  test('REBUILDERD_WORKER_BACKEND: one distribution and its script; not looked at beside --backend', async (t) => {
    const home = await aHome(t, { 'one.sh': '', 'two.sh': '' })
    const backends = async (...more: string[]): Promise<string[]> => {
      const { stdout } = await runHere(['worker', 'check-config', ...more], {
        home,
        environment: { REBUILDERD_WORKER_BACKEND: `mine=${home}/one.sh` },
      })
      return Object.keys((JSON.parse(stdout) as { backend: object }).backend)
    }

    assert.deepEqual(await backends(), ['mine'])
    assert.deepEqual(await backends('--backend', `other=${home}/two.sh`), ['other'])
  })

  test('RUST_LOG: how much is logged, whatever -v says', async (t) => {
    const listed = async (environment: Record<string, string>): Promise<string> => {
      const { err, address } = await serving(t, { home: await aHome(t), args: ['-v'], environment })
      await fetch(address)
      return err()
    }

    assert.match(await listed({ RUST_LOG: 'debug' }), /Next: on a build box|No worker can register/)
    const { stderr } = await heardFromWorker(t, { words: ['URL'], environment: { RUST_LOG: 'error' } })
    const usual = await heardFromWorker(t, { words: ['URL'] })
    assert.match(usual.stderr, /worker: backends debian/)
    assert.doesNotMatch(stderr, /worker: backends debian/)
  })

  test('NOPAGER: any value, the empty one too, and no pager is started', { skip: noTerminal }, async (t) => {
    const { url } = await startStandIn(t, ({ path }) =>
      path.endsWith('/log')
        ? { type: 'text/plain', body: 'the log\n' }
        : { body: { total: 1, records: [aListed()] } },
    )
    const words = ['ctl', 'pkgs', 'log', 'hello', '-H', url]
    const shown = async (environment: Record<string, string>): Promise<string> =>
      (
        await runOnTerminal(words, {
          home: await aHome(t),
          environment: { PAGER: 'sed s/^/paged:/', ...environment },
        })
      ).stdout

    assert.match(await shown({}), /paged:the log/)
    for (const NOPAGER of ['', '0', '1']) assert.doesNotMatch(await shown({ NOPAGER }), /paged:/)
  })

  test('XDG_CONFIG_HOME and XDG_DATA_HOME: where configuration and a left cookie are; relative ones do not count', async (t) => {
    const { cookies } = await heardFromCtl(t, {
      config: (url) => ({
        'other/rebuilderd.conf': `[http]\nendpoint = "${url}"\n${withCookie('other')}`,
        [user]: `[http]\nendpoint = "${url}"\n${withCookie('of-the-user')}`,
      }),
      environment: (home) => ({ XDG_CONFIG_HOME: join(home, 'other') }),
    })
    const relative = await heardFromCtl(t, {
      config: (url) => ({
        'other/rebuilderd.conf': withCookie('other'),
        [user]: `[http]\nendpoint = "${url}"\n${withCookie('of-the-user')}`,
      }),
      environment: () => ({ XDG_CONFIG_HOME: 'other' }),
    })

    assert.deepEqual([cookies, relative.cookies], [['other'], ['of-the-user']])
  })

  test('TMPDIR: not where a job is (ours): that is below the folder of the worker, which must be on a large disk', async (t) => {
    const { stderr, home } = await built(t, 'pwd >&2; echo "out: $REBUILDERD_OUTDIR"; exit 1', {
      TMPDIR: '/nonexistent',
    })

    assert.match(stderr, /out: \//)
    assert.doesNotMatch(stderr, /nonexistent/)
    assert.ok((await readdir(home)).includes('work'))
  })

  test('REBUILDERD_OUTDIR: where the script leaves what it made', async (t) => {
    const { stdout } = await built(t, `printf 'good bytes' > "$REBUILDERD_OUTDIR/hello_1.0-1_amd64.deb"`, {
      REBUILDERD_OUTDIR: '/nowhere',
    })

    assert.match(stdout, /^GOOD\n/)
  })

  test('.env, DATABASE_URL: not looked at (ours; the existing server reads the one and forgets the other)', async (t) => {
    const home = await aHome(t, { '.env': 'HTTP_ADDR=127.0.0.1:1\nREBUILDERD_SIGNUP_SECRET=s\n' })
    const { address, err } = await serving(t, { home, environment: { DATABASE_URL: join(home, 'other.db') } })

    assert.equal((await fetch(`${address}/api/v1/health`)).status, 200)
    assert.match(err(), /No worker can register yet/)
    assert.ok(!(await readdir(home)).includes('other.db'))
  })
})

function aListed(): Record<string, unknown> {
  return {
    id: 1,
    name: 'hello',
    version: '1',
    distribution: 'debian',
    release: 'sid',
    component: 'main',
    architecture: 'amd64',
    url: 'http://mirror.example/hello.deb',
    status: 'GOOD',
    build_id: 1,
    artifact_id: 1,
    diffoscope_log_id: null,
    attestation_log_id: null,
    last_seen: '2026-11-22T19:41:51',
    seen_in_last_sync: true,
  }
}

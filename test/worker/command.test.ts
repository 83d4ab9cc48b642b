import { execFileSync, spawn } from 'node:child_process'
import { once } from 'node:events'
import { test, type TestContext } from 'node:test'
import assert from 'node:assert/strict'
import { chmod, readFile, readdir, stat, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { cleanEnvironment, firstArgs, program, runHere, runProgram, type Ended } from '../cmd/program.ts'
import { builtInBackends, digestOfScripts, scriptsOf } from '../../src/worker/backend.ts'
import { aFolder, aServer, files } from '../help/files.ts'
import { aJob } from '../help/jobs.ts'
import { forEver, killWith } from '../help/machine.ts'
import { until } from '../help/until.ts'
import { anUpstream } from '../help/upstream.ts'

const mirror = { '/hello.buildinfo': 'Source: hello\n', '/hello_1.0-1_amd64.deb': 'good bytes' }

async function aScript(t: TestContext, line: string): Promise<string> {
  const path = join(await aFolder(t), 'backend.sh')
  await writeFile(path, `#!/bin/sh\n${line}\n`)
  await chmod(path, 0o755)
  return path
}

async function build(t: TestContext, line: string, ...more: string[]): Promise<Ended & { home: string }> {
  const base = await aServer(t, files(mirror))
  const home = await aFolder(t)
  const backend = `testing=${await aScript(t, line)}`
  const urls = [`${base}/hello_1.0-1_amd64.deb`, '--input-url', `${base}/hello.buildinfo`]
  const data = join(home, 'data')
  const ended = await runProgram(
    ['worker', 'build', 'testing', ...urls, '--backend', backend, '--data', data, ...more],
    { home },
  )
  return { ...ended, home }
}

const make = (bytes: string): string =>
  `echo building; printf '${bytes}' > "$REBUILDERD_OUTDIR/hello_1.0-1_amd64.deb"`

for (const [what, line, code, expected] of [
  ['same bytes', make('good bytes'), 0, /^GOOD\n/],
  ['other bytes', make('good BYTES'), 1, /^BAD content_differs: .*\nBAD hello \(differs from byte 5 on\)\n/],
  ['a failure', 'exit 1', 2, /^FAIL build_failed: /],
] as const) {
  test(`worker build with ${what} ends with ${code} and prints the verdict`, async (t) => {
    const { code: ended, stdout, stderr } = await build(t, line)

    assert.equal(ended, code, stderr)
    assert.match(stdout, expected)
  })
}

for (const [what, address, more, expected] of [
  ['a path', './hello_1.0-1_amd64.deb', [], /is not an http or https address[^]*http\.server/],
  ['an input that is a path', 'http://127.0.0.1:1/a.deb', ['--input-url', '/x'], /^rebuilderd.*: \/x is not/],
  ['a folder where it may write nothing', 'http://127.0.0.1:1/a.deb', ['--data', '/sys/x'], /\/sys\/x/],
  [
    'a folder that cannot be',
    'http://127.0.0.1:1/a.deb',
    ['--data', '/proc/x/y'],
    /made in \/proc[^]*--data/,
  ],
] as const) {
  test(`worker build with ${what} does not end as if it were BAD`, async (t) => {
    const home = await aFolder(t)
    const script = ['--script-location', '/bin/true', '--data', join(home, 'data')]

    const { code, stderr } = await runHere(['worker', 'build', 'testing', address, ...script, ...more], {
      home,
    })

    assert.match(stderr, expected)
    assert.equal(code, 2)
  })
}

test('worker build shows the output of the build beside the verdict, made harmless', async (t) => {
  const { stdout, stderr } = await build(t, `printf 'a\\033[2Jb\\n'; ${make('good bytes')}`)

  assert.match(stderr, /a\\x1b\[2Jb\nbuilding\n/)
  assert.doesNotMatch(stdout, /building/)
})

test('worker build --json prints one document', async (t) => {
  const { stdout } = await build(t, make('good BYTES'), '--json', '--diffoscope', '--quiet')

  const document = JSON.parse(stdout) as Record<string, unknown>
  assert.equal(document['status'], 'BAD')
  assert.equal(document['reason'], 'content_differs')
  assert.equal(document['build_log'], 'building\n')
})

test('worker build leaves the rebuilt file where it was told to, a plain one', async (t) => {
  const base = await aServer(t, files(mirror))
  const home = await aFolder(t)
  const script = await aScript(t, `${make('good BYTES')}; chmod 6755 "$REBUILDERD_OUTDIR"/*`)
  const args = ['--script-location', script, '--data', join(home, 'data'), '--output', join(home, 'out')]

  await runProgram(['worker', 'build', 'testing', `${base}/hello_1.0-1_amd64.deb`, ...args], { home })

  const path = join(home, 'out', 'hello_1.0-1_amd64.deb')
  assert.equal(await readFile(path, 'utf8'), 'good BYTES')
  assert.equal((await stat(path)).mode & 0o7777, 0o644)
})

test('worker check-config prints settings and backends, and no secret', async (t) => {
  const home = await aFolder(t)
  const config = join(home, 'worker.conf')
  await writeFile(
    config,
    'signup_secret = "hush"\n[build]\ntimeout = 7\n[backend.debian]\npath = "/x.sh"\nkey = "v"\n',
  )

  const { code, stdout } = await runHere(['worker', 'check-config'], {
    home,
    environment: { REBUILDERD_WORKER_CONFIG: config },
  })

  const shown = JSON.parse(stdout) as { build: { timeout: number }; backend: unknown }
  assert.equal(code, 0)
  assert.doesNotMatch(stdout, /hush/)
  assert.equal(shown.build.timeout, 7)
  assert.deepEqual(shown.backend, { debian: { path: '/x.sh', key: 'v' } })
})

for (const [what, content, complaint] of [
  ['an unknown setting', 'enpoint = "x"', /unknown setting enpoint[^]*did you mean endpoint/],
  ['an unknown built-in backend', '[backend.debain]\n', /no built-in backend debain[^]*did you mean debian/],
  ['a path that is no text', '[backend.debian]\npath = 7', /backend\.debian\.path must be text/],
] as const) {
  test(`worker check-config complains about ${what}`, async (t) => {
    const home = await aFolder(t)
    await writeFile(join(home, 'worker.conf'), content)

    const { code, stderr } = await runHere(['worker', 'check-config', '-c', join(home, 'worker.conf')], {
      home,
    })

    assert.notEqual(code, 0)
    assert.match(stderr, complaint)
  })
}

test('worker backends copies the scripts that come with us, and tells the digest that results name', async (t) => {
  const home = await aFolder(t)
  const folder = join(home, 'scripts')

  const { code, stdout, stderr } = await runProgram(['worker', 'backends', '--json', '--scripts', folder], {
    home,
  })

  assert.equal(code, 0, stderr)
  const listed = JSON.parse(stdout) as { name: string; digest: string }[]
  assert.deepEqual(
    listed.map(({ name }) => name),
    builtInBackends.map(({ name }) => name),
  )
  for (const { name, digest } of listed) {
    const script = builtInBackends.find((one) => one.name === name)?.script.slice('backends/'.length) ?? ''
    const sums = `sha256sum ${script} fetch.sh sandbox.pl | sha256sum`
    assert.equal(execFileSync('/bin/sh', ['-c', sums], { cwd: folder, encoding: 'utf8' }), `${digest}  -\n`)
  }
})

test('the digest of a backend that comes with us changes with any file that it uses', () => {
  for (const backend of builtInBackends) {
    const files = scriptsOf(backend)
    const digest = digestOfScripts(files)
    const used = [...files.values()].flatMap((bytes) => [
      ...Buffer.from(bytes)
        .toString()
        .matchAll(/\$here\/([\w.-]+)/g),
    ])
    assert.deepEqual(
      used.map(([, name = '']) => name).filter((name) => !files.has(name)),
      [],
      `files beside ${backend.name}`,
    )
    for (const [name, bytes] of files) {
      const other = digestOfScripts(new Map([...files, [name, Buffer.concat([bytes, Buffer.from('\n')])]]))
      assert.notEqual(other, digest, `${name} of ${backend.name}`)
    }
    const renamed = new Map([...files].map(([name, bytes]) => [name.replace('fetch', 'get'), bytes]))
    assert.notEqual(digestOfScripts(renamed), digest)
  }
})

test('worker without a server to talk to says how to name one', async (t) => {
  const home = await aFolder(t)

  const { code, stderr } = await runHere(['worker', '--data', join(home, 'd'), '--backend', 'a=/bin/true'], {
    home,
  })

  assert.equal(code, 2)
  assert.match(stderr, /no server was named[^]*--secret/)
})

test('worker doctor names backends, and what they lack', async (t) => {
  const { stdout } = await runProgram(['worker', 'doctor'], { home: await aFolder(t) })

  assert.match(stdout, /^debian: (works|does not work)/m)
  assert.match(stdout, /^isolation: (none|namespaces)$/m)
})

test('worker takes a job, and SIGTERM ends it when that is done', async (t) => {
  const upstream = await anUpstream(t)
  const base = await aServer(t, files({ '/hello.buildinfo': '', '/hello.deb': 'good bytes' }))
  upstream.hand(aJob(base))
  const home = await aFolder(t)
  const script = await aScript(t, `sleep ${forEver}; printf "good bytes" > "$REBUILDERD_OUTDIR/hello.deb"`)
  const data = join(home, 'data')
  const args = [
    'worker',
    upstream.base,
    '--secret',
    'hush',
    '--name',
    'one',
    '--data',
    data,
    '--backend',
    `test=${script}`,
  ]
  const child = spawn(program, [...firstArgs, ...args], {
    env: cleanEnvironment(home),
    cwd: home,
    stdio: 'ignore',
  })
  t.after(() => child.kill('SIGKILL'))

  await until(async () => (await sleepers(forEver)) === 1)
  child.kill('SIGTERM')
  killWith(forEver)
  const [code] = (await once(child, 'exit')) as [number]

  assert.equal(code, 0)
  assert.equal(upstream.reports[0]?.status, 'GOOD')
  const registration = upstream.seen.find(({ path }) => path === '/api/v1/workers')
  assert.deepEqual(registration?.body, { name: 'one', tags: [] })
  assert.equal(upstream.seen[0]?.headers['x-signup-secret'], 'hush')
  assert.equal((await stat(join(data, 'rebuilder.v2.key'))).mode & 0o777, 0o600)
})

test('a second SIGTERM drops the job', async (t) => {
  const upstream = await anUpstream(t)
  upstream.hand(aJob(await aServer(t, files({ '/hello.buildinfo': '', '/hello.deb': 'good bytes' }))))
  const home = await aFolder(t)
  const script = await aScript(t, `exec sleep ${forEver}`)
  const args = ['worker', upstream.base, '--data', join(home, 'data'), '--backend', `test=${script}`]
  const child = spawn(program, [...firstArgs, ...args], {
    env: cleanEnvironment(home),
    cwd: home,
    stdio: ['ignore', 'ignore', 'pipe'],
  })
  t.after(() => child.kill('SIGKILL'))
  let said = ''
  child.stderr.on('data', (chunk: Buffer) => (said += chunk.toString()))

  await until(async () => (await sleepers(forEver)) === 1)
  child.kill('SIGTERM')
  await until(() => said.includes('asked once more, it hands it back'), 'that the first one is heard')
  child.kill('SIGTERM')
  await once(child, 'exit')

  assert.deepEqual(upstream.reports, [])
})

test('after kill -9 nothing of the build goes on, and the next start hands the job back', async (t) => {
  const upstream = await anUpstream(t)
  upstream.hand(
    aJob(await aServer(t, files({ '/hello.buildinfo': '', '/hello.deb': 'good bytes' }))),
    'lease-1',
  )
  const home = await aFolder(t)
  const mark = `7${process.pid}`
  const script = await aScript(t, `sleep ${mark} & exec sleep ${mark}`)
  const args = ['worker', upstream.base, '--data', join(home, 'data'), '--backend', `test=${script}`]
  const start = () => {
    const child = spawn(program, [...firstArgs, ...args], {
      env: cleanEnvironment(home),
      cwd: home,
      stdio: 'ignore',
    })
    t.after(() => child.kill('SIGKILL'))
    return child
  }

  const first = start()
  await until(async () => (await sleepers(mark)) === 2)
  first.kill('SIGKILL')
  await until(async () => (await sleepers(mark)) === 0)
  const second = start()
  await upstream.until('/builds')
  second.kill('SIGTERM')
  await once(second, 'exit')

  assert.deepEqual(
    upstream.reports.map(({ lease, reason }) => [lease, reason]),
    [['lease-1', 'worker_lost']],
  )
})

/** How many processes sleep for so many seconds. */
async function sleepers(mark: string): Promise<number> {
  const ids = (await readdir('/proc')).filter((name) => /^\d+$/.test(name))
  const lines = await Promise.all(ids.map((id) => readFile(`/proc/${id}/cmdline`, 'utf8').catch(() => '')))
  return lines.filter((line) => line === `sleep\0${mark}\0`).length
}

test('what a rebuild without a server left when it was killed is removed by the next; one that lives stays', async (t) => {
  const base = await aServer(t, files(mirror))
  const home = await aFolder(t)
  const mark = `8${process.pid}`
  const [hangs, builds] = [await aScript(t, `exec sleep ${mark}`), await aScript(t, make('good bytes'))]
  const folder = join(home, 'data', 'builds')
  const argsOf = (script: string): string[] => {
    const where = ['--data', join(home, 'data'), '--script-location', script]
    return ['worker', 'build', 'test', `${base}/hello_1.0-1_amd64.deb`, ...where]
  }
  const start = () => {
    const child = spawn(program, [...firstArgs, ...argsOf(hangs)], {
      env: cleanEnvironment(home),
      cwd: home,
      stdio: 'ignore',
    })
    t.after(() => child.kill('SIGKILL'))
    return child
  }
  const killed = start()
  await until(async () => (await sleepers(mark)) === 1)
  const [left = ''] = await readdir(folder)
  killed.kill('SIGKILL')
  await until(async () => (await sleepers(mark)) === 0)
  const living = start()
  await until(async () => (await readdir(folder)).some((name) => name !== left))
  await until(async () => (await sleepers(mark)) === 1)

  const { code } = await runProgram(argsOf(builds), { home })

  assert.equal(code, 0)
  const kept = await readdir(folder)
  assert.equal(kept.length, 1)
  assert.ok(!kept.includes(left))
  assert.equal(living.exitCode, null)
})

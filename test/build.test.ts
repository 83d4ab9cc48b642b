import assert from 'node:assert/strict'
import { execFileSync, spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, readFileSync, rmSync, statSync, symlinkSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, describe, test } from 'node:test'
import { builtFolder } from './help/built.ts'
import { aFolder } from './help/files.ts'
import { patienceMilliseconds } from './help/until.ts'

const root = join(import.meta.dirname, '..')
const { version } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')) as { version: string }

/** No node, no settings of ours. */
const bare = { PATH: '/nowhere', HOME: '/nonexistent' }

describe('the built program', { skip: process.arch === 'x64' ? false : 'is made for x64 here' }, () => {
  let [dist, own] = ['', '']
  before(() => {
    own = mkdtempSync(join(tmpdir(), 'rebuilderd-dist-'))
    dist = builtFolder() ?? own
    if (dist === own) execFileSync(process.execPath, ['build.mjs', '--out', dist], { cwd: root })
  })
  after(() => rmSync(own, { recursive: true, force: true }))

  test('starts without node, and little more is computed for that than for a bare runtime', () => {
    const run = spawnSync(join(dist, 'rebuilderd'), ['--version'], { env: bare, encoding: 'utf8' })
    const ours = computing(join(dist, 'rebuilderd'), '--version')
    const runtime = computing(process.execPath, '-e', '0')

    assert.equal(run.stdout, `rebuilderd ${version}\n`)
    assert.ok(ours < 5 * runtime, `${ours} s, and ${runtime} s of the bare runtime`)
  })

  test('needs only the C and C++ libraries of every Debian', () => {
    const needed = execFileSync('ldd', [join(dist, 'rebuilderd')], { encoding: 'utf8' })
    const names = [...needed.matchAll(/^\s*(\S+?)\.so/gm)].map((match) => match[1] ?? '')

    const known = /^(linux-vdso|lib(c|m|dl|pthread|stdc\+\+|gcc_s)|\/lib64\/ld-linux-x86-64)$/
    assert.deepEqual(
      names.filter((name) => !known.test(name)),
      [],
    )
    assert.ok(names.length > 3)
  })

  test('is reached by the names of older programs', () => {
    symlinkSync(join(dist, 'rebuilderd'), join(own, 'rebuildctl'))

    const run = spawnSync(join(own, 'rebuildctl'), ['pkgs', '--help'], { env: bare, encoding: 'utf8' })

    assert.match(run.stdout, /pkgs ls/)
  })

  test('finds every command, whichever part of it has that', () => {
    symlinkSync(join(dist, 'rebuilderd'), join(own, 'other-name'))
    for (const [path, line, expected] of [
      [join(dist, 'rebuilderd'), 'ctl check --help', /how much of this system is verified/],
      [join(dist, 'rebuilderd'), '-v ctl check --help', /how much of this system is verified/],
      [join(own, 'other-name'), 'ctl check --help', /how much of this system is verified/],
      [join(dist, 'rebuilderd'), 'help ctl check', /how much of this system is verified/],
      [join(dist, 'rebuilderd'), 'ctl --help', /queue push/],
      [join(dist, 'rebuilderd'), 'ctl status --help', /what the workers do/],
      [join(dist, 'rebuilderd'), 'ctl queue push debian main serve --help', /Rebuild/],
      [join(dist, 'rebuilderd'), 'ctl completions bash', /serve/],
      [join(dist, 'rebuilderd'), 'serve --help', /Run the server/],
      [join(dist, 'rebuilderd'), 'worker --help', /doctor/],
      [join(dist, 'rebuilderd'), '--help', /verifies the packages/],
    ] as const) {
      const run = spawnSync(path, line.split(' '), {
        env: bare,
        encoding: 'utf8',
        timeout: patienceMilliseconds,
      })

      assert.match(run.stdout, expected, `${path} ${line}: ended by ${run.signal}: ${run.stderr}`)
      assert.equal(run.status, 0, line)
    }
  })

  test('is not changed by options that are meant for node', () => {
    const env = { ...bare, NODE_OPTIONS: '--require=/nonexistent.js' }

    const run = spawnSync(join(dist, 'rebuilderd'), ['--version'], { env, encoding: 'utf8' })

    assert.equal(run.stdout, `rebuilderd ${version}\n`)
  })

  test('tells the licences of everything inside, with their texts', () => {
    const text = readFileSync(join(dist, 'LICENSES.txt'), 'utf8')
    const told = spawnSync(join(dist, 'rebuilderd'), ['licenses'], { env: bare, encoding: 'utf8' })

    for (const name of ['rebuilderd', 'sql.js', 'hono', 'valibot', 'node'])
      assert.match(text, new RegExp(`^${name}( |$)`, 'm'))
    assert.match(text, /^saxes .*\n\nThe ISC License$/m)
    assert.match(text, /^openpgp [^=]*LESSER GENERAL PUBLIC LICENSE[^=]* GNU GENERAL PUBLIC LICENSE/m)
    assert.equal(told.stdout, text)
  })

  test('has nothing of this machine in it', () => {
    const script = readFileSync(join(dist, 'rebuilderd.mjs'), 'utf8')

    assert.equal(script.includes(root), false)
    assert.equal(script.includes(tmpdir() + '/rebuilderd-'), false)
    assert.equal(statSync(join(dist, 'rebuilderd.mjs')).mode & 0o777, 0o755)
  })

  for (const [form, command] of [
    ['executable', (folder: string) => [join(folder, 'rebuilderd')]],
    ['script', (folder: string) => [process.execPath, join(folder, 'rebuilderd.mjs')]],
  ] as const) {
    test(`the ${form} serves from its own database, engine and thread`, async (t) => {
      const data = await aFolder(t)
      const [program = '', ...args] = command(dist)
      const server = spawn(program, [...args, 'serve', '--data', data, '--listen', '127.0.0.1:0'], {
        env: bare,
        stdio: ['ignore', 'pipe', 'ignore'],
        signal: t.signal,
      })
      server.on('error', () => {})
      t.after(() => server.kill('SIGKILL'))

      const [line] = (await once(server.stdout, 'data')) as [Buffer]
      const address = /http:\S+/.exec(line.toString())?.[0]
      const reply = await fetch(`${address}/api/v1/dashboard`)
      const dashboard = (await reply.json()) as { jobs: { running: number } }
      server.kill('SIGTERM')
      await once(server, 'exit')

      assert.equal(dashboard.jobs.running, 0)
      assert.equal(statSync(join(data, 'rebuilderd.db')).isFile(), true)
    })
  }
})

/** CPU seconds that a program takes, the least of a few runs: other tests run at the same time. */
function computing(...command: string[]): number {
  const script = 'TIMEFORMAT="%U %S"; time "$@" > /dev/null'
  const seconds = Array.from({ length: 3 }, () => {
    const { stderr } = spawnSync('/bin/bash', ['-c', script, 'bash', ...command], {
      env: bare,
      encoding: 'utf8',
    })
    return stderr.split(' ').reduce((sum, part) => sum + Number(part), 0)
  })
  return Math.min(...seconds)
}

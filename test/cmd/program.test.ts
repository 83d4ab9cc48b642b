import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync } from 'node:fs'
import { open, symlink } from 'node:fs/promises'
import { join } from 'node:path'
import { test } from 'node:test'
import {
  aPackage,
  cleanEnvironment,
  door,
  firstArgs,
  listReply,
  program,
  runProgram,
  startStandIn,
  tempFolder,
} from './program.ts'

const noFullDevice = existsSync('/dev/full') ? false : 'this machine has no /dev/full'

test('--version prints program and version', async (t) => {
  const { code, stdout, stderr } = await runProgram(['--version'], { home: await tempFolder(t) })

  assert.match(stdout, /^rebuilderd \d+\.\d+\.\d+\n$/)
  assert.deepEqual([code, stderr], [0, ''])
})

test('commands end by themselves: nobody waits for the runtime to stop what it compiles', async (t) => {
  const environment = { NODE_OPTIONS: '--trace-exit' } // tells of each `process.exit` on standard error
  const home = await tempFolder(t)
  const { url } = await startStandIn(t, ({ query }) => listReply([], query))
  const commands = [['--version'], ['ctl', '-H', url, 'pkgs', 'ls'], ['worker', 'backends']]

  for (const args of commands) {
    const { code, stderr } = await runProgram(args, { home, environment })
    assert.deepEqual([code, stderr], [0, ''], args.join(' '))
  }
})

test('without a command there is help, and every command is in it', async (t) => {
  const { code, stdout } = await runProgram([], { home: await tempFolder(t) })

  assert.equal(code, 0)
  for (const words of ['ctl status', 'ctl pkgs ls', 'ctl pkgs log', 'ctl queue push', 'ctl completions']) {
    assert.ok(stdout.includes(`  ${words} `), words)
  }
  assert.match(stdout, /Exit codes:\n {2}0 {2}.*\n {2}1 {2}.*\n {2}2 {2}/)
})

test('half a command gets help on standard error and exit code 2', async (t) => {
  const { code, stdout, stderr } = await runProgram(['ctl', 'pkgs'], { home: await tempFolder(t) })

  assert.deepEqual([code, stdout], [2, ''])
  assert.match(stderr, /Usage: rebuilderd ctl pkgs <command>/)
})

test('an unknown command is named together with the nearest one', async (t) => {
  const { code, stdout, stderr } = await runProgram(['ctl', 'quue', 'ls'], { home: await tempFolder(t) })

  assert.equal(stderr, 'rebuilderd: unknown command ctl quue\n  did you mean queue?\n')
  assert.deepEqual([code, stdout], [2, ''])
})

test('under the name rebuildctl the program is ctl', async (t) => {
  const home = await tempFolder(t)
  const script = join(home, 'rebuildctl')
  await symlink(door, script)

  const help = await runProgram(['pkgs', 'ls', '--help'], { home, script })
  const wrong = await runProgram(['pkgs', 'sl'], { home, script })

  assert.match(help.stdout, /Usage: rebuildctl pkgs ls \[name\] \[options\]/)
  assert.equal(wrong.stderr, 'rebuildctl: unknown command ctl pkgs sl\n  did you mean ls?\n')
})

test('a server that is not there is named, with what to check', async (t) => {
  const { code, stdout, stderr } = await runProgram(['ctl', 'status', '-H', 'http://127.0.0.1:9'], {
    home: await tempFolder(t),
  })

  assert.match(
    stderr,
    /^rebuilderd: cannot reach the server at http:\/\/127\.0\.0\.1:9 .*\n {2}is it running/,
  )
  assert.deepEqual([code, stdout], [1, ''])
})

test('an address that is none is wrong usage', async (t) => {
  const { code, stderr } = await runProgram(['ctl', 'status', '-H', 'localhost:8484'], {
    home: await tempFolder(t),
  })

  assert.match(stderr, /localhost:8484 is not an address of a server/)
  assert.equal(code, 2)
})

test('a reader who has enough ends a list without a word', async (t) => {
  const home = await tempFolder(t)
  const records = Array.from({ length: 5000 }, (_, i) => aPackage({ id: i + 1, name: `package-${i}` }))
  const { url } = await startStandIn(t, ({ query }) => listReply(records, query))
  const child = spawn(program, [...firstArgs, 'ctl', 'pkgs', 'ls', '-H', url], {
    env: cleanEnvironment(home),
  })
  let stderr = ''
  child.stderr.on('data', (chunk: Buffer) => (stderr += chunk.toString()))
  child.stdout.once('data', () => child.stdout.destroy())

  const [code] = (await once(child, 'close')) as [number]

  assert.deepEqual([code, stderr], [0, ''])
})

for (const [signal, expected] of [
  ['SIGINT', 130],
  ['SIGTERM', 143],
] as const) {
  test(`${signal} ends a request that waits, without a word`, async (t) => {
    const home = await tempFolder(t)
    let child: ReturnType<typeof spawn> | undefined
    const { url } = await startStandIn(t, () => {
      child?.kill(signal)
      return { never: true }
    })
    child = spawn(program, [...firstArgs, 'ctl', 'status', '-H', url], { env: cleanEnvironment(home) })
    let stderr = ''
    child.stderr?.on('data', (chunk: Buffer) => (stderr += chunk.toString()))

    const [code] = (await once(child, 'close')) as [number]

    assert.deepEqual([code, stderr], [expected, ''])
  })
}

test('a reply that is no JSON is told without a stack', async (t) => {
  const home = await tempFolder(t)
  const { url } = await startStandIn(t, () => ({ type: 'text/html', body: '<html>' }))

  const { code, stderr } = await runProgram(['ctl', 'status', '-H', url], { home })

  assert.match(
    stderr,
    /^rebuilderd: GET \S+: the reply is not JSON: .*\n {2}is this address a rebuilderd server\?\n$/,
  )
  assert.equal(code, 1)
})

test('output that cannot be written is an error in words', { skip: noFullDevice }, async (t) => {
  const home = await tempFolder(t)
  const full = await open('/dev/full', 'w')
  t.after(() => full.close())
  const child = spawn(program, [...firstArgs, '--help'], {
    env: cleanEnvironment(home),
    stdio: ['ignore', full.fd, 'pipe'],
  })
  let stderr = ''
  child.stderr?.on('data', (chunk: Buffer) => (stderr += chunk.toString()))

  const [code] = (await once(child, 'close')) as [number]

  assert.match(stderr, /^rebuilderd: writing the output: ENOSPC.*\n$/)
  assert.equal(code, 1)
})

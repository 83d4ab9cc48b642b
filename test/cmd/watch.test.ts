import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { test, type TestContext } from 'node:test'
import type { Assignment } from '../../src/wire/queue.ts'
import { appendLog, popQueue } from '../../src/wire/queue.ts'
import { submitBuild } from '../../src/wire/builds.ts'
import { openScreen } from '../../src/cmd/follow.ts'
import type { Context } from '../../src/cmd/command.ts'
import {
  aPackage,
  aResult,
  importPackages,
  pop,
  startServer,
  temporaryFolder,
  type TestServer,
} from '../help/server.ts'
import { until } from '../help/until.ts'
import { cleanEnvironment, firstArgs, program, runProgram } from './program.ts'

/** The program while it runs. */
async function running(t: TestContext, args: readonly string[]) {
  const home = await temporaryFolder(t)
  const child = spawn(program, [...firstArgs, ...args], { env: cleanEnvironment(home), cwd: home })
  const said = { out: '', err: '' }
  child.stdout.on('data', (chunk: Buffer) => (said.out += chunk.toString()))
  child.stderr.on('data', (chunk: Buffer) => (said.err += chunk.toString()))
  const ended = once(child, 'close').then(([code]) => code as number | null)
  t.after(async () => {
    child.kill('SIGKILL')
    await ended
  })
  const says = (pattern: RegExp): Promise<true> =>
    until(
      () => pattern.test(said.out + said.err),
      () => `${String(pattern)} after ${said.out}${said.err}`,
    )
  return { said, ended, says, stop: () => child.kill('SIGINT') }
}

async function aRunningJob(server: TestServer): Promise<Assignment> {
  await importPackages(server.call, [aPackage()])
  const job = await pop(server.call)
  assert.ok(job !== null)
  return job
}

/** As a worker sends it. */
async function appended(server: TestServer, id: number, offset: number, text: string): Promise<void> {
  const path = appendLog.path.replace('{id}', String(id))
  const reply = await fetch(`${server.address}${path}?offset=${offset}`, {
    method: 'POST',
    headers: { 'x-worker-key': 'key-1' },
    body: text,
  })
  assert.equal(reply.status, 204)
}

test('a log is followed while it grows, to the end that only the report brings, and the verdict', async (t) => {
  const server = await startServer(t)
  const { job, ...rest } = await aRunningJob(server)
  const program = await running(t, ['ctl', 'pkgs', 'log', '--follow', 'hello', '-H', server.address])

  await program.says(/runs at worker-1/)
  await appended(server, job.id, 0, 'begins\n')
  await program.says(/begins/)
  await appended(server, job.id, 7, 'halfway ä\n')
  await program.says(/halfway/)
  const build_log = new TextEncoder().encode('begins\nhalfway ä\nthe end\n')
  await server.call(submitBuild, { body: { ...aResult({ job, ...rest }), build_log } })

  assert.equal(await program.ended, 0)
  assert.equal(program.said.out, 'begins\nhalfway ä\nthe end\n')
  assert.match(program.said.err, /GOOD, build 1/)
})

test('a job that has not begun is waited for, and then followed', async (t) => {
  const server = await startServer(t)
  await importPackages(server.call, [aPackage()])
  const program = await running(t, ['ctl', 'pkgs', 'log', '--follow', 'hello', '-H', server.address])

  await program.says(/hello 1\.0-1 \(job 1\) has not begun; waiting/)
  const job = await pop(server.call)
  assert.ok(job !== null)
  await program.says(/runs at worker-1/)
  await server.call(submitBuild, { body: aResult(job) })

  assert.equal(await program.ended, 0)
  assert.equal(program.said.out, 'the log\n')
  assert.match(program.said.err, /GOOD, build 1/)
})

test('a job that begins and ends between two looks shows its log; waiting for one ends with Ctrl-C', async (t) => {
  const server = await startServer(t)
  await importPackages(server.call, [aPackage()])
  const args = ['ctl', 'pkgs', 'log', '--follow', 'hello', '-H', server.address]
  const [patient, other] = [await running(t, args), await running(t, args)]
  await Promise.all([patient.says(/waiting/), other.says(/waiting/)])

  other.stop()
  const code = await other.ended
  const job = await pop(server.call)
  assert.ok(job !== null)
  await server.call(submitBuild, { body: aResult(job) })

  assert.equal(code, 130)
  assert.equal(await patient.ended, 0)
  assert.equal(patient.said.out, 'the log\n')
})

test('a package that is tried again later shows the log it has at once', async (t) => {
  const server = await startServer(t)
  const job = await aRunningJob(server)
  await server.call(submitBuild, { body: aResult(job, { status: 'FAIL', reason: 'build_failed' }) })
  const args = ['ctl', 'pkgs', 'log', '-f', 'hello', '-H', server.address]

  const { stdout, stderr, code } = await runProgram(args, { home: await temporaryFolder(t) })

  assert.deepEqual([stdout, stderr, code], ['the log\n', '', 0])
})

test('a package that is not being built shows the log it has', async (t) => {
  const server = await startServer(t)
  const job = await aRunningJob(server)
  await server.call(submitBuild, { body: aResult(job) })
  const home = await temporaryFolder(t)

  const { stdout, code } = await runProgram(['ctl', 'pkgs', 'log', '-f', 'hello', '-H', server.address], {
    home,
  })

  assert.deepEqual([stdout, code], ['the log\n', 0])
})

test('queue watch prints what happens, and again from an event on', async (t) => {
  const server = await startServer(t)
  const program = await running(t, ['ctl', 'queue', 'watch', '--json', '--after', '0', '-H', server.address])
  const job = await aRunningJob(server)
  await server.call(submitBuild, { body: aResult(job, { status: 'FAIL', reason: 'build_failed' }) })

  await program.says(/"verdict"/)
  program.stop()

  assert.equal(await program.ended, 130)
  const events = program.said.out
    .trim()
    .split('\n')
    .map(
      (line) => JSON.parse(line) as { id: number; kind: string; data: { status?: string; change?: string } },
    )
  assert.deepEqual(
    events.map(({ kind, data }) => `${kind} ${data.change ?? data.status ?? ''}`),
    ['queue added', 'queue started', 'verdict FAIL'],
  )
  const second = events[1]?.id ?? 0
  const later = await running(t, ['ctl', 'queue', 'watch', '--after', String(second), '-H', server.address])
  await later.says(/FAIL {2}hello 1\.0-1 \(debian, sid, amd64\) build_failed/)
  assert.doesNotMatch(later.said.out, /started/)
})

/** Another distribution has its only package rebuilt. */
async function theLastJob({ call }: TestServer): Promise<void> {
  const [distribution, architecture] = ['archlinux', 'x86_64']
  await importPackages(call, [aPackage({ name: 'last' })], { distribution, release: null, architecture })
  const wants = { supported_backends: [distribution], architecture, supported_architectures: [architecture] }
  const given = await call(popQueue, { body: wants })
  assert.ok(given !== 'Nothing')
  await call(submitBuild, { body: aResult(given.Rebuild) })
}

test('queue watch leaves out other distributions and kinds', async (t) => {
  const server = await startServer(t)
  const job = await aRunningJob(server)
  await server.call(submitBuild, { body: aResult(job) })
  await theLastJob(server)
  const watch = ['ctl', 'queue', 'watch', '--after', '0', '-H', server.address]
  const [others, queue] = [
    await running(t, [...watch, '--distro', 'archlinux']),
    await running(t, [...watch, '--kind', 'queue']),
  ]

  await Promise.all([others.says(/GOOD {2}last/), queue.says(/started: last/)]) // events come in their order

  assert.match(queue.said.out, /1 job started: hello 1\.0-1 \(debian, sid, amd64\)/)
  assert.doesNotMatch(queue.said.out, /GOOD/)
  assert.doesNotMatch(others.said.out, /hello/)
})

test('a followed log cannot command a terminal, not even in pieces', () => {
  let shown = ''
  const context = { isTerminal: true, colours: false, write: (text: string) => (shown += text) }
  const screen = openScreen(context as unknown as Context) // all that a screen needs of it

  for (const piece of ['red \u001b', '[31mtext\u001b[0m\nnext\r', '\n\u001b]0;title\u0007', ' open'])
    screen.show(piece)
  screen.close()

  assert.equal(shown, 'red text\nnext\n\\x1b]0;title\\x07 open')
})

test('a line that never ends is shown all the same', () => {
  let shown = ''
  const context = { isTerminal: true, colours: false, write: (text: string) => (shown += text) }
  const screen = openScreen(context as unknown as Context)

  screen.show('x'.repeat(10_000))

  assert.equal(shown.length, 10_000)
})

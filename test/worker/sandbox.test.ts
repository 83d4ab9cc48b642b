import assert from 'node:assert/strict'
import { execFile, spawn } from 'node:child_process'
import { once } from 'node:events'
import { chmod, mkdir, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { runProcess } from '../../src/worker/process.ts'
import { findUserNamespace, removeFolder } from '../../src/worker/sandbox.ts'
import { aFolder, sandbox } from '../help/debs.ts'
import { leftovers } from '../help/machine.ts'

const run = promisify(execFile)
const kind = await findUserNamespace(sandbox, AbortSignal.timeout(60_000))
const skip = kind === null ? 'this machine does not let us make namespaces' : false

/** Runs shell lines in a sandbox: what they print and how they end. */
async function inside(options: string[], lines: string): Promise<{ text: string; code: number }> {
  const command = [sandbox, '--user-namespace', kind ?? 'none', ...options, '--', '/bin/bash', '-c', lines]
  try {
    const { stdout, stderr } = await run('perl', command)
    return { text: stdout + stderr, code: 0 }
  } catch (error) {
    const { stdout, stderr, code } = error as { stdout: string; stderr: string; code: number } // what execFile rejects with
    return { text: stdout + stderr, code }
  }
}

test('a command ends as it would outside', { skip }, async () => {
  const ended = await inside([], 'echo out; exit 42')

  assert.deepEqual(ended, { text: 'out\n', code: 42 })
})

test(
  'folders and files are seen where they were asked for, with blanks in their names',
  { skip },
  async (t) => {
    const folder = join(await aFolder(t), 'a b\\c')
    await mkdir(folder)
    await writeFile(join(folder, 'x'), 'x\n')

    const read = await inside(
      ['--read', folder, '/one/two three'],
      'cat "/one/two three/x"; echo y > "/one/two three/x"',
    )
    const written = await inside(['--bind', folder, folder], `cd '${folder}'; echo y > x; cat x`)
    const file = await inside(
      ['--read', join(folder, 'x'), '/etc/hostname'],
      'cat /etc/hostname; echo z > /etc/hostname',
    )

    assert.match(read.text, /^x\n.*Read-only file system/)
    assert.equal(written.text, 'y\n')
    assert.match(file.text, /^y\n.*Read-only file system/)
    assert.equal(await readFile(join(folder, 'x'), 'utf8'), 'y\n')
  },
)

for (const target of ['/mnt', '/mnt/data/worker', '/build', '/srv/x']) {
  test(
    `a folder can be shown at ${target}, and nothing else of this machine is there`,
    { skip },
    async (t) => {
      const folder = await aFolder(t)
      await mkdir(join(folder, 'shown'))
      await writeFile(join(folder, 'shown/x'), 'x\n')
      await writeFile(join(folder, 'not-shown'), 'y\n')

      const options = ['--bind', join(folder, 'shown'), target, '--user', '1234', '--directory', target]
      const { text } = await inside(
        options,
        'ls; ls -d /*; find / -path /proc -prune -o -name not-shown -print 2>&1',
      )

      assert.match(text, /^x\n\/bin\n/)
      assert.doesNotMatch(text, /not-shown|outside/)
    },
  )
}

test('nothing is shown where the rest of this machine is while a sandbox is made', { skip }, async (t) => {
  const folder = await aFolder(t)
  for (const target of ['/:outside:', '/:outside:/x', '/a/../:outside:', 'x'])
    assert.equal((await inside(['--bind', folder, target], 'true')).code, 125, target)
})

test('the builder is an ordinary user who can gain nothing', { skip }, async () => {
  const { text } = await inside(
    ['--user', '1234'],
    'id -u; grep CapEff /proc/self/status; grep NoNewPrivs /proc/self/status; mount -t tmpfs x /tmp; touch /usr/x',
  )

  assert.match(text, /^1234\nCapEff:\t0+\nNoNewPrivs:\t1\n/)
  assert.match(text, /mount: .*(permission denied|must be superuser)/)
  assert.match(text, /touch: .*Read-only file system/)
})

/** Whether a set of capabilities as in proc_pid_status(5) has one of these (linux/capability.h). */
function has(set: string, bits: readonly number[]): boolean[] {
  return bits.map((bit) => ((BigInt(`0x${set}`) >> BigInt(bit)) & 1n) === 1n)
}

test(
  'root of this machine keeps what makes build roots, and nothing that reaches beyond',
  { skip: skip || (kind === 'none' ? false : 'needs root') },
  async () => {
    const shown =
      'grep -E "^Cap(Eff|Bnd)" /proc/self/status; mkdir /tmp/x; mount -t tmpfs x /tmp/x; mknod /tmp/null c 1 3'
    const { text, code } = await inside([], shown)
    const [, effective = '', bounds = ''] = /^CapEff:\t(\w+)\nCapBnd:\t(\w+)\n$/.exec(text) ?? []
    const [dacReadSearch, sysModule, sysRawio, sysPtrace, sysBoot, sysTime, syslog] = [
      2, 16, 17, 19, 22, 25, 34,
    ]
    const beyond = [dacReadSearch, sysModule, sysRawio, sysPtrace, sysBoot, sysTime, syslog]
    const [sysChroot, sysAdmin, mknod] = [18, 21, 27]

    assert.equal(code, 0, text)
    for (const set of [effective, bounds]) {
      assert.deepEqual(
        has(set, beyond),
        beyond.map(() => false),
      )
      assert.deepEqual(has(set, [sysChroot, sysAdmin, mknod]), [true, true, true])
    }
  },
)

test('only the loopback interface is there, and it works', { skip }, async () => {
  const { text } = await inside([], 'tail -n +3 /proc/net/dev | cut -d: -f1; exec 3<>/dev/tcp/127.0.0.1/9')

  assert.match(text, /^ *lo\n[\s\S]*Connection refused/)
})

test('a hidden folder below the system looks empty, the system itself stays', { skip }, async () => {
  const { text } = await inside(['--hide', '/etc/apt', '--hide', '/usr'], 'ls -A /etc/apt; ls -d /usr/bin')

  assert.equal(text, '/usr/bin\n')
})

test('what cannot be set up ends with 125 and starts nothing', { skip }, async () => {
  const nowhere = await inside(['--read', '/nonexistent', '/x'], 'echo started')
  const unknown = await inside(['--colour'], 'echo started')

  assert.equal(nowhere.code, 125)
  assert.equal(unknown.code, 125)
  assert.doesNotMatch(nowhere.text + unknown.text, /started/)
})

test('a folder is removed even if a build took all rights from it', async (t) => {
  const folder = await aFolder(t)
  await mkdir(join(folder, 'gone/deep/er'), { recursive: true })
  await writeFile(join(folder, 'gone/deep/er/file'), '')
  await chmod(join(folder, 'gone/deep'), 0)

  await removeFolder(join(folder, 'gone'))

  assert.deepEqual(leftovers(folder).entries, [])
})

test('a folder is removed even if a build nested it deeper than paths may be, or made very many files', async (t) => {
  const folder = await aFolder(t)
  const lines = `mkdir gone; cd gone; seq 20000 | xargs touch
    perl -e 'for (1 .. 1000) { mkdir "nested" and chdir "nested" or die }'`
  await run('/bin/sh', ['-c', lines], { cwd: folder })

  await removeFolder(join(folder, 'gone'))

  assert.deepEqual(leftovers(folder).entries, [])
})

test('a build dies with the worker, even when that is killed', { skip }, async (t) => {
  const folder = await aFolder(t)
  const module = (name: string) => fileURLToPath(new URL(`../../src/worker/${name}.ts`, import.meta.url))
  await writeFile(
    join(folder, 'worker.ts'),
    `import { runProcess } from '${module('process')}'
     const command = ['perl', '${sandbox}', '--user-namespace', '${kind}', '--', '/bin/bash', '-c', 'echo up; setsid sleep 8765432 & sleep 8765432']
     await runProcess({ command, directory: '/', environment: { PATH: process.env.PATH }, timeoutSeconds: 60, maxLogBytes: null, onLog: () => console.log('up'), signal: new AbortController().signal })`,
  )
  const worker = spawn(process.execPath, [join(folder, 'worker.ts')], {
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  await once(worker.stdout, 'data')

  worker.kill('SIGKILL')
  await once(worker, 'exit')
  for (let round = 0; round < 100 && leftovers('8765432').processes.length > 0; round++) await sleep(50)

  assert.deepEqual(leftovers('8765432').processes, [])
})

test('a program of which only the output counts is stopped once that is full', async () => {
  const result = await runProcess({
    command: ['/bin/sh', '-c', 'yes; sleep 60'],
    directory: '/',
    environment: { PATH: process.env['PATH'] ?? '' },
    timeoutSeconds: 30,
    maxLogBytes: 10,
    stopWhenFull: true,
    signal: AbortSignal.timeout(60_000),
  })

  assert.equal(
    Buffer.from(result.log).toString(),
    'y\ny\ny\ny\ny\n\n\nTRUNCATED DUE TO SIZE LIMIT: 10 bytes\n\n',
  )
  assert.equal(result.killedBy, 'SIGTERM')
  assert.equal(result.timedOut, false)
  assert.ok(result.seconds < 20)
})

test('one that does not end when it is asked to is killed, long before its time is over', async () => {
  const result = await runProcess({
    command: ['/bin/sh', '-c', "trap '' TERM; echo too much output; while :; do sleep 1; done"],
    directory: '/',
    environment: { PATH: process.env['PATH'] ?? '' },
    timeoutSeconds: 300,
    graceSeconds: 0.2,
    maxLogBytes: 10,
    stopWhenFull: true,
    signal: AbortSignal.timeout(60_000),
  })

  assert.deepEqual([result.killedBy, result.timedOut], ['SIGKILL', false])
})

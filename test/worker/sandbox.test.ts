import assert from 'node:assert/strict'
import { execFile, spawn } from 'node:child_process'
import { randomUUID } from 'node:crypto'
import { once } from 'node:events'
import { existsSync, writeFileSync } from 'node:fs'
import { chmod, mkdir, readFile, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test, type TestContext } from 'node:test'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { runProcess, type ProcessResult } from '../../src/worker/process.ts'
import { findUserNamespace, removeFolder, type SandboxPlan } from '../../src/worker/sandbox.ts'
import { aFolder, sandbox } from '../help/debs.ts'
import { contentOf, forEver, kill, leftovers, processesWith } from '../help/machine.ts'
import { patienceMilliseconds, patienceSeconds, until, untilThere } from '../help/until.ts'

const run = promisify(execFile)
const kind = await findUserNamespace(sandbox, new AbortController().signal)
const skip = kind === null ? 'this machine does not let us make namespaces' : false

function aPlan(): SandboxPlan {
  const places = { writable: [], temporary: tmpdir(), readable: [], hidden: [], directory: '/' }
  return { script: sandbox, userNamespace: kind ?? 'none', ...places, network: false, processes: null }
}

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
     const sandbox = ${JSON.stringify(aPlan())}
     const command = ['/bin/bash', '-c', 'echo up; setsid sleep ${forEver} & sleep ${forEver}']
     await runProcess({ command, sandbox, directory: '/', environment: { PATH: process.env.PATH }, timeoutSeconds: ${patienceSeconds}, maxLogBytes: null, onLog: () => console.log('up'), signal: new AbortController().signal })`,
  )
  const worker = spawn(process.execPath, [join(folder, 'worker.ts')], {
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  await once(worker.stdout, 'data')

  worker.kill('SIGKILL')
  await once(worker, 'exit')

  await until(() => processesWith(forEver).length === 0, 'the end of the build')
})

/** Runs shell lines in a sandbox as the worker does it. */
function viaWorker(
  lines: string,
  { plan = {}, onLog }: { plan?: Partial<SandboxPlan>; onLog?: () => void } = {},
): Promise<ProcessResult> {
  return runProcess({
    command: ['/bin/bash', '-c', lines],
    sandbox: { ...aPlan(), ...plan },
    directory: '/',
    environment: { PATH: process.env['PATH'] ?? '' },
    timeoutSeconds: patienceSeconds,
    maxLogBytes: null,
    onLog,
    signal: AbortSignal.timeout(patienceMilliseconds),
  })
}

/** Processes that were started by this one, or another, to make sandboxes. */
function makers(parent: number): number[] {
  return processesWith('rebuilderd-sandboxes')
    .filter((id) => contentOf(`/proc/${id}/status`).split('\n').includes(`PPid:\t${parent}`))
    .map(Number)
}

test(
  'a sandbox ends with the process that makes them, and the next one is made by another',
  { skip },
  async () => {
    const killMakers = (): void => makers(process.pid).forEach(kill)
    const killed = await viaWorker(`echo up; setsid sleep ${forEver} & sleep ${forEver}`, {
      onLog: killMakers,
    })
    await until(() => processesWith(forEver).length === 0, 'the end of the sandbox')
    const next = await viaWorker('echo "$$"; exit 7')

    assert.deepEqual([killed.exitCode, killed.killedBy], [null, 'SIGKILL'])
    assert.equal(next.exitCode, 7)
    assert.equal(makers(process.pid).length, 1)
  },
)

/** Ids of sandboxes, once there is one: those that are used, and one that waits for its job. */
function sandboxes(): Promise<number[]> {
  return until(() => {
    const found = makers(process.pid).flatMap(makers)
    return found.length > 0 && found
  }, 'a sandbox')
}

test('a sandbox that was made ahead is used, or another one where it was killed', { skip }, async (t) => {
  const folder = await aFolder(t)
  const use = async (): Promise<{ ahead: number[]; used: number[] }> => {
    await viaWorker('true')
    const ahead = await sandboxes()
    const seen = join(folder, randomUUID())
    const used = Promise.withResolvers<number[]>()
    await viaWorker(`echo up; ${untilThere(seen)}`, {
      plan: { readable: [folder] },
      onLog() {
        used.resolve(makers(process.pid).flatMap(makers))
        writeFileSync(seen, '')
      },
    })
    return { ahead, used: await used.promise }
  }
  let { ahead, used } = await use()
  for (let time = 0; time < 50 && used[0] !== ahead[0]; time++) ({ ahead, used } = await use()) // others may mount something
  ;(await sandboxes()).forEach(kill)
  const next = await viaWorker('exit 7')

  assert.equal(used[0], ahead[0]) // the others, if any, are helpers that name the ids of one
  assert.equal(next.exitCode, 7)
})

test(
  'nothing is open in a sandbox but its input and its output, whatever other sandboxes there are or were',
  { skip },
  async () => {
    const lines = 'for p in 1 $$; do (cd /proc/$p/fd; echo *); done; readlink /proc/$$/fd/0'
    const before = await viaWorker('true')
    const beside = viaWorker('sleep 0.5')
    const [first, second] = await Promise.all([viaWorker(lines), viaWorker(lines)])
    await beside

    assert.equal(before.exitCode, 0)
    for (const { log } of [first, second])
      assert.match(Buffer.from(log).toString(), /^\*\n0 1 2\n\/dev\/null\n$/)
  },
)

test(
  'keys that the worker has from its session are out of reach',
  { skip: process.arch === 'x64' ? skip : 'the numbers of its system calls are others' },
  async () => {
    const [addKey, keyctl, joinSession, search, session] = [248, 250, 1, 10, -3]
    const key = 'my ($type, $name, $text) = qw(user of-the-worker x)'
    const find = `${key}; print syscall(${keyctl}, ${search}, ${session}, $type, $name, 0) > 0 ? "found " : "none "`
    const add = `${key}; syscall(${addKey}, $type, $name, $text, 1, ${session})`
    const lines = `syscall(${keyctl}, ${joinSession}, 0); { ${add} } { ${find} } exec @ARGV`
    const given = [sandbox, '--user-namespace', kind ?? 'none', '--', 'perl', '-e', find]
    const { stdout } = await run('perl', ['-e', `$| = 1; ${lines}`, 'perl', ...given])

    assert.equal(stdout, 'found none ')
  },
)

test(
  'what is mounted between two sandboxes is seen in the second',
  { skip: skip || (kind === 'none' ? false : 'needs root') },
  async (t) => {
    const folder = await aFolder(t)
    const plan = { readable: [folder] }
    await viaWorker('true', { plan })
    await sandboxes() // the next one is made
    await run('mount', ['-t', 'tmpfs', 'tmpfs', folder])
    try {
      await writeFile(join(folder, 'x'), 'new\n')
      const { log } = await viaWorker(`cat ${folder}/x`, { plan })

      assert.equal(Buffer.from(log).toString(), 'new\n')
    } finally {
      await run('umount', [folder])
    }
  },
)

test('what cannot be put into a sandbox says why', { skip }, async () => {
  const run = (directory: string, argument: string): Promise<ProcessResult> =>
    runProcess({
      command: ['/bin/true', argument],
      sandbox: aPlan(),
      directory,
      environment: {},
      timeoutSeconds: patienceSeconds,
      maxLogBytes: null,
      signal: AbortSignal.timeout(patienceMilliseconds),
    })

  await assert.rejects(run('/nowhere', ''), /no sandbox could be made: \/nowhere: No such file or directory/)
  await assert.rejects(run('/', 'a\0b'), /NUL/)
})

test('a program of which only the output counts is stopped once that is full', async () => {
  const result = await runProcess({
    command: ['/bin/sh', '-c', `yes; sleep ${forEver}`],
    directory: '/',
    environment: { PATH: process.env['PATH'] ?? '' },
    timeoutSeconds: patienceSeconds,
    graceSeconds: patienceSeconds,
    maxLogBytes: 10,
    stopWhenFull: true,
    signal: AbortSignal.timeout(patienceMilliseconds),
  })

  assert.equal(
    Buffer.from(result.log).toString(),
    'y\ny\ny\ny\ny\n\n\nTRUNCATED DUE TO SIZE LIMIT: 10 bytes\n\n',
  )
  assert.equal(result.killedBy, 'SIGTERM')
  assert.equal(result.timedOut, false)
})

test('one that does not end when it is asked to is killed, long before its time is over', async () => {
  const result = await runProcess({
    command: ['/bin/sh', '-c', "trap '' TERM; echo too much output; while :; do sleep 1; done"],
    directory: '/',
    environment: { PATH: process.env['PATH'] ?? '' },
    timeoutSeconds: patienceSeconds,
    graceSeconds: 0.2,
    maxLogBytes: 10,
    stopWhenFull: true,
    signal: AbortSignal.timeout(patienceMilliseconds),
  })

  assert.deepEqual([result.killedBy, result.timedOut], ['SIGKILL', false])
})

/** The numbers of system calls that sandbox.pl knows, by the kind of machine. */
async function knownCalls(): Promise<Map<string, Map<string, number>>> {
  const script = await readFile(sandbox, 'utf8')
  const tables = [...script.matchAll(/^ {2}\d+ => \{ # ([\w-]+)\n([^}]*)\}/gm)]
  return new Map(
    tables.map(([, machine = '', lines = '']) => [
      machine,
      new Map([...lines.matchAll(/(\w+) => (\d+)/g)].map(([, name = '', number]) => [name, Number(number)])),
    ]),
  )
}

for (const [machine, headers] of [
  [
    'x86-64',
    ['/usr/include/x86_64-linux-gnu/asm/unistd_64.h', '/usr/x86_64-linux-gnu/include/asm/unistd_64.h'],
  ],
  ['aarch64', ['/usr/include/asm-generic/unistd.h']], // which is all that its asm/unistd.h names
] as const) {
  const header = headers.find((path) => existsSync(path))
  const without = header === undefined ? 'no headers of the kernel are installed (linux-libc-dev)' : false
  test(
    `system calls have the numbers that the kernel's headers name for ${machine}`,
    { skip: without },
    async () => {
      const text = await readFile(header ?? '', 'utf8')
      const named = [...text.matchAll(/^#define __NR(?:3264)?_(\w+)\s+(\d+)/gm)]
      const numbers = new Map(named.map(([, name, number]) => [name, Number(number)]))
      const known = (await knownCalls()).get(machine) ?? new Map<string, number>()

      assert.ok(known.size > 10)
      for (const [name, number] of known) assert.equal(number, numbers.get(name), name)
    },
  )
}

/** Runs shell lines in a sandbox of a kernel that lacks a system call: nobody has the number 4000. */
async function insideWithout(
  t: TestContext,
  call: string,
  options: string[],
  lines: string,
): Promise<string> {
  const script = join(await aFolder(t), 'sandbox.pl')
  const text = (await readFile(sandbox, 'utf8')).replaceAll(
    new RegExp(`(\\b${call} => )\\d+(?=[, ])`, 'g'),
    '$14000',
  )
  await writeFile(script, text)
  const command = [script, '--user-namespace', kind ?? 'none', ...options, '--', '/bin/sh', '-c', lines]
  const { stdout, stderr } = await run('perl', command).catch((error: unknown) => {
    const ended = error as { stdout: string; stderr: string; code: number } // what execFile rejects with
    assert.equal(ended.code, 125, ended.stderr)
    return ended
  })
  return stdout + stderr
}

test('a kernel without mount_setattr keeps everything read-only all the same', { skip }, async (t) => {
  const folder = await aFolder(t)
  await mkdir(join(folder, 'a b'))

  const said = await insideWithout(
    t,
    'mount_setattr',
    ['--read', folder, '/shown', '--read', folder, '/tmp/also shown', '--bind', folder, '/mine'],
    'for f in /usr/x /etc/x "/shown/a b/x" "/tmp/also shown/x"; do touch "$f"; done; touch /mine/x; echo end; ls /mine',
  )

  assert.equal(said.match(/Read-only file system/g)?.length, 4, said)
  assert.match(said, /^end\na b\nx\n/m)
})

test('a kernel without any other call starts nothing, or nothing that could do more', { skip }, async (t) => {
  const calls = [...((await knownCalls()).get('x86-64')?.keys() ?? [])]
  const lines =
    'echo started; grep -E "^(CapEff|NoNewPrivs)" /proc/self/status; tail -n +3 /proc/net/dev; touch /usr/x; ls /'
  const options = ['--user', '1234', '--processes', '99']
  for (const call of calls.filter((name) => name !== 'mount_setattr')) {
    const said = await insideWithout(t, call, options, lines)

    if (!said.includes('started')) assert.match(said, /^sandbox: /, call)
    else {
      assert.match(said, /^CapEff:\t0+\nNoNewPrivs:\t1\n *lo: .*\n/m, call)
      assert.match(said, /Read-only file system/, call)
      assert.doesNotMatch(said, /outside/, call)
    }
  }
})

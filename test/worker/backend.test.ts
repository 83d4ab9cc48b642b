import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import { chmod, lstat, mkdir, mkdtemp, readFile, readdir, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { test, type TestContext } from 'node:test'
import { defaultLimits, runBackend, type BackendResult, type BackendRun } from '../../src/worker/backend.ts'
import { openControlGroup } from '../../src/worker/cgroup.ts'
import { Complaint } from '../../src/errors.ts'
import { aFolder } from '../help/debs.ts'
import { clean, killWith, leftovers, forEver } from '../help/machine.ts'
import { patienceSeconds, withinLimit } from '../help/until.ts'

const skip = isolates() ? false : 'this machine does not let us make namespaces'
const mebibyte = 1024 * 1024
const boundless = (await limitsMemory()) ? false : 'this machine does not let us limit memory'

function isolates(): boolean {
  try {
    execFileSync('unshare', ['--user', '--map-root-user', '--mount', 'true'], { stdio: 'ignore' })
    return true
  } catch {
    return false
  }
}

async function limitsMemory(): Promise<boolean> {
  const group = await openControlGroup(defaultLimits)
  await group.remove()
  return group.limited.memory
}

type Tried = { result: BackendResult; text: string; directory: string; originals: string; script: string }

/** Runs a script as somebody else's backend; an original lies where workers keep them. */
async function attempt(t: TestContext, lines: string, more: Partial<BackendRun> = {}): Promise<Tried> {
  const folder = await aFolder(t)
  const [directory, originals, script] = [
    join(folder, 'job'),
    join(folder, 'originals'),
    join(folder, 'backend.sh'),
  ]
  for (const path of [directory, originals]) await mkdir(path, { mode: 0o700 })
  await writeFile(join(originals, 'tiny.deb'), 'the original')
  await writeFile(join(originals, 'tiny.buildinfo'), 'the input\n')
  await writeFile(script, `#!/bin/bash\n${lines}\n`)
  await chmod(script, 0o755)
  const result = await runBackend({
    backend: { name: 'tiny', path: script, options: {} },
    input: join(originals, 'tiny.buildinfo'),
    directory,
    job: {
      name: 'tiny',
      version: '1.0-1',
      distribution: 'debian',
      release: 'trixie',
      architecture: 'amd64',
      inputUrl: 'http://mirror.example/tiny.buildinfo',
      artifacts: ['tiny.deb', 'tiny-doc.deb'],
    },
    cache: join(folder, 'cache'),
    timeoutSeconds: patienceSeconds,
    maxLogBytes: null,
    silent: true,
    isolation: 'auto',
    signal: AbortSignal.timeout(2 * patienceSeconds * 1000),
    ...more,
  })
  await result.tidy()
  return { result, text: Buffer.from(result.log).toString(), directory, originals, script }
}

test('a script gets its input as the only argument and leaves its outputs in the output folder', async (t) => {
  const { result, text, script, directory } = await attempt(
    t,
    'echo "$#"; cat "$1"; echo made > "$REBUILDERD_OUTDIR/tiny.deb"',
  )

  assert.equal(result.exitCode, 0)
  assert.equal(text, '1\nthe input\n')
  assert.equal(await readFile(join(result.outdir, 'tiny.deb'), 'utf8'), 'made\n')
  assert.equal(
    result.digest,
    createHash('sha256')
      .update(await readFile(script))
      .digest('hex'),
  )
  assert.deepEqual(leftovers(directory), clean)
})

test('a script learns the job and its own settings, and none of the secrets of the worker', async (t) => {
  process.env['REBUILDERD_SIGNUP_SECRET'] = 'hush'
  process.env['AWS_SECRET_ACCESS_KEY'] = 'hush'
  t.after(() => {
    delete process.env['REBUILDERD_SIGNUP_SECRET']
    delete process.env['AWS_SECRET_ACCESS_KEY']
  })
  const folder = await aFolder(t)
  const options = { sources: ['deb one', 'deb two'], 'present-toolchain': true, jobs: 2 }
  await writeFile(join(folder, 'b.sh'), '#!/bin/sh\nenv')
  await chmod(join(folder, 'b.sh'), 0o755)

  const { text } = await attempt(t, '', { backend: { name: 'tiny', path: join(folder, 'b.sh'), options } })

  assert.match(text, /^REBUILDERD_NAME=tiny$/m)
  assert.match(text, /^REBUILDERD_RELEASE=trixie$/m)
  assert.match(text, /^REBUILDERD_ARTIFACTS=tiny\.deb\ntiny-doc\.deb$/m)
  assert.match(text, /^REBUILDERD_BACKEND_SOURCES=deb one\ndeb two$/m)
  assert.match(text, /^REBUILDERD_BACKEND_PRESENT_TOOLCHAIN=true$/m)
  assert.doesNotMatch(text, /hush/)
})

test('what a script tells is read, checked, and never followed through a link', async (t) => {
  const tell = (text: string) => `printf %s '${text}' > "$REBUILDERD_RESULT"; exit 3`
  const good = await attempt(
    t,
    tell('{"reason":"environment_unavailable","note":"gone","missing":["gcc-12=12.2.0-13"],"more":1}'),
  )
  const bad = await attempt(t, tell('{"reason":"made_up"}'))
  const link = await attempt(t, 'echo "{}" > x; ln -s "$PWD/x" "$REBUILDERD_RESULT"')

  assert.deepEqual(good.result.told, {
    reason: 'environment_unavailable',
    note: 'gone',
    environment: [],
    missing: ['gcc-12=12.2.0-13'],
    presentToolchain: false,
  })
  assert.equal(good.result.exitCode, 3)
  assert.equal(bad.result.told, null)
  assert.equal(link.result.told, null)
})

test('the original is nowhere to be found during the build', { skip }, async (t) => {
  const hunt = String.raw`cat "$(dirname "$0")/originals/tiny.deb"; find / \( -path /usr -o -path /opt -o -path /proc \) -prune -o -name tiny.deb -print 2>/dev/null; exit 0`

  const { text, result, originals } = await attempt(t, hunt)

  assert.equal(result.isolation, 'namespaces')
  assert.equal(text, `cat: ${originals}/tiny.deb: No such file or directory\n`)
})

test(
  'a link to the original leads nowhere while it is made, and is seen as a link afterwards',
  { skip },
  async (t) => {
    const { result, originals, text } = await attempt(
      t,
      'o=$(dirname "$0")/originals/tiny.deb; ln -s "$o" "$REBUILDERD_OUTDIR/tiny.deb"; ln "$o" "$REBUILDERD_OUTDIR/hard.deb"; cat "$REBUILDERD_OUTDIR/tiny.deb"',
    )

    assert.match(text, /No such file/)
    assert.ok((await lstat(join(result.outdir, 'tiny.deb'))).isSymbolicLink())
    assert.deepEqual(await readdir(result.outdir), ['tiny.deb'])
    assert.equal(await readFile(join(originals, 'tiny.deb'), 'utf8'), 'the original')
  },
)

test('what is written outside the output folder is gone or refused', { skip }, async (t) => {
  const { text, result, directory } = await attempt(
    t,
    'for f in /usr/x /etc/x /root/x /x /tmp/x /var/tmp/x "$HOME/x" "$(dirname "$0")/x"; do echo x > "$f" && echo "wrote $f"; done; exit 0',
  )

  assert.equal(result.exitCode, 0)
  assert.doesNotMatch(text, /wrote \/(usr|etc)/)
  for (const path of ['/usr/x', '/etc/x', '/root/x', '/x', join(directory, '../x')]) {
    await assert.rejects(lstat(path), path)
  }
  assert.deepEqual(leftovers(directory), clean)
})

test('a build that deletes everything it can reach harms only itself', { skip }, async (t) => {
  const { originals, directory, result } = await attempt(
    t,
    'rm -rf "$REBUILDERD_OUTDIR"/* "$HOME" "$PWD"/* /tmp/*; rm -rf --no-preserve-root --one-file-system / 2>/dev/null; exit 1',
    { isolation: 'require' }, // this machine is precious
  )

  assert.notEqual(result.exitCode, 0)
  assert.deepEqual(await readdir(originals), ['tiny.buildinfo', 'tiny.deb'])
  assert.equal(execFileSync('/bin/sh', ['-c', 'echo well'], { encoding: 'utf8' }), 'well\n')
  assert.deepEqual(leftovers(directory).processes, [])
})

for (const [name, lines] of [
  ['a child that stays and keeps the output open', `sleep ${forEver} & echo left`],
  [
    'a child that leaves the session twice over',
    `(setsid sh -c "setsid sleep ${forEver} & sleep ${forEver}" &) ; sleep 0.2; echo left`,
  ],
  ['a script that closes its output early', 'echo left; exec >&- 2>&-; sleep 0.5'],
] as const) {
  test(`${name} neither hangs us nor outlives the job`, async (t) => {
    const { text, directory, result } = await attempt(t, lines)

    assert.deepEqual([result.exitCode, result.timedOut], [0, false])
    assert.equal(text, 'left\n')
    assert.deepEqual(leftovers(directory), clean)
  })
}

test('a build over its time is asked to end, then killed, and the log says so', async (t) => {
  const lines = `trap "echo asked; exit 9" TERM; echo begun; sleep ${forEver} & wait`
  const { text, directory, result, timeoutSeconds } = await withinLimit(
    async (seconds) => ({
      ...(await attempt(t, lines, { timeoutSeconds: seconds })),
      timeoutSeconds: seconds,
    }),
    (tried) => tried.text.startsWith('begun'),
  )

  assert.ok(result.timedOut && result.logTruncated)
  assert.equal(text, `begun\n\n\nTRUNCATED DUE TO TIMEOUT: ${timeoutSeconds} seconds\n\n`)
  assert.deepEqual(leftovers(directory), clean)
})

test('three hundred megabytes of output are cut at its limit while the build goes on', async (t) => {
  const before = process.memoryUsage().rss
  const live: Uint8Array[] = []

  const { text, result } = await attempt(t, 'yes y | head -c 300000000; echo end >&2; exit 4', {
    maxLogBytes: mebibyte,
    onLog: (chunk) => live.push(chunk),
  })

  assert.equal(result.exitCode, 4)
  assert.equal(text, `${'y\n'.repeat(mebibyte / 2)}\n\nTRUNCATED DUE TO SIZE LIMIT: ${mebibyte} bytes\n\n`)
  assert.equal(Buffer.concat(live).toString(), text)
  assert.ok(process.memoryUsage().rss - before < 250 * mebibyte) // what came and is not freed yet may be half of it
})

test('both outputs are kept in the order of their arrival, with broken UTF-8 replaced', async (t) => {
  const { text } = await attempt(
    t,
    String.raw`for i in 1 2 3; do echo out $i; echo err $i >&2; done; printf '\303'; sleep 0.1; printf '\244 \377\n'`,
  )

  assert.equal(text, 'out 1\nerr 1\nout 2\nerr 2\nout 3\nerr 3\nä \ufffd\n')
})

test('an aborted job rejects with the reason and leaves nothing', async (t) => {
  const stop = new AbortController()
  const reason = new Error('the lease is lost')
  const tried = attempt(t, `echo begun; setsid sleep ${forEver}`, {
    signal: stop.signal,
    onLog: () => stop.abort(reason),
  })

  await assert.rejects(tried, reason)

  assert.deepEqual(leftovers(forEver).processes, [])
})

test('a fork bomb meets its limit and is gone afterwards', { skip }, async (t) => {
  // The sleeper first: there may be no room for it afterwards.
  const lines = `sleep ${forEver} & f() { f | f & }; f; wait`
  const { directory, result } = await withinLimit(
    (timeoutSeconds) => {
      const limits = { ...defaultLimits, processes: 64 }
      return attempt(t, lines, { timeoutSeconds, maxLogBytes: 1000, limits })
    },
    ({ text }) => text.includes('fork'), // bash says so of the limit
  )

  assert.ok(result.timedOut)
  assert.deepEqual(leftovers(directory), clean)
  assert.deepEqual(leftovers(forEver).processes, [])
})

test(
  'a build that wants too much memory is killed and the reason is told',
  { skip: boundless },
  async (t) => {
    const { result, directory } = await attempt(t, 'tail /dev/zero', {
      limits: { ...defaultLimits, memoryBytes: 128 * mebibyte },
    })

    assert.equal(result.told?.reason, 'too_large')
    assert.notEqual(result.exitCode, 0)
    assert.deepEqual(leftovers(directory), clean)
  },
)

const noOpt = skip || (process.getuid?.() === 0 ? false : 'needs root, to put a folder below /opt')

test(
  'what is hidden below a system folder is not seen, but what the build needs of it is',
  { skip: noOpt },
  async (t) => {
    const place = await mkdtemp('/opt/rebuilderd-test-')
    t.after(() => rm(place, { recursive: true, force: true }))
    const secret = join(place, 'worker.conf')
    await mkdir(join(place, 'worker'))
    await writeFile(secret, 'signup_secret = "hush"')
    await writeFile(join(place, 'worker/rebuilder.v2.key'), 'hush')
    const [job, cache] = [join(place, 'worker/job'), join(place, 'worker/cache')]
    await mkdir(job, { mode: 0o700 })
    const lines = `cat ${secret} ${place}/worker/*.key; ls ${place}/worker; echo made > "$REBUILDERD_OUTDIR/tiny.deb"`

    const { result, text } = await attempt(t, lines, {
      directory: job,
      cache,
      hidden: [join(place, 'worker'), secret, join(place, 'nothing there')],
    })

    assert.doesNotMatch(text, /hush/)
    assert.match(text, /^cache\njob$/m)
    assert.equal(result.exitCode, 0)
    assert.deepEqual(await readdir(result.outdir), ['tiny.deb'])
  },
)

test('a build that somebody kills from outside went over no limit', { skip }, async (t) => {
  const mark = `killed-from-outside-of-${process.pid}`
  // A process that starts another program has no name for a moment: this one starts none in its own place.
  const sleeper = `sh -c 'while echo up; do sleep 0.2; done' ${mark} &`
  const { result, directory } = await attempt(t, `${sleeper} wait $!; exit $?`, {
    onLog: () => killWith(mark),
  })

  assert.equal(result.timedOut, false)
  assert.equal(result.exitCode, 137)
  assert.equal(result.told, null)
  assert.deepEqual(leftovers(directory), clean)
})

test('a script that is not there is a complaint, and so is isolation that cannot be had', async (t) => {
  const nowhere = { name: 'tiny', path: '/nonexistent/backend.sh', options: {} }

  await assert.rejects(attempt(t, '', { backend: nowhere }), Complaint)
  await assert.rejects(attempt(t, '', { backend: { ...nowhere, path: 'built-in:debain' } }), {
    hint: 'did you mean debian?',
  })
})

test('without isolation the script runs as upstream runs it, and the result says so', async (t) => {
  const { result, directory } = await attempt(
    t,
    `setsid sleep ${forEver} & echo made > "$REBUILDERD_OUTDIR/tiny.deb"`,
    { isolation: 'off' },
  )

  assert.equal(result.isolation, 'none')
  assert.deepEqual(await readdir(result.outdir), ['tiny.deb'])
  assert.deepEqual(leftovers(directory), clean)
})

import { test } from 'node:test'
import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, readdirSync, rmSync, writeFileSync } from 'node:fs'
import { access, readdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { plainBytes } from '../../src/compression.ts'
import { silentLog } from '../../src/log.ts'
import { patience, runWorker } from '../../src/worker/loop.ts'
import { forgetHeld, lostReport, makeScratch } from '../../src/worker/scratch.ts'
import { openSpool } from '../../src/worker/spool.ts'
import { aFolder, aServer, aStandIn, files } from '../help/files.ts'
import { aJob, rebuildSettings, workerOptions } from '../help/jobs.ts'
import { forEver } from '../help/machine.ts'
import { until, untilThere } from '../help/until.ts'
import { anUpstream } from '../help/upstream.ts'

const mirror = { '/hello.buildinfo': 'Source: hello\n', '/hello.deb': 'good bytes' }
const good = 'printf "good bytes" > "$REBUILDERD_OUTDIR/hello.deb"'
const bytesOf = (given: unknown): Uint8Array => Uint8Array.from(given as number[])

test('a worker registers, takes a job and reports it as upstream expects', async (t) => {
  const upstream = await anUpstream(t)
  upstream.hand(aJob(await aServer(t, files(mirror))))
  const stop = new AbortController()
  const options = await workerOptions(t, upstream.base, await rebuildSettings(t, `echo hello; ${good}`), {
    signal: stop.signal,
    tags: ['big'],
  })

  const working = runWorker(options)
  await upstream.until('/builds')
  stop.abort()

  assert.equal(await working, 'stopped')
  const registration = upstream.seen.find(({ path }) => path === '/api/v1/workers')
  const pop = upstream.seen.find(({ path }) => path.endsWith('/pop'))
  assert.equal(registration?.path, '/api/v1/workers')
  assert.deepEqual(registration.body, { name: 'w1', tags: ['big'] })
  assert.equal(registration.headers['x-worker-key'], options.workerKey)
  assert.equal(registration.headers['x-signup-secret'], 'let me in')
  assert.deepEqual(pop?.body, {
    supported_backends: ['test'],
    architecture: 'x86_64',
    supported_architectures: ['amd64', 'all'],
  })
  const [report] = upstream.reports
  assert.equal(report?.queue_id, 1)
  assert.equal(report.status, 'GOOD')
  assert.equal(report.artifacts[0]?.name, 'hello')
  assert.match(report.built_at, /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?$/)
  assert.equal(Buffer.from(await plainBytes(bytesOf(report.build_log), 1000)).toString(), 'hello\n')
  assert.ok(upstream.seen.every(({ headers }) => headers['x-auth-cookie'] === undefined))
  assert.deepEqual(await readdir(join(options.directory, 'jobs')), [])
})

test('a job is pinged while it is worked on', async (t) => {
  const upstream = await anUpstream(t)
  upstream.hand(aJob(await aServer(t, files(mirror))))
  const enough = join(await aFolder(t), 'enough')
  const settings = await rebuildSettings(t, `${untilThere(enough)}; ${good}`)

  void runWorker(await workerOptions(t, upstream.base, settings, { pingMilliseconds: 50 }))
  await upstream.until('/api/v1/queue/1/ping', 2)
  await writeFile(enough, '')
  await upstream.until('/builds')

  assert.equal(upstream.reports[0]?.status, 'GOOD')
})

test('a ping that fails does not disturb the build', async (t) => {
  const upstream = await anUpstream(t, ({ path }) => (path.endsWith('/ping') ? 503 : undefined))
  upstream.hand(aJob(await aServer(t, files(mirror))))
  const failed = join(await aFolder(t), 'failed')
  const settings = await rebuildSettings(t, `${untilThere(failed)}; ${good}`)

  void runWorker(await workerOptions(t, upstream.base, settings, { pingMilliseconds: 50 }))
  await upstream.until('/ping')
  await writeFile(failed, '')
  await upstream.until('/builds')

  assert.equal(upstream.reports[0]?.status, 'GOOD')
})

test('a job that the server took away is stopped and not reported; the next one is taken', async (t) => {
  const upstream = await anUpstream(t, ({ path }) => (path.endsWith('/queue/1/ping') ? 404 : undefined))
  const first = aJob(await aServer(t, files(mirror)))
  upstream.hand(first)
  upstream.hand({ ...first, job: { ...first.job, version: '2-1' } })
  const settings = await rebuildSettings(
    t,
    `[ "$REBUILDERD_VERSION" = 2-1 ] || exec sleep ${forEver}; ${good}`,
  )

  void runWorker(await workerOptions(t, upstream.base, settings, { pingMilliseconds: 200 }))
  await upstream.until('/builds')

  assert.deepEqual(
    upstream.reports.map(({ queue_id }) => queue_id),
    [2],
  )
})

test('a result outlives a server that is away and a restart of the worker', async (t) => {
  let isAway = true
  const upstream = await anUpstream(t, ({ path }) => (isAway && path.endsWith('/builds') ? 503 : undefined))
  upstream.hand(aJob(await aServer(t, files(mirror))))
  const settings = await rebuildSettings(t, good)
  const directory = await aFolder(t)
  const stop = new AbortController()

  const first = runWorker(await workerOptions(t, upstream.base, settings, { directory, signal: stop.signal }))
  await upstream.until('/builds')
  stop.abort()
  await first
  isAway = false
  void runWorker(await workerOptions(t, upstream.base, settings, { directory }))
  await until(() => upstream.reports.length > 0, 'that the result arrives')

  assert.equal(upstream.reports[0]?.status, 'GOOD')
})

test('a result that neither the disk nor the server takes is held until one of them does', async (t) => {
  const directory = await aFolder(t)
  const folder = join(directory, 'spool')
  let refusals = 0
  const upstream = await anUpstream(t, ({ path }) => {
    if (path.endsWith('/builds')) return refusals++ < 1 ? 503 : undefined
    if (!path.endsWith('/pop')) return undefined
    for (const name of readdirSync(folder)) {
      rmSync(join(folder, name), { recursive: true })
      writeFileSync(join(folder, name), 'no folder')
    }
    return undefined
  })
  upstream.hand(aJob(await aServer(t, files(mirror))))

  void runWorker(await workerOptions(t, upstream.base, await rebuildSettings(t, good), { directory }))
  await until(() => upstream.reports.length > 0, 'that the result arrives')

  assert.equal(upstream.reports[0]?.status, 'GOOD')
})

test('told to stop, a worker finishes what it has and takes no more', async (t) => {
  const upstream = await anUpstream(t)
  const base = await aServer(t, files(mirror))
  upstream.hand(aJob(base))
  upstream.hand(aJob(base))
  const stop = new AbortController()
  const said: string[] = []
  const asked = join(await aFolder(t), 'asked')
  const settings = await rebuildSettings(t, `${untilThere(asked)}; ${good}`)
  const options = await workerOptions(t, upstream.base, settings, {
    log: { ...silentLog, info: (text) => said.push(text) },
    signal: stop.signal,
    drop: new AbortController().signal,
  })

  const working = runWorker(options)
  await until(() => said.some((line) => line.endsWith('begins')))
  stop.abort()
  await writeFile(asked, '')
  await working

  assert.ok(
    said.includes('worker: ends after the job at hand; asked once more, it hands it back'),
    said.join('\n'),
  )
  assert.equal(upstream.reports.length, 1)
  assert.equal(upstream.reports[0]?.status, 'GOOD')
})

test('told a second time, a worker drops its job and hands it back to a server that knows leases', async (t) => {
  const upstream = await anUpstream(t)
  upstream.hand(aJob(await aServer(t, files(mirror))), 'lease-1')
  const drop = new AbortController()
  const begun = join(await aFolder(t), 'begun')
  const settings = await rebuildSettings(t, `touch ${begun}; exec sleep ${forEver}`)
  const options = await workerOptions(t, upstream.base, settings, { signal: drop.signal, drop: drop.signal })

  const working = runWorker(options)
  await until(() => existsSync(begun))
  drop.abort()
  await working

  assert.deepEqual(
    upstream.reports.map(({ status, reason, lease }) => [status, reason, lease]),
    [['FAIL', 'worker_lost', 'lease-1']],
  )
})

test("a dropped job of upstream's server is not reported as a failure of the package", async (t) => {
  const upstream = await anUpstream(t)
  upstream.hand(aJob(await aServer(t, files(mirror))))
  const drop = new AbortController()
  const begun = join(await aFolder(t), 'begun')
  const settings = await rebuildSettings(t, `touch ${begun}; exec sleep ${forEver}`)

  const working = runWorker(
    await workerOptions(t, upstream.base, settings, { signal: drop.signal, drop: drop.signal }),
  )
  await until(() => existsSync(begun))
  drop.abort()
  await working

  assert.deepEqual(upstream.reports, [])
})

test('two jobs run at once when asked for', async (t) => {
  const upstream = await anUpstream(t)
  const base = await aServer(t, files(mirror))
  for (let i = 0; i < 2; i++) upstream.hand(aJob(base))
  const meeting = await aFolder(t)
  const script = `touch ${meeting}/$$; while [ "$(ls ${meeting} | wc -l)" != 2 ]; do sleep 0.05; done; ${good}`

  void runWorker(await workerOptions(t, upstream.base, await rebuildSettings(t, script), { jobs: 2 }))
  await upstream.until('/builds', 2)

  assert.deepEqual(
    upstream.reports.map(({ status }) => status),
    ['GOOD', 'GOOD'],
  )
})

test('the next job is asked for and built while the result of the last one is on its way', async (t) => {
  const built = Promise.withResolvers<undefined>()
  const upstream = await anUpstream(
    t,
    ({ path, body }) => (path === '/api/v1/builds' && idIn(body) === 1 ? built.promise : undefined),
    'ab'.repeat(32),
  )
  const base = await aServer(t, files(mirror))
  for (const lease of ['lease-1', 'lease-2']) upstream.hand(aJob(base), lease)
  const [stop, folder] = [new AbortController(), await aFolder(t)]
  const settings = await rebuildSettings(t, `${good}; mkdir ${folder}/$$`)

  const working = runWorker(await workerOptions(t, upstream.base, settings, { signal: stop.signal }))
  await until(async () => (await readdir(folder)).length === 2, 'the second build')
  assert.deepEqual(upstream.reports, [])
  stop.abort()
  built.resolve(undefined)
  await working

  assert.deepEqual(
    upstream.reports.map(({ status, lease }) => [status, lease]),
    [
      ['GOOD', 'lease-1'],
      ['GOOD', 'lease-2'],
    ],
  )
})

function idIn(body: unknown): unknown {
  return typeof body === 'object' && body !== null && 'queue_id' in body ? body.queue_id : null
}

test('a result waits for no slow download of the next job', async (t) => {
  const upstream = await anUpstream(t, undefined, 'ab'.repeat(32))
  const job = aJob(await aServer(t, files(mirror)))
  const stuck = await aServer(t, () => undefined)
  upstream.hand(job, 'lease-1')
  upstream.hand({ ...job, job: { ...job.job, url: `${stuck}/hello.buildinfo` } }, 'lease-2')
  const drop = new AbortController()
  const options = await workerOptions(t, upstream.base, await rebuildSettings(t, good), {
    drop: drop.signal,
    signal: drop.signal,
  })

  const working = runWorker(options)
  await upstream.until('/builds')

  assert.equal(upstream.reports[0]?.lease, 'lease-1')
  drop.abort()
  await working
})

test('the flag file makes a worker end, and is gone then', async (t) => {
  const upstream = await anUpstream(t)
  const options = await workerOptions(t, upstream.base, await rebuildSettings(t, good))
  await writeFile(join(options.directory, 'rebuilderd.restart'), '')

  assert.equal(await runWorker(options), 'restart')
  await assert.rejects(access(join(options.directory, 'rebuilderd.restart')))
})

test('a worker that is not let in says so and ends', async (t) => {
  const upstream = await anUpstream(t, () => 403)
  const options = await workerOptions(t, upstream.base, await rebuildSettings(t, good))

  await assert.rejects(runWorker(options), { name: 'ServerSaid', status: 403 })
  assert.equal(upstream.seen.filter(({ path }) => path.endsWith('/workers')).length, 3)
})

test('a server that is not there yet is waited for', async (t) => {
  let isReady = false
  const upstream = await anUpstream(t, () => (isReady ? undefined : 503))
  void runWorker(await workerOptions(t, upstream.base, await rebuildSettings(t, good)))

  await upstream.until('/workers/challenge')
  isReady = true

  await upstream.until('/pop')
})

test('a worker that the server forgot registers again', async (t) => {
  let isForgotten = true
  const upstream = await anUpstream(t, ({ path }) => {
    if (path.endsWith('/pop') && isForgotten) return 403
    return undefined
  })
  void runWorker(await workerOptions(t, upstream.base, await rebuildSettings(t, good)))

  await upstream.until('/workers', 2)
  isForgotten = false

  await upstream.until('/pop', 2)
})

test('what a killed worker left behind is removed at the next start, and its job handed back', async (t) => {
  const upstream = await anUpstream(t)
  const options = await workerOptions(t, upstream.base, await rebuildSettings(t, good))
  const jobs = join(options.directory, 'jobs')
  makeScratch(jobs, { server: upstream.base, queue_id: 7, lease: 'lease-7' })
  makeScratch(jobs, { server: upstream.base, queue_id: 8, lease: null })
  makeScratch(jobs, { server: 'http://other.example', queue_id: 9, lease: 'lease-9' })
  await forgetHeld(makeScratch(jobs, { server: upstream.base, queue_id: 10, lease: 'lease-10' }))

  void runWorker(options)
  await upstream.until('/pop')

  assert.deepEqual(await readdir(jobs), [])
  assert.deepEqual(
    upstream.reports.map(({ queue_id, lease, reason }) => [queue_id, lease, reason]),
    [[7, 'lease-7', 'worker_lost']],
  )
})

test('a job of which there is a result is not handed back by the next worker', async (t) => {
  const upstream = await anUpstream(t)
  const options = await workerOptions(t, upstream.base, await rebuildSettings(t, good))
  const held = { server: upstream.base, queue_id: 7, lease: 'lease-7' }
  makeScratch(join(options.directory, 'jobs'), held)
  const spool = await openSpool(join(options.directory, 'spool'), options.client, options.log)
  await spool.keep({ ...lostReport(held), status: 'GOOD', reason: null })

  void runWorker(options)
  await upstream.until('/pop')
  await upstream.until('/builds')

  assert.deepEqual(
    upstream.reports.map(({ status, lease }) => [status, lease]),
    [['GOOD', 'lease-7']],
  )
})

test('builds that outlived their worker are ended by the next one', async (t) => {
  const upstream = await anUpstream(t)
  const options = await workerOptions(t, upstream.base, await rebuildSettings(t, good))
  const folder = makeScratch(join(options.directory, 'jobs'), {
    server: upstream.base,
    queue_id: 7,
    lease: null,
  })
  const env = { ...process.env, REBUILDERD_OUTDIR: join(folder, 'build/out') }
  const stray = spawn('sleep', ['1000'], { env, detached: true, stdio: 'ignore' })
  const ended = once(stray, 'exit')

  void runWorker(options)
  const [, signal] = await ended
  await upstream.until('/pop')

  assert.equal(signal, 'SIGKILL')
})

test('the log is sent while it grows, only to servers that know leases', async (t) => {
  const upstream = await anUpstream(t)
  const base = await aServer(t, files(mirror))
  upstream.hand(aJob(base), 'lease-1')
  upstream.hand(aJob(base))
  const folder = await aFolder(t)
  const [first, second] = [join(folder, 'first'), join(folder, 'second')]
  const script = `echo one; ${untilThere(first)}; echo two; ${untilThere(second)}; ${good}`

  void runWorker(await workerOptions(t, upstream.base, await rebuildSettings(t, script)))
  await upstream.until('/log?offset=0')
  await writeFile(first, '')
  await upstream.until('/log?offset=4')
  await writeFile(second, '')
  await upstream.until('/builds', 2)

  const pieces = upstream.seen.filter(({ path }) => path.includes('/log'))
  assert.deepEqual(
    pieces.map(({ path, body }) => [path, body]),
    [
      ['/api/v1/queue/1/log?offset=0', 'one\n'],
      ['/api/v1/queue/1/log?offset=4', 'two\n'],
    ],
  )
  assert.equal(pieces[0]?.headers['x-worker-key']?.length, 44)
})

test('a server that wakes its workers is asked at once', async (t) => {
  const upstream = await anUpstream(t)
  const base = await aServer(t, files(mirror))
  const waits = Promise.withResolvers<() => void>()
  const wake = (signal: AbortSignal): Promise<void> =>
    new Promise((resolve) => {
      waits.resolve(resolve)
      signal.addEventListener('abort', () => resolve())
    })
  const settings = await rebuildSettings(t, good)
  const patient = { idleSeconds: 600, eagerMilliseconds: 0 }

  void runWorker(await workerOptions(t, upstream.base, settings, { ...patient, wake }))
  const wakeUp = await waits.promise // it has found nothing, and would look again in ten minutes
  upstream.hand(aJob(base))
  wakeUp()
  await upstream.until('/builds')

  assert.equal(upstream.reports[0]?.status, 'GOOD')
})

for (const [failures, least, most] of [
  [0, 0.5, 1],
  [3, 4, 8],
  [100, 30, 60],
] as const) {
  test(`after ${failures} failures a worker waits ${least} to ${most} s`, () => {
    assert.equal(patience(failures, 0), least)
    assert.equal(patience(failures, 1), most)
  })
}

for (const [what, lease, expected] of [
  ['our server', 'lease-1', [true, true]],
  ['a server of upstream, which knows none', undefined, [true, false]],
] as const) {
  test(`the HTML page of a diff goes to ${what}: ${expected[1] ? 'yes' : 'no'}`, async (t) => {
    const upstream = await anUpstream(t)
    upstream.hand(aJob(await aServer(t, files(mirror))), lease)
    await aStandIn(t, 'diffoscope', 'echo text; case "$*" in *--html=*) echo page > diffoscope.html ;; esac')
    const settings = await rebuildSettings(t, good.replace('good bytes', 'other'), {
      diffoscope: { args: [], timeoutSeconds: 600, maxBytes: null, html: true },
    })

    void runWorker(await workerOptions(t, upstream.base, settings))
    await upstream.until('/builds')

    const [artifact] = upstream.reports[0]?.artifacts ?? []
    assert.ok(artifact)
    assert.deepEqual([artifact.diffoscope !== null, 'diffoscope_html' in artifact], expected)
  })
}

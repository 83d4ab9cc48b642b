import { test, type TestContext } from 'node:test'
import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import { existsSync } from 'node:fs'
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { openClient } from '../../src/client.ts'
import { parseEnvelope, publicKeyFromPem, verifyEnvelope } from '../../src/attestation.ts'
import { plainBytes } from '../../src/compression.ts'
import { silentLog } from '../../src/log.ts'
import {
  getAttestation,
  getBuild,
  getBuildLog,
  listArtifacts,
  listBuilds,
  submitBuild,
} from '../../src/wire/builds.ts'
import { getPublicKeys } from '../../src/wire/meta.ts'
import { listQueue, watchLog } from '../../src/wire/queue.ts'
import { builtInBackend } from '../../src/worker/backend.ts'
import { runWorker } from '../../src/worker/loop.ts'
import { returnReport } from '../../src/worker/scratch.ts'
import { openWake, type Wake } from '../../src/worker/wake.ts'
import { aFolder, aServer, files } from '../help/files.ts'
import { rebuildSettings, workerOptions } from '../help/jobs.ts'
import { forEver } from '../help/machine.ts'
import {
  aPackage,
  anArtifact,
  importPackages,
  pop,
  signupSecret,
  startServer,
  type TestServer,
} from '../help/server.ts'
import { patienceMilliseconds, until, untilThere } from '../help/until.ts'

const original = 'good bytes'
const sha256 = createHash('sha256').update(original).digest('hex')
const script = `printf "$(cat "$1")" > "$REBUILDERD_OUTDIR/$REBUILDERD_ARTIFACTS"; echo built`

/** Imports packages whose build input is what their build makes, and lets a worker rebuild them all. */
async function rebuilt(
  t: TestContext,
  server: TestServer,
  made: Readonly<Record<string, string>>,
): Promise<string> {
  const content = Object.entries(made).flatMap(([name, bytes]) => [
    [`/${name}.deb`, original],
    [`/${name}.buildinfo`, bytes],
  ])
  const mirror = await aServer(t, files(Object.fromEntries(content) as Record<string, string>))
  const settings = await rebuildSettings(t, script)
  const [backend = builtInBackend('debian')] = settings.backends.values()
  const packages = Object.keys(made).map((name) => {
    const artifacts = [anArtifact({ name, url: `${mirror}/${name}.deb`, sha256, size: original.length })]
    return aPackage({ name, url: `${mirror}/${name}.buildinfo`, artifacts })
  })
  await importPackages(server.call, packages)
  const workerKey = Buffer.from(settings.key.publicKey).toString('base64')
  const stop = new AbortController()
  const working = runWorker({
    client: openClient({ base: server.address, workerKey, signupSecret, timeout: patienceMilliseconds }),
    name: 'w1',
    directory: await aFolder(t),
    settings: { ...settings, backends: new Map([['debian', { ...backend, name: 'debian' }]]) },
    workerKey,
    architectures: { native: 'x86_64', supported: ['amd64', 'all'] },
    jobs: 2,
    idleSeconds: 0.05,
    minFreeBytes: 0,
    log: { error: t.diagnostic, warning: t.diagnostic, info: nothing, debug: nothing },
    signal: stop.signal,
    drop: stop.signal,
  })
  await until(async () => (await server.call(listBuilds, {})).total === packages.length)
  stop.abort()
  await working
  return Buffer.from(settings.key.publicKey).toString('hex')
}

function nothing(): void {}

test('a rebuild travels from the import to a verdict with evidence', async (t) => {
  const server = await startServer(t)

  await rebuilt(t, server, { hello: 'good bytes', other: 'good BYTES' })

  const { records } = await server.call(listBuilds, {})
  const verdicts = Object.fromEntries(records.map(({ name, status, reason }) => [name, [status, reason]]))
  assert.deepEqual(verdicts, { hello: ['GOOD', null], other: ['BAD', 'content_differs'] })
  const bad = records.find(({ status }) => status === 'BAD')
  const params = { id: bad?.id ?? 0 }
  const [artifact] = await server.call(listArtifacts, { params })
  assert.equal(artifact?.first_difference, 5)
  assert.equal(artifact.sha256, sha256)
  const { evidence, worker } = await server.call(getBuild, { params })
  assert.equal(worker, 'w1')
  assert.equal(evidence?.exit_code, 0)
  const log = await plainBytes(await server.call(getBuildLog, { params }), 1000)
  assert.equal(Buffer.from(log).toString(), 'built\n')
})

test('the attestation of a good rebuild is signed by worker and server', async (t) => {
  const server = await startServer(t)

  const workerKey = await rebuilt(t, server, { hello: 'good bytes' })

  const [build] = (await server.call(listBuilds, {})).records
  const id = build?.id ?? 0
  const [artifact] = await server.call(listArtifacts, { params: { id } })
  const bytes = await server.call(getAttestation, { params: { id, artifact_id: artifact?.id ?? 0 } })
  const envelope = parseEnvelope(await plainBytes(bytes, 100_000))
  const { current } = await server.call(getPublicKeys, {})
  assert.equal(verifyEnvelope(envelope, Buffer.from(workerKey, 'hex')), true)
  assert.equal(verifyEnvelope(envelope, publicKeyFromPem(current[0] ?? '')), true)
  assert.equal(envelope.signed.products['hello.deb']?.['sha256'], sha256)
})

test('new work reaches an idle worker at once, and its log can be watched while it builds', async (t) => {
  const server = await startServer(t)
  const mirror = await aServer(t, files({ '/hello.deb': original, '/hello.buildinfo': original }))
  const seenIt = join(await aFolder(t), 'seen')
  const settings = await rebuildSettings(t, `echo begins; ${untilThere(seenIt)}; ${script}`)
  const [backend = builtInBackend('debian')] = settings.backends.values()
  const options = await workerOptions(t, server.address, {
    ...settings,
    backends: new Map([['debian', { ...backend, name: 'debian' }]]),
  })
  const listening = openWake(server.address, silentLog, options.signal)
  const idle = Promise.withResolvers<undefined>()
  const wake: Wake = (signal) => {
    idle.resolve(undefined)
    return listening(signal)
  }
  void runWorker({ ...options, idleSeconds: 3600, eagerMilliseconds: 0, wake })
  await idle.promise // it has found nothing, and would look again in an hour

  const artifacts = [anArtifact({ url: `${mirror}/hello.deb` })]
  await importPackages(server.call, [aPackage({ url: `${mirror}/hello.buildinfo`, artifacts })])
  const { id } = await until(async () => {
    const { records } = await server.call(listQueue, {})
    return records.find(({ started_at }) => started_at !== null)
  })
  const seen = await until(async () => {
    const log = await server.call(watchLog, { params: { id }, query: {} }).catch(() => null)
    return log !== null && log.length > 0 && Buffer.from(log).toString()
  })
  await writeFile(seenIt, '')

  assert.equal(seen, 'begins\n')
  await until(async () => (await server.call(listBuilds, {})).total > 0)
})

test('a job that a worker dropped is due at once in its old place, and counts as no attempt', async (t) => {
  const server = await startServer(t)
  const mirror = await aServer(t, files({ '/hello.deb': original, '/hello.buildinfo': original }))
  const begun = join(await aFolder(t), 'begun')
  const settings = await rebuildSettings(t, `touch ${begun}; exec sleep ${forEver}`)
  const [backend = builtInBackend('debian')] = settings.backends.values()
  const drop = new AbortController()
  const options = await workerOptions(t, server.address, {
    ...settings,
    backends: new Map([['debian', { ...backend, name: 'debian' }]]),
  })
  const artifacts = [anArtifact({ url: `${mirror}/hello.deb` })]
  await importPackages(server.call, [aPackage({ url: `${mirror}/hello.buildinfo`, artifacts })])

  const working = runWorker({ ...options, signal: drop.signal, drop: drop.signal })
  await until(() => existsSync(begun))
  drop.abort()
  await working

  const [job] = (await server.call(listQueue, {})).records
  const other = await server.worker('key-2')
  const given = await pop(other.call)
  assert.deepEqual([job?.started_at, job?.reason, job?.priority], [null, null, 1])
  assert.equal(given?.job.id, job?.id)
  assert.equal((await server.call(listBuilds, {})).total, 0)
})

test('a worker that dropped a job gets it again once nobody else wanted it; asking twice changes nothing', async (t) => {
  const server = await startServer(t)
  await importPackages(server.call, [aPackage()])
  const other = await server.worker('key-2')
  const job = await pop(server.call)
  if (job === null) throw new Error('there is a job')
  const held = { server: server.address, queue_id: job.job.id, lease: job.lease }

  await server.call(submitBuild, { body: returnReport(held) })
  await server.call(submitBuild, { body: returnReport(held) })
  const shunned = await pop(server.call)
  server.clock.ahead = 11 * 60_000
  const again = await pop(server.call)
  await server.call(submitBuild, { body: returnReport(held) })
  const { records } = await server.call(listQueue, {})

  assert.equal(shunned, null)
  assert.equal(again?.job.id, job.job.id)
  assert.notEqual(records[0]?.started_at, null, 'a lease that is over frees nothing')
  await assert.rejects(other.call(submitBuild, { body: returnReport(held) }), { status: 404 })
})

import assert from 'node:assert/strict'
import { test, type TestContext } from 'node:test'
import { generateSigningKey, type SigningKey } from '../../src/attestation.ts'
import { join } from 'node:path'
import { openClient, type Client } from '../../src/client.ts'
import { loadSettings, serverSettings } from '../../src/config.ts'
import { silentLog } from '../../src/log.ts'
import { startServer as start } from '../../src/server/serve.ts'
import { presenceOf, proofOf, signedReport } from '../../src/proof.ts'
import { submitBuild, type RebuildReport } from '../../src/wire/builds.ts'
import { popQueue } from '../../src/wire/queue.ts'
import { getChallenge, listWorkers, registerWorker, removeWorker } from '../../src/wire/workers.ts'
import { runWorker } from '../../src/worker/loop.ts'
import { runHere, type Ended } from '../cmd/program.ts'
import { rebuildSettings, workerOptions } from '../help/jobs.ts'
import {
  aPackage,
  temporaryFolder,
  aResult,
  importPackages,
  pop,
  signupSecret,
  startServer,
  type TestServer,
} from '../help/server.ts'

const who = { name: 'w', tags: ['big'] }
const nothing = { supported_backends: ['debian'], architecture: 'x86_64', supported_architectures: ['amd64'] }

function aWorker(server: TestServer): { key: SigningKey; client: Client } {
  const key = generateSigningKey()
  const workerKey = Buffer.from(key.publicKey).toString('base64')
  return { key, client: openClient({ base: server.address, workerKey, signupSecret }) }
}

async function proven(server: TestServer): Promise<{ key: SigningKey; client: Client }> {
  const { key, client } = aWorker(server)
  const { nonce, session = '' } = await client.call(getChallenge)
  await client.call(registerWorker, { body: { ...who, proof: proofOf(who, nonce, key) } })
  client.prove(presenceOf(session, key))
  return { key, client }
}

const said = (status: number) => (error: unknown) => (error as { status?: number }).status === status

test('a worker that answers the challenge is listed as proven', async (t) => {
  const server = await startServer(t)

  await proven(server)

  const { records } = await server.call(listWorkers)
  assert.deepEqual(
    records.map(({ name, proven: is }) => [name, is]),
    [
      ['worker-1', false],
      ['w', true],
    ],
  )
})

test('an answer that is not this key’s, not for this name, or not to this question is refused', async (t) => {
  const server = await startServer(t)
  const { key, client } = aWorker(server)
  const other = aWorker(server)
  const register = (proof: { nonce: string; signature: string }, body = who): Promise<unknown> =>
    client.call(registerWorker, { body: { ...body, proof } })
  const { nonce } = await client.call(getChallenge)
  const { nonce: othersNonce } = await other.client.call(getChallenge)

  await assert.rejects(register(proofOf(who, nonce, other.key)), said(403))
  await assert.rejects(register(proofOf(who, nonce, key), { ...who, name: 'x' }), said(403))
  await assert.rejects(register(proofOf(who, othersNonce, key)), said(403))
  await assert.rejects(register(proofOf(who, 'made up', key)), said(403))
  await assert.rejects(
    register(
      proofOf(
        who,
        nonce.replace(/.$/, (c) => (c === '0' ? '1' : '0')),
        key,
      ),
    ),
    said(403),
  )
  assert.equal((await server.call(listWorkers)).total, 1)
})

test('an answer counts once, and not for ever', async (t) => {
  const server = await startServer(t)
  const { key, client } = aWorker(server)
  const { nonce } = await client.call(getChallenge)
  const { nonce: second } = await client.call(getChallenge)
  const register = (given: string): Promise<unknown> =>
    client.call(registerWorker, { body: { ...who, proof: proofOf(who, given, key) } })

  await register(nonce)

  await assert.rejects(register(nonce), said(403))
  server.clock.ahead = 6 * 60_000
  await assert.rejects(register(second), said(403))
})

test('who proved itself once has to from then on, even after its worker was forgotten', async (t) => {
  const server = await startServer(t)
  const { client } = await proven(server)
  const bare = (): Promise<unknown> => client.call(registerWorker, { body: who })

  await assert.rejects(bare(), said(403))
  const { records } = await server.call(listWorkers)
  await client.call(removeWorker, { params: { id: records.find(({ name }) => name === 'w')?.id ?? 0 } })

  await assert.rejects(bare(), said(403))
})

test('an administrator can forget that a key was proven, its worker cannot', async (t) => {
  const server = await startServer(t)
  const { client, key } = await proven(server)
  const { records } = await server.call(listWorkers)
  const params = { id: records.find(({ name }) => name === 'w')?.id ?? 0 }
  const query = { forget_key: 'true' } as const

  await assert.rejects(client.call(removeWorker, { params, query }), said(403))
  const ctl = (...args: string[]): Promise<Ended> =>
    runHere(['ctl', 'workers', ...args, '-H', server.address], {
      home: server.data,
      environment: { REBUILDERD_COOKIE_PATH: join(server.data, 'auth-cookie') },
    })
  const { stdout } = await ctl('ls')
  const page = await (await fetch(`${server.address}/workers`)).text()
  const removed = await ctl('rm', 'w', '--forget-key')

  assert.match(stdout, /worker-1 .* unproven .*\n.* w .* proven /)
  assert.match(page, />unproven</)
  assert.match(page, />proven</)
  assert.equal(removed.code, 0, removed.stderr)
  assert.ok(key.publicKey.length === 32)
  await client.call(registerWorker, { body: who })
})

test('a challenge needs what a registration needs', async (t) => {
  const server = await startServer(t)
  const stranger = openClient({ base: server.address, workerKey: 'x', signupSecret: 'wrong' })

  await assert.rejects(stranger.call(getChallenge), said(403))
})

test('with worker.require_proof others can neither register nor work', async (t) => {
  const data = await temporaryFolder(t)
  const before = await startServer(t, { data })
  const old = await before.worker('old key')
  await old.call(popQueue, { body: nothing })
  await before.stop()

  const strict = { 'worker.require_proof': true, 'worker.signup_secret': signupSecret }
  const server = await startStrict(t, data, strict)
  const again = openClient({ base: server.address, workerKey: 'old key', signupSecret })

  await assert.rejects(again.call(popQueue, { body: nothing }), said(403))
  await assert.rejects(again.call(registerWorker, { body: who }), said(403))
  const { client } = await proven(server)
  assert.equal(await client.call(popQueue, { body: nothing }), 'Nothing')
})

/** `startServer` registers a worker that proves nothing: with another secret it does not. */
async function startStrict(
  t: TestContext,
  data: string,
  settings: { 'worker.require_proof': boolean; 'worker.signup_secret': string },
): Promise<TestServer> {
  const all = { ...(await loadSettings(serverSettings, [])), 'http.bind_addr': '127.0.0.1:0', ...settings }
  const server = await start({ settings: all, data, log: silentLog })
  t.after(() => server.stop())
  return { ...server, data, clock: { ahead: 0 } } as unknown as TestServer // what these tests use of it
}

for (const [what, forge] of [
  [
    'without a signature',
    (report: RebuildReport) => {
      const { signature, ...rest } = report
      return signature === undefined ? report : rest
    },
  ],
  ['with another status', (report: RebuildReport) => ({ ...report, status: 'BAD' as const })],
  ['with another log', (report: RebuildReport) => ({ ...report, build_log: new Uint8Array([1]) })],
  ['for another job', (report: RebuildReport) => ({ ...report, lease: null })],
  [
    'with another hash',
    (report: RebuildReport) => ({
      ...report,
      artifacts: report.artifacts.map((one) => ({ ...one, rebuilt_sha256: 'a'.repeat(64) })),
    }),
  ],
] as const) {
  test(`a report ${what} is refused, and the true one taken`, async (t) => {
    const server = await startServer(t)
    const { key, client } = await proven(server)
    await importPackages(server.call, [aPackage()])
    const job = await pop(client.call)
    assert.ok(job !== null)
    const report = signedReport(aResult(job), key)

    await assert.rejects(client.call(submitBuild, { body: forge(report) }), said(400))

    await client.call(submitBuild, { body: report })
  })
}

test('a worker without proof may report without a signature, but not with a false one', async (t) => {
  const server = await startServer(t)
  const { key, client } = aWorker(server)
  await client.call(registerWorker, { body: who })
  await importPackages(server.call, [aPackage()])
  const job = await pop(client.call)
  assert.ok(job !== null)
  const signature = signedReport(aResult(job), generateSigningKey()).signature ?? ''

  await assert.rejects(client.call(submitBuild, { body: { ...aResult(job), signature } }), said(400))

  await client.call(submitBuild, { body: aResult(job) })
  assert.ok(key.publicKey.length === 32)
})

test('the key of a worker that proved itself is not enough to act as that worker', async (t) => {
  const server = await startServer(t)
  const { key, client } = await proven(server)
  const other = aWorker(server)
  const workerKey = Buffer.from(key.publicKey).toString('base64')
  const asIt = (): Client => openClient({ base: server.address, workerKey, signupSecret })
  const { session = '' } = await asIt().call(getChallenge)
  const { session: othersSession = '' } = await other.client.call(getChallenge)

  for (const proof of [
    null,
    'made up',
    session,
    presenceOf(session, other.key),
    presenceOf(othersSession, key),
    presenceOf(session.replace(/^\d+/, '0'), key),
  ]) {
    const thief = asIt()
    if (proof !== null) thief.prove(proof)
    await assert.rejects(thief.call(popQueue, { body: nothing }), said(403), proof ?? 'no proof')
  }
  assert.equal(await client.call(popQueue, { body: nothing }), 'Nothing')
})

test('a session lasts for a day and outlives a restart of the server', async (t) => {
  const data = await temporaryFolder(t)
  const before = await startServer(t, { data })
  const { key } = aWorker(before)
  const workerKey = Buffer.from(key.publicKey).toString('base64')
  const first = openClient({ base: before.address, workerKey, signupSecret })
  const { nonce, session = '' } = await first.call(getChallenge)
  await first.call(registerWorker, { body: { ...who, proof: proofOf(who, nonce, key) } })
  await before.stop()

  const server = await startServer(t, { data })
  const client = openClient({ base: server.address, workerKey, signupSecret })
  client.prove(presenceOf(session, key))

  assert.equal(await client.call(popQueue, { body: nothing }), 'Nothing')
  server.clock.ahead = 25 * 3_600_000
  await assert.rejects(client.call(popQueue, { body: nothing }), said(403))
})

test('our worker proves itself by itself', async (t) => {
  const server = await startServer(t)
  const stop = new AbortController()
  const options = await workerOptions(t, server.address, await rebuildSettings(t, 'true'), {
    signal: stop.signal,
  })

  const working = runWorker(options)
  for (let total = 1; total < 2; total = (await server.call(listWorkers)).total)
    await new Promise(setImmediate)
  stop.abort()
  await working

  const { records } = await server.call(listWorkers)
  assert.equal(records.find(({ name }) => name === 'w1')?.proven, true)
})

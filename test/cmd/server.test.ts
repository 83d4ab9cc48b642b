import assert from 'node:assert/strict'
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { test, type TestContext } from 'node:test'
import { generateSigningKey, makeLink, serialiseEnvelope, signLink } from '../../src/attestation.ts'
import { noEvidence, submitBuild, type RebuildReport } from '../../src/wire/builds.ts'
import type { Assignment } from '../../src/wire/queue.ts'
import {
  aPackage,
  aReport,
  aResult,
  anArtifact,
  anArtifactResult,
  importPackages,
  pop,
  startServer,
  type TestServer,
} from '../help/server.ts'
import { noTerminal, runOnTerminal, runHere, tempFolder, type Ended } from './program.ts'

/** A server of ours, and `rebuilderd ctl` beside it. */
async function startWithCtl(
  t: TestContext,
): Promise<{ server: TestServer; ctl: (args: string[], input?: string) => Promise<Ended> }> {
  const home = await tempFolder(t)
  const server = await startServer(t)
  const where = ['-H', server.address, '--cookie-file', server.cookieFile]
  return { server, ctl: (words, input = '') => runHere(['ctl', ...words, ...where], { home, input }) }
}

const names = ['good', 'bad', 'failed'] as const

const packages = names.map((name) => aPackage({ name, version: '1.10' }))
const report = JSON.stringify(aReport(packages, { release: 'trixie' }))

/** Does every job as a worker would that built them: one equal, one different, one not at all. */
async function doJobs(server: TestServer): Promise<void> {
  const { call } = await server.worker(Buffer.from(workerKey.publicKey).toString('base64'), 'worker-2')
  for (let job = await pop(call); job !== null; job = await pop(call)) {
    await call(submitBuild, { body: resultOf(job) })
  }
}

function resultOf(assignment: Assignment): RebuildReport {
  const { job, artifacts } = assignment
  const build_log = new TextEncoder().encode(`the log of ${job.name}\n`)
  const [{ name, url }] = artifacts as [Assignment['artifacts'][number]]
  if (job.name === 'failed') {
    const evidence = { ...noEvidence('debian'), note: 'the oven is cold', missing: ['yeast=1'] }
    return aResult(assignment, { build_log, status: 'FAIL', reason: 'build_failed', evidence })
  }
  if (job.name === 'bad') {
    const reason = 'content_differs'
    const diffoscope = new TextEncoder().encode('-one\n+other\n')
    const artifact = anArtifactResult({ name, url, status: 'BAD', reason, diffoscope })
    return aResult(assignment, { build_log, status: 'BAD', reason, artifacts: [artifact] })
  }
  const hashes = { sha256: 'a'.repeat(64), sha512: 'b'.repeat(128) }
  const file = url.slice(url.lastIndexOf('/') + 1)
  const link = makeLink({ artifact: { file, ...hashes }, input: { file: 'good.buildinfo', ...hashes } })
  const attestation = serialiseEnvelope(signLink(link, workerKey))
  return aResult(assignment, { build_log, artifacts: [anArtifactResult({ name, url, attestation })] })
}

const workerKey = generateSigningKey()

test('a journey with ctl: import, look at the queue, rebuild, look at the results, ask again, drop', async (t) => {
  const { server, ctl } = await startWithCtl(t)

  const foretold = await ctl(['pkgs', 'sync-stdin', '--dry-run'], report)
  const imported = await ctl(['pkgs', 'sync-stdin'], report)
  const queued = await ctl(['queue', 'ls', '--json'])
  const unbuilt = await ctl(['pkgs', 'log', 'good'])
  await doJobs(server)
  const why = await ctl(['why', 'failed'])
  const listed = await ctl(['pkgs', 'ls'])
  const failed = await ctl(['pkgs', 'ls', '--status', 'FAIL', '--json'])
  const unknown = await ctl(['pkgs', 'ls', '--status', 'UNKWN', '--json'])
  const because = await ctl(['pkgs', 'ls', '--reason', 'content_differs', '--json'])
  const log = await ctl(['pkgs', 'log', 'failed'])
  const diff = await ctl(['pkgs', 'diffoscope', '--name', 'bad', '--version', '1.10', '--release', 'trixie'])
  const attestation = await ctl(['pkgs', 'attestation', 'good'])
  const none = await ctl(['pkgs', 'diffoscope', 'good'])
  const pushed = await ctl(['queue', 'push', 'debian', 'main', 'good', '1.10', '--release', 'trixie'])
  const nobody = await ctl(['queue', 'push', 'debian', 'main', 'good', '--release', 'sid'])
  const again = await ctl(['queue', 'ls'])
  await ctl(['queue', 'drop', 'debian', 'main', 'good'])
  const dropped = await ctl(['queue', 'ls'])
  const workers = await ctl(['workers', 'ls'])

  assert.match(
    foretold.stdout,
    /^debian\/trixie \(amd64\): 3 packages, 3 new, 0 gone, 0 unchanged, 3 to be queued\n/,
  )
  assert.equal(imported.code, 0, imported.stderr)
  assert.deepEqual(namesIn(queued).sort(), [...names].sort())
  assert.match(unbuilt.stderr, /good 1\.10 has not been rebuilt yet/)
  assert.match(why.stdout, /build_failed: [^\n]*\n {2}the oven is cold\n {2}missing: yeast=1\n/)
  const lines = listed.stdout.trim().split('\n')
  assert.deepEqual(
    lines.map((line) => line.slice(0, 16).trim()),
    ['[BAD  ] bad 1.10', '[FAIL ] failed 1', '[GOOD ] good 1.1'],
  )
  assert.deepEqual([namesIn(failed), namesIn(unknown), namesIn(because)], [['failed'], [], ['bad']])
  assert.equal(log.stdout, 'the log of failed\n', log.stderr)
  assert.equal(diff.stdout, '-one\n+other\n', diff.stderr)
  assert.equal(attestation.code, 0, attestation.stderr)
  assert.equal((JSON.parse(attestation.stdout) as { signatures: unknown[] }).signatures.length, 2)
  assert.match(none.stderr, /there is no diff of good 1\.10: it is GOOD/)
  assert.equal(pushed.stdout, 'Queue operation applied to 1 builds\n')
  assert.equal(nobody.stdout, 'Queue operation applied to 0 builds\n')
  assert.match(again.stdout, /^\S+ \S+ good 1\.10 .* "debian" Some\("trixie"\) "amd64"\n$/)
  assert.equal(dropped.stdout, '')
  assert.match(
    workers.stdout,
    /^1 {2}worker-1 {2}127\.0\.0\.1 {2}unproven {2}\S+ \S+ {2,4}idle\n2 {2}worker-2 {2}/,
  )
})

function namesIn({ stdout }: Ended): string[] {
  return (JSON.parse(stdout) as { name: string }[]).map(({ name }) => name)
}

test('filters mean the same to our server as to ctl', async (t) => {
  const { ctl } = await startWithCtl(t)
  const versions = ['1.1', '1.10', '1.100'].map((version) =>
    aPackage({ version, artifacts: [anArtifact({ version })] }),
  )
  await ctl(['pkgs', 'sync-stdin'], JSON.stringify(aReport(versions)))
  await ctl(['pkgs', 'sync-stdin'], JSON.stringify(aReport(versions.slice(1))))

  const found = await ctl(['pkgs', 'ls', '--version', '1.10', '--json'])
  const current = await ctl(['pkgs', 'ls', '--current', '--json'])
  const nothing = await ctl(['pkgs', 'ls', '--release', 'trixie', '--json'])

  const versionsIn = ({ stdout }: Ended): string[] =>
    (JSON.parse(stdout) as { version: string }[]).map(({ version }) => version)
  assert.deepEqual(versionsIn(found), ['1.10'])
  assert.deepEqual(versionsIn(current), ['1.10', '1.100'])
  assert.deepEqual(versionsIn(nothing), [])
})

test('flags without a command are those of the server, and it shows no secret', async (t) => {
  const home = await tempFolder(t)
  await writeFile(join(home, 'x.conf'), '[auth]\ncookie = "hush"\n[worker]\nsignup_secret = "hush"\n')

  const { stdout, code } = await runHere(['-c', 'x.conf', '--check-config'], { home })

  assert.equal(code, 0)
  assert.match(stdout, /^auth\.cookie = \(set, not shown\)$/m)
  assert.ok(!stdout.includes('hush'))
})

test('a worker is forgotten by its name, and only by the right one', async (t) => {
  const { server, ctl } = await startWithCtl(t)
  await server.worker('another-key', 'old box')

  const wrong = await ctl(['workers', 'rm', 'old'])
  const right = await ctl(['workers', 'rm', 'old box'])
  const left = await ctl(['workers', 'ls', '--json'])

  assert.match(wrong.stderr, /no worker is called old\n/)
  assert.deepEqual([wrong.code, right.code, right.stdout], [1, 0, ''])
  assert.deepEqual(namesIn(left), ['worker-1'])
})

test('status shows people the numbers too', { skip: noTerminal }, async (t) => {
  const home = await tempFolder(t)
  const server = await startServer(t)
  await importPackages(server.call, [aPackage(), aPackage({ name: 'other' })])
  const job = await pop(server.call)
  if (job !== null) await server.call(submitBuild, { body: aResult(job) })

  const words = ['ctl', 'status', '-H', server.address, '--cookie-file', server.cookieFile]
  const stranger = await runHere(['ctl', 'status', '-H', server.address], { home })
  const piped = await runHere(words, { home })
  const shown = await runOnTerminal(words, {
    home,
    environment: { NO_COLOR: '1' },
  })

  assert.match(stranger.stdout, /^worker-1 {32} => idle\n$/)
  assert.match(piped.stdout, /^worker-1 \(127\.0\.0\.1\) {20} => idle\n$/)
  assert.equal(
    shown.stdout.replaceAll('\r', ''),
    `${piped.stdout}rebuilds: 1 GOOD, 0 BAD, 0 FAIL, 1 UNKWN\njobs: 0 running, 1 due, 0 due later\n`,
  )
})

/** Weaknesses that workers of this kind have had, each shown not to be here; those with a home elsewhere are there. */
import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { rebuild } from '../../src/worker/rebuild.ts'
import { runWorker } from '../../src/worker/loop.ts'
import { runProgram } from '../cmd/program.ts'
import { aFolder, aServer, files } from '../help/files.ts'
import { aJob, rebuildSettings, workerOptions } from '../help/jobs.ts'
import { behindAProxy, redirections } from '../help/redirects.ts'
import { anUpstream } from '../help/upstream.ts'

const mirror = { '/hello.deb': 'good bytes', '/hello.buildinfo': 'the input' }
const good = 'printf "good bytes" > "$REBUILDERD_OUTDIR/hello.deb"'
const { signal } = new AbortController()

test('the script of the backend that the job names is run, not that of the distribution', async (t) => {
  const settings = await rebuildSettings(t, good)
  const other = await rebuildSettings(t, 'exit 1')
  const [named, ofDistribution] = [settings.backends.get('test'), other.backends.get('test')]
  assert.ok(named !== undefined && ofDistribution !== undefined)
  const job = aJob(await aServer(t, files(mirror)))
  const backends = new Map([
    ['test', named],
    [job.job.distribution, ofDistribution],
  ])

  const result = await rebuild(job, {
    directory: await aFolder(t),
    settings: { ...settings, backends },
    signal,
  })

  assert.equal(result.status, 'GOOD')
})

test('a job for a backend that the worker lacks is not built by another one of its distribution', async (t) => {
  const settings = await rebuildSettings(t, good)
  const [ofDistribution] = [...settings.backends.values()]
  assert.ok(ofDistribution !== undefined)
  const job = aJob(await aServer(t, files(mirror)))
  const backends = new Map([[job.job.distribution, ofDistribution]])

  const given = { directory: await aFolder(t), settings: { ...settings, backends }, signal }
  const result = await rebuild(job, given)

  assert.equal(`${result.status} ${result.reason}`, 'FAIL backend_error')
  assert.equal(result.evidence?.note, 'this worker has no backend test')
})

for (const { what, from, leadsTo } of redirections) {
  test(`for a worker, too, a public server that sends it to ${what}`, async (t) => {
    const home = await aFolder(t)
    await writeFile(join(home, 'hello.deb'), 'good bytes')
    const asked = await behindAProxy(t, home)
    const script = join(home, 'backend.sh')
    await writeFile(script, `#!/bin/sh\n${good}\n`, { mode: 0o755 })
    const args = ['--data', join(home, 'data'), '--script-location', script]

    const { http_proxy } = process.env
    const environment = { http_proxy: http_proxy ?? '', NO_PROXY: '', no_proxy: '' }
    const said = await runProgram(['worker', 'build', 'testing', `${from}hello.deb`, ...args], {
      home,
      environment,
    })

    const elsewhere = asked.filter((url) => !url.startsWith('http://mirror.example/'))
    assert.match(said.stdout, leadsTo === null ? /^FAIL input_unavailable/ : /^GOOD/, said.stderr)
    assert.equal(/sends us to .* inside our network/.test(said.stdout), leadsTo === null)
    assert.deepEqual(elsewhere, leadsTo === null ? [] : [`${leadsTo}hello.deb`])
  })
}

test('a ping that is never answered holds up neither the build nor its output', async (t) => {
  const upstream = await anUpstream(t)
  const base = await aServer(t, async (request, response) => {
    if (request.url?.endsWith('/ping') === true) return // for ever
    const chunks: Buffer[] = []
    for await (const chunk of request as AsyncIterable<Buffer>) chunks.push(chunk)
    const headers = Object.entries(request.headers).filter(([name]) => !/^(host|connection)$/.test(name))
    const sent = {
      method: request.method ?? 'GET',
      headers: headers.map(([name, value]) => [name, String(value)] as [string, string]),
    }
    const body = chunks.length === 0 ? {} : { body: Buffer.concat(chunks) }
    const reply = await fetch(`${upstream.base}${request.url ?? ''}`, { ...sent, ...body })
    const type = reply.headers.get('content-type')
    response.writeHead(reply.status, type === null ? {} : { 'content-type': type })
    response.end(Buffer.from(await reply.arrayBuffer()))
  })
  upstream.hand(aJob(await aServer(t, files(mirror))))
  const output =
    'i=0; while [ $i -lt 20000 ]; do echo "line $i of the output of a build that says much"; i=$((i+1)); done'
  const settings = await rebuildSettings(t, `${output}; ${good}`)

  void runWorker(await workerOptions(t, base, settings, { pingMilliseconds: 50 }))
  await upstream.until('/builds')

  assert.equal(upstream.reports[0]?.status, 'GOOD')
})

test('waiting for a build that closed its output costs next to nothing', async (t) => {
  const settings = await rebuildSettings(t, `${good}; echo says no more; exec >&- 2>&-; sleep 2`)
  const job = aJob(await aServer(t, files(mirror)))
  let [before, start] = [process.cpuUsage(), process.hrtime.bigint()]
  const onLog = (): void => void ([before, start] = [process.cpuUsage(), process.hrtime.bigint()])

  const result = await rebuild(job, { directory: await aFolder(t), settings, signal, onLog })

  const { user, system } = process.cpuUsage(before)
  const passed = Number(process.hrtime.bigint() - start) / 1000
  assert.equal(result.status, 'GOOD')
  assert.ok(user + system < passed / 2, `${user + system} of ${passed} microseconds`) // a busy loop takes all
})

test('a worker that fails to start is started again without end, and its secrets are not those of administrators', () => {
  const unit = readFileSync(
    fileURLToPath(new URL('../../rebuilderd-worker@.service', import.meta.url)),
    'utf8',
  )

  assert.match(unit, /^Restart=always$/m)
  assert.match(unit, /^RestartSec=[1-9]/m)
  assert.match(unit, /^StartLimitIntervalSec=0$/m)
  assert.doesNotMatch(unit, /cookie/i)
})

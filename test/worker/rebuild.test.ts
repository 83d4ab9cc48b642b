import { test } from 'node:test'
import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import { existsSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { parseEnvelope, verifyEnvelope } from '../../src/attestation.ts'
import { plainBytes } from '../../src/compression.ts'
import { rebuild, type Result } from '../../src/worker/rebuild.ts'
import { aFolder, aServer, aStandIn, files } from '../help/files.ts'
import { aJob, rebuildSettings } from '../help/jobs.ts'
import { forEver } from '../help/machine.ts'
import { patienceSeconds, untilThere, withinLimit } from '../help/until.ts'

const { signal } = new AbortController()
const mirror = {
  '/hello.buildinfo': 'Source: hello\n',
  '/hello.deb': 'good bytes',
  '/other/hello.deb': 'good bytes, others',
  '/g%2b%2b.deb': 'good bytes',
}
const sha256 = (text: string): string => createHash('sha256').update(text).digest('hex')
const textOf = async (blob: Uint8Array | null): Promise<string> =>
  Buffer.from(await plainBytes(blob ?? new Uint8Array(), 1e6)).toString()

const make = (text: string, file = 'hello.deb'): string => `printf '${text}' > "$REBUILDERD_OUTDIR/${file}"`

for (const [what, script, artifacts, expected] of [
  ['makes the same bytes', make('good bytes'), ['hello.deb'], 'GOOD'],
  ['makes the same bytes and then fails', `${make('good bytes')}; exit 1`, ['hello.deb'], 'GOOD'],
  ['makes more than was asked for', `${make('good bytes')}; ${make('x', 'more.deb')}`, ['hello.deb'], 'GOOD'],
  ['makes other bytes', make('good BYTES'), ['hello.deb'], 'BAD content_differs'],
  ['leaves out a file', make('x', 'more.deb'), ['hello.deb'], 'BAD artifact_missing'],
  ['makes nothing and calls it a success', 'true', ['hello.deb'], 'FAIL backend_error'],
  ['fails', 'exit 1', ['hello.deb'], 'FAIL build_failed'],
  ['fails in its tests', 'echo "dh_auto_test: error: make test"; exit 2', ['hello.deb'], 'FAIL tests_failed'],
  [
    'says why it cannot build',
    `echo '{"reason":"source_unavailable"}' > "$REBUILDERD_RESULT"; exit 4`,
    ['hello.deb'],
    'FAIL source_unavailable',
  ],
  [
    'used another toolchain',
    `echo '{"present_toolchain":true}' > "$REBUILDERD_RESULT"; ${make('x')}`,
    ['hello.deb'],
    'FAIL environment_differs',
  ],
  [
    'links to a file',
    `${make('good bytes', 'a')}; ln -s a "$REBUILDERD_OUTDIR/hello.deb"`,
    ['hello.deb'],
    'FAIL backend_error',
  ],
  [
    'links to a file, hard',
    `${make('good bytes', 'a')}; ln "$REBUILDERD_OUTDIR/a" "$REBUILDERD_OUTDIR/hello.deb"`,
    ['hello.deb'],
    'FAIL backend_error',
  ],
  ['makes a folder', 'mkdir "$REBUILDERD_OUTDIR/hello.deb"', ['hello.deb'], 'FAIL backend_error'],
  ['makes a pipe', 'mkfifo "$REBUILDERD_OUTDIR/hello.deb"', ['hello.deb'], 'FAIL backend_error'],
  [
    'names a file as the address does',
    make('good bytes', 'g%%2b%%2b.deb'.replaceAll('%%', '%')),
    ['g%2b%2b.deb'],
    'GOOD',
  ],
  ['names a file without escapes', make('good bytes', 'g++.deb'), ['g%2b%2b.deb'], 'GOOD'],
  [
    'makes one of two files of one name',
    make('good bytes'),
    ['hello.deb', 'other/hello.deb'],
    'BAD content_differs',
  ],
  ['has nothing to make', 'true', [], 'FAIL nothing_to_compare'],
  ['cannot have an original', make('x'), ['gone.deb'], 'FAIL input_unavailable'],
] as const) {
  test(`a backend that ${what} → ${expected}`, async (t) => {
    const job = aJob(await aServer(t, files(mirror)), artifacts)
    const settings = await rebuildSettings(t, script)

    const result = await rebuild(job, { directory: await aFolder(t), settings, signal })

    assert.equal(`${result.status} ${result.reason ?? ''}`.trim(), expected, await textOf(result.build_log))
    assert.ok(result.artifacts.every(({ status }) => status !== 'GOOD') || result.status !== 'FAIL')
  })
}

async function resultOf(t: Parameters<typeof aServer>[0], script: string, given = {}): Promise<Result> {
  const job = aJob(await aServer(t, files(mirror)))
  const settings = await rebuildSettings(t, script, given)
  return rebuild(job, { directory: await aFolder(t), settings, signal })
}

test('a good file carries both hashes and an attestation that its worker signed', async (t) => {
  const base = await aServer(t, files(mirror))
  const settings = await rebuildSettings(t, make('good bytes'))

  const result = await rebuild(aJob(base), { directory: await aFolder(t), settings, signal })

  const [artifact] = result.artifacts
  const envelope = parseEnvelope(Buffer.from(await textOf(artifact?.attestation ?? null)))
  assert.equal(verifyEnvelope(envelope, settings.key.publicKey), true)
  assert.equal(envelope.signed.products['hello.deb']?.['sha256'], sha256('good bytes'))
  assert.equal(envelope.signed.materials['hello.buildinfo']?.['sha256'], sha256('Source: hello\n'))
  assert.equal(artifact?.sha256, sha256('good bytes'))
  assert.equal(artifact.rebuilt_sha256, sha256('good bytes'))
  assert.equal(artifact.url, `${base}/hello.deb`)
  assert.equal(result.evidence?.exit_code, 0)
  assert.match(result.evidence.backend_digest ?? '', /^[0-9a-f]{64}$/)
})

test('a bad file carries the offset of the first difference and no attestation', async (t) => {
  const { artifacts } = await resultOf(t, make('good BYTES!'))

  assert.equal(artifacts[0]?.first_difference, 5)
  assert.equal(artifacts[0].size, 10)
  assert.equal(artifacts[0].rebuilt_size, 11)
  assert.equal(artifacts[0].attestation, null)
})

test('an original that is not what the index names → FAIL input_mismatch, and nothing is built', async (t) => {
  const job = aJob(await aServer(t, files(mirror)))
  const artifacts = job.artifacts.map((artifact) => ({ ...artifact, sha256: sha256('something else') }))
  const settings = await rebuildSettings(t, make('good bytes'))

  const result = await rebuild({ ...job, artifacts }, { directory: await aFolder(t), settings, signal })

  assert.equal(result.reason, 'input_mismatch')
  assert.equal(result.evidence?.exit_code, null)
  assert.match(await textOf(result.build_log), /^rebuilderd: downloading .*the index says/)
})

test('what the build printed is kept, and what went wrong stands below it', async (t) => {
  const script = `echo building; ${make('x')}; rm -r "$REBUILDERD_OUTDIR"`

  const result = await resultOf(t, script)

  assert.equal(result.status, 'FAIL')
  assert.match(await textOf(result.build_log), /^building\n\n\nrebuilderd: /)
})

test('a build that takes too long → FAIL build_timeout with the marker in the log', async (t) => {
  const script = `echo begins; exec sleep ${forEver}`
  const { reason, seconds, log } = await withinLimit(
    async (timeoutSeconds) => {
      const result = await resultOf(t, script, { timeoutSeconds })
      return { reason: result.reason, seconds: timeoutSeconds, log: await textOf(result.build_log) }
    },
    (outcome) => outcome.log.startsWith('begins'),
  )

  assert.equal(reason, 'build_timeout')
  assert.equal(log, `begins\n\n\nTRUNCATED DUE TO TIMEOUT: ${seconds} seconds\n\n`)
})

test('the log is handed on while it grows', async (t) => {
  const base = await aServer(t, files(mirror))
  const seen = join(await aFolder(t), 'seen')
  const script = `echo one; ${untilThere(seen)}; echo two; ${make('good bytes')}`
  const settings = await rebuildSettings(t, script)
  const chunks: string[] = []

  await rebuild(aJob(base), {
    directory: await aFolder(t),
    settings,
    signal,
    onLog: (chunk) => {
      chunks.push(Buffer.from(chunk).toString())
      writeFileSync(seen, '')
    },
  })

  assert.deepEqual(chunks, ['one\n', 'two\n'])
})

test('a job ends when it is told to, and leaves no process', async (t) => {
  const stop = new AbortController()
  const base = await aServer(t, files(mirror))
  const settings = await rebuildSettings(t, `echo $$; exec sleep ${forEver}`)
  const reason = new Error('enough')
  let pid = 0

  const working = rebuild(aJob(base), {
    directory: await aFolder(t),
    settings,
    signal: stop.signal,
    onLog: (chunk) => {
      pid = Number(Buffer.from(chunk).toString())
      stop.abort(reason)
    },
  })

  await assert.rejects(working, reason)
  assert.equal(existsSync(`/proc/${pid}`), false)
})

test('an input that is the artifact itself is downloaded once', async (t) => {
  let asked = 0
  const base = await aServer(t, (_, response) => {
    asked += 1
    response.end('good bytes')
  })
  const job = aJob(base)
  const settings = await rebuildSettings(t, 'cp "$1" "$REBUILDERD_OUTDIR/"')

  const result = await rebuild(
    { ...job, job: { ...job.job, url: `${base}/hello.deb` } },
    { directory: await aFolder(t), settings, signal },
  )

  assert.equal(result.status, 'GOOD')
  assert.equal(asked, 1)
})

test('files are fetched a few at a time, in whatever order, and judged in theirs', async (t) => {
  const names = ['a.deb', 'b.deb', 'c.deb', 'd.deb', 'e.deb', 'f.deb']
  const waiting: (() => void)[] = []
  let [asked, most] = [0, 0]
  const answer = (): void => {
    do waiting.pop()?.()
    while (asked > names.length && waiting.length > 0)
  }
  const base = await aServer(t, async (request, response) => {
    asked += 1
    await new Promise<void>((begin) => {
      waiting.push(begin)
      most = Math.max(most, waiting.length)
      if (waiting.length >= 4 || asked > names.length) setTimeout(answer, 50) // until then there may come one too many
    })
    response.end(`bytes of ${request.url}`)
  })
  const copies = names
    .filter((name) => name !== 'd.deb')
    .map((name) => `printf 'bytes of /${name}' > ${name}`)
  const settings = await rebuildSettings(t, `cd "$REBUILDERD_OUTDIR"; ${copies.join('; ')}`)

  const result = await rebuild(aJob(base, names), { directory: await aFolder(t), settings, signal })

  assert.deepEqual(
    result.artifacts.map(({ name, status }) => `${name} ${status}`),
    ['a GOOD', 'b GOOD', 'c GOOD', 'd BAD', 'e GOOD', 'f GOOD'],
  )
  assert.equal(most, 4)
})

test('after one file that cannot be had the others are not waited for', async (t) => {
  const base = await aServer(t, (request, response) => {
    if (request.url === '/gone.deb') return void response.writeHead(404).end()
    response.write('the beginning') // and no end
  })
  const settings = await rebuildSettings(t, 'true')

  const result = await rebuild(aJob(base, ['slow.deb', 'gone.deb']), {
    directory: await aFolder(t),
    settings,
    signal,
  })

  assert.equal(result.reason, 'input_unavailable')
  assert.match(await textOf(result.build_log), /gone\.deb: the server answered 404/)
})

test('without diffoscope the verdict stands, with a note', async (t) => {
  const { PATH } = process.env
  t.after(() => (process.env['PATH'] = PATH))
  process.env['PATH'] = '/nonexistent'
  const diffoscope = { args: [], timeoutSeconds: 10, maxBytes: null, html: false }

  const result = await resultOf(t, `PATH=/usr/bin:/bin; ${make('good BYTES')}`, { diffoscope })

  assert.equal(result.reason, 'content_differs')
  assert.equal(result.artifacts[0]?.diffoscope, null)
  assert.match(result.evidence?.note ?? '', /diffoscope is not installed/)
})

const noDiffoscope = { skip: existsSync('/usr/bin/diffoscope') ? false : 'diffoscope is not installed' }

test('a file that differs gets its diff as a page, too, in one run', noDiffoscope, async (t) => {
  const diffoscope = { args: [], timeoutSeconds: patienceSeconds, maxBytes: null, html: true }

  const result = await resultOf(t, make('good <b>BYTES'), { diffoscope })

  const [artifact] = result.artifacts
  assert.match(
    await textOf(artifact?.diffoscope ?? null),
    /^--- originals\/0\/hello\.deb\n.*\n[^]*\+good <b>BYTES/,
  )
  const page = await textOf(artifact?.diffoscope_html ?? null)
  assert.match(page, /^<!DOCTYPE html>/)
  assert.match(page, /&lt;/)
  assert.doesNotMatch(page, /<script|<b>|\/tmp\//)
})

for (const [what, script, note] of [
  ['too large', 'truncate -s 41M diffoscope.html', /page of 42991616 bytes is too large to keep/],
  ['a link', 'ln -s /etc/hostname diffoscope.html', /left no HTML page/],
  ['a pipe', 'mkfifo diffoscope.html', /left no HTML page/],
  ['missing', ':', /left no HTML page/],
] as const) {
  test(`a page that is ${what} is left out, with a note, and the text stays`, async (t) => {
    await aStandIn(t, 'diffoscope', `echo "$@"; ${script}`)
    const diffoscope = { args: ['--max-page-size=7'], timeoutSeconds: 600, maxBytes: null, html: true }

    const result = await resultOf(t, make('good BYTES'), { diffoscope })

    const [artifact] = result.artifacts
    assert.equal(artifact?.diffoscope_html, undefined)
    assert.match(
      await textOf(artifact?.diffoscope ?? null),
      /^--max-page-size=\d+ --max-page-size=7 --text=- --html=diffoscope\.html --timeout=600 -- /,
    )
    assert.match(result.evidence?.note ?? '', note)
  })
}

test('a file that differs gets its diff', noDiffoscope, async (t) => {
  const diffoscope = { args: [], timeoutSeconds: patienceSeconds, maxBytes: null, html: false }

  const result = await resultOf(t, make('good BYTES'), { diffoscope })

  const text = await textOf(result.artifacts[0]?.diffoscope ?? null)
  assert.match(text, /^--- originals\/0\/hello\.deb\n\+\+\+ build\/out\/hello\.deb\n/)
  assert.match(text, /-good bytes/)
  assert.match(text, /\+good BYTES/)
})

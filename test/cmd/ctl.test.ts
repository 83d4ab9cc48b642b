import assert from 'node:assert/strict'
import { test } from 'node:test'
import {
  aJob,
  aPackage,
  aWorker,
  noTerminal,
  listReply,
  runOnTerminal,
  runHere,
  startStandIn,
  tempFolder,
  type Ended,
} from './program.ts'

/** Colours and what is printable; nothing else may reach a terminal. */
function withoutColours(text: string): string {
  return text.replaceAll('\r\n', '\n').replace(/\u001b\[\d+m/g, '')
}

test('a long list is asked for in pages and printed whole', async (t) => {
  const home = await tempFolder(t)
  const records = Array.from({ length: 2500 }, (_, i) => aPackage({ id: i + 1, name: `package-${i}` }))
  const { url, asked } = await startStandIn(t, ({ query }) => listReply(records, query))

  const { stdout, stderr, code } = await runHere(['ctl', 'pkgs', 'ls', '-H', url], { home })

  const names = stdout
    .trim()
    .split('\n')
    .map((line) => line.split(' ')[2])
  assert.deepEqual(
    names,
    records.map((record) => record['name']),
  )
  assert.deepEqual([code, stderr], [0, ''])
  assert.deepEqual(
    asked.map(({ query }) => [query.get('limit'), query.get('sort'), query.get('after')]),
    [
      ['1000', 'name', null],
      ['1000', 'name', '1000'],
      ['1000', 'name', '2000'],
    ],
  )
})

test('--json of a long list is one document', async (t) => {
  const home = await tempFolder(t)
  const records = Array.from({ length: 1200 }, (_, i) => aPackage({ id: i + 1 }))
  const { url } = await startStandIn(t, ({ query }) => listReply(records, query))

  const { stdout, stderr, code } = await runHere(['ctl', 'pkgs', 'ls', '--json', '-H', url], { home })

  assert.deepEqual([code, stderr], [0, ''])
  const listed = JSON.parse(stdout) as { id: number }[]
  assert.deepEqual(
    listed.map(({ id }) => id),
    records.map((record) => record['id']),
  )
  assert.match(stdout, /^\[\n {2}\{\n {4}"id": 1,\n {4}"name": "midge",\n/)
})

test('--json of nothing is an empty array', async (t) => {
  const home = await tempFolder(t)
  const { url } = await startStandIn(t, ({ query }) => listReply([], query))

  for (const words of [['pkgs', 'ls'], ['queue', 'ls'], ['status'], ['workers', 'ls']]) {
    const { stdout } = await runHere(['ctl', ...words, '--json', '-H', url], { home })
    assert.equal(stdout, '[]\n', words.join(' '))
  }
})

test('where no worker has registered, people are told how one is started, and programs get no line', async (t) => {
  const home = await tempFolder(t)
  const { url } = await startStandIn(t, ({ query }) => listReply([], query))

  for (const words of [['status'], ['workers', 'ls']]) {
    const { code, stdout, stderr } = await runHere(['ctl', ...words, '-H', url], { home })
    assert.deepEqual([code, stdout], [0, ''], words.join(' '))
    assert.match(stderr, /^no worker has registered yet; .*: rebuilderd worker --secret SECRET http:\/\/127/)
  }
})

test('filters are asked of the server and looked after where it does not know them', async (t) => {
  const home = await tempFolder(t)
  const records = [
    aPackage({ id: 1, version: '1.10' }),
    aPackage({ id: 2, version: '1.1', status: 'BAD' }),
    aPackage({ id: 3, version: '1.10', status: 'BAD', release: 'sid' }),
    aPackage({ id: 4, version: '1.10', status: 'BAD', component: 'contrib' }),
    aPackage({ id: 5, version: '1.10', status: 'BAD' }),
  ]
  const { url, asked } = await startStandIn(t, ({ query }) => listReply(records, query))
  const filters = ['--version', '1.10', '--status', 'BAD', '--release', 'trixie', '--suite', 'main']

  const { stdout } = await runHere(['ctl', 'pkgs', 'ls', 'midge', '--json', ...filters, '-H', url], {
    home,
  })

  assert.deepEqual(
    (JSON.parse(stdout) as { id: number }[]).map(({ id }) => id),
    [5],
  )
  assert.deepEqual(Object.fromEntries(asked[0]?.query ?? []), {
    name: 'midge',
    version: '1.10',
    release: 'trixie',
    component: 'main',
    status: 'BAD',
    sort: 'name',
    limit: '1000',
  })
})

for (const [status, ids] of [
  ['GOOD', [1]],
  ['BAD', [2]],
  ['FAIL', [3]],
  ['UNKWN', [3, 4, 5]],
] as const) {
  test(`--status ${status} finds packages ${ids.join(', ')}`, async (t) => {
    const home = await tempFolder(t)
    const records = [
      aPackage({ id: 1 }),
      aPackage({ id: 2, status: 'BAD' }),
      aPackage({ id: 3, status: null, build_id: 9 }),
      aPackage({ id: 4, status: null, build_id: null }),
      aPackage({ id: 5, status: 'UNKWN', build_id: null }),
    ]
    const { url } = await startStandIn(t, ({ query }) => listReply(records, query))

    const { stdout } = await runHere(['ctl', 'pkgs', 'ls', '--json', '--status', status, '-H', url], {
      home,
    })

    assert.deepEqual(
      (JSON.parse(stdout) as { id: number }[]).map(({ id }) => id),
      ids,
    )
  })
}

test('colours change no column', async (t) => {
  const home = await tempFolder(t)
  const lists: Record<string, Record<string, unknown>[]> = {
    '/api/v1/packages/binary': [aPackage(), aPackage({ status: 'BAD', name: 'x', release: null })],
    '/api/v1/queue': [aJob(), aJob({ id: 2, name: 'linux', started_at: '2026-11-22T19:41:51' })],
    '/api/v1/workers': [
      aWorker(),
      aWorker({ name: 'a-longer-name', status: 'working hard', is_online: false }),
    ],
  }
  const { url } = await startStandIn(t, ({ path, query }) => listReply(lists[path] ?? [], query))

  for (const words of [['pkgs', 'ls'], ['queue', 'ls'], ['status'], ['workers', 'ls']]) {
    const plain = await runHere(['ctl', ...words, '-H', url], { home })
    const coloured = await runHere(['ctl', ...words, '-C', '-H', url], { home })

    assert.notEqual(coloured.stdout, plain.stdout)
    assert.equal(withoutRunningTime(withoutColours(coloured.stdout)), withoutRunningTime(plain.stdout))
    assert.ok(!plain.stdout.includes('\t') && !plain.stdout.includes('\u001b'))
  }
})

function withoutRunningTime(text: string): string {
  return text.replace(/\d+h +\d+m +\d+s|for .*/, '')
}

test('what a server sends cannot command a terminal', async (t) => {
  const home = await tempFolder(t)
  const evil = 'x\u001b]0;owned\u0007\u009b31m\u202e'
  const answers: Record<string, Record<string, unknown>[]> = {
    '/api/v1/packages/binary': [aPackage({ name: evil, url: evil, diffoscope_log_id: 1 })],
    '/api/v1/queue': [aJob({ name: evil, distribution: evil })],
    '/api/v1/workers': [aWorker({ name: evil, status: evil, address: evil })],
  }
  const text = `\u001b[32mgreen\u001b[0m\r\n${evil}\n`
  const dashboard = {
    rebuilds: { good: 1, bad: 2, fail: 3, unknown: 4 },
    jobs: { running: 5, available: 6, pending: 7 },
  }
  const { url } = await startStandIn(t, ({ path, query }) => {
    if (path === '/api/v1/dashboard') return { body: dashboard }
    return path in answers ? listReply(answers[path] ?? [], query) : { type: 'text/plain', body: text }
  })

  for (const words of [
    ['pkgs', 'ls'],
    ['pkgs', 'ls', '--json'],
    ['pkgs', 'log'],
    ['pkgs', 'diffoscope'],
    ['queue', 'ls'],
    ['status'],
    ['workers', 'ls'],
  ]) {
    const { stdout, code } = await runHere(['ctl', ...words, '-H', url], {
      home,
      environment: { NOPAGER: '1' },
      columns: 80,
    })

    assert.equal(code, 0, stdout)
    assert.ok(stdout.includes('owned'), words.join(' '))
    assert.doesNotMatch(
      withoutColours(stdout),
      /[\u0000-\u0009\u000b-\u001f\u007f-\u009f\u202e]/,
      words.join(' '),
    )
  }
})

test('a log goes through the pager on a terminal only', { skip: noTerminal }, async (t) => {
  const home = await tempFolder(t)
  const { url } = await startStandIn(t, ({ path, query }) =>
    path === '/api/v1/packages/binary'
      ? listReply([aPackage()], query)
      : { type: 'text/plain', body: 'the log\n' },
  )
  const log = ['ctl', 'pkgs', 'log', '-H', url]
  const environment = { PAGER: 'sed s/^/paged:/' }

  const onTerminal = await runOnTerminal(log, { home, environment })
  const without = await runOnTerminal(log, { home, environment: { ...environment, NOPAGER: '' } })
  const missing = await runOnTerminal(log, { home, environment: { PAGER: 'no-such-pager 2>/dev/null' } })
  const piped = await runHere(log, { home, environment })

  const shown = [onTerminal, without, missing, piped].map(({ stdout }) => stdout.replaceAll('\r\n', '\n'))
  assert.deepEqual(shown, ['paged:the log\n', 'the log\n', 'the log\n', 'the log\n'])
})

const free = { disk_free: 210e9, memory_free: 12e9, load: 3.14 }
for (const args of [
  ['ctl', 'workers', 'ls'],
  ['worker', 'backends'],
  ['worker', 'connect', '--help'],
  ['ctl', 'pkgs', 'log', '--help'],
]) {
  test(`\`${args.join(' ')}\` keeps within a narrow terminal`, { skip: noTerminal }, async (t) => {
    const home = await tempFolder(t)
    const workers = [
      aWorker({ address: '192.0.2.10', proven: true, free, status: 'working hard on hello 2.10-3' }),
    ]
    const { url } = await startStandIn(t, ({ query }) => listReply(workers, query))
    const asks = args[0] === 'ctl' && !args.includes('--help') ? [...args, '-H', url] : args

    const run = args.includes('--help') ? runOnTerminal : runHere // that the width is read is proven by two
    const { stdout, code } = await run(asks, { home, columns: 70 })

    const lines = withoutColours(stdout).split('\n')
    assert.equal(code, 0, stdout)
    assert.deepEqual(
      lines.filter((line) => line.length > 70),
      [],
    )
    if (args.includes('workers'))
      assert.match(
        lines.join(' '),
        /hello 2\.10-3\s+proven, at 192\.0\.2\.10, seen .*disk 210 GB,\s+memory 12 GB, load 3\.1/,
      )
  })
}

test('a terminal that does not know its width has the usual one', { skip: noTerminal }, async (t) => {
  const home = await tempFolder(t)

  const { stdout } = await runOnTerminal(['ctl', 'pkgs', 'log', '--help'], { home, columns: 0 })

  assert.ok(
    withoutColours(stdout)
      .split('\n')
      .some((line) => line.length > 80),
  )
})

/** A server with packages and one answer for every log, diff and attestation. */
async function lookUp(
  t: Parameters<typeof startStandIn>[0],
  records: Record<string, unknown>[],
  args: string[],
): Promise<Ended & { fetched: string[] }> {
  const home = await tempFolder(t)
  const { url, asked } = await startStandIn(t, ({ path, query }) => {
    if (path === '/api/v1/packages/binary') return listReply(records, query)
    return path.includes('/99/') ? { status: 404 } : { type: 'text/plain', body: `of ${path}` }
  })
  const ended = await runHere(['ctl', 'pkgs', ...args, '-H', url], { home })
  return { ...ended, fetched: asked.map(({ path }) => path).filter((path) => path.includes('builds')) }
}

test('a package with history is shown by its newest result', async (t) => {
  const records = [
    aPackage({ id: 1, version: '1', build_id: 5, artifact_id: 50, diffoscope_log_id: 8 }),
    aPackage({ id: 2, version: '2', build_id: 6, artifact_id: 60 }),
    aPackage({ id: 3, version: '3', build_id: null, artifact_id: null, attestation_log_id: null }),
  ]

  const log = await lookUp(t, records, ['log', 'midge'])
  const diff = await lookUp(t, records, ['diffoscope', '--name', 'midge'])
  const old = await lookUp(t, records, ['log', 'midge', '--version', '1'])

  assert.deepEqual(log.fetched, ['/api/v1/builds/6/log'])
  assert.equal(log.stderr, 'midge 2 (debian, trixie, main, amd64), the newest of 3 (others by --version)\n')
  assert.deepEqual(diff.fetched, ['/api/v1/builds/5/artifacts/50/diffoscope'])
  assert.deepEqual([old.fetched, old.stderr], [['/api/v1/builds/5/log'], ''])
})

test('an attestation is printed with one line end', async (t) => {
  const { stdout, code } = await lookUp(t, [aPackage()], ['attestation', 'midge'])

  assert.deepEqual([code, stdout], [0, 'of /api/v1/builds/7/artifacts/3/attestation\n'])
})

for (const [what, records, args, message] of [
  [
    'several names',
    [aPackage(), aPackage({ id: 2, name: 'tzdata' })],
    ['log'],
    /2 packages match, of more than one name: midge, tzdata\n.*--name/,
  ],
  ['no package', [], ['log', 'mide', '--release', 'sid'], /knows no package for --name mide --release sid\n/],
  ['no build', [aPackage({ build_id: null })], ['log', 'midge'], /midge 0.2.41-5 has not been rebuilt yet\n/],
  ['no diff', [aPackage()], ['diffoscope', 'midge'], /no diff of midge 0.2.41-5: it is GOOD\n/],
  [
    'no attestation',
    [aPackage({ status: 'BAD', attestation_log_id: null })],
    ['attestation', 'midge'],
    /no attestation of midge .*it is BAD\n/,
  ],
  [
    'a result that is gone',
    [aPackage({ build_id: 99 })],
    ['attestation', 'midge'],
    /no attestation of midge/,
  ],
  ['two names given', [], ['log', 'a', '--name', 'b'], /two names are given: b and a/],
] as const) {
  test(`a look-up with ${what} says so`, async (t) => {
    const { stdout, stderr, code } = await lookUp(t, [...records], [...args])

    assert.match(stderr, message)
    assert.equal(stdout, '')
    assert.notEqual(code, 0)
  })
}

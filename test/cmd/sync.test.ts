import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import { mkdir, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { test, type TestContext } from 'node:test'
import { gzipSync, zstdCompressSync } from 'node:zlib'
import { downloadSum } from '../../src/cmd/ctl-sync.ts'
import { readReports } from '../../src/cmd/reports-in.ts'
import { aPackage, listReply, runHere, startStandIn, tempFolder, type Asked, type Ended } from './program.ts'

type Report = ReturnType<typeof aReport>

function aReport(release: string | null, ...names: string[]) {
  return {
    distribution: 'debian',
    release,
    architecture: 'amd64',
    packages: names.map((name) => ({
      name,
      version: '1.10',
      url: `https://mirror.example/${name}.buildinfo`,
      artifacts: [
        {
          name,
          version: '1.10',
          component: 'main',
          architecture: 'amd64',
          url: `https://mirror.example/${name}.deb`,
          sha256: null,
          size: null,
        },
      ],
      maintainer: null,
    })),
    index: null,
  }
}

const one = aReport('trixie', 'midge', 'tzdata')
const other = aReport('sid', 'midge')

/** Bytes in odd pieces, as a pipe brings them. */
async function* pieces(bytes: Uint8Array, size: number): AsyncGenerator<Uint8Array> {
  for (let at = 0; at < bytes.length; at += size) yield bytes.subarray(at, at + size)
}

const utf8 = (text: string): Uint8Array => new TextEncoder().encode(text)
const forms: readonly [string, Uint8Array, Report[]][] = [
  ['one report', utf8(JSON.stringify(one)), [one]],
  ['a report over several lines', utf8(JSON.stringify(one, null, 2)), [one]],
  ['an array', utf8(JSON.stringify([one, other])), [one, other]],
  [
    'an array with one report on each line',
    utf8(`[\n${JSON.stringify(one)},\n${JSON.stringify(other)}\n]\n`),
    [one, other],
  ],
  ['one on each line', utf8(`${JSON.stringify(one)}\n\n${JSON.stringify(other)}\n`), [one, other]],
  ['an array behind an array', utf8(`${JSON.stringify([one])} [${JSON.stringify(other)}]`), [one, other]],
  ['packages in front', utf8(`\ufeff${JSON.stringify(Object.assign({ packages: [] }, one))}`), [one]],
  [
    'a name that is written oddly',
    utf8(JSON.stringify(one).replace('"packages"', '"pack\\u0061ges"')),
    [one],
  ],
  ['no packages at all', utf8(`[${JSON.stringify(aReport(null))}]`), [aReport(null)]],
  ['an empty array', utf8('[]'), []],
  ['gzip', gzipSync(JSON.stringify(one)), [one]],
  ['zstd', zstdCompressSync(JSON.stringify([one])), [one]],
]

/** All reports with all their packages. */
async function reportsIn(input: AsyncIterable<Uint8Array>) {
  const found: unknown[] = []
  for await (const report of readReports(input, tmpdir()))
    found.push({ ...report, packages: [...report.packages] })
  return found
}

for (const [title, bytes, expected] of forms) {
  test(`reports are read from ${title}`, async () => {
    for (const size of [1, 7, 100_000]) {
      assert.deepEqual(await reportsIn(pieces(bytes, size)), expected)
    }
  })
}

for (const [title, bytes, message] of [
  ['nothing', utf8(' \n'), /standard input is empty/],
  ['half a report', utf8(JSON.stringify(one).slice(0, -9)), /standard input is not JSON: /],
  ['a broken second line', utf8(`${JSON.stringify(one)}\n{`), /line 2 of standard input is not JSON: /],
  [
    'another document',
    utf8('[{"distribution":"debian"}]'),
    /report 1: `release`|report 1: `architecture` is missing/,
  ],
  ['a comma too many', utf8(`[${JSON.stringify(one)},]`), /line 1 of standard input is not JSON: /],
  ['a package too few', utf8(JSON.stringify(one).replace('"packages":[', '"packages":[,')), /not JSON: /],
  [
    'a wrong package',
    utf8(JSON.stringify([one, { ...other, packages: [...other.packages, {}] }])),
    /report 2, package 2: `name` is missing/,
  ],
  ['two lists', utf8('{"packages":[],"packages":[]}'), /two lists of packages/],
  ['a number', utf8('5'), /a report is an object, and here stands "5"/],
  ['a wrong member', utf8(JSON.stringify([one, { ...other, packages: 5 }])), /report 2: `packages`/],
  ['other bytes', Uint8Array.of(0xff, 0xfe, 0, 1), /not UTF-8/],
  ['half an archive', gzipSync(JSON.stringify(one)).subarray(0, 40), /standard input/],
] as const) {
  test(`${title} is no package report, and it is said why`, async () => {
    for (const size of [3, 100_000]) await assert.rejects(reportsIn(pieces(bytes, size)), message)
  })
}

/** Runs `ctl pkgs …` against a server that lists `known` and takes any report. */
async function sync(
  t: TestContext,
  args: string[],
  { input = '', known = [] }: { input?: string; known?: Record<string, unknown>[] } = {},
): Promise<Ended & { posts: Asked[]; asked: Asked[] }> {
  const home = await tempFolder(t)
  const { url, asked } = await startStandIn(t, ({ method, path, query }) => {
    if (path === '/api/v1/scopes') return { status: 404 }
    if (path === '/api/v1/queue') return listReply([], query)
    return method === 'POST' ? { status: 200 } : listReply(known, query)
  })
  await writeFile(join(home, 'cookie'), 'secret')
  const all = ['ctl', 'pkgs', ...args, '-H', url, '--cookie-file', 'cookie']
  const ended = await runHere(all, { home, input })
  return {
    ...ended,
    asked,
    posts: asked.filter(({ method, path }) => method === 'POST' && path === '/api/v1/packages'),
  }
}

test('sync-stdin sends each report as it is, with the cookie', async (t) => {
  const { code, stdout, stderr, posts } = await sync(t, ['sync-stdin'], {
    input: JSON.stringify([one, other]),
  })

  assert.deepEqual([code, stdout], [0, ''])
  assert.deepEqual(
    posts.map(({ body, path, cookie }) => [body, path, cookie]),
    [
      [one, '/api/v1/packages', 'secret'],
      [other, '/api/v1/packages', 'secret'],
    ],
  )
  assert.match(stderr, /sending debian\/trixie \(amd64\) to http\S+: 2 build inputs with 2 packages\n/)
})

test('nothing is sent where a later report is wrong', async (t) => {
  const { code, stderr, posts } = await sync(t, ['sync-stdin'], {
    input: `${JSON.stringify(one)}\n${JSON.stringify({ ...other, architecture: 5 })}`,
  })

  assert.match(stderr, /report 2: `architecture`/)
  assert.deepEqual([code, posts], [1, []])
})

test('an empty list is not sent, unless it is meant', async (t) => {
  const input = JSON.stringify(aReport('trixie'))

  const refused = await sync(t, ['sync-stdin'], { input })
  const forced = await sync(t, ['sync-stdin', '--force'], { input })

  assert.match(refused.stderr, /the list of debian\/trixie \(amd64\) is empty/)
  assert.deepEqual([refused.code, refused.posts], [1, []])
  assert.equal(forced.code, 0)
  assert.equal(forced.posts[0]?.query.get('force'), 'true')
})

test('--dry-run tells what is new and what is gone, and changes nothing', async (t) => {
  const known = [
    aPackage({ id: 1, version: '1.10' }),
    aPackage({ id: 2, name: 'gone', version: '1' }),
    aPackage({ id: 3, name: 'other-architecture', architecture: 'arm64' }),
    aPackage({ id: 4, name: 'other-release', release: 'sid' }),
    aPackage({ id: 5, name: 'history', seen_in_last_sync: false }),
  ]

  const { code, stdout, asked } = await sync(t, ['sync-stdin', '--dry-run'], {
    input: JSON.stringify(one),
    known,
  })

  assert.equal(
    stdout,
    'debian/trixie (amd64): 2 packages, 1 new, 1 gone, 1 unchanged, 1 to be queued\n+ tzdata 1.10 (amd64, main)\n- gone 1 (amd64, main)\n',
  )
  assert.equal(code, 0)
  assert.deepEqual(
    asked.map(({ method, path, cookie }) => [method, path, cookie]),
    [
      ['GET', '/api/v1/packages/binary', undefined],
      ['GET', '/api/v1/queue', undefined],
    ],
  )
})

test('a server that refuses a report is quoted, and nothing more is sent', async (t) => {
  const home = await tempFolder(t)
  const { url, asked } = await startStandIn(t, ({ path }) =>
    path === '/api/v1/scopes'
      ? { status: 404 }
      : { status: 409, type: 'text/plain', body: 'the list shrank' },
  )
  await writeFile(join(home, 'cookie'), 'secret')

  const args = ['ctl', 'pkgs', 'sync-stdin', '-H', url, '--cookie-file', 'cookie']
  const { code, stderr } = await runHere(args, { home, input: JSON.stringify([one, other]) })

  assert.match(stderr, /importing debian\/trixie \(amd64\): .*409 the list shrank/)
  assert.deepEqual([code, asked.filter(({ path }) => path === '/api/v1/packages').length], [1, 1])
})

test('an unknown profile is named together with the nearest one', async (t) => {
  const home = await tempFolder(t)
  const content = '[profile."debian-trixie"]\ndistro = "debian"\nsource = "https://mirror.example/debian"\n'
  await writeFile(join(home, 'sync.conf'), content)

  const args = ['ctl', 'pkgs', 'sync-profile', 'debian-trixi', '--sync-config', 'sync.conf', '--print-json']
  const { code, stderr } = await runHere(args, { home })

  assert.equal(stderr, 'rebuilderd: sync.conf has no profile debian-trixi\n  did you mean debian-trixie?\n')
  assert.equal(code, 2)
})

test('a pattern that is none, and a distribution that nobody knows, are wrong usage', async (t) => {
  const home = await tempFolder(t)
  const sync = ['ctl', 'pkgs', 'sync', 'debian', 'https://mirror.example/', '--print-json']

  const pattern = await runHere([...sync, '--pkg', '***'], { home })

  assert.match(pattern.stderr, /the command line: `pkgs\S*` is not a valid pattern/)
  assert.equal(pattern.code, 2)
})

/** A folder like an archive of Debian that nobody signed, with one package. */
async function makeArchive(folder: string): Promise<void> {
  const hash = 'a'.repeat(64)
  const files = {
    'main/source/Sources': `Package: midge\nVersion: 1.10\nDirectory: pool/m\nMaintainer: A <a@b.example>\nChecksums-Sha256:\n ${hash} 10 midge_1.10.dsc\n\n`,
    'main/binary-amd64/Packages': `Package: midge\nVersion: 1.10\nArchitecture: amd64\nMaintainer: A <a@b.example>\nFilename: pool/m/midge_1.10_amd64.deb\nSize: 10\nSHA256: ${hash}\n\n`,
  }
  const lines = ['Suite: lab', 'Codename: lab', 'Architectures: amd64', 'Components: main']
  lines.push(`Date: ${new Date().toUTCString().replace('GMT', 'UTC')}`, 'SHA256:')
  for (const [name, content] of Object.entries(files)) {
    await mkdir(dirname(join(folder, 'dists/lab', name)), { recursive: true })
    await writeFile(join(folder, 'dists/lab', name), content)
    lines.push(` ${createHash('sha256').update(content).digest('hex')} ${content.length} ${name}`)
  }
  await writeFile(join(folder, 'dists/lab/Release'), `${lines.join('\n')}\n`)
}

test('what sync --print-json prints without a server or a cookie, sync-stdin takes', async (t) => {
  const home = await tempFolder(t)
  await makeArchive(home)
  const source = [
    'ctl',
    'pkgs',
    'sync',
    'debian',
    home,
    '--component',
    'main',
    '--release',
    'lab',
    '--arch',
    'amd64',
  ]

  const printed = await runHere([...source, '--allow-unsigned', '--print-json'], { home })
  const { posts } = await sync(t, ['sync-stdin'], { input: printed.stdout })

  assert.equal(printed.code, 0, printed.stderr)
  const [report, ...others] = JSON.parse(printed.stdout) as Report[]
  assert.deepEqual([others, report?.packages.map(({ name }) => name)], [[], ['midge']])
  assert.deepEqual(
    posts.map(({ body }) => body),
    [report],
  )
})

test('an archive that cannot be read is told, and nothing is printed that looks like a result', async (t) => {
  const home = await tempFolder(t)
  const source = [
    'ctl',
    'pkgs',
    'sync',
    'debian',
    join(home, 'none'),
    '--component',
    'main',
    '--release',
    'lab',
    '--arch',
    'amd64',
  ]

  const { code, stdout, stderr } = await runHere([...source, '--print-json'], { home })

  assert.deepEqual([code, stdout], [1, ''])
  assert.match(stderr, /reading the archive \/.*\/none: /)
})

test('downloads at once are one sum, under a name that tells something', () => {
  const told = downloadSum()
  const folder = 'https://mirror.example/debian/dists/trixie/main'
  const byHash = `${folder}/source/by-hash/SHA256/${'a'.repeat(64)}`

  const first = told({ what: byHash, done: 1_000_000, total: 4_000_000 })
  const second = told({ what: `${folder}/binary-amd64/Packages.xz`, done: 1_000_000, total: 6_000_000 })
  const third = told({ what: 'https://mirror.example/core/os/x86_64/core.db', done: 500_000, total: null })

  assert.equal(first, 'downloading 1.0 MB of 4.0 MB (25 %), 1 file: trixie/main/source')
  assert.equal(second, 'downloading 2.0 MB of 10.0 MB (20 %), 2 files: trixie/main/binary-amd64/Packages.xz')
  assert.equal(third, 'downloading 2.5 MB, 3 files: core.db')
})

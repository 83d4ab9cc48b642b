import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { appendFile } from 'node:fs/promises'
import { promisify } from 'node:util'
import { test } from 'node:test'
import { Hono } from 'hono'
import { generateSigningKey } from '../../src/attestation.ts'
import { silentLog } from '../../src/log.ts'
import { mountPages } from '../../src/server/pages.ts'
import type { Service } from '../../src/server/service.ts'
import { zstdFrame } from '../../src/compression.ts'
import {
  aSigningWorker,
  aSmallDistribution,
  commandOf,
  hostileLog,
  hostileName,
  rebuildNext,
} from '../help/pages.ts'
import { listTrends } from '../../src/wire/history.ts'
import { largeData } from '../bench/large.ts'
import { until } from '../help/until.ts'
import { aPackage, importPackages, startServer, temporaryFolder, type TestServer } from '../help/server.ts'
import type { TestContext } from 'node:test'

async function aServerWithPackages(
  t: TestContext,
  settings = {},
  more: Parameters<typeof startServer>[1] = {},
): Promise<TestServer> {
  const server = await startServer(t, { ...more, settings })
  await aSmallDistribution(server.call, await aSigningWorker(server))
  return server
}

async function textOf(server: TestServer, path: string, status = 200): Promise<string> {
  const reply = await fetch(server.address + path)
  assert.equal(reply.status, status, path)
  return reply.text()
}

/** Addresses of ours that a page links to, below the server's address. */
function linksIn(page: string, address: string): string[] {
  const base = new URL(address).pathname.replace(/\/$/, '')
  const found = [...page.matchAll(/(?:href|src|action)="([^"]+)"/g)].map((match) =>
    (match[1] ?? '').replaceAll('&amp;', '&').replaceAll('&#39;', "'").replaceAll('&quot;', '"'),
  )
  return [
    ...new Set(found.filter((link) => link.startsWith('/')).map((link) => link.replace(/#.*$/, ''))),
  ].map((link) => {
    assert.ok(base === '' || link === base || link.startsWith(`${base}/`), `${link} leaves ${base}`)
    return link.slice(base.length)
  })
}

test('every link of every page leads to something, also below a sub-path', async (t) => {
  const server = await aServerWithPackages(t, { 'http.base_path': '/verify/' })
  const seen = new Set<string>()
  const pending = ['/']

  while (pending.length > 0) {
    const path = pending.pop() ?? '/'
    if (seen.has(path) || path.startsWith('/api/v1/events')) continue
    seen.add(path)
    const reply = await fetch(server.address + path)
    const body = await reply.text()
    assert.equal(reply.status, 200, path)
    if (reply.headers.get('content-type')?.startsWith('text/html'))
      pending.push(...linksIn(body, server.address))
  }

  for (const path of [
    '/queue',
    '/workers',
    '/reasons',
    '/about',
    '/debian/sid',
    '/debian/sid/hello',
    '/builds/4',
  ])
    assert.ok(seen.has(path), `nothing leads to ${path}`)
})

test('the overview tells what is verified, what got worse and why', async (t) => {
  const server = await aServerWithPackages(t)

  const page = await textOf(server, '/')

  assert.match(page, /25\.0 %<\/strong>\s*verified of 4\s+builds/)
  assert.match(
    page.split('class="card"')[0] ?? '',
    /Last regression:[\s\S]*hello[\s\S]*1\.0-2[\s\S]*debian sid[\s\S]*BAD[\s\S]*content differs/,
  )
  assert.match(page, /1 GOOD, 1 BAD, 1 FAIL, 1 UNKWN/)
  const [, worse = ''] = page.split('id="worse"')
  assert.match(
    worse.split('id="others"')[0] ?? '',
    /hello[\s\S]*1\.0-2[\s\S]*GOOD[\s\S]*BAD[\s\S]*content differs[\s\S]*1\.0-1/,
  )
})

for (const [query, expected] of [
  ['', ['hello', 'untried', 'zlib', 'hostile']],
  ['?status=BAD', ['hello']],
  ['?status=UNKWN', ['untried']],
  ['?reason=environment_unavailable', ['zlib']],
  ['?architecture=amd64&status=FAIL', ['zlib']],
  ['?architecture=arm64', []],
  ['?component=main&status=GOOD', ['hostile']],
  ['?maintainer=ADA', ['hello', 'zlib']],
  ['?q=li', ['zlib']],
  ['?q=%25', []],
  ['?status=EVIL&reason=evil&sort=evil&after=evil&q=', ['hello', 'untried', 'zlib', 'hostile']],
  ['?sort=name-down&maintainer=ada', ['zlib', 'hello']],
] as const) {
  test(`the list of a release with ${query === '' ? 'no filter' : query} has ${expected.join(', ') || 'no package'}`, async (t) => {
    const server = await sharedServer()

    const page = await textOf(server, `/debian/sid${query}`)
    const names = [...page.matchAll(/<th scope="row">\s*<a href="[^"]*"><bdi>([^<]*)<\/bdi>/g)].map(
      (match) => ((match[1] ?? '').startsWith('&lt;') ? 'hostile' : match[1]),
    )

    assert.deepEqual(
      query.includes('down') ? names : names.sort(),
      query.includes('down') ? expected : [...expected].sort(),
    )
    void t
  })
}

/** One server for the tests that only read. */
let shared: Promise<TestServer> | undefined
const endings: (() => Promise<void> | void)[] = []
function sharedServer(): Promise<TestServer> {
  const t = { after: (end: () => Promise<void>) => endings.unshift(end) } as unknown as TestContext // all that startServer asks of it
  return (shared ??= aServerWithPackages(t))
}
test.after(async () => {
  for (const end of endings) await end()
})

test('pages of a long list follow each other without gap or repetition, forwards and back', async (t) => {
  const server = await startServer(t)
  const names = Array.from({ length: 250 }, (_, index) => `p${String(index).padStart(3, '0')}`)
  await importPackages(
    server.call,
    names.map((name) => aPackage({ name })),
  )
  const namesOf = (page: string): string[] =>
    [...page.matchAll(/<bdi>(p\d{3})<\/bdi>/g)].map((match) => match[1] ?? '')
  const linkOf = (page: string, rel: string): string =>
    (new RegExp(`href="([^"]*)"\\s+rel="${rel}"`).exec(page)?.[1] ?? '').replaceAll('&amp;', '&')

  for (const sort of ['name', 'name-down']) {
    const first = await textOf(server, `/debian/sid?sort=${sort}`)
    const second = await textOf(server, linkOf(first, 'next'))
    const third = await textOf(server, linkOf(second, 'next'))
    const back = await textOf(server, linkOf(third, 'prev'))

    const all = [first, second, third].flatMap(namesOf)
    assert.deepEqual(all, sort === 'name' ? names : [...names].reverse())
    assert.equal(linkOf(third, 'next'), '')
    assert.equal(linkOf(first, 'prev'), '')
    assert.deepEqual(namesOf(back), namesOf(second))
  }
})

test('names, logs and diffs from outside never become markup, and nothing of them stays hidden', async () => {
  const server = await sharedServer()
  const source = `/debian/sid/${encodeURIComponent(hostileName)}`
  const paths = [
    '/',
    '/queue',
    '/debian/sid',
    source,
    '/builds/1',
    '/builds/4',
    '/builds/4/log',
    '/feed.atom',
    '/search?q=%3Cimg',
  ]
  paths.push((/\/builds\/4\/diff\/\d+/.exec(await textOf(server, '/builds/4')) ?? [''])[0])

  for (const path of paths) {
    const page = await textOf(server, path)
    assert.doesNotMatch(page, /<img src=x|<script>|onerror="/, path)
    assert.doesNotMatch(page, /[\u0000-\u0008\u000b-\u001f\u007f\u200b\u202a-\u202e\u2066-\u2069]/, path)
  }
  assert.match(await textOf(server, source), /\\u202egood\\u200b\\x07/)
})

test('the log keeps its colours as classes, and its lines have addresses', async () => {
  const server = await sharedServer()

  const page = await textOf(server, '/builds/4/log')

  assert.match(page, /<span class="a-bold a-fg-red">error:<\/span>/)
  assert.match(page, /id="L4"[^\n]*progress 100%/)
  assert.doesNotMatch(page, /progress 10%|evil\.example|0;title/)
})

test('a log of a million lines is shown in parts', async (t) => {
  const server = await startServer(t)
  const worker = await aSigningWorker(server)
  await importPackages(server.call, [aPackage()])
  const log = new TextEncoder().encode(
    Array.from({ length: 1_000_000 }, (_, index) => `line ${index + 1}: ${'x'.repeat(40)}\n`).join(''),
  )
  await rebuildNext(worker, 'GOOD', { build_log: await zstdFrame(log) })

  const page = await textOf(server, '/builds/1')
  const last = await textOf(server, '/builds/1/log?from=998001')

  assert.ok(page.length < 150_000, `the page has ${page.length} characters`)
  assert.match(page, /1,000,000 lines/)
  assert.match(page, /line 1:/)
  assert.match(page, /line 1000000:/)
  assert.match(page, /999,700 lines between are not shown here/)
  assert.match(last, /line 998001:/)
  assert.match(last, /line 1000000:/)
  assert.doesNotMatch(last, /line 998000:|rel="next"/)
})

test('a build explains its attestation: whose signatures are true, and whose hash it is', async () => {
  const server = await sharedServer()

  const page = await textOf(server, '/builds/1')

  assert.match(page, /Signed by the worker that rebuilt it:[\s\S]*?✓ the signature is true/)
  assert.match(page, /Signed by this server[\s\S]*?✓ the signature is true/)
  assert.match(page, /That is the hash of the distribution’s own file/)
  assert.match(page, new RegExp('a'.repeat(64)))
})

for (const [what, path] of [
  ['a build', '/builds/1'],
  ['a source package', `/debian/sid/${encodeURIComponent(hostileName)}`],
] as const) {
  test(`the commands that the page of ${what} gives to verify an attestation do so, with other programs than ours`, async (t) => {
    const server = await sharedServer()
    const folder = await temporaryFolder(t)
    const commands = commandOf(await textOf(server, path), 'Commands that verify the attestation')

    const run = promisify(execFile)
    const { stdout } = await run('sh', ['-ec', commands], {
      cwd: folder,
      env: { ...process.env, no_proxy: '*' },
    })
    const forged = commands
      .split('\n')
      .filter((line) => line.startsWith('openssl'))
      .join('\n')
    await appendFile(`${folder}/signed`, ' ')

    assert.match(stdout, /Signature Verified Successfully/)
    assert.match(stdout, /"sha256": "[0-9a-f]{64}"/)
    await assert.rejects(run('sh', ['-ec', forged], { cwd: folder }))
  })
}

test('a source package says whose turn it is, what happens next and how to repeat the verdict', async () => {
  const server = await sharedServer()

  const bad = await textOf(server, '/debian/sid/hello')
  const failed = await textOf(server, '/debian/sid/zlib/1.0-1')

  assert.match(bad, /the bytes differ[\s\S]*&lt;[\s\S]*It is the package’s turn/) // with what the worker noted
  assert.match(bad, /Next try/)
  assert.equal(
    commandOf(bad, 'Command that repeats the verdict'),
    [
      'rebuilderd worker build debian',
      'http://mirror.example/pool/hello_1.0-2_amd64.deb',
      '--input-url https://buildinfos.example/hello_1.0-2_amd64.buildinfo',
      '--release sid',
      '--architecture amd64',
    ].join(' \\\n  '),
  )
  assert.match(bad, /not listed any more/)
  const [, matrix = ''] =
    /Verdicts of each file by version and architecture([\s\S]*?)<\/table>/.exec(bad) ?? []
  assert.deepEqual(
    [...matrix.matchAll(/class="version"><bdi>([^<]*)|class="chip (\w+)"/g)].map(
      ([, version, chip]) => version ?? chip,
    ),
    ['1.0-2', 'BAD', '1.0-1', 'GOOD'],
  )
  assert.match(failed, /It is the infrastructure’s turn/)
  await textOf(server, '/debian/sid/hello/9.9-9', 404)
})

test('a page that did not change is not sent again, and one that did has a new tag', async (t) => {
  const server = await aServerWithPackages(t)
  for (const path of [
    '/',
    '/debian/sid',
    '/debian/sid/hello',
    '/builds/1',
    '/workers',
    '/reasons',
    '/feed.atom',
    '/badge/debian/sid/hello.svg',
    '/robots.txt',
  ]) {
    const tag = (await fetch(server.address + path)).headers.get('etag') ?? ''
    const again = await fetch(server.address + path, { headers: { 'if-none-match': tag } })
    assert.equal(again.status, 304, path)
  }
  const before = (await fetch(server.address)).headers.get('etag')

  await importPackages(server.call, [aPackage({ name: 'newcomer' })], { release: 'trixie' })

  const after = await fetch(server.address)
  assert.notEqual(after.headers.get('etag'), before)
  assert.match(await after.text(), /trixie/)
})

test('nothing may be loaded from elsewhere, nothing inline runs, and files of ours may be kept for ever', async () => {
  const server = await sharedServer()
  const reply = await fetch(`${server.address}/debian/sid/hello`)
  const page = await reply.text()

  const policy = reply.headers.get('content-security-policy') ?? ''
  assert.match(
    policy,
    /^default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self' data:; connect-src 'self'/,
  )
  assert.doesNotMatch(page, / style="| on\w+="|javascript:/)
  assert.doesNotMatch(page, /(?:src|<link[^>]* href)="(?:https?:)?\/\//)
  for (const [, address = ''] of page.matchAll(/"(\/assets\/[^"]+)"/g)) {
    const file = await fetch(server.address + address)
    assert.match(file.headers.get('cache-control') ?? '', /immutable/, address)
    assert.ok((await file.bytes()).length > 100, address)
  }
  assert.match(page, /\/assets\/style\.css\?v=[\w-]{10}/)
})

test('badges tell of the files of a package, as a picture and as data', async () => {
  const server = await sharedServer()

  assert.match(await textOf(server, '/badge/debian/sid/hello.svg'), /aria-label="reproducible: differs"/)
  assert.deepEqual(JSON.parse(await textOf(server, '/badge/debian/sid/zlib.json')), {
    schemaVersion: 1,
    label: 'reproducible',
    message: 'not verified',
    color: '8a5a00',
  })
  assert.match(await textOf(server, '/badge/debian/sid/nothing.svg'), /not listed/)
  await textOf(server, '/badge/debian/sid/hello.png', 404)
})

test('feeds tell changes of verdict of all, a release, a package and a maintainer', async () => {
  const server = await sharedServer()
  const entries = async (path: string): Promise<string[]> => {
    const feed = await textOf(server, path)
    assert.match(feed, /^<\?xml[^>]*\?>\n<feed xmlns="http:\/\/www\.w3\.org\/2005\/Atom">/)
    return [...feed.matchAll(/<entry>\s*<title>([^<]*)/g)].map((match) => match[1] ?? '')
  }
  const hello = 'hello 1.0-2 (amd64): GOOD → BAD'
  const zlib = 'zlib 1.0-1 (amd64): FAIL'

  assert.deepEqual(await entries('/feed.atom'), [hello, zlib])
  assert.deepEqual(await entries('/feed/debian/sid.atom'), [hello, zlib])
  assert.deepEqual(await entries('/feed/debian/sid/hello.atom'), [hello])
  assert.deepEqual(await entries(`/feed.atom?maintainer=${encodeURIComponent('Ada <ada@example.org>')}`), [
    hello,
    zlib,
  ])
  assert.deepEqual(await entries('/feed.atom?maintainer=nobody'), [])
  await textOf(server, '/feed/debian/nowhere.atom', 404)
})

for (const [query, expected] of [
  ['', ['hello', 'zlib']],
  ['?turn=worse', ['hello']],
  ['?turn=better', []],
  ['?turn=other&of=debian+sid', ['zlib']],
  ['?maintainer=Ada+%3Cada%40example.org%3E&turn=worse', ['hello']],
  ['?maintainer=nobody', []],
  ['?turn=evil&before=evil&of=', ['hello', 'zlib']],
  ['?before=2', ['zlib']],
] as const) {
  test(`the page of changes with ${query === '' ? 'no filter' : query} has ${expected.join(', ') || 'none'}`, async () => {
    const page = await textOf(await sharedServer(), `/changes${query}`)

    const names = [...page.matchAll(/<th scope="row">\s*<a href="[^"]*"\s*><bdi>([^<]*)<\/bdi>/g)]
    assert.deepEqual(
      names.map(([, name]) => name),
      expected,
    )
  })
}

test('changes of a release that is not known are not there', async () => {
  await textOf(await sharedServer(), '/changes?of=debian+nowhere', 404)
})

test('what is not there is told as a page, while the API keeps its own words', async () => {
  const server = await sharedServer()

  const page = await textOf(server, '/debian/nowhere', 404)
  const api = await fetch(`${server.address}/api/v1/nothing/of/this`)

  assert.match(page, /There is nothing here/)
  assert.match(await textOf(server, '/no/page/has/so/many/parts', 404), /There is nothing here/)
  assert.equal(api.status, 404)
  assert.equal(await api.text(), '')
})

test('what goes wrong inside is told as a page without what it was, which is for the log', async () => {
  const broken = (): Promise<never> => Promise.reject(new TypeError('undefined is a secret'))
  const said: string[] = []
  const app = new Hono()
  mountPages(app, {
    web: { title: 'Broken', logo: null, link: null, publicUrl: null, sitemap: false },
    log: { ...silentLog, error: (text: string) => void said.push(text) },
    signingKey: generateSigningKey(),
    basePath: '',
    now: () => new Date(),
    db: { all: broken, batch: broken },
  } as unknown as Service)

  const reply = await app.request('/workers')
  const page = await reply.text()

  assert.equal(reply.status, 500)
  assert.match(page, /<h1>Something is wrong here<\/h1>/)
  assert.doesNotMatch(page, /undefined|TypeError/)
  assert.match(said.join('\n'), /^GET \/workers: .*undefined/)
})

test('the operator chooses title, logo and link; web.enabled = false serves the API alone', async (t) => {
  const settings = {
    'web.title': 'Rebuilder <7>',
    'web.logo': '/logo.svg',
    'web.link': 'https://rebuilder.example/',
  }
  const themed = await startServer(t, { settings })
  const bare = await startServer(t, { settings: { 'web.enabled': false } })

  const page = await textOf(themed, '/')

  assert.match(page, /<title>Rebuilder &lt;7&gt;<\/title>/)
  assert.match(page, /src="\/logo\.svg"/)
  assert.match(page, /href="https:\/\/rebuilder\.example\/"/)
  for (const path of ['/', '/about', '/robots.txt', '/feed.atom', '/assets/style.css'])
    await textOf(bare, path, 404)
  await textOf(bare, '/api/v1/dashboard')
})

test('the numbers of the day are kept for the trend', async (t) => {
  const server = await aServerWithPackages(t, {}, { tick: 50 })
  const days = async (): Promise<number> => (await server.call(listTrends))[0]?.days.length ?? 0
  server.clock.ahead = 200 * 86_400_000 // no trend goes back to the day on which all that was made
  await until(async () => (await days()) === 1, 'that the numbers of the first day are kept')
  server.clock.ahead += 2 * 86_400_000
  await until(async () => (await days()) === 2, 'that those of a later day are kept')
  await importPackages(server.call, [aPackage({ name: 'newcomer' })], { release: 'trixie' })

  const page = await textOf(server, '/')

  assert.match(page, /<figure class="trend">/)
  assert.match(page, /GOOD went from 25\.0 % on \d{4}-\d\d-\d\d to 25\.0 % on \d{4}-\d\d-\d\d/)
})

test('control characters of a log come out harmless, whatever they are', () => {
  assert.ok(hostileLog.includes('\u202e')) // else the tests above prove nothing
})

test('the page about this rebuilder tells the command that checks a system with it', async (t) => {
  const server = await startServer(t)

  const page = await textOf(server, '/about')

  assert.ok(page.includes(`rebuilderd ctl check --rebuilder ${server.address}`), page.slice(0, 200))
})

test('a site map names every listed source package, where the operator wants one', async (t) => {
  const server = await aServerWithPackages(t, { 'web.sitemap': true, 'http.base_path': '/verify' })
  const without = await startServer(t)

  const robots = await textOf(server, '/robots.txt')
  const map = /^Sitemap: (\S+)$/m.exec(robots)?.[1] ?? ''
  const maps = [...(await (await fetch(map)).text()).matchAll(/<loc>([^<]+)</g)].map(
    (match) => match[1] ?? '',
  )
  const pages: string[] = []
  for (const address of maps)
    for (const [, page = ''] of (await (await fetch(address)).text()).matchAll(/<loc>([^<]+)</g))
      pages.push(page)

  assert.ok(pages.includes(`${server.address}/debian/sid/hello`), pages.join('\n'))
  for (const page of pages) assert.equal((await fetch(page.replaceAll('&apos;', "'"))).status, 200, page)
  assert.equal((await fetch(`${without.address}/sitemap.xml`)).status, 404)
  assert.doesNotMatch(await textOf(without, '/robots.txt'), /Sitemap/)
})

test('retries, reasons and what else the pages tell in words have addresses of the API', async (t) => {
  const settings = { 'schedule.max_retries': 5, 'schedule.retry_delay_base': 12 }
  const server = await aServerWithPackages(t, settings)
  const read = async (path: string): Promise<unknown> => JSON.parse(await textOf(server, path)) as unknown
  const linked = async (path: string, words: string): Promise<unknown> => {
    const link = new RegExp(`href="([^"]+)">${words}</a>`).exec(await textOf(server, path))?.[1] ?? ''
    return read(link.replaceAll('&amp;', '&'))
  }

  const policy = (await linked('/about', 'Policy')) as Record<string, unknown>
  const reasons = (await linked('/reasons', 'Meanings')) as Record<string, unknown>[]
  const next = (await linked('/debian/sid/hello', 'What is next')) as Record<string, unknown>[]
  const attempts = (await linked('/builds/1', 'Attempts')) as { records: { id: number }[] }
  const numbers = (await linked('/debian/sid', 'Numbers')) as { sources: unknown }[]
  const found = (await linked('/search?q=hel', 'Source packages')) as { records: { name: string }[] }

  assert.match(await textOf(server, '/about'), /after 12 h[\s\S]*at most 5 times/)
  assert.deepEqual([policy['retry_delay_hours'], policy['max_retries']], [12, 5])
  assert.deepEqual(
    reasons.find(({ reason }) => reason === 'no_space'),
    {
      reason: 'no_space',
      turn: 'infrastructure',
      meaning: 'The worker ran out of disk space.',
      advice: 'The worker needs more disk space.',
    },
  )
  assert.equal(next[0]?.['maintainer'], 'Ada <ada@example.org>')
  assert.equal(next[0]?.['url'], 'https://buildinfos.example/hello_1.0-2_amd64.buildinfo')
  assert.deepEqual(
    attempts.records.map(({ id }) => id),
    [1],
  )
  assert.deepEqual(numbers[0]?.sources, { good: 1, bad: 1, fail: 1, unknown: 1 })
  assert.ok(found.records.every(({ name }) => name.startsWith('hel')))
  assert.ok(found.records.length > 0)
})

test('no page is over 60 kB besides its rows, and the overview of 14 releases is not with them', async (t) => {
  const folder = await temporaryFolder(t)
  const shape = { releases: 14, binaries: 400, sources: 200, attempts: 2 } // with 90 days of numbers each
  const server = await startServer(t, { data: await largeData(folder, shape, () => undefined) })
  const sources = await textOf(server, '/debian/trixie')
  const [, source = ''] = /<th scope="row">\s*<a href="([^"]+)"/.exec(sources) ?? []
  const [, build = ''] = /href="(\/builds\/\d+)"/.exec(await textOf(server, source)) ?? []

  for (const path of [
    '/debian',
    '/debian/trixie',
    source,
    build,
    '/queue',
    '/workers',
    '/reasons',
    '/about',
    '/search?q=lib',
  ]) {
    const page = (await textOf(server, path)).replace(
      /<tr>[\s\S]*?<\/tr>|<span class="line"[\s\S]*?<\/span>/g,
      '',
    )
    assert.ok(page.length > 1000 && page.length <= 60_000, `${path} has ${page.length} bytes`)
  }
  const home = await textOf(server, '/')

  assert.equal(home.match(/<figure class="trend">/g)?.length, 14)
  assert.ok(Buffer.byteLength(home) <= 60_000, `${Buffer.byteLength(home)} bytes`)
})

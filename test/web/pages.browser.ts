import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { TestContext } from 'node:test'
import { zstdFrame } from '../../src/compression.ts'
import {
  aSigningWorker,
  aSmallDistribution,
  hostileName,
  rebuildNext,
  type SigningWorker,
} from '../help/pages.ts'
import {
  aPackage,
  aResult,
  importPackages,
  pop,
  startServer,
  temporaryFolder,
  type TestServer,
} from '../help/server.ts'
import { submitBuild } from '../../src/wire/builds.ts'
import { dropJobs } from '../../src/wire/queue.ts'
import { Hono } from 'hono'
import { generateSigningKey } from '../../src/attestation.ts'
import { mountPages } from '../../src/server/pages.ts'
import type { Service } from '../../src/server/service.ts'
import type { Page } from 'playwright-core'
import { aLastingPort } from '../help/ports.ts'
import { missing, openBrowser, openPage, violationsOf } from './browser.ts'

const options = { skip: missing }

async function aSite(t: TestContext, settings = {}) {
  const server = await startServer(t, { settings })
  const worker = await aSigningWorker(server)
  await aSmallDistribution(server.call, worker)
  return { server, worker }
}

/** Each with the rules that can be broken in it alone, where not all: in the dark colours are others, and no more. */
const looks = [
  { width: 360, colorScheme: 'light', rules: [] },
  { width: 1400, colorScheme: 'light', rules: [] },
  { width: 1400, colorScheme: 'dark', rules: ['color-contrast', 'link-in-text-block'] },
  { width: 360, colorScheme: 'dark', rules: ['color-contrast', 'link-in-text-block'] },
] as const

const hostilePath = `/debian/sid/${encodeURIComponent(hostileName)}`
const missingPaths = [
  '/nowhere',
  '/debian/nowhere',
  '/debian/sid/nowhere',
  '/builds/999',
  '/debian?after=%00',
]
const allPaths = [
  '/',
  '/queue',
  '/workers',
  '/reasons',
  '/changes',
  '/changes?turn=better&of=debian+sid&maintainer=nobody',
  '/about',
  '/search?q=hel',
  '/search?q=nothing-like-it',
  '/debian',
  '/debian/sid',
  '/debian/sid?status=BAD',
  '/debian/sid/hello',
  '/debian/sid/zlib/1.0-1',
  hostilePath,
  '/builds/1',
  '/builds/2',
  '/builds/4',
  '/builds/4/log',
]

/** The paths of pages that a server answers, as its router has them. */
function mountedPaths(): string[] {
  const app = new Hono()
  const web = { title: '', logo: null, link: null, publicUrl: null, sitemap: false }
  const service = { web, signingKey: generateSigningKey(), basePath: '' }
  mountPages(app, service as unknown as Service) // mounting asks nothing of the rest
  const isPage = (path: string): boolean => !/^\/(assets|feed|badge|robots|\*)/.test(path)
  return app.routes.map((route) => route.path).filter(isPage)
}

function isServedBy(path: string, route: string): boolean {
  const pattern = route.replace(/:\w+\{([^}]*\}?)\}/g, '($1)').replace(/:\w+/g, '[^/]+')
  return new RegExp(`^${pattern}$`).test(path.replace(/\?.*$/, ''))
}

test(
  'every page is sound, narrow and wide, light and dark: no violation, no console line, no other host',
  options,
  async (t) => {
    const { server, worker } = await aSite(t)
    const running = await pop(worker.client.call)
    const browser = await openBrowser(t)
    const seen = new Set<string>()
    const { page, troubles } = await openPage(browser, server.address)
    await page.goto(`${server.address}/builds/4`)
    const diff = (await page.getByRole('link', { name: 'differences' }).first().getAttribute('href')) ?? ''

    for (const path of [...allPaths, diff, `/jobs/${running?.job.id ?? 0}`, ...missingPaths]) {
      seen.add(path)
      await page.goto(server.address + path, { waitUntil: 'load' })
      for (const { width, colorScheme, rules } of looks) {
        await page.setViewportSize({ width, height: 900 })
        await page.emulateMedia({ colorScheme })
        const wide = await page.evaluate(() => document.documentElement.scrollWidth - innerWidth)
        assert.ok(wide <= 0, `${path} is ${wide} px too wide at ${width} px`)
        assert.deepEqual(await violationsOf(page, ...rules), [], `${path} ${colorScheme} ${width}`)
      }
    }

    const notFound = troubles.filter((trouble) => /status of 404/.test(trouble)).length
    assert.ok(notFound <= missingPaths.length)
    assert.deepEqual(
      troubles.filter((trouble) => !/status of 404/.test(trouble)),
      [],
    )
    assert.ok(mountedPaths().includes('/about'), 'the router tells its paths')
    const unseen = mountedPaths().filter((route) => ![...seen].some((path) => isServedBy(path, route)))
    assert.deepEqual(unseen, [], 'pages that were not looked at')
  },
)

test(
  'without scripts the first paint has the answer, and search, filters and paging work',
  options,
  async (t) => {
    const { server } = await aSite(t)
    const { page, troubles } = await openPage(await openBrowser(t, { scripts: false }), server.address)

    await page.goto(server.address)
    assert.match(await page.locator('main').innerText(), /25\.0 % verified/)
    await page.getByLabel('Find a package').fill('hell')
    await page.getByRole('button', { name: 'Find' }).click()
    await page.waitForURL(/\/search\?q=hell$/)
    await page.getByRole('link', { name: 'hello' }).first().click()
    await page.waitForURL(/\/hello\b/)
    assert.match(
      await page.locator('main').innerText(),
      /Built in the recorded environment, but the bytes differ/,
    )

    await page.goto(`${server.address}/debian/sid`)
    await page.getByLabel('Verdict').selectOption('FAIL')
    await page.getByRole('button', { name: 'Show' }).click()
    await page.waitForURL(/status=FAIL/)
    assert.deepEqual(await page.locator('tbody th a').allInnerTexts(), ['zlib'])
    assert.deepEqual(troubles, [])
  },
)

test('with scripts a filter applies at once, and the address holds the view', options, async (t) => {
  const { server } = await aSite(t)
  const { page, troubles } = await openPage(await openBrowser(t), server.address)

  await page.goto(`${server.address}/debian/sid`)
  await page.keyboard.press('/')
  assert.equal(await page.evaluate(() => document.activeElement?.id), 'q')
  await page.getByLabel('Verdict').selectOption('BAD')
  await page.waitForURL(/\?status=BAD$/)
  assert.deepEqual(await page.locator('tbody th a').allInnerTexts(), ['hello'])
  await page.goBack()
  assert.equal(await page.locator('tbody tr').count(), 4)
  assert.deepEqual(troubles, [])
})

/** Resolves once the page hears of what happens at the server. */
const watchOf = (page: Page): Promise<unknown> => page.waitForResponse(/\/api\/v1\/events\b/)

test('a verdict shows without loading the page again', options, async (t) => {
  const { server, worker } = await aSite(t, { 'http.base_path': '/verify' })
  const browser = await openBrowser(t)
  const home = await openPage(browser, server.address)
  const source = await openPage(browser, server.address)
  const watched = Promise.all([watchOf(home.page), watchOf(source.page)])
  await home.page.goto(server.address)
  await source.page.goto(`${server.address}/debian/sid/untried`)
  await source.page.evaluate(() => Object.assign(globalThis, { stayed: true }))
  assert.match(await source.page.locator('main').innerText(), /It is ready to be rebuilt/)
  await watched

  const job = await rebuildNext(worker, 'FAIL', { reason: 'build_failed' })

  assert.equal(job.job.name, 'untried')
  await source.page.getByText('The build ended with an error.').waitFor()
  await source.page.bringToFront()
  await home.page.bringToFront()
  await home.page.locator('[data-live-part="others"]').getByText('untried').waitFor()
  assert.equal(await source.page.evaluate(() => 'stayed' in globalThis), true)
  assert.deepEqual([...home.troubles, ...source.troubles], [])
})

test('the log of a running build grows on its page, harmless, until the verdict', options, async (t) => {
  const { server, worker } = await aSite(t)
  const job = await pop(worker.client.call)
  assert.ok(job !== null)
  const write = logWriter(server, worker, job.job.id)
  await write('first line\n')
  const { page, troubles } = await openPage(await openBrowser(t), server.address)

  await page.goto(`${server.address}/jobs/${job.job.id}`)
  await page.getByText('first line').waitFor()
  await write('\u001b[31msecond\u001b[0m \u202eline <img src=x onerror=alert(1)>\nthi')
  await write('rd line\n')
  await page.getByText('third line').waitFor()
  const lines = await page.locator('.log .line').allInnerTexts()
  await worker.client.call(submitBuild, { body: aResult(job) })
  await page.getByRole('link', { name: 'see the verdict' }).click()

  assert.deepEqual(
    lines.map((line) => line.trim()),
    ['1first line', '2second \\u202eline <img src=x onerror=alert(1)>', '3third line'],
  )
  await page.waitForURL(/\/builds\/\d+$/)
  assert.deepEqual(troubles, [])
})

test('the page of a job that waits becomes live when a worker takes it', options, async (t) => {
  const { server, worker } = await aSite(t)
  const queue = (await (await fetch(`${server.address}/api/v1/queue`)).json()) as {
    records: { id: number; name: string }[]
  }
  const [waiting] = queue.records.filter(({ name }) => name === 'untried')
  const browser = await openBrowser(t)
  const source = await openPage(browser, server.address)
  await source.page.goto(`${server.address}/debian/sid/untried`)
  await source.page.getByRole('link', { name: 'Watch it' }).click()
  const { page, troubles } = source
  await page.getByText('It waits for a worker').waitFor()
  await page.evaluate(() => Object.assign(globalThis, { stayed: true }))
  const before = await page.title()

  const job = await pop(worker.client.call)
  assert.ok(job !== null)
  assert.equal(job.job.id, waiting?.id)
  const write = logWriter(server, worker, waiting?.id ?? 0)
  await page.getByText('The log grows here while the build runs.').waitFor()
  await write('first line\n')
  await page.locator('.log .line', { hasText: 'first line' }).waitFor()
  await worker.client.call(submitBuild, { body: aResult(job) })
  await page.getByRole('link', { name: 'see the verdict' }).waitFor()

  assert.match(before, /waits to be rebuilt/)
  assert.match(await page.title(), /is being rebuilt/)
  assert.equal(await page.evaluate(() => 'stayed' in globalThis), true)
  assert.deepEqual(troubles, [])
})

test('the page of a job that waits says so when it was dropped', options, async (t) => {
  const { server } = await aSite(t)
  const { page } = await openPage(await openBrowser(t), server.address)
  await page.goto(`${server.address}/debian/sid/untried`)
  await page.getByRole('link', { name: 'Watch it' }).click()
  await page.getByText('It waits for a worker').waitFor()

  await server.call(dropJobs, { query: { name: 'untried', distribution: 'debian' } })

  await page.getByText('There is nothing here').waitFor()
})

/** Writes a running job's log piece by piece, as its worker does. */
function logWriter(server: TestServer, worker: SigningWorker, jobId: number) {
  let offset = 0
  return async (text: string): Promise<void> => {
    const headers = { 'x-worker-key': Buffer.from(worker.key.publicKey).toString('base64') }
    const address = `${server.address}/api/v1/queue/${jobId}/log?offset=${offset}`
    const reply = await fetch(address, { method: 'POST', body: text, headers })
    assert.equal(reply.status, 204)
    offset += Buffer.byteLength(text)
  }
}

test('the log of a running build may have 50 MB and a million lines', options, async (t) => {
  const { server, worker } = await aSite(t)
  const job = await pop(worker.client.call)
  assert.ok(job !== null)
  const write = logWriter(server, worker, job.job.id)
  const [pieces, linesOfPiece] = [25, 40_000]
  for (let piece = 0; piece < pieces; piece++) await write(`${'x'.repeat(49)}\n`.repeat(linesOfPiece))
  await write('half of a ')
  const { page, troubles } = await openPage(await openBrowser(t), server.address)

  await page.goto(`${server.address}/jobs/${job.job.id}`)
  const atFirst = await page.locator('.log .line').count()
  await page.getByText('the first 999,600 lines are not shown').waitFor()
  await write('line\n' + 'y\n'.repeat(100_000) + 'the last line\n')
  await page.getByText('the last line').waitFor()

  assert.equal(atFirst, 400)
  assert.ok((await page.locator('.log .line').count()) <= 5000)
  assert.equal(await page.locator('.log .n').last().innerText(), '1100002')
  assert.deepEqual(troubles, [])
})

test('pages go on by themselves after the server was away', options, async (t) => {
  const data = await temporaryFolder(t)
  const settings = { 'http.bind_addr': `127.0.0.1:${await aLastingPort()}` }
  const before = await startServer(t, { data, settings })
  const worker = await aSigningWorker(before)
  await importPackages(before.call, [aPackage({ name: 'hello' }), aPackage({ name: 'zlib' })])
  const job = await pop(worker.client.call)
  assert.ok(job !== null)
  await logWriter(before, worker, job.job.id)('before\n')
  const browser = await openBrowser(t)
  const { page: home } = await openPage(browser, before.address)
  const { page: log } = await openPage(browser, before.address)
  const watched = watchOf(home)
  await home.goto(before.address)
  await watched
  await log.goto(`${before.address}/jobs/${job.job.id}`)
  await log.getByText('before').waitFor()
  await home.evaluate(() => Object.assign(globalThis, { stayed: true }))

  await before.stop()
  const after = await startServer(t, { data, settings })
  await rebuildNext(worker, 'BAD')
  const headers = { 'x-worker-key': Buffer.from(worker.key.publicKey).toString('base64') }
  const address = `${after.address}/api/v1/queue/${job.job.id}/log?offset=7`
  await fetch(address, { method: 'POST', body: 'after\n', headers })

  await log.bringToFront()
  await log.locator('.log .line', { hasText: 'after' }).waitFor()
  assert.deepEqual(
    (await log.locator('.log .line').allInnerTexts()).map((line) => line.trim()),
    ['1before', '2after'],
  )
  await home.bringToFront()
  await home.getByText('content differs').first().waitFor()
  assert.equal(await home.evaluate(() => 'stayed' in globalThis), true)
})

test('a log of 50 MB and a million lines, a hostile name, log and diff do nothing', options, async (t) => {
  const { server, worker } = await aSite(t)
  const line = `\u001b[${'1;'.repeat(9)}31m<script>document.title='taken'</script>\u202e`
  const log = new TextEncoder().encode(`${line}\n`.repeat(1_000_000))
  await rebuildNext(worker, 'BAD', { build_log: await zstdFrame(log) })
  const { page, troubles } = await openPage(await openBrowser(t), server.address)

  for (const path of ['/builds/5', '/builds/5/log?from=999000', hostilePath, '/builds/4']) {
    await page.goto(server.address + path)
    assert.doesNotMatch(await page.title(), /^taken/, path)
    assert.equal(await page.locator('main script, main img:not([src*="/badge/"])').count(), 0, path)
    assert.doesNotMatch(await page.content(), /[\u202a-\u202e\u200b]/, path)
  }
  await page.goto(`${server.address}/builds/4`)
  await page.getByRole('link', { name: 'differences' }).first().click()

  assert.match(await page.locator('.diff').innerText(), /<img src=x onerror/)
  assert.equal(await page.locator('main script, main img').count(), 0)
  assert.deepEqual(troubles, [])
})

test('everything can be reached by keyboard, and paper shows what the screen shows', options, async (t) => {
  const { server } = await aSite(t)
  const { page } = await openPage(await openBrowser(t), server.address)
  await page.goto(`${server.address}/debian/sid/hello`)

  await page.keyboard.press('Tab')
  assert.equal(await page.evaluate(() => document.activeElement?.textContent), 'To the content')
  await page.keyboard.press('Enter')
  await page.waitForFunction(() => document.activeElement?.id === 'main')
  await page.emulateMedia({ media: 'print' })

  assert.equal(await page.locator('nav[aria-label=Site]').isVisible(), false)
  assert.match(await page.locator('main').innerText(), /the bytes differ/)
})

test('times are local where scripts run, and UTC stays at hand', options, async (t) => {
  const { server } = await aSite(t)
  await importPackages(server.call, [aPackage({ name: 'late' })], { release: 'trixie' })
  const { page } = await openPage(await openBrowser(t), server.address)

  await page.goto(`${server.address}/builds/1`)
  const built = page.locator('time[datetime="2026-11-22T19:40:00Z"]').first()

  assert.equal(await built.innerText(), '2026-11-23 01:10')
  assert.equal(await built.getAttribute('title'), '2026-11-22 19:40 UTC')
})

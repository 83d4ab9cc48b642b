import assert from 'node:assert/strict'
import { existsSync } from 'node:fs'
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { test, type TestContext } from 'node:test'
import { submitBuild } from '../../src/wire/builds.ts'
import { diffoscope } from '../../src/worker/diffoscope.ts'
import {
  aPackage,
  aResult,
  anArtifactResult,
  importPackages,
  pop,
  startServer,
  temporaryFolder,
} from '../help/server.ts'
import { aServer } from '../help/files.ts'
import { patienceSeconds } from '../help/until.ts'
import { missing, openBrowser, openPage, violationsOf } from './browser.ts'

const noDiffoscope = existsSync('/usr/bin/diffoscope') ? false : 'diffoscope is not installed'

/** A server with one build that differs, and the page of its diff. */
async function aSite(t: TestContext, page: string | Uint8Array): Promise<string> {
  const { call, address } = await startServer(t, { settings: { 'http.base_path': '/verify' } })
  await importPackages(call, [aPackage()])
  const job = await pop(call)
  assert.ok(job)
  const [{ name, url }] = job.artifacts as [(typeof job.artifacts)[number]]
  const differs = { name, url, status: 'BAD', diffoscope: Buffer.from('-a\n+b\n') } as const
  const artifacts = [anArtifactResult({ ...differs, diffoscope_html: Buffer.from(page) })]
  await call(submitBuild, { body: aResult(job, { status: 'BAD', artifacts }) })
  return address
}

/** What diffoscope itself says of two small files. */
async function aRealPage(t: TestContext): Promise<Uint8Array> {
  const directory = await temporaryFolder(t)
  await writeFile(join(directory, 'a'), 'one\n<script>alert(1)</script>\n')
  await writeFile(join(directory, 'b'), 'two\n<script>alert(2)</script>\n')
  const settings = { args: [], timeoutSeconds: patienceSeconds, maxBytes: null, html: true }
  const files = [join(directory, 'a'), join(directory, 'b')] as const
  const { html } = await diffoscope(...files, settings, { directory, isolation: 'off', signal: t.signal })
  assert.ok(html)
  return html
}

for (const look of [
  { width: 1400, colorScheme: 'light', scripts: true },
  { width: 360, colorScheme: 'dark', scripts: false },
] as const) {
  test(
    `diffoscope's page is seen on that of the build, ${look.width} px wide, scripts ${look.scripts ? 'on' : 'off'}`,
    { skip: missing === false ? noDiffoscope : missing },
    async (t) => {
      const address = await aSite(t, await aRealPage(t))
      const { page, troubles } = await openPage(await openBrowser(t, look), address, look)

      await page.goto(`${address}/builds/1`)
      await page.locator('iframe').scrollIntoViewIfNeeded()
      const inside = page.frameLocator('iframe[title="Differences of hello, side by side"]')
      await inside.locator('.diffchanged').first().waitFor()

      const background = await inside
        .locator('.diffchanged td')
        .first()
        .evaluate((cell) => getComputedStyle(cell).backgroundColor)
      assert.equal(background, 'rgb(255, 255, 160)') // its own style holds
      assert.match(await inside.locator('table.diff').innerText(), /two/)
      const wide = await page.evaluate(() => document.documentElement.scrollWidth - innerWidth)
      assert.ok(wide <= 0, `${wide} px too wide`)
      if (look.scripts) assert.deepEqual(await violationsOf(page), [])
      assert.deepEqual(troubles, [])
    },
  )
}

/** A page that tries all ways to get something done, at or by another server. */
const hostilePage = (evil: string): string => `<!DOCTYPE html><html><head><title>mine</title>
<meta http-equiv="refresh" content="0;url=${evil}/refresh">
<base href="${evil}/" target="_top">
<link rel="stylesheet" href="${evil}/style.css">
<style>@import url("${evil}/more.css"); body { background: url("${evil}/back.png") }</style>
<script src="${evil}/script.js"></script>
<script>document.title = 'taken'; try { parent.document.title = 'taken'; top.location = '${evil}/top' } catch {}; alert(1)</script>
</head><body onload="document.title = 'taken'"><p id="seen">seen</p>
<img src="${evil}/image.png" onerror="alert(2)"><svg onload="alert(3)"></svg>
<iframe src="${evil}/frame"></iframe><iframe srcdoc="<script>alert(4)</script>"></iframe>
<object data="${evil}/object"></object><embed src="${evil}/embed">
<form action="${evil}/form" method="post"><button id="send">send</button></form>
<a id="top" href="${evil}/link" target="_top">top</a>
<a id="self" href="${evil}/link" target="_self">self</a>
<a id="new" href="${evil}/link" target="_blank">new</a>
<a id="code" href="javascript:alert(5)" target="_self">code</a>
<video src="${evil}/video" autoplay></video></body></html>`

/** A server that nobody should reach, and what it was asked for. */
async function anEvil(t: TestContext): Promise<{ evil: string; asked: string[] }> {
  const asked: string[] = []
  const evil = await aServer(t, (request, response) => {
    asked.push(request.url ?? '')
    response.end()
  })
  return { evil, asked }
}

/** Besides what the browser says it has refused. */
const done = (troubles: readonly string[]): string[] =>
  troubles.filter((line) => !/^(error|warning|info): |^request to /.test(line))

test('a hostile page in the frame does, loads and sends nothing', { skip: missing }, async (t) => {
  const { evil, asked } = await anEvil(t)
  const address = await aSite(t, hostilePage(evil))
  const browser = await openBrowser(t)
  const { page, troubles } = await openPage(browser, address)
  await page.goto(`${address}/builds/1`)
  const before = [page.url(), await page.title(), browser.pages().length]
  await page.locator('iframe').scrollIntoViewIfNeeded()
  const inside = page.frameLocator('iframe')
  await inside.locator('#seen').waitFor()

  for (const id of ['#top', '#new', '#code', '#send', '#self']) {
    await inside.locator(id).click({ noWaitAfter: true })
    await page.waitForTimeout(300)
  }

  assert.deepEqual([page.url(), await page.title(), browser.pages().length], before)
  assert.deepEqual([done(troubles), asked], [[], []])
})

test('opened alone, a hostile page runs, loads and sends nothing', { skip: missing }, async (t) => {
  const { evil, asked } = await anEvil(t)
  const address = await aSite(t, hostilePage(evil))
  const { page, troubles } = await openPage(await openBrowser(t), address)

  await page.goto(`${address}/api/v1/builds/1/artifacts/1/diffoscope.html`)
  await page.locator('#seen').waitFor()
  for (const id of ['#code', '#send']) await page.locator(id).click({ noWaitAfter: true })
  await page.waitForTimeout(500)

  assert.equal(await page.title(), 'mine')
  assert.deepEqual([done(troubles), asked], [[], []])
})

test('another site cannot put the page into a frame of its own', { skip: missing }, async (t) => {
  const address = await aSite(t, hostilePage('http://mirror.example'))
  const path = '/api/v1/builds/1/artifacts/1/diffoscope.html'
  const other = await aServer(t, (_, response) => {
    response.setHeader('content-type', 'text/html').end(`<iframe src="${address}${path}"></iframe>`)
  })
  const { page } = await openPage(await openBrowser(t), other)

  const over = Promise.withResolvers<void>()
  for (const event of ['requestfinished', 'requestfailed'] as const)
    page.on(event as 'requestfailed', (request) => {
      if (request.url() === address + path) over.resolve()
    })
  await page.goto(other)
  await over.promise
  await page.waitForTimeout(500)

  assert.equal(await page.frameLocator('iframe').locator('#seen').count(), 0)
})

/** Debian's Chromium, driven for tests; nothing is downloaded. */
import { existsSync, readFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { chromium, type Browser, type BrowserContext, type Page } from 'playwright-core'
import { after, type TestContext } from 'node:test'
import { patienceMilliseconds } from '../help/until.ts'

const executablePath = '/usr/bin/chromium'

/** Why these tests cannot run here; false where they can. */
export const missing: string | false = existsSync(executablePath)
  ? false
  : 'chromium is missing: apt-get install -y --no-install-recommends chromium'

type Visit = {
  page: Page
  /** What the console said and which requests left the server or failed: all of it is trouble. */
  troubles: string[]
}

type Look = { width?: number; colorScheme?: 'light' | 'dark'; scripts?: boolean }

/** One program for all tests of a file: it takes longer to start than most of them. */
let started: Promise<Browser> | undefined
after(async () => (await started)?.close())

function launch(): Promise<Browser> {
  return chromium.launch({
    executablePath,
    timeout: patienceMilliseconds,
    headless: true,
    args: [
      '--no-sandbox',
      '--disable-gpu',
      '--disable-quic',
      '--no-first-run',
      '--disable-background-networking',
      '--disable-component-update',
      '--disable-sync',
    ],
  })
}

/** A browser with an empty profile that shares nothing with those of other tests, gone when the test is. */
export async function openBrowser(t: TestContext, { scripts = true }: Look = {}): Promise<BrowserContext> {
  started ??= launch()
  const browser = await started
  const context = await browser.newContext({ javaScriptEnabled: scripts, timezoneId: 'Asia/Kolkata' })
  context.setDefaultTimeout(patienceMilliseconds)
  t.after(() => context.close())
  return context
}

/** A new page that notes everything that should not happen. */
export async function openPage(context: BrowserContext, address: string, look: Look = {}): Promise<Visit> {
  const page = await context.newPage()
  await page.setViewportSize({ width: look.width ?? 1400, height: 900 })
  await page.emulateMedia({ colorScheme: look.colorScheme ?? 'light' })
  const troubles: string[] = []
  page.on('console', (message) => troubles.push(`${message.type()}: ${message.text()}`))
  page.on('pageerror', (error) => troubles.push(`error: ${error.message}`))
  page.on('dialog', (dialog) => {
    troubles.push(`dialog: ${dialog.message()}`)
    void dialog.dismiss()
  })
  page.on('request', (request) => {
    if (!request.url().startsWith(address)) troubles.push(`request to ${request.url()}`)
  })
  return { page, troubles }
}

const axeSource = readFileSync(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8')

type Axe = {
  run: (options: object) => Promise<{
    violations: { id: string; nodes: { html: string; failureSummary: string }[] }[]
  }>
}

/**
 * What axe-core (deque.com/axe) has to say against a page, one line each.
 * @param rules those that are asked alone; none: all
 */
export async function violationsOf(page: Page, ...rules: string[]): Promise<string[]> {
  if (!(await page.evaluate(() => 'axe' in globalThis))) await page.evaluate(axeSource)
  return page.evaluate(async (only) => {
    const { axe } = globalThis as unknown as { axe: Axe } // just loaded
    const { violations } = await axe.run(only.length > 0 ? { runOnly: only } : {})
    return violations.map(
      ({ id, nodes }) => `${id}: ${nodes[0]?.html ?? ''} ${nodes[0]?.failureSummary ?? ''}`,
    )
  }, rules)
}

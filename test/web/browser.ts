/** Debian's Chromium, driven for tests; nothing is downloaded. */
import { existsSync, readFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { chromium, type BrowserContext, type Page } from 'playwright-core'
import type { TestContext } from 'node:test'
import { temporaryFolder } from '../help/server.ts'

const executablePath = '/usr/bin/chromium'

/** Why these tests cannot run here; false where they can. */
export const missing: string | false = existsSync(executablePath)
  ? false
  : 'chromium is missing: apt-get install -y --no-install-recommends chromium'

export type Visit = {
  page: Page
  /** What the console said and which requests left the server or failed: all of it is trouble. */
  troubles: string[]
}

export type Look = { width?: number; colorScheme?: 'light' | 'dark'; scripts?: boolean }

/** A browser of its own with an empty profile, gone when the test is. */
export async function openBrowser(t: TestContext, { scripts = true }: Look = {}): Promise<BrowserContext> {
  const profile = await temporaryFolder(t)
  const context = await chromium.launchPersistentContext(profile, {
    executablePath,
    headless: true,
    javaScriptEnabled: scripts,
    timezoneId: 'Asia/Kolkata',
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

/** What axe-core (deque.com/axe) has to say against a page, one line each. */
export async function violationsOf(page: Page): Promise<string[]> {
  await page.evaluate(axeSource)
  return page.evaluate(async () => {
    type Axe = {
      run: () => Promise<{ violations: { id: string; nodes: { html: string; failureSummary: string }[] }[] }>
    }
    const { axe } = globalThis as unknown as { axe: Axe } // just loaded
    const { violations } = await axe.run()
    return violations.map(
      ({ id, nodes }) => `${id}: ${nodes[0]?.html ?? ''} ${nodes[0]?.failureSummary ?? ''}`,
    )
  })
}

import { existsSync } from 'node:fs'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { chromium, type Page } from 'playwright-core'
import { quantile } from './drive.ts'
import type { Add, Target } from './measure.ts'
import { pagesOf } from './web.ts'

const executablePath = '/usr/bin/chromium'
/** Loads of each page; the browser's own cache holds style and script, as on a second visit. */
const loads = 15

/** Milliseconds from the click until Chromium paints something of each page (w3.org/TR/paint-timing). */
export async function measurePaint({ address }: Target, group: string, add: Add): Promise<void> {
  if (!existsSync(executablePath)) return console.error('chromium is missing: no paint was measured')
  const profile = await mkdtemp(join(tmpdir(), 'rebuilderd-bench-'))
  const browser = await chromium.launchPersistentContext(profile, {
    executablePath,
    headless: true,
    viewport: { width: 1400, height: 900 },
    args: ['--no-sandbox', '--disable-gpu', '--no-first-run', '--disable-background-networking'],
  })
  try {
    const page = await browser.newPage()
    for (const [what, path] of await pagesOf(address)) {
      const times: number[] = []
      for (let load = 0; load < loads; load++) times.push(await firstPaint(page, address + path))
      const [least, most] = [Math.min(...times), Math.max(...times)].map(Math.round)
      const note = `of ${loads} loads: ${least}–${most} ms`
      add({ group, what, value: quantile(times, 0.5), unit: 'ms FCP', most: 300, note })
    }
  } finally {
    await browser.close()
    await rm(profile, { recursive: true, force: true })
  }
}

/** Goes to a page and tells when something of it was there to be seen. */
async function firstPaint(page: Page, address: string): Promise<number> {
  await page.goto(address, { waitUntil: 'load' })
  return page.evaluate(
    () =>
      new Promise<number>((resolve) => {
        const observer = new PerformanceObserver((list) => {
          for (const entry of list.getEntriesByName('first-contentful-paint')) resolve(entry.startTime)
        })
        observer.observe({ type: 'paint', buffered: true })
      }),
  )
}

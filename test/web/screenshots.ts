/** `npm run screenshots`: pictures of the demo's pages for the README, in docs/. Needs what the demo and test:web need. */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdir } from 'node:fs/promises'
import { fileURLToPath } from 'node:url'
import { chromium } from 'playwright-core'

const root = fileURLToPath(new URL('../../', import.meta.url))
const folder = `${root}docs/`

/** File, path, light or dark. */
const pictures = [
  ['overview.png', '/', 'light'],
  ['build-dark.png', 'BAD', 'dark'],
] as const

const demo = spawn(process.execPath, [`${root}src/main.ts`, 'demo', '--local'], {
  stdio: ['ignore', 'pipe', 'inherit'],
})
try {
  const address = await performed()
  await mkdir(folder, { recursive: true })
  const browser = await chromium.launch({ executablePath: '/usr/bin/chromium', args: ['--no-sandbox'] })
  try {
    for (const [file, path, colorScheme] of pictures) {
      const page = await browser.newPage({ viewport: { width: 1100, height: 760 }, colorScheme })
      await page.goto(address + (path === 'BAD' ? await buildThatDiffers(address) : path))
      await page.screenshot({ path: folder + file })
    }
  } finally {
    await browser.close()
  }
} finally {
  const ended = once(demo, 'exit')
  demo.kill('SIGINT')
  await ended
}

/** The address of the demo's server, once every package has its verdict. */
async function performed(): Promise<string> {
  let told = ''
  for await (const chunk of demo.stdout) {
    told += String(chunk)
    const address = /A server listens at (http:\S+?),/.exec(told)?.[1]
    if (address !== undefined && /^package +version/m.test(told)) return address
  }
  throw new Error(`the demo ended: ${told}`)
}

async function buildThatDiffers(address: string): Promise<string> {
  const reply = await fetch(`${address}/api/v1/builds?limit=50`)
  const { records } = (await reply.json()) as { records: { id: number; status: string }[] } // our own API
  return `/builds/${records.find(({ status }) => status === 'BAD')?.id ?? 1}`
}

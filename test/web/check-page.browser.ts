/** The page that `ctl check --html` writes, as a person opens it. */
import assert from 'node:assert/strict'
import { join } from 'node:path'
import { test } from 'node:test'
import { pathToFileURL } from 'node:url'
import { aDebian, aRebuilder } from '../check/help.ts'
import { runProgram } from '../cmd/program.ts'
import { temporaryFolder } from '../help/server.ts'
import { missing, openBrowser, openPage, violationsOf } from './browser.ts'

for (const look of [
  { width: 1400, colorScheme: 'light' },
  { width: 360, colorScheme: 'dark' },
] as const) {
  test(
    `the report of a check can be read ${look.width} px wide, ${look.colorScheme}, and with the keyboard`,
    { skip: missing },
    async (t) => {
      const home = await temporaryFolder(t)
      const root = await aDebian(t, ['good', 'bad', 'odd'])
      const rebuilders = [
        await aRebuilder(t, { good: 'GOOD', bad: 'BAD' }),
        await aRebuilder(t, { bad: 'GOOD' }),
      ]
      const given = rebuilders.flatMap(({ address }) => ['--rebuilder', address])
      const file = join(home, 'report.html')
      await runProgram(['ctl', 'check', '--root', root, ...given, '--html', file], { home })
      const address = pathToFileURL(file).href
      const { page, troubles } = await openPage(await openBrowser(t, look), address, look)

      await page.goto(address)
      await page.keyboard.press('Tab')

      assert.match(await page.getByRole('main').innerText(), /66\.6 % of 3 packages verified/)
      assert.equal(await page.locator(':focus').getAttribute('aria-label'), 'Summary')
      assert.match(await page.getByRole('region', { name: 'Rebuilders disagree' }).innerText(), /bad/)
      const wide = await page.evaluate(() => document.documentElement.scrollWidth - innerWidth)
      assert.ok(wide <= 0, `${wide} px too wide`)
      assert.deepEqual(await violationsOf(page), [])
      assert.deepEqual(troubles, [])
    },
  )
}

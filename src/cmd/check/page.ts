import { html, raw } from 'hono/html'
import { counted, shownCount } from '../output.ts'
import { shownBytes } from '../progress.ts'
import type { Report } from './check.ts'
import { disagreements, summaryOf, unverified, type Judged } from './judge.ts'
import { meanings, shownPercent, shownReason } from './tell.ts'

type Markup = ReturnType<typeof html>

/** The report as one page that needs nothing else: no scripts, no fonts, no pictures from anywhere. */
export async function reportPage(report: Report): Promise<string> {
  const { count, by } = summaryOf(report.packages)
  const title = `${shownPercent(by.verified.percent)} % of ${counted(count, 'package')} verified`
  const page = await html`<!doctype html>
    <html lang="en">
      <head>
        <meta charset="utf-8" />
        <meta name="viewport" content="width=device-width, initial-scale=1" />
        <meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'" />
        <title>${title}</title>
        <style>
          ${raw(style)}
        </style>
      </head>
      <body>
        <main>
          <h1>${title}</h1>
          <p>
            Checked on
            <time datetime="${report.at.toISOString()}"
              >${report.at.toISOString().slice(0, 16).replace('T', ' ')} UTC</time
            >. ${report.threshold} of ${counted(report.rebuilders.length, 'rebuilder')} must confirm each.
          </p>
          ${report.alarms.map((alarm) => html`<p class="alarm" role="alert">${alarm}</p>`)}
          ${report.warnings.map((warning) => html`<p>${warning}</p>`)} ${summaryTable(report)}
          ${rebuilderTable(report)} ${packageTable('Rebuilders disagree', disagreements(report.packages))}
          ${packageTable('Not verified', unverified(report.packages))}
        </main>
      </body>
    </html> `
  return String(page)
}

type Head = string | { number: string }

/** A table that is moved sideways where it is wider than the page, with the keyboard as well. */
function tableOf(
  { name, caption = name, heads }: { name: string; caption?: string; heads: readonly Head[] },
  rows: readonly Markup[],
): Markup {
  const head = (one: Head): Markup =>
    typeof one === 'string'
      ? html`<th scope="col">${one}</th>`
      : html`<th scope="col" class="number">${one.number}</th>`
  return html`<div class="wide" role="region" aria-label="${name}" tabindex="0">
    <table>
      <caption>
        ${caption}
      </caption>
      <thead>
        <tr>
          ${heads.map(head)}
        </tr>
      </thead>
      <tbody>
        ${rows}
      </tbody>
    </table>
  </div>`
}

function summaryTable({ packages }: Report): Markup {
  const { size, by } = summaryOf(packages)
  const ofSize = size === 0 ? 'Share of size' : `Share of ${shownBytes(size)}`
  const heads = ['Standing', { number: 'Packages' }, { number: 'Share' }, { number: ofSize }, 'Meaning']
  const rows = meanings.map(
    ([standing, meaning]) =>
      html`<tr>
        <th scope="row" class="${standing}">${standing}</th>
        <td class="number">${shownCount(by[standing].count)}</td>
        <td class="number">${shownPercent(by[standing].percent)} %</td>
        <td class="number">${shownPercent(by[standing].percentOfSize)} %</td>
        <td>${meaning}</td>
      </tr>`,
  )
  return tableOf({ name: 'Summary', heads }, rows)
}

function rebuilderTable({ rebuilders }: Report): Markup {
  const heads = ['Address', 'Key', { number: 'Known' }, { number: 'GOOD' }, { number: 'Proven' }, 'Problems']
  const rows = rebuilders.map(
    (one) =>
      html`<tr>
        <th scope="row">${one.url}</th>
        <td><code>${one.key ?? 'none'}</code>${one.keyFrom === null ? '' : `, ${one.keyFrom}`}</td>
        <td class="number">${shownCount(one.known)}</td>
        <td class="number">${shownCount(one.good)}</td>
        <td class="number">${shownCount(one.proven)}</td>
        <td>${one.problems.join('; ')}</td>
      </tr>`,
  )
  return tableOf({ name: 'Rebuilders', heads }, rows)
}

function packageTable(name: string, packages: readonly Judged[]): Markup {
  if (packages.length === 0) return html``
  const heads = ['Standing', 'Package', 'Version', 'Architecture', 'Why', 'Rebuilders']
  return tableOf(
    { name, caption: `${name}: ${shownCount(packages.length)}`, heads },
    packages.map(packageRow),
  )
}

function packageRow({ installed, standing, reason, link, voices }: Judged): Markup {
  const { name, version, architecture } = installed
  const why = shownReason(reason)
  const words = voices.map(({ url, answer }) => `${answer.status} at ${url}`).join(', ')
  return html`<tr>
    <td class="${standing}">${standing}</td>
    <th scope="row">${name}</th>
    <td>${version}</td>
    <td>${architecture}</td>
    <td>${link === null ? why : html`<a href="${link}" rel="noreferrer">${why === '' ? 'log' : why}</a>`}</td>
    <td>${words}</td>
  </tr>`
}

const style = `
:root { color-scheme: light dark; font: 1rem/1.5 system-ui, sans-serif; --edge: light-dark(#ccc, #555); background: light-dark(#fff, #121212); color: light-dark(#111, #eee) }
body { max-width: 75rem; margin: 2rem auto; padding: 0 1rem }
.wide { margin: 2rem 0; overflow-x: auto }
table { border-collapse: collapse; min-width: 100% }
caption { text-align: left; font-weight: bold; font-size: 1.2rem; padding: .5rem 0 }
th, td { text-align: left; padding: .25rem .75rem .25rem 0; border-bottom: 1px solid var(--edge); font-weight: normal; overflow-wrap: break-word }
thead th { font-weight: bold }
tbody th, td { max-width: 24rem }
td:last-child, td:nth-child(5):not(.number) { min-width: 14rem }
.number { text-align: right; white-space: nowrap; font-variant-numeric: tabular-nums }
.verified { color: light-dark(#05631c, #7fd98f); font-weight: bold }
.claimed { color: light-dark(#0a4a9c, #8fbcff) }
.partly, .FAIL, .unknown { color: light-dark(#7a4a00, #f0c060) }
.BAD, .alarm { color: light-dark(#a80d1d, #ff9c9c); font-weight: bold }
.alarm { border: 2px solid; padding: .5rem 1rem }
a { color: inherit }
`

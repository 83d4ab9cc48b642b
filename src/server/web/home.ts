import type { HomeView, QueueSummary } from '../views.ts'
import { added, bar, emptyTally, legend, totalOf, trend } from './chart.ts'
import { changeTable, originWords, reasonShort, sourcePath } from './changes.ts'
import {
  chip,
  count,
  duration,
  html,
  name,
  percent,
  queryOf,
  releaseSegment,
  segments,
  time,
  type Html,
} from './html.ts'
import type { Page, Site } from './layout.ts'
import { command } from './command.ts'

/** The state of everything at a glance. */
export function homePage(site: Site, view: HomeView, distribution?: string): Page {
  const { releases, queue, worse, others } = view
  const byDistribution = [...Map.groupBy(releases, (release) => release.distribution)]
  return {
    title: distribution ?? site.title,
    ...(distribution === undefined
      ? { here: 'home' as const }
      : { trail: [{ label: 'Overview', href: '/' }, { label: distribution }] }),
    api: `/api/v1/releases${queryOf({ distribution })}`,
    parts: {
      Trend: `/api/v1/trend${queryOf({ distribution })}`,
      Changes: `/api/v1/changes${queryOf({ distribution })}`,
      Pace: '/api/v1/queue/pace',
      Pause: '/api/v1/queue/control',
    },
    feed: '/feed.atom',
    live: 'verdict,queue',
    body: html`${distribution === undefined ? lead(site) : ''}
      <div data-live-part="newest">${newestPart(site, worse[0])}</div>
      <div data-live-part="releases">
        ${releases.length === 0 ? empty(site) : ''}
        ${byDistribution.map(([title, own]) => distributionPart(site, title, own, distribution !== undefined))}
      </div>
      <section aria-labelledby="worse" data-live-part="worse">
        <h2 id="worse">Regressions</h2>
        ${
          worse.length === 0
            ? html`<p class="quiet">Nothing that was GOOD has stopped being so.</p>`
            : changeTable(site.base, worse, 'Packages that were GOOD and are not any more, newest first')
        }
        ${worse.length === 0 ? '' : html`<p><a href="${site.base}/changes?turn=worse">All regressions</a></p>`}
      </section>
      <section aria-labelledby="queue-now" data-live-part="queue">
        <h2 id="queue-now">Queue and workers</h2>
        ${queueFacts(site, queue)}
      </section>
      <section aria-labelledby="others" data-live-part="others">
        <h2 id="others">Other changes</h2>
        ${
          others.length === 0
            ? html`<p class="quiet">No verdict has changed yet.</p>`
            : changeTable(site.base, others, 'Other changes of verdicts, newest first')
        }
        ${others.length === 0 ? '' : html`<p><a href="${site.base}/changes">All changes of verdict</a></p>`}
      </section>`,
  }
}

function lead({ base, title }: Site): Html {
  return html`<h1 class="unseen">${title}</h1>
    <p class="lead">
      Packages rebuilt from their source and compared, byte for byte, with what the distribution ships.
      <a href="${base}/about#verdicts">What the verdicts mean</a>
    </p>`
}

/** What got worse last, where nobody has to look for it. */
function newestPart({ base }: Site, change: HomeView['worse'][number] | undefined): Html {
  if (change === undefined) return html``
  const { distribution, release, name: source, version, architecture, status, reason } = change
  return html`<p class="callout ${status}">
    Last regression:
    <a href="${base}${sourcePath(distribution, release, source, version)}">${name(source)}</a>
    <span class="version">${name(version)}</span> in ${name(originWords(distribution, release))} ·
    ${name(architecture)}: ${chip(status)} ${reasonShort(reason)}, ${time(change.at)}.
    <a href="#worse">All of them</a>
  </p>`
}

function empty({ base, address }: Site): Html {
  return html`<section class="card">
    <h2>Nothing to verify yet</h2>
    <p>No packages have been imported. On the machine of this server, with the address of a mirror:</p>
    ${command('rebuilderd ctl pkgs sync debian https://mirror.example/debian --component main --release trixie --architecture amd64', 'Command that imports packages')}
    <p>Then, on a build machine, with the sign-up secret of this server:</p>
    ${command(`rebuilderd worker --secret SECRET ${address}`, 'Command that starts a worker')}
    <p><a href="${base}/about">About</a> tells more.</p>
  </section>`
}

/** Names with numbers in the order that people expect: 9 before 10. */
const inOrder = new Intl.Collator('en', { numeric: true })

/** @param isPage the whole page is about this distribution */
function distributionPart(site: Site, title: string, releases: HomeView['releases'], isPage: boolean): Html {
  const tally = releases.reduce((sum, release) => added(sum, release.tally), emptyTally)
  const sorted = releases.toSorted((a, b) => inOrder.compare(a.release, b.release))
  const words = html`<p class="share">
    <strong>${percent(tally.GOOD, totalOf(tally))}</strong> verified of ${count(totalOf(tally))} builds
    ${releases.length === 1 ? '' : `in ${releases.length} releases`}
  </p>`
  return html`<section class="distribution">
    <header class="title">
      ${isPage ? html`<h1>${name(title)}</h1>` : html`<h2><a href="${site.base}${segments(title)}">${name(title)}</a></h2>`}
      ${releases.length === 1 ? '' : words}
    </header>
    ${releases.length === 1 ? '' : bar(tally)}
    <div class="cards">${sorted.map((release) => releaseCard(site, release, isPage))}</div>
  </section>`
}

function releaseCard({ base }: Site, summary: HomeView['releases'][number], isPage: boolean): Html {
  const { distribution, release, tally, architectures, days } = summary
  const path = base + segments(distribution, releaseSegment(release))
  const unproven = architectures.some((each) => each.trust === 'unsigned')
  const words = originWords(distribution, release)
  const link = html`<a href="${path}">${name(release === '' ? distribution : release)}</a>`
  return html`<article class="card">
    <header>
      ${isPage ? html`<h2>${link}</h2>` : html`<h3>${link}</h3>`}
      <p class="share">
        <strong>${percent(tally.GOOD, totalOf(tally))}</strong> verified of ${count(totalOf(tally))} builds
      </p>
    </header>
    ${bar(tally)} ${legend(tally, (status) => path + queryOf({ status }))}
    ${architectures.length === 1 ? html`<p class="quiet small">${architectures.map((each) => listedOf(each))}</p>` : architectureTable(path, words, architectures)}
    ${trend(days, words)}
    ${unproven ? html`<p class="small warn">The index of this release was taken on trust: no signature was checked.</p>` : ''}
  </article>`
}

type Architecture = HomeView['releases'][number]['architectures'][number]

function listedOf({ architecture, importedAt }: Architecture): Html {
  return html`${name(architecture)} · listed on ${importedAt.slice(0, 10)}`
}

function architectureTable(path: string, words: string, architectures: readonly Architecture[]): Html {
  return html`<table class="small">
    <caption class="unseen">
      ${words} by architecture
    </caption>
    <thead class="unseen">
      <tr>
        <th scope="col">Architecture</th>
        <th scope="col">Verified</th>
        <th scope="col">Verdicts</th>
        <th scope="col">Listed</th>
      </tr>
    </thead>
    <tbody>
      ${architectures.map(
        ({ architecture, tally, importedAt }) =>
          html`<tr>
            <th scope="row"><a href="${path}${queryOf({ architecture })}">${name(architecture)}</a></th>
            <td class="number">${percent(tally.GOOD, totalOf(tally))}</td>
            <td class="wide">${bar(tally)}</td>
            <td class="number" title="listed as of ${importedAt.slice(0, 16).replace('T', ' ')} UTC">
              ${count(totalOf(tally))}
            </td>
          </tr>`,
      )}
    </tbody>
  </table>`
}

/** Numbers of the queue and the farm. */
export function queueFacts({ base }: Site, queue: QueueSummary): Html {
  const { running, ready, waiting, workers, perHour, emptyIn, paused } = queue
  const facts: [string, Html | string][] = [
    ['Running', html`<a href="${base}/queue">${count(running)}</a>`],
    ['Ready', html`<a href="${base}/queue#ready">${count(ready)}</a>`],
    ['Waiting for a retry', html`<a href="${base}/queue#waiting">${count(waiting)}</a>`],
    [
      'Workers online',
      html`<a href="${base}/workers">${count(workers.online)}</a>
        <span class="quiet">of ${count(workers.known)}, ${count(workers.busy)} busy</span>`,
    ],
    ['Pace', perHour === 0 ? '–' : `${perHour < 10 ? perHour.toFixed(1) : count(perHour)} an hour`],
    [
      'Ready ones done in',
      ready + running === 0 ? 'nothing to do' : emptyIn === null ? 'unknown' : `about ${duration(emptyIn)}`,
    ],
  ]
  return html`${
      paused === null
        ? ''
        : html`<p class="warn">
            The queue is paused since
            ${time(paused.since)}${paused.note === '' ? '' : html`: ${name(paused.note)}`}.
          </p>`
    }
    <dl class="facts">
      ${facts.map(
        ([term, value]) =>
          html`<div>
            <dt>${term}</dt>
            <dd>${value}</dd>
          </div>`,
      )}
    </dl>`
}

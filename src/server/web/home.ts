import type { HomeView, QueueSummary } from '../views.ts'
import { bar, legend, totalOf, trend } from './chart.ts'
import { changeTable, originWords } from './changes.ts'
import {
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
    },
    feed: '/feed.atom',
    live: 'verdict,queue',
    body: html`<h1 class="${distribution === undefined ? 'unseen' : ''}">
        ${name(distribution ?? site.title)}
      </h1>
      ${releases.length === 0 ? empty(site) : ''}
      <div data-live-part="releases">
        ${byDistribution.map(([title, own]) => distributionPart(site, title, own))}
      </div>
      <section aria-labelledby="queue-now" data-live-part="queue">
        <h2 id="queue-now">Queue and workers</h2>
        ${queueFacts(site, queue)}
      </section>
      <section aria-labelledby="worse" data-live-part="worse">
        <h2 id="worse">Regressions</h2>
        ${
          worse.length === 0
            ? html`<p class="quiet">Nothing that was GOOD has stopped being so.</p>`
            : changeTable(site.base, worse, 'Packages that were GOOD and are not any more, newest first')
        }
      </section>
      <section aria-labelledby="others" data-live-part="others">
        <h2 id="others">Other changes</h2>
        ${
          others.length === 0
            ? html`<p class="quiet">No verdict has changed yet.</p>`
            : changeTable(site.base, others, 'Other changes of verdicts, newest first')
        }
      </section>`,
  }
}

function empty({ base }: Site): Html {
  return html`<section class="card">
    <h2>Nothing to verify yet</h2>
    <p>No packages have been imported. On the machine of this server:</p>
    <pre
      class="command"
    ><code>rebuilderd ctl pkgs sync debian URL --component main --release trixie --architecture amd64</code></pre>
    <p>Then start a worker; <a href="${base}/about">About</a> tells more.</p>
  </section>`
}

function distributionPart(site: Site, title: string, releases: HomeView['releases']): Html {
  return html`<section class="distribution">
    <h2>${name(title)}</h2>
    <div class="cards">${releases.map((release) => releaseCard(site, release))}</div>
  </section>`
}

function releaseCard({ base }: Site, summary: HomeView['releases'][number]): Html {
  const { distribution, release, tally, architectures, days } = summary
  const path = base + segments(distribution, releaseSegment(release))
  const unproven = architectures.some((each) => each.trust === 'unsigned')
  return html`<article class="card">
    <header>
      <h3><a href="${path}">${name(release === '' ? distribution : release)}</a></h3>
      <p class="share"><strong>${percent(tally.GOOD, totalOf(tally))}</strong> verified</p>
    </header>
    ${bar(tally)} ${legend(tally, (status) => path + queryOf({ status }))}
    <table class="small">
      <caption class="unseen">
        ${originWords(distribution, release)} by architecture
      </caption>
      <thead class="unseen">
        <tr>
          <th scope="col">Architecture</th>
          <th scope="col">Verified</th>
          <th scope="col">Verdicts</th>
          <th scope="col">Packages</th>
        </tr>
      </thead>
      <tbody>
        ${architectures.map(
          ({ architecture, tally: own, importedAt }) =>
            html`<tr>
              <th scope="row"><a href="${path}${queryOf({ architecture })}">${name(architecture)}</a></th>
              <td class="number">${percent(own.GOOD, totalOf(own))}</td>
              <td class="wide">${bar(own)}</td>
              <td class="number" title="listed as of ${importedAt.slice(0, 16)} UTC">
                ${count(totalOf(own))}
              </td>
            </tr>`,
        )}
      </tbody>
    </table>
    ${trend(days, originWords(distribution, release))}
    ${unproven ? html`<p class="small warn">The index of this release was taken on trust: no signature was checked.</p>` : ''}
  </article>`
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

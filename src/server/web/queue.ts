import { isReason, reasons } from '../../wire/reasons.ts'
import type { QueueView, ReasonSummary, SearchView, WorkersView } from '../views.ts'
import type { TurnRow } from '../store/web.ts'
import { bar, legend, sparkline, totalOf } from './chart.ts'
import { originWords, reasonShort, sourcePath } from './changes.ts'
import { queueFacts } from './home.ts'
import { chip, count, html, name, queryOf, releaseSegment, segments, shown, time, type Html } from './html.ts'
import type { Page, Site } from './layout.ts'
import { tableOf } from './table.ts'

/** What runs, what is next, what waits. */
export function queuePage(site: Site, { summary, turns }: QueueView): Page {
  const part = (id: string, title: string, rows: readonly TurnRow[], total: number, none: string): Html =>
    html`<section aria-labelledby="${id}" data-live-part="${id}">
      <h2 id="${id}">${title} <span class="quiet">${count(total)}</span></h2>
      ${rows.length === 0 ? html`<p class="quiet">${none}</p>` : jobTable(site, id, title, rows)}
      ${rows.length < total ? html`<p class="quiet">The first ${count(rows.length)} of ${count(total)} are shown.</p>` : ''}
    </section>`
  return {
    title: 'Queue',
    here: 'queue',
    api: '/api/v1/queue',
    parts: { Pace: '/api/v1/queue/pace', Pause: '/api/v1/queue/control' },
    live: 'verdict,queue',
    body: html`<h1>Queue</h1>
      <div data-live-part="facts">${queueFacts(site, summary)}</div>
      ${part('running', 'Running', turns.running, summary.running, 'No job runs.')}
      ${part('ready', 'Ready', turns.ready, summary.ready, 'Nothing waits for a worker.')}
      ${part('waiting', 'Waiting for a retry', turns.waiting, summary.waiting, 'Nothing waits for its next try.')}`,
  }
}

function jobTable({ base }: Site, id: string, title: string, rows: readonly TurnRow[]): Html {
  const moment = id === 'running' ? 'Since' : id === 'ready' ? 'Queued' : 'Next try'
  const body = rows.map(
    (job) =>
      html`<tr>
        <th scope="row">
          <a href="${base}${sourcePath(job.distribution, job.release, job.name)}">${name(job.name)}</a>
          <span class="version">${name(job.version)}</span>
        </th>
        <td>${name(originWords(job.distribution, job.release))} · ${name(job.architecture)}</td>
        <td class="tight">
          ${time(id === 'running' ? job.started_at : id === 'ready' ? job.queued_at : job.next_retry)}
        </td>
        <td>
          ${
            id === 'running'
              ? html`${name(job.worker ?? '')} · <a href="${base}/jobs/${job.id}">watch the log</a>`
              : html`<span class="number">${job.priority}</span>`
          }
        </td>
        <td class="why">
          ${job.reason === null ? html`<span class="quiet">first try</span>` : reasonShort(job.reason)}
        </td>
      </tr>`,
  )
  const heads = ['Package', 'Where', moment, id === 'running' ? 'Worker' : 'Priority', 'Last time']
  return tableOf({ label: `${title}: table`, caption: title, heads }, body)
}

/** Who rebuilds, and what they did today. */
export function workersPage({ base }: Site, { workers, total }: WorkersView): Page {
  const rows = workers.map(
    ({ worker, jobs, done }) =>
      html`<tr>
        <th scope="row">${name(worker.name)} <span class="quiet">#${worker.id}</span></th>
        <td class="tight">
          ${worker.online === 1 ? html`<span class="state on">online</span>` : html`<span class="state off">silent</span>`}
          ${
            worker.proven === 1
              ? html`<span class="quiet" title="It proved that it holds its key, and signs its reports."
                  >proven</span
                >`
              : html`<span class="quiet" title="Whoever knows its key can speak for it.">unproven</span>`
          }
          ${worker.draining === 1 ? html`<span class="state off">draining</span>` : ''}
        </td>
        <td>
          ${
            jobs.length === 0
              ? html`<span class="quiet">idle</span>`
              : jobs.map(
                  (job) =>
                    html`<a href="${base}/jobs/${job.job_id}">${name(job.name)}</a>
                      <span class="version">${name(job.version)}</span> `,
                )
          }
        </td>
        <td class="wide">
          ${totalOf(done) === 0 ? html`<span class="quiet">nothing</span>` : html`${bar(done)}${legend(done)}`}
        </td>
        <td>
          ${worker.tags === '' ? html`<span class="quiet">–</span>` : name(worker.tags.replaceAll(',', ', '))}
        </td>
        <td class="tight">${time(worker.last_ping)}</td>
      </tr>`,
  )
  return {
    title: 'Workers',
    here: 'workers',
    api: '/api/v1/workers',
    parts: { Jobs: '/api/v1/queue', 'Work done': '/api/v1/queue/pace' },
    live: 'verdict,queue',
    body: html`<h1>Workers <span class="quiet">${count(total)}</span></h1>
      <div data-live-part="workers">
        ${
          workers.length === 0
            ? html`<p>
                No worker has registered. On a build machine: <code>rebuilderd worker</code> with the address
                and the sign-up secret of this server.
              </p>`
            : tableOf(
                {
                  label: 'Workers',
                  caption: 'Workers',
                  heads: ['Name', 'State', 'Works on', 'Done in 24 hours', 'Tags', 'Last heard'],
                },
                rows,
              )
        }
      </div>`,
  }
}

const classes = [
  ['package', 'The package’s turn', 'Something in the package, its sources or its build has to change.'],
  [
    'infrastructure',
    'The infrastructure’s turn',
    'These prove nothing about the package: they are tried again by themselves, on another worker where there is one.',
  ],
] as const

/** Why packages are not GOOD, by whose turn it is. */
export function reasonsPage({ base }: Site, summaries: readonly ReasonSummary[]): Page {
  const part = ([turn, title, words]: (typeof classes)[number]): Html => {
    const own = summaries.filter(({ reason }) => isReason(reason) && reasons[reason][0] === turn)
    return html`<section aria-labelledby="${turn}" data-live-part="${turn}">
      <h2 id="${turn}">${title}</h2>
      <p>${words}</p>
      ${own.length === 0 ? html`<p class="quiet">None at present.</p>` : reasonTable(base, title, own)}
    </section>`
  }
  const known = Object.entries(reasons).map(
    ([code, [turn, words]]) =>
      html`<tr>
        <th scope="row"><code>${code}</code></th>
        <td>${turn}</td>
        <td>${words}</td>
      </tr>`,
  )
  return {
    title: 'Reasons',
    here: 'reasons',
    api: '/api/v1/trend',
    parts: { Now: '/api/v1/releases', Meanings: '/api/v1/meta/reasons' },
    live: 'verdict',
    body: html`<h1>Reasons</h1>
      <p>
        Every verdict that is not GOOD says why, and whose turn it is. Counted are the listed build inputs.
      </p>
      ${classes.map(part)}
      <details>
        <summary>All reason codes</summary>
        <table>
          <caption class="unseen">
            Reason codes
          </caption>
          <thead>
            <tr>
              <th scope="col">Code</th>
              <th scope="col">Turn</th>
              <th scope="col">Meaning</th>
            </tr>
          </thead>
          <tbody>
            ${known}
          </tbody>
        </table>
      </details>`,
  }
}

function reasonTable(base: string, title: string, summaries: readonly ReasonSummary[]): Html {
  const rows = summaries.map(({ reason, now, days, releases }) => {
    const links = releases.map(
      ({ distribution, release, n }) =>
        html`<li>
          <a href="${base}${segments(distribution, releaseSegment(release))}${queryOf({ reason })}"
            >${name(originWords(distribution, release))}</a
          >
          <span class="number">${count(n)}</span>
        </li>`,
    )
    return html`<tr>
      <th scope="row">${isReason(reason) ? reasons[reason][1] : ''} <code>${reason}</code></th>
      <td class="number">${count(now)}</td>
      <td>${sparkline(days, `${reason} over ${days.length} days, ${now} now`)}</td>
      <td class="where">
        <ul class="plain inline">
          ${links}
        </ul>
      </td>
    </tr>`
  })
  return tableOf(
    { label: `${title}: table`, caption: title, heads: ['Reason', 'Now', '90 days', 'Where'] },
    rows,
  )
}

/** Packages of any release that have what is asked in their name. */
export function searchPage({ base }: Site, { query, found }: SearchView): Page {
  const asked = queryOf({ search: query, seen_only: 'true' })
  const rows = found.map(
    (row) =>
      html`<tr>
        <th scope="row">
          <a href="${base}${sourcePath(row.distribution, row.release, row.source_name)}">${name(row.name)}</a>
          <span class="version">${name(row.version)}</span>
        </th>
        <td>${row.kind === 'source' ? 'source' : html`binary · ${name(row.architecture)}`}</td>
        <td>${name(originWords(row.distribution, row.release))}</td>
        <td class="tight">${chip(row.status)}</td>
        <td class="why">${reasonShort(row.reason)}</td>
      </tr>`,
  )
  return {
    title: query === '' ? 'Search' : `Search: ${shown(query, 80)}`,
    search: query,
    api: `/api/v1/packages/binary${asked}`,
    parts: { 'Source packages': `/api/v1/packages/source${asked}` },
    body: html`<h1>${query === '' ? 'Search' : html`Packages with “${name(query)}” in their name`}</h1>
      ${
        found.length === 0
          ? html`<p>
              ${query === '' ? 'Give the name of a source or binary package, or a part of it, in the box above.' : 'No listed package has that in its name.'}
            </p>`
          : tableOf(
              {
                label: 'Packages found',
                caption: 'Packages found',
                heads: ['Package', 'Kind', 'Where', 'Verdict', 'Why'],
              },
              rows,
            )
      }`,
  }
}

import { isReason, reasonCodes, reasons } from '../../wire/reasons.ts'
import type { ReleaseQuery, ReleaseView } from '../views-package.ts'
import { bar, emptyTally, legend, totalOf, type Tally } from './chart.ts'
import { originWords, reasonShort, sourcePath } from './changes.ts'
import {
  chip,
  count,
  html,
  maintainerField,
  searchField,
  name,
  option,
  originQueryOf,
  percent,
  queryOf,
  raw,
  releaseSegment,
  segments,
  showOrReset,
  time,
  verdictOf,
  type Html,
} from './html.ts'
import type { Page, Site } from './layout.ts'
import { tableOf } from './table.ts'

const sortWords = [
  ['name', 'Name'],
  ['name-down', 'Name, from Z'],
  ['newest', 'Newest verdict'],
  ['oldest', 'Oldest verdict'],
] as const

/** Source packages of a release with filters; the address holds the view. */
export function releasePage(site: Site, view: ReleaseView): Page {
  const { release, scopes, query, listed } = view
  const path = segments(release.distribution, releaseSegment(release.name))
  const words = originWords(release.distribution, release.name)
  const tally = tallyOf(view)
  const { status, reason, architecture, component, maintainer, search } = query
  const ofRelease = (given = {}): string => originQueryOf(release.distribution, release.name, given)
  const unsigned = scopes.filter((scope) => scope.index_trust === 'unsigned')
  const feed = `/feed${path}.atom`
  return {
    title: words,
    trail: [
      { label: 'Overview', href: '/' },
      { label: release.distribution, href: segments(release.distribution) },
      { label: release.name === '' ? 'packages' : release.name },
    ],
    api: `/api/v1/packages/source${ofRelease({ status, reason, architecture, component, maintainer, search, seen_only: 'true' })}`,
    parts: {
      'By architecture': `/api/v1/packages/binary${ofRelease({ status, reason, architecture, component, maintainer, seen_only: 'true' })}`,
      Numbers: `/api/v1/releases${ofRelease()}`,
    },
    feed,
    live: 'verdict',
    body: html`<h1>${name(words)}</h1>
      <div data-live-part="summary">
        <p class="share">
          <strong>${percent(tally.GOOD, totalOf(tally))}</strong> of ${count(totalOf(tally))} source packages
          verified${scopes.length === 1 ? '' : ' on every architecture'}
        </p>
        ${bar(tally)} ${legend(tally, (each) => site.base + path + queryOf({ status: each }))}
        <p class="small">
          <a href="${site.base}/changes${queryOf({ turn: 'worse', of: words })}">Regressions</a> ·
          <a href="${site.base}/changes${queryOf({ of: words })}">all changes of verdict</a>
        </p>
        ${
          unsigned.length === 0
            ? ''
            : html`<p class="small warn">
                Taken on trust, without a signature:
                ${unsigned.map((scope) => scope.architecture).join(', ')}.
              </p>`
        }
      </div>
      ${filterForm(site.base + path, view)}
      <div data-live-part="rows">
        ${totalLine(view)} ${listed.rows.length === 0 ? noRows(site.base + path) : sourceTable(site, view)}
        ${pager(site.base + path, view)}
      </div>`,
  }
}

function tallyOf({ sources }: ReleaseView): Tally {
  const tally = { ...emptyTally }
  for (const { status, n } of sources) tally[verdictOf(status)] += n
  return tally
}

/** A field to choose one of some values by; nothing where there is no choice. */
function choice(field: string, label: string, values: readonly string[], chosen: string | undefined): Html {
  if (values.length < 2) return html``
  return html`<p>
    <label for="${field}">${label}</label>
    <select id="${field}" name="${field}">
      ${option('', 'any', chosen)} ${values.map((value) => option(value, value, chosen))}
    </select>
  </p>`
}

function filterForm(action: string, view: ReleaseView): Html {
  const { query, scopes, components, counts } = view
  const present = reasonCodes.filter(
    (code) => counts.some((row) => row.reason === code) || query.reason === code,
  )
  const group = (turn: string, label: string): Html => {
    const own = present.filter((code) => reasons[code][0] === turn)
    return own.length === 0
      ? html``
      : html`<optgroup label="${label}">
          ${own.map((code) => option(code, code.replaceAll('_', ' '), query.reason))}
        </optgroup>`
  }
  return html`<form class="filters" action="${action}" role="search" aria-label="Filter packages">
    ${searchField('q', 'Name', query.search, 'part of it')}
    <p>
      <label for="status">Verdict</label>
      <select id="status" name="status">
        ${option('', 'any', query.status)}
        ${['GOOD', 'BAD', 'FAIL', 'UNKWN'].map((status) => option(status, status, query.status))}
      </select>
    </p>
    <p>
      <label for="reason">Reason</label>
      <select id="reason" name="reason">
        ${option('', 'any', query.reason)} ${group('package', 'the package’s turn')}
        ${group('infrastructure', 'the infrastructure’s turn')}
      </select>
    </p>
    ${choice(
      'architecture',
      'Architecture',
      scopes.map((scope) => scope.architecture),
      query.architecture,
    )}
    ${choice('component', 'Component', components, query.component)}
    ${maintainerField(query.maintainer, 'part of it')}
    <p>
      <label for="sort">Order</label>
      <select id="sort" name="sort">
        ${sortWords.map(([value, label]) => option(value, label, query.sort))}
      </select>
    </p>
    ${showOrReset(action)}
  </form>`
}

function totalLine({ listed: { rows, total, isTotalKnown } }: ReleaseView): Html {
  const words = isTotalKnown ? count(total) : `more than ${count(total)}`
  return html`<p class="quiet" role="status">
    ${words}
    ${total === 1 ? 'package' : 'packages'}${rows.length < total ? `, ${count(rows.length)} on this page` : ''}
  </p>`
}

function noRows(action: string): Html {
  return html`<p>No listed package is like that. <a href="${action}">Show all of them</a>.</p>`
}

function sourceTable({ base }: Site, view: ReleaseView): Html {
  const { release, listed, verdicts, scopes } = view
  const isOne = scopes.length === 1
  const rows = listed.rows.map((row) => {
    const own = verdicts.get(row.id) ?? []
    const chips = own.map(
      (each) =>
        html`<a
          class="bare"
          href="${each.build_id === null ? base + sourcePath(release.distribution, release.name, row.name) : `${base}/builds/${each.build_id}`}"
          >${chip(each.status, isOne ? undefined : each.architecture)}</a
        > `,
    )
    const decided =
      own
        .map((each) => each.decided_at ?? '')
        .sort()
        .at(-1) ?? ''
    const whys = [...new Set(own.map((each) => each.reason).filter((reason) => reason !== null))]
    return html`<tr>
      <th scope="row">
        <a href="${base}${sourcePath(release.distribution, release.name, row.name)}">${name(row.name)}</a>
        <span class="version">${name(row.version)}</span>
      </th>
      <td class="${isOne ? 'tight' : 'verdicts'}">${chips}</td>
      <td class="why">${whys.map((reason) => html`${reasonShort(reason)} `)}</td>
      <td class="tight">${time(decided === '' ? null : decided)}</td>
    </tr>`
  })
  const caption = `Source packages of ${originWords(release.distribution, release.name)}`
  const heads = ['Source package', `Verdict${isOne ? '' : ' by architecture'}`, 'Why', 'Decided']
  return tableOf({ label: 'Source packages', caption, heads }, rows)
}

/** The query string of a view. */
function addressOf(query: ReleaseQuery, change: Partial<ReleaseQuery>): string {
  const { status, reason, architecture, component, maintainer, search, sort, after, before } = {
    ...query,
    ...change,
  }
  return queryOf({
    q: search,
    status,
    reason,
    architecture,
    component,
    maintainer,
    sort: sort === 'name' ? undefined : sort,
    after,
    before,
  })
}

function pager(path: string, { listed, query, hasBefore, hasAfter }: ReleaseView): Html {
  const [firstRow, lastRow] = [listed.rows[0], listed.rows.at(-1)]
  if (!hasBefore && !hasAfter) return html``
  const link = (label: string, change: Partial<ReleaseQuery>, rel: string): Html =>
    html`<a
      href="${path}${addressOf(query, { after: undefined, before: undefined, ...change })}"
      ${rel === '' ? '' : raw(`rel="${rel}"`)}
      >${label}</a
    >`
  return html`<nav class="pager" aria-label="Pages">
    ${hasBefore ? link('First', {}, '') : ''}
    ${hasBefore && firstRow !== undefined ? link('← Previous', { before: firstRow.id }, 'prev') : ''}
    ${hasAfter && lastRow !== undefined ? link('Next →', { after: lastRow.id }, 'next') : ''}
  </nav>`
}

/** Whether a text is a reason that a filter may name. */
export function reasonGiven(text: string | undefined): string | undefined {
  return text !== undefined && isReason(text) ? text : undefined
}

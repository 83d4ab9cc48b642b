import { turnWords } from '../../wire/history.ts'
import type { ChangesView } from '../views.ts'
import { changeTable, originWords } from './changes.ts'
import {
  html,
  maintainerField,
  option,
  originQueryOf,
  queryOf,
  releaseSegment,
  segments,
  showOrReset,
  type Html,
} from './html.ts'
import type { Page, Site } from './layout.ts'

/** What the turns of the API are called here. */
const words = {
  worse: 'regressions',
  better: 'improvements',
  other: 'other changes',
} as const satisfies Record<(typeof turnWords)[number], string>

/** Changes of verdicts, newest first: of everything, or of what is chosen. The address holds the view. */
export function changesPage({ base }: Site, view: ChangesView): Page {
  const { query, origin, changes, hasMore } = view
  const { turn, maintainer, before } = query
  const what = turn === undefined ? 'changes of verdict' : words[turn]
  const asked = { turn, maintainer }
  const ofOrigin =
    origin === null ? queryOf(asked) : originQueryOf(origin.distribution, origin.release, asked)
  const last = changes.at(-1)
  const feedPath =
    origin === null ? '/feed' : `/feed${segments(origin.distribution, releaseSegment(origin.release))}`
  const isFed = origin === null || maintainer === undefined
  return {
    title: `Changes: ${what}`,
    here: 'changes',
    api: `/api/v1/changes${ofOrigin}`,
    ...(isFed ? { feed: `${feedPath}.atom${queryOf({ maintainer })}` } : {}),
    ...(before === undefined ? { live: 'verdict' } : {}),
    body: html`<h1>Changes of verdict</h1>
      ${filterForm(`${base}/changes`, view)}
      <div data-live-part="rows">
        ${changes.length === 0 ? html`<p>There are no ${what} like that.</p>` : changeTable(base, changes, `${what}, newest first`)}
        <nav class="pager" aria-label="Pages">
          ${before === undefined ? '' : html`<a href="${base}/changes${queryOf({ ...query, before: undefined })}">Newest</a>`}
          ${hasMore && last !== undefined ? html`<a href="${base}/changes${queryOf({ ...query, before: last.id })}" rel="next">Older →</a>` : ''}
        </nav>
      </div>`,
  }
}

function filterForm(action: string, { query, releases }: ChangesView): Html {
  const where = releases.map(({ distribution, release }) => {
    const words = originWords(distribution, release)
    return option(words, words, query.of)
  })
  return html`<form class="filters" action="${action}" role="search" aria-label="Filter changes">
    <p>
      <label for="turn">Which</label>
      <select id="turn" name="turn">
        ${option('', 'all', query.turn)} ${turnWords.map((turn) => option(turn, words[turn], query.turn))}
      </select>
    </p>
    <p>
      <label for="of">Where</label>
      <select id="of" name="of">
        ${option('', 'anywhere', query.of)} ${where}
      </select>
    </p>
    ${maintainerField(query.maintainer, 'Name <address>')} ${showOrReset(action)}
  </form>`
}

import type { Outlook } from '../../wire/queue.ts'
import type { FileRow, InputRow, VersionRow } from '../store/web-package.ts'
import type { SourceView, Trial } from '../views-package.ts'
import { callout } from './advice.ts'
import { command, quoted } from './command.ts'
import { changeTable, originWords, reasonShort, sourcePath } from './changes.ts'
import {
  bytes,
  chip,
  count,
  html,
  name,
  originQueryOf,
  queryOf,
  raw,
  releaseSegment,
  segments,
  shown,
  time,
  type Html,
} from './html.ts'
import type { Page, Site } from './layout.ts'
import { tableOf } from './table.ts'
import { attestationCheck } from './verify.ts'

/** A source package of a release: what its files are, why, and what happens next. */
export function sourcePage(site: Site, view: SourceView): Page {
  const { release, name: source, version } = view
  const { base } = site
  const path = sourcePath(release.distribution, release.name, source)
  const releasePath = segments(release.distribution, releaseSegment(release.name))
  const maintainer = view.versions.find((row) => row.maintainer !== null)?.maintainer ?? null
  const ofRelease = (given: Parameters<typeof queryOf>[0]): string =>
    originQueryOf(release.distribution, release.name, given)
  const trail = [
    { label: 'Overview', href: '/' },
    { label: originWords(release.distribution, release.name), href: releasePath },
    ...(version === null ? [{ label: source }] : [{ label: source, href: path }, { label: version }]),
  ]
  return {
    title: version === null ? source : `${source} ${version}`,
    trail,
    api: `/api/v1/packages/binary${ofRelease({ source_name: source })}`,
    parts: {
      'What is next': `/api/v1/queue/why${ofRelease({ name: source, version })}`,
      Attempts: `/api/v1/builds${ofRelease({ name: source, version })}`,
      Changes: `/api/v1/changes${ofRelease({ name: source })}`,
      'Other releases': `/api/v1/packages/source${queryOf({ name: source })}`,
    },
    feed: `/feed${path}.atom`,
    live: 'verdict,queue',
    body: html`<h1>
        ${name(source)} ${version === null ? '' : html`<span class="version">${name(version)}</span>`}
      </h1>
      <p>
        in <a href="${base}${releasePath}">${name(originWords(release.distribution, release.name))}</a>
        ${
          maintainer === null
            ? ''
            : html` · maintained by
                <a href="${base}${releasePath}${queryOf({ maintainer })}">${name(maintainer)}</a>
                (<a href="${base}/changes${queryOf({ maintainer })}">changes</a>)`
        }
      </p>
      <div data-live-part="matrix">${matrixPart(site, view)}</div>
      <div data-live-part="versions">${view.versions.map((row) => versionPart(site, view, row))}</div>
      <div data-live-part="history">${historyPart(site, view)}</div>
      ${elsewherePart(site, view)} ${homePart(site, view)}`,
  }
}

/** Rows of the matrix, and versions that are not listed any more among them. */
const [matrixRows, matrixOlder] = [100, 3]

/** Verdicts at a glance: a row for each file of each version, a column for each architecture of its build. */
function matrixPart({ base }: Site, { versions, inputs, files }: SourceView): Html {
  const listed = versions.filter((row) => row.seen === 1)
  const shownVersions = [...listed, ...versions.filter((row) => row.seen === 0).slice(0, matrixOlder)]
  const ofVersion = (row: VersionRow): InputRow[] =>
    inputs.filter((each) => each.source_package_id === row.id && each.seen === row.seen)
  const architectures = [...new Set(shownVersions.flatMap(ofVersion).map((each) => each.architecture))].sort()
  const rows = shownVersions.flatMap((row) => {
    const own = ofVersion(row)
    const ids = new Set(own.map((each) => each.id))
    const present = files.filter((file) => ids.has(file.build_input_id) && file.seen === row.seen)
    return [...Map.groupBy(present, (file) => file.name)].map(([file, its]) => {
      const cells = architectures.map((architecture) => {
        const input = own.find((each) => each.architecture === architecture)
        const found = its.find((each) => each.build_input_id === input?.id)
        return html`<td>
          ${found === undefined ? html`<span class="quiet">–</span>` : cellOf(base, found)}
        </td>`
      })
      return html`<tr ${row.seen === 1 ? '' : raw('class="gone"')}>
        <th scope="row">
          ${name(file)} <span class="version">${name(row.version)}</span>
          ${row.seen === 1 ? '' : html`<span class="small">no longer listed</span>`}
        </th>
        ${cells}
      </tr>`
    })
  })
  if (rows.length < 2 && architectures.length < 2) return html``
  const caption = 'Verdicts of each file by version and architecture'
  const heads = ['File', ...architectures.map((each) => shown(each, 40))]
  return html`<h2>Verdicts</h2>
    ${tableOf({ label: caption, caption, heads }, rows.slice(0, matrixRows))}
    ${rows.length > matrixRows ? html`<p class="quiet small">${count(rows.length - matrixRows)} more files are below.</p>` : ''}`
}

function cellOf(base: string, { status, reason, build_id: build }: FileRow): Html {
  const verdict = html`${chip(status)} <span class="small">${reasonShort(reason)}</span>`
  return build === null ? verdict : html`<a class="bare" href="${base}/builds/${build}">${verdict}</a>`
}

function versionPart(site: Site, view: SourceView, row: VersionRow): Html {
  const inputs = view.inputs.filter((input) => input.source_package_id === row.id)
  const path = site.base + sourcePath(view.release.distribution, view.release.name, view.name, row.version)
  const words =
    row.seen === 1
      ? html`listed since ${time(row.first_seen)}`
      : html`not listed any more, last on ${time(row.last_seen)}`
  const title = html`<h2><a href="${path}">${name(row.version)}</a> ${chip(row.status)}</h2>`
  const parts = inputs.map((input) => inputPart(site, view, row, input))
  if (row.seen === 0 && view.version === null)
    return html`<details class="card">
      <summary>
        <h2>${name(row.version)} ${chip(row.status)}</h2>
        <span class="quiet small">${words}</span>
      </summary>
      <p class="small"><a href="${path}">This version by itself</a></p>
      ${parts}
    </details>`
  return html`<section class="card" aria-label="Version ${shown(row.version)}">
    <header>
      ${title}
      <p class="quiet small">${words}</p>
    </header>
    ${parts}
  </section>`
}

function inputPart(site: Site, view: SourceView, row: VersionRow, input: InputRow): Html {
  const files = view.files.filter((file) => file.build_input_id === input.id)
  const outlook = view.outlooks.find(
    (each) =>
      each.version === row.version &&
      each.architecture === input.architecture &&
      each.seen_in_last_sync === (input.seen === 1),
  )
  return html`<div class="input">
    <h3>
      ${name(input.architecture)} ${chip(input.status)}
      ${input.build_id === null ? '' : html`<a class="small" href="${site.base}/builds/${input.build_id}">log and evidence</a>`}
    </h3>
    ${input.index_trust === 'unsigned' ? html`<p class="small warn">index: unsigned. What is listed here was taken on trust: no signature was checked.</p>` : ''}
    ${callout(input.status, input.reason, input.note)} ${nextPart(site, input, outlook)}
    ${filesTable(site, files, `Files of ${shown(view.name)} ${shown(row.version)} for ${shown(input.architecture)}`)}
    <p class="small quiet">Built from ${addressOf(input.url)}</p>
  </div>`
}

/** An address from outside: a link only where it is one of the web. */
export function addressOf(url: string): Html {
  return /^https?:\/\/[\w.\-:[\]]+\/[\x21-\x7e]*$/.test(url)
    ? html`<a class="url" href="${url}" rel="nofollow noreferrer">${shown(url)}</a>`
    : html`<span class="url">${shown(url)}</span>`
}

/** What happens next and why. */
function nextPart({ base }: Site, input: InputRow, outlook: Outlook | undefined): Html {
  if (input.state === 'running')
    return html`<p>
      It is being rebuilt by ${name(input.worker ?? 'a worker')}:
      <a href="${base}/jobs/${input.job_id}">watch the log</a>.
    </p>`
  const tries = html`${count(input.retries)} ${input.retries === 1 ? 'try' : 'tries'} ended by the package,
  ${count(input.infrastructure_retries)} by the infrastructure in a row.`
  if (outlook?.paused === true && input.job_id !== null) return html`<p>It waits: the queue is paused.</p>`
  if (outlook !== undefined && input.job_id !== null && outlook.able_workers === 0)
    return html`<p>
      It waits for a worker: none is online that may take
      it${outlook.requires.length === 0 ? '' : html` (it needs ${name(outlook.requires.join(', '))})`}.
    </p>`
  if (input.state === 'ready')
    return html`<p>
      It is ready to be rebuilt;
      ${outlook?.ahead === null || outlook === undefined ? 'others may go' : html`${count(outlook.ahead)} jobs go`}
      before it. <a href="${base}/jobs/${input.job_id}">Watch it</a> from its start on.
    </p>`
  if (input.state === 'waiting') return html`<p>Next try ${time(input.next_retry)}. ${tries}</p>`
  if (input.status === 'GOOD' || input.seen === 0) return html``
  return html`<p>It is not queued${input.status === null ? '' : html`: ${tries}`}</p>`
}

const filesShown = 300

function filesTable({ base }: Site, files: readonly FileRow[], caption: string): Html {
  if (files.length === 0) return html`<p class="quiet">No files are listed.</p>`
  const rows = files.slice(0, filesShown).map((file) => {
    const build = `${base}/builds/${file.build_id}`
    const raw = `${base}/api/v1/builds/${file.build_id}/artifacts/${file.artifact_id}`
    const hasArtifact = file.build_id !== null && file.artifact_id !== null
    return html`<tr class="${file.seen === 1 ? '' : 'gone'}">
      <th scope="row">${name(file.name)} <span class="version">${name(file.architecture)}</span></th>
      <td class="tight">${chip(file.status)}</td>
      <td class="why">${reasonShort(file.reason)}</td>
      <td class="tight number">${bytes(file.size)}</td>
      <td>
        ${file.sha256 === null ? html`<span class="quiet">not told</span>` : html`<code class="hash" title="SHA-256 ${file.sha256}">${file.sha256.slice(0, 16)}…</code>`}
      </td>
      <td class="tight">
        ${file.build_id === null ? '' : html`<a href="${build}#log">log</a> `}
        ${hasArtifact && file.diffoscope_id !== null ? html`<a href="${base}/builds/${file.build_id}/diff/${file.artifact_id}">diff</a> ` : ''}
        ${hasArtifact && file.attestation_id !== null ? html`<a href="${raw}/attestation">attestation</a>` : ''}
      </td>
    </tr>`
  })
  const heads = ['File', 'Verdict', 'Why', 'Size', 'SHA-256', 'Proof']
  return html`${tableOf({ label: caption, caption, heads, isSmall: true }, rows)}
  ${files.length > filesShown ? html`<p class="quiet">${count(files.length - filesShown)} more are listed in the JSON.</p>` : ''}`
}

function historyPart({ base }: Site, { attempts, changes }: SourceView): Html {
  const rows = attempts.map(
    (each) =>
      html`<tr>
        <td class="tight">${time(each.decided_at)}</td>
        <th scope="row">
          <a href="${base}/builds/${each.id}">build ${each.id}</a>
          <span class="version">${name(each.version)}</span>
        </th>
        <td>${name(each.architecture)}</td>
        <td class="tight">
          ${chip(each.status)}
          ${each.is_latest === 1 ? '' : html`<span class="quiet small">kept as history</span>`}
        </td>
        <td class="why">${reasonShort(each.reason)}</td>
        <td>${each.worker === null ? '' : name(each.worker)}</td>
      </tr>`,
  )
  return html`<section aria-labelledby="history">
    <h2 id="history">History</h2>
    ${
      attempts.length === 0
        ? html`<p class="quiet">No attempt has ended yet.</p>`
        : tableOf(
            {
              label: 'Attempts',
              caption: 'Attempts, newest first',
              heads: ['Decided', 'Build', 'Architecture', 'Verdict', 'Why', 'Worker'],
            },
            rows,
          )
    }
    ${
      changes.length === 0
        ? ''
        : html`<h3>Changes of verdict</h3>
            ${changeTable(base, changes, 'Changes of verdict, newest first')}`
    }
  </section>`
}

function elsewherePart({ base }: Site, { elsewhere, name: source }: SourceView): Html {
  if (elsewhere.length === 0) return html``
  const rows = elsewhere.map(
    (each) =>
      html`<li>
        <a href="${base}${sourcePath(each.distribution, each.release, source)}"
          >${name(originWords(each.distribution, each.release))}</a
        >
        <span class="version">${name(each.version)}</span> ${chip(each.status)} ${reasonShort(each.reason)}
        ${each.is_friend === 1 ? html`<span class="quiet small">shares this build</span>` : ''}
      </li>`,
  )
  return html`<section aria-labelledby="elsewhere">
    <h2 id="elsewhere">In other releases</h2>
    <ul class="plain">
      ${rows}
    </ul>
  </section>`
}

/** Commands to try it at home, and the badge. */
function homePart(site: Site, view: SourceView): Html {
  const { release, name: source, trial } = view
  const path = sourcePath(release.distribution, release.name, source)
  const badge = `/badge${path}.svg`
  return html`<section aria-labelledby="home">
    <h2 id="home">Try it yourself</h2>
    ${
      trial === null
        ? ''
        : html`<h3>Repeat the verdict for ${name(trial.input.architecture)}</h3>
            ${command(rebuilding(view, trial), 'Command that repeats the verdict')}`
    }
    ${
      trial === null || trial.attestation === null
        ? ''
        : html`<h3>Check the attestation</h3>
            ${attestationCheck(site, trial.attestation)}
            <p class="small">
              The page of
              <a href="${site.base}/builds/${trial.attestation.buildId}#attestation">the build</a> explains
              who signed it.
            </p>`
    }
    <h3>Badge</h3>
    <p><img src="${site.base}${badge}" alt="Badge of ${shown(source)}" height="20" /></p>
    ${command(`[![reproducible](${site.address}${badge})](${site.address}${path})`, 'Markdown of the badge')}
  </section>`
}

/** Files that a command names: those in doubt are the first. */
const mostNamed = 200

/** The command that builds an input again and compares all that came of it. */
function rebuilding({ release }: SourceView, { input, files }: Trial): string {
  const named = files
    .toSorted((a, b) => Number(a.status === 'GOOD') - Number(b.status === 'GOOD'))
    .slice(0, mostNamed)
  return [
    `rebuilderd worker build ${quoted(release.distribution)}`,
    ...named.map((file) => quoted(file.url)),
    `--input-url ${quoted(input.url)}`,
    ...(release.name === '' ? [] : [`--release ${quoted(release.name)}`]),
    `--architecture ${quoted(input.architecture)}`,
  ].join(' \\\n  ')
}

import type { RebuildArtifact } from '../../wire/builds.ts'
import type { Attested, BuildView, DiffView, JobView, LogView } from '../views-package.ts'
import { momentOf } from '../../wire/schema.ts'
import { callout } from './advice.ts'
import { originWords, reasonShort, sourcePath } from './changes.ts'
import { diffFrame, diffFrames } from './diff-frame.ts'
import { bytes, chip, count, duration, html, name, originQueryOf, shown, time, type Html } from './html.ts'
import type { Page, Site } from './layout.ts'
import { diffLines, linesOfPage, logLines } from './lines.ts'
import { addressOf } from './source.ts'
import { tableOf } from './table.ts'
import { attestationCheck } from './verify.ts'

type Build = BuildView['build']

function trailOf(build: Build, ...more: { label: string; href?: string }[]): NonNullable<Page['trail']> {
  const release = build.release ?? ''
  return [
    { label: 'Overview', href: '/' },
    {
      label: originWords(build.distribution, release),
      href: sourcePath(build.distribution, release, '').replace(/\/$/, ''),
    },
    { label: build.name, href: sourcePath(build.distribution, release, build.name) },
    ...more,
  ]
}

/** One finished rebuild: what came of it, on what evidence, and the log. */
export function buildPage(site: Site, view: BuildView): Page {
  const { build, extra, artifacts, log, attested } = view
  const { base } = site
  const { name: source, version, architecture } = build
  const ofPackage = originQueryOf(build.distribution, build.release ?? '', {
    name: source,
    version,
    architecture,
  })
  return {
    title: `${build.name} ${build.version}: build ${build.id}`,
    trail: trailOf(build, { label: `build ${build.id}` }),
    api: `/api/v1/builds/${build.id}`,
    parts: {
      Files: `/api/v1/builds/${build.id}/artifacts`,
      ...(log === null ? {} : { Log: `/api/v1/builds/${build.id}/log` }),
      Attempts: `/api/v1/builds${ofPackage}`,
      'What is next': `/api/v1/queue/why${ofPackage}`,
    },
    body: html`<h1>
        ${name(build.name)} <span class="version">${name(build.version)}</span> ${chip(build.status)}
      </h1>
      <p>
        Build ${build.id} for ${name(originWords(build.distribution, build.release ?? ''))} ·
        ${name(build.architecture)} ${neighbours(base, extra)}
      </p>
      ${callout(build.status, build.reason, build.evidence?.note ?? null)} ${timeline(view)}
      ${artifactPart(site, build, artifacts)} ${diffFrames(site, build.id, artifacts)}
      ${evidencePart(site, view)} ${attestedPart(site, build, attested)}
      <section aria-labelledby="log">
        <h2 id="log">
          Log
          <span class="quiet">${log === null ? '' : sizeOf(log)}</span>
        </h2>
        ${
          log === null
            ? html`<p>The log is not kept any more.</p>`
            : html`<p>
                  <a href="${base}/builds/${build.id}/log">All lines</a> ·
                  <a href="${base}/api/v1/builds/${build.id}/log" download="build-${build.id}.log"
                    >Download as it is</a
                  >
                </p>
                ${logLines(log, `${base}/builds/${build.id}/log`)}`
        }
      </section>`,
  }
}

function neighbours(base: string, { older, newer, current, is_latest: isLatest }: BuildView['extra']): Html {
  return html`${older === null ? '' : html` · <a href="${base}/builds/${older}" rel="prev">the attempt before</a>`}
  ${newer === null ? '' : html` · <a href="${base}/builds/${newer}" rel="next">the attempt after</a>`}
  ${isLatest === 1 || current === null ? '' : html` · kept as history; the verdict in force is <a href="${base}/builds/${current}">build ${current}</a>`}`
}

/** From the first step to the verdict, with what each took. */
function timeline({ build }: BuildView): Html {
  const seconds = build.evidence?.seconds ?? null
  const between = (from: string | null, to: string | null): number | null =>
    from === null || to === null ? null : (momentOf(to).getTime() - momentOf(from).getTime()) / 1000
  const steps: [string, string | null, Html | string][] = [
    ['Given out', build.started_at, build.worker === null ? '' : html`to ${name(build.worker)}`],
    ['Built', build.built_at, seconds === null ? '' : `the build itself took ${duration(seconds)}`],
    ['Decided', build.decided_at, html`${chip(build.status)} ${reasonShort(build.reason)}`],
  ]
  const whole = between(build.started_at, build.decided_at)
  return html`<section aria-labelledby="timeline">
    <h2 id="timeline">
      Timeline
      ${whole === null || whole < 0 ? '' : html`<span class="quiet">${duration(whole)} in all</span>`}
    </h2>
    <ol class="timeline">
      ${steps.map(([label, moment, words]) => html`<li class="${label === 'Decided' ? (build.status ?? '') : ''}"><span class="step">${label}</span> ${time(moment)}<br />${words}</li>`)}
    </ol>
  </section>`
}

function artifactPart({ base }: Site, build: Build, artifacts: readonly RebuildArtifact[]): Html {
  if (artifacts.length === 0)
    return html`<section aria-labelledby="files">
      <h2 id="files">Files</h2>
      <p class="quiet">This attempt came to no comparison.</p>
    </section>`
  const rows = artifacts.map((each) => {
    const [raw, isDifferent] = [
      `${base}/api/v1/builds/${build.id}/artifacts/${each.id}`,
      each.sha256 !== each.rebuilt_sha256,
    ]
    return html`<tr>
      <th scope="row">${name(each.name)}${each.url === null ? '' : html`<br />${addressOf(each.url)}`}</th>
      <td class="tight">${chip(each.status)}<br />${reasonShort(each.reason)}</td>
      <td>
        <dl class="hashes">
          <dt>original</dt>
          <dd>${hash(each.sha256)} <span class="quiet">${bytes(each.size)}</span></dd>
          <dt>rebuilt</dt>
          <dd>
            ${each.rebuilt_sha256 === null ? (each.status === 'GOOD' ? html`<span class="quiet">the same</span>` : hash(null)) : hash(each.rebuilt_sha256)}
            <span class="quiet">${bytes(each.rebuilt_size)}</span>
          </dd>
        </dl>
        ${each.first_difference === null || !isDifferent ? '' : html`<p class="small">They differ from byte ${count(each.first_difference)} on.</p>`}
      </td>
      <td class="tight">
        ${each.has_diffoscope ? html`<a href="${base}/builds/${build.id}/diff/${each.id}">differences</a><br />` : ''}
        ${each.has_attestation ? html`<a href="${raw}/attestation">attestation</a>` : ''}
      </td>
    </tr>`
  })
  const heads = ['File', 'Verdict', 'SHA-256 and size', 'Proof']
  return html`<section aria-labelledby="files">
    <h2 id="files">Files</h2>
    ${tableOf({ label: 'Files compared', caption: 'Files compared', heads }, rows)}
  </section>`
}

function hash(sha256: string | null): Html {
  return sha256 === null
    ? html`<span class="quiet">not told</span>`
    : html`<code class="hash">${shown(sha256)}</code>`
}

const isolations: Readonly<Record<string, string>> = {
  namespaces: 'kept away from the originals and the network',
  none: 'not isolated: a build could have reached the originals',
}

function evidencePart({ base }: Site, { build, extra }: BuildView): Html {
  const { evidence } = build
  if (evidence === null)
    return html`<section aria-labelledby="evidence">
      <h2 id="evidence">Evidence</h2>
      <p class="quiet">The worker told none; it may be an older one.</p>
    </section>`
  const facts: [string, Html | string][] = [
    [
      'Backend',
      html`${name(evidence.backend ?? build.backend)}
      ${evidence.backend_digest === null ? '' : html`<code class="hash">${shown(evidence.backend_digest)}</code>`}`,
    ],
    ['Exit code', evidence.exit_code === null ? '–' : String(evidence.exit_code)],
    [
      'Isolation',
      html`${name(evidence.isolation ?? 'not told')}
        <span class="quiet">${isolations[evidence.isolation ?? ''] ?? ''}</span>`,
    ],
    [
      'Built from',
      html`${addressOf(extra.url)} ·
        <a
          href="${base}${sourcePath(build.distribution, build.release ?? '', build.name, build.version)}#home"
          >repeat it yourself</a
        >`,
    ],
    ['Note', evidence.note === null ? '–' : name(evidence.note)],
  ]
  const packages = (list: readonly string[], title: string): Html =>
    list.length === 0
      ? html``
      : html`<details>
          <summary>${title} <span class="quiet">${count(list.length)}</span></summary>
          <ul class="names">
            ${list.slice(0, 3000).map((each) => html`<li>${name(each)}</li>`)}
          </ul>
        </details>`
  return html`<section aria-labelledby="evidence">
    <h2 id="evidence">Evidence</h2>
    <dl class="rows">
      ${facts.map(
        ([term, value]) =>
          html`<div>
            <dt>${term}</dt>
            <dd>${value}</dd>
          </div>`,
      )}
    </dl>
    ${packages(evidence.missing, 'Not to be had in the recorded version')}
    ${packages(evidence.environment, 'Packages of the build environment')}
  </section>`
}

/** Who signed what, and whether it verifies. */
function attestedPart(site: Site, build: Build, attested: Attested): Html {
  if (attested === null) return html``
  const { envelope, signatures, artifact, serverKey } = attested
  const { signed } = envelope
  const list = (files: typeof signed.products): Html[] =>
    Object.entries(files)
      .slice(0, 20)
      .map(([file, hashes]) => html`<li>${name(file)} ${hash(hashes['sha256'] ?? null)}</li>`)
  const who = {
    worker: 'the worker that rebuilt it',
    server: 'this server, after checking the worker’s',
    unknown: 'a key not known here',
  }
  const isSame =
    artifact.sha256 !== null &&
    Object.values(signed.products).some((each) => each['sha256'] === artifact.sha256)
  const isCountersigned = signatures.some(({ who: signer }) => signer === 'server')
  return html`<section aria-labelledby="attestation">
    <h2 id="attestation">Attestation</h2>
    <ol class="steps">
      <li>It is an in-toto link named “${name(signed.name)}”.</li>
      <li>
        It says that from
        <ul class="plain">
          ${list(signed.materials)}
        </ul>
      </li>
      <li>
        came, byte for byte,
        <ul class="plain">
          ${list(signed.products)}
        </ul>
      </li>
      ${artifact.sha256 === null ? '' : html`<li>${isSame ? html`That is the hash of the distribution’s own file. <strong class="yes">✓</strong>` : html`<strong class="no">✗</strong> That is not the hash of the distribution’s file.`}</li>`}
      ${signatures.map(
        ({ keyid, who: signer, isTrue }) =>
          html`<li>
            Signed by ${who[signer]}:
            ${isTrue ? html`<strong class="yes">✓ the signature is true</strong>` : signer === 'unknown' ? html`<strong>? not checked</strong>` : html`<strong class="no">✗ the signature is false</strong>`}
            <code class="hash">${keyid}</code>
          </li>`,
      )}
    </ol>
    ${attestationCheck(site, { buildId: build.id, artifactId: artifact.id, serverKey: isCountersigned ? serverKey : null })}
  </section>`
}

function sizeOf({ total, bytes: size }: { total: number; bytes: number }): string {
  return `${count(total)} ${total === 1 ? 'line' : 'lines'}, ${bytes(size)}`
}

function pages(path: string, from: number, total: number, label: string): Html {
  if (total <= linesOfPage && from === 1) return html``
  const [before, after] = [Math.max(1, from - linesOfPage), from + linesOfPage]
  const lastPage = Math.floor((Math.max(total, 1) - 1) / linesOfPage) * linesOfPage + 1
  return html`<nav class="pager" aria-label="${label}">
    ${from > 1 ? html`<a href="${path}">First</a><a href="${path}?from=${before}" rel="prev">← Previous</a>` : ''}
    ${after <= total ? html`<a href="${path}?from=${after}" rel="next">Next →</a><a href="${path}?from=${lastPage}">Last</a>` : ''}
  </nav>`
}

/** All lines of a log, some thousand a page. */
export function logPage({ base }: Site, { build, log, from }: LogView): Page {
  const path = `${base}/builds/${build.id}/log`
  return {
    title: `Log of build ${build.id}: ${build.name} ${build.version}`,
    trail: trailOf(build, { label: `build ${build.id}`, href: `/builds/${build.id}` }, { label: 'log' }),
    api: `/api/v1/builds/${build.id}/log`,
    body: html`<h1>Log of ${name(build.name)} <span class="version">${name(build.version)}</span></h1>
      <p>
        ${sizeOf(log)} ·
        <a href="${base}/api/v1/builds/${build.id}/log" download="build-${build.id}.log">Download as it is</a>
      </p>
      ${pages(path, from, log.total, 'Pages')} ${logLines(log, null)}
      ${pages(path, from, log.total, 'Pages, below the lines')}`,
  }
}

/** Where a rebuilt file differs, as diffoscope tells it. */
export function diffPage(site: Site, { build, artifact, diff, from, name: file }: DiffView): Page {
  const { base } = site
  const path = `${base}/builds/${build.id}/diff/${artifact.id}`
  const raw = `/api/v1/builds/${build.id}/artifacts/${artifact.id}/diffoscope`
  return {
    title: `Differences of ${file}`,
    trail: trailOf(
      build,
      { label: `build ${build.id}`, href: `/builds/${build.id}` },
      { label: 'differences' },
    ),
    api: raw,
    body: html`<h1>Differences of ${name(file)}</h1>
      <p>
        ${sizeOf(diff)} ·
        <a href="${base}${raw}" download="${shown(file)}.diff">Download as it is</a>
      </p>
      ${artifact.has_diffoscope_html ? diffFrame(site, build.id, artifact, false) : ''}
      ${pages(path, from, diff.total, 'Pages')} ${diffLines(diff)}
      ${pages(path, from, diff.total, 'Pages, below the lines')}`,
  }
}

/** A job: until it runs the page watches for that, then its log grows there, where scripts run. */
export function jobPage({ base }: Site, view: JobView): Page {
  const { job } = view
  const isRunning = job.started_at !== null
  return {
    title: `${job.name} ${job.version} ${isRunning ? 'is being rebuilt' : 'waits to be rebuilt'}`,
    trail: [{ label: 'Overview', href: '/' }, { label: 'Queue', href: '/queue' }, { label: `job ${job.id}` }],
    api: `/api/v1/queue/${job.id}`,
    ...(isRunning ? { parts: { Log: `/api/v1/queue/${job.id}/log` } } : { live: 'queue' }),
    body: html`<h1>
        <a href="${base}${sourcePath(job.distribution, job.release ?? '', job.name)}">${name(job.name)}</a>
        <span class="version">${name(job.version)}</span>
      </h1>
      <div data-live-part="job">${isRunning ? runningPart(base, view) : waitingPart(base, view)}</div>`,
  }
}

function runningPart(base: string, { job, log, offset }: JobView): Html {
  return html`<p>${whereOf(job)} · given to ${name(job.worker ?? 'a worker')} ${time(job.started_at)}</p>
    <p class="quiet" role="status" data-log-state>Load the page again to see more of the log.</p>
    <div
      data-log="${base}/api/v1/queue/${job.id}/log?follow=1"
      data-offset="${offset}"
      data-done="${base}/builds/"
    >
      ${logLines(log, null)}
    </div>`
}

function waitingPart(base: string, { job, lastBuild }: JobView): Html {
  return html`<p>
      ${whereOf(job)} · queued
      ${time(job.queued_at)}${job.next_retry === null ? '' : html` · due ${time(job.next_retry)}`}
    </p>
    <p role="status" data-waits>It waits for a worker. Its log shows here from the moment it starts.</p>
    ${lastBuild === null ? '' : html`<p>Its last attempt became <a href="${base}/builds/${lastBuild}">build ${lastBuild}</a>.</p>`}`
}

function whereOf({ distribution, release, architecture }: JobView['job']): Html {
  return html`${name(originWords(distribution, release ?? ''))} · ${name(architecture)}`
}

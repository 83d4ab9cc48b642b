import type { Schedule } from '../queue.ts'
import { chip, count, duration, html, name, type Html } from './html.ts'
import type { Page, Site } from './layout.ts'
import { command } from './command.ts'

export type AboutView = {
  publicKey: string
  keyHex: string
  schedule: Schedule
  /** Distributions with their releases. */
  known: { distribution: string; releases: string[] }[]
}

/** What this rebuilder is, whom to trust, how to use it. */
export function aboutPage(site: Site, { publicKey, keyHex, schedule, known }: AboutView): Page {
  return {
    title: 'About',
    here: 'about',
    api: '/api/v1/meta/public-keys',
    parts: { Policy: '/api/v1/meta/policy', Distributions: '/api/v1/meta/distributions?seen_only=true' },
    body: html`<h1>About ${name(site.title)}</h1>
      <p>
        This rebuilder takes the packages that a distribution ships, builds them again from their source in
        the recorded environment, and compares the result byte for byte. What is GOOD has been confirmed
        independently of those who built it.
      </p>
      ${verdictsPart(site.base)} ${keysPart(publicKey, keyHex, site.keyid)} ${usePart(site, known)}
      ${policyPart(schedule)} ${programPart(site)}`,
  }
}

function verdictsPart(base: string): Html {
  return html`<section aria-labelledby="verdicts">
    <h2 id="verdicts">Verdicts</h2>
    <dl class="rows">
      ${(['GOOD', 'BAD', 'FAIL', 'UNKWN'] as const).map(
        (verdict) =>
          html`<div>
            <dt>${chip(verdict)}</dt>
            <dd>${longWords[verdict]}</dd>
          </div>`,
      )}
    </dl>
    <p>
      Every verdict that is not GOOD carries a <a href="${base}/reasons">reason</a>, and every one of them its
      evidence.
    </p>
  </section>`
}

const longWords = {
  GOOD: `Every byte is the same: the file that we built equals the distribution’s, after its hash was checked against the index.`,
  BAD: 'The recorded environment was recreated and the build ended well, but a file differs or is missing.',
  FAIL: 'No comparison was possible; the reason says whether the package or the infrastructure has to change.',
  UNKWN: 'Not yet tried.',
} as const

function keysPart(publicKey: string, keyHex: string, keyid: string): Html {
  return html`<section aria-labelledby="keys">
    <h2 id="keys">Key</h2>
    <p>
      Attestations are signed by the worker and countersigned with this Ed25519 key. Keep a copy, so that you
      notice if it ever changes.
    </p>
    <pre
      class="command"
      tabindex="0"
      role="region"
      aria-label="Public key"
    ><code>${publicKey.replaceAll('\r', '')}</code></pre>
    <dl class="rows">
      <div>
        <dt>As hex, for OpenSSL and <code>public_key</code></dt>
        <dd><code class="hash">${keyHex}</code></dd>
      </div>
      <div>
        <dt>in-toto key id</dt>
        <dd><code class="hash">${keyid}</code></dd>
      </div>
    </dl>
  </section>`
}

function usePart({ base, address }: Site, known: AboutView['known']): Html {
  return html`<section aria-labelledby="use">
    <h2 id="use">Use it</h2>
    <h3>See how much of your own system is verified</h3>
    ${command(`rebuilderd ctl check --rebuilder ${address}`, 'Command that checks a system')}
    <h3>See what is verified of a release</h3>
    ${command(`rebuilderd ctl -H ${address} pkgs ls --distro ${known[0]?.distribution ?? 'debian'}`, 'Command that lists verdicts')}
    <h3>Ask for the verdict of one package</h3>
    ${command(`curl -fsS '${address}/api/v1/packages/binary?name=bash&seen_only=true'`, 'Command that asks for one package')}
    <h3>Follow changes</h3>
    <p>
      <a href="${base}/feed.atom">All changes of verdicts</a> as an Atom feed; every release and source
      package has its own, and the <a href="${base}/changes">changes</a> of one maintainer have one, too.
      <a href="${base}/api/v1/events">Events</a> come as they happen.
    </p>
    <h3>Program against it</h3>
    <p>
      <a href="${base}/api/v1/openapi.json">API v1 as OpenAPI</a>; everything on these pages is there too.
      ${exportLinks(base, known)}
    </p>
  </section>`
}

function exportLinks(base: string, known: AboutView['known']): Html {
  if (known.length === 0) return html``
  const links = known.map(
    ({ distribution }) =>
      html` <a href="${base}/api/v1/export/${encodeURIComponent(distribution)}">${name(distribution)}</a>`,
  )
  return html`The whole of a distribution for migration gates:${links}.`
}

function policyPart(schedule: Schedule): Html {
  return html`<section aria-labelledby="policy">
    <h2 id="policy">Policy</h2>
    <dl class="rows">
      <div>
        <dt>After a failure of the package</dt>
        <dd>
          tried again after ${count(schedule.retryDelayHours)} h, then each time that much
          later${schedule.maxRetries === null ? ', and never given up' : `, at most ${schedule.maxRetries} times`}
        </dd>
      </div>
      <div>
        <dt>After a failure of infrastructure</dt>
        <dd>
          tried again after ${count(schedule.infrastructureRetryMinutes)} min, doubled each time, by another
          worker where there is one, at most ${count(schedule.infrastructureMaxRetries)} times in a row
        </dd>
      </div>
      <div>
        <dt>A silent worker</dt>
        <dd>loses its job after ${duration(schedule.leaseSeconds)}</dd>
      </div>
    </dl>
  </section>`
}

function programPart(site: Site): Html {
  return html`<section aria-labelledby="program">
    <h2 id="program">Program</h2>
    <p>
      rebuilderd
      ${site.version}${site.link === null ? '' : html`; run by <a href="${site.link}">${site.link}</a>`}.
    </p>
  </section>`
}

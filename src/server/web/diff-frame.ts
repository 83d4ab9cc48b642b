import type { RebuildArtifact } from '../../wire/builds.ts'
import { html, name, shown, type Html } from './html.ts'
import type { Site } from './layout.ts'

/** Files whose pages are offered; a build with more has them at their own addresses. */
const mostFrames = 50

/** Where rebuilt files differ, side by side, in diffoscope's own pages; nothing where there are none. */
export function diffFrames(site: Site, buildId: number, artifacts: readonly RebuildArtifact[]): Html {
  const framed = artifacts.filter((artifact) => artifact.has_diffoscope_html).slice(0, mostFrames)
  if (framed.length === 0) return html``
  return html`<section aria-labelledby="side-by-side">
    <h2 id="side-by-side">Differences side by side</h2>
    ${framed.map((artifact, index) => diffFrame(site, buildId, artifact, index === 0))}
  </section>`
}

/**
 * diffoscope's page of one file in a frame without scripts, forms and ways out (an empty `sandbox`,
 * html.spec.whatwg.org); browsers fetch it when it is opened and comes into sight.
 */
export function diffFrame({ base }: Site, buildId: number, artifact: RebuildArtifact, isOpen: boolean): Html {
  const address = `${base}/api/v1/builds/${buildId}/artifacts/${artifact.id}/diffoscope.html`
  return html`<details class="framed" ${isOpen ? 'open' : ''}>
    <summary>${name(artifact.name)}</summary>
    <p class="small"><a href="${address}">The page alone</a></p>
    <iframe
      src="${address}"
      title="Differences of ${shown(artifact.name)}, side by side"
      sandbox=""
      loading="lazy"
      referrerpolicy="no-referrer"
    ></iframe>
  </details>`
}

import { isReason, reasons } from '../../wire/reasons.ts'
import { chip, html, name, releaseSegment, segments, time, type Html } from './html.ts'
import { tableOf } from './table.ts'

/** A verdict that differs from the one before. turn: 1 worse, 2 better, 3 first or otherwise different. */
type Change = {
  at: string
  build_id: number
  distribution: string
  release: string
  name: string
  version: string
  architecture: string
  status: string
  reason: string | null
  before: string | null
  before_version: string | null
  turn: number
}

/** `debian sid`, or the distribution alone. */
export function originWords(distribution: string, release: string): string {
  return release === '' ? distribution : `${distribution} ${release}`
}

/** Path of the page of a source package, or of one of its versions. */
export function sourcePath(distribution: string, release: string, source: string, version?: string): string {
  const parts = [distribution, releaseSegment(release), source]
  return segments(...(version === undefined ? parts : [...parts, version]))
}

/** A table of changes; the newest first. */
export function changeTable(base: string, changes: readonly Change[], caption: string): Html {
  const rows = changes.map(
    (change) =>
      html`<tr>
        <th scope="row">
          <a href="${base}${sourcePath(change.distribution, change.release, change.name)}"
            >${name(change.name)}</a
          >
          <span class="version">${name(change.version)}</span>
        </th>
        <td class="tight">
          ${change.before === null ? '' : html`${chip(change.before)} <span aria-label="became">→</span> `}
          <a href="${base}/builds/${change.build_id}">${chip(change.status)}</a>
        </td>
        <td class="why">
          ${reasonShort(change.reason)}
          ${
            change.before_version === null
              ? ''
              : html`<span class="quiet">since ${name(change.before_version)}</span>`
          }
        </td>
        <td class="tight">
          ${name(originWords(change.distribution, change.release))} · ${name(change.architecture)}
        </td>
        <td class="tight">${time(change.at)}</td>
      </tr>`,
  )
  return tableOf(
    { label: caption, caption: caption, heads: ['Package', 'Verdict', 'Why', 'Where', 'When'] },
    rows,
  )
}

/** The code of a reason with its sentence on hand; infrastructure is told apart. */
export function reasonShort(code: string | null): Html {
  if (code === null) return html``
  if (!isReason(code)) return html`<code>${name(code)}</code>`
  const [turn, words] = reasons[code]
  return html`<span class="reason ${turn}" title="${words}">${code.replaceAll('_', ' ')}</span>`
}

import { html } from './html.ts'

type Badge = { label: string; message: string; colour: string }

/** What a badge says of a package; null: it is not listed. */
export function badgeOf(counts: { good: number; bad: number; fail: number; total: number } | null): Badge {
  const label = 'reproducible'
  if (counts === null) return { label, message: 'not listed', colour: '#6e7781' }
  const { good, bad, fail, total } = counts
  if (good === total) return { label, message: 'verified', colour: '#1a7f37' }
  if (bad > 0)
    return { label, message: good === 0 ? 'differs' : `${good} of ${total} verified`, colour: '#b3261e' }
  if (fail > 0)
    return { label, message: good === 0 ? 'not verified' : `${good} of ${total} verified`, colour: '#8a5a00' }
  return { label, message: good === 0 ? 'not yet tried' : `${good} of ${total} verified`, colour: '#57606a' }
}

/** Shields' own JSON for badges (shields.io/badges/endpoint-badge). */
export function shieldsJson({ label, message, colour }: Badge): string {
  return JSON.stringify({ schemaVersion: 1, label, message, color: colour.slice(1) })
}

/** Widths are those of a common sans-serif at 11 px; the picture says how long its text shall be. */
function widthOf(text: string): number {
  return Math.round(text.length * 6.6) + 12
}

/** A badge as SVG. */
export function badgeSvg({ label, message, colour }: Badge): string {
  const [left, right] = [widthOf(label), widthOf(message)]
  return html`<svg
    xmlns="http://www.w3.org/2000/svg"
    width="${left + right}"
    height="20"
    role="img"
    aria-label="${label}: ${message}"
  >
    <title>${label}: ${message}</title>
    <clipPath id="r"><rect width="${left + right}" height="20" rx="3" /></clipPath>
    <g clip-path="url(#r)">
      <rect width="${left}" height="20" fill="#3d444d" />
      <rect x="${left}" width="${right}" height="20" fill="${colour}" />
    </g>
    <g fill="#fff" font-family="Verdana,DejaVu Sans,sans-serif" font-size="11" text-anchor="middle">
      <text x="${left / 2}" y="14" textLength="${left - 12}" lengthAdjust="spacingAndGlyphs">${label}</text>
      <text x="${left + right / 2}" y="14" textLength="${right - 12}" lengthAdjust="spacingAndGlyphs">
        ${message}
      </text>
    </g>
  </svg> `.toString()
}

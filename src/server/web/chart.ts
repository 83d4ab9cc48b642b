import { count, html, percent, type Html, type Verdict } from './html.ts'

/** Listed packages by verdict. */
export type Tally = Readonly<Record<Verdict, number>>
export const emptyTally: Tally = { GOOD: 0, BAD: 0, FAIL: 0, UNKWN: 0 }

/** All that is counted, whatever the verdict. */
export function totalOf({ GOOD, BAD, FAIL, UNKWN }: Tally): number {
  return GOOD + BAD + FAIL + UNKWN
}

/** Two counts as one. */
export function added(a: Tally, b: Tally): Tally {
  return {
    GOOD: a.GOOD + b.GOOD,
    BAD: a.BAD + b.BAD,
    FAIL: a.FAIL + b.FAIL,
    UNKWN: a.UNKWN + b.UNKWN,
  }
}

const order = ['GOOD', 'BAD', 'FAIL', 'UNKWN'] as const

/** `120 GOOD, 3 BAD`: those that there are. */
function wordsOf(tally: Tally): string {
  const words = order
    .filter((verdict) => tally[verdict] > 0)
    .map((verdict) => `${count(tally[verdict])} ${verdict}`)
  return words.length === 0 ? 'nothing is listed' : words.join(', ')
}

/** Thousandths of a bar that what is there takes at least, so that three of thirty thousand are seen. */
const leastShown = 4

/** A bar of the verdicts, as wide as its box; each covers those after it. Told in words too. */
export function bar(tally: Tally): Html {
  const total = totalOf(tally)
  const present = order.filter((verdict) => tally[verdict] > 0)
  let upTo = 0
  const parts = present.map((verdict, index) => {
    upTo = Math.max(upTo + leastShown, upTo + (tally[verdict] / total) * 1000)
    const end =
      index === present.length - 1 ? 1000 : Math.min(upTo, 1000 - leastShown * (present.length - 1 - index))
    return html`<path class="fill-${verdict}" d="M0 0h${Math.round(end)}v1H0z" />`
  })
  return html`<svg class="bar" viewBox="0 0 1000 1" preserveAspectRatio="none" role="img">
    <title>${wordsOf(tally)}</title>
    ${parts.reverse()}
  </svg>`
}

/** The numbers of a tally, each with its colour, linked where `hrefOf` says so. */
export function legend(tally: Tally, hrefOf?: (verdict: Verdict) => string): Html {
  const items = order
    .filter((verdict) => tally[verdict] > 0 || verdict === 'GOOD')
    .map((verdict) => {
      const text = `${count(tally[verdict])} ${verdict}`
      return html`<li class="of-${verdict}">
        ${hrefOf === undefined ? text : html`<a href="${hrefOf(verdict)}">${text}</a>`}
      </li>`
    })
  return html`<ul class="legend">
    ${items}
  </ul>`
}

type Day = { day: string; tally: Tally }

/** Height of a trend in units of its own: per cent. */
const height = 100

/**
 * How the verdicts of a release went, day by day: the share of GOOD, and above it what differs and what failed.
 * Fewer than two days with packages make no line.
 */
export function trend(all: readonly Day[], what: string): Html {
  const days = all.slice(all.findIndex((day) => totalOf(day.tally) > 0))
  const [first, last] = [days[0], days.at(-1)]
  if (first === undefined || last === undefined || days.length < 2)
    return html`<p class="quiet small">The trend shows from the second day on.</p>`
  const at = (day: Day): number => Math.round((Date.parse(day.day) - Date.parse(first.day)) / 86_400_000)
  const width = at(last)
  const layers = order
    .filter((verdict) => days.some((day) => day.tally[verdict] > 0))
    .map((verdict) => {
      const below = order.slice(0, order.indexOf(verdict) + 1)
      const points = days.map((day) => [at(day), height - shareOf(day.tally, below)] as const)
      return html`<path class="fill-${verdict}" d="M0 ${height}V${lineOf(points)}V${height}z" />`
    })
  const [from, to] = [first, last].map((day) => percent(day.tally.GOOD, totalOf(day.tally)))
  const words = `${what}: GOOD went from ${from} on ${first.day} to ${to} on ${last.day}`
  return html`<figure class="trend">
    <svg viewBox="0 0 ${width} ${height}" preserveAspectRatio="none" role="img">
      <title>${words}</title>
      ${layers.reverse()}
    </svg>
    <figcaption><span>${first.day}</span><span>${from} → ${to}</span><span>${last.day}</span></figcaption>
  </figure>`
}

/** What some verdicts have of all, in whole per cent. */
function shareOf(tally: Tally, verdicts: readonly Verdict[]): number {
  const total = totalOf(tally)
  const part = verdicts.reduce((sum, each) => sum + tally[each], 0)
  return total === 0 ? 0 : Math.round((part / total) * height)
}

/**
 * The shortest path through points of whole numbers: `y` of the first, then steps (w3.org/TR/SVG2/paths.html);
 * points in the middle of a straight line are left out.
 */
function lineOf(points: readonly (readonly [number, number])[]): string {
  const [first, ...rest] = points
  let [path, x, y] = [String(first?.[1] ?? 0), first?.[0] ?? 0, first?.[1] ?? 0]
  for (const [index, [nextX, nextY]] of rest.entries()) {
    const [dx, dy] = [nextX - x, nextY - y]
    const after = rest[index + 1]
    const isStraight = after !== undefined && (after[1] - nextY) * dx === dy * (after[0] - nextX)
    if (isStraight) continue
    path += dy === 0 ? `h${dx}` : `l${dx}${dy < 0 ? '' : ' '}${dy}`
    ;[x, y] = [nextX, nextY]
  }
  return path
}

/** Small lines of one number over days. */
export function sparkline(values: readonly number[], what: string): Html {
  if (values.length < 2) return html`<span class="quiet">–</span>`
  const [top, width] = [Math.max(1, ...values), values.length - 1]
  const line = lineOf(values.map((value, index) => [index, 22 - Math.round((value / top) * 20)]))
  return html`<svg class="spark" viewBox="0 0 ${width} 24" preserveAspectRatio="none" role="img">
    <title>${what}</title>
    <path d="M0 ${line}" />
  </svg>`
}

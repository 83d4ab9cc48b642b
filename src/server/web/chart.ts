import { count, html, percent, type Html, type Verdict } from './html.ts'

/** Listed packages by verdict. */
export type Tally = Readonly<Record<Verdict, number>>
export const emptyTally: Tally = { GOOD: 0, BAD: 0, FAIL: 0, UNKWN: 0 }

export function totalOf({ GOOD, BAD, FAIL, UNKWN }: Tally): number {
  return GOOD + BAD + FAIL + UNKWN
}

export function added(a: Tally, b: Tally): Tally {
  return {
    GOOD: a.GOOD + b.GOOD,
    BAD: a.BAD + b.BAD,
    FAIL: a.FAIL + b.FAIL,
    UNKWN: a.UNKWN + b.UNKWN,
  }
}

const order = ['GOOD', 'BAD', 'FAIL', 'UNKWN'] as const

/** A bar of the verdicts, as wide as its box. Told in words too. */
export function bar(tally: Tally): Html {
  const total = totalOf(tally)
  const words = order.map((verdict) => `${count(tally[verdict])} ${verdict}`).join(', ')
  let x = 0
  const parts = order.map((verdict) => {
    const width = total === 0 ? 0 : (tally[verdict] / total) * 1000
    const part =
      width === 0
        ? ''
        : html`<rect
            class="fill-${verdict}"
            x="${x.toFixed(2)}"
            y="0"
            width="${width.toFixed(2)}"
            height="10"
          ></rect>`
    x += width
    return part
  })
  return html`<svg
    class="bar"
    viewBox="0 0 1000 10"
    preserveAspectRatio="none"
    role="img"
    aria-label="${words}"
  >
    <rect class="fill-none" width="1000" height="10"></rect>
    ${parts}
  </svg>`
}

/** The numbers of a tally, each with its colour, linked where `hrefOf` says so. */
export function legend(tally: Tally, hrefOf?: (verdict: Verdict) => string): Html {
  const items = order
    .filter((verdict) => tally[verdict] > 0 || verdict === 'GOOD')
    .map((verdict) => {
      const text = html`<span class="dot fill-${verdict}"></span>${count(tally[verdict])} ${verdict}`
      return html`<li>${hrefOf === undefined ? text : html`<a href="${hrefOf(verdict)}">${text}</a>`}</li>`
    })
  return html`<ul class="legend">
    ${items}
  </ul>`
}

export type Day = { day: string; tally: Tally }

const [width, height] = [320, 56]

/**
 * How the verdicts of a release went, day by day: the share of GOOD, and above it what differs and what failed.
 * Fewer than two days make no line.
 */
export function trend(days: readonly Day[], what: string): Html {
  const [first, last] = [days[0], days.at(-1)]
  if (first === undefined || last === undefined || days.length < 2)
    return html`<p class="quiet small">The trend shows from the second day on.</p>`
  const start = Date.parse(first.day)
  const span = Math.max(1, Date.parse(last.day) - start)
  const at = (day: Day): number => ((Date.parse(day.day) - start) / span) * width
  const areas = (['UNKWN', 'FAIL', 'BAD', 'GOOD'] as const).map((verdict) => {
    const upTo = order.slice(0, order.indexOf(verdict) + 1)
    const points = days.map((day) => {
      const total = totalOf(day.tally)
      const part = upTo.reduce((sum, each) => sum + day.tally[each], 0)
      return `${at(day).toFixed(1)},${(height - (total === 0 ? 0 : (part / total) * height)).toFixed(1)}`
    })
    return html`<polygon
      class="fill-${verdict}"
      points="0,${height} ${points.join(' ')} ${width},${height}"
    ></polygon>`
  })
  const from = percent(first.tally.GOOD, totalOf(first.tally))
  const to = percent(last.tally.GOOD, totalOf(last.tally))
  const words = `${what}: GOOD went from ${from} on ${first.day} to ${to} on ${last.day}`
  return html`<figure class="trend">
    <svg viewBox="0 0 ${width} ${height}" preserveAspectRatio="none" role="img" aria-label="${words}">
      ${areas}
    </svg>
    <figcaption><span>${first.day}</span><span>${from} → ${to}</span><span>${last.day}</span></figcaption>
  </figure>`
}

/** Small lines of one number over days. */
export function sparkline(values: readonly number[], what: string): Html {
  if (values.length < 2) return html`<span class="quiet">–</span>`
  const top = Math.max(1, ...values)
  const points = values.map(
    (value, index) =>
      `${((index / (values.length - 1)) * 120).toFixed(1)},${(22 - (value / top) * 20).toFixed(1)}`,
  )
  return html`<svg
    class="spark"
    viewBox="0 0 120 24"
    preserveAspectRatio="none"
    role="img"
    aria-label="${what}"
  >
    <polyline points="${points.join(' ')}"></polyline>
  </svg>`
}

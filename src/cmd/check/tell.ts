import { printable } from '../../log.ts'
import { folded } from '../help.ts'
import { counted, fittingLines, padded, shownCount, type Cell, type Paint } from '../output.ts'
import { shownBytes } from '../progress.ts'
import { isReason, wordsOf } from '../../wire/reasons.ts'
import type { Report, Told } from './check.ts'
import { disagreements, summaryOf, unverified, type Judged, type Standing } from './judge.ts'

/** What each standing means, the best first. */
export const meanings: readonly (readonly [Standing, string])[] = [
  ['verified', 'signed by enough rebuilders for the very file that is published'],
  ['claimed', 'enough rebuilders say GOOD, without proof'],
  ['partly', 'GOOD, but by fewer rebuilders than asked for'],
  ['BAD', 'rebuilt, and it differs'],
  ['FAIL', 'could not be rebuilt'],
  ['unknown', 'not rebuilt yet, or not known to any'],
]

const colours: Readonly<Record<Standing, keyof Paint>> = {
  verified: 'green',
  claimed: 'blue',
  partly: 'yellow',
  BAD: 'red',
  FAIL: 'yellow',
  unknown: 'yellow',
}

/** How a report is shown. */
type Show = {
  /** How many packages are listed; null: all. */
  most: number | null
  paint: Paint
  /** Characters of a line; Infinity: no terminal ends them. */
  columns: number
}

/** The report for people. */
export function reportLines(report: Report, show: Show): string[] {
  const { paint } = show
  const disagreeing = disagreements(report.packages).map(disagreementCells)
  const others = unverified(report.packages).map((one) => packageCells(one, paint))
  return [
    ...summaryLines(report, show),
    '',
    ...rebuilderLines(report.rebuilders, show),
    ...listLines('Rebuilders disagree', disagreeing, show),
    ...listLines('Not verified', others, show),
  ]
}

function summaryLines(report: Report, { paint, columns }: Show): string[] {
  const { count, size, by } = summaryOf(report.packages)
  const names = [...new Set(report.packages.map(({ installed }) => installed.distribution))].join(', ')
  const bytes = size === 0 ? '' : `, ${shownBytes(size)}`
  const head = `${counted(count, 'package')} (${printable(names)}${bytes}); ${counted(report.threshold, 'rebuilder')} must confirm each`
  const rows = meanings.map(([standing, meaning]): Cell[] => {
    const tally = by[standing]
    return [
      { text: `  ${standing}`, as: tally.count > 0 ? paint[colours[standing]] : paint.faint },
      shownCount(tally.count).padStart(7),
      `${shownPercent(tally.percent).padStart(5)} %`,
      size === 0 ? '' : `${shownPercent(tally.percentOfSize).padStart(5)} % of the size`,
      { text: meaning, as: paint.faint },
    ]
  })
  return [...folded(head, columns).map(paint.bold), '', ...fittingLines(rows, columns)]
}

/** One digit; never rounded up to 100 %. */
export function shownPercent(percent: number): string {
  return (Math.floor(percent * 10 + 1e-9) / 10).toFixed(1)
}

function rebuilderLines(rebuilders: readonly Told[], { paint, columns }: Show): string[] {
  const rows = rebuilders.map((one): Cell[] => [
    `  ${one.url}`,
    shownKey(one),
    one.hasAnswered
      ? `${shownCount(one.known)} known, ${shownCount(one.good)} GOOD, ${shownCount(one.proven)} proven, ${one.seconds.toFixed(1)} s`
      : { text: 'no answer', as: paint.red },
  ])
  return [paint.bold('Rebuilders'), ...fittingLines(rows, columns)]
}

function shownKey({ key, keyFrom }: Told): string {
  return key === null ? 'no key' : `key ${key}, ${keyFrom}`
}

function packageCells({ installed, standing, reason, link }: Judged, paint: Paint): Cell[] {
  const { name, version, architecture } = installed
  return [
    { text: `  ${standing}`, as: paint[colours[standing]] },
    name,
    version,
    architecture,
    shownReason(reason),
    link === null || standing === 'claimed' || standing === 'partly' ? '' : link,
  ]
}

/** A reason code as its sentence. */
export function shownReason(reason: string | null): string {
  if (reason === null) return ''
  return isReason(reason) ? `${reason}: ${wordsOf(reason)}` : reason
}

function disagreementCells({ installed, voices }: Judged): Cell[] {
  const { name, version, architecture } = installed
  const words = voices.map(({ url, answer }) => `${answer.status} at ${url}`)
  return [`  ${name}`, version, architecture, words.join(', ')]
}

function listLines(
  title: string,
  rows: readonly (readonly Cell[])[],
  { most, paint, columns }: Show,
): string[] {
  if (rows.length === 0) return []
  const shown = most === null ? rows : rows.slice(0, most)
  const left = rows.length - shown.length
  const more = left === 0 ? [] : [paint.faint(`  … and ${shownCount(left)} more; --all lists them`)]
  return ['', padded(title, 0, paint.bold), ...fittingLines(shown, columns), ...more]
}

import { jsonPieces } from '../wire/schema.ts'
import { printable } from '../log.ts'
import { folded } from './help.ts'

/** Text in a colour, or as it is. The width of what a person sees is that of the text. */
export type Paint = {
  readonly bold: (text: string) => string
  readonly faint: (text: string) => string
  readonly red: (text: string) => string
  readonly green: (text: string) => string
  readonly yellow: (text: string) => string
  readonly blue: (text: string) => string
}

const plain = (text: string): string => text

/** ECMA-48 "select graphic rendition". */
function rendition(on: number, off: number): (text: string) => string {
  return (text) => (text === '' ? '' : `\u001b[${on}m${text}\u001b[${off}m`)
}

const coloured: Paint = {
  bold: rendition(1, 22),
  faint: rendition(90, 39),
  red: rendition(31, 39),
  green: rendition(32, 39),
  yellow: rendition(33, 39),
  blue: rendition(34, 39),
}
const uncoloured: Paint = { bold: plain, faint: plain, red: plain, green: plain, yellow: plain, blue: plain }

/** Colours, or none of them. */
export function paintFor(colours: boolean): Paint {
  return colours ? coloured : uncoloured
}

/** A verdict in its colour. */
export function paintedStatus(status: string, paint: Paint): string {
  switch (status.trim()) {
    case 'GOOD':
      return paint.green(status)
    case 'BAD':
      return paint.red(status)
    default:
      return paint.yellow(status)
  }
}

/** One cell: what it says and how it looks. */
export type Cell = string | { readonly text: string; readonly as: (text: string) => string }

/** Rows as lines with aligned columns; the last column is not padded. Widths never shrink from page to page. */
export function alignedLines(rows: readonly (readonly Cell[])[], widths: number[]): string[] {
  const cells = rows.map((row) =>
    row.map((cell) => (typeof cell === 'string' ? { text: cell, as: plain } : cell)),
  )
  for (const row of cells) {
    for (const [i, { text }] of row.entries()) widths[i] = Math.max(widths[i] ?? 0, printable(text).length)
  }
  return cells.map((row) =>
    row
      .map(({ text, as }, i) => padded(printable(text), i === row.length - 1 ? 0 : (widths[i] ?? 0), as))
      .join('  ')
      .trimEnd(),
  )
}

/**
 * The same where lines have an end: cells that no longer fit beside the others follow below their row.
 * @param columns how many characters a line may have; Infinity: as many as there are
 */
export function fittingLines(rows: readonly (readonly Cell[])[], columns: number): string[] {
  const widths: number[] = []
  const lines = alignedLines(rows, widths)
  const ends = widths.map((_, i) => widths.slice(0, i + 1).reduce((sum, width) => sum + width + 2, -2))
  if ((ends.at(-1) ?? 0) <= columns) return lines
  const fit = Math.max(1, ends.filter((end) => end <= columns).length)
  const firsts = alignedLines(
    rows.map((row) => row.slice(0, fit)),
    [],
  )
  return rows.flatMap((row, i) => [firsts[i] ?? '', ...linesBelow(row.slice(fit), columns - 4)])
}

/** Cells side by side while there is room; one that needs more than a line is folded between its words. */
function linesBelow(cells: readonly Cell[], columns: number): string[] {
  const lines: { text: string; width: number }[] = []
  for (const cell of cells) {
    const { text, as } = typeof cell === 'string' ? { text: cell, as: plain } : cell
    const shown = printable(text).trim().replace(/ +/g, ' ')
    const last = lines.at(-1)
    if (shown === '') continue
    if (last !== undefined && last.width + 2 + shown.length <= columns) {
      last.text += `  ${as(shown)}`
      last.width += 2 + shown.length
    } else for (const line of folded(shown, columns)) lines.push({ text: as(line), width: line.length })
  }
  return lines.map(({ text }) => `    ${text}`)
}

/** Paints the text, not the blanks beside it: colours never shift a column. */
export function padded(text: string, width: number, as: (text: string) => string = plain): string {
  return as(text) + ' '.repeat(Math.max(0, width - text.length))
}

/** Text as the other programs print it: in double quotes, escaped. */
export function quoted(text: string): string {
  return `"${printable(text.replace(/[\\"]/g, '\\$&'))}"`
}

/** `2026-11-22T19:36:35.547` → `2026-11-22 19:36:35` */
export function shownTime(time: string | null): string {
  return time === null ? '' : time.slice(0, 19).replace('T', ' ')
}

/** Seconds as ` 5s`, ` 1m 30s`, `12h 10m 30s`. */
export function shownSeconds(seconds: number): string {
  const whole = Math.max(0, Math.floor(seconds))
  const parts = [
    [Math.floor(whole / 3600), 'h'],
    [Math.floor(whole / 60) % 60, 'm'],
    [whole % 60, 's'],
  ] as const
  const first = parts.findIndex(([number, unit]) => number > 0 || unit === 's')
  return parts
    .slice(first)
    .map(([number, unit]) => `${String(number).padStart(2)}${unit}`)
    .join(' ')
}

/** JSON for people and programs: indented by two; what a terminal could take for a command is escaped. */
export function shownJson(document: unknown): string {
  return escapedJson(JSON.stringify(document, null, 2))
}

/** JSON on one line. */
export function jsonLine(document: unknown): string {
  return escapedJson(JSON.stringify(document))
}

/** The same in pieces, for what is too long to be in memory once more. */
export function* jsonLinePieces(document: unknown): Generator<string> {
  for (const piece of jsonPieces(document)) yield escapedJson(piece)
}

function escapedJson(json: string): string {
  return json.replace(
    /[\u007f-\u009f\u2028\u2029\u202a-\u202e\u2066-\u2069]/g,
    (character) => `\\u${character.charCodeAt(0).toString(16).padStart(4, '0')}`,
  )
}

/** Writes one JSON array, element by element, as they arrive. */
export async function writeJsonArray(
  elements: AsyncIterable<unknown>,
  write: (text: string) => void,
  signal: AbortSignal,
): Promise<void> {
  let isFirst = true
  for await (const element of elements) {
    signal.throwIfAborted()
    write(`${isFirst ? '[' : ','}\n  ${shownJson(element).replaceAll('\n', '\n  ')}`)
    isFirst = false
  }
  write(isFirst ? '[]\n' : '\n]\n')
}

/** 35135 → `35,135`; the runtime's own way needs five megabytes of tables. */
export function shownCount(count: number): string {
  return String(count).replace(/\B(?=(?:\d{3})+$)/g, ',')
}

/** `1 package`, `2 packages` */
export function counted(count: number, one: string, many = `${one}s`): string {
  return `${shownCount(count)} ${count === 1 ? one : many}`
}

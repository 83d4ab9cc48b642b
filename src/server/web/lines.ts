/** Logs and diffs as lines of harmless text, bounded. */
import { asBuffer } from '../../chunks.ts'
import { count, harmless, html, raw, type Html } from './html.ts'

type Line = { number: number; text: string }
export type Clip = {
  /** What is shown, in order. */
  lines: Line[]
  /** Lines there are. */
  total: number
  /** Index of the first shown line after those left out; null: none are between. */
  clippedAt: number | null
  bytes: number
}

/** Lines of a page that shows all of a log, page by page. */
export const linesOfPage = 2000

/** Characters of a line that are shown. */
const longestLine = 2000

/**
 * The first and the last lines of a text that may be of any size; memory stays bounded.
 * @param from number of the line that counts as the first
 */
export async function clipped(
  chunks: AsyncIterable<Uint8Array>,
  { head, tail, from = 1 }: { head: number; tail: number; from?: number },
): Promise<Clip> {
  const first: Line[] = []
  const last: ({ number: number; bytes: Uint8Array } | undefined)[] = []
  let [total, bytes] = [0, 0]
  let rest: Buffer = nothingYet
  const take = (chunk: Buffer, start: number, end: number): void => {
    total++
    if (total >= from && first.length < head)
      first.push({ number: total, text: textOf(joined(rest, chunk, start, end)) })
    else if (total >= from && tail > 0)
      last[total % tail] = { number: total, bytes: joined(rest, chunk, start, end) }
    rest = nothingYet
  }
  for await (const part of chunks) {
    const chunk = asBuffer(part)
    bytes += chunk.length
    let start = 0
    for (let end = chunk.indexOf(lineEnd); end !== -1; end = chunk.indexOf(lineEnd, start)) {
      take(chunk, start, end)
      start = end + 1
    }
    if (start < chunk.length) rest = joined(rest, chunk, start, chunk.length)
  }
  if (rest.length > 0) take(nothingYet, 0, 0)
  const ended = last.filter((line) => line !== undefined).sort((a, b) => a.number - b.number)
  const isBroken = ended.length > 0 && ended[0]?.number !== (first.at(-1)?.number ?? 0) + 1
  const lines = [...first, ...ended.map((line) => ({ number: line.number, text: textOf(line.bytes) }))]
  return { lines, total, clippedAt: isBroken ? first.length : null, bytes }
}

const nothingYet = Buffer.alloc(0)
const lineEnd = 10
/** Bytes of a line that are kept while it is read: more than is shown, in whatever script it is. */
const keptOfLine = 4 * longestLine + 4

/** What a line had before this chunk, and what this chunk has of it. */
function joined(rest: Buffer, chunk: Buffer, start: number, end: number): Buffer {
  const piece = chunk.subarray(start, Math.min(end, start + keptOfLine))
  if (rest.length === 0) return piece
  return rest.length >= keptOfLine ? rest : Buffer.concat([rest, piece])
}

function textOf(bytes: Uint8Array): string {
  const text = new TextDecoder().decode(bytes)
  return text.length > longestLine ? `${text.slice(0, longestLine)} … (a long line)` : text
}

/** Select Graphic Rendition, the sequence of colours (ECMA-48 section 8.3.117). */
const sgr = /\u001b\[([\d;:]{0,40})m/g
/** Other control sequences, which only move or erase: left out. */
const otherSequences =
  /\u001b(?:\[[\d;:?<=>]{0,40}[ -/]{0,4}[@-ln-~]|\][^\u0007\u001b]{0,400}(?:\u0007|\u001b\\)|[()][A-Z0-9]|[=>78MDEHc])/g

const colours = ['black', 'red', 'green', 'yellow', 'blue', 'magenta', 'cyan', 'white'] as const

/** A line with its colours as classes and everything else harmless. What a carriage return overwrote is left out. */
function coloured(text: string): Html {
  const line = text.replace(/\r+$/, '').replace(otherSequences, '')
  const shownPart = line.slice(line.lastIndexOf('\r') + 1)
  if (!shownPart.includes('\u001b[')) return html`${harmless(shownPart)}`
  const pieces: Html[] = []
  let [at, classes] = [0, '']
  const push = (piece: string): void => {
    if (piece !== '')
      pieces.push(
        classes === '' ? html`${harmless(piece)}` : html`<span class="${classes}">${harmless(piece)}</span>`,
      )
  }
  for (const match of shownPart.matchAll(sgr)) {
    push(shownPart.slice(at, match.index))
    classes = classesAfter(classes, match[1] ?? '')
    at = match.index + match[0].length
    if (pieces.length > 200) break
  }
  push(shownPart.slice(at).replace(sgr, ''))
  return html`${pieces}`
}

/** Classes after a sequence: bold and the eight colours, as they or bright; the rest is not shown. */
function classesAfter(before: string, parameters: string): string {
  let [bold, colour] = [before.includes('a-bold'), /a-fg-\w+/.exec(before)?.[0] ?? '']
  const codes = parameters.split(/[;:]/).map(Number)
  for (let index = 0; index < codes.length; index++) {
    const code = codes[index] ?? 0
    if (code === 0) [bold, colour] = [false, '']
    else if (code === 1) bold = true
    else if (code === 22) bold = false
    else if (code === 38 || code === 48) index += codes[index + 1] === 5 ? 2 : 4
    else if ((code >= 30 && code <= 37) || (code >= 90 && code <= 97))
      colour = `a-fg-${colours[code % 10] ?? ''}`
    else if (code === 39) colour = ''
  }
  return [bold ? 'a-bold' : '', colour].filter((word) => word !== '').join(' ')
}

/** Lines of a log with their numbers as links; what is left out is said. */
export function logLines(clip: Clip, moreHref: string | null): Html {
  const lines = clip.lines.map(({ number, text }, index) => {
    const gap = index === clip.clippedAt ? gapLine(clip, moreHref) : ''
    return html`${gap}<span class="line" id="L${number}"
        ><a class="n" href="#L${number}" aria-label="Line ${number}">${number}</a
        >${coloured(text)}${raw('\n')}</span
      >`
  })
  return html`<pre class="log" tabindex="0" role="region" aria-label="Log"><code>${lines}</code></pre>`
}

function gapLine(clip: Clip, moreHref: string | null): Html {
  const [before, after] = [
    clip.lines[(clip.clippedAt ?? 1) - 1]?.number ?? 0,
    clip.lines[clip.clippedAt ?? 0]?.number ?? 0,
  ]
  const left = count(after - before - 1)
  const words =
    before === 0 ? `the first ${left} lines are not shown here` : `${left} lines between are not shown here`
  const link = moreHref === null ? words : html`<a href="${moreHref}?from=${before + 1}">${words}</a>`
  return html`<span class="gap">… ${link} …${raw('\n')}</span>`
}

/** Lines of a unified diff, by what they mean. */
export function diffLines(clip: Clip): Html {
  const lines = clip.lines.map(({ number, text }) => {
    const kind = /^[│ ]*\+/.test(text)
      ? 'plus'
      : /^[│ ]*-/.test(text)
        ? 'minus'
        : /^[│ ]*@@/.test(text)
          ? 'hunk'
          : 'same'
    return html`<span class="line ${kind}" id="L${number}"
      ><a class="n" href="#L${number}" aria-label="Line ${number}">${number}</a
      >${harmless(text)}${raw('\n')}</span
    >`
  })
  return html`<pre
    class="log diff"
    tabindex="0"
    role="region"
    aria-label="Differences"
  ><code>${lines}</code></pre>`
}

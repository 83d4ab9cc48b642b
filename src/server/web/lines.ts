/** Logs and diffs as lines of harmless text, bounded. */
import { harmless, html, raw, type Html } from './html.ts'

export type Line = { number: number; text: string }
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
  const last: (Line | undefined)[] = []
  let [total, bytes] = [0, 0]
  const take = (text: string): void => {
    total++
    if (total < from) return
    if (first.length < head) first.push({ number: total, text })
    else if (tail > 0) last[total % tail] = { number: total, text }
  }
  for await (const line of linesOf(chunks, (size) => (bytes += size))) take(line)
  const ended = last.filter((line) => line !== undefined).sort((a, b) => a.number - b.number)
  const isBroken = ended.length > 0 && ended[0]?.number !== (first.at(-1)?.number ?? 0) + 1
  return { lines: [...first, ...ended], total, clippedAt: isBroken ? first.length : null, bytes }
}

/** Lines of bytes, the rest of long ones left out. */
async function* linesOf(
  chunks: AsyncIterable<Uint8Array>,
  count: (size: number) => void,
): AsyncGenerator<string> {
  const decoder = new TextDecoder()
  let [rest, skipped] = ['', 0]
  const whole = (text: string): string =>
    skipped > 0 || text.length > longestLine ? `${text.slice(0, longestLine)} … (a long line)` : text
  for await (const chunk of chunks) {
    count(chunk.length)
    const lines = (rest + decoder.decode(chunk, { stream: true })).split('\n')
    rest = lines.pop() ?? ''
    for (const line of lines) {
      yield whole(line)
      skipped = 0
    }
    if (rest.length > 2 * longestLine) {
      skipped += rest.length - 2 * longestLine
      rest = rest.slice(0, 2 * longestLine)
    }
  }
  rest += decoder.decode()
  if (rest !== '') yield whole(rest)
}

/** Select Graphic Rendition, the sequence of colours (ECMA-48 section 8.3.117). */
const sgr = /\u001b\[([\d;:]{0,40})m/g
/** Other control sequences, which only move or erase: left out. */
const otherSequences =
  /\u001b(?:\[[\d;:?<=>]{0,40}[ -/]{0,4}[@-ln-~]|\][^\u0007\u001b]{0,400}(?:\u0007|\u001b\\)|[()][A-Z0-9]|[=>78MDEHc])/g

const colours = ['black', 'red', 'green', 'yellow', 'blue', 'magenta', 'cyan', 'white'] as const

/** A line with its colours as classes and everything else harmless. What a carriage return overwrote is left out. */
export function coloured(text: string): Html {
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
  const words = `${after - before - 1} lines between are not shown here`
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

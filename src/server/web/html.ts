/** Small pieces of pages. Text from outside is escaped by the tag and made harmless by `shown`. */
import { html as tagged, raw } from 'hono/html'
import { printable } from '../../log.ts'

export type Html = ReturnType<typeof raw>

/**
 * The html`…` tag of hono (hono.dev/docs/helpers/html): values are escaped, pieces made by it are not.
 * The indentation of our own text stays out of the page.
 */
export function html(texts: TemplateStringsArray, ...values: readonly unknown[]): Html {
  const own = dense.get(texts) ?? denseOf(texts)
  return tagged(own, ...values) as Html // no value of ours is a promise
}

const dense = new WeakMap<TemplateStringsArray, TemplateStringsArray>()

function denseOf(texts: TemplateStringsArray): TemplateStringsArray {
  const own = texts.map((text) => text.replace(/\s*\n\s*(?=>)/g, '').replace(/\s*\n\s*/g, '\n'))
  const made = Object.assign(own, { raw: own })
  dense.set(texts, made)
  return made
}

/** Longest text from outside that is shown whole. */
const longestText = 400

/** Marks that turn or hide text: directional marks, zero-width characters, tags (unicode.org/reports/tr36); not those that only choose a glyph. And what XML has no place for. */
const hidden = /(?![\ufe00-\ufe0f])\p{Default_Ignorable_Code_Point}|[\ufff9-\ufffb\ufffe\uffff]/gu

/** Text from outside made harmless: control characters, overrides and invisible marks become visible escapes. */
export function shown(text: string, longest = longestText): string {
  const whole = text.length > longest ? `${text.slice(0, longest)}…` : text
  return harmless(whole)
}

/** The same for whole lines of logs and diffs. */
export function harmless(text: string): string {
  return printable(text.toWellFormed()).replace(
    hidden,
    (mark) => `\\u${(mark.codePointAt(0) ?? 0).toString(16)}`,
  )
}

/** A name from outside, kept apart from the direction of the text around it. */
export function name(text: string): Html {
  return html`<bdi>${shown(text)}</bdi>`
}

/** A moment as the wire has it, for people; a script may turn it into local time. */
export function time(moment: string | null): Html {
  if (moment === null) return html`<span class="quiet">–</span>`
  const iso = `${moment.slice(0, 19)}Z`
  return html`<time datetime="${iso}">${moment.slice(0, 10)} ${moment.slice(11, 16)}</time>`
}

/** 35135 → 35,135 */
export function count(number: number): string {
  return String(Math.round(number)).replace(/\B(?=(\d{3})+$)/g, ',')
}

/** Rounded down: 100 % is said only when nothing is missing. */
export function percent(part: number, whole: number): string {
  if (whole === 0) return '–'
  return `${(Math.floor((part / whole) * 1000) / 10).toFixed(1)} %`
}

const units = ['B', 'kB', 'MB', 'GB', 'TB'] as const

/** Sizes in powers of ten, as mirrors tell them. */
export function bytes(size: number | null): string {
  if (size === null) return '–'
  let [value, unit] = [size, 0]
  while (value >= 1000 && unit < units.length - 1) [value, unit] = [value / 1000, unit + 1]
  return `${unit === 0 ? value : value.toFixed(value < 10 ? 1 : 0)} ${units[unit] ?? ''}`
}

/** Seconds for people: 45 s, 12 min, 3 h 20 min, 5 days. */
export function duration(seconds: number | null): string {
  if (seconds === null || !Number.isFinite(seconds)) return '–'
  if (seconds < 10) return `${Math.round(seconds * 10) / 10} s`
  if (seconds < 90) return `${Math.round(seconds)} s`
  const minutes = Math.round(seconds / 60)
  if (minutes < 90) return `${minutes} min`
  const hours = Math.floor(minutes / 60)
  if (hours < 48) return `${hours} h${minutes % 60 === 0 ? '' : ` ${minutes % 60} min`}`
  return `${Math.round(hours / 24)} days`
}

export type Verdict = 'GOOD' | 'BAD' | 'FAIL' | 'UNKWN'

/** A status as the database has it, for people and for the style sheet. */
export function verdictOf(status: string | null): Verdict {
  return status === 'GOOD' || status === 'BAD' || status === 'FAIL' ? status : 'UNKWN'
}

/** What the verdicts mean, in a few words. */
const verdictWords: Readonly<Record<Verdict, string>> = {
  GOOD: 'every byte is the same',
  BAD: 'rebuilt, but not the same',
  FAIL: 'could not be compared',
  UNKWN: 'not yet tried',
}

const marks: Readonly<Record<Verdict, string>> = { GOOD: '✓', BAD: '✗', FAIL: '!', UNKWN: '?' }

/** `✓ GOOD`, coloured; told by word and sign too. */
export function chip(status: string | null, label?: string): Html {
  const verdict = verdictOf(status)
  return html`<span class="chip ${verdict}" title="${verdict}: ${verdictWords[verdict]}"
    ><span aria-hidden="true">${marks[verdict]}</span> ${label ?? verdict}</span
  >`
}

/** One of the values of a field. */
export function option(value: string, label: string, chosen: string | undefined): Html {
  return html`<option value="${value}" ${value === (chosen ?? '') ? raw('selected') : ''}>
    ${shown(label, 80)}
  </option>`
}

/** The field of a filter that a text is typed into. */
export function searchField(
  name: string,
  label: string,
  value: string | undefined,
  placeholder: string,
): Html {
  return html`<p>
    <label for="${name}">${label}</label>
    <input
      id="${name}"
      type="search"
      name="${name}"
      value="${value ?? ''}"
      autocomplete="off"
      placeholder="${placeholder}"
    />
  </p>`
}

/** The field of a filter that a maintainer is typed into. */
export function maintainerField(value: string | undefined, placeholder: string): Html {
  return searchField('maintainer', 'Maintainer', value, placeholder)
}

/** The end of a filter, whose form leads to `action`. */
export function showOrReset(action: string): Html {
  return html`<p><button>Show</button> <a class="reset" href="${action}">Reset</a></p>`
}

/** Parts of a path, each from outside. */
export function segments(...parts: readonly string[]): string {
  return parts
    .map((part) => `/${encodeURIComponent(part).replace(/%(3A|2B|40)/g, decodeURIComponent)}`)
    .join('')
}

/** `?a=1&b=2` of what is given. */
export function queryOf(given: Readonly<Record<string, string | number | null | undefined>>): string {
  const entries = Object.entries(given).filter(
    ([, value]) => value !== null && value !== undefined && value !== '',
  )
  const text = new URLSearchParams(entries.map(([key, value]) => [key, String(value)])).toString()
  return text === '' ? '' : `?${text}`
}

/** The same with a release first, where an empty text means packages of none. */
export function originQueryOf(
  distribution: string,
  release: string,
  given: Readonly<Record<string, string | number | null | undefined>> = {},
): string {
  return `${queryOf({ distribution })}&release=${encodeURIComponent(release)}${queryOf(given).replace('?', '&')}`
}

/** No release is `-` in addresses, and nothing for people. */
export function releaseSegment(release: string): string {
  return release === '' ? '-' : release
}

export { raw }

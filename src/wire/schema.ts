import * as v from 'valibot'
import { Complaint } from '../errors.ts'
import { fits } from './fits.ts'

/** The TypeScript type of a checked value. */
export type Shape<T extends v.GenericSchema> = v.InferOutput<T>

/** Ids on the wire: signed 32 bit, from 1 on. */
export const Id = v.pipe(v.number(), v.integer(), v.minValue(1), v.maxValue(2 ** 31 - 1))
export const Int32 = v.pipe(v.number(), v.integer(), v.minValue(-(2 ** 31)), v.maxValue(2 ** 31 - 1))
/** An Ed25519 signature in lower-case hex. */
export const Signature = v.pipe(
  v.string(),
  v.regex(/^[0-9a-f]{128}$/, 'is not a signature in lower-case hex'),
)
export const Count = v.pipe(v.number(), v.integer(), v.minValue(0))

/** `null` for "none"; an absent member means the same. */
export function orNull<const T extends v.GenericSchema>(schema: T) {
  return v.optional(v.nullable(schema), null)
}

/** Text from outside, bounded so that no name fills the database. */
export function text(longest = 1024) {
  return v.pipe(v.string(), v.maxLength(longest))
}

const dateTimePattern = /^\s*(\d{1,4})-(\d{1,2})-(\d{1,2})T(\d{1,2}):(\d{1,2}):(\d{1,2})(\.\d+)?\s*$/

/** Date and time in UTC as rebuilderd writes it: `2026-11-22T19:36:35.547`, never with a zone. */
export const DateTime = v.pipe(
  v.string(),
  v.check(
    (given) => normalDateTime(given) !== null,
    'is not a date and time like 2026-11-22T19:36:35.5 (UTC, no zone)',
  ),
  v.metadata({
    jsonSchema: { type: 'string', pattern: '^\\d{4}-\\d{2}-\\d{2}T\\d{2}:\\d{2}:\\d{2}(\\.\\d+)?$' },
  }),
  v.transform((given) => normalDateTime(given) ?? given),
)

/** The one spelling we keep of a date-time, so that text order is time order; null when it is none. */
function normalDateTime(given: string): string | null {
  const match = dateTimePattern.exec(given)
  if (match === null) return null
  const [year = 0, month = 0, day = 0, hour = 0, minute = 0, second = 0] = match.slice(1, 7).map(Number)
  const time = new Date(Date.UTC(year, month - 1, day))
  if (year < 100 || time.getUTCMonth() !== month - 1 || time.getUTCDate() !== day) return null
  if (hour > 23 || minute > 59 || second > 60) return null
  const two = (number: number): string => String(number).padStart(2, '0')
  const digits = (match[7] ?? '').slice(1, 10).replace(/0+$/, '')
  const fraction = digits === '' ? '' : `.${digits.padEnd(3 * Math.ceil(digits.length / 3), '0')}`
  return `${String(year).padStart(4, '0')}-${two(month)}-${two(day)}T${two(hour)}:${two(minute)}:${two(second)}${fraction}`
}

/** A moment as text for the wire and the database: `2026-11-22T19:36:35.547`, without the fraction when it is zero. */
export function wireTime(moment: Date): string {
  return moment.toISOString().replace('.000Z', '').replace('Z', '')
}

/** The moment of a text made by `wireTime` (or read from the wire). */
export function momentOf(text: string): Date {
  return new Date(`${text.slice(0, 23)}Z`)
}

/** Bytes as rebuilderd's JSON has them: an array of numbers from 0 to 255. In memory a Uint8Array. */
export const Bytes = v.pipe(
  v.custom<readonly number[] | Uint8Array>(
    (given) => given instanceof Uint8Array || isByteArray(given),
    'is not an array of bytes (0 to 255)',
  ),
  v.metadata({ jsonSchema: { type: 'array', items: { type: 'integer', minimum: 0, maximum: 255 } } }),
  v.transform((given) => (given instanceof Uint8Array ? given : new Uint8Array(given))),
)

function isByteArray(given: unknown): given is number[] {
  if (!Array.isArray(given)) return false
  for (const item of given) if (!Number.isInteger(item) || item < 0 || item > 255) return false
  return true
}

/** JSON text of a body; byte fields become arrays of numbers. */
export function encodeJson(body: unknown): string {
  return JSON.stringify(body, function (this: Readonly<Record<string, unknown>>, name, value: unknown) {
    const own = this[name] // a Buffer has already turned itself into something else in `value`
    return own instanceof Uint8Array ? Array.from(own) : value
  })
}

/** Characters of a piece of JSON, more or less. */
const pieceLength = 1 << 16

/** Member of a list that has the JSON text of each item at hand. */
export const jsonOfItems = Symbol('JSON of items')

/** The same text in pieces: the long lists of an object need not be in memory, and may be anything that can be gone through. */
export function* jsonPieces(body: unknown): Generator<string> {
  if (typeof body !== 'object' || body === null || Array.isArray(body) || body instanceof Uint8Array) {
    yield encodeJson(body)
    return
  }
  const members = Object.entries(body).filter(([, value]) => value !== undefined)
  let text = '{'
  for (const [place, [name, value]] of members.entries()) {
    text += `${place === 0 ? '' : ','}${JSON.stringify(name)}:`
    if (!isList(value)) {
      text += encodeJson(value)
      continue
    }
    text += '['
    let isFirst = true
    for (const item of itemsOf(value)) {
      text += isFirst ? item : `,${item}`
      isFirst = false
      if (text.length < pieceLength) continue
      yield text
      text = ''
    }
    text += ']'
  }
  yield `${text}}`
}

function* itemsOf(list: Iterable<unknown> & { [jsonOfItems]?: () => Iterable<string> }): Generator<string> {
  const texts = list[jsonOfItems]?.()
  if (texts === undefined) for (const item of list) yield item === undefined ? 'null' : encodeJson(item)
  else yield* texts
}

function isList(value: unknown): value is Iterable<unknown> {
  return (
    typeof value === 'object' && value !== null && Symbol.iterator in value && !(value instanceof Uint8Array)
  )
}

/** What came of looking at data from outside. */
export type Looked<T> =
  | { success: true; output: T }
  | { success: false; issues: readonly [v.BaseIssue<unknown>, ...v.BaseIssue<unknown>[]] }

/** Checks data from outside up to the first thing that is wrong. What is as it should be comes back as it is. */
export function looked<const T extends v.GenericSchema>(schema: T, given: unknown): Looked<Shape<T>> {
  if (fits(schema, given)) return { success: true, output: given }
  const { success, output, issues } = v.safeParse(schema, given, { abortEarly: true })
  return success ? { success, output } : { success, issues }
}

/**
 * Checks data from outside, or refuses it.
 * @param what what the data is, for the message: `the reply of GET /api/v1/queue`
 * @throws Complaint naming the member and what is wrong with it
 */
export function checked<const T extends v.GenericSchema>(schema: T, given: unknown, what: string): Shape<T> {
  const result = looked(schema, given)
  if (result.success) return result.output
  throw new Complaint(`${what}: ${problemOf(result.issues[0])}`)
}

/** `artifacts[3].url: expected string, got null`, for replies and logs. */
export function problemOf(issue: v.BaseIssue<unknown>): string {
  const path = v.getDotPath(issue)
  const problem = issue.type === 'object' && issue.received === 'undefined' ? 'is missing' : issue.message
  return path === null
    ? problem
    : `\`${path}\` ${problem.startsWith('Invalid') ? `is invalid: ${problem}` : problem}`
}

// --- members of a query string arrive as text

export const IntText = v.pipe(
  v.string(),
  v.regex(/^[+-]?\d{1,10}$/, 'invalid digit found in string'),
  v.metadata({ jsonSchema: { type: 'integer', minimum: -(2 ** 31), maximum: 2 ** 31 - 1 } }),
  v.transform(Number),
  v.minValue(-(2 ** 31), 'number too small to fit in target type'),
  v.maxValue(2 ** 31 - 1, 'number too large to fit in target type'),
)
export const BoolText = v.pipe(
  v.picklist(['true', 'false'], 'expected `true` or `false`'),
  v.metadata({ jsonSchema: { type: 'boolean' } }),
  v.transform((given) => given === 'true'),
)
/** `trixie,sid` → names. */
export const NamesText = v.pipe(
  v.string(),
  v.transform((given) => given.split(',').filter((name) => name !== '')),
)

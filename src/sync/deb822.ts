import { asBuffer } from '../chunks.ts'
import { Complaint } from '../errors.ts'

/** One paragraph: fields by name, the lines of a folded one joined by `\n` without their indent. */
export type Stanza = {
  readonly fields: Readonly<Record<string, string>>
  /** Line of the file where it starts, from 1. */
  readonly line: number
}

type StanzaOptions<Name extends string = string> = {
  /** Names the file in complaints. */
  what: string
  /** Fields to keep, as spelled here; the others are only checked for form. Absent: all. */
  wanted?: readonly Name[]
}

/** Bytes of one stanza: the longest of Debian has 0.7 MB. */
const longestStanza = 16 * 1024 * 1024

/**
 * Paragraphs of a control file as they arrive (debian.org/doc/debian-policy/ch-controlfields.html).
 * @throws Complaint with the line, where one is neither field nor continuation, a field comes twice or holds control bytes
 */
export async function* stanzas<Name extends string>(
  chunks: AsyncIterable<Uint8Array>,
  options: StanzaOptions<Name>,
): AsyncGenerator<Stanza> {
  const reader = stanzaReader(options)
  let rest: Uint8Array = new Uint8Array(0)
  for await (const chunk of chunks) {
    const bytes = rest.length === 0 ? asBuffer(chunk) : Buffer.concat([rest, chunk])
    const end = bytes.lastIndexOf('\n\n')
    rest = end < 0 ? bytes : Buffer.from(bytes.subarray(end + 2))
    if (rest.length > longestStanza) throw reader.complaint(`has a stanza of over ${longestStanza} bytes`)
    if (end >= 0) yield* reader.read(bytes.toString('latin1', 0, end + 2))
  }
  yield* reader.read(asBuffer(rest).toString('latin1'))
}

/** Paragraphs of a text that is here as a whole; throws as `stanzas` does. */
export function stanzasIn<Name extends string>(
  text: Uint8Array,
  options: StanzaOptions<Name>,
): Iterable<Stanza> {
  return stanzaReader(options).read(asBuffer(text).toString('latin1'))
}

/**
 * The only paragraph of a control file.
 * @param wanted fields to keep; absent: all
 * @throws Complaint where it has none or several
 */
export function stanzaOf(text: Uint8Array, what: string, wanted?: readonly string[]): Stanza {
  const [first, second] = stanzasIn(text, wanted === undefined ? { what } : { what, wanted })
  if (first === undefined || second !== undefined) throw new Complaint(`${what} does not hold one stanza`)
  return first
}

const space = 32
const tab = 9

/** Reads blocks that end between two stanzas. Text has one character per byte here: scanning it is fastest so. */
function stanzaReader({ what, wanted }: StanzaOptions) {
  const keep = wanted === undefined ? null : spellings(wanted)
  let line = 1
  const complaint = (problem: string, at = line): Complaint => new Complaint(`${what}: line ${at} ${problem}`)
  return {
    complaint,
    *read(text: string): Generator<Stanza> {
      let draft = newDraft(line)
      for (let at = 0; at < text.length; line++) {
        const found = text.indexOf('\n', at)
        const end = found < 0 ? text.length : found
        const first = text.charCodeAt(at)
        if (isBlank(text, at, end, first)) {
          if (draft.isEmpty) draft.line = line + 1
          else {
            yield stanzaFrom(draft, complaint)
            draft = newDraft(line + 1)
          }
        } else if (first === space || first === tab) {
          if (draft.isEmpty) throw complaint('continues a field, but there is none')
          if (draft.isOpen) draft.values[draft.values.length - 1] += `\n${trimmed(text, at + 1, end, false)}`
        } else {
          const colon = text.indexOf(':', at)
          if (colon <= at || colon > end || !startsName(first))
            throw complaint(notAField(text.slice(at, end)))
          const name = keep === null ? checkedName(text.slice(at, colon), complaint) : keep(text, at, colon)
          draft.isEmpty = false
          draft.isOpen = name !== undefined
          if (name !== undefined) {
            if (draft.names.includes(name)) throw complaint(`has ${name} a second time`)
            draft.names.push(name)
            draft.values.push(trimmed(text, colon + 1, end, true))
          }
        }
        at = end + 1
      }
      if (!draft.isEmpty) yield stanzaFrom(draft, complaint)
    },
  }
}

/** A stanza while it is read; `isOpen`: its last field is kept, so are its continuations. */
type Draft = { line: number; names: string[]; values: string[]; isEmpty: boolean; isOpen: boolean }

function newDraft(line: number): Draft {
  return { line, names: [], values: [], isEmpty: true, isOpen: false }
}

/** Values are decoded together, which copies them: as slices each would keep its whole block in memory. */
function stanzaFrom(draft: Draft, complaint: (problem: string, line: number) => Complaint): Stanza {
  const raw = Buffer.from(draft.values.join('\0'), 'latin1')
  const text = raw.toString('utf8')
  const values = text.split('\0')
  if (values.length > draft.names.length || /[\x01-\x08\x0b-\x1f\x7f]/.test(text)) {
    throw complaint('starts a stanza with control bytes in it', draft.line)
  }
  const fields: Record<string, string> = {}
  for (const [place, name] of draft.names.entries()) fields[name] = values[place] ?? ''
  return { fields, line: draft.line }
}

function trimmed(text: string, from: number, to: number, bothEnds: boolean): string {
  const start = bothEnds && text.charCodeAt(from) === space ? from + 1 : from
  const value = text.slice(start, to)
  const isTight = value.charCodeAt(0) > space && value.charCodeAt(value.length - 1) > space
  if (isTight) return value
  return bothEnds ? value.trim() : value.trimEnd()
}

function isBlank(text: string, at: number, end: number, first: number): boolean {
  if (at === end) return true
  return (first === space || first === tab) && text.slice(at, end).trim() === ''
}

/** Names may not start with a hyphen or a number sign; control bytes and blanks are in none. */
function startsName(first: number): boolean {
  return first > space && first < 127 && first !== 45 && first !== 35
}

function notAField(line: string): string {
  return `is neither a field nor a continuation: ${JSON.stringify(line.slice(0, 80))}`
}

/** Names that every object has would be read as present where they are absent. */
function checkedName(name: string, complaint: (problem: string) => Complaint): string {
  if (/^[\x21-\x7e]{1,200}$/.test(name) && !(name in Object.prototype)) return name
  throw complaint(notAField(name))
}

type Spelling = (text: string, from: number, to: number) => string | undefined

/** Made once for each list of names: files of one stanza are read by the thousand. */
const known = new WeakMap<readonly string[], Spelling>()

function spellings(wanted: readonly string[]): Spelling {
  const found = known.get(wanted) ?? spellingsOf(wanted)
  known.set(wanted, found)
  return found
}

/** Finds the wanted spelling of a name; names do not mind case, but nearly always come in the usual one. */
function spellingsOf(wanted: readonly string[]): Spelling {
  const usual = new Map(wanted.map((name) => [name, name]))
  const lower = new Map(wanted.map((name) => [name.toLowerCase(), name]))
  const beginnings = new Set(
    wanted.flatMap((name) => [name.toUpperCase(), name.toLowerCase()]).map(beginning),
  )
  return (text, from, to) => {
    if (!beginnings.has(text.charCodeAt(from) * 256 + to - from)) return undefined
    const name = text.slice(from, to)
    return usual.get(name) ?? lower.get(name.toLowerCase())
  }
}

/** First letter and length, to pass over most names without looking at them. */
function beginning(name: string): number {
  return name.charCodeAt(0) * 256 + name.length
}

/**
 * The names of all packages in the memory of the database's thread, to find those that a text is part of: an index
 * of parts would cost an import half a second and the file 40 bytes a name, while half a million names are looked
 * through in a few milliseconds.
 */
import { first, sql, trusted, type Database, type Sql, type Transaction } from './database.ts'
import { answerOf } from './narrow.ts'
import { question } from './work.ts'
import { putNewest } from '../newest.ts'

export type Kind = 'binary' | 'source'

/** Some names, one a line; `starts` where each begins, `rows` how many packages have it. */
type Segment = { names: string; folded: string; starts: Uint32Array; rows: Uint32Array }
/** What was read so far: all names of rows up to `to`, but only once `after` is null. */
type Known = {
  segments: Segment[]
  /** Pieces that came since. */
  added: number
  /** The last name read, while the rows up to `to` are read for the first time. */
  after: string | null
  to: number
  /** What was found lately, until there are more names. */
  found: Map<string, Containing>
  /** The name of row `to`: another one there means that rows were taken back. */
  toName: string | null
}

/** Names, or rows, that are read at once: a few milliseconds. */
const atOnce = 10_000
/** Pieces that came later beyond which all is read anew, as a name that came many times is in many. */
const mostAdded = 40
const mostFound = 20

const tables: Readonly<Record<Kind, Sql>> = {
  binary: trusted('binary_packages'),
  source: trusted('source_packages'),
}
const known = new Map<Kind, Known>()

/**
 * Names that contain a text, or begin with it, and how many packages have them in all. `spelt`: the first and the last,
 * in the order of indexes, of the ways in which the text is written where it begins a name.
 */
export type Containing = { names: string[]; rows: number; isCut: boolean; spelt: readonly [string, string] }

/** Where in a name a text is looked for. */
type Place = 'anywhere' | 'beginning'

/**
 * Names that a text is part of, or begins, whatever the case of its ASCII letters.
 * @param most how many names are given; `rows` counts all
 * @returns null: the names are not all read yet; ask again, after others
 */
export async function namesContaining(
  tx: Transaction,
  kind: Kind,
  text: string,
  most: number,
  place: Place = 'anywhere',
): Promise<Containing | null> {
  if (!(await readOn(tx, kind))) return null
  const mine = known.get(kind)
  const wanted = folded(text)
  if (mine === undefined || wanted.includes('\n'))
    return { names: [], rows: 0, isCut: false, spelt: [wanted, wanted] }
  const key = `${place} ${most} ${wanted}`
  const found = mine.found.get(key) ?? foundIn(mine.segments, wanted, most, place)
  putNewest(mine.found, key, found, mostFound)
  return found
}

function foundIn(segments: readonly Segment[], wanted: string, most: number, place: Place): Containing {
  const names = new Set<string>() // one that came in several imports is in several segments
  const spellings = new Set<string>()
  const lines = place === 'beginning' ? linesBeginning : linesWith
  let rows = 0
  let isCut = false
  for (const segment of segments) {
    for (const index of lines(segment, wanted)) {
      rows += segment.rows[index] ?? 0
      const start = segment.starts[index] ?? 0
      if (place === 'beginning') spellings.add(segment.names.slice(start, start + wanted.length))
      if (names.size < most) names.add(lineOf(segment, index))
      else isCut ||= !names.has(lineOf(segment, index))
    }
  }
  const sorted = [...spellings].sort() // they differ in ASCII letters only, so this is their order in indexes, too
  return { names: [...names], rows, isCut, spelt: [sorted[0] ?? wanted, sorted.at(-1) ?? wanted] }
}

type Asked = { kind: Kind; text: string; most: number }

/** null: ask again. */
const namesNow = question('names.containing', (tx, { kind, text, most }: Asked) =>
  namesContaining(tx, kind, text, most),
)

/** The same from outside of the database's thread, with an answer. */
export function findNames(db: Database, asked: Asked): Promise<Containing> {
  return answerOf(() => namesNow(db, asked))
}

/** null: ask again. */
const readyNow = question('names.ready', async (tx, kind: Kind) => ((await readOn(tx, kind)) ? true : null))

/** Reads the names that are not known yet, some at a time, so that whoever searches first need not wait for all of them. */
export async function namesPrepared(db: Database, until: AbortSignal): Promise<void> {
  for (const kind of ['binary', 'source'] as const)
    await answerOf(async () => until.aborted || (await readyNow(db, kind)))
}

/** Numbers of the lines that contain a text. */
function* linesWith({ folded: text, starts }: Segment, wanted: string): Generator<number> {
  let line = 0
  for (let at = text.indexOf(wanted); at >= 0 && line < starts.length; at = text.indexOf(wanted, at)) {
    while (line + 1 < starts.length && (starts[line + 1] ?? 0) <= at) line++
    yield line++
    at = starts[line] ?? text.length + 1
  }
}

/** Numbers of the lines that begin with a text. */
function* linesBeginning({ folded: text, starts }: Segment, wanted: string): Generator<number> {
  if (starts.length > 0 && text.startsWith(wanted)) yield 0
  let line = 0
  for (let at = text.indexOf(`\n${wanted}`); at >= 0; at = text.indexOf(`\n${wanted}`, at + 1)) {
    while (line + 1 < starts.length && (starts[line] ?? 0) <= at) line++
    yield line
  }
}

function lineOf({ names, starts }: Segment, index: number): string {
  const next = starts[index + 1]
  return names.slice(starts[index], next === undefined ? undefined : next - 1)
}

/** ASCII letters as LIKE folds them; the length stays the same. */
function folded(text: string): string {
  return text.replace(/[A-Z]+/g, (letters) => letters.toLowerCase())
}

/** Reads some of the names that are not known yet; true: there are no more. */
async function readOn(tx: Transaction, kind: Kind): Promise<boolean> {
  const table = tables[kind]
  const last = (await first(tx.all<{ id: number | null }>(sql`SELECT max(id) AS id FROM ${table}`)))?.id ?? 0
  let mine = known.get(kind)
  if (mine === undefined || mine.added > mostAdded || !(await isStillSo(tx, table, mine))) {
    mine = {
      segments: [],
      added: 0,
      found: new Map(),
      after: '',
      to: last,
      toName: await nameOf(tx, table, last),
    }
    known.set(kind, mine)
  }
  if (mine.after !== null) {
    const piece = await pieceOf(
      tx,
      sql`SELECT name, count(*) AS n FROM ${table} WHERE name > ${mine.after} AND id <= ${mine.to}
           GROUP BY name ORDER BY name LIMIT ${atOnce}`,
    )
    if (piece !== null) mine.segments.push(piece.segment)
    mine.after = piece?.last ?? null
    return mine.after === null && mine.to === last
  }
  if (mine.to === last) return true
  const to = Math.min(last, mine.to + atOnce)
  const piece = await pieceOf(
    tx,
    sql`SELECT name, count(*) AS n FROM ${table} WHERE id > ${mine.to} AND id <= ${to} GROUP BY +name`,
  )
  if (piece !== null) mine.segments.push(piece.segment)
  mine.added += 1
  mine.found.clear()
  mine.to = to
  mine.toName = await nameOf(tx, table, to)
  return to === last
}

async function nameOf(tx: Transaction, table: Sql, id: number): Promise<string | null> {
  const row = await first(tx.all<{ name: string }>(sql`SELECT name FROM ${table} WHERE id = ${id}`))
  return row?.name ?? null
}

async function isStillSo(tx: Transaction, table: Sql, { to, toName }: Known): Promise<boolean> {
  return (await nameOf(tx, table, to)) === toName
}

/** Names as one text: two values to fetch instead of thousands. */
async function pieceOf(tx: Transaction, query: Sql): Promise<{ segment: Segment; last: string } | null> {
  const row = await first(
    tx.all<{ names: string | null; rows: string | null; last: string | null }>(sql`
      SELECT group_concat(name, char(10)) FILTER (WHERE instr(name, char(10)) = 0) AS names,
             group_concat(n) FILTER (WHERE instr(name, char(10)) = 0) AS rows, max(name) AS last FROM (${query})`),
  )
  if (row === null || row.last === null) return null
  const names = row.names ?? ''
  const rows = Uint32Array.from((row.rows ?? '').split(','), Number)
  const starts = new Uint32Array(rows.length)
  for (let line = 1, at = names.indexOf('\n'); at >= 0; at = names.indexOf('\n', at + 1))
    starts[line++] = at + 1
  return { segment: { names, folded: folded(names), starts, rows }, last: row.last }
}

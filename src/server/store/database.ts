import type { MessagePort } from 'node:worker_threads'

/** What a column holds. Booleans are 0 and 1, moments text as on the wire. */
export type Value = string | number | null
export type Row = Readonly<Record<string, Value>>

/** A statement and its values, in order. Made by the sql`…` tag only, so that no value ever becomes SQL. */
export type Sql = { readonly text: string; readonly values: readonly Value[] }

type Part = Value | boolean | Sql | readonly (string | number)[] | undefined

/**
 * SQL with values. A value becomes a parameter; another sql`…` is spliced in; a list becomes a
 * subquery, so that `name IN ${names}` is one statement for any number of names (and a short one for a single one); undefined is NULL.
 */
export function sql(texts: TemplateStringsArray, ...parts: readonly Part[]): Sql {
  const values: Value[] = []
  if (parts.every((part) => typeof part !== 'object' || part === null)) {
    for (const part of parts) placeOf(part, values)
    return { text: textOf(texts), values }
  }
  let text = texts[0] ?? ''
  for (const [index, part] of parts.entries()) {
    text += placeOf(part, values) + (texts[index + 1] ?? '')
  }
  return { text, values }
}

/** Statements of values alone, each by its template: one and the same text is looked up much sooner than a copy of it. */
const known = new WeakMap<TemplateStringsArray, string>()

function textOf(texts: TemplateStringsArray): string {
  const text = known.get(texts) ?? texts.join('?')
  known.set(texts, text)
  return text
}

function placeOf(part: Part, values: Value[]): string {
  if (typeof part === 'object' && part !== null) {
    if ('text' in part) {
      values.push(...part.values)
      return part.text
    }
    const [only] = part
    if (part.length === 1 && only !== undefined) return (values.push(only), '(?)')
    values.push(JSON.stringify(part))
    return '(SELECT value FROM json_each(?))'
  }
  values.push(part === true ? 1 : part === false ? 0 : (part ?? null))
  return '?'
}

/** Joins fragments: `joined(conditions, ' AND ')`. */
export function joined(parts: readonly Sql[], separator: string): Sql {
  return {
    text: parts.map((part) => part.text).join(separator),
    values: parts.flatMap((part) => part.values),
  }
}

/** Rows that one statement writes: few sizes, as each is a statement of its own. */
const rowsTogether = [100, 10, 1] as const

/**
 * Writes rows, many with each statement. While one runs, SQLite keeps what it has changed, to take back that alone: row by
 * row that takes as long as the writing does.
 * @param rows the values of each, as `(…)`
 * @param statement the statement that writes what is put behind its VALUES
 */
export function inRows(rows: readonly Sql[], statement: (values: Sql) => Sql): Sql[] {
  const statements: Sql[] = []
  let start = 0
  for (const size of rowsTogether)
    for (; start + size <= rows.length; start += size)
      statements.push(statement(joined(rows.slice(start, start + size), ', ')))
  return statements
}

/** SQL from our own tables of names, never from outside. */
export function trusted(text: string): Sql {
  return { text, values: [] }
}

/** Statements inside one transaction. */
export type Transaction = {
  all: <T extends Row>(query: Sql) => Promise<T[]>
  /** Runs several statements in one go; the rows of each. */
  batch: <T extends Row>(queries: readonly Sql[]) => Promise<T[][]>
  /** The text that a statement gives (the first column of its first row) as UTF-8: for what is long and sent as it is. */
  bytes: (query: Sql) => Promise<Uint8Array>
}

/** An engine. Queries see only what is committed; what a transaction resolved with is on disk. */
export type Database = {
  all: <T extends Row>(query: Sql) => Promise<T[]>
  /** Several questions about the same moment; the rows of each. */
  batch: <T extends Row>(queries: readonly Sql[]) => Promise<T[][]>
  /** The text that a statement gives (the first column of its first row) as UTF-8. */
  bytes: (query: Sql) => Promise<Uint8Array>
  /** Runs `work` alone, commits what it did, or nothing of it if it throws. Keep it short: nothing else runs meanwhile. */
  transaction: <T>(work: (tx: Transaction) => Promise<T>) => Promise<T>
  /** Runs declared work (work.ts) in a transaction, beside the database: much quicker than `transaction`. */
  run: (name: string, input: unknown) => Promise<unknown>
  /** The same for declared questions. */
  ask: (name: string, input: unknown) => Promise<unknown>
  /** A port by which another thread asks (see `databaseAt`); closed when that thread ends. */
  port: () => Promise<MessagePort>
  /**
   * Numbers of the blocks (written.ts) of its file that were written since this was asked last; by those that copy it.
   * @param isGoingOn whether they are to be noted from now on
   */
  writtenBlocks: (isGoingOn: boolean) => Promise<number[]>
  /**
   * A number that is another one once anything may have changed, before anybody is told of it; asking takes no time.
   * Not there where others may change something without a word.
   */
  change?: () => number
  /** Texts of the statements run so far, for the test of their query plans. */
  statements: () => Promise<string[]>
  close: () => Promise<void>
}

/** The first row, or null. */
export async function first<T extends Row>(rows: Promise<T[]>): Promise<T | null> {
  const [row] = await rows
  return row ?? null
}

/** A row as an object. Written out, as lists are made of nothing else: Object.fromEntries takes three times as long. */
export function rowOf(columns: readonly string[], values: readonly Value[]): Row {
  const row: Record<string, Value> = {}
  for (let index = 0; index < columns.length; index++) row[columns[index] ?? ''] = values[index] ?? null
  return row
}

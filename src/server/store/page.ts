import { Complaint } from '../../errors.ts'
import { first, joined, sql, trusted, type Transaction, type Row, type Sql, type Value } from './database.ts'

/** Most records of one page: a script in the wild asks for as many. */
export const longestPage = 50_000
const usualPage = 1000

/** What callers may ask of a list (contract of every v1 list). */
export type PageRequest = {
  limit?: number | undefined
  before?: number | undefined
  after?: number | undefined
  sort?: string | undefined
  direction?: 'Ascending' | 'Descending' | undefined
}

/** A list: what is selected, from where, and the words callers may sort by with the column of each. */
export type Listing = {
  columns: Sql
  /** With joins; the table that has the ids goes first, and CROSS keeps it there. */
  from: Sql
  /** That table with its alias, such as `builds h`; undefined: rows are never put in order before they are joined. */
  table?: Sql
  /** The same for looking up one row, where `from` prescribes another way through the tables. */
  lookup?: Sql
  id: string
  sorts: Readonly<Record<string, string>>
  /** The words whose order an index has, so that a page costs the same however long the list; undefined: the list is short. */
  walked?: readonly string[]
}

/** Most records that are sorted for a page where no index has the order: a few hundred milliseconds. */
const mostSorted = 100_000

/** What a list is narrowed to: conditions, and whether they are looked up first. */
export type Found = { where: readonly Sql[]; isLed: boolean }

type Cursor = { id: number; value: Value | undefined }
type Order = 'ASC' | 'DESC'

/**
 * One page of a list. Rows come in the order of (sort column, id). `after` and `before` are ids and always mean
 * "greater" and "less" in that order, whatever the direction; of the rows that a cursor leaves, the page has
 * the nearest ones.
 * @param where conditions, all of which hold
 * @param isLed the conditions are looked up and what they give is put in order, instead of walking the order asked for
 * @throws Complaint where the sort word is none
 */
export async function pageOfRows<T extends Row>(
  db: Transaction,
  listing: Listing,
  request: PageRequest,
  where: readonly Sql[],
  isLed = false,
): Promise<T[]> {
  const page = await queryOfPage(db, listing, request, { where, isLed })
  if (page === null) return []
  const rows = await db.all<T>(page.query)
  return page.isBackwards ? rows.reverse() : rows
}

/**
 * The same of a listing whose rows are records of the wire, as a document: `{"total":1,"records":[…]}` as UTF-8.
 * @param total how many records the filters leave
 */
export async function documentOfPage(
  db: Transaction,
  listing: Listing,
  request: PageRequest,
  { total, ...found }: Found & { total: number },
): Promise<Uint8Array> {
  const [head, tail] = [`{"total":${total},"records":[`, ']}']
  const page = total === 0 ? null : await queryOfPage(db, listing, request, found)
  if (page?.isBackwards === false)
    return db.bytes(
      sql`SELECT ${head} || coalesce(group_concat(record, ','), '') || ${tail} FROM (${page.query})`,
    )
  const rows = page === null ? [] : await db.all<{ record: string }>(page.query)
  const records = rows.map(({ record }) => record).reverse()
  return new TextEncoder().encode(`${head}${records.join(',')}${tail}`)
}

/**
 * Refuses to sort a list that has no index for it and is long.
 * @param total how many records the filters leave
 * @throws Complaint
 */
export function refuseLongSort({ walked }: Listing, { sort }: PageRequest, total: number): void {
  if (sort === undefined || walked === undefined || walked.includes(sort) || total <= mostSorted) return
  throw new Complaint(`${total} records are too many to be sorted by \`${sort}\``, {
    hint: `ask for fewer than ${mostSorted} with filters, or sort by one of ${walked.join(', ')}`,
    exitCode: 2,
  })
}

/** The question for a page, and whether its rows come the other way round; null: it is empty. */
async function queryOfPage(
  db: Transaction,
  listing: Listing,
  request: PageRequest,
  { where, isLed }: Found,
): Promise<{ query: Sql; isBackwards: boolean } | null> {
  const limit = limitOf(request.limit)
  if (limit === 0) return null
  const column = columnOf(listing, request.sort)
  const after = await cursorAt(db, listing, column, request.after)
  const before = await cursorAt(db, listing, column, request.before)
  if (after === null || before === null) return null
  // What is looked up must not be found by walking after all: with a plus no index is used for the order.
  const places = isLed ? { id: `+${listing.id}`, column: `+${column}` } : { id: listing.id, column }
  const cursors = [after && beyond(places, after, '>'), before && beyond(places, before, '<')]
  const conditions = [...where, ...cursors.filter((cursor) => cursor !== undefined)]
  const shown: Order = request.direction === 'Descending' ? 'DESC' : 'ASC'
  const walked = walkOf(shown, after !== undefined, before !== undefined)
  const order = orderOf(places, walked)
  const rows = sql`${whereOf(conditions)} ORDER BY ${order} LIMIT ${limit}`
  const query =
    isLed && listing.table !== undefined
      ? joinedLater(listing, column, order, rows)
      : sql`SELECT ${listing.columns} FROM ${listing.from} ${rows}`
  return { query, isBackwards: walked !== shown }
}

/** Puts ids in order first: what else a record has is looked up for those of the page only. */
function joinedLater({ columns, from, id, table }: Listing, column: string, order: Sql, rows: Sql): Sql {
  const isOwn = column.split('.')[0] === id.split('.')[0]
  const among = isOwn ? (table ?? from) : from
  return sql`
    SELECT ${columns} FROM (SELECT ${trusted(id)} AS id FROM ${among} ${rows}) p CROSS JOIN ${from}
     WHERE ${trusted(id)} = p.id ORDER BY ${order}`
}

/** The word a page is sorted by, and whether an index has its order. */
export function sortOf(
  { walked }: Listing,
  { sort = 'id' }: PageRequest,
): { sort: string; isWalked: boolean } {
  return { sort, isWalked: walked?.includes(sort) ?? false }
}

/** What a filter asks for, where it does. */
export function given<T, C = Sql>(value: T | null | undefined, condition: (value: T) => C): C[] {
  return value === undefined || value === null ? [] : [condition(value)]
}

/** `WHERE a AND b`, or nothing. */
export function whereOf(conditions: readonly Sql[]): Sql {
  return conditions.length === 0 ? trusted('') : sql`WHERE ${joined(conditions, ' AND ')}`
}

/** Records of a page, where so many are asked for: less than none means all that a page may hold. */
export function limitOf(asked: number | undefined): number {
  if (asked === undefined) return usualPage
  return asked < 0 ? longestPage : Math.min(asked, longestPage)
}

/** Which way to walk, so that rows nearest to the cursor come first. */
function walkOf(shown: Order, hasAfter: boolean, hasBefore: boolean): Order {
  if (hasAfter === hasBefore) return shown
  return hasAfter ? 'ASC' : 'DESC'
}

function columnOf(listing: Listing, sort: string | undefined): string {
  if (sort === undefined) return listing.id
  const column = Object.hasOwn(listing.sorts, sort) ? listing.sorts[sort] : undefined
  if (column === undefined) {
    throw new Complaint(`cannot sort by \`${sort}\``, {
      hint: `sort by one of ${Object.keys(listing.sorts).join(', ')}`,
      exitCode: 2,
    })
  }
  return column
}

type Places = { id: string; column: string }

function orderOf({ id, column }: Places, order: Order): Sql {
  return trusted(column === id ? `${id} ${order}` : `${column} ${order}, ${id} ${order}`)
}

/** The row a cursor names; undefined: not asked for; null: there is no such row. */
async function cursorAt(
  db: Transaction,
  listing: Listing,
  column: string,
  id: number | undefined,
): Promise<Cursor | null | undefined> {
  if (id === undefined) return undefined
  if (column === listing.id) return { id, value: undefined }
  const row = await first(
    db.all<{ value: Value }>(
      sql`SELECT ${trusted(column)} AS value FROM ${listing.lookup ?? listing.from} WHERE ${trusted(listing.id)} = ${id}`,
    ),
  )
  return row === null ? null : { id, value: row.value }
}

/** Rows beyond a cursor; NULL sorts before everything. */
function beyond({ id, column }: Places, cursor: Cursor, sign: '>' | '<'): Sql {
  const [idColumn, sortColumn, compare] = [trusted(id), trusted(column), trusted(sign)]
  if (cursor.value === undefined) return sql`${idColumn} ${compare} ${cursor.id}`
  if (cursor.value === null) {
    const among = sql`(${sortColumn} IS NULL AND ${idColumn} ${compare} ${cursor.id})`
    return sign === '>' ? sql`(${among} OR ${sortColumn} IS NOT NULL)` : among
  }
  const pair = sql`(${sortColumn}, ${idColumn}) ${compare} (${cursor.value}, ${cursor.id})`
  // That the column alone is not less says nothing new, but an index of another table than the ids' can use it.
  return sign === '>'
    ? sql`${sortColumn} >= ${cursor.value} AND ${pair}`
    : sql`(${pair} OR ${sortColumn} IS NULL)`
}

/** How a list with filters is answered: by looking up what the rarest of them gives, or by walking the order asked for. */
import { bounds, counted, remembered } from './counting.ts'
import { first, joined, sql, trusted, type Sql, type Transaction } from './database.ts'
import { limitOf, sortOf, type Found, type Listing, type PageRequest } from './page.ts'

/** One thing that a list is narrowed by. It says nothing of other tables than that of the list. */
export type Condition = {
  /** With `+` before its column no index is used for it. */
  test: (plus: Sql) => Sql
  /** How many rows its index gives, at the least where that is more than a few; absent: it has no index. */
  rows?: () => Promise<number>
  /** The rows that its index gives are those that meet it, each once. */
  isExact?: boolean
  /** The number of rows that meet it, where it alone can be counted. */
  alone?: () => Promise<number>
  /** Sort words whose order an index has of the rows that meet it. */
  walks?: readonly string[]
  /** Sort words in whose order its rows lie together: walking would pass all others first. */
  together?: readonly string[]
}

const plain = trusted('')
const plus = trusted('+')

/** A condition that is nothing but a comparison: `compared('b.name', value => sql`= ${value}`)`. */
export function compared(column: string, comparison: Sql, more: Omit<Condition, 'test'> = {}): Condition {
  return { test: (sign) => sql`${sign}${trusted(column)} ${comparison}`, ...more }
}

/** One of several values; NULL too, where `orNull`. */
export function isOneOf(
  column: string,
  values: readonly string[],
  { orNull = false, ...more }: Omit<Condition, 'test'> & { orNull?: boolean } = {},
): Condition {
  const name = trusted(column)
  return {
    test: (sign) =>
      orNull
        ? sql`(${sign}${name} IN ${values} OR ${sign}${name} IS NULL)`
        : sql`${sign}${name} IN ${values}`,
    ...more,
  }
}

/** Asks until there is an answer; everybody else has a turn in between. */
export async function answerOf<T>(ask: () => Promise<T | null>): Promise<T> {
  for (;;) {
    const answer = await ask()
    if (answer !== null) return answer
  }
}

/** What changes with the named parts of the data. */
export async function revisionOf(tx: Transaction, names: readonly string[]): Promise<string> {
  const rows = await tx.all<{ value: number }>(
    sql`SELECT value FROM generations WHERE name IN ${names} ORDER BY name`,
  )
  return rows.map((row) => row.value).join('.')
}

/** A text inside another, ASCII case folded. */
export function contains(column: Sql, text: string): Sql {
  return likeness(column, `%${escaped(text)}%`)
}

/** A text at the beginning of another, ASCII case folded. */
export function beginsWith(column: Sql, text: string): Sql {
  return likeness(column, `${escaped(text)}%`)
}

function likeness(column: Sql, pattern: string): Sql {
  return sql`${column} LIKE ${pattern} ESCAPE '\\'`
}

/** The text as it is, in a pattern of LIKE. */
function escaped(text: string): string {
  return text.replace(/[\\%_]/g, '\\$&')
}

/** Rows that a question gives, counted up to a few and one. */
export async function someOf(tx: Transaction, query: Sql): Promise<number> {
  return numberOf(tx, sql`SELECT count(*) AS n FROM (${query} LIMIT ${bounds.few + 1})`)
}

/** The `n` of a question that counts. */
export async function numberOf(tx: Transaction, query: Sql): Promise<number> {
  const row = await first(tx.all<{ n: number }>(query))
  return row?.n ?? 0
}

type Narrowed = Found & { total: number }
/** Rows beyond which looking them all up would take longer than anybody may wait. */
const longestLead = 50_000
/** A share of all rows (one in so many) of which a page is walked to at once, wherever they lie. */
const usual = 4

type Lead = { condition: Condition; rows: number }

/**
 * Decides how a page is found, and counts what its filters leave. Every question costs as much as some records of a
 * page, so that those that are asked for often, as lists without filters, are asked for nothing more than they need.
 * @param known how many records the filters leave, where counters know it; they do where there is no filter
 * @param all how many records there are
 * @param revision changes whenever a row might meet other filters than before
 * @returns null: the number is not known yet; ask again, after others
 */
export async function narrowed(
  tx: Transaction,
  listing: Listing & { table: Sql },
  request: PageRequest,
  conditions: readonly Condition[],
  {
    known,
    all,
    revision,
  }: { known: number | null; all: () => Promise<number>; revision: () => Promise<string> },
): Promise<Narrowed | null> {
  const { sort, isWalked } = sortOf(listing, request)
  const [only] = conditions
  if (known !== null && only === undefined) return { total: known, where: [], isLed: !isWalked }
  /** Beyond the few, or of few so many that the next of them is never far. */
  const isUsual = async (n: number): Promise<boolean> =>
    isWalked && (n > bounds.few || n * usual >= (await all()))
  const isEnough = known === 0 || (known !== null && (await isUsual(known)))
  const leads = isEnough ? [] : await leadsOf(conditions)
  const [lead] = leads.filter(({ rows }) => rows <= longestLead)
  let total = known
  const { alone } = conditions.length === 1 && only !== undefined ? only : {}
  const isLookedUp = lead !== undefined && lead.rows <= bounds.few
  const isCounted = isLookedUp && conditions.length === 1 && only?.isExact === true
  if (isLookedUp && (lead.rows === 0 || isCounted)) total = lead.rows
  if (total === null && (isLookedUp || alone !== undefined)) {
    const key = JSON.stringify([listing.table, walking(conditions)])
    const { table } = listing
    total = await remembered(key, await revision(), () =>
      isLookedUp ? countLed(tx, table, conditions, lead.condition) : (alone?.() ?? Promise.resolve(0)),
    )
  }
  // Few that no index leads to are counted too: that tells which they are.
  const isHidden = total !== null && total > 0 && total <= bounds.few && lead === undefined && !isEnough
  if (total === null || isHidden) {
    const found = await counted(tx, {
      table: listing.table,
      id: listing.id,
      conditions: walking(conditions, 'id'),
      revision: await revision(),
    })
    if (found === null) return null
    total ??= found.n
    if (found.ids !== null && !(await isUsual(total)))
      return { total, where: [sql`${trusted(listing.id)} IN ${found.ids}`], isLed: true }
  }
  const isLed =
    lead !== undefined && !(isWalked && (total > bounds.few || (await isDense(lead, total, all, request))))
  if (isLed) return { total, where: led(conditions, lead.condition), isLed: true }
  const together = conditions.find(
    (each) => each.together?.includes(sort) === true && each.walks?.includes(sort) !== true,
  )
  if (together !== undefined && total < (await all()) / 2)
    return { total, where: led(conditions, together), isLed: true }
  return { total, where: walking(conditions, sort), isLed: !isWalked }
}

/** Whether a page is walked to sooner than the rows of a lead are put in order, which takes longer for each. */
async function isDense(
  { rows }: Lead,
  total: number,
  all: () => Promise<number>,
  { limit }: PageRequest,
): Promise<boolean> {
  const inOrder = 4 * rows
  return limitOf(limit) < inOrder && ((await all()) / total) * limitOf(limit) < inOrder
}

/** Conditions that an index has, the rarest first. */
async function leadsOf(conditions: readonly Condition[]): Promise<Lead[]> {
  const leads: Lead[] = []
  for (const condition of conditions)
    if (condition.rows !== undefined) leads.push({ condition, rows: await condition.rows() })
  return leads.sort((a, b) => a.rows - b.rows)
}

function led(conditions: readonly Condition[], lead: Condition): Sql[] {
  return conditions.map((each) => each.test(each === lead ? plain : plus))
}

/** The conditions, looked up by the one that gives few rows; null: none does. */
export async function lookedUp(conditions: readonly Condition[]): Promise<Sql[] | null> {
  const [lead] = await leadsOf(conditions)
  return lead !== undefined && lead.rows <= bounds.few ? led(conditions, lead.condition) : null
}

/** The conditions, tested while the order of a sort word is walked; without one, of any row. */
export function walking(conditions: readonly Condition[], sort = ''): Sql[] {
  return conditions.map((each) => each.test(each.walks?.includes(sort) === true ? plain : plus))
}

function countLed(
  tx: Transaction,
  table: Sql,
  conditions: readonly Condition[],
  lead: Condition,
): Promise<number> {
  const where = joined(led(conditions, lead), ' AND ')
  return numberOf(tx, sql`SELECT count(*) AS n FROM ${table} WHERE ${where}`)
}

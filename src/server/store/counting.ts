/** Numbers that no index and no counter knows, counted some rows at a time, so that everything else goes on meanwhile. */
import { isToldAgain } from '../costly.ts'
import { putNewest } from '../newest.ts'
import { first, joined, sql, trusted, type Row, type Sql, type Transaction } from './database.ts'

/** Rows that are few are looked up and put in order, instead of walking an order to find them; tests lower the number. */
export const bounds = { few: 10_000 }

/** Milliseconds of one turn, and rows between two looks at the clock. */
const turn = 8
const step = 2500
/** Milliseconds: a count that took longer is told again for a while. */
const costly = 100
const mostKept = 200

type Count<T = unknown> = {
  revision: string
  /** The row after which it goes on. */
  at: number
  value: T
  took: number
  madeAt: number | null
}

const counts = new Map<string, Count>()

/** Rows of a table that meet conditions; `revision` changes whenever a row might meet others than before. */
type Counting = {
  /** With its alias, such as `builds h`; more may be joined to it. */
  table: Sql
  /** What tells its rows apart, such as `h.id`. */
  id: string
  conditions: readonly Sql[]
  revision: string
}

type Counted = { n: number; ids: readonly number[] | null }

/**
 * How many rows there are, and while those are few, which.
 * @returns null: it is not done yet; ask again, after others
 */
export function counted(tx: Transaction, counting: Counting): Promise<Counted | null> {
  const id = trusted(counting.id)
  const start: Counted = { n: 0, ids: [] }
  return inTurns(tx, counting, 'number', start, async ({ n, ids }, among) => {
    const query = sql`SELECT count(*) AS n, group_concat(${id}) FILTER (WHERE ${ids !== null}) AS ids ${among}`
    const row = await first(tx.all<{ n: number; ids: string | null }>(query))
    const sum = n + (row?.n ?? 0)
    const more = row?.ids ? row.ids.split(',').map(Number) : []
    return { n: sum, ids: ids === null || sum > bounds.few ? null : [...ids, ...more] }
  })
}

/** A number that is made in one go, told again until the data moves on. */
export async function remembered(
  key: string,
  revision: string,
  make: () => Promise<number>,
): Promise<number> {
  const count = begun(`once ${key}`, revision, 0)
  if (count.madeAt !== null) return count.value
  count.value = await make()
  count.madeAt = performance.now()
  return count.value
}

export type Tally = Row & { word: string; detail: string; n: number }

/**
 * How many rows there are of each kind.
 * @param kind two columns
 * @returns null: it is not done yet; ask again, after others
 */
export function tallied(
  tx: Transaction,
  counting: Counting,
  kind: { word: string; detail: string },
): Promise<Tally[] | null> {
  const [word, detail] = [trusted(kind.word), trusted(kind.detail)]
  const start: Tally[] = []
  return inTurns(tx, counting, `${kind.word} ${kind.detail}`, start, async (known, among) => {
    const rows = await tx.all<Tally>(
      sql`SELECT ${word} AS word, ${detail} AS detail, count(*) AS n ${among} GROUP BY 1, 2`,
    )
    return [...Map.groupBy([...known, ...rows], (row) => `${row.word} ${row.detail}`).values()].flatMap(
      ([one, ...others]) =>
        one === undefined ? [] : [{ ...one, n: others.reduce((sum, { n }) => sum + n, one.n) }],
    )
  })
}

/** Goes through the rows for a turn; null: there are more. */
async function inTurns<T>(
  tx: Transaction,
  { table, id, conditions, revision }: Counting,
  what: string,
  start: T,
  add: (value: T, among: Sql) => Promise<T>,
): Promise<T | null> {
  const where = joined(conditions, ' AND ')
  const count = begun(JSON.stringify([what, table, where]), revision, start)
  if (count.madeAt !== null) return count.value
  const [rowid, own] = [trusted(id), trusted(table.text.split(' ').slice(0, 2).join(' '))]
  const ends = await first(
    tx.all<{ first: number | null; last: number | null }>(
      sql`SELECT (SELECT min(${rowid}) FROM ${own}) AS first, (SELECT max(${rowid}) FROM ${own}) AS last`,
    ),
  )
  const last = ends?.last ?? 0
  count.at = Math.max(count.at, (ends?.first ?? 1) - 1)
  const begin = performance.now()
  while (count.at < last && performance.now() - begin < turn) {
    const to = count.at + step
    count.value = await add(
      count.value,
      sql`FROM ${table} WHERE ${rowid} > ${count.at} AND ${rowid} <= ${to} AND ${where}`,
    )
    count.at = to
  }
  count.took += performance.now() - begin
  if (count.at < last) return null
  count.madeAt = performance.now()
  return count.value
}

/** The count that is kept or under way, while it may be told; else a new one. */
function begun<T>(key: string, revision: string, start: T): Count<T> {
  const known = counts.get(key) as Count<T> | undefined // what the key says
  const isGood =
    known !== undefined &&
    (known.madeAt === null || known.revision === revision || isToldAgain(costly, known.took, known.madeAt))
  const count: Count<T> = isGood ? known : { revision, at: 0, value: start, took: 0, madeAt: null }
  putNewest(counts, key, count, mostKept)
  return count
}

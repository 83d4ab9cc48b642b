/** Numbers that no index and no counter knows, counted some rows at a time, so that everything else goes on meanwhile. */
import { first, joined, sql, trusted, type Sql, type Transaction } from './database.ts'

/** Rows that are few: they are looked up and put in order, instead of walking an order to find them. */
export const few = 10_000

/** Milliseconds of one turn, and rows between two looks at the clock. */
const turn = 8
const step = 2500
/** A count that took long is told again for so many times as long, though the data has moved on. */
const patience = 10
const mostKept = 200

type Count = {
  revision: string
  /** The row after which it goes on. */
  at: number
  n: number
  /** Which rows, as long as they are few. */
  ids: number[] | null
  took: number
  doneAt: number | null
}

const counts = new Map<string, Count>()

export type Counted = { n: number; ids: readonly number[] | null }

/**
 * How many rows of a table meet conditions, and while those are few, which.
 * @param table with its alias, such as `builds h`, whose rows `id` tells apart
 * @param revision changes whenever a row might
 * @returns null: it is not done yet; ask again, after others
 */
export async function counted(
  tx: Transaction,
  table: Sql,
  id: string,
  conditions: readonly Sql[],
  revision: string,
): Promise<Counted | null> {
  const where = joined(conditions, ' AND ')
  const key = JSON.stringify([table, where])
  const count = begun(key, revision)
  if (count.doneAt !== null) return count
  const rowid = trusted(id)
  const ends = await first(
    tx.all<{ first: number | null; last: number | null }>(
      sql`SELECT (SELECT min(${rowid}) FROM ${table}) AS first, (SELECT max(${rowid}) FROM ${table}) AS last`,
    ),
  )
  const last = ends?.last ?? 0
  count.at = Math.max(count.at, (ends?.first ?? 1) - 1)
  const start = performance.now()
  while (count.at < last && performance.now() - start < turn) {
    const among = sql`FROM ${table} WHERE ${rowid} > ${count.at} AND ${rowid} <= ${count.at + step} AND ${where}`
    const query =
      count.ids === null
        ? sql`SELECT count(*) AS n, NULL AS ids ${among}`
        : sql`SELECT count(*) AS n, group_concat(${rowid}) AS ids ${among}`
    const row = await first(tx.all<{ n: number; ids: string | null }>(query))
    count.n += row?.n ?? 0
    if (count.ids !== null && row?.ids) count.ids.push(...row.ids.split(',').map(Number))
    if (count.n > few) count.ids = null
    count.at += step
  }
  count.took += performance.now() - start
  if (count.at < last) return null
  count.doneAt = performance.now()
  return count
}

/** The count that is kept or under way, while it may be told; else a new one. */
function begun(key: string, revision: string): Count {
  const known = counts.get(key)
  const isGood =
    known !== undefined &&
    (known.doneAt === null ||
      known.revision === revision ||
      performance.now() - known.doneAt < patience * known.took)
  const count = isGood ? known : { revision, at: 0, n: 0, ids: [], took: 0, doneAt: null }
  counts.delete(key)
  counts.set(key, count)
  for (const oldest of counts.keys()) {
    if (counts.size <= mostKept) break
    counts.delete(oldest)
  }
  return count
}

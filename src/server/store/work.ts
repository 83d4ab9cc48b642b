import type { Database, Sql, Transaction } from './database.ts'

/**
 * Work that the database's thread does by itself, in one transaction: between its questions nothing has to go from
 * thread to thread, and what waits at the same moment shares one commit. It may run twice (once more by itself where
 * another of its group failed), so it does nothing but ask and change the database.
 */
type Work = (tx: Transaction, input: never) => Promise<unknown>

const known = new Map<string, Work>()
/** Work that nobody is told of before later work is on disk: its commit needs no fsync of its own. */
const preliminary = new Set<string>()

/**
 * Declares work. Input and result go from thread to thread, so they are plain data; a module that declares work is
 * imported by thread.ts of the server, which is where it runs.
 * @returns what runs it: in the transaction given, or in one of its own
 */
export function work<I, R>(
  name: string,
  run: (tx: Transaction, input: I) => Promise<R>,
): (db: Database | Transaction, input: I) => Promise<R> {
  known.set(name, run)
  return (db, input) => ('run' in db ? (db.run(name, input) as Promise<R>) : run(db, input)) // what `run` resolves with
}

/** The same for a part of something larger, of which nothing is told before its last part is done. */
export const part: typeof work = (name, run) => {
  preliminary.add(name)
  return work(name, run)
}

/** Whether this work is a part, after which nothing is told yet. */
export function isPreliminary(name: string): boolean {
  return preliminary.has(name)
}

/** The same for questions, which change nothing: they need no transaction. */
export function question<I, R>(
  name: string,
  run: (tx: Transaction, input: I) => Promise<R>,
): (db: Database | Transaction, input: I) => Promise<R> {
  known.set(name, run)
  return (db, input) => ('ask' in db ? (db.ask(name, input) as Promise<R>) : run(db, input)) // what `run` resolves with
}

/** Work by its name. */
export function workNamed(name: string): Work {
  const found = known.get(name)
  if (found === undefined) throw new Error(`the database's thread knows no work called ${name}`)
  return found
}

/** Statements in one transaction, for what needs no thought between them; the rows of each. */
export const written = work('statements', (tx, queries: readonly Sql[]) => tx.batch(queries))

import type { Engine } from '../engine.ts'

export type Transactions = ReturnType<typeof openTransactions>

/**
 * Begins and ends transactions.
 * @param changes counts those that were committed or taken back
 */
export function openTransactions(sqlite: Engine, changes: Int32Array<SharedArrayBuffer>) {
  let isSyncing = true
  return {
    /** In the log a commit is whole or not there, synced or not (sqlite.org/pragma.html#pragma_synchronous). */
    begin(isSynced: boolean): void {
      if (isSynced !== isSyncing) sqlite.do(`PRAGMA synchronous = ${isSynced ? 'full' : 'normal'}`)
      isSyncing = isSynced
      sqlite.do('BEGIN IMMEDIATE')
    },
    commit(): void {
      sqlite.do('COMMIT')
      Atomics.add(changes, 0, 1)
    },
    /** What was seen of it meanwhile is not so. */
    undo(): void {
      try {
        sqlite.do('ROLLBACK')
      } catch {
        // SQLite has done it itself where the disk is full
      }
      Atomics.add(changes, 0, 1)
    },
  }
}

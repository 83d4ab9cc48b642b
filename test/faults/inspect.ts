import { copyFileSync, existsSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import type { Row } from '../../src/server/store/database.ts'
import type { Reader } from '../../src/server/store/maintenance.ts'

/**
 * Opens a copy of a database, with its log, as it lies on disk: nobody's work is disturbed by looking. The runtime's
 * own SQLite looks, not ours: a second opinion, and it opens in a millisecond.
 */
export async function onCopy<T>(file: string, look: (db: Reader) => Promise<T>): Promise<T> {
  const folder = mkdtempSync(join(tmpdir(), 'rebuilderd-look-'))
  try {
    const copy = join(folder, 'copy.db')
    for (const suffix of ['', '-wal'])
      if (existsSync(file + suffix)) copyFileSync(file + suffix, copy + suffix)
    const opened = new DatabaseSync(copy)
    try {
      return await look(readerOf(opened))
    } finally {
      opened.close()
    }
  } finally {
    rmSync(folder, { recursive: true, force: true })
  }
}

function readerOf(opened: DatabaseSync): Reader {
  const rowsOf = (text: string, values: readonly (string | number | null)[]): Row[] =>
    opened.prepare(text).all(...values) as Row[] // we store no blobs
  return { all: async ({ text, values }) => rowsOf(text, values) as never } // rows as the caller named them
}

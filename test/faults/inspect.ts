import { copyFileSync, existsSync, mkdtempSync } from 'node:fs'
import { rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Database } from '../../src/server/store/database.ts'
import { openSqlite } from '../../src/server/store/sqlite.ts'

/** Opens a copy of a database, with its log, as it lies on disk: nobody's work is disturbed by looking. */
export async function onCopy<T>(file: string, look: (db: Database) => Promise<T>): Promise<T> {
  const folder = mkdtempSync(join(tmpdir(), 'rebuilderd-look-'))
  try {
    const copy = join(folder, 'copy.db')
    for (const suffix of ['', '-wal'])
      if (existsSync(file + suffix)) copyFileSync(file + suffix, copy + suffix)
    const db = await openSqlite(copy)
    try {
      return await look(db)
    } finally {
      await db.close()
    }
  } finally {
    await rm(folder, { recursive: true, force: true })
  }
}

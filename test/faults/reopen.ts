/** A thread that opens the database of power.ts as a server does, and tells what it finds in it. */
import { parentPort } from 'node:worker_threads'
import { compiledSqlite } from '../../src/server/store/compiled.ts'
import { openSqlFile } from '../../src/server/store/sqljs.ts'
import { pragmas } from '../../src/server/store/thread.ts'

export type Found = { integrity: string; sum: number; commits: number; last: number } | { trouble: string }

const sqlite = compiledSqlite()

/** @param path the same each time: sql.js is one for each thread, and was told once which file to open */
async function foundIn(path: string): Promise<Found> {
  const { file } = await openSqlFile(path, sqlite)
  try {
    for (const pragma of pragmas) file.exec(`PRAGMA ${pragma}`)
    const valueOf = (question: string): unknown => file.exec(question)[0]?.values[0]?.[0]
    return {
      integrity: String(valueOf('PRAGMA integrity_check')),
      sum: Number(valueOf('SELECT sum(balance) FROM account')),
      commits: Number(valueOf('SELECT count(*) FROM log')),
      last: Number(valueOf('SELECT coalesce(max(id), 0) FROM log')),
    }
  } finally {
    file.close()
  }
}

parentPort?.on('message', (path: string) => {
  foundIn(path)
    .catch((error: unknown): Found => ({ trouble: error instanceof Error ? error.message : String(error) }))
    .then((found) => parentPort?.postMessage(found))
    .catch(() => process.exit(1))
})

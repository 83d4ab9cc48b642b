import type { Database } from './store/database.ts'
import { readingTogether } from './turns.ts'

/**
 * Reads something of a database, and again only once anything in it may have changed. Those who ask at the same moment
 * share a reading.
 * @returns a function that tells what was read; whoever has been told of a change is told what came of it
 */
export function readUntilChange<T>(db: Database, read: () => Promise<T>): () => Promise<T> {
  const together = readingTogether<T>()
  let kept: { change: number; value: Promise<T> } | null = null
  return () => {
    const change = db.change?.() // before it is read: what comes in between is read again
    if (change === undefined) return together('', read)
    if (kept?.change === change) return kept.value
    const reading = { change, value: together('', read) }
    kept = reading
    reading.value.catch(() => {
      if (kept === reading) kept = null
    })
    return reading.value
  }
}

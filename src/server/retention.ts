import { wireTime } from '../wire/schema.ts'
import type { Database } from './store/database.ts'
import { touched } from './store/imports.ts'
import { inputsAfter, outlivedBuilds, withoutLogs } from './store/retention.ts'
import { written } from './store/work.ts'

/** Inputs looked at, and builds changed, in one go: everything else is answered between two of them. */
const inputsAtOnce = 200
const buildsAtOnce = 200

/**
 * Takes logs and diffs from all but the newest attempts of every build input. Verdicts, evidence and attestations
 * stay for ever, and so does everything of an attempt that is the latest result of its input or of one of its files.
 * @param kept attempts per input that keep their logs and diffs; 0: all of them
 * @returns how many builds lost their log
 */
export async function forgetLogs(
  db: Database,
  kept: number,
  moment: Date,
  signal: AbortSignal,
): Promise<number> {
  if (kept === 0) return 0
  const now = wireTime(moment)
  let [forgotten, after] = [0, 0]
  for (;;) {
    const inputs = await inputsAfter(db, after, inputsAtOnce)
    const last = inputs.at(-1)
    if (last === undefined || signal.aborted) return forgotten
    after = last
    forgotten += await forgetThose(db, inputs, kept, now, signal)
  }
}

async function forgetThose(
  db: Database,
  inputs: readonly number[],
  kept: number,
  now: string,
  signal: AbortSignal,
): Promise<number> {
  let forgotten = 0
  for (;;) {
    const ids = await outlivedBuilds(db, inputs, kept, buildsAtOnce)
    if (ids.length === 0 || signal.aborted) return forgotten
    const [, , changedRows = []] = await written(db, [...withoutLogs(ids, now), touched(now, 'builds')])
    const changed = changedRows.length
    forgotten += changed
    if (changed === 0) return forgotten // all of them have become a latest result meanwhile
  }
}

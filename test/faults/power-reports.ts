import { createHash } from 'node:crypto'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { once } from 'node:events'
import { rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Worker } from 'node:worker_threads'
import { sql } from '../../src/server/store/database.ts'
import { damageOf, type Reader } from '../../src/server/store/maintenance.ts'
import { seeded } from '../bench/data.ts'
import { remains, type Files } from './disk.ts'
import { onCopy } from './inspect.ts'
import { paced, type FaultReport, type Goal } from './report.ts'
import type { Recorded, Recording } from './reporting.ts'

const jobs = 60

/**
 * Loses power while reports are taken: of what was not synced of logs and rows alike, each write and each name is
 * kept, dropped or torn by chance. Every report that was acknowledged must be there, and every log that a row names.
 */
export async function powerLossesOfReports(goal: Goal): Promise<FaultReport> {
  const folder = mkdtempSync(join(tmpdir(), 'rebuilderd-power-'))
  const random = seeded(Date.now() % 100_000)
  const losses: string[] = []
  try {
    const { steps, start } = await recordedIn({ folder, jobs })
    const goesOn = paced(goal)
    let [cuts, named] = [0, 0]
    while (goesOn(cuts) && losses.length < 10) {
      cuts += 1
      const cut = start + Math.floor(random() * (steps.length - start))
      const empty = [`${folder}/`, join(folder, 'p.db')].map((path) => [path, Buffer.alloc(0)] as const)
      const { files, acknowledged } = remains(new Map(empty), steps.slice(0, cut), random)
      const found = await wrongAfter(folder, files, acknowledged)
      named += found.named
      losses.push(...found.wrong.map((wrong) => `cut ${cuts} at step ${cut} of ${steps.length}: ${wrong}`))
    }
    const counts = { cuts, steps: steps.length, reports: jobs, 'logs that rows named': named }
    return { name: 'simulated power loss while reports are taken', counts, losses }
  } finally {
    await rm(folder, { recursive: true, force: true })
  }
}

async function recordedIn(recording: Recording): Promise<Recorded> {
  const thread = new Worker(new URL('./reporting.ts', import.meta.url), { workerData: recording })
  const [found] = (await once(thread, 'message')) as [Recorded] // reporting.ts sends nothing else
  const plain = found.steps.map((step) =>
    step.kind === 'write' ? { ...step, bytes: Buffer.from(step.bytes) } : step,
  )
  return { ...found, steps: plain }
}

async function wrongAfter(
  folder: string,
  files: Files,
  acknowledged: readonly number[],
): Promise<{ wrong: string[]; named: number }> {
  const copy = join(folder, 'cut.db')
  for (const suffix of ['', '-wal']) {
    rmSync(copy + suffix, { force: true })
    const bytes = files.get(join(folder, `p.db${suffix}`))
    if (bytes !== undefined) writeFileSync(copy + suffix, bytes)
  }
  return onCopy(copy, async (db) => {
    const damage = await damageOf(db)
    if (damage.length > 0) return { wrong: damage, named: 0 }
    const { wrong, named } = await spoiltLogs(db, join(folder, 'blobs'), files)
    return { wrong: [...wrong, ...(await lostReports(db, acknowledged))], named }
  })
}

async function spoiltLogs(
  db: Reader,
  folder: string,
  files: Files,
): Promise<{ wrong: string[]; named: number }> {
  const rows = await db.all<{ sha256: string }>(sql`SELECT sha256 FROM blobs`)
  const isThere = (sha256: string): boolean => {
    const bytes = files.get(join(folder, sha256.slice(0, 2), sha256))
    return bytes !== undefined && createHash('sha256').update(bytes).digest('hex') === sha256
  }
  const wrong = rows
    .filter(({ sha256 }) => !isThere(sha256))
    .map(({ sha256 }) => `the log ${sha256} is named and not there as it was`)
  return { wrong, named: rows.length }
}

async function lostReports(db: Reader, acknowledged: readonly number[]): Promise<string[]> {
  const rows = await db.all<{ job_id: number }>(
    sql`SELECT l.job_id FROM builds h JOIN leases l ON l.id = h.lease_id`,
  )
  const kept = new Set(rows.map((row) => row.job_id))
  return acknowledged
    .filter((job) => !kept.has(job))
    .map((job) => `the report on job ${job} was acknowledged and is missing`)
}

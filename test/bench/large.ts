import { createHash } from 'node:crypto'
import { existsSync, statSync } from 'node:fs'
import { cp, mkdir, rename, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { importReport, type ImportOptions } from '../../src/server/imports.ts'
import { sql, trusted, type Database } from '../../src/server/store/database.ts'
import { migrate, migrations } from '../../src/server/store/schema.ts'
import { openSqlite } from '../../src/server/store/sqlite.ts'
import { writeWorker } from '../../src/server/store/workers.ts'
import { reportOf, trixie } from './data.ts'

/** How much history the large database has. */
type LargeShape = { releases: number; binaries: number; sources: number; attempts: number }

/** 500,000 binaries, 255,000 inputs, 2,000,000 builds. */
export const half: LargeShape = { releases: 14, binaries: 35_135, sources: 17_897, attempts: 8 }

/** Releases to tell apart the packages of; each has friends in none. */
const releaseNames = Array.from({ length: 32 }, (_, index) =>
  index === 0 ? trixie.release : `release-${index}`,
)

/**
 * A data folder with a long history, made once and kept: through the importer, then with builds written by
 * statements that do what so many reports would have done.
 * @returns the folder; a server may be started on a copy of it
 */
export async function largeData(
  folder: string,
  shape: LargeShape,
  tell: (text: string) => void,
): Promise<string> {
  const schema = createHash('sha256').update(migrations.join()).digest('hex').slice(0, 8)
  const name = `large-${shape.releases}x${shape.binaries}x${shape.attempts}-${schema}-2`
  const data = join(folder, name)
  if (existsSync(join(data, 'rebuilderd.db'))) return data
  const making = join(folder, `${name}.making`)
  await rm(making, { recursive: true, force: true })
  await mkdir(making, { recursive: true, mode: 0o700 })
  const file = join(making, 'rebuilderd.db')
  const db = await openSqlite(file)
  try {
    await migrate(db, file)
    await importAll(db, shape, tell)
    await writeHistory(db, shape, tell)
    await writeDays(db)
  } finally {
    await db.close()
  }
  await rename(making, data)
  return data
}

/** Bytes of the database that a start is measured on. */
const twoGigabytes = 2 * 1024 ** 3
/** Builds added in one transaction. */
const buildsAtOnce = 20_000

/**
 * The same with as much more history as makes a database of two gigabytes, made once and kept.
 * @param made the folder that `largeData` made
 */
export async function twoGigabyteData(made: string, tell: (text: string) => void): Promise<string> {
  const data = `${made}-2gb`
  if (existsSync(join(data, 'rebuilderd.db'))) return data
  const making = `${data}.making`
  await rm(making, { recursive: true, force: true })
  await cp(made, making, { recursive: true })
  const file = join(making, 'rebuilderd.db')
  const db = await openSqlite(file)
  try {
    for (let from = 1; statSync(file).size < twoGigabytes; from += buildsAtOnce) {
      await db.transaction((tx) =>
        tx.all(sql`
          INSERT INTO builds (build_input_id, is_latest, started_at, built_at, decided_at, status, reason, retries, worker, worker_key)
          SELECT build_input_id, 0, started_at, built_at, decided_at, status, reason, retries, worker, worker_key
            FROM builds WHERE id >= ${from} AND id < ${from + buildsAtOnce}`),
      )
      if (from % (20 * buildsAtOnce) === 1)
        tell(`${Math.round(statSync(file).size / 1e6)} MB of two gigabytes`)
    }
  } finally {
    await db.close()
  }
  await rename(making, data)
  return data
}

const schedule: ImportOptions['schedule'] = {
  retryDelayHours: 24,
  maxRetries: null,
  infrastructureRetryMinutes: 10,
  infrastructureMaxRetries: 8,
  initialDelaySeconds: 0,
  leaseSeconds: 540,
  rules: [],
}

async function importAll(db: Database, shape: LargeShape, tell: (text: string) => void): Promise<void> {
  const options = { schedule, shrinkLimitPercent: 50, force: false, now: () => new Date() }
  for (const [index, release] of releaseNames.slice(0, shape.releases).entries()) {
    const { sources, binaries } = shape
    const startedAt = performance.now()
    await importReport(db, reportOf({ seed: index + 1, sources, binaries, release }), options)
    tell(`${release} imported in ${Math.round(performance.now() - startedAt)} ms`)
  }
}

/** Inputs whose history is written in one transaction. */
const step = 2000

async function writeHistory(db: Database, shape: LargeShape, tell: (text: string) => void): Promise<void> {
  const [row] = await db.all<{ last: number }>(sql`SELECT coalesce(max(id), 0) AS last FROM build_inputs`)
  const last = row?.last ?? 0
  const worker = { key: 'history', name: 'history', address: '127.0.0.1', tags: '[]' }
  await db.transaction((tx) => writeWorker(tx, worker, '2026-01-01T00:00:00'))
  for (let from = 1; from <= last; from += step) {
    await db.transaction(async (tx) => {
      for (const statement of historyOf(from, from + step, shape.attempts)) await tx.all(statement)
    })
    if (Math.floor(from / step) % 10 === 0) tell(`history of ${from} of ${last} inputs written`)
  }
}

/** Ninety days of numbers and twenty thousand changes of verdicts, for the pages. */
async function writeDays(db: Database): Promise<void> {
  const days = numbers(90).map((back) => new Date(Date.now() - back * 86_400_000).toISOString().slice(0, 10))
  await db.transaction(async (tx) => {
    for (const [back, day] of days.entries())
      await tx.all(sql`
        INSERT INTO snapshots (day, scope_id, status, reason, n)
        SELECT ${day}, scope_id, status, reason, max(0, n - ${back} * 20) FROM input_counts WHERE seen = 1 AND n > 0`)
    await tx.all(sql`
      INSERT INTO changes (at, build_id, release_id, name, version, architecture, status, reason, before, turn)
      SELECT i.decided_at, i.build_id, s.release_id, s.name, s.version, 'amd64', i.status, i.reason,
             CASE i.id % 3 WHEN 0 THEN 'GOOD' ELSE 'FAIL' END, 1 + i.id % 3
        FROM build_inputs i JOIN source_packages s ON s.id = i.source_package_id
       WHERE i.id % 12 < 3 AND i.build_id IS NOT NULL LIMIT 20000`)
  })
}

/** Builds, their artifacts and the latest results of some inputs: of five the first is GOOD, one FAIL, three BAD. */
function historyOf(from: number, to: number, attempts: number) {
  const among = sql`build_input_id >= ${from} AND build_input_id < ${to}`
  const inputs = sql`id >= ${from} AND id < ${to}`
  const status = trusted(`CASE i.id % 5 WHEN 0 THEN 'GOOD' WHEN 1 THEN 'FAIL' ELSE 'BAD' END`)
  const reason = trusted(
    `CASE i.id % 5 WHEN 0 THEN NULL WHEN 1 THEN 'build_failed' ELSE 'content_differs' END`,
  )
  return [
    sql`INSERT INTO builds (build_input_id, is_latest, started_at, built_at, decided_at, status, reason, retries, worker, worker_key)
        SELECT i.id, n.value = ${attempts}, '2026-10-01T10:00:00', '2026-10-01T10:10:00',
               '2026-10-' || printf('%02d', 1 + (i.id + n.value) % 28) || 'T10:11:12.123', ${status}, ${reason}, n.value, 'worker-' || (i.id % 40), 'history'
          FROM build_inputs i JOIN json_each(${JSON.stringify(numbers(attempts))}) n
         WHERE i.id >= ${from} AND i.id < ${to} ORDER BY n.value, i.id`,
    sql`INSERT INTO artifacts (build_id, name, url, file, status, reason, sha256, size, rebuilt_sha256, rebuilt_size, first_difference)
        SELECT h.id, b.name, b.url, b.file, h.status, h.reason, b.sha256, b.size, b.sha256, b.size, 1234
          FROM builds h JOIN binary_packages b ON b.build_input_id = h.build_input_id
         WHERE h.build_input_id >= ${from} AND h.build_input_id < ${to} AND h.status <> 'FAIL' AND h.is_latest = 1`,
    sql`UPDATE build_inputs SET (status, reason, build_id, decided_at) =
          (SELECT status, reason, id, decided_at FROM builds WHERE build_input_id = build_inputs.id AND is_latest = 1),
          needs_work = CASE id % 5 WHEN 0 THEN 0 ELSE 1 END
         WHERE ${inputs}`,
    sql`UPDATE binary_packages SET
          (status, reason, build_id, decided_at) =
            (SELECT status, reason, id, decided_at FROM builds WHERE build_input_id = binary_packages.build_input_id AND is_latest = 1),
          artifact_id = (SELECT a.id FROM artifacts a WHERE a.build_id = (SELECT id FROM builds WHERE build_input_id = binary_packages.build_input_id AND is_latest = 1) LIMIT 1)
         WHERE ${among}`,
    sql`UPDATE source_packages SET (status, reason, build_id, decided_at) =
          (SELECT status, reason, build_id, decided_at FROM build_inputs WHERE source_package_id = source_packages.id LIMIT 1)
         WHERE id IN (SELECT source_package_id FROM build_inputs WHERE ${inputs})`,
    sql`DELETE FROM jobs WHERE ${among} AND build_input_id % 5 = 0`,
    sql`UPDATE friend_groups SET retries = ${attempts} WHERE id IN (SELECT group_id FROM build_inputs WHERE ${inputs})`,
  ]
}

function numbers(count: number): number[] {
  return Array.from({ length: count }, (_, index) => index + 1)
}

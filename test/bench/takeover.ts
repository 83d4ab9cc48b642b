import { execFile } from 'node:child_process'
import { mkdir } from 'node:fs/promises'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { trusted } from '../../src/server/store/database.ts'
import { openSqlite } from '../../src/server/store/sqlite.ts'
import { anUpstreamDatabase } from '../help/upstream-database.ts'
import type { Add } from './measure.ts'

/** Packages that are written out, and how often they are copied; each has two binaries and two attempts with logs. */
const [written, copies] = [100, 175]
const distance = 100_000

/** A database as upstream's daemon has it: 35,000 binaries, 35,000 builds, each with a log of its own. */
async function manyPackages(file: string): Promise<void> {
  await anUpstreamDatabase(file, { sources: written })
  const db = await openSqlite(file)
  const multiplied = (table: string, columns: Readonly<Record<string, string>>): string => {
    const [names, values] = [Object.keys(columns).join(', '), Object.values(columns).join(', ')]
    return `INSERT INTO ${table} (${names}) SELECT ${values} FROM ${table}, (SELECT value AS k FROM json_each('[${numbers}]')) WHERE id < ${distance}`
  }
  const numbers = Array.from({ length: copies - 1 }, (_, index) => index + 1).join(',')
  const id = `id + k * ${distance}`
  const also = (...names: string[]): Record<string, string> =>
    Object.fromEntries(names.map((name) => [name, name]))
  const moved = (...names: string[]): Record<string, string> =>
    Object.fromEntries(names.map((name) => [name, `${name} + k * ${distance}`]))
  const statements = [
    multiplied('source_packages', {
      id,
      name: `name || '-' || k`,
      ...also('version', 'distribution', 'release', 'last_seen', 'seen_in_last_sync'),
    }),
    multiplied('build_inputs', {
      id,
      ...moved('source_package_id'),
      url: `url || '.' || k`,
      ...also('backend', 'architecture', 'retries', 'next_retry'),
    }),
    multiplied('binary_packages', {
      id,
      ...moved('source_package_id', 'build_input_id'),
      name: `name || '-' || k`,
      ...also('version', 'component', 'architecture'),
      artifact_url: `artifact_url || '.' || k`,
    }),
    multiplied('build_logs', {
      id,
      build_log: `CAST('log ' || id || ' ' || k || char(10) || hex(randomblob(1000)) AS BLOB)`,
    }),
    multiplied('diffoscope_logs', { id, ...also('diffoscope_log') }),
    multiplied('attestation_logs', { id, ...also('attestation_log') }),
    multiplied('rebuilds', {
      id,
      ...moved('build_input_id', 'build_log_id'),
      ...also('started_at', 'built_at', 'status'),
    }),
    multiplied('rebuild_artifacts', {
      id,
      ...moved('rebuild_id', 'diffoscope_log_id', 'attestation_log_id'),
      name: `name || '-' || k`,
      ...also('status'),
    }),
  ]
  await db.transaction((tx) => tx.batch(statements.map((statement) => trusted(statement))))
  await db.close()
}

/** Seconds in which `ctl db import` takes such a database over. */
export async function measureTakeover(folder: string, executable: string | null, add: Add): Promise<void> {
  await mkdir(folder, { recursive: true })
  const file = join(folder, 'upstream.db')
  await manyPackages(file)
  const main = fileURLToPath(new URL('../../src/main.ts', import.meta.url))
  const [program, first] = executable === null ? [process.execPath, [main]] : [executable, []]
  const start = performance.now()
  const args = [...first, 'ctl', 'db', 'import', file, '--data', join(folder, 'taken')]
  const { stdout, stderr } = await promisify(execFile)(program, args, { maxBuffer: 1 << 26 })
  const value = (performance.now() - start) / 1000
  const note = `${stdout}${stderr}`.trim().split('\n').at(-1) ?? ''
  add({ group: 'takeover', what: 'of 35,000 binaries with 35,000 builds', value, unit: 's', note })
}

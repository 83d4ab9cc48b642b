import { createHash } from 'node:crypto'
import { closeSync, fsyncSync, mkdtempSync, openSync, rmSync, writeSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import initSqlJs from 'sql.js'
import { reportOf, trixie } from './data.ts'
import { quantile } from './drive.ts'
import type { Add } from './measure.ts'

/** How often each load is run: the fastest tells what the machine can do. */
const runs = 7
/** Syncs of one run. */
const syncs = 100

/**
 * Work that is always the same and has nothing to do with the server. Machines differ, and one machine from day to day by a
 * factor of two: figures of two tables compare as far as these rows of them agree.
 * @param when what is said of the moment: `at the start`
 */
export async function measureReference(when: string, add: Add): Promise<void> {
  const group = 'reference load'
  const note = 'JSON, SHA-256 and SQLite in WebAssembly'
  const { report, database } = await prepared()
  const computed = fastest(() => compute(report, database))
  database.close()
  add({ group, what: `one processor, ${when}`, value: computed, unit: 'ms', note })
  add({ group, what: `fsync of 4 kB, ${when}`, value: syncing(), unit: 'ms p50' })
}

async function prepared() {
  const SQL = await initSqlJs()
  const report = JSON.stringify(reportOf({ ...trixie, sources: 1000, binaries: 2000 }))
  return { report, database: new SQL.Database() }
}

/** Reads a report, hashes it, and writes its packages into a table with two indexes. */
function compute(report: string, database: initSqlJs.Database): void {
  const { packages } = JSON.parse(report) as ReturnType<typeof reportOf> // made above
  for (let round = 0; round < 40; round++) createHash('sha256').update(report).digest('hex')
  database.run(
    'CREATE TABLE p (id INTEGER PRIMARY KEY, name TEXT, version TEXT, url TEXT, UNIQUE (name, version, url))',
  )
  database.run('CREATE INDEX p_by_url ON p (url)')
  const insert = database.prepare('INSERT INTO p (name, version, url) VALUES (?, ?, ?)')
  for (const { artifacts } of packages)
    for (const { name, version, url } of artifacts) insert.run([name, version, url])
  insert.free()
  database.run('DROP TABLE p')
}

function fastest(work: () => void): number {
  const times = Array.from({ length: runs }, () => {
    const start = performance.now()
    work()
    return performance.now() - start
  })
  return Math.min(...times)
}

/** Milliseconds until four kilobytes at the end of a file are on the disk that the data folders lie on. */
function syncing(): number {
  const folder = mkdtempSync(join(tmpdir(), 'rebuilderd-bench-'))
  const file = openSync(join(folder, 'synced'), 'w')
  try {
    const times = Array.from({ length: syncs }, () => {
      const start = performance.now()
      writeSync(file, new Uint8Array(4096).fill(7))
      fsyncSync(file)
      return performance.now() - start
    })
    return quantile(times, 0.5)
  } finally {
    closeSync(file)
    rmSync(folder, { recursive: true })
  }
}

/** Databases as upstream's daemon has them, made by the test. */
import { zstdCompressSync } from 'node:zlib'
import { trusted } from '../../src/server/store/database.ts'
import { openSqlite } from '../../src/server/store/sqlite.ts'

export type UpstreamVersion = '0.26' | '0.28'

const steps = ['20250601095202', '20250831145144', '202605191338530000', '202605260933440000']

function tablesOf(version: UpstreamVersion): string[] {
  const [onSource, onBinary] = version === '0.26' ? [', component TEXT', ''] : ['', ', component TEXT']
  return [
    `CREATE TABLE source_packages (id INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT NOT NULL, version TEXT NOT NULL,
      distribution TEXT NOT NULL, release TEXT${onSource}, last_seen DATETIME NOT NULL, seen_in_last_sync BOOLEAN NOT NULL)`,
    `CREATE TABLE build_inputs (id INTEGER PRIMARY KEY AUTOINCREMENT,
      source_package_id INTEGER NOT NULL REFERENCES source_packages(id) ON DELETE CASCADE, url TEXT NOT NULL,
      backend TEXT NOT NULL, architecture TEXT NOT NULL, retries INTEGER NOT NULL, next_retry DATETIME)`,
    `CREATE TABLE binary_packages (id INTEGER PRIMARY KEY AUTOINCREMENT, source_package_id INTEGER NOT NULL,
      build_input_id INTEGER NOT NULL, name TEXT NOT NULL, version TEXT NOT NULL${onBinary}, architecture TEXT NOT NULL,
      artifact_url TEXT NOT NULL)`,
    `CREATE TABLE queue (id INTEGER PRIMARY KEY AUTOINCREMENT, build_input_id INTEGER NOT NULL UNIQUE,
      priority INTEGER NOT NULL, queued_at DATETIME NOT NULL, started_at DATETIME, worker INTEGER, last_ping DATETIME)`,
    `CREATE TABLE build_logs (id INTEGER PRIMARY KEY AUTOINCREMENT, build_log BLOB NOT NULL)`,
    `CREATE TABLE diffoscope_logs (id INTEGER PRIMARY KEY AUTOINCREMENT, diffoscope_log BLOB NOT NULL)`,
    `CREATE TABLE attestation_logs (id INTEGER PRIMARY KEY AUTOINCREMENT, attestation_log BLOB NOT NULL)`,
    `CREATE TABLE rebuilds (id INTEGER PRIMARY KEY AUTOINCREMENT, build_input_id INTEGER NOT NULL, started_at DATETIME,
      built_at DATETIME, build_log_id INTEGER NOT NULL, status TEXT)`,
    `CREATE TABLE rebuild_artifacts (id INTEGER PRIMARY KEY AUTOINCREMENT, rebuild_id INTEGER NOT NULL, name TEXT NOT NULL,
      diffoscope_log_id INTEGER, attestation_log_id INTEGER, status TEXT)`,
    `CREATE TABLE workers (id INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT NOT NULL, key TEXT NOT NULL UNIQUE,
      address TEXT NOT NULL, status TEXT, last_ping DATETIME NOT NULL, online BOOLEAN NOT NULL)`,
    `CREATE TABLE __diesel_schema_migrations (version VARCHAR(50) PRIMARY KEY NOT NULL, run_on TIMESTAMP)`,
    ...(version === '0.26' ? steps.slice(0, 2) : steps).map(
      (step) => `INSERT INTO __diesel_schema_migrations VALUES ('${step}', '2026-01-01 00:00:00')`,
    ),
  ]
}

/** Bytes as SQL writes them. */
function blob(text: string, isPacked = true): string {
  const bytes = Buffer.from(text)
  return `X'${(isPacked ? zstdCompressSync(bytes) : bytes).toString('hex')}'`
}

/** A row whose members are written as SQL has them. */
function row(table: string, values: Readonly<Record<string, string | number | null>>): string {
  const written = Object.values(values).map((value) =>
    value === null ? 'NULL' : typeof value === 'number' || value.startsWith("X'") ? value : `'${value}'`,
  )
  return `INSERT INTO ${table} (${Object.keys(values).join(', ')}) VALUES (${written.join(', ')})`
}

const seen = { last_seen: '2026-11-01 10:00:00.123456789', seen_in_last_sync: 1 }

/**
 * `sources` packages p1, p2, … of trixie for amd64 with two binaries each and two attempts: the first BAD with a
 * diff, the second GOOD with an attestation for odd ones, BAD for even ones. The first package is in sid, too, as a
 * friend; the second one waits, the third has left.
 */
export async function anUpstreamDatabase(
  file: string,
  { version = '0.28', sources = 3 }: { version?: UpstreamVersion; sources?: number } = {},
): Promise<void> {
  const db = await openSqlite(file)
  const component = { component: 'main' }
  const [onSource, onBinary] = version === '0.26' ? [component, {}] : [{}, component]
  const lines = tablesOf(version)
  lines.push(
    row('workers', {
      name: 'w1',
      key: 'KEY1',
      address: '192.0.2.1',
      status: 'idle',
      last_ping: '2026-11-02 00:00:00',
      online: 1,
    }),
  )
  for (let n = 1; n <= sources + 1; n++) {
    const isFriend = n > sources // p1 again, in sid
    const name = isFriend ? 'p1' : `p${n}`
    const gone = n === 3 ? { seen_in_last_sync: 0 } : {}
    const id = 10 * n
    lines.push(
      row('source_packages', {
        id,
        name,
        version: '1.0-1',
        distribution: 'debian',
        release: isFriend ? 'sid' : 'trixie',
        ...onSource,
        ...seen,
        ...gone,
      }),
      row('build_inputs', {
        id,
        source_package_id: id,
        url: `https://buildinfos.example/${name}.buildinfo`,
        backend: 'debian',
        architecture: 'amd64',
        retries: 2,
        next_retry: n % 2 === 0 ? '2027-01-01 00:00:00' : null,
      }),
    )
    for (const [index, binary] of [name, `lib${name}`].entries()) {
      const url = `http://mirror.example/pool/${binary}_1.0-1_amd64.deb`
      lines.push(
        row('binary_packages', {
          id: id + index,
          source_package_id: id,
          build_input_id: id,
          name: binary,
          version: '1.0-1',
          ...onBinary,
          architecture: 'amd64',
          artifact_url: url,
        }),
      )
    }
    const log = isFriend ? 10 : id // friends share their logs
    if (!isFriend) {
      lines.push(
        row('build_logs', { id, build_log: blob(`first log of ${name}\n`) }),
        row('build_logs', { id: id + 1, build_log: blob(`second log of ${name}\n`, n !== 2) }),
        row('diffoscope_logs', { id, diffoscope_log: blob(`diff of ${name}\n`) }),
        row('attestation_logs', { id, attestation_log: blob(`{"of":"${name}"}`) }),
      )
    }
    const last = n % 2 === 1 || isFriend ? 'GOOD' : 'BAD'
    lines.push(
      row('rebuilds', {
        id,
        build_input_id: id,
        started_at: '2026-10-01 10:00:00',
        built_at: '2026-10-01 11:00:00.5',
        build_log_id: log,
        status: 'BAD',
      }),
      row('rebuilds', {
        id: id + 1,
        build_input_id: id,
        started_at: null,
        built_at: '2026-10-03 11:00:00',
        build_log_id: log + 1,
        status: last,
      }),
      row('rebuild_artifacts', {
        id: 2 * id,
        rebuild_id: id,
        name,
        diffoscope_log_id: log,
        attestation_log_id: null,
        status: 'BAD',
      }),
      row('rebuild_artifacts', {
        id: 2 * id + 1,
        rebuild_id: id,
        name: `lib${name}`,
        diffoscope_log_id: null,
        attestation_log_id: null,
        status: 'GOOD',
      }),
      row('rebuild_artifacts', {
        id: 2 * id + 2,
        rebuild_id: id + 1,
        name,
        diffoscope_log_id: last === 'BAD' ? log : null,
        attestation_log_id: last === 'GOOD' ? log : null,
        status: last,
      }),
      row('rebuild_artifacts', {
        id: 2 * id + 3,
        rebuild_id: id + 1,
        name: `lib${name}`,
        diffoscope_log_id: null,
        attestation_log_id: null,
        status: 'GOOD',
      }),
    )
  }
  lines.push(
    row('queue', {
      build_input_id: 20,
      priority: 2,
      queued_at: '2026-10-03 11:00:01',
      started_at: '2026-10-04 00:00:00',
      worker: 1,
      last_ping: '2026-10-04 00:00:00',
    }),
  )
  await db.transaction((tx) => tx.batch(lines.map((line) => trusted(line))))
  await db.close()
}

/** Changes such a database. */
export async function changeUpstream(file: string, ...statements: readonly string[]): Promise<void> {
  const db = await openSqlite(file)
  await db.transaction((tx) => tx.batch(statements.map((statement) => trusted(statement))))
  await db.close()
}

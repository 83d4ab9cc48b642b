import { once } from 'node:events'
import fs from 'node:fs'
import { rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { Worker } from 'node:worker_threads'
import type { Database as SqlFile } from 'sql.js'
import { asset } from '../../src/assets.ts'
import { openSqlFile } from '../../src/server/store/sqljs.ts'
import { pragmas } from '../../src/server/store/thread.ts'
import { seeded } from '../bench/data.ts'
import type { Found } from './reopen.ts'
import type { FaultReport } from './report.ts'

/** What the engine asked of the disk, in order; `ack`: a commit was acknowledged. */
type Step =
  | { kind: 'create' | 'unlink' | 'sync'; path: string }
  | { kind: 'write'; path: string; at: number; bytes: Buffer }
  | { kind: 'truncate'; path: string; size: number }
  | { kind: 'ack'; number: number }

const accounts = 300
const transfers = 150

/**
 * Loses power in the middle of work, again and again: of what was not synced each write is kept, dropped or torn by
 * chance. The database must open, its sums must hold, and every acknowledged commit must be there.
 */
export async function powerLosses(cuts: number): Promise<FaultReport> {
  const folder = fs.mkdtempSync(join(tmpdir(), 'rebuilderd-power-'))
  const random = seeded(Date.now() % 100_000)
  const losses: string[] = []
  const { reopen, end } = openReopener()
  try {
    const { steps, start } = await recorded(folder, random)
    for (let count = 1; count <= cuts; count++) {
      const cut = start + Math.floor(random() * (steps.length - start))
      const empty: [string, Buffer] = [join(folder, 'p.db'), Buffer.alloc(0)] // sqljs.ts makes it
      const { files, acknowledged } = remains(new Map([empty]), steps.slice(0, cut), random)
      const found = await wrongAfter(folder, files, acknowledged, reopen)
      if (found !== null) losses.push(`cut ${count} at step ${cut} of ${steps.length}: ${found}`)
    }
    return { name: 'simulated power loss', counts: { cuts, steps: steps.length, commits: transfers }, losses }
  } finally {
    await end()
    await rm(folder, { recursive: true, force: true })
  }
}

/** Does transfers between accounts and writes down all that reaches the disk. */
async function recorded(folder: string, random: () => number): Promise<{ steps: Step[]; start: number }> {
  const steps: Step[] = []
  const giveBack = listenTo(folder, steps)
  try {
    const { file } = await openSqlFile(join(folder, 'p.db'), asset('sql-wasm.wasm'))
    for (const pragma of pragmas) file.exec(`PRAGMA ${pragma}`)
    file.exec('PRAGMA cache_size = 20; PRAGMA wal_autocheckpoint = 40') // spill and checkpoint often
    file.exec('CREATE TABLE account (id INTEGER PRIMARY KEY, balance INTEGER, pad TEXT)')
    file.exec(
      'CREATE TABLE log (id INTEGER PRIMARY KEY, value TEXT); CREATE INDEX log_by_value ON log (value)',
    )
    file.exec('BEGIN')
    for (let id = 0; id < accounts; id++)
      file.run('INSERT INTO account VALUES (?, 1000, ?)', [id, 'p'.repeat(200)])
    file.exec('COMMIT')
    steps.push({ kind: 'ack', number: 0 })
    const start = steps.length
    for (let number = 1; number <= transfers; number++) {
      transfer(file, number, random)
      steps.push({ kind: 'ack', number })
    }
    file.close()
    return { steps, start }
  } finally {
    giveBack()
  }
}

function transfer(file: SqlFile, number: number, random: () => number): void {
  file.exec('BEGIN')
  for (let count = number % 13 === 0 ? 80 : 3; count > 0; count--) {
    const [from, to] = [Math.floor(random() * accounts), Math.floor(random() * accounts)]
    file.run('UPDATE account SET balance = balance - ? WHERE id = ?', [count, from])
    file.run('UPDATE account SET balance = balance + ? WHERE id = ?', [count, to])
  }
  file.run('INSERT INTO log VALUES (?, ?)', [number, `v${random()}`])
  file.exec('COMMIT')
}

/** Puts our ears into node:fs, where hostfs.ts finds them; syncs only wait to be counted. */
function listenTo(folder: string, steps: Step[]): () => void {
  const { openSync, writeSync, ftruncateSync, fsyncSync, unlinkSync } = fs
  const paths = new Map<number, string>()
  const isOurs = (path: unknown): path is string =>
    typeof path === 'string' && path.startsWith(join(folder, 'p.db'))
  fs.openSync = (path, ...rest) => {
    if (isOurs(path) && !fs.existsSync(path)) steps.push({ kind: 'create', path })
    const fd = openSync(path, ...rest)
    paths.set(fd, String(path))
    return fd
  }
  const write = (fd: number, bytes: Uint8Array, offset: number, length: number, at: number): number => {
    const path = paths.get(fd)
    const copy = Buffer.from(bytes.slice(offset, offset + length))
    if (isOurs(path)) steps.push({ kind: 'write', path, at, bytes: copy })
    return writeSync(fd, bytes, offset, length, at)
  }
  fs.writeSync = write as typeof fs.writeSync // the one form that hostfs.ts uses
  fs.ftruncateSync = (fd, size) => {
    const path = paths.get(fd)
    if (isOurs(path)) steps.push({ kind: 'truncate', path, size: size ?? 0 })
    ftruncateSync(fd, size)
  }
  fs.fsyncSync = (fd) => void steps.push({ kind: 'sync', path: paths.get(fd) ?? '' })
  fs.unlinkSync = (path) => {
    if (isOurs(path)) steps.push({ kind: 'unlink', path })
    unlinkSync(path)
  }
  return () => void Object.assign(fs, { openSync, writeSync, ftruncateSync, fsyncSync, unlinkSync })
}

/** The files as a disk may have them: what was synced is there, of the rest each write by chance. */
function remains(
  files: Map<string, Buffer>,
  steps: readonly Step[],
  random: () => number,
): { files: Map<string, Buffer>; acknowledged: number } {
  const synced = new Map<string, number>()
  let acknowledged = 0
  for (const [index, step] of steps.entries()) {
    if (step.kind === 'sync') synced.set(step.path, index)
    if (step.kind === 'ack') acknowledged = step.number
  }
  const keep = random()
  for (const [index, step] of steps.entries()) {
    if (step.kind === 'sync' || step.kind === 'ack') continue
    const isName = step.kind === 'create' || step.kind === 'unlink' // names are kept by the folder
    const isDurable = index < (synced.get(isName ? dirname(step.path) : step.path) ?? -1)
    apply(files, step, isDurable, isDurable || random() < keep, random)
  }
  return { files, acknowledged }
}

function apply(
  files: Map<string, Buffer>,
  step: Exclude<Step, { kind: 'ack' }>,
  isDurable: boolean,
  isKept: boolean,
  random: () => number,
): void {
  const known = files.get(step.path)
  if (step.kind === 'create' && isKept) files.set(step.path, Buffer.alloc(0))
  if (known === undefined || !isKept) return
  if (step.kind === 'unlink') files.delete(step.path)
  if (step.kind === 'truncate') files.set(step.path, resized(known, step.size))
  if (step.kind !== 'write') return
  const isTorn = !isDurable && step.bytes.length > 512 && random() < 0.2
  const sectors = Math.floor(1 + random() * (step.bytes.length / 512 - 1))
  const bytes = isTorn ? step.bytes.subarray(0, 512 * sectors) : step.bytes
  const grown = resized(known, Math.max(known.length, step.at + bytes.length))
  bytes.copy(grown, step.at)
  files.set(step.path, grown)
}

function resized(bytes: Buffer, size: number): Buffer {
  if (bytes.length === size) return bytes
  const made = Buffer.alloc(size)
  bytes.copy(made)
  return made
}

type Reopen = (path: string) => Promise<Found>

/** A thread that opens databases anew, as a server does after its start. */
function openReopener(): { reopen: Reopen; end: () => Promise<number> } {
  const thread = new Worker(new URL('./reopen.ts', import.meta.url))
  const reopen: Reopen = async (path) => {
    thread.postMessage(path)
    const [found] = await once(thread, 'message')
    return found as Found // reopen.ts sends nothing else
  }
  return { reopen, end: () => thread.terminate() }
}

/** What is wrong with the database that remains; null: nothing. */
async function wrongAfter(
  folder: string,
  files: ReadonlyMap<string, Buffer>,
  acknowledged: number,
  reopen: Reopen,
): Promise<string | null> {
  const copy = join(folder, 'copy.db')
  for (const suffix of ['', '-wal', '-journal']) {
    fs.rmSync(copy + suffix, { force: true })
    const bytes = files.get(join(folder, `p.db${suffix}`))
    if (bytes !== undefined) fs.writeFileSync(copy + suffix, bytes)
  }
  const found = await reopen(copy)
  if ('trouble' in found) return `cannot be opened: ${found.trouble}`
  const { integrity, sum, commits, last } = found
  if (integrity !== 'ok') return `damaged: ${integrity}`
  if (sum !== accounts * 1000) return `the sum is ${sum}`
  if (commits !== last) return `${commits} of ${last} commits are there`
  return last < acknowledged ? `commit ${acknowledged} was acknowledged, ${last} is the last` : null
}

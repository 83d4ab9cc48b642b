import { once } from 'node:events'
import fs from 'node:fs'
import { rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Worker } from 'node:worker_threads'
import type { Database as SqlFile } from 'sql.js'
import { compiledSqlite } from '../../src/server/store/compiled.ts'
import { openSqlFile } from '../../src/server/store/sqljs.ts'
import { pragmas } from '../../src/server/store/thread.ts'
import { seeded } from '../bench/data.ts'
import { listenTo, remains, type Step } from './disk.ts'
import type { Found } from './reopen.ts'
import { paced, type FaultReport, type Goal } from './report.ts'

const accounts = 300
const transfers = 150

/**
 * Loses power in the middle of work, again and again: of what was not synced each write is kept, dropped or torn by
 * chance. The database must open, its sums must hold, and every acknowledged commit must be there.
 */
export async function powerLosses(goal: Goal): Promise<FaultReport> {
  const folder = fs.mkdtempSync(join(tmpdir(), 'rebuilderd-power-'))
  const random = seeded(Date.now() % 100_000)
  const losses: string[] = []
  const { reopen, end } = openReopener()
  try {
    const { steps, start } = await recorded(folder, random)
    const goesOn = paced(goal)
    let cuts = 0
    while (goesOn(cuts)) {
      cuts += 1
      const cut = start + Math.floor(random() * (steps.length - start))
      const empty = [`${folder}/`, join(folder, 'p.db')].map((path) => [path, Buffer.alloc(0)] as const) // sqljs.ts makes it
      const { files, acknowledged } = remains(new Map(empty), steps.slice(0, cut), random)
      const found = await wrongAfter(folder, files, acknowledged.at(-1) ?? 0, reopen)
      if (found !== null) losses.push(`cut ${cuts} at step ${cut} of ${steps.length}: ${found}`)
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
  const giveBack = listenTo(join(folder, 'p.db'), steps)
  try {
    const { file } = await openSqlFile(join(folder, 'p.db'), compiledSqlite())
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

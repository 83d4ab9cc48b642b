import { existsSync, rmSync, statSync } from 'node:fs'
import { readdir } from 'node:fs/promises'
import { join } from 'node:path'
import { Complaint } from '../errors.ts'
import { wireTime } from '../wire/schema.ts'
import { openBlobs } from './store/blobs.ts'
import type { Database } from './store/database.ts'
import { lockFolder } from './store/lock.ts'
import {
  blobsAfter,
  contradictionsIn,
  damageOf,
  forgottenBlobs,
  knownBlobs,
  unnamedBlobs,
  unqueuedInputs,
} from './store/maintenance.ts'
import { openSqlite } from './store/sqlite.ts'
import { written } from './store/work.ts'

/** What a look at everything that is kept found. */
type CheckResult = {
  /** Sentences; none: all is well. */
  problems: string[]
  blobs: number
  /** Bytes of all blobs together. */
  blobBytes: number
  /** Listed inputs that need work and are not queued: given up, dropped, or left by an import that was cut off. */
  unqueued: number
  /** Kept for nobody: blobs that no row names, files without a blob. A server removes them after a day. */
  orphans: { rows: number; files: number }
}

/** Told of each few hundred files: how many were read. */
type CheckProgress = (files: number) => void

const atOnce = 500
/** Problems told; a spoilt disk has more. */
const mostTold = 1000
/** What no row has named for this long is removed: a report that is being taken has its blobs before its rows. */
const kept = 86_400_000

/**
 * Looks at everything that a stopped server has kept: the database's integrity, what its rows and counters say, and
 * whether every blob is there and has the bytes that its name says. Changes nothing.
 * @throws Complaint where the folder holds no data, or a server uses it
 */
export async function checkData(
  data: string,
  signal?: AbortSignal,
  progress?: CheckProgress,
): Promise<CheckResult> {
  const file = join(data, 'rebuilderd.db')
  if (statSync(file, { throwIfNoEntry: false }) === undefined) {
    throw new Complaint(`there is no database in ${data}`, {
      hint: 'name the folder of a server with --data',
    })
  }
  const lock = await lockFolder(data)
  try {
    const db = await openSqlite(file)
    try {
      return await checked(db, join(data, 'blobs'), signal, progress)
    } finally {
      await db.close()
    }
  } finally {
    await lock.release()
  }
}

async function checked(
  db: Database,
  folder: string,
  signal: AbortSignal | undefined,
  progress?: CheckProgress,
): Promise<CheckResult> {
  const problems = await damageOf(db)
  if (problems.length === 0) problems.push(...(await contradictionsIn(db)))
  const { read } = openBlobs(folder)
  let [blobs, blobBytes, after] = [0, 0, 0]
  for (;;) {
    const rows = await blobsAfter(db, after, atOnce)
    for (const { id, sha256, size } of rows) {
      signal?.throwIfAborted()
      after = id
      blobs += 1
      blobBytes += size
      if ((await read(sha256)) === null) problems.push(`the blob ${sha256} is ${troubleOf(folder, sha256)}`)
    }
    progress?.(blobs)
    if (rows.length === 0 || problems.length > mostTold) break
  }
  const orphans = { rows: await unnamedBlobs(db), files: await unknownFiles(db, folder) }
  const told = problems.slice(0, mostTold)
  return { problems: told, blobs, blobBytes, unqueued: await unqueuedInputs(db), orphans }
}

function troubleOf(folder: string, sha256: string): 'missing' | 'altered' {
  return existsSync(join(folder, sha256.slice(0, 2), sha256)) ? 'altered' : 'missing'
}

/** How many files no row knows. */
async function unknownFiles(db: Database, folder: string): Promise<number> {
  let unknown = 0
  for (const part of await namesIn(folder)) {
    const names = await namesIn(join(folder, part))
    unknown += names.length - (await knownBlobs(db, names)).size
  }
  return unknown
}

/** What a sweep removed. */
type Swept = { rows: number; files: number }

/**
 * Removes blobs that no row has named for a day: rows first, then files without a row, such as those of reports
 * that were never finished. Takes some at a time, so that everything else is answered meanwhile.
 */
export async function sweepBlobs(
  db: Database,
  folder: string,
  moment: Date,
  signal: AbortSignal,
): Promise<Swept> {
  const before = new Date(moment.getTime() - kept)
  return { rows: await sweepRows(db, wireTime(before), signal), files: await sweepFiles(db, folder, signal) }
}

async function sweepRows(db: Database, before: string, signal: AbortSignal): Promise<number> {
  let [removed, after] = [0, 0]
  for (;;) {
    const ids = (await blobsAfter(db, after, atOnce)).map((row) => row.id)
    const last = ids.at(-1)
    if (last === undefined || signal.aborted) return removed
    after = last
    const [gone = []] = await written(db, [forgottenBlobs(ids, before)])
    removed += gone.length
  }
}

async function sweepFiles(db: Database, folder: string, signal: AbortSignal): Promise<number> {
  let removed = 0
  for (const part of await namesIn(folder)) {
    if (signal.aborted) break
    const names = await namesIn(join(folder, part))
    const known = await knownBlobs(db, names)
    for (const name of names) if (!known.has(name)) removed += removeOld(join(folder, part, name))
  }
  return removed
}

async function namesIn(folder: string): Promise<string[]> {
  return readdir(folder).catch(() => [])
}

/**
 * Removes a file that nobody has touched for a day. The look and the removal are one step of this thread, and whoever
 * keeps the same bytes again touches the file and then looks for it: it is either young here or found missing there.
 */
function removeOld(path: string): 0 | 1 {
  const found = statSync(path, { throwIfNoEntry: false })
  if (found === undefined || Date.now() - found.mtimeMs < kept) return 0
  rmSync(path, { force: true })
  return 1
}

import { constants, statSync } from 'node:fs'
import { copyFile, mkdir, rm } from 'node:fs/promises'
import { join, resolve } from 'node:path'
import { Complaint, during } from '../errors.ts'
import { makeFolders } from '../folders.ts'
import { wireTime } from '../wire/schema.ts'
import { copiesFolder } from './housekeeping.ts'
import { isLocked } from './store/barrier.ts'
import { openBlobs, type Blobs } from './store/blobs.ts'
import type { Database, Transaction } from './store/database.ts'
import { touched } from './store/imports.ts'
import { lockFolder } from './store/lock.ts'
import { switched } from './store/queue.ts'
import { migrate } from './store/schema.ts'
import { openSqlite } from './store/sqlite.ts'
import { keptFiles } from './takeover-files.ts'
import {
  beginning,
  decideInputs,
  ending,
  isEmpty,
  scopesCounted,
  switchValue,
  takeBinaries,
  takeBuilds,
  takeInputs,
  takeJobs,
  takeSources,
  takeWorkers,
  theirIdsOf,
  type Manner,
} from './store/takeover.ts'
import {
  countOf,
  fingerprintOf,
  theirArtifacts,
  theirBinaries,
  theirBuilds,
  theirInputs,
  theirJobs,
  theirSources,
  theirWorkers,
  upstreamSchema,
  type UpstreamSchema,
  type UpstreamTable,
} from './store/upstream.ts'

/** Switch that says how far a takeover has come; it is gone when all is there. */
const takeoverSwitch = 'takeover'

/** Rows written in one transaction; builds bring their files. */
const rowsAtOnce = 1000
const buildsAtOnce = 100

export type TakeoverOptions = {
  /** The database of upstream's daemon; the daemon is stopped. It is only read. */
  file: string
  /** Data folder of ours, in which no server runs; made when it is missing. */
  data: string
  /** Take over into a folder that has packages already. */
  merge: boolean
  now?: () => Date
  signal: AbortSignal
  /** Told after every slice. */
  progress?: (what: string, done: number, total: number) => void
}

/** Rows taken over by table; `damaged`: logs, diffs and attestations that cannot be unpacked and were left out. */
type Taken = Record<UpstreamTable, number> & { damaged: number }

type Step = { last: number | undefined; count: number; write: (tx: Transaction) => Promise<void> }
type Stage = { table: UpstreamTable; what: string; next: (after: number) => Promise<Step> }

/** How far it has come: the stage, and the last id written. */
type State = {
  source: string
  fingerprint: string
  fresh: boolean
  stage: number
  after: number
  damaged: number
}

/**
 * Takes over packages, history, logs, diffs, attestations, queue and workers of an upstream server, 0.26 to 0.28.
 * One transaction per slice also writes how far it came, so that the same call goes on after an interruption.
 * @throws Complaint where the database is in use, of an unknown schema, or the folder is not empty
 */
export async function takeOver(options: TakeoverOptions): Promise<Taken> {
  const { file, data } = options
  refuseUnreadable(file)
  makeFolders(data, 0o700)
  const lock = await lockFolder(data)
  const copies = join(data, copiesFolder)
  const closing: (() => Promise<void>)[] = [
    () => lock.release(),
    () => rm(copies, { recursive: true, force: true }),
  ]
  try {
    const copy = await during(`copying ${file}`, () => copied(file, copies))
    const theirs = await openSqlite(copy).catch((error: unknown) => {
      const { message } = error instanceof Error ? error : new Error(`cannot open ${file}`)
      throw new Complaint(message.replace(copy, file), {
        hint: 'is it the database of rebuilderd 0.26 to 0.28? Nothing was taken over',
      })
    })
    closing.push(() => theirs.close())
    const schema = await knownSchema(theirs, file)
    const ours = join(data, 'rebuilderd.db')
    const db = await openSqlite(ours)
    closing.push(() => db.close())
    await migrate(db, ours)
    return await during(`taking over ${file}`, () => takeAll(db, theirs, schema, options))
  } finally {
    for (const close of closing.reverse()) await close()
  }
}

/**
 * A server must not work on what was taken over half.
 * @throws Complaint where a takeover was begun and not ended
 */
export async function refuseHalfTaken(db: Database): Promise<void> {
  const begun = await switchValue(db, takeoverSwitch)
  if (begun === null) return
  const { source } = JSON.parse(begun.value) as State // we wrote it
  throw new Complaint(`the takeover of ${source} has not come to its end`, {
    hint: `repeat \`rebuilderd ctl db import ${source}\` with the same --data: it goes on where it was`,
  })
}

function refuseUnreadable(file: string): void {
  const found = statSync(file, { throwIfNoEntry: false })
  if (found === undefined || !found.isFile()) {
    throw new Complaint(`there is no database ${file}`, {
      hint: "upstream's daemon keeps rebuilderd.db in its working folder, usually /var/lib/rebuilderd",
      exitCode: 2,
    })
  }
  if (isLocked(file) || isLocked(`${file}-shm`)) {
    throw new Complaint(`another program has ${file} open`, { hint: "stop upstream's daemon first" })
  }
}

/** A copy to open, with what the daemon had not yet moved from its write-ahead log: opening would change the original. */
async function copied(file: string, folder: string): Promise<string> {
  await rm(folder, { recursive: true, force: true })
  await mkdir(folder, { mode: 0o700 })
  const copy = join(folder, 'upstream.db')
  for (const suffix of ['', '-wal', '-journal']) {
    if (statSync(file + suffix, { throwIfNoEntry: false }) === undefined) continue
    await copyFile(file + suffix, copy + suffix, constants.COPYFILE_FICLONE).catch((error: unknown) => {
      throw new Complaint('cannot copy the database', {
        cause: error,
        hint: 'the disk of the data folder needs space for a copy of it, and for its logs',
      })
    })
  }
  return copy
}

async function knownSchema(theirs: Database, file: string): Promise<UpstreamSchema> {
  const schema = await upstreamSchema(theirs)
  if ('componentOf' in schema) return schema
  throw new Complaint(`${file} is no database of rebuilderd 0.26 to 0.28: ${schema.what}`, {
    hint: schema.isNewer
      ? 'it was written by a newer rebuilderd than this program knows; nothing was taken over'
      : "start upstream's 0.26, 0.27 or 0.28 on it once: that brings an older one up to date",
  })
}

async function takeAll(
  db: Database,
  theirs: Database,
  schema: UpstreamSchema,
  options: TakeoverOptions,
): Promise<Taken> {
  const { signal, progress, now = () => new Date() } = options
  const state = await begun(db, theirs, options)
  const blobs = openBlobs(join(options.data, 'blobs'))
  const manner: Manner = { fresh: state.fresh, now: wireTime(now()) }
  const stages = stagesOf({ db, theirs, schema, blobs, manner, state })
  const taken: Taken = {
    workers: 0,
    source_packages: 0,
    build_inputs: 0,
    binary_packages: 0,
    rebuilds: 0,
    queue: 0,
    damaged: 0,
  }
  for (const [index, { table, what, next }] of stages.entries()) {
    const total = await countOf(theirs, table)
    taken[table] = total
    let done = 0
    while (index >= state.stage) {
      signal.throwIfAborted()
      const { last, count, write } = await next(state.after)
      const isOver = last === undefined
      Object.assign(state, isOver ? { stage: index + 1, after: 0 } : { after: last })
      await db.transaction(async (tx) => {
        await write(tx)
        await tx.all(switched(takeoverSwitch, JSON.stringify(state), manner.now))
      })
      done += count
      progress?.(what, Math.min(done, total), total)
      if (isOver) break
    }
  }
  const over = [scopesCounted, ...ending, switched(takeoverSwitch, null, manner.now)]
  await db.transaction((tx) =>
    tx.batch([...over, touched(manner.now, 'packages', 'queue', 'builds', 'workers')]),
  )
  return { ...taken, damaged: state.damaged }
}

/** Where to go on, or from the beginning. */
async function begun(db: Database, theirs: Database, { file, data, merge }: TakeoverOptions): Promise<State> {
  const source = resolve(file)
  const fingerprint = await fingerprintOf(theirs)
  const known = await switchValue(db, takeoverSwitch)
  if (known !== null) {
    const state = JSON.parse(known.value) as State // we wrote it
    if (state.fingerprint === fingerprint) return state
    throw new Complaint(`a takeover of another database (${state.source}) was begun in ${data}`, {
      hint: 'repeat it with that one, as it was; or begin anew with an empty data folder',
    })
  }
  const fresh = await isEmpty(db)
  if (!fresh && !merge) {
    throw new Complaint(`${data} has packages, builds or workers already`, {
      hint: 'take over into an empty folder; or add to what is there with --merge (keep a copy: there is no way back)',
    })
  }
  const state: State = { source, fingerprint, fresh, stage: 0, after: 0, damaged: 0 }
  await db.transaction((tx) =>
    tx.batch([...beginning, switched(takeoverSwitch, JSON.stringify(state), wireTime(new Date()))]),
  )
  return state
}

type Site = {
  db: Database
  theirs: Database
  schema: UpstreamSchema
  blobs: Blobs
  manner: Manner
  state: State
}

/** In this order: each needs what the ones before it have written. */
function stagesOf(site: Site): Stage[] {
  const { db, theirs, schema, manner } = site
  const stage = <T extends { id: number }>(
    table: UpstreamTable,
    what: string,
    read: (slice: { after: number; limit: number }) => Promise<T[]>,
    write: (tx: Transaction, rows: readonly T[], manner: Manner) => Promise<void>,
  ): Stage => ({
    table,
    what,
    async next(after) {
      const rows = await read({ after, limit: rowsAtOnce })
      return { last: rows.at(-1)?.id, count: rows.length, write: (tx) => write(tx, rows, manner) }
    },
  })
  return [
    stage('workers', 'workers', (slice) => theirWorkers(theirs, slice), takeWorkers),
    stage('source_packages', 'source packages', (slice) => theirSources(theirs, slice), takeSources),
    stage('build_inputs', 'build inputs', (slice) => theirInputs(theirs, slice), takeInputs),
    stage(
      'binary_packages',
      'binary packages',
      (slice) => theirBinaries(theirs, schema, slice),
      takeBinaries,
    ),
    { table: 'rebuilds', what: 'builds with logs', next: (after) => nextBuilds(site, after) },
    {
      table: 'build_inputs',
      what: 'results',
      async next(after) {
        const ids = (await theirIdsOf(db, after, rowsAtOnce)).map((row) => row.theirs)
        return { last: ids.at(-1), count: ids.length, write: (tx) => decideInputs(tx, ids) }
      },
    },
    stage('queue', 'queue', (slice) => theirJobs(theirs, slice), takeJobs),
  ]
}

/** Some builds; their files are kept before the rows that name them are written. */
async function nextBuilds(site: Site, after: number): Promise<Step> {
  const { theirs, manner } = site
  const rows = await theirBuilds(theirs, { after, limit: buildsAtOnce })
  const artifacts = await theirArtifacts(
    theirs,
    rows.map((row) => row.id),
  )
  const onDamaged = (): void => void (site.state.damaged += 1)
  const blobs = await keptFiles({ ...site, onDamaged }, rows, artifacts)
  return {
    last: rows.at(-1)?.id,
    count: rows.length,
    write: (tx) => takeBuilds(tx, rows, artifacts, blobs, manner),
  }
}

import { randomUUID } from 'node:crypto'
import { mkdirSync, writeFileSync } from 'node:fs'
import { mkdir, mkdtemp, readFile, readdir, rm, stat } from 'node:fs/promises'
import { join, resolve } from 'node:path'
import * as v from 'valibot'
import { noEvidence, type RebuildReport } from '../wire/builds.ts'
import { Id, wireTime } from '../wire/schema.ts'
import { lockFolder } from './lock.ts'
import { killMarked } from './process.ts'
import { removeFolder } from './sandbox.ts'

/** A job that a worker holds: enough to hand it back. */
const Held = v.object({ server: v.string(), queue_id: Id, lease: v.nullable(v.string()) })
export type Held = v.InferOutput<typeof Held>

const note = 'job.json'

/** Makes the folder of a job, with a note on which job it is, so that a worker that was killed can hand it back. */
export function makeScratch(jobs: string, held: Held): string {
  const folder = join(jobs, randomUUID())
  mkdirSync(folder, { recursive: true, mode: 0o700 })
  writeFileSync(join(folder, note), JSON.stringify(held), { mode: 0o600 })
  return folder
}

/** From now on the job needs not be handed back: its result is safe. */
export async function forgetHeld(folder: string): Promise<void> {
  await rm(join(folder, note), { force: true })
}

/** Removes what a worker left that was killed, processes first. @returns the jobs it held */
export async function clearScratch(jobs: string): Promise<Held[]> {
  await mkdir(jobs, { recursive: true, mode: 0o700 })
  for (const name of ['REBUILDERD_OUTDIR', 'REBUILDERD_JOB']) await killMarked(`${name}=${resolve(jobs)}/`)
  const held: Held[] = []
  for (const name of await readdir(jobs)) {
    const left = await readHeld(join(jobs, name, note))
    if (left !== null) held.push(left)
    await removeFolder(join(jobs, name))
  }
  return held
}

const buildPrefix = 'build-'

/**
 * Makes a folder for one rebuild without a server. It is locked while this process lives, and is removed with all
 * that is in it once the result is disposed of.
 */
export async function makeBuildFolder(builds: string): Promise<AsyncDisposable & { directory: string }> {
  await mkdir(builds, { recursive: true, mode: 0o700 })
  const directory = await mkdtemp(join(builds, buildPrefix))
  const lock = await lockFolder(directory)
  return {
    directory,
    async [Symbol.asyncDispose]() {
      await removeFolder(directory)
      await lock[Symbol.asyncDispose]()
    },
  }
}

/** Younger folders may not be locked yet. */
const settledMilliseconds = 10_000

/** Removes what rebuilds without a server left that were killed, processes first; those that live hold their locks. */
export async function clearBuilds(builds: string): Promise<void> {
  for (const name of await readdir(builds).catch(() => [])) {
    const folder = join(builds, name)
    const changedAt = (await stat(folder).catch(() => null))?.mtimeMs ?? Infinity
    const isEmpty = (await readdir(folder).catch(() => [])).length === 0
    if (!name.startsWith(buildPrefix) || (isEmpty && Date.now() - changedAt < settledMilliseconds)) continue
    await using lock = await lockFolder(folder).catch(() => null)
    if (lock === null) continue
    await killMarked(`REBUILDERD_OUTDIR=${resolve(folder)}/`)
    await removeFolder(folder)
  }
}

async function readHeld(path: string): Promise<Held | null> {
  try {
    return v.parse(Held, JSON.parse(await readFile(path, 'utf8')))
  } catch {
    return null // killed before the note was whole
  }
}

/** What is reported of a job that a worker was killed over: it is nobody's fault, and somebody else's turn. */
export function lostReport({ queue_id, lease }: Held): RebuildReport {
  return {
    queue_id,
    lease,
    built_at: wireTime(new Date()),
    build_log: new TextEncoder().encode('rebuilderd: the worker was stopped before it was done\n'),
    status: 'FAIL',
    reason: 'worker_lost',
    artifacts: [],
    evidence: null,
  }
}

/** What is reported of a job by a worker that is told to drop it: nothing has gone wrong, it is due as before. */
export function returnReport(held: Held): RebuildReport {
  return { ...lostReport(held), evidence: { ...noEvidence(null), temporary: true } }
}

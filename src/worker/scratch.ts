import { randomUUID } from 'node:crypto'
import { mkdir, readFile, readdir, rm, writeFile } from 'node:fs/promises'
import { join, resolve } from 'node:path'
import * as v from 'valibot'
import type { RebuildReport } from '../wire/builds.ts'
import { Id, wireTime } from '../wire/schema.ts'
import { killMarked } from './process.ts'
import { removeFolder } from './sandbox.ts'

/** A job that a worker holds: enough to hand it back. */
const Held = v.object({ server: v.string(), queue_id: Id, lease: v.nullable(v.string()) })
export type Held = v.InferOutput<typeof Held>

const note = 'job.json'

/** Makes the folder of a job, with a note on which job it is, so that a worker that was killed can hand it back. */
export async function makeScratch(jobs: string, held: Held): Promise<string> {
  const folder = join(jobs, randomUUID())
  await mkdir(folder, { recursive: true, mode: 0o700 })
  await writeFile(join(folder, note), JSON.stringify(held), { mode: 0o600 })
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

async function readHeld(path: string): Promise<Held | null> {
  try {
    return v.parse(Held, JSON.parse(await readFile(path, 'utf8')))
  } catch {
    return null // killed before the note was whole
  }
}

/** What is reported of a job that nobody works on any more: it is nobody's fault, and somebody else's turn. */
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

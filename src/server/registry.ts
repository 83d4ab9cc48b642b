import { forgottenEvents } from './store/events.ts'
import { touched } from './store/imports.ts'
import { work } from './store/work.ts'
import {
  deleteWorker,
  drainWorker,
  keyForgotten,
  keyProven,
  markOffline,
  writeWorker,
  type NewWorker,
} from './store/workers.ts'

/** Makes a worker known; whoever has proven its key once has to from then on. */
export const workerRegistered = work(
  'workers.register',
  async (
    tx,
    { worker, isProven, now }: { worker: NewWorker; isProven: boolean; now: string },
  ): Promise<void> => {
    if (isProven) await tx.all(keyProven(worker.key, now))
    await writeWorker(tx, worker, now)
    await tx.all(touched(now, 'workers', 'queue')) // which tells the name of who holds a job
  },
)

/** Forgets a worker, and on demand that its key was proven; false where there is none of that id. */
export const workerRemoved = work(
  'workers.remove',
  async (tx, { id, forgetsKey, now }: { id: number; forgetsKey: boolean; now: string }): Promise<boolean> => {
    await tx.all(touched(now, 'workers', 'queue'))
    if (forgetsKey) await tx.all(keyForgotten(id))
    return deleteWorker(tx, id, now)
  },
)

/** Lets a worker drain, or work again; false where there is none of that id. */
export const workerDrained = work(
  'workers.drain',
  async (tx, { id, isDraining, now }: { id: number; isDraining: boolean; now: string }): Promise<boolean> => {
    await tx.all(touched(now, 'workers'))
    return drainWorker(tx, id, isDraining)
  },
)

/** Marks workers that did not call since `deadline` as offline, and lets old events go. */
export const silentNoted = work(
  'workers.silent',
  async (tx, { deadline, now }: { deadline: string; now: string }): Promise<void> => {
    const [silent = []] = await tx.batch([markOffline(deadline), forgottenEvents()])
    if (silent.length > 0) await tx.all(touched(now, 'workers'))
  },
)

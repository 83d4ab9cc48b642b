import { fork } from 'node:child_process'
import { once } from 'node:events'
import { fileURLToPath } from 'node:url'
import type { Job, Outcome } from './load.ts'

/** Runs a load in a process of its own, so that the one who measures does not disturb what is measured. */
export async function drive(job: Job): Promise<Outcome> {
  const child = fork(fileURLToPath(new URL('./load.ts', import.meta.url)), [], {
    serialization: 'advanced',
    env: { ...process.env, NO_PROXY: '*' },
  })
  const answered = new Promise<Outcome>((resolve, reject) => {
    child.once('message', (outcome) => resolve(outcome as Outcome)) // load.ts sends nothing else
    child.once('error', reject)
    child.once('exit', (code) => reject(new Error(`the load generator ended with ${code}`)))
  })
  const ended = once(child, 'exit')
  child.send(job)
  const limit = setTimeout(() => child.kill('SIGKILL'), (job.seconds + 150) * 1000)
  try {
    return await answered
  } finally {
    child.kill()
    await ended
    clearTimeout(limit)
  }
}

/** The value that `share` of all are not above; NaN of none. */
export function quantile(values: readonly number[], share: number): number {
  const sorted = values.toSorted((a, b) => a - b)
  return sorted[Math.min(sorted.length - 1, Math.floor(share * sorted.length))] ?? Number.NaN
}

export function totalOf(errors: Readonly<Record<string, number>>): number {
  return Object.values(errors).reduce((sum, count) => sum + count, 0)
}

/** Short ways to ask a test server what it knows, and to let a worker report. */
import assert from 'node:assert/strict'
import { ServerSaid, type Client } from '../../src/client.ts'
import { listBuilds, submitBuild, type Rebuild, type RebuildReport } from '../../src/wire/builds.ts'
import {
  listBinaryPackages,
  listSourcePackages,
  type BinaryPackage,
  type SourcePackage,
} from '../../src/wire/packages.ts'
import { listQueue, type Assignment, type QueuedJob } from '../../src/wire/queue.ts'
import { momentOf } from '../../src/wire/schema.ts'
import { aResult, pop } from '../help/server.ts'

type Call = Client['call']

export const second = 1000
export const minute = 60 * second
export const hour = 60 * minute

export async function jobsOf(call: Call): Promise<QueuedJob[]> {
  return (await call(listQueue)).records
}

/** The only job there is. */
export async function onlyJob(call: Call): Promise<QueuedJob> {
  const [job, ...others] = await jobsOf(call)
  assert.ok(job, 'there is a job')
  assert.deepEqual(others, [])
  return job
}

export async function sourcesOf(call: Call, query: Record<string, string> = {}): Promise<SourcePackage[]> {
  return (await call(listSourcePackages, { query })).records
}

export async function binariesOf(call: Call, query: Record<string, string> = {}): Promise<BinaryPackage[]> {
  return (await call(listBinaryPackages, { query })).records
}

export async function buildsOf(call: Call, query: Record<string, string> = {}): Promise<Rebuild[]> {
  return (await call(listBuilds, { query })).records
}

/** Takes the next job; there must be one. */
export async function popped(call: Call, architectures?: readonly string[]): Promise<Assignment> {
  const job = await pop(call, architectures)
  assert.ok(job, 'a job is due')
  return job
}

/** Takes the next job and reports on it. */
export async function rebuilt(call: Call, given: Partial<RebuildReport> = {}): Promise<Assignment> {
  const job = await popped(call)
  await call(submitBuild, { body: aResult(job, given) })
  return job
}

/** The status that a call is refused with; fails where it is not refused. */
export async function refusal(work: Promise<unknown>): Promise<number> {
  try {
    await work
  } catch (error) {
    if (error instanceof ServerSaid) return error.status
    throw error
  }
  return assert.fail('the server took it')
}

/** Milliseconds from one moment of the wire to another. */
export function between(from: string | null, to: string | null): number {
  assert.ok(from !== null && to !== null, 'both moments are told')
  return momentOf(to).getTime() - momentOf(from).getTime()
}

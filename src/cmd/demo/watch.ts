import { setTimeout as sleep } from 'node:timers/promises'
import type { Client } from '../../client.ts'
import { getBuild, listArtifacts, type RebuildArtifact, type RebuildDetails } from '../../wire/builds.ts'
import {
  listSourcePackages,
  submitPackages,
  type ReportToSend,
  type SourcePackage,
} from '../../wire/packages.ts'
import { listQueue } from '../../wire/queue.ts'

/** A package with its verdict and all that it rests on. */
export type Judged = {
  source: SourcePackage
  build: RebuildDetails
  artifacts: readonly RebuildArtifact[]
}

type Scope = { distribution: string; release: string }

type WatchOptions = {
  client: Client
  signal: AbortSignal
  onVerdict: (judged: Judged) => Promise<void> | void
  /** Told every half second. */
  onStatus: (status: Status) => void
}
type Status = { done: number; all: number; running: readonly string[] }

/**
 * Sends package reports to the server; empty ones are left out.
 * @returns the names of the source packages they list
 */
export async function submitAll(
  reports: AsyncIterable<ReportToSend>,
  client: Client,
  signal: AbortSignal,
): Promise<Set<string>> {
  const names = new Set<string>()
  for await (const report of reports) {
    if (report.packages.length === 0) continue
    await client.call(submitPackages, { body: report, signal })
    for (const { name } of report.packages) names.add(name)
  }
  return names
}

const pollMilliseconds = 500

/** Waits until each package of a release has a verdict; tells of each as it comes. */
export async function untilJudged(scope: Scope, options: WatchOptions): Promise<Judged[]> {
  const { client, signal, onVerdict, onStatus } = options
  const judged = new Map<number, Judged>()
  for (;;) {
    const { records } = await client.call(listSourcePackages, { query: { ...scope, limit: 1000 }, signal })
    for (const source of records) {
      if (judged.has(source.id) || source.build_id === null || !isVerdict(source.status)) continue
      const one = await judgedOf(source, source.build_id, client)
      judged.set(source.id, one)
      await onVerdict(one)
    }
    if (judged.size === records.length) return [...judged.values()]
    onStatus({ done: judged.size, all: records.length, running: await runningJobs(scope, client) })
    await sleep(pollMilliseconds, undefined, { signal })
  }
}

function isVerdict(status: SourcePackage['status']): boolean {
  return status === 'GOOD' || status === 'BAD' || status === 'FAIL'
}

async function judgedOf(source: SourcePackage, id: number, client: Client): Promise<Judged> {
  return {
    source,
    build: await client.call(getBuild, { params: { id } }),
    artifacts: await client.call(listArtifacts, { params: { id } }),
  }
}

async function runningJobs(scope: Scope, client: Client): Promise<string[]> {
  const { records } = await client.call(listQueue, { query: { ...scope, limit: 1000 } })
  return records.filter((job) => job.started_at !== null).map((job) => job.name)
}

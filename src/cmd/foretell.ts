/** What an import would change. */
import type { Client } from '../client.ts'
import { printable } from '../log.ts'
import {
  listBinaryPackages,
  type ReportedArtifact,
  type ReportToSend,
  type ReportedPackage,
} from '../wire/packages.ts'
import { listQueue } from '../wire/queue.ts'
import { recordsOf } from './lists.ts'

/** Binary packages as people read them, and how many build inputs would be queued. */
export type Changes = { added: string[]; gone: string[]; unchanged: number; queued: number }

/** What an import would add to the packages that the server lists, take away from them, and queue. */
export async function changesOf(report: ReportToSend, client: Client): Promise<Changes> {
  const named = new Set(artifactsOf(report).map(titleOf))
  const known = await knownStatuses(report, client)
  const listed = new Set(known.keys())
  const open = Iterator.from(report.packages)
    .filter((one) => needsWork(one, known))
    .map(({ url }) => url)
  const urls = new Set(open)
  return {
    added: [...named.difference(listed)],
    gone: [...listed.difference(named)],
    unchanged: named.intersection(listed).size,
    queued: urls.size === 0 ? 0 : urls.difference(await queuedInputs(report, client)).size,
  }
}

function artifactsOf({ packages }: ReportToSend): IteratorObject<ReportedArtifact> {
  return Iterator.from(packages).flatMap(({ artifacts }) => artifacts)
}

function originOf({ distribution, release }: ReportToSend): { distribution: string; release?: string } {
  return { distribution, ...(release === null ? {} : { release }) }
}

/** Verdicts of the packages that the server lists in the scope of a report. */
async function knownStatuses(report: ReportToSend, client: Client): Promise<Map<string, string | null>> {
  const architectures = new Set(artifactsOf(report).map((one) => one.architecture))
  architectures.add(report.architecture)
  const known = new Map<string, string | null>()
  for await (const record of recordsOf(client, listBinaryPackages, {
    ...originOf(report),
    seen_only: true,
  })) {
    const isOfScope = record.release === report.release && record.seen_in_last_sync
    if (isOfScope && architectures.has(record.architecture)) known.set(titleOf(record), record.status)
  }
  return known
}

function needsWork({ artifacts }: ReportedPackage, known: ReadonlyMap<string, string | null>): boolean {
  return artifacts.length === 0 || artifacts.some((one) => known.get(titleOf(one)) !== 'GOOD')
}

/** Build inputs that wait or run already: they are not queued a second time. */
async function queuedInputs(report: ReportToSend, client: Client): Promise<Set<string>> {
  const queued = new Set<string>()
  const { architecture } = report
  for await (const job of recordsOf(client, listQueue, { ...originOf(report), architecture })) {
    if (job.architecture === architecture) queued.add(job.url)
  }
  return queued
}

function titleOf(one: {
  name: string
  version: string
  architecture: string
  component: string | null
}): string {
  const component = one.component === null ? '' : `, ${one.component}`
  return printable(`${one.name} ${one.version} (${one.architecture}${component})`)
}

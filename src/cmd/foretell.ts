/** What an import would change. */
import type { Client } from '../client.ts'
import { printable } from '../log.ts'
import { listBinaryPackages, type PackageReport, type ReportedPackage } from '../wire/packages.ts'
import { listQueue } from '../wire/queue.ts'
import { recordsOf } from './lists.ts'

/** Binary packages as people read them, and how many build inputs would be queued. */
export type Changes = { added: string[]; gone: string[]; unchanged: number; queued: number }

/** What an import would add to the packages that the server lists, take away from them, and queue. */
export async function changesOf(report: PackageReport, client: Client): Promise<Changes> {
  const named = new Set(report.packages.flatMap((one) => one.artifacts).map(titleOf))
  const known = await knownStatuses(report, client)
  const listed = new Set(known.keys())
  const open = report.packages.filter((one) => needsWork(one, known))
  return {
    added: [...named.difference(listed)],
    gone: [...listed.difference(named)],
    unchanged: named.intersection(listed).size,
    queued: open.length === 0 ? 0 : countMissing(open, await queuedInputs(report, client)),
  }
}

function originOf({ distribution, release }: PackageReport): { distribution: string; release?: string } {
  return { distribution, ...(release === null ? {} : { release }) }
}

/** Verdicts of the packages that the server lists in the scope of a report. */
async function knownStatuses(report: PackageReport, client: Client): Promise<Map<string, string | null>> {
  const artifacts = report.packages.flatMap((one) => one.artifacts)
  const architectures = new Set([report.architecture, ...artifacts.map((one) => one.architecture)])
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
async function queuedInputs(report: PackageReport, client: Client): Promise<Set<string>> {
  const queued = new Set<string>()
  const { architecture } = report
  for await (const job of recordsOf(client, listQueue, { ...originOf(report), architecture })) {
    if (job.architecture === architecture) queued.add(job.url)
  }
  return queued
}

function countMissing(packages: readonly ReportedPackage[], queued: ReadonlySet<string>): number {
  const urls = new Set(packages.map(({ url }) => url))
  return urls.difference(queued).size
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

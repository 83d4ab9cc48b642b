import { openLog, type Log } from '../../src/log.ts'
import { checkedProfile, reportsOf, type SyncOptions } from '../../src/sync/index.ts'
import type { PackageReport } from '../../src/wire/packages.ts'
import { patienceMilliseconds } from './until.ts'

type Outcome = { reports: PackageReport[]; error: Error | null; log: string[] }

/** Runs a sync to its end, and keeps what it yielded before it failed. */
export async function sync(
  profile: Record<string, unknown>,
  options: Partial<SyncOptions> = {},
): Promise<Outcome> {
  const lines: string[] = []
  const log: Log = openLog({ level: 'debug', write: (line) => lines.push(line), systemd: true })
  const reports: PackageReport[] = []
  const outcome: Outcome = { reports, error: null, log: lines }
  const settings = {
    log,
    signal: AbortSignal.timeout(patienceMilliseconds),
    cache: null,
    retryMs: 1,
    ...options,
  }
  try {
    for await (const report of reportsOf(checkedProfile('the profile', profile), settings))
      reports.push({ ...report, packages: [...report.packages] })
  } catch (error) {
    outcome.error = error instanceof Error ? error : new Error(String(error))
  }
  return outcome
}

/** `name version: artifact, artifact` of each package of a report. */
export function contentOf(report: PackageReport | undefined): string[] {
  return (report?.packages ?? []).map(
    ({ name, version, artifacts }) =>
      `${name} ${version}: ${artifacts.map((artifact) => artifact.name).join(', ')}`,
  )
}

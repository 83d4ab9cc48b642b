import type { Report, Told } from './check.ts'
import { disagreements, summaryOf, type Judged, type Tally } from './judge.ts'

/** The report for programs. */
export function reportDocument(report: Report): unknown {
  const { count, size, by } = summaryOf(report.packages)
  const tallies = Object.fromEntries(
    Object.entries(by).map(([standing, tally]) => [standing, tallyRecord(tally)]),
  )
  return {
    at: report.at.toISOString(),
    threshold: report.threshold,
    summary: { count, size, ...tallies },
    unreadable: report.unreadable,
    alarms: report.alarms,
    warnings: report.warnings,
    rebuilders: report.rebuilders.map(rebuilderRecord),
    disagreements: disagreements(report.packages).map(({ installed }) => installed.name),
    packages: report.packages.map(packageRecord),
  }
}

function tallyRecord({ percentOfSize, ...told }: Tally) {
  return { ...told, percent_of_size: percentOfSize }
}

function rebuilderRecord({ keyFrom, hasAnswered, ...told }: Told) {
  return { ...told, key_from: keyFrom, has_answered: hasAnswered }
}

function packageRecord({ installed, standing, reason, link, sha256, verified, good, bad, voices }: Judged) {
  const { distribution, name, version, architecture, size } = installed
  return {
    distribution,
    name,
    version,
    architecture,
    size,
    sha256,
    standing,
    reason,
    link,
    verified_by: verified,
    good_by: good,
    bad_by: bad,
    voices: voices.map(({ url, answer, proof, isOtherFile }) => ({
      rebuilder: url,
      status: answer.status,
      reason: answer.reason,
      build_id: answer.buildId,
      proof: proof?.outcome ?? null,
      other_file: isOtherFile,
    })),
  }
}

const columns = [
  'standing',
  'distribution',
  'name',
  'version',
  'architecture',
  'size',
  'sha256',
  'verified_by',
  'good_by',
  'bad_by',
  'reason',
  'link',
] as const

/** The packages as RFC 4180 wants them, a heading first. */
export function reportCsv(report: Report): string {
  const rows = report.packages.map((one) => {
    const record = packageRecord(one)
    return columns.map((column) => csvField(record[column])).join(',')
  })
  return [columns.join(','), ...rows, ''].join('\r\n')
}

/** What begins like a formula would be run as one by programs that show tables. */
function csvField(value: string | number | null): string {
  const text = String(value ?? '')
  const harmless = typeof value === 'string' && /^[=+@\t\r-]/.test(text) ? `'${text}` : text
  return /[",\r\n]/.test(harmless) ? `"${harmless.replaceAll('"', '""')}"` : harmless
}

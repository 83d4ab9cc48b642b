import type { BuildStatus } from '../wire/common.ts'
import type { RebuildReport, ReportArtifact } from '../wire/builds.ts'
import { classOf, type Reason } from '../wire/reasons.ts'

/** A file that the job was about. */
export type Expected = { readonly name: string; readonly file: string; readonly sha256: string | null }

/** What became of one file. FAIL: it could not be compared. */
export type Judged = {
  readonly name: string
  readonly file: string
  readonly status: 'GOOD' | 'BAD' | 'FAIL'
  readonly reason: Reason | null
  readonly reported: ReportArtifact
}
export type Verdict = {
  readonly status: BuildStatus
  readonly reason: Reason | null
  readonly artifacts: readonly Judged[]
}

/**
 * Decides what a report means. The worker's word is not enough: a GOOD must be about the very bytes that the
 * index names, a report about no file proves nothing, and trouble of infrastructure is never BAD.
 * @param expected the files of the job
 */
export function verdictOf(report: RebuildReport, expected: readonly Expected[]): Verdict {
  const artifacts = matched(report.artifacts, expected).map(([file, reported]) =>
    judged(report, file, reported),
  )
  return { ...wholeOf(report, artifacts), artifacts }
}

/** The verdict of the whole from those of its files. */
export function wholeOf(
  report: Pick<RebuildReport, 'status' | 'reason'>,
  artifacts: readonly Judged[],
): Pick<Verdict, 'status' | 'reason'> {
  if (report.status === 'FAIL' || report.status === 'UNKWN') {
    return { status: 'FAIL', reason: report.reason ?? 'unexplained' }
  }
  if (artifacts.length === 0) return { status: 'FAIL', reason: 'nothing_to_compare' }
  const worst =
    artifacts.find((item) => item.status === 'FAIL') ?? artifacts.find((item) => item.status === 'BAD')
  return { status: worst?.status ?? 'GOOD', reason: worst?.reason ?? null }
}

/** Reported artifacts with the files of the job they are about: by URL, else by name, each file once. */
function matched(
  reported: readonly ReportArtifact[],
  expected: readonly Expected[],
): [Expected, ReportArtifact][] {
  const open = new Set(expected)
  const pairs: [Expected, ReportArtifact][] = []
  for (const artifact of reported) {
    const file = artifact.url === null ? null : artifact.url.slice(artifact.url.lastIndexOf('/') + 1)
    const found = [...open].find(
      (item) => item.name === artifact.name && (file === null || item.file === file),
    )
    if (found === undefined) continue
    open.delete(found)
    pairs.push([found, artifact])
  }
  return pairs
}

function judged(report: RebuildReport, { name, file, sha256 }: Expected, reported: ReportArtifact): Judged {
  const item = { name, file, reported }
  const isOther = sha256 !== null && reported.sha256 !== null && reported.sha256 !== sha256
  if (isOther) return { ...item, status: 'FAIL', reason: 'input_mismatch' }
  if (reported.status === 'GOOD') return { ...item, ...goodIfEqual(reported) }
  const reason =
    reported.reason ?? report.reason ?? (reported.diffoscope === null ? 'unexplained' : 'content_differs')
  const isVerdict = reported.status === 'BAD' && report.status !== 'FAIL' && classOf(reason) === 'package'
  return { ...item, status: isVerdict ? 'BAD' : 'FAIL', reason }
}

/** A worker that names both hashes must name the same one twice. */
function goodIfEqual({ sha256, rebuilt_sha256 }: ReportArtifact): Pick<Judged, 'status' | 'reason'> {
  const contradicts = sha256 !== null && rebuilt_sha256 !== null && sha256 !== rebuilt_sha256
  return contradicts ? { status: 'BAD', reason: 'content_differs' } : { status: 'GOOD', reason: null }
}

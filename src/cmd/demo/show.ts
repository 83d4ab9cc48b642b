import { join } from 'node:path'
import type { Client } from '../../client.ts'
import { printable } from '../../log.ts'
import { getBuildLog, getDiffoscope } from '../../wire/builds.ts'
import { wordsOf } from '../../wire/reasons.ts'
import { alignedLines, paintedStatus, type Cell, type Paint } from '../output.ts'
import type { Judged } from './watch.ts'

/** Lines of a diff or a log that the demonstration shows; the server has the rest. */
const mostLines = 20

/** `BAD   demo-dice 1.0 (content_differs) in 2.1 s` */
export function verdictLine({ source, build }: Judged, paint: Paint): string {
  const status = source.status ?? 'UNKWN'
  const why = source.reason === null ? '' : ` (${source.reason})`
  const took = secondsOf(build.evidence?.seconds ?? null)
  const time = took === '' ? '' : ` in ${took} s`
  return `${paintedStatus(status.padEnd(4), paint)}  ${printable(`${source.name} ${source.version}`)}${why}${time}`
}

/** What a person would look at next: the sentence of the reason, and the diff or the end of the log. */
export async function explanation({ source, build, artifacts }: Judged, client: Client): Promise<string[]> {
  if (source.reason === null) return []
  const lines = [wordsOf(source.reason)]
  const note = build.evidence?.note ?? null
  if (note !== null) lines.push(note)
  const differing = artifacts.filter((artifact) => artifact.has_diffoscope)
  for (const { id } of differing) {
    const diff = await client.call(getDiffoscope, { params: { id: build.id, artifact_id: id } })
    lines.push(...firstLines(diff))
  }
  if (differing.length === 0)
    lines.push(...lastLines(await client.call(getBuildLog, { params: { id: build.id } })))
  return lines.map((line) => `      ${printable(line)}`)
}

function firstLines(text: Uint8Array): string[] {
  const lines = linesOf(text)
  return lines.length <= mostLines
    ? lines
    : [...lines.slice(0, mostLines), `… ${lines.length - mostLines} more`]
}

function lastLines(text: Uint8Array): string[] {
  return linesOf(text).slice(-5)
}

function linesOf(text: Uint8Array): string[] {
  return new TextDecoder().decode(text).trimEnd().split('\n')
}

/** The table of all verdicts, then the hashes they rest on. */
export function summary(all: readonly Judged[], paint: Paint): string[] {
  const rows: Cell[][] = [['package', 'version', 'verdict', 'reason', 'seconds']]
  for (const { source, build } of all) {
    const status = source.status ?? 'UNKWN'
    const verdict = { text: status, as: (text: string) => paintedStatus(text, paint) }
    const seconds = secondsOf(build.evidence?.seconds ?? null)
    rows.push([source.name, source.version, verdict, source.reason ?? '', seconds])
  }
  const hashes = all.flatMap(({ artifacts }) =>
    artifacts.flatMap(({ name, sha256, rebuilt_sha256 }) => [
      printable(name),
      `  original  ${sha256 ?? 'unknown'}`,
      `  rebuilt   ${rebuilt_sha256 ?? 'not made'}`,
    ]),
  )
  return [...alignedLines(rows, []), '', 'SHA-256', ...hashes]
}

function secondsOf(seconds: number | null): string {
  return seconds === null ? '' : seconds.toFixed(1)
}

/** The same for programs. */
export function asDocument(
  all: readonly Judged[],
  { address, rebuilt }: { address: string; rebuilt: string },
) {
  return {
    server: address,
    packages: all.map(({ source, build, artifacts }) => ({
      distribution: source.distribution,
      release: source.release,
      name: source.name,
      version: source.version,
      architecture: build.architecture,
      verdict: source.status,
      reason: source.reason,
      seconds: build.evidence?.seconds ?? null,
      worker: build.worker,
      artifacts: artifacts.map(({ name, status, reason, url, ...compared }) => ({
        name,
        status,
        reason,
        url,
        sha256: compared.sha256,
        size: compared.size,
        rebuilt_sha256: compared.rebuilt_sha256,
        rebuilt_size: compared.rebuilt_size,
        first_difference: compared.first_difference,
        rebuilt_file: compared.rebuilt_sha256 === null ? null : join(rebuilt, fileNameIn(url ?? name)),
      })),
    })),
  }
}

function fileNameIn(url: string): string {
  return decodeURIComponent(url.slice(url.lastIndexOf('/') + 1))
}

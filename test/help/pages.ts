import type { Client } from '../../src/client.ts'
import { generateSigningKey, makeLink, serialiseEnvelope, signLink } from '../../src/attestation.ts'
import { submitBuild, type RebuildReport, type ReportArtifact } from '../../src/wire/builds.ts'
import type { Assignment } from '../../src/wire/queue.ts'
import {
  aPackage,
  aResult,
  anArtifact,
  anArtifactResult,
  importPackages,
  pop,
  someEvidence,
} from './server.ts'
import type { TestServer } from './server.ts'

/** A name that tries markup, quotes, an override, an invisible mark and a control character. */
export const hostileName = '<img src=x onerror=alert(1)>"\'&\u202egood\u200b\u0007'

/** A log that tries markup, a window title, a link of the terminal and an override; its colours are sound. */
export const hostileLog = [
  'dpkg-buildpackage: info: source package hello',
  '\u001b[1;31merror:\u001b[0m \u001b]0;title\u0007<script>document.title = "taken"</script>',
  '\u001b]8;;https://evil.example/\u001b\\click\u001b]8;;\u001b\\ \u202etxt.exe',
  'progress 10%\rprogress 100%',
  '',
].join('\n')

const hostileDiff = [
  '--- hello_1.0-1_amd64.deb',
  '+++ hello_1.0-1_amd64.deb',
  '│ @@ -1 +1 @@',
  '│ -<script>document.title = "taken"</script>',
  '│ +\u202e<img src=x onerror="document.title = 1">',
  '',
].join('\n')

const bytes = (text: string): Uint8Array => new TextEncoder().encode(text)

/** A worker whose key can sign. */
export async function aSigningWorker(server: TestServer) {
  const key = generateSigningKey()
  const client = await server.worker(Buffer.from(key.publicKey).toString('base64'), 'builder-01')
  return { key, client }
}

export type SigningWorker = Awaited<ReturnType<typeof aSigningWorker>>

/** Rebuilds the next job; what is BAD has a diff, what is GOOD an attestation. */
export async function rebuildNext(
  { key, client }: SigningWorker,
  status: 'GOOD' | 'BAD' | 'FAIL',
  given: Partial<RebuildReport> = {},
): Promise<Assignment> {
  const job = await pop(client.call)
  if (job === null) throw new Error('nothing is due')
  const artifacts = status === 'FAIL' ? [] : job.artifacts.map((artifact) => resultOf(artifact, status))
  const body = aResult(job, {
    status,
    artifacts,
    build_log: bytes(hostileLog),
    evidence: { ...someEvidence, note: hostileName },
    ...given,
  })
  await client.call(submitBuild, { body })
  return job

  function resultOf(
    { name, url, sha256 }: Assignment['artifacts'][number],
    verdict: 'GOOD' | 'BAD',
  ): ReportArtifact {
    const original = sha256 ?? 'a'.repeat(64)
    const file = url.slice(url.lastIndexOf('/') + 1)
    const hashes = { sha256: original, sha512: 'b'.repeat(128) }
    const link = makeLink({ artifact: { file, ...hashes }, input: { file: 'hello.buildinfo', ...hashes } })
    const isGood = verdict === 'GOOD'
    return anArtifactResult({
      name,
      url,
      status: verdict,
      sha256: original,
      size: 53_123,
      rebuilt_sha256: isGood ? original : 'c'.repeat(64),
      rebuilt_size: 53_119,
      first_difference: isGood ? null : 7340,
      reason: isGood ? null : 'content_differs',
      diffoscope: isGood ? null : bytes(hostileDiff),
      attestation: isGood ? serialiseEnvelope(signLink(link, key)) : null,
    })
  }
}

/** A small distribution with every verdict in it: a GOOD, a regression, a failure, one untried and a hostile one. */
export async function aSmallDistribution(call: Client['call'], worker: SigningWorker): Promise<void> {
  const maintainer = 'Ada <ada@example.org>'
  const listed = (helloVersion: string) => [
    aPackage({
      name: 'hello',
      version: helloVersion,
      maintainer,
      artifacts: [anArtifact({ name: 'hello', version: helloVersion, sha256: 'a'.repeat(64), size: 53_123 })],
    }),
    aPackage({ name: 'zlib', maintainer }),
    aPackage({ name: hostileName, maintainer: hostileName }),
  ]
  await importPackages(call, listed('1.0-1').slice(0, 1))
  await rebuildNext(worker, 'GOOD') // hello
  await importPackages(call, listed('1.0-1').slice(0, 2))
  await rebuildNext(worker, 'FAIL', { reason: 'environment_unavailable' }) // zlib
  await importPackages(call, listed('1.0-1'))
  await rebuildNext(worker, 'GOOD') // the hostile one
  await importPackages(call, listed('1.0-2'))
  await rebuildNext(worker, 'BAD') // hello, worse than before
  await importPackages(call, [...listed('1.0-2'), aPackage({ name: 'untried' })])
}

const marks: Readonly<Record<string, string>> = {
  '&#39;': "'",
  '&quot;': '"',
  '&gt;': '>',
  '&lt;': '<',
  '&amp;': '&',
}

/** The text of a command that a page prints, by what a screen reader calls it; empty: there is none. */
export function commandOf(page: string, label: string): string {
  const [, escaped = ''] = new RegExp(`aria-label="${label}"\\s*><code>([\\s\\S]*?)</code>`).exec(page) ?? []
  return escaped.replace(/&[#\w]+;/g, (mark) => marks[mark] ?? mark)
}

import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { RebuildReport, ReportArtifact } from '../../src/wire/builds.ts'
import { verdictOf } from '../../src/server/judge.ts'
import { anArtifactResult } from '../help/server.ts'

const a = 'a'.repeat(64)
const b = 'b'.repeat(64)

function aReport(
  status: RebuildReport['status'],
  artifact: Partial<ReportArtifact> | null,
  reason: RebuildReport['reason'] = null,
): RebuildReport {
  const artifacts = artifact === null ? [] : [anArtifactResult(artifact)]
  return {
    queue_id: 1,
    built_at: '2026-01-01T00:00:00',
    build_log: new Uint8Array(),
    status,
    artifacts,
    lease: null,
    reason,
    evidence: null,
  }
}

for (const [what, report, expected] of [
  [
    'GOOD, all hashes as the index has them',
    aReport('GOOD', { sha256: a, rebuilt_sha256: a }),
    ['GOOD', null],
  ],
  ['GOOD without hashes, as older workers send it', aReport('GOOD', {}), ['GOOD', null]],
  ['GOOD about other bytes', aReport('GOOD', { sha256: b, rebuilt_sha256: b }), ['FAIL', 'input_mismatch']],
  [
    'GOOD with two hashes that differ',
    aReport('GOOD', { sha256: a, rebuilt_sha256: b }),
    ['BAD', 'content_differs'],
  ],
  ['GOOD about no file', aReport('GOOD', null), ['FAIL', 'nothing_to_compare']],
  ['GOOD about another file', aReport('GOOD', { name: 'other' }), ['FAIL', 'nothing_to_compare']],
  ['GOOD as a whole with a BAD file', aReport('GOOD', { status: 'BAD' }), ['BAD', 'unexplained']],
  [
    'BAD with a diff',
    aReport('BAD', { status: 'BAD', diffoscope: new Uint8Array(1) }),
    ['BAD', 'content_differs'],
  ],
  [
    'BAD for want of the recorded environment',
    aReport('BAD', { status: 'BAD', reason: 'environment_differs' }),
    ['FAIL', 'environment_differs'],
  ],
  ['BAD for want of space', aReport('BAD', { status: 'BAD' }, 'no_space'), ['FAIL', 'no_space']],
  ['FAIL without a reason', aReport('FAIL', null), ['FAIL', 'unexplained']],
  ['FAIL with one', aReport('FAIL', null, 'build_failed'), ['FAIL', 'build_failed']],
  ['UNKWN', aReport('UNKWN', null), ['FAIL', 'unexplained']],
] as const) {
  test(`${what} → ${expected.join(' ')}`, () => {
    const { status, reason } = verdictOf(report, [{ name: 'hello', file: 'hello.deb', sha256: a }])

    assert.deepEqual([status, reason], expected)
  })
}

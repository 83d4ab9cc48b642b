import { test } from 'node:test'
import assert from 'node:assert/strict'
import { judge, type Comparison, type Ending } from '../../src/worker/verdict.ts'

const file = { sha256: 'a', size: 1 }
const comparisons = {
  same: { found: 'same', original: file, rebuilt: file },
  different: { found: 'different', original: file, rebuilt: file, firstDifference: 0 },
  missing: { found: 'missing' },
  refused: { found: 'refused' },
} as const satisfies Record<string, Comparison>

const builtWell: Ending = {
  exitCode: 0,
  killedBy: null,
  timedOut: false,
  ours: true,
  toldReason: null,
  presentToolchain: false,
  logReason: null,
  empty: false,
}
const theirs = { ours: false }
const timedOut = { timedOut: true, exitCode: null, killedBy: 'SIGTERM' }

for (const [what, found, ending, expected] of [
  ['equal files', 'same', {}, 'GOOD'],
  ['two equal files', 'same same', {}, 'GOOD same: GOOD GOOD'],
  ['equal files of a build that failed', 'same', { exitCode: 1 }, 'GOOD'],
  ['equal files made with another toolchain', 'same', { presentToolchain: true }, 'GOOD'],
  ['equal files of a build that was stopped', 'same', timedOut, 'GOOD'],
  ['nothing to compare', '', {}, 'FAIL nothing_to_compare'],
  ['a file that differs', 'different', {}, 'BAD content_differs: BAD'],
  ['a file that was not made', 'same missing', {}, 'BAD artifact_missing: GOOD BAD'],
  ['one that differs and one not made', 'missing different', {}, 'BAD content_differs: BAD BAD'],
  ['no file at all after a success', 'missing', { empty: true }, 'FAIL backend_error: UNKWN'],
  ['a link in place of a file', 'same refused', {}, 'FAIL backend_error: GOOD UNKWN'],
  [
    'a difference under another toolchain',
    'same different',
    { presentToolchain: true },
    'FAIL environment_differs: GOOD UNKWN',
  ],
  ['a timeout', 'different', timedOut, 'FAIL build_timeout: UNKWN'],
  ['a build that failed', 'missing', { exitCode: 1 }, 'FAIL build_failed: UNKWN'],
  ['a build that failed, another script', 'missing', { ...theirs, exitCode: 4 }, 'FAIL build_failed: UNKWN'],
  ['a difference after a failed build', 'different', { ...theirs, exitCode: 1 }, 'FAIL build_failed: UNKWN'],
  ['a bad input', 'missing', { exitCode: 2 }, 'FAIL input_invalid: UNKWN'],
  ['no environment', 'missing', { exitCode: 3 }, 'FAIL environment_unavailable: UNKWN'],
  ['no source', 'missing', { exitCode: 4 }, 'FAIL source_unavailable: UNKWN'],
  ['an unknown exit code', 'missing', { exitCode: 77 }, 'FAIL backend_error: UNKWN'],
  ['a script that cannot start', 'missing', { ...theirs, exitCode: 127 }, 'FAIL backend_error: UNKWN'],
  ['an exit nobody saw', 'missing', { exitCode: null }, 'FAIL backend_error: UNKWN'],
  [
    'killed by somebody else',
    'missing',
    { exitCode: null, killedBy: 'SIGKILL' },
    'FAIL backend_error: UNKWN',
  ],
  ['killed below a shell', 'missing', { ...theirs, exitCode: 137 }, 'FAIL backend_error: UNKWN'],
  ['a crash', 'missing', { exitCode: null, killedBy: 'SIGSEGV' }, 'FAIL backend_error: UNKWN'],
  ['a full disk that the backend told', 'different', { toldReason: 'no_space' }, 'FAIL no_space: UNKWN'],
  [
    'a backend that judges by itself',
    'different',
    { toldReason: 'content_differs' },
    'FAIL backend_error: UNKWN',
  ],
  [
    'failing tests in the log',
    'missing',
    { exitCode: 1, logReason: 'tests_failed' },
    'FAIL tests_failed: UNKWN',
  ],
  [
    'a log that speaks of tests after a success',
    'different',
    { logReason: 'tests_failed' },
    'BAD content_differs: BAD',
  ],
  [
    'what the backend told, against the log',
    'missing',
    { exitCode: 3, toldReason: 'source_unavailable', logReason: 'tests_failed' },
    'FAIL source_unavailable: UNKWN',
  ],
] as const satisfies readonly (readonly [string, string, Partial<Ending>, string])[]) {
  test(`${what} → ${expected}`, () => {
    const words = found.split(' ').filter((word): word is keyof typeof comparisons => word !== '')

    const { status, reason, artifacts } = judge(
      words.map((word) => comparisons[word]),
      { ...builtWell, ...ending },
    )

    const [overall, parts] = expected.replace(' same', '').split(': ')
    assert.equal([status, reason].filter((word) => word !== null).join(' '), overall)
    if (parts !== undefined) assert.equal(artifacts.map((one) => one.status).join(' '), parts)
    for (const one of artifacts) assert.equal(one.reason === null, one.status === 'GOOD')
  })
}

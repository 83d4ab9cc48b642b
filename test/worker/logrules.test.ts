import assert from 'node:assert/strict'
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { test } from 'node:test'
import { sentenceOf, complaintOf } from '../../src/errors.ts'
import { builtInLogRules, findingOf, logRulesOf, readLogRules } from '../../src/worker/logrules.ts'
import { rebuild } from '../../src/worker/rebuild.ts'
import { aFolder, aServer, files } from '../help/files.ts'
import { aJob, rebuildSettings } from '../help/jobs.ts'

const ours = logRulesOf(builtInLogRules())
const failedTest = 'make[1]: *** [debian/rules:12: override_dh_auto_test] Error 2'

// Most of it word for word from runs of these programs; what LWP, sbuild, Java and Go say as it is known.
for (const [line, expected] of [
  ['cp: error writing x: No space left on device', 'no_space'],
  ['/usr/bin/ld: final link failed: No space left on device', 'no_space'],
  [
    "/tmp/cc.s: Fatal error: can't fill 256 bytes in section .data of a.o: 'No space left on device'",
    'no_space',
  ],
  ["dpkg-deb: error: unable to write file 'out.deb': No space left on device", 'no_space'],
  ['mkdir: cannot create directory ‘d30’: No space left on device', 'no_space'],
  ["dd: writing to '/dev/full': No space left on device", null],
  [`cat: write error: No space left on device\n${failedTest}`, 'tests_failed'],
  [`cp: error writing 'b': No space left on device\n${failedTest}`, 'no_space'],
  ['g++: fatal error: Killed signal terminated program cc1plus', 'too_large'],
  ['Out of memory: Killed process 7 (cc1)', 'too_large'],
  ['virtual memory exhausted: Cannot allocate memory', 'too_large'],
  ["terminate called after throwing an instance of 'std::bad_alloc'", 'too_large'],
  ['make: *** [Makefile:2: all] Killed', 'too_large'],
  [`mmap: Cannot allocate memory\n${failedTest}`, 'tests_failed'],
  ['curl: (6) Could not resolve host: source.example', 'network_needed'],
  ['wget: unable to resolve host address ‘source.example’', 'network_needed'],
  ['Error: connect ENETUNREACH 192.0.2.1:80 - Local (0.0.0.0:0)', 'network_needed'],
  ['npm error code EAI_AGAIN', 'network_needed'],
  ['curl: (6) Could not resolve host: snapshot.debian.org', 'environment_unavailable'],
  [
    "500 Can't connect to snapshot.debian.org:443 (Temporary failure in name resolution)",
    'environment_unavailable',
  ],
  [
    'E: Failed to fetch http://a.example/Packages  404  Not Found [IP: 192.0.2.1 80]',
    'environment_unavailable',
  ],
  ['E: Failed to fetch http://a.example/hi_1_all.deb  Hash Sum mismatch', 'environment_unavailable'],
  [
    'E: Failed to fetch http://a.example/InRelease  503  Service Unavailable [IP: 192.0.2.1 80]',
    'environment_unavailable',
  ],
  ['E: mmdebstrap failed to run', 'environment_unavailable'],
  [
    'dpkg-buildpackage: warning: build dependencies/conflicts unsatisfied; aborting',
    'environment_unavailable',
  ],
  ['error: Failed build dependencies:\n\tno-devel is needed by a-1-1.x86_64', 'environment_unavailable'],
  ['make: fork: Resource temporarily unavailable', 'build_failed, may pass'],
  ['list.h:823:9: internal compiler error: Segmentation fault', 'build_failed, may pass'],
  ['a.c:1:1: internal compiler error: in expand_expr, at expr.cc:1', null],
  ['E: Build killed with signal TERM after 150 minutes of inactivity', 'build_timeout'],
  [failedTest, 'tests_failed'],
  ['make: *** [Makefile:10: all] Error 2', null],
  ['==> ERROR: A failure occurred in check().', 'tests_failed'],
  ['error: Bad exit status from /var/tmp/rpm-tmp.WD0j4X (%check)', 'tests_failed'],
  ['error: Bad exit status from /var/tmp/rpm-tmp.WD0j4X (%build)', null],
] as const) {
  test(`a log with "${line}" → ${expected ?? 'nothing more'}`, () => {
    const found = findingOf(Buffer.from(`building\n${line}\nthe end\n`), ours)

    assert.equal(found && `${found.reason}${found.temporary ? ', may pass' : ''}`, expected)
  })
}

test('only the end of a long log is asked why the build failed', () => {
  const log = Buffer.concat([Buffer.from('No space left on device\n'), Buffer.alloc(100_000, 'x\n')])

  assert.equal(findingOf(log, ours), null)
})

test('a log made to keep our rules busy does not', () => {
  const before = process.cpuUsage()

  for (const piece of [
    'make: *** [check ',
    'error writing ',
    'Max retries exceeded ',
    'snapshot.debian.org ',
  ])
    assert.equal(findingOf(Buffer.from(piece.repeat(10_000)), ours), null)

  const { user, system } = process.cpuUsage(before)
  assert.ok(user + system < 2_000_000, `${user + system} microseconds`) // of a processor, not of a clock: others work, too
})

test('the first rule that matches counts', () => {
  const rules = logRulesOf(`
    rule = [
      { pattern = '^flaky', reason = "tests_failed", temporary = true },
      { pattern = 'FLAKY', ignore_case = true, reason = "no_space" },
    ]`)

  assert.equal(findingOf(Buffer.from('one\nflaky\n'), rules)?.temporary, true)
  assert.equal(findingOf(Buffer.from('one\nso Flaky\n'), rules)?.reason, 'no_space')
})

for (const [what, toml, expected] of [
  [
    'a reason that does not exist',
    `[[rule]]\npattern = 'x'\nreason = "test_failed"`,
    /rule 1: .*(did you mean tests_failed)/,
  ],
  [
    'a reason that is not a log’s to tell',
    `[[rule]]\npattern = 'x'\nreason = "content_differs"`,
    /rule 1: content_differs is no reason/,
  ],
  [
    'a pattern that is none',
    `[[rule]]\npattern = '('\nreason = "no_space"`,
    /rule 1: Invalid regular expression/,
  ],
  [
    'an empty pattern, which would always match',
    `[[rule]]\npattern = ''\nreason = "no_space"`,
    /rule 1: pattern/,
  ],
  ['a member nobody knows', `[[rule]]\npattern = 'x'\nreason = "no_space"\nclass = "package"`, /rule 1: /],
  [
    'the second of two rules',
    `[[rule]]\npattern = 'x'\nreason = "no_space"\n[[rule]]\nreason = "no_space"`,
    /rule 2: pattern/,
  ],
  ['another table', `[[rules]]\npattern = 'x'`, /\[\[rule\]\]/],
  ['something else than TOML', `rule = [`, /not valid TOML/],
] as const) {
  test(`rules with ${what} are refused`, () => {
    assert.throws(
      () => logRulesOf(toml),
      (error) => {
        const text = `${sentenceOf(error)} (${complaintOf(error)?.hint ?? ''})`
        assert.match(text, expected)
        return true
      },
    )
  })
}

test('a file of rules is named when it is wrong or missing', async (t) => {
  const folder = await aFolder(t)
  await writeFile(join(folder, 'rules.toml'), 'x = 1')

  await assert.rejects(readLogRules(join(folder, 'rules.toml')), (error) =>
    sentenceOf(error).includes('rules.toml: rules are'),
  )
  await assert.rejects(readLogRules(join(folder, 'none.toml')), (error) =>
    sentenceOf(error).includes('none.toml: '),
  )
})

test('the operator’s rules decide what a failed build means, and whether it may pass', async (t) => {
  const base = await aServer(t, files({ '/hello.buildinfo': 'x', '/hello.deb': 'y' }))
  const logRules = logRulesOf(`[[rule]]\npattern = 'moon'\nreason = "tests_failed"\ntemporary = true`)
  const outcome = async (script: string) => {
    const settings = await rebuildSettings(t, script, { logRules })
    const { status, reason, evidence } = await rebuild(aJob(base), {
      directory: await aFolder(t),
      settings,
      signal: t.signal,
    })
    return [status, reason, evidence?.temporary]
  }

  assert.deepEqual(await outcome('echo the moon is full; exit 1'), ['FAIL', 'tests_failed', true])
  assert.deepEqual(await outcome('echo No space left on device; exit 1'), ['FAIL', 'build_failed', false])
  assert.deepEqual(await outcome('echo the moon; printf z > "$REBUILDERD_OUTDIR/hello.deb"'), [
    'BAD',
    'content_differs',
    false,
  ])
})

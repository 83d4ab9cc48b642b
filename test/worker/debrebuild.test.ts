import assert from 'node:assert/strict'
import { mkdir, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { test, type TestContext } from 'node:test'
import {
  builtInBackends,
  digestOfScripts,
  runBackend,
  scriptsOf,
  type BackendResult,
} from '../../src/worker/backend.ts'
import { checkBackends } from '../../src/worker/doctor.ts'
import { runHere } from '../cmd/program.ts'
import { aFolder, aServer, aStandIn, files } from '../help/files.ts'
import { lacksPrograms } from '../help/debs.ts'
import { aJob, rebuildSettings } from '../help/jobs.ts'
import { rebuild as rebuilt } from '../../src/worker/rebuild.ts'
import { patienceSeconds } from '../help/until.ts'

const buildinfo = `Format: 1.0
Source: hello
Binary: hello
Architecture: amd64
Version: 1.0-1
Build-Architecture: amd64
Build-Path: /build/reproducible-path/hello-1.0
Installed-Build-Depends:
 base-files (= 12.4)
Environment:
 DEB_BUILD_OPTIONS="parallel=4"
 LANG="C.UTF-8"
`
const debrebuild = { name: 'debian', path: 'built-in:debrebuild', options: {} }
const skip = lacksPrograms('iconv', 'awk')

/** Takes options as debrebuild does, then does what the lines say; `$result` is the folder for what it makes. */
const standIn = (lines: string): string => `case "$*" in *--help) echo 'Usage: debrebuild'; exit 0 ;; esac
for word; do case $word in --buildresult=*) result=\${word#*=} ;; esac; done
echo "called with $(basename "$result") $2 $3 $(basename "$4")"
${lines}`

type Idea = { lines: string; input?: string; artifacts?: readonly string[]; options?: Record<string, string> }

async function rebuild(t: TestContext, idea: Idea): Promise<BackendResult> {
  const folder = await aFolder(t)
  const input = join(folder, 'hello_1.0-1_amd64.buildinfo')
  await writeFile(input, idea.input ?? buildinfo)
  await aStandIn(t, 'debrebuild', standIn(idea.lines))
  await mkdir(join(folder, 'job'), { mode: 0o700 })
  return runBackend({
    backend: { ...debrebuild, options: idea.options ?? {} },
    input,
    directory: join(folder, 'job'),
    job: {
      name: 'hello',
      version: '1.0-1',
      distribution: 'debian',
      release: 'bookworm',
      architecture: 'amd64',
      inputUrl: 'http://mirror.example/hello_1.0-1_amd64.buildinfo',
      artifacts: idea.artifacts ?? ['hello_1.0-1_amd64.deb'],
    },
    cache: join(folder, 'cache'),
    timeoutSeconds: patienceSeconds,
    maxLogBytes: null,
    silent: true,
    isolation: 'off', // the stand-in lies in a folder that a sandbox does not show
    signal: t.signal,
  })
}

const logOf = (result: BackendResult): string => Buffer.from(result.log).toString()

test(
  'debrebuild gets the builder, a folder and the .buildinfo; what it makes is the output',
  { skip },
  async (t) => {
    const lines = 'echo bytes > "$result/hello_1.0-1_amd64.deb"; echo no > "$result/hello_1.0.orig.tar.gz"'

    const result = await rebuild(t, { lines, options: { builder: 'sbuild+unshare' } })

    assert.equal(result.exitCode, 0, logOf(result))
    const [script] = builtInBackends.filter(({ name }) => name === 'debrebuild')
    assert.ok(script !== undefined && result.digest === digestOfScripts(scriptsOf(script)))
    assert.match(
      logOf(result),
      /^called with result --builder=sbuild\+unshare -- hello_1\.0-1_amd64\.buildinfo$/m,
    )
    assert.equal(await readFile(join(result.outdir, 'hello_1.0-1_amd64.deb'), 'utf8'), 'bytes\n')
    await assert.rejects(readFile(join(result.outdir, 'hello_1.0.orig.tar.gz')))
    assert.deepEqual([result.told?.reason, /network on/.test(result.told?.note ?? '')], [null, true])
  },
)

test('of a signed input debrebuild gets what was signed', { skip }, async (t) => {
  const armoured = `-----BEGIN PGP SIGNED MESSAGE-----\nHash: SHA256\n\n${buildinfo}\n-----BEGIN PGP SIGNATURE-----\n\nabc=$(x)\n-----END PGP SIGNATURE-----\n`
  const lines = 'cat "$4"; echo bytes > "$result/hello_1.0-1_amd64.deb"'

  const result = await rebuild(t, { lines, input: `${armoured}Environment:\n X="$(reboot)"\n` })

  assert.equal(result.exitCode, 0, logOf(result))
  assert.ok(logOf(result).includes(buildinfo))
  assert.doesNotMatch(logOf(result), /PGP|reboot/)
})

test(
  'bytes that debrebuild finds to differ are outputs all the same: the worker compares',
  { skip },
  async (t) => {
    const lines =
      'echo bytes > "$result/hello_1.0-1_amd64.deb"; echo "value of sha256 differs for hello"; exit 255'

    const result = await rebuild(t, { lines })

    assert.equal(result.exitCode, 0, logOf(result))
  },
)

for (const [what, lines, code, reason, note] of [
  [
    'snapshot is out of reach',
    'echo "debootsnap failed at debrebuild line 420." >&2; exit 2',
    3,
    'environment_unavailable',
    /debootsnap failed/,
  ],
  [
    'the name of a server cannot be resolved',
    'echo "Could not resolve host: metasnap"; exit 1',
    3,
    'environment_unavailable',
    /Could not resolve/,
  ],
  ['it says nothing', 'exit 9', 3, 'environment_unavailable', /called with/],
  [
    'the source is nowhere',
    'echo "debsnap: No source files found"; exit 25',
    4,
    'source_unavailable',
    /No source files/,
  ],
  [
    'the input is of no use',
    'echo "need Installed-Build-Depends field"; exit 255',
    2,
    'input_invalid',
    /Installed-Build-Depends/,
  ],
  [
    'the build fails, whatever it prints',
    'echo "dpkg-buildpackage: info: source package hello"; echo "Could not resolve host: metasnap"; exit 25',
    1,
    'build_failed',
    /ended with 25/,
  ],
  ['it ends well without the file', 'echo other > "$result/other_1.0-1_amd64.deb"', 0, null, /network on/],
] as const) {
  test(`where ${what}, debrebuild's end is ${reason ?? 'for the worker to judge'}`, { skip }, async (t) => {
    const result = await rebuild(t, { lines })

    assert.equal(result.exitCode, code, logOf(result))
    assert.deepEqual(result.told?.reason, reason)
    assert.match(result.told?.note ?? '', note)
  })
}

for (const [what, input] of [
  ['a variable that a shell would run', buildinfo.replace('C.UTF-8', '$(touch /tmp/x)')],
  ['a version that a shell would run', buildinfo.replace('1.0-1', '1.0;reboot')],
  ['a folder with quotes', buildinfo.replace('hello-1.0', 'hello" "')],
] as const) {
  test(`an input with ${what} never reaches debrebuild`, { skip }, async (t) => {
    const result = await rebuild(t, { lines: 'exit 0', input })

    assert.equal(result.exitCode, 2)
    assert.equal(result.told?.reason, 'input_invalid')
    assert.doesNotMatch(logOf(result), /called/)
  })
}

test(
  'a debrebuild without its modules is no debrebuild, and doctor says what brings them',
  { skip },
  async (t) => {
    const says = 'echo "you must have the libstring-shellquote-perl package installed" >&2; exit 2'
    const folder = await aStandIn(t, 'debrebuild', says)

    const { backends } = await checkBackends(t.signal)

    const health = backends.find(({ name }) => name === 'debrebuild')
    assert.equal(health?.works, false, folder)
    assert.match(health.install ?? '', /\bdevscripts\b.*\blibstring-shellquote-perl\b/)
    assert.equal(health.instead, 'debian')
  },
)

test('debrebuild is in force only where the configuration chooses it', { skip }, async (t) => {
  const home = await aFolder(t)
  const config = join(home, 'worker.conf')
  await writeFile(config, '[backend.debian]\npath = "built-in:debrebuild"\n')

  const usual = await runHere(['worker', 'backends'], { home })
  const chosen = await runHere(['worker', 'backends', '-c', config], { home })

  assert.match(usual.stdout, /^ {2}debrebuild +built-in:debrebuild +/m)
  assert.match(chosen.stdout, /^\* debrebuild +built-in:debrebuild +/m)
  assert.match(chosen.stdout, /^ {2}debian +built-in:debian +/m)
})

test(
  "a script of upstream's that calls debrebuild runs unchanged",
  { skip: skip || lacksPrograms('nice') },
  async (t) => {
    const mirror = { '/hello.buildinfo': buildinfo, '/hello.deb': 'good bytes' }
    // As upstream's interface has it: one argument, REBUILDERD_OUTDIR, a folder that persists, TMPDIR of its own.
    const script = `set -e; export TMPDIR=/var/tmp; [ $# = 1 ]; [ -d "$REBUILDERD_OUTDIR" ]
version=$(sed -n 's/^Version: //p' "$1"); [ "$version" = 1.0-1 ]; mkdir -p debian-cache
cd "$(dirname "$1")"
nice debrebuild --buildresult="$REBUILDERD_OUTDIR" --builder=sbuild+unshare -- "$1"`

    for (const [lines, expected] of [
      ['printf "good bytes" > "$result/hello.deb"; exit 1', 'GOOD null'],
      ['printf "other bytes" > "$result/hello.deb"', 'BAD content_differs'],
      ['exit 1', 'FAIL build_failed'],
    ] as const) {
      const settings = await rebuildSettings(t, script)
      await aStandIn(t, 'debrebuild', standIn(lines))
      const assignment = aJob(await aServer(t, files(mirror)))

      const result = await rebuilt(assignment, { directory: await aFolder(t), settings, signal: t.signal })

      assert.equal(`${result.status} ${result.reason}`, expected)
    }
  },
)

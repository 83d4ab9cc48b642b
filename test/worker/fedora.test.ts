import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { chmod, mkdir, readFile, readdir, writeFile } from 'node:fs/promises'
import { basename, join } from 'node:path'
import { test, type TestContext } from 'node:test'
import { promisify } from 'node:util'
import { runBackend, type BackendResult } from '../../src/worker/backend.ts'
import { rebuild, type RebuildJob } from '../../src/worker/rebuild.ts'
import { lacksPrograms, sandbox } from '../help/debs.ts'
import { aFolder, aServer, aStandIn, files } from '../help/files.ts'
import { rebuildSettings } from '../help/jobs.ts'
import { patienceSeconds } from '../help/until.ts'

const run = promisify(execFile)
const noRpm = lacksPrograms('rpm', 'rpmbuild', 'unshare')

const specOf = (make: string): string => `Name: tiny
Version: 1.0
Release: 1
Summary: tiny
License: MIT
BuildArch: noarch
%description
It holds one file.
%build
${make}
%install
install -D -m644 made %{buildroot}/usr/share/tiny/made
%files
/usr/share/tiny/made
%changelog
* Sun Mar 03 2024 Tiny <tiny@mirror.example> - 1.0-1
- First.
`

/** Builds a package and its source package as a distribution would: both, by file name. */
async function anRpmPair(t: TestContext, make: string): Promise<Record<string, Buffer>> {
  const top = await aFolder(t)
  await writeFile(join(top, 'tiny.spec'), specOf(make))
  await chmod(top, 0o777)
  const kind = process.getuid?.() === 0 ? 'none' : 'single'
  const macros = {
    _topdir: '/builddir/build',
    _buildhost: 'builder-07.mirror.example',
    source_date_epoch_from_changelog: '1',
    use_source_date_epoch_as_buildtime: '1',
    clamp_mtime_to_source_date_epoch: '1',
  }
  const defines = Object.entries(macros).flatMap(([name, value]) => ['--define', `${name} ${value}`])
  const inside = [
    sandbox,
    '--user-namespace',
    kind,
    '--bind',
    top,
    '/builddir',
    '--user',
    '1234',
    '--directory',
    '/builddir',
  ]
  const clean = ['env', '-i', 'PATH=/usr/bin:/bin', 'HOME=/builddir', 'LC_ALL=C.UTF-8', 'TZ=UTC']
  // First the source package, then from that the package, as build systems do it: each knows of the other.
  const script = 'rpmbuild -bs "$@" tiny.spec && rpmbuild --rebuild "$@" build/SRPMS/*.src.rpm'
  await run('perl', [...inside, '--', ...clean, 'sh', '-c', script, 'sh', ...defines])
  const made = await readdir(top, { recursive: true })
  const packages = made.filter((path) => path.endsWith('.rpm'))
  const entries = packages.map(async (path) => [basename(path), await readFile(join(top, path))] as const)
  return Object.fromEntries(await Promise.all(entries))
}

for (const [what, make, options, expected] of [
  [
    'whose build gives the same bytes',
    'date -u -d "@$SOURCE_DATE_EPOCH" > made',
    { build_root: 'host' },
    'GOOD null',
  ],
  [
    'whose build writes the time into it',
    'date -u +%s.%N > made',
    { build_root: 'host' },
    'BAD content_differs',
  ],
  [
    'whose build fails',
    '[ -e /builddir/tiny.spec ] && echo > made',
    { build_root: 'host' },
    'FAIL build_failed',
  ],
  ['where nobody knows the root it was built in', 'echo > made', {}, 'FAIL environment_unavailable'],
] as const) {
  test(`an rpm ${what}: ${expected}`, { skip: noRpm }, async (t) => {
    const pair = await anRpmPair(t, make)
    const mirror = await aServer(
      t,
      files(Object.fromEntries(Object.entries(pair).map(([name, bytes]) => [`/${name}`, bytes]))),
    )
    const settings = await rebuildSettings(t, '', {
      backends: new Map([['fedora', { name: 'fedora', path: 'built-in:fedora', options }]]),
      isolation: 'auto',
    })
    const name = { name: 'tiny', version: '1.0-1', architecture: 'noarch' }
    const assignment: RebuildJob = {
      job: {
        ...name,
        distribution: 'fedora',
        release: '42',
        backend: 'fedora',
        url: `${mirror}/tiny-1.0-1.src.rpm`,
      },
      artifacts: [{ ...name, url: `${mirror}/tiny-1.0-1.noarch.rpm`, sha256: null, size: null }],
    }

    const result = await rebuild(assignment, { directory: await aFolder(t), settings, signal: t.signal })

    assert.equal(`${result.status} ${result.reason}`, expected, result.evidence?.note ?? '')
    if (result.status === 'BAD')
      assert.match(result.evidence?.note ?? '', /differs in the header and the payload$/) // files have their hashes in the header
  })
}

type Idea = {
  program: string
  lines: string
  backend: string
  input: string
  options?: Record<string, string>
}

/** Runs a built-in backend with a stand-in for the program that it calls. */
async function withStandIn(t: TestContext, idea: Idea): Promise<BackendResult & { text: string }> {
  const folder = await aFolder(t)
  const input = join(folder, idea.input)
  await writeFile(input, 'input')
  await aStandIn(t, idea.program, idea.lines)
  await mkdir(join(folder, 'job'), { mode: 0o700 })
  const made = idea.backend === 'fedora' ? 'tiny-1.0-1.noarch.rpm' : 'tiny-1.0-1-any.pkg.tar.zst'
  const result = await runBackend({
    backend: { name: idea.backend, path: `built-in:${idea.backend}`, options: idea.options ?? {} },
    input,
    directory: join(folder, 'job'),
    job: {
      name: 'tiny',
      version: '1.0-1',
      distribution: idea.backend,
      release: idea.backend === 'fedora' ? '42' : null,
      architecture: 'x86_64',
      inputUrl: `http://mirror.example/${idea.input}`,
      artifacts: [made],
    },
    cache: join(folder, 'cache'),
    timeoutSeconds: patienceSeconds,
    maxLogBytes: null,
    silent: true,
    isolation: 'off', // the stand-in lies in a folder that a sandbox does not show
    signal: t.signal,
  })
  return { ...result, text: Buffer.from(result.log).toString() }
}

const mock = { program: 'mock', backend: 'fedora', input: 'tiny-1.0-1.src.rpm' }
const mockMakes =
  'echo "mock $*"; mkdir -p "$5"; echo bytes > "$5/tiny-1.0-1.noarch.rpm"; echo > "$5/tiny-1.0-1.src.rpm"'

for (const [options, root, present] of [
  [{}, 'fedora-42-x86_64', true],
  [{ root: 'alma+epel-9' }, 'alma+epel-9', true],
  [{ build_root: 'koji-42.20260301' }, 'koji-42.20260301', false],
] as const) {
  test(`mock is asked for the root ${root}, and differences ${present ? 'prove nothing' : 'count'}`, async (t) => {
    const result = await withStandIn(t, { ...mock, lines: mockMakes, options })

    assert.equal(result.exitCode, 0, result.text)
    const asked = new RegExp(
      `^mock -r ${RegExp.escape(root)} --rebuild --resultdir \\S+/result --uniqueext job\\d+ \\S+/tiny-1\\.0-1\\.src\\.rpm$`,
      'm',
    )
    assert.match(result.text, asked)
    assert.deepEqual(await readdir(result.outdir), ['tiny-1.0-1.noarch.rpm'])
    assert.equal(result.told?.presentToolchain, present)
  })
}

for (const [ended, code, reason] of [
  [10, 1, 'build_failed'],
  [30, 3, 'environment_unavailable'],
  [40, 3, 'environment_unavailable'],
  [1, 5, 'backend_error'],
] as const) {
  test(`mock that ends with ${ended} means ${reason}`, async (t) => {
    const result = await withStandIn(t, { ...mock, lines: `exit ${ended}` })

    assert.deepEqual([result.exitCode, result.told?.reason], [code, reason], result.text)
  })
}

const repro = { backend: 'archlinux', input: 'tiny-1.0-1-any.pkg.tar.zst' }
const reproMakes =
  'echo "called $NOCHECK $1 $(basename "$2") $3 $(basename "$4")"; echo bytes > "$2/tiny-1.0-1-any.pkg.tar.zst"'

for (const program of ['archlinux-repro', 'repro']) {
  test(`${program} gets the package and a folder, without the tests of the package`, async (t) => {
    const result = await withStandIn(t, { ...repro, program, lines: reproMakes })

    assert.equal(result.exitCode, 0, result.text)
    assert.match(result.text, /^called 1 -o out -- tiny-1\.0-1-any\.pkg\.tar\.zst$/m)
    assert.deepEqual(await readdir(result.outdir), ['tiny-1.0-1-any.pkg.tar.zst'])
    assert.equal(result.told?.note, 'built by repro, which downloads by itself, with the network on')
  })
}

for (const [what, lines, code, reason] of [
  ['finds other bytes', `${reproMakes}; echo "Package is not reproducible"; exit 1`, 0, null],
  [
    'cannot get a recorded package',
    'echo "error: failed retrieving file"; exit 1',
    3,
    'environment_unavailable',
  ],
  ['sees the build fail', 'printf "\\033[1m==>\\033[m Making package: tiny\\n"; exit 4', 1, 'build_failed'],
] as const) {
  test(`repro that ${what} means ${reason ?? 'that the worker compares'}`, async (t) => {
    const result = await withStandIn(t, { ...repro, program: 'repro', lines })

    assert.deepEqual([result.exitCode, result.told?.reason ?? null], [code, reason], result.text)
  })
}

test('an rpm that is installed on this machine is not rebuilt with what is installed here', async (t) => {
  const lines = '[ "$1 $2" = "-q tiny-1.0-1.noarch" ]'
  const result = await withStandIn(t, { ...mock, program: 'rpm', lines, options: { build_root: 'host' } })

  assert.deepEqual([result.exitCode, result.told?.reason], [3, 'environment_unavailable'], result.text)
  assert.match(result.text, /tiny-1\.0-1\.noarch is to be rebuilt and installed on this machine itself/)
})

test("a script for Tails gets the image's name and leaves images, by the documented interface", async (t) => {
  const mirror = await aServer(t, files({ '/tails-amd64-7.1.img': 'good', '/tails-amd64-7.1.iso': 'good' }))
  const script = `set -e; [ $# = 1 ]; case "$1" in /*/tails-amd64-7.1.img) ;; *) exit 9 ;; esac
for kind in img iso; do printf good > "$REBUILDERD_OUTDIR/tails-amd64-7.1.$kind"; done`
  const settings = await rebuildSettings(t, script)
  const name = { name: 'tails', version: '7.1', architecture: 'amd64' }
  const artifacts = ['img', 'iso'].map((kind) => {
    return { ...name, url: `${mirror}/tails-amd64-7.1.${kind}`, sha256: null, size: null }
  })
  const job = {
    ...name,
    distribution: 'tails',
    release: 'stable',
    backend: 'test',
    url: `${mirror}/tails-amd64-7.1.img`,
  }

  const result = await rebuild(
    { job, artifacts },
    { directory: await aFolder(t), settings, signal: t.signal },
  )

  assert.deepEqual(
    result.artifacts.map(({ status }) => status),
    ['GOOD', 'GOOD'],
  )
})

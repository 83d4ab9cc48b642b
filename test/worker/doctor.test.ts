import assert from 'node:assert/strict'
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { test, type TestContext } from 'node:test'
import { builtInBackends } from '../../src/worker/backend.ts'
import { checkBackends, lineForIds } from '../../src/worker/doctor.ts'
import { asset } from '../../src/assets.ts'
import { aFolder, lacksPrograms } from '../help/debs.ts'

const { signal } = new AbortController()

test('every built-in backend is told of, and comes with its script', async () => {
  const { backends } = await checkBackends(signal)

  assert.deepEqual(
    backends.map((backend) => backend.name),
    builtInBackends.map((backend) => backend.name),
  )
  for (const { script } of builtInBackends)
    assert.match(Buffer.from(asset(script)).toString(), /^#!\/bin\/bash\n# \S/)
})

for (const [host, release, debian, arch, fedora] of [
  [
    'Debian',
    'ID=debian\nVERSION_ID="12"\n',
    /^apt-get update && apt-get install --no-install-recommends .*\bmmdebstrap\b/,
    /^apt-get .* makepkg libarchive-tools curl zstd$/,
    /^apt-get .*diffoscope-minimal$/,
  ],
  [
    'a derivative of Arch',
    "NAME='Some Linux'\nID=some\nID_LIKE='arch'\n",
    /^pacman -Syu --needed .*\bdpkg\b/,
    /^pacman -Syu --needed .* archlinux-repro libarchive curl zstd$/,
    /^pacman -Syu --needed /,
  ],
  [
    'a derivative of Fedora',
    'ID="some"\nID_LIKE="rhel centos fedora"\n',
    /^dnf install .*\bmmdebstrap$/,
    /^dnf install .*\bzstd$/,
    /^dnf install .*\bdiffoscope mock$/,
  ],
  ['another distribution', 'ID=another\n', null, null, null],
] as const) {
  test(`on a bare ${host} each backend says what installs the best of what is missing`, async (t) => {
    await onlyPrograms(t, [])

    const { backends } = await checkBackends(signal, builtInBackends, release)

    assert.ok(backends.every(({ missing, works }) => missing.length > 0 && !works))
    const lines = new Map(backends.map(({ name, install }) => [name, install]))
    for (const [name, expected] of Object.entries({ debian, archlinux: arch, fedora })) {
      if (expected === null) assert.equal(lines.get(name), null)
      else assert.match(lines.get(name) ?? '', expected)
    }
  })
}

for (const [what, subuid, subgid, expected] of [
  ['nobody has any', '', '', '100000-165535'],
  ['others have some', 'a:100000:65536\nb:165536:65536\n', 'a:100000:65536\n', '231072-296607'],
  ['only one of the files has ours', 'builder:100000:65536\n', '', '165536-231071'],
  ['we have some by our number', '1234:100000:65536\n', 'builder:100000:65536\n', null],
] as const) {
  test(`a user is given a range of ids where ${what}`, () => {
    const line = lineForIds(['builder', '1234'], [subuid, subgid])

    const usermod = `usermod --add-subuids ${expected} --add-subgids ${expected} builder`
    assert.equal(line, expected === null ? null : usermod)
  })
}

test('of programs of which one is enough, one is', async (t) => {
  await onlyPrograms(t, [
    'bash',
    'perl',
    'unshare',
    'setpriv',
    'makepkg',
    'bsdtar',
    'curl',
    'zstd',
    'rpmbuild',
  ])
  const health = async (release: string) =>
    new Map((await checkBackends(signal, builtInBackends, release)).backends.map((one) => [one.name, one]))

  const onDebian = await health('ID=debian')
  const onFedora = await health('ID=fedora')

  assert.equal(onDebian.get('archlinux')?.works, true)
  assert.deepEqual(
    onDebian.get('archlinux')?.uses.map(({ program }) => program),
    ['makepkg'],
  )
  assert.equal(onDebian.get('fedora')?.works, false, 'there rpmbuild could rebuild no job that nobody set up')
  const [wanted] = onDebian.get('fedora')?.missing.filter(({ must }) => must) ?? []
  assert.deepEqual([wanted?.program, wanted?.or.map(({ program }) => program)], ['mock', ['rpmbuild']])
  assert.equal(onFedora.get('fedora')?.works, true)
})

/** PATH for this test: a folder with nothing but these, which do nothing. */
async function onlyPrograms(t: TestContext, programs: readonly string[]): Promise<void> {
  const path = process.env['PATH']
  t.after(() => (process.env['PATH'] = path))
  const folder = await aFolder(t)
  for (const name of programs) await writeFile(join(folder, name), '#!/bin/true\n', { mode: 0o755 })
  process.env['PATH'] = folder
}

test(
  'a machine with the programs can rebuild Debian packages',
  { skip: lacksPrograms('mmdebstrap', 'dpkg-buildpackage') },
  async () => {
    const { backends } = await checkBackends(signal)

    assert.equal(backends.find((backend) => backend.name === 'debian')?.works, true)
  },
)

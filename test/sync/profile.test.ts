import assert from 'node:assert/strict'
import { join } from 'node:path'
import { describe, test, type TestContext } from 'node:test'
import { complaintOf } from '../../src/errors.ts'
import { checkedProfile, readProfiles } from '../../src/sync/profile.ts'
import { aFolder, put } from '../help/archives.ts'

async function aFile(t: TestContext, content: string): Promise<string> {
  const file = join(await aFolder(t), 'rebuilderd-sync.conf')
  await put(file, content)
  return file
}

test('profiles of a file are read with their defaults', async (t) => {
  const file = await aFile(
    t,
    `[profile."debian-trixie"]
distro = "debian"
source = "http://mirror.example/debian"
components = ["main"]
releases = ["trixie", { name = "trixie-debug", source = "http://mirror.example/debian-debug" }]
architectures = ["amd64", "all"]
include = [{ exclude = true, binary_pkgs = ["*-dbgsym"] }, { source_pkgs = ["a*"], maintainer = "Jane" }]
excludes = ["linux-*"]

[profile.arch]
distro = "archlinux"
source = "https://mirror.example/$repo/os/$arch"
`,
  )

  const profiles = await readProfiles(file)

  assert.deepEqual([...profiles.keys()], ['debian-trixie', 'arch'])
  assert.deepEqual(profiles.get('debian-trixie')?.releases[1], {
    name: 'trixie-debug',
    source: 'http://mirror.example/debian-debug',
  })
  assert.deepEqual(profiles.get('arch')?.components, [])
})

describe('a profile is refused', () => {
  const good = { distro: 'debian', source: 'http://mirror.example/debian' }
  for (const [name, given, message, hint] of [
    ['with a removed key', { ...good, suite: 'main' }, /unknown key suite/, /components/],
    [
      'with another removed key',
      { ...good, architecture: 'amd64' },
      /unknown key architecture/,
      /architectures/,
    ],
    [
      'with a mistyped key',
      { ...good, component: ['main'] },
      /unknown key component/,
      /did you mean components/,
    ],
    [
      'with a mistyped key of a rule',
      { ...good, include: [{ binary_pkg: ['a'] }] },
      /unknown key binary_pkg/,
      /binary_pkgs/,
    ],
    ['without a distribution', { source: 'x' }, /distro/, undefined],
    ['without a source', { distro: 'debian' }, /source/, undefined],
    ['with a bad pattern', { ...good, pkgs: ['[a'] }, /pkgs/, undefined],
    ['with text instead of a list', { ...good, releases: 'trixie' }, /releases/, undefined],
    ['with a release that is neither', { ...good, releases: [{ nam: 'x' }] }, /releases/, undefined],
    ['with an unknown build input', { ...good, build_input: 'orig' }, /build_input/, undefined],
  ] as const) {
    test(name, () => {
      assert.throws(
        () => checkedProfile('profile "x"', given),
        (error) => {
          const complaint = complaintOf(error)
          assert.match(complaint?.message ?? '', message)
          assert.match(complaint?.message ?? '', /^profile "x"/)
          if (hint !== undefined) assert.match(complaint?.hint ?? '', hint)
          return complaint?.exitCode === 2
        },
      )
    })
  }

  test('when the file has none', async (t) => {
    await assert.rejects(readProfiles(await aFile(t, '')), /has no profile/)
  })

  test('when the file is not there', async (t) => {
    await assert.rejects(readProfiles(join(await aFolder(t), 'none.conf')), /cannot read/)
  })
})

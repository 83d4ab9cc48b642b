import assert from 'node:assert/strict'
import { existsSync } from 'node:fs'
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { test } from 'node:test'
import { rebuildDebian } from '../help/debian.ts'
import { aFolder, debianArchitecture, lacksPrograms } from '../help/debs.ts'

const skip = lacksPrograms('dpkg', 'apt-get', 'unshare')
const architecture = skip === false ? debianArchitecture() : ''
const trap = '/tmp/rebuilderd-trap'

const good = `Format: 1.0
Source: tiny
Binary: tiny
Architecture: ${architecture}
Version: 1.0-1
Build-Architecture: ${architecture}
Build-Path: /build/reproducible-path/tiny-1.0
Installed-Build-Depends:
 libc6 (= 2.36-9),
 nowhere-to-be-had (= 1.0)
Environment:
 DEB_BUILD_OPTIONS="parallel=2"
`

for (const [name, text, exits, reason] of [
  [
    'a name with a command in it',
    good.replace('Source: tiny', `Source: tiny$(touch ${trap})`),
    2,
    'input_invalid',
  ],
  ['a name that is a path', good.replace('Source: tiny', 'Source: ../tiny'), 2, 'input_invalid'],
  ['a version with a command in it', good.replace('1.0-1', `1.0;touch ${trap}`), 2, 'input_invalid'],
  [
    'a source version with blanks',
    good.replace('Source: tiny', 'Source: tiny (1.0 -rf)'),
    2,
    'input_invalid',
  ],
  ['a Build-Path with dots', good.replace('reproducible-path', '../etc'), 2, 'input_invalid'],
  [
    'a Build-Path with a command in it',
    good.replace('reproducible-path', `$(touch ${trap})`),
    2,
    'input_invalid',
  ],
  ['a Build-Path that is no path', good.replace('/build/repro', '--help/repro'), 2, 'input_invalid'],
  ['a dependency that is an option', good.replace('libc6', '-o=x'), 2, 'input_invalid'],
  ['a dependency with a command in it', good.replace('2.36-9', `2\`touch ${trap}\``), 2, 'input_invalid'],
  ['no dependencies', good.replace(/Installed-Build-Depends:\n( .*\n)+/, ''), 2, 'input_invalid'],
  ['nothing in it', '', 2, 'input_invalid'],
  ['bytes that are no text', '\u0000\u0001\ufffd'.repeat(1000), 2, 'input_invalid'],
  ['another architecture', good.replace(/(Build-Architecture: ).*/, '$1s390x'), 3, 'environment_unavailable'],
  [
    'what stands behind the signature',
    `-----BEGIN PGP SIGNED MESSAGE-----\nHash: SHA512\n\nFormat: 1.0\n-----BEGIN PGP SIGNATURE-----\nx\n-----END PGP SIGNATURE-----\n${good}`,
    2,
    'input_invalid',
  ],
  [
    'what stands before what is signed',
    `${good}\n-----BEGIN PGP SIGNED MESSAGE-----\nHash: SHA512\n\n${good}-----BEGIN PGP SIGNATURE-----\nx\n-----END PGP SIGNATURE-----\n`,
    2,
    'input_invalid',
  ],
  [
    'the wanted package in its own environment',
    good.replace('libc6 (= 2.36-9)', 'tiny-c++ (= 2:1.0-1)'),
    2,
    'input_invalid',
  ],
  [
    'a package that it says it made in its own environment',
    good
      .replace('libc6', 'other')
      .replace('Env', `Checksums-Sha256:\n ${'0'.repeat(64)} 9 other_2.36-9_all.deb\nEnv`),
    2,
    'input_invalid',
  ],
] as const) {
  test(
    `a .buildinfo with ${name} is refused before anything is run with it → ${exits}`,
    { skip },
    async (t) => {
      const folder = await aFolder(t)
      const input = join(folder, 'tiny.buildinfo')
      await writeFile(input, text)

      const result = await rebuildDebian(t, input, {
        directory: join(folder, 'job'),
        job: { version: '1.0-1', inputUrl: '', artifacts: [`tiny-c%2B%2B_1.0-1_${architecture}.deb`] },
      })

      assert.equal(result.exitCode, exits, Buffer.from(result.log).toString())
      assert.equal(result.told?.reason, reason)
      assert.ok(!existsSync(trap))
    },
  )
}

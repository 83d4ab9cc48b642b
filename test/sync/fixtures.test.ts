import assert from 'node:assert/strict'
import { createReadStream, existsSync } from 'node:fs'
import { cp, mkdir, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { test, type TestContext } from 'node:test'
import { decompressed } from '../../src/compression.ts'
import { binaryFields, binaryOf, sourceReader, type Source } from '../../src/sync/debian-packages.ts'
import { stanzaOf, stanzas } from '../../src/sync/deb822.ts'
import { unprovenText } from '../../src/sync/openpgp.ts'
import { aFolder } from '../help/archives.ts'
import { sync } from '../help/sync.ts'

const fixtures = join(import.meta.dirname, '../../../shared/fixtures')
const skip = existsSync(fixtures) ? false : 'needs the files of ../shared/fixtures'

function plain(name: string): AsyncIterable<Uint8Array> {
  return decompressed(createReadStream(join(fixtures, name)), { limit: 1e8, what: name })
}

test('a Packages of Ubuntu is read whole', { skip }, async () => {
  const found = []
  for await (const stanza of stanzas(plain('Packages.xz'), { what: 'Packages.xz', wanted: binaryFields })) {
    found.push(binaryOf(stanza, 'Packages.xz'))
  }

  assert.equal(found.length, 43)
  assert.ok(found.every(({ sha256, size }) => sha256 !== null && size !== null))
})

test('a Sources of Ubuntu is read whole', { skip }, async () => {
  const sources = new Map<string, Source>()
  const reader = sourceReader({ uploaders: true, directory: true, dsc: true })
  for await (const stanza of stanzas(plain('Sources.xz'), { what: 'Sources.xz', wanted: reader.fields })) {
    const { key, source } = reader.read(stanza, 'Sources.xz')
    sources.set(key, source)
  }

  assert.equal(sources.size, 52)
  assert.ok(
    [...sources.values()].every(
      ({ dsc, directory }) => dsc.endsWith('.dsc') && directory.startsWith('pool/'),
    ),
  )
})

test('an InRelease of Ubuntu lists its indexes', { skip }, async () => {
  const content = await unprovenText(await readFile(join(fixtures, 'InRelease')))

  const { fields } = stanzaOf(content, 'InRelease')

  assert.equal(fields['Codename'], 'noble')
  assert.match(fields['SHA256'] ?? '', /main\/binary-amd64\/Packages\.xz/)
})

test('an installer package of Debian is read', { skip }, async () => {
  for await (const stanza of stanzas(plain('aptly-udeb-Packages'), {
    what: 'Packages',
    wanted: binaryFields,
  })) {
    assert.match(binaryOf(stanza, 'Packages').path, /\.udeb$/)
  }
})

for (const [file, sources, artifacts] of [
  ['arch-core-2019.db', 198, 231],
  ['archweb-core-min.db.tar.gz', 5, 5],
] as const) {
  test(`the Arch database ${file} has ${artifacts} packages`, { skip }, async (t: TestContext) => {
    const folder = await aFolder(t)
    await mkdir(join(folder, 'core'))
    await cp(join(fixtures, file), join(folder, 'core/core.db'))
    const profile = {
      distro: 'archlinux',
      source: `${folder}/$repo`,
      components: ['core'],
      architectures: ['x86_64'],
    }

    const { reports, error } = await sync({ ...profile, allow_unsigned: true })

    assert.equal(error, null)
    assert.equal(reports[0]?.packages.length, sources)
    assert.equal(reports[0]?.packages.flatMap((one) => one.artifacts).length, artifacts)
  })
}

for (const [repository, expected] of [
  ['repo_02', ['fake_bash-1.1.1-1.src.rpm', 'super_kernel-6.0.1-2.src.rpm']],
  ['repo_04', ['fake_bash-1.1.1-1.src.rpm', 'super_kernel-6.0.1-2.src.rpm']],
] as const) {
  test(`the repository ${repository} of createrepo_c is read`, { skip }, async (t: TestContext) => {
    const source = await aFolder(t)
    await cp(join(fixtures, 'createrepo_c', repository), join(source, '43/Everything/x86_64/os/repodata'), {
      recursive: true,
    })
    const scope = { components: ['Everything'], releases: ['43'], architectures: ['x86_64'] }

    const { reports, error } = await sync({ distro: 'fedora', source, allow_unsigned: true, ...scope })

    assert.equal(error, null)
    assert.deepEqual(
      reports[0]?.packages.map(({ name }) => name),
      expected,
    )
  })
}

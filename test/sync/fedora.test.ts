import assert from 'node:assert/strict'
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, test, type TestContext } from 'node:test'
import { Complaint } from '../../src/errors.ts'
import { metadataFile, rpmPackages } from '../../src/sync/rpm-md.ts'
import {
  aFolder,
  aKey,
  detachedSignature,
  inPieces,
  primaryXml,
  put,
  writeRpmRepository,
  type RpmFields,
} from '../help/archives.ts'
import { contentOf, sync } from '../help/sync.ts'

const now = (): Date => new Date('2026-11-22T12:00:00Z')
const usual = { distro: 'fedora', components: ['Everything'], releases: ['43'], architectures: ['x86_64'] }

async function aRepository(t: TestContext, packages: readonly RpmFields[], release = '43') {
  const source = await aFolder(t)
  const folder = join(source, release, 'Everything/x86_64/os')
  const repomd = await writeRpmRepository(folder, packages)
  return { source, folder, repomd, profile: { ...usual, source, allow_unsigned: true } }
}

test('packages are grouped by source file, with their epochs and their release', async (t) => {
  const { folder, profile } = await aRepository(t, [
    { name: 'bash' },
    { name: 'bash-doc', source: 'bash-1.0-1.fc43.src.rpm', architecture: 'noarch' },
    { name: 'perl', epoch: '4', version: '5.42' },
    { name: 'perl', architecture: 'src' },
  ])

  const { reports, error } = await sync(profile)

  assert.equal(error, null)
  const [report] = reports
  assert.deepEqual(
    [report?.distribution, report?.release, report?.architecture, report?.index],
    ['fedora', '43', 'x86_64', 'unsigned'],
  )
  assert.deepEqual(contentOf(report), [
    'bash-1.0-1.fc43.src.rpm 1.0-1.fc43: bash, bash-doc',
    'perl-5.42-1.fc43.src.rpm 4:5.42-1.fc43: perl',
  ])
  assert.equal(report?.packages[0]?.url, `${folder}/Packages/b/bash-1.0-1.fc43.x86_64.rpm`)
  assert.equal(report?.packages[0]?.maintainer, 'Fedora Project')
  assert.equal(report?.packages[0]?.artifacts[1]?.architecture, 'noarch')
  assert.equal(report?.packages[0]?.artifacts[0]?.size, 4321)
})

test('two releases are two scopes, and one that fails leaves the other', async (t) => {
  const { profile } = await aRepository(t, [{ name: 'bash' }])

  const { reports, error } = await sync({ ...profile, releases: ['42', '43'] })

  assert.deepEqual(
    reports.map(({ release }) => release),
    ['43'],
  )
  assert.match(error?.message ?? '', /not synced.*fedora 42 x86_64 \(.*repomd\.xml/)
})

test('a repository is proven by the signature of repomd.xml and the hashes in it', async (t) => {
  const { folder, repomd, profile } = await aRepository(t, [{ name: 'bash' }])
  const key = await aKey()
  const keyring = join(await aFolder(t), 'keys.gpg')
  await put(keyring, key.publicKey.write())
  const strict = { ...profile, allow_unsigned: false, keyrings: [keyring] }

  const unsigned = await sync(strict, { now })
  await put(join(folder, 'repodata/repomd.xml.asc'), await detachedSignature(repomd, key))
  const signed = await sync(strict, { now })
  await put(join(folder, 'repodata/repomd.xml'), repomd.replace('</repomd>', ' </repomd>'))
  const altered = await sync(strict, { now })

  assert.match(unsigned.error?.message ?? '', /repomd\.xml\.asc is not there/)
  assert.equal(signed.reports[0]?.index, 'signed')
  assert.match(altered.error?.message ?? '', /does not fit the content/)
})

test('a primary.xml that repomd.xml does not tell of is refused, even on trust', async (t) => {
  const { folder, repomd, profile } = await aRepository(t, [{ name: 'bash' }])
  const path = /repodata\/[^"]*primary\.xml\.gz/.exec(repomd)?.[0] ?? ''
  const bytes = await readFile(join(folder, path))
  bytes[bytes.length - 1] = 0xff
  await put(join(folder, path), bytes)

  const { reports, error } = await sync(profile)

  assert.deepEqual(reports, [])
  assert.match(error?.message ?? '', /is not what the index tells/)
})

async function read(xml: string, size = 100) {
  const found = []
  for await (const one of rpmPackages(inPieces(Buffer.from(xml), size), 'primary.xml')) found.push(one)
  return found
}

describe('a primary.xml', () => {
  test('is read in pieces of any size', async () => {
    const xml = primaryXml([{ name: 'a' }, { name: 'b', epoch: '1' }]).replace(
      'Fedora Project',
      'J\u00fcrgen &lt;j@example.org&gt;',
    )

    for (const size of [1, 3, 1000]) {
      const [first, second] = await read(xml, size)
      assert.equal(first?.packager, 'J\u00fcrgen <j@example.org>')
      assert.equal(second?.version, '1:1.0-1.fc43')
    }
  })

  for (const [name, xml, message] of [
    ['no name', primaryXml([{ name: '' }]), /has no name/],
    ['a name that is none', primaryXml([{ name: 'a b' }]), /has a name that is none: "a b"/],
    ['no source', primaryXml([{ source: '' }]), /has no rpm:sourcerpm/],
    ['a source that leads out', primaryXml([{ source: '../x.src.rpm' }]), /has a rpm:sourcerpm that is none/],
    ['an open end', primaryXml([{ name: 'a' }]).slice(0, -20), /no valid XML/],
    ['a wrong end', primaryXml([{ name: 'a' }]).replace('</arch>', '</arc>'), /no valid XML/],
    ['an unknown entity', primaryXml([{ name: 'a&x;' }]), /no valid XML/],
    ['too deep a nest', `<a>${'<b>'.repeat(50)}`, /nests too deeply/],
    ['nothing', '', /no valid XML/],
  ] as const) {
    test(`is refused with ${name}`, async () => {
      await assert.rejects(read(xml), (error) => error instanceof Complaint && message.test(error.message))
    })
  }

  test('is refused with bytes that are no UTF-8', async () => {
    const bytes = Buffer.concat([Buffer.from('<metadata><package><name>'), Buffer.from([0xff, 0xfe])])

    await assert.rejects(async () => {
      for await (const one of rpmPackages(inPieces(bytes, 5), 'primary.xml')) assert.ok(one)
    }, Complaint)
  })

  test('is refused with an element without an end', async () => {
    async function* endless(): AsyncGenerator<Uint8Array> {
      yield Buffer.from('<metadata><package><name>')
      for (let i = 0; i < 1000; i++) yield Buffer.alloc(1 << 20, 'a')
    }

    await assert.rejects(async () => {
      for await (const one of rpmPackages(endless(), 'primary.xml')) assert.ok(one)
    }, /without an end/)
  })
})

test('a repomd.xml that lists no primary is refused', async () => {
  const xml = Buffer.from('<repomd><data type="other"><location href="x"/></data></repomd>')

  await assert.rejects(metadataFile(inPieces(xml, 10), 'primary', 'repomd.xml'), /lists no primary/)
})

import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { existsSync, readFileSync, readdirSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { gzipSync } from 'node:zlib'
import { dpkgPackages } from '../../src/cmd/check/dpkg.ts'
import type { Installed } from '../../src/cmd/check/installed.ts'
import { jsonElements } from '../../src/cmd/check/json-stream.ts'
import { listedPackages } from '../../src/cmd/check/lines.ts'
import { unlz4 } from '../../src/cmd/check/lz4.ts'
import { wantedEntries } from '../../src/cmd/check/packages-index.ts'
import { pacmanPackages } from '../../src/cmd/check/pacman.ts'
import { publishedHashes, publishedPlaces } from '../../src/cmd/check/published.ts'
import { sbomPackages } from '../../src/cmd/check/sbom.ts'
import { distributionOf, watchedOnly } from '../../src/cmd/check/sources.ts'
import { alignedLines, fittingLines } from '../../src/cmd/output.ts'
import { inPieces } from '../help/archives.ts'
import { temporaryFolder } from '../help/server.ts'
import { patienceMilliseconds } from '../help/until.ts'
import { aDebian, aRebuilder, aRoot, bytesOf, hashesOf, listingOf, runCheck, standingsOf } from './help.ts'

/** `name version architecture` */
function shown(packages: readonly Installed[]): string[] {
  return packages.map(({ name, version, architecture }) => `${name} ${version} ${architecture}`)
}

const status = (fields: Record<string, string>): string =>
  `${Object.entries(fields)
    .map(([name, value]) => `${name}: ${value}\n`)
    .join('')}\n`
const installed = { Status: 'install ok installed', Architecture: 'amd64', Version: '1.0' }

test('dpkg: what is installed counts, what was removed does not', async (t) => {
  const root = await aRoot(t, {
    'var/lib/dpkg/status': [
      status({ Package: 'here', ...installed, 'Installed-Size': '7' }),
      status({ Package: 'held', ...installed, Status: 'hold ok installed' }),
      status({ Package: 'gone', ...installed, Status: 'deinstall ok config-files' }),
      status({ Package: 'half', ...installed, Status: 'install ok half-installed' }),
      status({ Package: 'here', ...installed, Architecture: 'i386' }),
      status({ Package: 'unset', ...installed, Status: 'install ok half-configured' }),
      status({ Package: 'waits', ...installed, Status: 'install ok triggers-pending' }),
    ].join(''),
  })

  const found = await dpkgPackages(root, 'debian')

  assert.deepEqual(shown(found?.packages ?? []), [
    'here 1.0 amd64',
    'held 1.0 amd64',
    'here 1.0 i386',
    'unset 1.0 amd64', // its files are there, whatever its scripts have to do yet
    'waits 1.0 amd64',
  ])
  assert.deepEqual(
    found?.packages.map(({ size }) => size),
    [7168, null, null, null, null],
  )
  assert.deepEqual(found?.problems, [])
})

test('dpkg: a damaged paragraph is told with its line, and the rest still counts', async (t) => {
  const root = await aRoot(t, {
    'var/lib/dpkg/status': [
      status({ Package: 'one', ...installed }),
      'Package: two\nthis is no field\n\n',
      status({ Package: 'three', Status: 'install ok installed', Version: '1 0', Architecture: 'amd64' }),
      status({ Package: 'four', Version: '1', Architecture: 'all' }),
      status({ Package: 'five', ...installed }),
      '\0\u0001binary\n',
    ].join(''),
  })

  const found = await dpkgPackages(root, 'debian')

  assert.deepEqual(shown(found?.packages ?? []), ['one 1.0 amd64', 'five 1.0 amd64'])
  assert.deepEqual(
    found?.problems.map((problem) => /line (\d+)/.exec(problem)?.[1]),
    ['6', '9', '14', '23'],
  )
})

test('dpkg: images without dpkg list their packages in status.d', async (t) => {
  const root = await aRoot(t, {
    'var/lib/dpkg/status.d/base-files': 'Package: base-files\nVersion: 12.4\nArchitecture: amd64\n',
    'var/lib/dpkg/status.d/base-files.md5sums': 'd41d8cd98f00b204e9800998ecf8427e  etc/debian_version\n',
    'var/lib/dpkg/status.d/tzdata': 'Package: tzdata\nVersion: 2024a-0\nArchitecture: all\n\n',
  })

  const found = await dpkgPackages(root, 'debian')

  assert.deepEqual(shown(found?.packages ?? []), ['base-files 12.4 amd64', 'tzdata 2024a-0 all'])
})

test('dpkg: the packages of this machine are those that dpkg-query lists', async (t) => {
  const query = spawnSync('dpkg-query', [
    '-W',
    '-f',
    '${db:Status-Status} ${Package} ${Version} ${Architecture}\n',
  ])
  if (query.status !== 0) return t.skip('dpkg-query (Debian package dpkg) is missing')
  const lines = query.stdout.toString().split('\n')
  const expected = lines.filter((line) => line.startsWith('installed ')).map((line) => line.slice(10))

  const found = await dpkgPackages('/', 'debian')

  assert.deepEqual(shown(found?.packages ?? []).sort(), expected.sort())
  assert.deepEqual(found?.problems, [])
})

test('pacman: folders of the local database, with epochs and sizes', async (t) => {
  const desc = (name: string, version: string, arch: string): string =>
    `%NAME%\n${name}\n\n%VERSION%\n${version}\n\n%ARCH%\n${arch}\n\n%SIZE%\n4096\n\n%DEPENDS%\nglibc\n`
  const root = await aRoot(t, {
    'etc/os-release': 'ID=arch\n',
    'var/lib/pacman/local/ALPM_DB_VERSION': '9\n',
    'var/lib/pacman/local/filesystem-2025.10.12-1/desc': desc('filesystem', '2025.10.12-1', 'any'),
    'var/lib/pacman/local/grub-2:2.12-1/desc': desc('grub', '2:2.12-1', 'x86_64'),
    'var/lib/pacman/local/broken-1-1/desc': '%NAME%\nbroken\n',
    'var/lib/pacman/local/empty-1-1/files': '',
  })

  const found = await pacmanPackages(root, await distributionOf(root))

  assert.deepEqual(shown(found?.packages ?? []), ['filesystem 2025.10.12-1 any', 'grub 2:2.12-1 x86_64'])
  assert.deepEqual([found?.packages[0]?.distribution, found?.packages[0]?.size], ['archlinux', 4096])
  assert.equal(found?.problems.length, 2)
})

test('lists: what rpm -qa prints, and names with versions and architectures', () => {
  const sha256 = 'ab'.repeat(32)
  const text = `# a comment
bash-5.2.37-1.fc42.x86_64
python3-dns-2.7.0-4.fc42.noarch
gpg-pubkey-105ef944-65ca83d1.(none)
vim-minimal 2:9.1.1000-1.fc42 x86_64 4096
glibc 0:2.41-1.fc42 x86_64
curl 7.88.1-10 amd64 ${sha256}
two words
`
  const found = listedPackages(text, 'fedora', 'the list')

  assert.deepEqual(shown(found.packages), [
    'bash 5.2.37-1.fc42 x86_64',
    'python3-dns 2.7.0-4.fc42 noarch',
    'vim-minimal 2:9.1.1000-1.fc42 x86_64',
    'glibc 2.41-1.fc42 x86_64',
    'curl 7.88.1-10 amd64',
  ])
  assert.deepEqual([found.packages[2]?.size, found.packages[4]?.sha256], [4096, sha256])
  assert.deepEqual(found.problems, [
    'the list: line 8 names no package: two words',
    'the list: 2 packages without epoch, matched by the rest of the version',
  ])
})

const kernel = process.arch === 'arm64' ? 'aarch64' : 'x86_64'
const machine = process.arch === 'arm64' ? 'arm64' : 'amd64'
for (const [program, distribution, text, expected, problems] of [
  [
    'dpkg-query -W',
    'debian',
    'libc6:i386\t2.36-9\nhello\t2.10-3\npi\t1.3\n',
    ['libc6 2.36-9 i386', `hello 2.10-3 ${machine}`, 'hello 2.10-3 all', `pi 1.3 ${machine}`, 'pi 1.3 all'],
    [`the list: 2 packages without architecture, taken for ${machine} or all`],
  ],
  [
    'dpkg -l',
    'debian',
    'Desired=Unknown/Install\n| Status=Not/Inst\n|/ Err?=(none)\n||/ Name  Version  Architecture Description\n+++-====-====-====-====\nii  libc6:amd64  2.36-9  amd64  GNU C Library\nhi  pi  1.3  amd64  holds\niF  half  1-1  all  unset\nrc  gone  1-1  all  removed\n',
    ['libc6 2.36-9 amd64', 'pi 1.3 amd64', 'half 1-1 all'],
    [],
  ],
  [
    'a list of ours with names of two letters',
    'debian',
    'pi 1.3 amd64 4096\nri 1:3.1 all\n',
    ['pi 1.3 amd64', 'ri 1:3.1 all'],
    [],
  ],
  [
    'apt list --installed',
    'debian',
    'Listing...\ncurl/stable,now 7.88.1-10 amd64 [installed,automatic]\nbase/now 1.0 all [installed,local]\nnew/stable 2.0 amd64 [upgradable from: 1.0]\n',
    ['curl 7.88.1-10 amd64', 'base 1.0 all'],
    ['the list: line 4 names no package: new/stable 2.0 amd64 [upgradable from: 1.0]'],
  ],
  [
    'pacman -Q',
    'archlinux',
    'bash 5.2.037-5\nlinux 6.12.1.arch1-1\n',
    ['bash 5.2.037-5', 'linux 6.12.1.arch1-1'].flatMap((one) => [`${one} ${kernel}`, `${one} any`]),
    [`the list: 2 packages without architecture, taken for ${kernel} or any`],
  ],
  [
    'dnf list --installed',
    'fedora',
    'Installed packages\nbash.x86_64  5.2.37-1.fc42  @anaconda\nopenssl.x86_64  1:3.2-4.fc42  @updates\n',
    ['bash 5.2.37-1.fc42 x86_64', 'openssl 1:3.2-4.fc42 x86_64'],
    [],
  ],
] as const) {
  test(`a list as \`${program}\` prints it`, () => {
    const found = listedPackages(text, distribution, 'the list')

    assert.deepEqual(shown(found.packages), expected)
    assert.deepEqual(found.problems, problems)
  })
}

test('of the architectures that a package may have, the one that is published or known counts', async (t) => {
  const root = await aDebian(t, ['hello', 'said'], {
    list: 'hello\t1.0-1\nsaid\t1.0-1\nnobody\t1.0-1\n',
  })
  const { address } = await aRebuilder(t, { hello: 'GOOD', said: 'claimed' })

  const args = ['--root', root, '--list', `${root}/list`, '--rebuilder', address]
  const { document } = await runCheck(await temporaryFolder(t), args)

  assert.deepEqual(standingsOf(document), { hello: 'verified', said: 'claimed', nobody: 'unknown' })
  assert.equal(document.summary.count, 3)
})

for (const [format, document] of Object.entries({
  'SPDX 2': {
    spdxVersion: 'SPDX-2.3',
    packages: [
      {
        externalRefs: [
          { referenceType: 'purl', referenceLocator: 'pkg:deb/debian/curl@7.88.1-10?arch=amd64' },
        ],
      },
      { externalRefs: [{ referenceType: 'purl', referenceLocator: 'pkg:npm/left-pad@1.0.0' }] },
      { name: 'no purl' },
      { externalRefs: [{ referenceType: 'purl', referenceLocator: 'pkg:deb/debian/broken' }] },
      {
        externalRefs: [
          { referenceType: 'purl', referenceLocator: 'pkg:rpm/fedora/vim@9.1-1.fc42?arch=x86_64&epoch=2' },
        ],
      },
      {
        externalRefs: [
          { referenceType: 'purl', referenceLocator: 'pkg:alpm/arch/libstdc%2B%2B@1%3A2-1?arch=x86_64' },
        ],
      },
    ],
  },
  CycloneDX: {
    bomFormat: 'CycloneDX',
    components: [
      {
        purl: 'pkg:deb/debian/curl@7.88.1-10?arch=amd64&distro=debian-12',
        components: [{ purl: 'pkg:rpm/fedora/vim@9.1-1.fc42?arch=x86_64&epoch=2' }, { purl: 7 }],
      },
      { purl: 'pkg:golang/example.org/x@v1' },
      { purl: 'pkg:deb/debian/broken' },
      { purl: 'pkg:alpm/arch/libstdc%2B%2B@1%3A2-1?arch=x86_64' },
    ],
  },
  'SPDX 3': {
    '@context': 'https://spdx.org/rdf/3.0.1/spdx-context.jsonld',
    '@graph': [
      { software_packageUrl: 'pkg:deb/debian/curl@7.88.1-10?arch=amd64' },
      { software_packageUrl: 'pkg:rpm/fedora/vim@9.1-1.fc42?arch=x86_64&epoch=2' },
      { software_packageUrl: 'pkg:deb/debian/broken' },
      { software_packageUrl: 'pkg:alpm/arch/libstdc%2B%2B@1%3A2-1?arch=x86_64' },
    ],
  },
})) {
  test(`${format}: packages of distributions by their package URLs`, () => {
    const found = sbomPackages(JSON.stringify(document), 'the file')

    const lines = found.packages.map((one) => `${one.distribution} ${shown([one]).join('')}`)
    assert.deepEqual(lines.sort(), [
      'archlinux libstdc++ 1:2-1 x86_64',
      'debian curl 7.88.1-10 amd64',
      'fedora vim 2:9.1-1.fc42 x86_64',
    ])
    assert.equal(found.problems.length, 1)
  })
}

test('a bill of materials that is none is refused in words', () => {
  assert.throws(() => sbomPackages('{"spdx": 1}', 'the file'), /the file is neither SPDX nor CycloneDX/)
  assert.throws(() => sbomPackages('<xml/>', 'the file'), /the file is not JSON/)
})

async function hashesBelow(
  packages: readonly Installed[],
  where: { root: string | null; indexes: readonly string[] },
): ReturnType<typeof publishedHashes> {
  const options = { ...where, cache: null, signal: AbortSignal.timeout(patienceMilliseconds) }
  return publishedHashes(packages, await publishedPlaces(packages, options), options)
}

test('hashes come from lists in every coding, and from files that apt kept', async (t) => {
  const root = await aDebian(t, ['plain'], {
    'var/lib/apt/lists/a_Packages.gz': gzipSync(listingOf('zipped')),
    'var/lib/apt/lists/b_Packages.gz': gzipSync(listingOf('cut')).subarray(0, 60),
    'var/cache/apt/archives/kept_1%3a1.0-1_amd64.deb': bytesOf('kept'),
  })
  const one = (name: string, version = '1.0-1'): Installed => ({
    distribution: 'debian',
    name,
    version,
    architecture: 'amd64',
    size: null,
    sha256: null,
  })
  const packages = [one('plain'), one('zipped'), one('cut'), one('kept', '1:1.0-1'), one('alien')]

  const { hashes, problems } = await hashesBelow(packages, { root, indexes: [] })

  const found = packages.map(({ name, version }) => hashes.get(`${name}\n${version}\namd64`))
  assert.deepEqual(found, [
    ...['plain', 'zipped'].map((name) => hashesOf(bytesOf(name)).sha256),
    undefined,
    hashesOf(bytesOf('kept')).sha256,
    undefined,
  ])
  assert.equal(problems.length, 1)
  assert.match(problems[0] ?? '', /b_Packages\.gz is passed over: /)
})

test('indexes that are given are found below folders: primary.xml of rpm, but nothing that apt has not proven', async (t) => {
  const sha256 = 'cd'.repeat(32)
  const primary = `<?xml version="1.0" encoding="UTF-8"?>
<metadata xmlns="http://linux.duke.edu/metadata/common" xmlns:rpm="http://linux.duke.edu/metadata/rpm" packages="1">
<package type="rpm"><name>bash</name><arch>x86_64</arch><version epoch="2" ver="5.2" rel="1.fc42"/>
<checksum type="sha256" pkgid="YES">${sha256}</checksum><size package="9" installed="9" archive="9"/>
<location href="b/bash.rpm"/><format><rpm:sourcerpm>bash-5.2-1.fc42.src.rpm</rpm:sourcerpm></format></package></metadata>`
  const folder = await aRoot(t, {
    'fedora-1/repodata/0a-primary.xml.gz': gzipSync(primary),
    'partial/mirror.example_Packages': listingOf('hello'),
    'fedora-1/repodata/repomd.xml': 'not this one',
  })
  const bash = { name: 'bash', version: '2:5.2-1.fc42', architecture: 'x86_64' }
  const hello = { name: 'hello', version: '1.0-1', architecture: 'amd64' }
  const packages = [bash, hello].map((one) => ({ distribution: 'any', ...one, size: null, sha256: null }))

  const { hashes, problems } = await hashesBelow(packages, { root: null, indexes: [folder] })

  assert.deepEqual([...hashes.values()], [sha256])
  assert.deepEqual(problems, [])
})

for (const size of [1, 7, 100_000]) {
  test(`entries of wanted packages are found in an index that comes in pieces of ${size} bytes`, async () => {
    const sha256 = 'ab'.repeat(32)
    const entry = (name: string): string => `Version: 1\nArchitecture: all\nSHA256: ${sha256}\nTag: ${name}\n`
    const index = [
      `Package: other\n${entry('x')}`,
      `Package: one\n${entry('x')}`,
      `${entry('x')}Package: two\n`,
      `Package: three \r\n${entry('x')}`,
      `Package: onesome\nDepends: one\n Package: one\n${entry('x'.repeat(300_000))}`,
      `\nPackage: four\nArchitecture: all\nVersion: 2\n`,
      `Package: last\n${entry('x')}`.trimEnd(),
    ].join('\n')
    const names = new Set(['one', 'two', 'three', 'four', 'last'])

    const found = await Array.fromAsync(wantedEntries(inPieces(Buffer.from(index), size), names, 'it'))

    assert.deepEqual(
      found.map((one) => [one.name, one.version, one.architecture, one.sha256]),
      ['one', 'two', 'three', 'last'].map((name) => [name, '1', 'all', sha256]),
    )
  })
}

test('an index with a malformed entry or one without end is refused', async () => {
  const read = async (text: string): Promise<unknown> =>
    Array.fromAsync(wantedEntries(inPieces(Buffer.from(text), 50_000), new Set(['one']), 'it'))

  await assert.rejects(read('Package: one\nno field\n\n'), /it: line 2 /)
  await assert.rejects(
    read(`Package: other\nTag: ${'x'.repeat(5_000_000)}`),
    /it has a stanza that is too long/,
  )
})

/** The plain bytes; each block is good until the next is asked for. */
async function unpacked(chunks: AsyncIterable<Uint8Array>, what: string): Promise<Buffer> {
  const blocks: Buffer[] = []
  for await (const block of unlz4(chunks, what)) blocks.push(Buffer.from(block))
  return Buffer.concat(blocks)
}

/** Literals of a block, without a match. */
function literals(text: string): Buffer {
  const bytes = Buffer.from(text)
  const length = bytes.length < 15 ? [bytes.length << 4] : [0xf0, bytes.length - 15]
  return Buffer.concat([Buffer.from(length), bytes])
}

function lz4Frame(blocks: readonly Buffer[]): Buffer {
  const head = Buffer.from([0x04, 0x22, 0x4d, 0x18, 0x40, 0x40, 0xc0])
  const parts = blocks.flatMap((block) => {
    const size = Buffer.alloc(4)
    size.writeUInt32LE(block.length)
    return [size, block]
  })
  return Buffer.concat([head, ...parts, Buffer.alloc(4)])
}

test('lz4: matches reach back into earlier blocks and over themselves', async () => {
  const match = Buffer.from([0x16, 0x21, 3, 0, 0x10, 0x2e]) // `!`, then ten bytes from three back; then `.`
  const frame = lz4Frame([literals('hello '), match])

  const plain = (await unpacked(inPieces(frame, 5), 'it')).toString()

  assert.equal(plain, 'hello !o !o !o !o.')
})

test('lz4: cut short, damaged and foreign files are refused', async () => {
  const frame = lz4Frame([literals('hello')])
  const tooFar = lz4Frame([Buffer.from([0x10, 0x21, 9, 0, 0x10, 0x2e])])

  for (const bytes of [
    frame.subarray(0, 12),
    frame.subarray(0, -4),
    tooFar,
    Buffer.from('nothing of the kind'),
  ]) {
    await assert.rejects(
      Array.fromAsync(unlz4(inPieces(bytes, 100), 'it')),
      /it is (cut short or damaged|no lz4 frame)/,
    )
  }
})

test('lz4: the lists of this machine are read as apt reads them', async (t) => {
  const folder = '/var/lib/apt/lists'
  const names = existsSync(folder) ? readdirSync(folder).filter((name) => name.endsWith('_Packages.lz4')) : []
  const smallest = names
    .map((name) => ({ name, bytes: readFileSync(join(folder, name)) }))
    .sort((a, b) => a.bytes.length - b.bytes.length)[0]
  if (smallest === undefined) return t.skip('apt has no lists in lz4 on this machine')
  const helper = spawnSync('/usr/lib/apt/apt-helper', ['cat-file', join(folder, smallest.name)], {
    maxBuffer: 1 << 28,
  })
  if (helper.status !== 0) return t.skip('apt-helper (Debian package apt) is missing')

  const plain = await unpacked(inPieces(smallest.bytes, 9999), smallest.name)

  assert.equal(plain.equals(helper.stdout), true)
})

for (const size of [1, 7, 4096]) {
  test(`a list of JSON is read in pieces of ${size} bytes`, async () => {
    const documents = [{ a: '}]"\\' }, null, { b: { c: [1, { d: 'ä' }] } }, {}, 7, ['e,', []], 'f]']
    const list = Buffer.from(`  ${JSON.stringify(documents, null, 1)}\n`)
    const rest = { total: 3, records: [], more: { records: [1] }, others: [2] }
    const page = Buffer.from(JSON.stringify({ ...rest, records: documents }))
    const seen: unknown[] = []
    const read = async (bytes: Uint8Array, member: string | null): Promise<unknown[]> =>
      Array.fromAsync(jsonElements(inPieces(bytes, size), member, (around) => void seen.push(around)))

    assert.deepEqual(await read(list, null), documents)
    assert.deepEqual(seen.splice(0), [[], []])
    assert.deepEqual(await read(page, 'records'), documents)
    assert.deepEqual(seen.splice(0), [{ total: 3, records: [] }, rest])
    assert.deepEqual(await read(Buffer.from('{"records" : [ ]}'), 'records'), [])
    await assert.rejects(read(list.subarray(0, -3), null), /ends early/)
    await assert.rejects(read(Buffer.from(' '), null), /ends early/)
    await assert.rejects(read(Buffer.from('{"records": 5}'), 'records'), /no list/)
    for (const text of [']', '5', '[1}', '[tru]', '[1] x', '{"records":[1],,}'])
      await assert.rejects(read(Buffer.from(text), text.startsWith('{') ? 'records' : null), /not JSON/)
  })
}

test('neither an element of a list of JSON nor what is around it may be without end', async () => {
  const long = 'x'.repeat(1 << 21)
  const read = async (text: string, member: string | null): Promise<unknown[]> =>
    Array.fromAsync(jsonElements(inPieces(Buffer.from(text), 512), member))

  await assert.rejects(read(`["${long}"]`, null), /too long/)
  await assert.rejects(read(`{"a":"${long}"}`, 'records'), /too much around/)
})

test('a watch list limits the check to names and globs', async (t) => {
  const root = await aRoot(t, {
    'watch.txt': 'bash # the shell\n\nlib*ssl?\n# comment\n',
    'none.txt': 'nothing\n',
  })
  const packages = ['bash', 'bash-doc', 'libssl3', 'libressl1', 'openssl'].map((name) => ({
    distribution: 'debian',
    name,
    version: '1',
    architecture: 'all',
    size: null,
    sha256: null,
  }))

  const found = await watchedOnly(packages, join(root, 'watch.txt'))

  assert.deepEqual(
    found.map(({ name }) => name),
    ['bash', 'libssl3', 'libressl1'],
  )
  await assert.rejects(watchedOnly(packages, join(root, 'none.txt')), /nothing that .* names is installed/)
})

test('cells of a table that is wider than the terminal follow below their row, folded between words', () => {
  const rows = [
    ['BAD', 'one', '1.0-1', 'the bytes differ in many places', 'https://rebuilder.example/1/log'],
    ['FAIL', 'two', '1.0-2', '', ''],
  ]

  assert.deepEqual(fittingLines(rows, Infinity), alignedLines(rows, []))
  assert.deepEqual(fittingLines(rows, 24), [
    'BAD   one  1.0-1',
    '    the bytes differ in',
    '    many places',
    '    https://rebuilder.example/1/log',
    'FAIL  two  1.0-2',
  ])
  assert.deepEqual(fittingLines(rows, 12), [
    'BAD   one',
    '    1.0-1',
    '    the',
    '    bytes',
    '    differ',
    '    in many',
    '    places',
    '    https://rebuilder.example/1/log',
    'FAIL  two',
    '    1.0-2',
  ])
})

test('what cannot be read is not verified: damage to a list does not raise the share', async (t) => {
  const root = await aDebian(t, ['hello'], { list: 'hello 1.0-1 amd64\nhidden\n' })
  const { address } = await aRebuilder(t, { hello: 'GOOD' })

  const args = ['--root', root, '--list', `${root}/list`, '--rebuilder', address, '--fail-under', '100']
  const { document, code, stderr } = await runCheck(await temporaryFolder(t), args)

  assert.deepEqual([standingsOf(document), code], [{ hello: 'verified' }, 3])
  assert.match(stderr, /50\.0 % are verified, 100 % are asked for; 1 package cannot be read/)
})

test('components within components, deeper than calls go, and more packages than fit into one call', async (t) => {
  const levels = 30_000
  const inner =
    '[{"components":'.repeat(levels) + '[{"purl":"pkg:deb/debian/deep@1?arch=all"}]' + '}]'.repeat(levels)
  const many = status({ Package: 'hello', ...installed }).repeat(150_000)

  const deep = sbomPackages(`{"bomFormat":"CycloneDX","components":${inner}}`, 'it')
  const found = await dpkgPackages(await aRoot(t, { 'var/lib/dpkg/status': many }), 'debian')

  assert.deepEqual(shown(deep.packages), ['deep 1 all'])
  assert.deepEqual(shown(found?.packages ?? []), ['hello 1.0 amd64'])
})

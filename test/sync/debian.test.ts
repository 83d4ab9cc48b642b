import assert from 'node:assert/strict'
import { rm } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, test, type TestContext } from 'node:test'
import { complaintOf } from '../../src/errors.ts'
import {
  aBinary,
  aFolder,
  aSource,
  put,
  serveFolder,
  through,
  writeDebianArchive,
  type DebianArchive,
} from '../help/archives.ts'
import { contentOf, sync } from '../help/sync.ts'

const usual = {
  distro: 'debian',
  components: ['main'],
  releases: ['test'],
  architectures: ['amd64'],
  allow_unsigned: true,
}

async function anArchive(
  t: TestContext,
  archive: DebianArchive,
): Promise<{ folder: string; profile: typeof usual & { source: string } }> {
  const folder = await aFolder(t)
  await writeDebianArchive(folder, archive)
  return { folder, profile: { ...usual, source: folder } }
}

/** Reports of an archive with these packages in main/amd64, and a source for each. */
async function reportsFor(
  t: TestContext,
  binaries: Readonly<Record<string, string>>[],
  more: Record<string, unknown> = {},
) {
  const sources = binaries.map((fields) => {
    const [, name, version] = /^(\S+) \((.*)\)$/.exec(fields['Source'] ?? '') ?? []
    const own = (fields['Version'] ?? '1.0-1').replace(/\+b\d+$/, '')
    return aSource({
      Package: name ?? fields['Source'] ?? fields['Package'] ?? 'hello',
      Version: version ?? own,
    })
  })
  const { profile } = await anArchive(t, {
    binaries: { 'main/amd64': binaries.map(aBinary) },
    sources: { main: sources },
  })
  return sync({ ...profile, ...more })
}

test('a profile with maintainers has the packages of those who maintain or upload the source, and no others', async (t) => {
  const { profile } = await anArchive(t, {
    binaries: { 'main/amd64': ['a', 'b', 'c'].map((name) => aBinary({ Package: name, Version: '1.0-1' })) },
    sources: {
      main: [
        aSource({ Package: 'a', Version: '1.0-1', Maintainer: 'Ada <ada@example.org>' }),
        aSource({ Package: 'b', Version: '1.0-1', Maintainer: 'Bob <bob@example.org>' }),
        aSource({
          Package: 'c',
          Version: '1.0-1',
          Maintainer: 'Team <team@example.org>',
          Uploaders: 'Bob <bob@example.org>, Ada <ada@example.org>',
        }),
      ],
    },
  })

  const { reports, error } = await sync({ ...profile, maintainers: ['Ada'] })

  assert.equal(error, null)
  assert.deepEqual(
    reports[0]?.packages.map(({ name }) => name),
    ['a', 'c'],
  )
})

test('a package comes with its address, hash and size, and the build input of its source', async (t) => {
  const { reports, error } = await reportsFor(
    t,
    [{ Package: 'libc-bin', Source: 'glibc (2.41-12)', Version: '2.41-12+b1' }],
    {},
  )

  assert.equal(error, null)
  const [report] = reports
  assert.deepEqual(
    [report?.distribution, report?.release, report?.architecture, report?.index],
    ['debian', 'test', 'amd64', 'unsigned'],
  )
  const { artifacts = [], ...source } = report?.packages[0] ?? {}
  assert.deepEqual(source, {
    name: 'glibc',
    version: '2.41-12+b1',
    url: 'https://buildinfos.debian.net/buildinfo-pool/g/glibc/glibc_2.41-12+b1_amd64.buildinfo',
    maintainer: 'Jane Doe <jane@example.org>',
  })
  assert.equal(artifacts[0]?.name, 'libc-bin')
  assert.match(artifacts[0]?.url ?? '', /\/pool\/main\/l\/libc-bin\/libc-bin_2\.41-12\+b1_amd64\.deb$/)
  assert.match(artifacts[0]?.sha256 ?? '', /^[0-9a-f]{64}$/)
  assert.equal(artifacts[0]?.size, 1234)
})

describe('the build input', () => {
  for (const [name, version, prefix, file] of [
    ['bash', '5.2-1', 'b', 'bash_5.2-1_amd64'],
    ['libfoo', '1:2.0-1', 'libf', 'libfoo_2.0-1_amd64'],
    ['lib', '1', 'lib', 'lib_1_amd64'],
    ['libx', '1~rc1-1', 'libx', 'libx_1~rc1-1_amd64'],
    ['0ad', '0.27.0-2+b1', '0', '0ad_0.27.0-2+b1_amd64'],
  ] as const) {
    test(`of ${name} ${version} is below ${prefix}`, async (t) => {
      const { reports } = await reportsFor(t, [{ Package: name, Version: version }])

      const url = `https://buildinfos.debian.net/buildinfo-pool/${prefix}/${name}/${file}.buildinfo`
      assert.equal(reports[0]?.packages[0]?.url, url)
      assert.equal(reports[0]?.packages[0]?.version, version)
    })
  }

  test('may lie elsewhere', async (t) => {
    const template = '{mirror}/{directory}/{source}_{version}_{architecture}.buildinfo?{prefix}'
    const { reports } = await reportsFor(t, [{ Package: 'bash', Version: '1:5-1' }], {
      buildinfo_url: template,
    })

    assert.match(reports[0]?.packages[0]?.url ?? '', /\/pool\/main\/b\/bash\/bash_5-1_amd64\.buildinfo\?b$/)
  })

  test('of a template with an unknown placeholder is refused', async (t) => {
    const { error } = await reportsFor(t, [{ Package: 'bash' }], {
      buildinfo_url: 'http://mirror.example/{name}',
    })

    assert.match(error?.message ?? '', /unknown placeholder \{name\}/)
  })

  test('may be the source package itself', async (t) => {
    const { reports } = await reportsFor(t, [{ Package: 'bash', Version: '1:5-1+b2' }], {
      build_input: 'dsc',
    })

    assert.match(reports[0]?.packages[0]?.url ?? '', /\/pool\/main\/b\/bash\/bash_5-1\.dsc$/)
    assert.equal(reports[0]?.packages[0]?.version, '1:5-1+b2')
  })
})

describe('packages are grouped', () => {
  test('by source and version, in the order of their names', async (t) => {
    const { reports } = await reportsFor(t, [
      { Package: 'zsh' },
      { Package: 'bash' },
      { Package: 'zsh-common', Source: 'zsh' },
      { Package: 'zsh-dbg', Source: 'zsh (1.0-1)', Version: '7-1' },
      { Package: 'bash-old', Source: 'bash', Version: '0.9-1' },
    ])

    assert.deepEqual(contentOf(reports[0]), [
      'bash 0.9-1: bash-old',
      'bash 1.0-1: bash',
      'zsh 1.0-1: zsh, zsh-common, zsh-dbg',
    ])
  })

  test('apart from those that the archive rebuilt', async (t) => {
    const { reports } = await reportsFor(t, [
      { Package: 'a-bin', Source: 'a (1.0-1)', Version: '1.0-1+b2' },
      { Package: 'a-doc', Source: 'a', Version: '1.0-1' },
      { Package: 'a-own', Source: 'a (1.0-1)', Version: '3:9-1+b2' },
      { Package: 'plain', Version: '2-1+b7' },
    ])

    assert.deepEqual(contentOf(reports[0]), [
      'a 1.0-1+b2: a-bin, a-own',
      'a 1.0-1: a-doc',
      'plain 2-1+b7: plain',
    ])
  })

  test('and left out, with a word, where no source of that version is listed', async (t) => {
    const { profile } = await anArchive(t, {
      binaries: { 'main/amd64': [aBinary({ Package: 'a' }), aBinary({ Package: 'b', Version: '2-1' })] },
      sources: { main: [aSource({ Package: 'a' }), aSource({ Package: 'b', Version: '1-1' })] },
    })

    const { reports, error, log } = await sync(profile)

    assert.equal(error, null)
    assert.deepEqual(contentOf(reports[0]), ['a 1.0-1: a'])
    assert.match(log.join('\n'), /left out 1 packages .*: b 2-1/)
  })

  test('with sources of any component', async (t) => {
    const { profile } = await anArchive(t, {
      binaries: { 'main/amd64': [aBinary({ Package: 'a' })], 'contrib/amd64': [] },
      sources: { main: [], contrib: [aSource({ Package: 'a' })] },
    })

    const { reports } = await sync({ ...profile, components: ['main', 'contrib'] })

    assert.deepEqual(contentOf(reports[0]), ['a 1.0-1: a'])
  })
})

describe('packages of all architectures', () => {
  const doc = aBinary({ Package: 'a-doc', Source: 'a', Architecture: 'all' })
  const sources = { main: [aSource({ Package: 'a' })] }

  test('are listed once, though each architecture tells of them', async (t) => {
    const { profile } = await anArchive(t, {
      binaries: { 'main/amd64': [aBinary({ Package: 'a' }), doc], 'main/arm64': [doc], 'main/all': [doc] },
      sources,
    })

    for (const architectures of [['all', 'amd64', 'arm64'], ['amd64', 'all', 'all'], ['all']]) {
      const { reports, error } = await sync({ ...profile, architectures })

      assert.equal(error, null)
      assert.deepEqual(contentOf(reports[0]), ['a 1.0-1: a-doc'], architectures.join())
      assert.match(reports[0]?.packages[0]?.url ?? '', /a_1\.0-1_all\.buildinfo$/)
    }
  })

  test('are left out unless asked for', async (t) => {
    const { profile } = await anArchive(t, { binaries: { 'main/amd64': [doc] }, sources })

    const { reports } = await sync(profile)

    assert.deepEqual(contentOf(reports[0]), [])
  })

  test('of which the indexes disagree are refused', async (t) => {
    const { profile } = await anArchive(t, {
      binaries: { 'main/amd64': [doc], 'main/arm64': [{ ...doc, SHA256: '0'.repeat(64) }] },
      sources,
    })

    const { reports, error } = await sync({ ...profile, architectures: ['all', 'amd64', 'arm64'] })

    assert.match(error?.message ?? '', /debian test all \(the indexes disagree on .*a-doc/)
    assert.deepEqual(
      reports.map(({ architecture }) => architecture),
      ['amd64', 'arm64'],
    )
  })
})

test('installer packages join the source of their component', async (t) => {
  const udeb = aBinary({ Package: 'a-udeb', Source: 'a', Filename: 'pool/main/a/a/a-udeb_1.0-1_amd64.udeb' })
  const { profile } = await anArchive(t, {
    binaries: { 'main/amd64': [aBinary({ Package: 'a' })], 'main/debian-installer/amd64': [udeb] },
    sources: { main: [aSource({ Package: 'a' })] },
  })

  const { reports, error } = await sync({ ...profile, components: ['main', 'main/debian-installer'] })

  assert.equal(error, null)
  assert.deepEqual(contentOf(reports[0]), ['a 1.0-1: a, a-udeb'])
  assert.deepEqual(
    reports[0]?.packages[0]?.artifacts.map(({ component }) => component),
    ['main', 'main/debian-installer'],
  )
})

test('a release of debug packages has its own archive, and the build inputs of the main one', async (t) => {
  const sources = { main: [aSource({ Package: 'a' })] }
  const { folder, profile } = await anArchive(t, {
    binaries: { 'main/amd64': [aBinary({ Package: 'a' })] },
    sources,
  })
  const debug = join(folder, 'debug')
  const dbgsym = aBinary({ Package: 'a-dbgsym', Source: 'a' })
  await writeDebianArchive(debug, { release: 'test-debug', binaries: { 'main/amd64': [dbgsym] }, sources })

  const { reports } = await sync({ ...profile, releases: ['test', { name: 'test-debug', source: debug }] })

  assert.deepEqual(
    reports.map(({ release }) => release),
    ['test', 'test-debug'],
  )
  assert.equal(reports[0]?.packages[0]?.url, reports[1]?.packages[0]?.url)
  assert.ok(reports[1]?.packages[0]?.artifacts[0]?.url.startsWith(debug))
})

describe('rules choose packages', () => {
  const archive = {
    binaries: {
      'main/amd64': [
        aBinary({ Package: 'a' }),
        aBinary({ Package: 'b', Maintainer: 'Rebuilds <r@example.org>' }),
      ],
    },
    sources: {
      main: [
        aSource({ Package: 'a', Uploaders: '"Smith, Joe" <joe@example.org>,\n Ann <ann@example.org>' }),
        aSource({ Package: 'b' }),
      ],
    },
  }
  for (const [name, rules, expected] of [
    ['by the maintainer of the binary', { maintainers: ['Rebuilds'] }, ['b 1.0-1: b']],
    ['by an uploader of the source', { maintainers: ['Ann <ann@'] }, ['a 1.0-1: a']],
    [
      'by an uploader with a comma in his name',
      { include: [{ maintainer: '"Smith, Joe"' }] },
      ['a 1.0-1: a'],
    ],
    ['by name', { pkgs: ['b*'] }, ['b 1.0-1: b']],
    ['by source', { include: [{ source_pkgs: ['a'] }] }, ['a 1.0-1: a']],
    ['down to none', { pkgs: ['none'] }, []],
  ] as const) {
    test(name, async (t) => {
      const { profile } = await anArchive(t, archive)

      const { reports, error } = await sync({ ...profile, ...rules })

      assert.equal(error, null)
      assert.deepEqual(contentOf(reports[0]), expected)
    })
  }
})

describe('what cannot be read changes nothing', () => {
  const binaries = { 'main/amd64': [aBinary()], 'main/arm64': [aBinary({ Architecture: 'arm64' })] }
  const sources = { main: [aSource()] }
  const both = { architectures: ['arm64', 'amd64'] }

  test('for an architecture whose index is missing, while the other is reported', async (t) => {
    const { folder, profile } = await anArchive(t, { binaries, sources })
    await rm(join(folder, 'dists/test/main/binary-amd64'), { recursive: true })

    const { reports, error } = await sync({ ...profile, ...both })

    assert.deepEqual(
      reports.map(({ architecture }) => architecture),
      ['arm64'],
    )
    assert.match(
      error?.message ?? '',
      /not synced, and left as it was: debian test amd64 \(.*no main\/binary-amd64\/Packages/,
    )
    assert.equal(complaintOf(error)?.exitCode, 1)
  })

  test('for all packages of an architecture whose index cannot be downloaded, and those of all', async (t) => {
    const { folder, profile } = await anArchive(t, { binaries, sources })
    const server = await serveFolder(t, folder)
    server.intercept = (request, response) => {
      if (request.url?.includes('binary-amd64') !== true) return false
      response.writeHead(502).end()
      return true
    }

    const { reports, error } = await sync({
      ...profile,
      source: server.url,
      architectures: ['all', 'amd64', 'arm64'],
    })

    assert.deepEqual(
      reports.map(({ architecture }) => architecture),
      ['arm64'],
    )
    assert.match(error?.message ?? '', /debian test amd64 \(.*502.*debian test all \(/)
  })

  test('for a release whose sources are missing, while the other is reported', async (t) => {
    const { folder, profile } = await anArchive(t, { binaries, sources })
    await writeDebianArchive(folder, { release: 'other', binaries, sources })
    await rm(join(folder, 'dists/test/main/source'), { recursive: true })

    const { reports, error } = await sync({ ...profile, ...both, releases: ['test', 'other'] })

    assert.deepEqual(
      reports.map(({ release, architecture }) => `${release} ${architecture}`),
      ['other amd64', 'other arm64'],
    )
    assert.match(error?.message ?? '', /debian test arm64 \(.*debian test amd64 \(/)
  })

  for (const [name, fields, message] of [
    ['without a name', { Package: '' }, /the stanza at line 1 has no Package/],
    ['without a version', { Version: '' }, /line 1 has no Version/],
    ['whose file lies outside', { Filename: '../../etc/passwd' }, /is not a path inside the archive/],
    ['whose file lies at the root', { Filename: '/etc/passwd' }, /is not a path inside the archive/],
    ['with a name that is none', { Package: 'a b;c' }, /has a Package that is none: "a b;c"/],
    ['with a version that is none', { Version: '1 $(id)' }, /has a Version that is none/],
    ['with an architecture that is none', { Architecture: '../x' }, /has a Architecture that is none/],
    ['with a hash that is none', { SHA256: 'xyz' }, /has a SHA256 that is none/],
    ['with a size that is none', { Size: '-1' }, /has a Size that is none/],
    ['with a source that is none', { Source: 'a (1' }, /has a Source that is none/],
  ] as const) {
    test(`for an index with a package ${name}`, async (t) => {
      const bad = { ...aBinary(), ...fields }
      const { profile } = await anArchive(t, { binaries: { 'main/amd64': [bad] }, sources, coding: 'plain' })
      await put(
        join(profile.source, 'dists/test/main/binary-amd64/Packages'),
        Object.entries(bad)
          .map(([key, value]) => `${key}: ${value}\n`)
          .join(''),
      )

      const { reports, error } = await sync(profile)

      assert.deepEqual(reports, [])
      assert.match(error?.message ?? '', message)
    })
  }

  for (const key of ['components', 'releases', 'architectures'] as const) {
    test(`where the profile names no ${key}`, async (t) => {
      const { profile } = await anArchive(t, { binaries, sources })

      const { reports, error } = await sync({ ...profile, [key]: [] })

      assert.deepEqual(reports, [])
      assert.equal(complaintOf(error)?.exitCode, 2)
    })
  }
})

test('an archive made by apt-ftparchive is read', async (t) => {
  const deb = through('dpkg-deb', ['--version'], Buffer.alloc(0))
  const ftp = through('apt-ftparchive', ['--version'], Buffer.alloc(0))
  if (deb === null || ftp === null) return t.skip('needs the programs dpkg-deb and apt-ftparchive')
  const folder = await aFolder(t)
  const control =
    'Package: tiny\nVersion: 1.0-1+b1\nSource: tiny-src (1.0-1)\nArchitecture: amd64\nMaintainer: A <a@example.org>\nDescription: x\n'
  await put(join(folder, 'build/DEBIAN/control'), control)
  const file = join(folder, 'pool/main/t/tiny/tiny_1.0-1+b1_amd64.deb')
  await put(file, '')
  through('dpkg-deb', ['--build', join(folder, 'build'), file], Buffer.alloc(0))
  const packages = through('sh', ['-c', `cd '${folder}' && apt-ftparchive packages pool`], Buffer.alloc(0))
  await writeDebianArchive(folder, { binaries: {}, sources: { main: [aSource({ Package: 'tiny-src' })] } })
  await put(join(folder, 'dists/test/main/binary-amd64/Packages'), packages ?? '')

  const { reports, error } = await sync({ ...usual, source: folder })

  assert.equal(error, null)
  assert.deepEqual(contentOf(reports[0]), ['tiny-src 1.0-1+b1: tiny'])
  assert.equal(reports[0]?.packages[0]?.artifacts[0]?.url, file)
})

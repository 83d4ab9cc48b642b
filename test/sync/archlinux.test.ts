import assert from 'node:assert/strict'
import { join } from 'node:path'
import { describe, test, type TestContext } from 'node:test'
import { gzipSync, zstdCompressSync } from 'node:zlib'
import { Complaint, complaintOf } from '../../src/errors.ts'
import { pacmanPackages } from '../../src/sync/pacman-db.ts'
import {
  aFolder,
  aKey,
  aPacmanPackage,
  inPieces,
  pacmanDb,
  put,
  through,
  type Fields,
} from '../help/archives.ts'
import { contentOf, sync } from '../help/sync.ts'

const usual = { distro: 'archlinux', components: ['core'], architectures: ['x86_64'], allow_unsigned: true }

/** A mirror with these databases by component; the profile is for core. */
async function aMirror(
  t: TestContext,
  databases: Readonly<Record<string, Readonly<Record<string, Fields | string>>>>,
) {
  const folder = await aFolder(t)
  for (const [component, entries] of Object.entries(databases)) {
    await put(join(folder, component, 'os/x86_64', `${component}.db`), gzipSync(await pacmanDb(entries)))
  }
  return { folder, profile: { ...usual, source: `${folder}/$repo/os/$arch` } }
}

test('packages are grouped by base, sorted, and built from the first file', async (t) => {
  const { folder, profile } = await aMirror(t, {
    core: {
      'zlib-1:1.3-1': aPacmanPackage({ NAME: 'zlib', VERSION: '1:1.3-1' }),
      'gcc-15-1': aPacmanPackage({ NAME: 'gcc', VERSION: '15-1' }),
      'gcc-libs-15-1': aPacmanPackage({ NAME: 'gcc-libs', BASE: 'gcc', VERSION: '15-1' }),
    },
  })

  const { reports, error } = await sync(profile)

  assert.equal(error, null)
  assert.deepEqual(contentOf(reports[0]), ['gcc 15-1: gcc, gcc-libs', 'zlib 1:1.3-1: zlib'])
  const [report] = reports
  assert.deepEqual(
    [report?.distribution, report?.release, report?.architecture, report?.index],
    ['archlinux', null, 'x86_64', 'unsigned'],
  )
  const zlib = report?.packages[1]
  assert.equal(zlib?.url, `${folder}/core/os/x86_64/zlib-1:1.3-1-x86_64.pkg.tar.zst`)
  assert.equal(zlib?.maintainer, 'Jane Doe <jane@example.org>')
  assert.equal(zlib?.artifacts[0]?.component, 'core')
  assert.equal(zlib?.artifacts[0]?.size, 1234)
  assert.match(zlib?.artifacts[0]?.sha256 ?? '', /^[0-9a-f]{64}$/)
})

test('a database that nobody signed is taken though it is older than the last one, with a warning', async (t) => {
  const cache = await aFolder(t)
  const at = (day: string): Fields =>
    aPacmanPackage({ BUILDDATE: String(Date.parse(`${day}T12:00:00Z`) / 1000) })
  const { folder, profile } = await aMirror(t, { core: { 'hello-1': at('2026-11-20') } })
  await sync(profile, { cache })
  const older = await pacmanDb({ 'hello-1': at('2026-11-19') })
  await put(join(folder, 'core/os/x86_64/core.db'), older)

  const { reports, error, log } = await sync(profile, { cache })

  assert.equal(error, null)
  assert.equal(reports.length, 1)
  assert.match(
    log.join('\n'),
    /<4>sync: \S+core\.db of Thu, 19 Nov 2026 12:00:00 GMT is older than the one of Fri, 20 Nov 2026/,
  )
})

test("the distribution's own signature of a package goes along, and text that is none is refused", async (t) => {
  const { profile } = await aMirror(t, {
    core: {
      'gcc-15-1': aPacmanPackage({ NAME: 'gcc', VERSION: '15-1', PGPSIG: 'iQEzBAABCAAdFiEE+/8=' }),
      'zlib-1.3-1': aPacmanPackage({ NAME: 'zlib', VERSION: '1.3-1' }),
    },
  })
  const { profile: broken } = await aMirror(t, {
    core: { 'gcc-15-1': aPacmanPackage({ NAME: 'gcc', PGPSIG: '../../etc/passwd' }) },
  })

  const { reports } = await sync(profile)
  const { error } = await sync(broken)

  assert.deepEqual(
    reports[0]?.packages.map(({ artifacts }) => artifacts[0]?.signature),
    ['iQEzBAABCAAdFiEE+/8=', undefined],
  )
  assert.match(complaintOf(error)?.message ?? '', /gcc-15-1\/desc" has a %PGPSIG% that is none/)
})

test('the same base in two components, or in two versions, is two packages', async (t) => {
  const bash = aPacmanPackage({ NAME: 'bash', VERSION: '5-1' })
  const { profile } = await aMirror(t, {
    core: {
      'bash-5-1': bash,
      'bash-doc-4-1': aPacmanPackage({ NAME: 'bash-doc', BASE: 'bash', VERSION: '4-1' }),
    },
    testing: { 'bash-5-1': bash },
  })

  const { reports } = await sync({ ...profile, components: ['core', 'testing'] })

  assert.deepEqual(contentOf(reports[0]), ['bash 4-1: bash-doc', 'bash 5-1: bash', 'bash 5-1: bash'])
  assert.equal(new Set(reports[0]?.packages.map(({ url }) => url)).size, 3)
})

for (const [coding, compress] of [
  ['gzip', gzipSync],
  ['zstd', zstdCompressSync],
  ['none', (bytes: Buffer) => bytes],
  ['xz', (bytes: Buffer) => through('xz', ['-c'], bytes)],
  ['bzip2', (bytes: Buffer) => through('bzip2', ['-c'], bytes)],
] as const) {
  test(`a database may be compressed by ${coding}`, async (t) => {
    const { folder, profile } = await aMirror(t, {})
    const stored = compress(await pacmanDb({ 'bash-5-1': aPacmanPackage({ NAME: 'bash' }) }))
    if (stored === null) return t.skip(`needs the program ${coding}`)
    await put(join(folder, 'core/os/x86_64/core.db'), stored)

    assert.deepEqual(contentOf((await sync(profile)).reports[0]), ['bash 1.0-1: bash'])
  })
}

test('rules choose by name, base and packager', async (t) => {
  const { profile } = await aMirror(t, {
    core: {
      'a-1': aPacmanPackage({ NAME: 'a', PACKAGER: 'Ann' }),
      'b-1': aPacmanPackage({ NAME: 'b', BASE: 'c' }),
    },
  })

  for (const [rules, expected] of [
    [{ maintainers: ['Ann'] }, ['a 1.0-1: a']],
    [{ include: [{ source_pkgs: ['c'] }] }, ['c 1.0-1: b']],
    [{ excludes: ['a'] }, ['c 1.0-1: b']],
  ] as const) {
    assert.deepEqual(contentOf((await sync({ ...profile, ...rules })).reports[0]), expected)
  }
})

test('a database without a signature needs the trust of the profile', async (t) => {
  const { profile } = await aMirror(t, { core: { 'a-1': aPacmanPackage() } })
  const keyring = join(await aFolder(t), 'keys.gpg')
  await put(keyring, (await aKey()).publicKey.write())

  const untrusted = await sync({ ...profile, allow_unsigned: false })
  const unsigned = await sync({ ...profile, allow_unsigned: false, keyrings: [keyring] })

  assert.match(untrusted.error?.message ?? '', /names no keyrings/)
  assert.match(unsigned.error?.message ?? '', /core\.db\.sig is not there/)
})

describe('a source', () => {
  for (const [name, source, message] of [
    ['with an unknown variable', 'https://mirror.example/$repo/$foo', /unknown variable \$foo/],
    ['with text after a variable', 'https://mirror.example/$repo-x/$arch', /unknown variable \$repo-x/],
    ['that is a database', 'https://mirror.example/core/os/x86_64/core.db', /template/],
  ] as const) {
    test(`${name} is refused`, async () => {
      const { reports, error } = await sync({ ...usual, source })

      assert.deepEqual(reports, [])
      assert.match(error?.message ?? '', message)
    })
  }
})

test('a mirror without one of the databases changes nothing for that architecture', async (t) => {
  const { profile } = await aMirror(t, { core: { 'a-1': aPacmanPackage() } })

  const { reports, error } = await sync({ ...profile, components: ['core', 'extra'] })

  assert.deepEqual(reports, [])
  assert.match(error?.message ?? '', /not synced.*archlinux x86_64 \(.*no extra\.db/)
})

test('a profile without components is refused, not reported as empty', async (t) => {
  const { profile } = await aMirror(t, {})

  const { reports, error } = await sync({ ...profile, components: [] })

  assert.deepEqual(reports, [])
  assert.equal(complaintOf(error)?.exitCode, 2)
})

async function read(bytes: Uint8Array, size: number) {
  const found = []
  for await (const one of pacmanPackages(inPieces(bytes, size), 'core.db')) found.push(one)
  return found
}

describe('a database', () => {
  test('is read in pieces of any size, with and without values', async () => {
    const text =
      '\n%NAME%\na\n\n\n%VERSION%\n1-1\n\n%ARCH%\nany\n%DESC%\n\n%FILENAME%\na-1-1-any.pkg.tar.zst\n'
    const whole = await pacmanDb({ 'a-1-1': text.replace('any\n%DESC%', 'any\n\n%DESC%\n') })

    for (const size of [1, 100, 512, 100_000]) {
      const [found] = await read(whole, size)
      assert.deepEqual(found, {
        name: 'a',
        base: 'a',
        version: '1-1',
        architecture: 'any',
        packager: null,
        file: 'a-1-1-any.pkg.tar.zst',
        sha256: null,
        size: null,
        signature: null,
        builtAt: null,
      })
    }
  })

  test('may hold other files', async () => {
    const other = {
      'a-1/files': '%FILES%\nusr/',
      'README/x': 'no description',
      'a-1/depends': 'x'.repeat(3_000_000),
    }
    const whole = await pacmanDb({ ...other, 'a-1': aPacmanPackage({ NAME: 'a' }) })

    const found = await read(whole, 1000)

    assert.deepEqual(
      found.map(({ name }) => name),
      ['a'],
    )
  })

  test('cut anywhere is refused', async () => {
    const whole = await pacmanDb({ 'a-1': aPacmanPackage(), 'b-1': aPacmanPackage({ NAME: 'b' }) })

    for (let length = 1; length < whole.length - 1024; length += 511) {
      await assert.rejects(read(whole.subarray(0, length), 4096), Complaint, `cut at ${length}`)
    }
  })

  for (const [name, fields, message] of [
    ['no file name', { FILENAME: '' }, /has a %FILENAME% that is none/],
    ['a file name that leads out', { FILENAME: '../../x' }, /has a %FILENAME% that is none: "\.\.\/\.\.\/x"/],
    ['a hidden file name', { FILENAME: '.hidden' }, /has a %FILENAME% that is none/],
    ['a name with blanks', { NAME: 'a b' }, /has a %NAME% that is none/],
    ['a hash that is none', { SHA256SUM: 'abc' }, /has a %SHA256SUM% that is none/],
    ['a size that is none', { CSIZE: '1e9' }, /has a %CSIZE% that is none/],
    ['control bytes', { PACKAGER: 'a\x1b[2J' }, /has control bytes in %PACKAGER%/],
  ] as const) {
    test(`is refused with ${name}`, async () => {
      await assert.rejects(read(await pacmanDb({ 'a-1': aPacmanPackage(fields) }), 999), message)
    })
  }

  for (const [name, text, message] of [
    ['without a version', '%NAME%\na\n', /core\.db: "a\/desc" has no %VERSION%|has no %FILENAME%/],
    ['with a field twice', '%NAME%\na\n\n%NAME%\nb\n', /%NAME% a second time/],
    ['with a line that is no field', 'NAME\na\n', /no %FIELD%: "NAME"/],
  ] as const) {
    test(`is refused with a description ${name}`, async () => {
      await assert.rejects(read(await pacmanDb({ a: text }), 999), message)
    })
  }

  test('is refused with an endless description', async () => {
    const whole = await pacmanDb({ a: `%NAME%\n${'a'.repeat(2_000_000)}\n` })

    await assert.rejects(read(whole, 65_536), /"a\/desc" is too long/)
  })
})

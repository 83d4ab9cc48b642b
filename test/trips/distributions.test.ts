/** `ctl pkgs sync-profile` against archives that the distributions' own tools made and GnuPG signed. */
import assert from 'node:assert/strict'
import { execFileSync, spawn } from 'node:child_process'
import { once } from 'node:events'
import { chown, copyFile, mkdir, mkdtemp, readFile, readdir, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { test, type TestContext } from 'node:test'
import { getBinaryPackage, listBinaryPackages } from '../../src/wire/packages.ts'
import { listQueue } from '../../src/wire/queue.ts'
import { put, sha256 } from '../help/archives.ts'
import { lacksPrograms } from '../help/debs.ts'
import { openGpg, withOneByteChanged, type Gpg } from '../help/gpg.ts'
import { libraryWithoutChecks } from '../help/makepkg.ts'
import { startServer, type TestServer } from '../help/server.ts'
import { runHere, tempFolder, type Ended } from '../cmd/program.ts'

const run = (program: string, args: readonly string[], cwd: string, environment = {}): Buffer =>
  execFileSync(program, args, {
    cwd,
    env: { ...process.env, ...environment },
    stdio: ['ignore', 'pipe', 'pipe'],
  })

/** A server, and profiles for archives below `home`. */
async function setUp(t: TestContext) {
  const home = await tempFolder(t)
  const server = await startServer(t)
  const sync = (profile: Record<string, unknown>, ...more: string[]): Promise<Ended> =>
    syncProfile({ server, home }, profile, more)
  return { home, server, sync, gpg: openGpg(t), keyring: join(home, 'keyring.gpg') }
}

async function syncProfile(
  { server, home }: { server: TestServer; home: string },
  profile: Record<string, unknown>,
  more: readonly string[],
): Promise<Ended> {
  const lines = Object.entries(profile).map(([key, value]) => `${key} = ${JSON.stringify(value)}`)
  await writeFile(join(home, 'sync.conf'), `[profile."lab"]\n${lines.join('\n')}\n`)
  const where = ['-H', server.address, '--cookie-file', server.cookieFile, '--sync-config', 'sync.conf']
  return runHere(['ctl', 'pkgs', 'sync-profile', 'lab', ...where, ...more], { home })
}

async function listedAt({ call }: TestServer): Promise<string[]> {
  const { records } = await call(listBinaryPackages)
  return records.map(
    ({ name, version, architecture, index }) => `${name} ${version} ${architecture} ${index}`,
  )
}

type Signing = { gpg: Gpg; keyring: string }

/** The keys an archive may be signed with, and in which words we refuse it; the archive stays as it is. */
function refusals({ gpg, keyring }: Signing): [what: string, sign: (by: Sign) => void, words: RegExp][] {
  const good = gpg.key('good')
  const other = gpg.key('other')
  const old = gpg.key('old', { day: '20250101T000000', days: 30 })
  const lost = gpg.key('lost')
  return [
    [
      'another key',
      (by) => (gpg.exported(keyring, good), by(other)),
      /is not proven: .*key [0-9A-F]{16} is in none of the keyrings/,
    ],
    [
      'a key that expired',
      (by) => (gpg.exported(keyring, good, old), by(old, '20250110T000000')),
      /is not proven: .*expired on 2025-01-31/,
    ],
    [
      'a key that was revoked',
      (by) => (by(lost), gpg.revoke(lost), gpg.exported(keyring, good, lost)),
      /is not proven: .*was revoked/,
    ],
  ]
}

type Sign = (key: string, day?: string) => void

/** Refused in these words, nothing is changed at the server. */
async function assertRefused(
  { server, sync }: Awaited<ReturnType<typeof setUp>>,
  profile: Record<string, unknown>,
  words: RegExp,
): Promise<void> {
  const before = await listedAt(server)
  const { code, stderr } = await sync(profile)
  assert.match(stderr, words)
  assert.match(stderr, /not synced, and left as it was/)
  assert.equal(code, 1)
  assert.deepEqual(await listedAt(server), before)
}

// --- Debian

const debianTools = lacksPrograms('dpkg-deb', 'apt-ftparchive', 'gpg', 'gzip')

const pool = 'pool/main/h/hello'

/** A package that dpkg-deb makes, in the pool of an archive. */
async function packed(archive: string, file: string, fields: Record<string, string>): Promise<void> {
  const tree = join(archive, 'tree')
  const known = { Maintainer: 'A <a@b.example>', Description: 'says hello' }
  const lines = Object.entries({ ...fields, ...known }).map(([name, value]) => `${name}: ${value}\n`)
  await put(join(tree, 'DEBIAN/control'), lines.join(''))
  await mkdir(join(archive, pool), { recursive: true })
  run('dpkg-deb', ['--root-owner-group', '-b', tree, join(pool, file)], archive)
  await rm(tree, { recursive: true })
}

/** The source of `hello` in the pool of an archive. */
async function aDsc(archive: string, version: string): Promise<void> {
  const folder = join(archive, pool)
  const tarball = `hello_${version}.tar.gz`
  await put(join(folder, tarball), 'source')
  const md5 = run('md5sum', [tarball], folder).toString().slice(0, 32)
  const sums = `Checksums-Sha256:\n ${sha256('source')} 6 ${tarball}\nFiles:\n ${md5} 6 ${tarball}\n`
  const dsc = `Format: 3.0 (native)\nSource: hello\nBinary: hello\nArchitecture: all\nVersion: ${version}\nMaintainer: A <a@b.example>\n${sums}`
  await put(join(folder, `hello_${version}.dsc`), dsc)
}

/** The Release of an archive, as apt-ftparchive makes it. */
async function writeRelease(archive: string, name: string, date: string): Promise<void> {
  const fields = { Codename: name, Suite: name, Date: date }
  const options = Object.entries(fields).flatMap(([key, value]) => [
    '-o',
    `APT::FTPArchive::Release::${key}=${value}`,
  ])
  const release = run('apt-ftparchive', [...options, 'release', `dists/${name}`], archive).toString()
  await put(join(archive, `dists/${name}/Release`), release.replace(/^Date: .*$/m, `Date: ${date}`))
}

/** An archive as `apt-ftparchive` makes it: `hello` in this version. */
async function debianArchive(folder: string, version: string, date: string): Promise<void> {
  await rm(folder, { recursive: true, force: true })
  const fields = { Package: 'hello', Version: version, Architecture: 'all' }
  await packed(folder, `hello_${version}_all.deb`, fields)
  await aDsc(folder, version)
  const indexes = { packages: 'dists/lab/main/binary-all/Packages', sources: 'dists/lab/main/source/Sources' }
  for (const [what, index] of Object.entries(indexes)) {
    await put(join(folder, index), run('apt-ftparchive', [what, 'pool'], folder))
    run('gzip', ['-nk', index], folder)
  }
  await writeRelease(folder, 'lab', date)
}

/** Indexes of a pool by a configuration of `apt-ftparchive generate`, as archives are led by. */
async function generate(archive: string, release: string, indexes: Record<string, string>): Promise<void> {
  const dists = join(archive, 'dists', release)
  for (const [index, extension] of Object.entries(indexes)) {
    await mkdir(join(dists, index), { recursive: true })
    await mkdir(join(dists, 'main/source'), { recursive: true })
    const lines = [
      'Dir::ArchiveDir ".";',
      'Default { Packages::Compress ". gzip"; Sources::Compress ". gzip"; };',
      `BinDirectory "pool" { Packages "dists/${release}/${index}/Packages"; Packages::Extensions "${extension}";`,
      `  Sources "dists/${release}/main/source/Sources"; };`,
    ]
    await put(join(archive, 'generate.conf'), lines.join('\n'))
    run('apt-ftparchive', ['generate', 'generate.conf'], archive)
  }
}

test(
  'packages for the installer and debug symbols, in indexes of apt-ftparchive',
  { skip: debianTools },
  async (t) => {
    const { home, server, sync, gpg, keyring } = await setUp(t)
    const [main, debug] = [join(home, 'debian'), join(home, 'debian-debug')]
    const fields = { Version: '1.0', Architecture: 'amd64' }
    const ofHello = { ...fields, Source: 'hello' }
    await packed(main, 'hello_1.0_amd64.deb', { Package: 'hello', ...fields })
    await packed(main, 'hello-udeb_1.0_amd64.udeb', { Package: 'hello-udeb', ...ofHello })
    const symbols = { Package: 'hello-dbgsym', ...ofHello, 'Auto-Built-Package': 'debug-symbols' }
    await packed(debug, 'hello-dbgsym_1.0_amd64.deb', symbols)
    const key = gpg.key('trusted')
    gpg.exported(keyring, key)
    for (const [archive, release, indexes] of [
      [main, 'lab', { 'main/binary-amd64': '.deb', 'main/debian-installer/binary-amd64': '.udeb' }],
      [debug, 'lab-debug', { 'main/binary-amd64': '.deb' }],
    ] as const) {
      await aDsc(archive, '1.0')
      await generate(archive, release, indexes)
      await writeRelease(archive, release, 'Sun, 22 Nov 2026 10:00:00 UTC')
      const dists = join(archive, 'dists', release)
      gpg.sign(key, join(dists, 'Release'), 'clear', join(dists, 'InRelease'))
    }
    const components = ['main', 'main/debian-installer']
    const lists = { releases: ['lab'], components, architectures: ['amd64'], keyrings: [keyring] }

    const { code, stderr } = await sync({ distro: 'debian', source: main, ...lists })
    const symbolsToo = await sync({
      distro: 'debian',
      source: debug,
      ...lists,
      releases: ['lab-debug'],
      components: ['main'],
    })

    assert.deepEqual([code, symbolsToo.code], [0, 0], stderr + symbolsToo.stderr)
    const { records } = await server.call(listBinaryPackages, { query: { sort: 'name' } })
    assert.deepEqual(
      records.map(({ name, release, component, index, url }) => [
        name,
        release,
        component,
        index,
        url.replace(/.*\//, ''),
      ]),
      [
        ['hello', 'lab', 'main', 'signed', 'hello_1.0_amd64.deb'],
        ['hello-dbgsym', 'lab-debug', 'main', 'signed', 'hello-dbgsym_1.0_amd64.deb'],
        ['hello-udeb', 'lab', 'main/debian-installer', 'signed', 'hello-udeb_1.0_amd64.udeb'],
      ],
    )
    assert.equal((await server.call(listQueue)).total, 1) // one build makes all three
  },
)

test('an archive of apt-ftparchive, signed by GnuPG', { skip: debianTools }, async (t) => {
  const made = await setUp(t)
  const { home, server, sync, gpg, keyring } = made
  const folder = join(home, 'debian')
  const release = join(folder, 'dists/lab/Release')
  const inRelease = join(folder, 'dists/lab/InRelease')
  const lists = { releases: ['lab'], components: ['main'], architectures: ['all'] }
  const profile = { distro: 'debian', source: folder, ...lists, keyrings: [keyring] }
  const sign: Sign = (key, day) => gpg.sign(key, release, 'clear', inRelease, day)
  const trusted = gpg.key('trusted')

  await debianArchive(folder, '1.0', 'Sun, 22 Nov 2026 10:00:00 UTC')
  sign(trusted)
  gpg.exported(keyring, trusted)
  const first = await sync(profile)
  assert.equal(first.code, 0, first.stderr)
  assert.deepEqual(await listedAt(server), ['hello 1.0 all signed'])
  await sync(profile)
  assert.equal((await server.call(listQueue)).total, 1)

  for (const [what, signBy, words] of refusals({ gpg, keyring })) {
    await t.test(`is refused with ${what}`, async () => {
      signBy(sign)
      await assertRefused(made, profile, words)
    })
  }
  await t.test('is refused with one byte changed, in Release or index', async () => {
    gpg.exported(keyring, trusted)
    sign(trusted)
    await withOneByteChanged(inRelease, 'lab')
    await assertRefused(made, profile, /does not fit the content: it was altered/)
    sign(trusted)
    const cache = join(home, '.cache/rebuilderd/sync') // what was proven once need not be read again
    for (const name of await readdir(cache)) if (name.startsWith('plain-')) await rm(join(cache, name))
    for (const ending of ['', '.gz']) {
      const index = join(folder, `dists/lab/main/binary-all/Packages${ending}`)
      if (ending === '') await withOneByteChanged(index, 'hello')
      else run('gzip', ['-nkf', 'Packages'], join(folder, 'dists/lab/main/binary-all'))
    }
    await assertRefused(made, profile, /Packages\S* is not what the index tells: /)
  })
  await t.test('is refused when an older one is shown again', async () => {
    await debianArchive(folder, '0.9', 'Sat, 21 Nov 2026 10:00:00 UTC')
    sign(trusted)
    await assertRefused(
      made,
      profile,
      /Release of Sat, 21 Nov 2026 \S+ \S+ is older than the one of Sun, 22 Nov 2026/,
    )
  })
  await t.test('is taken when a newer one comes, and the old package goes', async () => {
    await debianArchive(folder, '1.1', 'Mon, 23 Nov 2026 10:00:00 UTC')
    sign(trusted)
    const { code, stderr } = await sync(profile)
    assert.match(stderr, /1 new, 1 gone, 1 queued/)
    assert.equal(code, 0)
  })
})

// --- Fedora

const fedoraTools = lacksPrograms('rpmbuild', 'createrepo_c', 'gpg')

test('a repository of rpmbuild and createrepo_c, signed by GnuPG', { skip: fedoraTools }, async (t) => {
  const made = await setUp(t)
  const { home, server, sync, gpg, keyring } = made
  const os = join(home, 'fedora/43/Everything/x86_64/os')
  await put(join(home, 'hello.spec'), rpmSpec)
  await mkdir(join(os, 'Packages'), { recursive: true })
  run(
    'rpmbuild',
    ['-bb', '--define', `_topdir ${home}/rpm`, '--define', `_rpmdir ${os}/Packages`, 'hello.spec'],
    home,
    { HOME: home },
  )
  run('createrepo_c', ['.'], os)
  const repomd = join(os, 'repodata/repomd.xml')
  const lists = { releases: ['43'], components: ['Everything'], architectures: ['x86_64'] }
  const profile = { distro: 'fedora', source: join(home, 'fedora'), ...lists, keyrings: [keyring] }
  const sign: Sign = (key, day) => gpg.sign(key, repomd, 'detached', `${repomd}.asc`, day)
  const trusted = gpg.key('trusted')
  sign(trusted)
  gpg.exported(keyring, trusted)

  const first = await sync(profile)

  assert.equal(first.code, 0, first.stderr)
  assert.deepEqual(await listedAt(server), ['hello 2:1.0-1 noarch signed', 'hello-doc 2:1.0-1 noarch signed'])
  assert.equal((await server.call(listQueue)).total, 1)
  for (const [what, signBy, words] of refusals({ gpg, keyring })) {
    await t.test(`is refused with ${what}`, async () => {
      signBy(sign)
      await assertRefused(made, profile, words)
    })
  }
  await t.test('is refused with one byte changed, in repomd.xml or primary.xml', async () => {
    gpg.exported(keyring, trusted)
    sign(trusted)
    const primary = (await readdir(join(os, 'repodata'))).find((name) => name.includes('primary.xml')) ?? ''
    await withOneByteChanged(join(os, 'repodata', primary), '\0')
    await assertRefused(made, profile, /primary\.xml\S* is not what the index tells: SHA-256/)
    await withOneByteChanged(repomd, 'primary')
    await assertRefused(made, profile, /does not fit the content: it was altered/)
  })
  await t.test('is refused when an older one is shown again, unless by force', async () => {
    const age = async (days: number): Promise<void> => {
      run('createrepo_c', ['.'], os)
      const earlier = (_: string, seconds: string): string => `<timestamp>${Number(seconds) - days * 86_400}<`
      const text = await readFile(repomd, 'utf8')
      await writeFile(repomd, text.replaceAll(/<timestamp>(\d+)</g, earlier))
      sign(trusted)
    }
    await age(2)
    await assertRefused(made, profile, /the repomd\.xml of \S+ of .* is older than the one of .*--force/s)
    const forced = await sync(profile, '--force')
    assert.equal(forced.code, 0, forced.stderr)
    await age(1)
    assert.equal((await sync(profile)).code, 0)
  })
  await t.test('is refused without a signature, unless that is taken on trust', async () => {
    run('createrepo_c', ['.'], os)
    await rm(`${repomd}.asc`, { force: true })
    await assertRefused(made, profile, /repomd\.xml\.asc is not there.*\n.*allow_unsigned = true/s)
    const { code } = await sync({ ...profile, allow_unsigned: true })
    assert.equal(code, 0)
    assert.match((await listedAt(server)).join(), /unsigned.*unsigned/)
  })
})

const rpmSpec = `Name: hello
Epoch: 2
Version: 1.0
Release: 1
Summary: Says hello
License: MIT
BuildArch: noarch
%description
Says hello.
%package doc
Summary: Tells how
%description doc
Tells how.
%files
%files doc
`

// --- Arch Linux

const archTools = lacksPrograms('makepkg', 'fakeroot', 'repo-add', 'gpg', 'zstd')

const pkgbuild = `pkgbase=hello
pkgname=(hello hello-doc)
epoch=1
pkgver=2.0
pkgrel=1
pkgdesc='Says hello'
arch=(any)
package_hello() { install -d "$pkgdir/usr/bin"; }
package_hello-doc() { install -d "$pkgdir/usr/share/doc"; }
`
const nobody = 65534

/** Builds what a PKGBUILD says; makepkg refuses root. */
async function makePackages(t: TestContext, into: string): Promise<void> {
  const folder = await mkdtemp(join(tmpdir(), 'rebuilderd-makepkg-'))
  t.after(() => rm(folder, { recursive: true, force: true }))
  await writeFile(join(folder, 'PKGBUILD'), pkgbuild)
  const isRoot = process.getuid?.() === 0
  if (isRoot) for (const path of [folder, join(folder, 'PKGBUILD')]) await chown(path, nobody, nobody)
  const library = await libraryWithoutChecks(folder)
  const env = { PATH: '/usr/bin:/bin', HOME: folder, LC_ALL: 'C.UTF-8', PACKAGER: 'A <a@b.example>' }
  const few = 'ulimit -n 256; exec makepkg -d --nocheck' // fakeroot goes through every file that could be open
  execFileSync('sh', ['-c', few], {
    cwd: folder,
    env: {
      ...env,
      LIBRARY: library,
      PKGEXT: '.pkg.tar.zst',
      PKGDEST: folder,
      SOURCE_DATE_EPOCH: '1795300000',
    },
    stdio: ['ignore', 'pipe', 'pipe'],
    ...(isRoot ? { uid: nobody, gid: nobody } : {}),
  })
  await mkdir(into, { recursive: true })
  for (const name of await readdir(folder))
    if (name.endsWith('.pkg.tar.zst')) await copyFile(join(folder, name), join(into, name))
}

test('a database of makepkg and repo-add, signed by GnuPG', { skip: archTools }, async (t) => {
  const made = await setUp(t)
  const { home, server, sync, gpg, keyring } = made
  const folder = join(home, 'arch/core/os/x86_64')
  const trusted = gpg.key('trusted', { day: '20260101T000000', days: 0 })
  gpg.exported(keyring, trusted)
  const names = ['hello', 'hello-doc']
  await makePackages(t, folder)
  for (const name of names) {
    const file = `${name}-1:2.0-1-any.pkg.tar.zst`
    gpg.sign(trusted, join(folder, file), 'detached', join(folder, `${file}.asc`))
    run(
      'gpg',
      ['--homedir', gpg.home, '--batch', '--yes', '--dearmor', '-o', `${file}.sig`, `${file}.asc`],
      folder,
    )
    run('repo-add', ['--nocolor', 'core.db.tar.gz', file], folder)
  }
  const database = join(folder, 'core.db')
  const lists = { components: ['core'], architectures: ['x86_64'] }
  const profile = {
    distro: 'archlinux',
    source: `${home}/arch/$repo/os/$arch`,
    ...lists,
    keyrings: [keyring],
  }
  const sign: Sign = (key, day) => gpg.sign(key, database, 'detached', `${database}.sig`, day)
  sign(trusted)

  const first = await sync(profile)

  assert.equal(first.code, 0, first.stderr)
  assert.deepEqual(await listedAt(server), ['hello 1:2.0-1 any signed', 'hello-doc 1:2.0-1 any signed'])
  const listed = await server.call(getBinaryPackage, { params: { id: 1 } })
  assert.match(listed.signature ?? '', /^[A-Za-z0-9+/]{100,}=*$/)
  for (const [what, signBy, words] of refusals({ gpg, keyring })) {
    await t.test(`is refused with ${what}`, async () => {
      signBy(sign)
      await assertRefused(made, profile, words)
    })
  }
  await t.test('is refused when an older one is shown again, unless by force', async () => {
    gpg.exported(keyring, trusted)
    run('repo-remove', ['--nocolor', 'core.db.tar.gz', 'hello-doc'], folder)
    sign(trusted, '20261101T000000')
    await assertRefused(
      made,
      profile,
      /core\.db of Sun, 01 Nov 2026 .* is older than the one of .* that we have seen.*--force/s,
    )
    const forced = await sync(profile, '--force')
    assert.equal(forced.code, 0, forced.stderr)
    assert.match(forced.stderr, /imported archlinux/)
    assert.equal((await sync(profile)).code, 0) // what was gone back to is the newest seen
  })
  await t.test('is refused with one byte changed', async () => {
    gpg.exported(keyring, trusted)
    sign(trusted)
    await withOneByteChanged(database, '\0')
    await assertRefused(made, profile, /does not fit the content: it was altered/)
  })
})

// --- Tails

const tailsTools = lacksPrograms('python3')

test('the listing of a real web server, as Tails has one', { skip: tailsTools }, async (t) => {
  const { home, server, sync } = await setUp(t)
  for (const version of ['6.9', '6.10', '7.0~rc1']) {
    for (const ending of ['img', 'iso'])
      await put(join(home, `tails/stable/tails-amd64-${version}/tails-amd64-${version}.${ending}`), version)
  }
  const source = await servedByPython(t, join(home, 'tails'))
  const profile = { distro: 'tails', source, releases: ['stable'], architectures: ['amd64'] }

  const refused = await sync(profile)
  const trusted = await sync({ ...profile, allow_unsigned: true })

  assert.deepEqual([refused.code, trusted.code], [1, 0])
  assert.match(refused.stderr, /is not proven: .*\n.*allow_unsigned = true/s)
  const images = ['img', 'iso'].map((ending) => `tails-amd64-7.0~rc1.${ending} 7.0~rc1 amd64 unsigned`)
  assert.deepEqual(await listedAt(server), images)
  const [binary] = (await server.call(listBinaryPackages)).records
  const file = await fetch(binary?.url ?? '')
  assert.equal(await file.text(), '7.0~rc1')
})

/** The address of a folder that Python's own web server shows. */
async function servedByPython(t: TestContext, folder: string): Promise<string> {
  const args = ['-u', '-m', 'http.server', '0', '--bind', '127.0.0.1', '--directory', folder]
  const child = spawn('python3', args, { stdio: ['ignore', 'pipe', 'ignore'] })
  t.after(async () => {
    const ended = once(child, 'exit')
    child.kill()
    await ended
  })
  for await (const line of createInterface({ input: child.stdout })) {
    const port = /port (\d+)/.exec(line)?.[1]
    if (port !== undefined) return `http://127.0.0.1:${port}`
  }
  throw new Error('the web server ended')
}

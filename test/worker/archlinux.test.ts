import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { appendFile, chmod, mkdir, readFile, readdir, rename, writeFile } from 'node:fs/promises'
import { basename, join } from 'node:path'
import { test, type TestContext } from 'node:test'
import { promisify } from 'node:util'
import { builtInBackend, runBackend, type BackendResult } from '../../src/worker/backend.ts'
import { aFolder, lacksPrograms, sandbox, serveFolder } from '../help/debs.ts'
import { clean, leftovers } from '../help/machine.ts'
import { aStandIn } from '../help/files.ts'
import { behindAProxy, redirections } from '../help/redirects.ts'
import { checksOfRecipes, noChecksOfRecipes } from '../help/makepkg.ts'
import { patienceSeconds } from '../help/until.ts'

const run = promisify(execFile)
const skip = lacksPrograms('makepkg', 'bsdtar', 'curl', 'zstd', 'unshare')
const settings = `. /etc/makepkg.conf
PKGEXT='.pkg.tar.zst'
COMPRESSZST=(zstd -c -T0 --ultra -20 -)
BUILDENV=(!distcc !color !ccache check !sign)
OPTIONS=(strip docs !libtool !staticlibs emptydirs zipman purge !debug)
`

/** Builds a package and its source tarball as a repository would: the path of the package. */
async function anArchPackage(folder: string, name: string, make: string): Promise<string> {
  const tree = join(folder, 'tree')
  await mkdir(tree, { recursive: true })
  const recipe = `pkgname=${name}
pkgver=1.0
pkgrel=1
pkgdesc='tiny'
arch=(any)
source=(greeting)
sha256sums=(SKIP)
build() { ${make}; }
package() { install -Dm644 made "$pkgdir/usr/share/$pkgname/made"; install -m644 greeting "$pkgdir/usr/share/$pkgname/"; }
`
  await writeFile(join(tree, 'PKGBUILD'), recipe)
  await writeFile(join(tree, 'greeting'), 'hello\n')
  await writeFile(join(folder, 'makepkg.conf'), settings)
  for (const path of [folder, tree]) await chmod(path, 0o777)
  const kind = process.getuid?.() === 0 ? 'none' : 'single'
  const inside = [sandbox, '--user-namespace', kind, '--bind', tree, '/build/tiny', '--user', '1234']
  inside.push('--read', await noChecksOfRecipes(folder), checksOfRecipes)
  const conf = [
    '--read',
    join(folder, 'makepkg.conf'),
    '/tmp/makepkg.conf',
    '--directory',
    '/build/tiny',
    '--',
  ]
  const clean = [
    'env',
    '-i',
    'PATH=/usr/bin:/bin',
    'LC_ALL=C.UTF-8',
    'TZ=UTC',
    'SOURCE_DATE_EPOCH=1700000000',
  ]
  const makepkg =
    'umask 022; makepkg -d --nocheck --config /tmp/makepkg.conf "$@"; makepkg --allsource -d --config /tmp/makepkg.conf'
  const packager = 'PACKAGER=Tiny <tiny@mirror.example>'
  await run('perl', [...inside, ...conf, ...clean, packager, 'HOME=/nonexistent', 'sh', '-ec', makepkg])
  for (const file of await readdir(tree)) {
    if (/\.(pkg\.tar\.zst|src\.tar\.gz)$/.test(file)) await rename(join(tree, file), join(folder, file))
  }
  return join(folder, `${name}-1.0-1-any.pkg.tar.zst`)
}

async function rebuild(
  t: TestContext,
  input: string,
  directory: string,
  isolation: 'auto' | 'off' = 'auto',
  inputUrl?: string,
): Promise<BackendResult> {
  await mkdir(directory, { mode: 0o700 })
  return runBackend({
    backend: builtInBackend('archlinux'),
    input,
    directory,
    job: {
      name: 'tiny',
      version: '1.0-1',
      distribution: 'archlinux',
      release: null,
      architecture: 'any',
      inputUrl: inputUrl ?? `${await serveFolder(t, join(input, '..'))}/${basename(input)}`,
      artifacts: [basename(input)],
    },
    cache: join(directory, '../cache'),
    timeoutSeconds: patienceSeconds,
    maxLogBytes: null,
    silent: true,
    isolation,
    signal: t.signal,
  })
}

/** A package in which there is nothing but the record of its build: its path. */
async function aRecord(folder: string, version: string): Promise<string> {
  const record = `format = 2
pkgname = tiny
pkgbase = tiny
pkgver = ${version}
pkgarch = any
pkgbuild_sha256sum = ${'0'.repeat(64)}
packager = Tiny <tiny@mirror.example>
builddate = 1700000000
builddir = /build
startdir = /startdir
`
  await writeFile(join(folder, '.BUILDINFO'), record)
  const input = join(folder, `tiny-${encodeURIComponent(version)}-any.pkg.tar.zst`)
  await run('bsdtar', ['-C', folder, '--zstd', '-cf', input, '.BUILDINFO'])
  return input
}

for (const [name, make, equal] of [
  ['steady', 'date -u -d "@$SOURCE_DATE_EPOCH" > made', true],
  ['dice', 'od -An -N8 -tx8 /dev/urandom > made', false],
] as const) {
  test(
    `an Arch package named ${name} comes out ${equal ? 'bit by bit' : 'different'}`,
    { skip },
    async (t) => {
      const folder = await aFolder(t)
      const original = await anArchPackage(folder, name, make)

      const result = await rebuild(t, original, join(folder, 'job'))

      assert.equal(result.exitCode, 0, Buffer.from(result.log).toString())
      const rebuilt = await readFile(join(result.outdir, basename(original)))
      assert.equal(rebuilt.equals(await readFile(original)), equal)
      assert.equal(result.told?.presentToolchain, true)
      await result.tidy()
      assert.deepEqual(leftovers(join(folder, 'job')), clean)
    },
  )
}

test('a PKGBUILD that is not the recorded one is refused', { skip }, async (t) => {
  const folder = await aFolder(t)
  const original = await anArchPackage(folder, 'swapped', 'echo one > made')
  const tarball = join(folder, 'swapped-1.0-1.src.tar.gz')
  await run('bsdtar', ['-C', folder, '-xf', tarball])
  await appendFile(join(folder, 'swapped/PKGBUILD'), '# and more\n')
  await run('bsdtar', ['-C', folder, '-czf', tarball, 'swapped'])

  const result = await rebuild(t, original, join(folder, 'job'))

  assert.equal(result.exitCode, 4)
  assert.equal(result.told?.reason, 'source_unavailable')
})

test(
  'a package that is installed on this machine is not rebuilt with what is installed here',
  { skip },
  async (t) => {
    await aStandIn(t, 'pacman', 'echo "tiny 1:1.0-1"')
    const folder = await aFolder(t)
    const input = await aRecord(folder, '1:1.0-1')

    const result = await rebuild(t, input, join(folder, 'job'), 'off') // the stand-in lies where no sandbox looks

    assert.equal(result.exitCode, 3, Buffer.from(result.log).toString())
    assert.equal(result.told?.note, 'tiny-1:1.0-1 is to be rebuilt and part of its own environment')
  },
)

for (const { what, from, leadsTo } of redirections) {
  test(`a public server of source tarballs that sends us to ${what}`, { skip }, async (t) => {
    const folder = await aFolder(t)
    await writeFile(join(folder, 'tiny-1.0-1.src.tar.gz'), 'no tarball\n')
    const asked = await behindAProxy(t, folder)
    const input = await aRecord(folder, '1.0-1')

    const result = await rebuild(t, input, join(folder, 'job'), 'auto', `${from}${basename(input)}`)

    const log = Buffer.from(result.log).toString()
    const elsewhere = asked.filter((url) => !url.startsWith('http://mirror.example/'))
    assert.equal(result.told?.reason, 'source_unavailable')
    assert.equal(/sends us to .* inside our network/.test(log), leadsTo === null, log)
    assert.equal(/the source tarball cannot be unpacked/.test(log), leadsTo !== null, log)
    assert.deepEqual(elsewhere, leadsTo === null ? [] : [`${leadsTo}tiny-1.0-1.src.tar.gz`])
  })
}

test('a file that is no package is bad input', { skip }, async (t) => {
  const folder = await aFolder(t)
  const input = join(folder, 'tiny-1.0-1-any.pkg.tar.zst')
  await writeFile(input, 'no package\n')

  const result = await rebuild(t, input, join(folder, 'job'))

  assert.equal(result.exitCode, 2)
  assert.equal(result.told?.reason, 'input_invalid')
})

/** README's examples, run as they are written: in systems that the tools of each distribution made. */
import assert from 'node:assert/strict'
import { spawn, spawnSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import { once } from 'node:events'
import { readFileSync } from 'node:fs'
import { copyFile, mkdir, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { test, type TestContext } from 'node:test'
import { fileURLToPath } from 'node:url'
import {
  generateSigningKey,
  makeLink,
  publicKeyToPem,
  serialiseEnvelope,
  signLink,
} from '../../src/attestation.ts'
import { cleanEnvironment, type Ended, scriptThatStarts } from '../cmd/program.ts'
import { lacksPrograms } from '../help/debs.ts'
import { temporaryFolder } from '../help/server.ts'
import { aTar, coded, ociArchive } from '../help/images.ts'
import { aWitness, runCheck, standingsOf } from './help.ts'

const project = fileURLToPath(new URL('../../', import.meta.url))
const readme = readFileSync(join(project, 'README.md'), 'utf8')

/** The commands of a section of README. */
function example(heading: string): string {
  const section = new RegExp(`^### ${heading}\n([^]*?)^##`, 'm').exec(readme)?.[1] ?? ''
  const block = /^```\n([^]*?)^```/m.exec(section)?.[1]
  assert.ok(block !== undefined, `README has an example for ${heading}`)
  return block
}

function isolated(): string | false {
  const missing = lacksPrograms('bwrap')
  if (missing !== false) return missing
  const tried = spawnSync('bwrap', ['--unshare-user', '--uid', '0', '--ro-bind', '/', '/', 'true'])
  return tried.status === 0 ? false : 'bwrap cannot make namespaces here'
}

/** Runs a script on a system that is this one but for some folders, with our program by its name. */
async function runIn(
  home: string,
  { binds = {}, script }: { binds?: Readonly<Record<string, string>>; script: string },
): Promise<Ended> {
  await mkdir(join(home, 'bin'), { recursive: true })
  await writeFile(join(home, 'bin/rebuilderd'), scriptThatStarts, { mode: 0o755 })
  const places = Object.entries(binds).flatMap(([at, from]) => ['--bind', from, at])
  const world = [
    '--ro-bind',
    '/',
    '/',
    '--dev',
    '/dev',
    '--proc',
    '/proc',
    '--tmpfs',
    '/tmp',
    '--ro-bind', // it may lie there itself
    project,
    project,
    '--bind',
    home,
    home,
  ]
  const empty = ['--tmpfs', '/var/lib', '--tmpfs', '/var/cache', '--tmpfs', '/etc/apt']
  const user = ['--unshare-user', '--uid', '0', '--gid', '0']
  const environment = cleanEnvironment(home)
  const command = ['--chdir', home, 'sh', '-ec', script]
  const child = spawn('bwrap', [...user, ...world, ...empty, ...places, ...command], {
    env: { ...environment, PATH: `${join(home, 'bin')}:${environment['PATH']}:/usr/sbin:/sbin` },
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  const said = { stdout: '', stderr: '' }
  child.stdout.on('data', (chunk: Buffer) => (said.stdout += chunk.toString()))
  child.stderr.on('data', (chunk: Buffer) => (said.stderr += chunk.toString()))
  const [code] = (await once(child, 'close')) as [number | null]
  return { code, ...said }
}

type Named = { name: string; version: string; architecture: string; distro: string }

/** A rebuilder that has confirmed this very file. */
async function aConfirming(t: TestContext, one: Named, file: string): Promise<string> {
  const key = generateSigningKey()
  const bytes = await readFile(file)
  const hash = (name: string): string => createHash(name).update(bytes).digest('hex')
  const hashed = { file: file.replace(/.*\//, ''), sha256: hash('sha256'), sha512: hash('sha512') }
  const link = makeLink({ artifact: hashed, input: hashed })
  return aWitness(t, one, serialiseEnvelope(signLink(link, key)), publicKeyToPem(key.publicKey))
}

function run(program: string, args: readonly string[], options: { cwd: string; home?: string }): void {
  const { cwd, home = cwd } = options
  const ended = spawnSync(program, args, { cwd, env: { ...cleanEnvironment(home), LC_ALL: 'C' } })
  assert.equal(ended.status, 0, `${program}: ${ended.stderr.toString()}${ended.stdout.toString()}`)
}

/** A .deb that dpkg-deb makes, named as in an archive. */
async function aDeb(folder: string, name: string, version: string): Promise<string> {
  const tree = join(folder, `tree-${name}`)
  await mkdir(join(tree, 'DEBIAN'), { recursive: true })
  const control = `Package: ${name}\nVersion: ${version}\nArchitecture: amd64\nInstalled-Size: 100\nMaintainer: Nobody <nobody@mirror.example>\nDescription: one\n`
  await writeFile(join(tree, 'DEBIAN/control'), control)
  const file = join(folder, `${name}_${version}_amd64.deb`)
  run('dpkg-deb', ['--root-owner-group', '--build', tree, file], { cwd: folder })
  return file
}

const allVerified = /^ {2}verified +1 +100\.0 %/m
const debianTools = isolated() || lacksPrograms('apt-get', 'dpkg', 'dpkg-deb', 'dpkg-scanpackages')

test('the example for Debian, with apt and two rebuilders', { skip: debianTools }, async (t) => {
  const home = await temporaryFolder(t)
  const [archive, apt] = [join(home, 'archive'), join(home, 'apt')]
  for (const folder of ['archive', 'apt', 'root', 'var/lists/partial', 'var/dpkg/info', 'var/dpkg/updates'])
    await mkdir(join(home, folder), { recursive: true })
  const deb = await aDeb(home, 'curl', '8.14.1-2')
  await copyFile(deb, join(archive, 'curl.deb'))
  run('sh', ['-c', 'dpkg-scanpackages . > Packages'], { cwd: archive })
  await writeFile(join(apt, 'sources.list'), `deb [trusted=yes] file:${archive} ./\n`)
  await writeFile(join(apt, 'apt.conf'), 'APT::Sandbox::User "root";\n')
  await writeFile(join(home, 'var/dpkg/status'), '')
  const one = { name: 'curl', version: '8.14.1-2', architecture: 'amd64', distro: 'debian' }
  const urls = [await aConfirming(t, one, deb), await aConfirming(t, one, deb)]
  await mkdir(join(home, '.config'))
  const entries = urls.map((url) => `[[rebuilder]]\nurl = "${url}"\ndistributions = ["debian"]\n`)
  await writeFile(join(home, '.config/rebuilderd.conf'), entries.join(''))
  const folders = [`--instdir=${home}/root`, `--admindir=${home}/var/dpkg`]
  run('dpkg', [...folders, '--force-not-root', '--force-architecture', '--install', deb], { cwd: home })

  const binds = {
    '/etc/apt': apt,
    '/var/lib/dpkg': join(home, 'var/dpkg'),
    '/var/lib/apt': join(home, 'var'),
  }
  const { code, stdout, stderr } = await runIn(home, { binds, script: example('Debian') })

  assert.equal(code, 0, stderr)
  assert.equal(stdout.match(new RegExp(allVerified, 'gm'))?.length, 2)
})

const archTools = isolated() || lacksPrograms('pacman', 'repo-add', 'bsdtar', 'zstd')

test('the example for Arch Linux, with pacman and its databases', { skip: archTools }, async (t) => {
  const home = await temporaryFolder(t)
  const file = 'filesystem-2025.10.12-1-any.pkg.tar.zst'
  for (const folder of ['tree', 'repository', 'pacman/local', 'root'])
    await mkdir(join(home, folder), { recursive: true })
  const info = `pkgname = filesystem\npkgbase = filesystem\npkgver = 2025.10.12-1\npkgdesc = one\nbuilddate = 1\npackager = Nobody\nsize = 1000\narch = any\n`
  await writeFile(join(home, 'tree/.PKGINFO'), info)
  run('bsdtar', ['--zstd', '-cf', join(home, file), '.PKGINFO'], { cwd: join(home, 'tree') })
  await copyFile(join(home, file), join(home, 'repository', file))
  run('repo-add', ['core.db.tar.gz', file], { cwd: join(home, 'repository'), home })
  const config = `[options]\nArchitecture = auto\nSigLevel = Never\n[core]\nServer = file://${join(home, 'repository')}\n`
  await writeFile(join(home, 'pacman.conf'), config)
  await writeFile(join(home, 'os-release'), 'ID=arch\n')
  const one = { name: 'filesystem', version: '2025.10.12-1', architecture: 'any', distro: 'archlinux' }
  const url = await aConfirming(t, one, join(home, file))
  const binds = {
    '/usr/lib/os-release': join(home, 'os-release'),
    '/etc/pacman.conf': join(home, 'pacman.conf'),
    '/var/lib/pacman': join(home, 'pacman'),
  }
  const install = `pacman --config /etc/pacman.conf --root ${home}/root --dbpath /var/lib/pacman --cachedir ${home}/kept --hookdir ${home}/hooks --logfile ${home}/log --noconfirm -U ${file}`
  const installed = await runIn(home, { binds, script: install })
  assert.equal(installed.code, 0, installed.stderr + installed.stdout)

  const script = example('Arch Linux').replaceAll('https://rebuilder.example', url)
  const { code, stdout, stderr } = await runIn(home, { binds, script })

  assert.equal(code, 0, stderr)
  assert.equal(stdout.match(new RegExp(allVerified, 'gm'))?.length, 2)
})

/** An rpm that rpmbuild makes. */
async function anRpm(home: string): Promise<string> {
  const spec = `Name: hello\nEpoch: 2\nVersion: 1.0\nRelease: 3.fc43\nSummary: one\nLicense: MIT\nBuildArch: noarch\n%description\none\n%files\n`
  await writeFile(join(home, 'hello.spec'), spec)
  run('rpmbuild', ['-bb', '--quiet', '--define', `_topdir ${home}/build`, 'hello.spec'], { cwd: home })
  const file = join(home, 'repository/hello-1.0-3.fc43.noarch.rpm')
  await mkdir(join(home, 'repository'))
  await copyFile(join(home, 'build/RPMS/noarch/hello-1.0-3.fc43.noarch.rpm'), file)
  return file
}

const hello = { name: 'hello', version: '2:1.0-3.fc43', architecture: 'noarch', distro: 'fedora' }
const rpmTools = lacksPrograms('rpm', 'rpmbuild', 'createrepo_c')

test('the example for Fedora, with rpm and its database', { skip: isolated() || rpmTools }, async (t) => {
  const home = await temporaryFolder(t)
  const file = await anRpm(home)
  run('createrepo_c', ['--quiet', '.'], { cwd: join(home, 'repository'), home })
  run('rpm', ['--install', '--justdb', '--nodeps', file], { cwd: home })
  const url = await aConfirming(t, hello, file)
  const binds = { '/var/cache/libdnf5': join(home, 'repository') }

  const script = example('Fedora').trimEnd().concat(` --rebuilder ${url}\n`)
  const { code, stdout, stderr } = await runIn(home, { binds, script })

  assert.deepEqual([code, stderr], [0, ''])
  assert.match(stdout, allVerified)
})

test(
  'an rpm of rpmbuild is verified as a file, and is known by what plain rpm prints',
  { skip: rpmTools },
  async (t) => {
    const home = await temporaryFolder(t)
    const file = await anRpm(home)
    const url = await aConfirming(t, hello, file)
    run('rpm', ['--dbpath', join(home, 'database'), '--install', '--justdb', '--nodeps', file], { cwd: home })
    const printed = spawnSync('rpm', ['--dbpath', join(home, 'database'), '-qa'], {
      env: cleanEnvironment(home),
    })

    const good = await runCheck(home, ['--file', file, '--rebuilder', url])
    const args = ['--list', '-', '--distro', 'fedora', '--rebuilder', url]
    const listed = await runCheck(home, args, { input: printed.stdout.toString() })
    const bytes = await readFile(file)
    bytes[bytes.length - 1] = (bytes.at(-1) ?? 0) ^ 1
    await writeFile(file, bytes)
    const changed = await runCheck(home, ['--file', file, '--rebuilder', url])

    assert.deepEqual([standingsOf(good.document), good.code], [{ hello: 'verified' }, 0])
    assert.equal(good.document.packages[0]?.version, '2:1.0-3.fc43')
    assert.deepEqual([standingsOf(changed.document), changed.code], [{ hello: 'claimed' }, 3])
    const [one] = listed.document.packages
    assert.deepEqual([one?.name, one?.version, one?.standing], ['hello', '1.0-3.fc43', 'claimed']) // by its only epoch
    assert.match(listed.stderr, /standard input: 1 package without epoch, matched by the rest of the version/)
  },
)

const imageTools = isolated()

test(
  'the example for a container image, saved and by its bill of materials',
  { skip: imageTools },
  async (t) => {
    const home = await temporaryFolder(t)
    for (const folder of ['lists', 'bin']) await mkdir(join(home, folder), { recursive: true })
    const entry = 'Package: hello\nVersion: 1.0-1\nArchitecture: amd64\n'
    const layers = [{ 'etc/os-release': 'ID=debian\n' }, { 'var/lib/dpkg/status.d/hello': entry }]
    const tars = await Promise.all(layers.map((layer) => aTar(layer)))
    await writeFile(join(home, 'saved.tar'), await ociArchive([{ layers: tars.map(coded.gzip) }]))
    await writeFile(join(home, 'hello.deb'), 'the published file')
    const sha256 = createHash('sha256').update('the published file').digest('hex')
    await writeFile(join(home, 'lists/mirror.example_Packages'), `${entry}SHA256: ${sha256}\n`)
    const purl = 'pkg:deb/debian/hello@1.0-1?arch=amd64'
    const reference = { referenceCategory: 'PACKAGE-MANAGER', referenceType: 'purl', referenceLocator: purl }
    const bill = { spdxVersion: 'SPDX-2.3', packages: [{ name: 'hello', externalRefs: [reference] }] }
    await writeFile(join(home, 'app.spdx.json'), JSON.stringify(bill))
    // An engine for containers is not at hand in a test, but what it saves is.
    const engine =
      '#!/bin/sh\n[ "$*" = "save --format oci-archive --output app.tar registry.example/app" ] && cp saved.tar app.tar\n'
    await writeFile(join(home, 'bin/podman'), engine, { mode: 0o755 })
    const one = { name: 'hello', version: '1.0-1', architecture: 'amd64', distro: 'debian' }
    const url = await aConfirming(t, one, join(home, 'hello.deb'))
    await mkdir(join(home, '.config'))
    await writeFile(join(home, '.config/rebuilderd.conf'), `[[rebuilder]]\nurl = "${url}"\n`)

    const binds = { '/var/lib/apt/lists': join(home, 'lists') }
    const { code, stdout, stderr } = await runIn(home, { binds, script: example('A container image') })

    assert.deepEqual([code, stderr], [0, ''])
    assert.match(stdout, allVerified)
    assert.match(stdout, /"standing":"verified"/)
    assert.match(await readFile(join(home, 'report.html'), 'utf8'), /100\.0 % of 1 packages? verified/)
  },
)

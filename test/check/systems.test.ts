import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import { existsSync } from 'node:fs'
import { mkdir, readFile, readdir, rename, rm, symlink, writeFile } from 'node:fs/promises'
import { dirname, join, relative } from 'node:path'
import { test } from 'node:test'
import { createZstdCompress, zstdCompressSync } from 'node:zlib'
import { pack } from 'tar-stream'
import {
  generateSigningKey,
  makeLink,
  parseEnvelope,
  serialiseEnvelope,
  signLink,
  verifyEnvelope,
  publicKeyFromPem,
} from '../../src/attestation.ts'
import { openAttestations } from '../../src/server/attestations.ts'
import { openBlobs } from '../../src/server/store/blobs.ts'
import { getAttestations, lookupPackages } from '../../src/wire/gates.ts'
import { getPublicKeys } from '../../src/wire/meta.ts'
import { listBinaryPackages } from '../../src/wire/packages.ts'
import { submitBuild } from '../../src/wire/builds.ts'
import { popQueue } from '../../src/wire/queue.ts'
import {
  aPackage,
  aResult,
  anArtifact,
  anArtifactResult,
  importPackages,
  startServer,
  temporaryFolder,
} from '../help/server.ts'
import { aServer } from '../help/files.ts'
import { runHere } from '../cmd/program.ts'
import { aDebian, aRebuilder, aRoot, hashesOf, listingOf, runCheck, standingsOf } from './help.ts'

test('many attestations are asked for at once, in the order asked, null where there is none', async (t) => {
  const { call } = await aRebuilder(t, { one: 'GOOD', two: 'claimed', three: 'GOOD' })
  const { records } = await call(listBinaryPackages, { query: { sort: 'name' } })
  const attestations = [...records, ...records].map((one) => ({
    build_id: one.build_id ?? 0,
    artifact_id: one.artifact_id ?? 0,
  }))
  const [wrong = { build_id: 1, artifact_id: 1 }] = attestations

  const reply = await call(getAttestations, {
    body: { attestations: [...attestations, { ...wrong, build_id: 4711 }] },
  })

  const names = reply.records.map(
    (record) => (record?.['signed'] as { name: string } | undefined)?.name ?? null,
  )
  const expected = ['rebuild one_1.0-1_amd64.deb', 'rebuild three_1.0-1_amd64.deb', null]
  assert.deepEqual(names, [...expected, ...expected, null])
  const [pem = ''] = (await call(getPublicKeys)).current
  const envelope = parseEnvelope(Buffer.from(JSON.stringify(reply.records[0])))
  assert.equal(verifyEnvelope(envelope, publicKeyFromPem(pem)), true)
  const tooMany = Array.from({ length: 1001 }, () => wrong)
  await assert.rejects(call(getAttestations, { body: { attestations: tooMany } }), /at most 1000/)
})

test('a look-up carries attestations of GOOD packages and the keys where that is asked for', async (t) => {
  const { call, data } = await aRebuilder(t, { one: 'GOOD', two: 'claimed', three: 'BAD', four: 'GOOD' })
  const packages = ['one', 'two', 'three', 'four', 'none'].map((name) => {
    return { distribution: 'debian', name, version: '1.0-1', architecture: 'amd64' }
  })
  const proven = packages.map((one) => (one.name === 'four' ? { ...one, proven: true } : one))

  const plain = await call(lookupPackages, { body: { packages } })
  const whole = await call(lookupPackages, {
    body: { packages: proven, with: ['attestations', 'keys', 'more'] },
  })
  await damageBlobs(join(data, 'blobs'))
  const damaged = await call(lookupPackages, { body: { packages, with: ['attestations'] } })

  const membersOf = ({ records }: typeof plain) =>
    records.map((record) => {
      const { attestation } = record ?? {}
      return attestation == null
        ? attestation
        : parseEnvelope(Buffer.from(JSON.stringify(attestation))).signed.name
    })
  assert.deepEqual(membersOf(plain), [undefined, undefined, undefined, undefined, undefined])
  assert.equal('public_keys' in plain, false)
  assert.deepEqual(membersOf(whole), ['rebuild one_1.0-1_amd64.deb', null, undefined, undefined, undefined])
  assert.deepEqual(whole.public_keys, await call(getPublicKeys))
  const readBefore = 'rebuild one_1.0-1_amd64.deb' // the file of a hash never changes
  assert.deepEqual(membersOf(damaged), [readBefore, null, undefined, null, undefined])
})

/** Writes nonsense into every kept file. */
async function damageBlobs(folder: string): Promise<void> {
  for (const entry of await readdir(folder, { recursive: true, withFileTypes: true })) {
    if (entry.isFile()) await writeFile(join(entry.parentPath, entry.name), 'nonsense')
  }
}

test('attestations of one reply are bounded in number and bytes; those beyond are left out', async (t) => {
  const blobs = openBlobs(await temporaryFolder(t))
  const texts = [1, 2, 3, 4].map((number) => JSON.stringify({ number, filling: 'x'.repeat(100) }))
  const keep = async (text: string): Promise<string> => (await blobs.keep(Buffer.from(text))).sha256
  const files = [...(await Promise.all(texts.map(keep))), null, await keep('no JSON'), await keep('[1]')]
  const size = texts[0]?.length ?? 0
  const numberIn = (text: string): unknown => (JSON.parse(text) as { number: unknown }).number
  const numbersOf = async (bounds: { most: number; longest: number }) =>
    (await openAttestations(blobs)(bounds)(files)).map((text) => (text == null ? text : numberIn(text)))

  assert.deepEqual(await numbersOf({ most: 9, longest: 9 * size }), [1, 2, 3, 4, null, null, null])
  assert.deepEqual((await numbersOf({ most: 2, longest: 9 * size })).slice(0, 4), [
    1,
    2,
    undefined,
    undefined,
  ])
  assert.deepEqual((await numbersOf({ most: 9, longest: 3 * size })).slice(0, 4), [1, 2, 3, undefined])
  assert.deepEqual(
    await numbersOf({ most: 0, longest: size }),
    files.map(() => undefined),
  )
  const read = openAttestations(blobs)({ most: 3, longest: 9 * size }) // they count over all that is asked of one reader
  assert.equal((await read(files.slice(0, 2))).filter((text) => typeof text === 'string').length, 2)
  assert.deepEqual(await read(files.slice(2, 4)), [texts[2], undefined])
})

test('attestations are read one by one where they cannot be unpacked together', async (t) => {
  const folder = await temporaryFolder(t)
  const blobs = openBlobs(folder)
  const streamed = createZstdCompress() // tells no size
  streamed.end('{"number":1}')
  const frames = [
    Buffer.concat((await streamed.toArray()) as Buffer[]),
    Buffer.concat([zstdCompressSync('{"number"'), zstdCompressSync(':2}')]),
    Buffer.from('{"number":3}'), // kept by somebody else as it was
    Buffer.concat([zstdCompressSync('{"number":4}').subarray(0, -1)]),
    zstdCompressSync('{"number":5}'),
  ]
  const files = frames.map((bytes) => createHash('sha256').update(bytes).digest('hex'))
  for (const [index, sha256] of files.entries()) {
    await mkdir(join(folder, sha256.slice(0, 2)), { recursive: true })
    await writeFile(join(folder, sha256.slice(0, 2), sha256), frames[index] ?? '')
  }

  const texts = await openAttestations(blobs)({ most: 9, longest: 1000 })(files)

  assert.deepEqual(texts, ['{"number":1}', '{"number":2}', '{"number":3}', null, '{"number":5}'])
})

/** The database of a repository, as repo-add makes it. */
async function aPacmanDatabase(name: string, version: string, sha256: string): Promise<Buffer> {
  const tar = pack()
  const desc = `%FILENAME%\n${name}-${version}-any.pkg.tar.zst\n\n%NAME%\n${name}\n\n%VERSION%\n${version}\n\n%ARCH%\nany\n\n%SHA256SUM%\n${sha256}\n`
  tar.entry({ name: `${name}-${version}/desc` }, desc)
  tar.finalize()
  const parts: Buffer[] = []
  for await (const part of tar) parts.push(part as Buffer)
  return Buffer.concat(parts)
}

test('a system with pacman is verified by the hashes of its sync databases', async (t) => {
  const home = await temporaryFolder(t)
  const hashes = hashesOf('the package')
  const root = await aRoot(t, {
    'usr/lib/os-release': 'ID=arch\n',
    'var/lib/pacman/local/filesystem-2:1-1/desc': '%NAME%\nfilesystem\n\n%VERSION%\n2:1-1\n\n%ARCH%\nany\n',
    'var/lib/pacman/sync/core.db': zstdCompressSync(
      await aPacmanDatabase('filesystem', '2:1-1', hashes.sha256),
    ),
  })
  const server = await startServer(t)
  const url = 'https://mirror.example/filesystem-2:1-1-any.pkg.tar.zst'
  const artifact = anArtifact({ name: 'filesystem', version: '2:1-1', architecture: 'any', url, ...hashes })
  const packages = [aPackage({ name: 'filesystem', version: '2:1-1', url, artifacts: [artifact] })]
  await importPackages(server.call, packages, {
    distribution: 'archlinux',
    release: null,
    architecture: 'x86_64',
  })
  const key = generateSigningKey()
  const { call } = await server.worker(Buffer.from(key.publicKey).toString('base64'), 'signer')
  const given = await call(popQueue, {
    body: { supported_backends: ['archlinux'], architecture: 'x86_64', supported_architectures: ['x86_64'] },
  })
  assert.notEqual(given, 'Nothing')
  if (given === 'Nothing') return
  const file = 'filesystem-2:1-1-any.pkg.tar.zst'
  const link = makeLink({ artifact: { file, ...hashes }, input: { file, ...hashes } })
  const attestation = serialiseEnvelope(signLink(link, key))
  const result = anArtifactResult({ name: 'filesystem', url, sha256: hashes.sha256, size: 11, attestation })
  await call(submitBuild, { body: aResult(given.Rebuild, { artifacts: [result] }) })

  const { document, stderr } = await runCheck(home, ['--root', root, '--rebuilder', server.address])

  assert.equal(stderr, '')
  assert.deepEqual(standingsOf(document), { filesystem: 'verified' })
  assert.equal(document.packages[0]?.distribution, 'archlinux')
})

test('an image without apt, a list and a bill of materials are verified with an index that is given', async (t) => {
  const home = await temporaryFolder(t)
  const image = await aRoot(t, {
    'etc/os-release': 'ID=debian\n',
    'var/lib/dpkg/status.d/hello': 'Package: hello\nVersion: 1.0-1\nArchitecture: amd64\n',
  })
  const { address } = await aRebuilder(t, { hello: 'GOOD' })
  await writeFile(join(home, 'Packages'), listingOf('hello'))
  const purl = 'pkg:deb/debian/hello@1.0-1?arch=amd64'
  const sbom = JSON.stringify({ bomFormat: 'CycloneDX', components: [{ purl }] })
  const to = ['--rebuilder', address]
  const index = ['--index', join(home, 'Packages')]

  const bare = await runCheck(home, ['--root', image, ...to])
  const indexed = await runCheck(home, ['--root', image, ...index, ...to])
  const billed = await runCheck(home, ['--root', image, '--sbom', '-', ...index, ...to], { input: sbom })
  const listed = await runCheck(home, ['--list', '-', '--distro', 'debian', ...index, ...to], {
    input: 'hello 1.0-1 amd64\n',
  })

  assert.deepEqual(standingsOf(bare.document), { hello: 'claimed' })
  for (const { document } of [indexed, billed, listed]) {
    assert.deepEqual(standingsOf(document), { hello: 'verified' })
  }
})

test('a damaged status file is told of, and the rest is checked', async (t) => {
  const home = await temporaryFolder(t)
  const root = await aDebian(t, ['hello'])
  const { address } = await aRebuilder(t, { hello: 'GOOD' })
  const status = 'Package: broken\n\0\n\nno field\n\n'
  const path = join(root, 'var/lib/dpkg/status')
  await writeFile(path, status + (await readFile(path, 'utf8')))

  const { document, stderr } = await runCheck(home, ['--root', root, '--rebuilder', address])

  assert.deepEqual(standingsOf(document), { hello: 'verified' })
  assert.equal(document.warnings.length, 2)
  assert.match(stderr, /var\/lib\/dpkg\/status: the package at line 1 cannot be read/)
})

test('links of an image are followed as the image would, never to this machine', async (t) => {
  const home = await temporaryFolder(t)
  const root = await aDebian(t, ['hello'], { 'usr/lib/os-release': 'ID=debian\n' })
  const { address } = await aRebuilder(t, { hello: 'GOOD' })
  const secret = join(home, 'secret')
  await writeFile(secret, 'Package: secret\nStatus: install ok installed\nVersion: 1\nArchitecture: all\n')
  await rm(join(root, 'etc/os-release'))
  await symlink('/usr/lib/os-release', join(root, 'etc/os-release'))
  await rename(join(root, 'var'), join(root, 'state'))
  await symlink('../../state', join(root, 'var')) // in the middle of every path
  const lists = join(root, 'state/lib/apt/lists')
  await rename(lists, join(root, 'lists'))
  await symlink('/lists', lists)
  spawnSync('mkfifo', [join(root, 'lists/a-pipe_Packages')])
  await symlink('/dev/zero', join(root, 'lists/endless_Packages'))
  const check = () => runCheck(home, ['--root', root, '--rebuilder', address])
  const status = join(root, 'state/lib/dpkg/status')

  const inside = await check()
  await rm(status)
  await symlink(relative(dirname(status), secret), status)
  const outside = await check()
  await rm(status)
  spawnSync('mkfifo', [status])
  const pipe = await check()

  assert.deepEqual(standingsOf(inside.document), { hello: 'verified' })
  assert.equal(outside.code, 2)
  assert.match(outside.stderr, /has no packages of dpkg or pacman/) // above its root there is nothing
  assert.equal(pipe.code, 1)
  assert.match(pipe.stderr, /var\/lib\/dpkg\/status is no file/)
})

test('this very machine is checked with the lists that apt has', async (t) => {
  if (!existsSync('/var/lib/dpkg/status')) return t.skip('this machine has no dpkg (Debian package dpkg)')
  const home = await temporaryFolder(t)
  const { address } = await aRebuilder(t, { hello: 'GOOD' })

  const { document, code } = await runCheck(home, ['--rebuilder', address])

  assert.equal(code, 0)
  assert.ok(document.summary.count > 50)
  assert.equal(document.summary['unknown']?.count, document.summary.count)
})

test('what cannot be checked is said with what to do', async (t) => {
  const home = await temporaryFolder(t)
  const empty = await aRoot(t, { 'etc/os-release': 'ID=fedora\n' })
  const anywhere = await aRoot(t, { 'var/lib/dpkg/status': '' })
  const said = async (...args: string[]): Promise<string> => {
    const { code, stderr } = await runHere(['ctl', 'check', ...args], { home })
    assert.equal(code, 2, stderr)
    return stderr
  }

  assert.match(await said('--root', empty), /no packages of dpkg or pacman\n {2}rpm -qa --qf/)
  assert.match(
    await said('--root', anywhere),
    /does not tell which distribution it is.*\n {2}name it: --distro/,
  )
  assert.match(await said('--list', '-', '--sbom', '-'), /--sbom and --list cannot be given together/)
  assert.match(await said('--list', '-', '--distro', 'debian'), /there is no package to check/)
  assert.match(await said('--root', '/', '--rebuilder', 'ftp://x', '--distro', 'debian'), /is not an address/)
  assert.match(await said('--json', '--csv'), /--json and --csv cannot be given together/)
})

test('files and addresses that are wrong are told of in words, before any work', async (t) => {
  const home = await temporaryFolder(t)
  const nowhere = join(home, 'nowhere')
  const to = ['--distro', 'debian', '--rebuilder', 'http://127.0.0.1:1']
  const input = 'hello 1.0-1 amd64\n'
  for (const [args, expected] of [
    [['--list', nowhere], `--list ${nowhere}: there is no such file`],
    [['--list', home], `--list ${home}: it is a folder, not a file`],
    [['--sbom', nowhere], `--sbom ${nowhere}: there is no such file`],
    [['--list', '-', '--config', nowhere], `cannot read ${nowhere}: there is no such file or folder\n`],
    [['--list', '-', '--config', home], `cannot read ${home}: it is a folder, not a file\n`],
    [['--image', nowhere], `${nowhere}: there is no such file`],
    [['--image', home], `reading the image ${home}: it is a folder`],
    [['--file', nowhere], `--file ${nowhere}: there is no such file`],
    [['--root', nowhere], `--root ${nowhere}: there is no such file`],
    [['--list', '-', '--watch-list', nowhere], `--watch-list ${nowhere}: there is no such file`],
    [['--list', '-', '--index', nowhere], `--index ${nowhere}: there is no such file`],
    [['--list', '-', '--html', join(nowhere, 'x.html')], `there is no folder ${nowhere}`],
    [['--list', '-', '--html', home], `--html ${home}: it is a folder; name a file in it`],
    [['--list', '-', '--distro', ''], '--distro takes the name of a distribution'],
    [['--list', '-', '--rebuilder', 'http://a b'], 'http://a b is not an address of a rebuilder'],
    [['--list', '-', '--rebuilder', 'http://me:secret@a'], 'http://…@a is not an address of a rebuilder'],
    [['--list', '-', '--rebuilder', 'http://a/?x=1'], 'http://a/?x=1 is not an address of a rebuilder'],
  ] as const) {
    const { code, stderr } = await runHere(['ctl', 'check', ...to, ...args], { home, input })

    assert.equal(code, 2, stderr)
    assert.ok(stderr.includes(expected), stderr)
    assert.doesNotMatch(stderr, /ENO|EIS|secret/)
  }
})

test('one address in other letters is the same rebuilder', async (t) => {
  const home = await temporaryFolder(t)
  const root = await aDebian(t, ['hello'])
  const { address } = await aRebuilder(t, { hello: 'GOOD' })
  const other = `${address.replace('http:', 'HTTP:')}//`

  const args = ['--root', root, '--rebuilder', address, '--rebuilder', other]
  const { document } = await runCheck(home, args)

  assert.deepEqual(
    document.rebuilders.map(({ url }) => url),
    [address],
  )
})

test('names from outside are text in the page, and no formulas in the table', async (t) => {
  const home = await temporaryFolder(t)
  const { address } = await aRebuilder(t, { hello: 'GOOD' })
  const input = '<img/src=x/onerror=alert(1)> 1 amd64\n=HYPERLINK("x") 1,2 amd64\n'
  const args = ['ctl', 'check', '--list', '-', '--distro', 'debian', '--rebuilder', address]

  const { stdout } = await runHere([...args, '--csv', '--html', join(home, 'page.html')], { home, input })

  const page = await readFile(join(home, 'page.html'), 'utf8')
  assert.equal(page.includes('<img'), false)
  assert.equal(page.includes('&lt;img/src=x/onerror=alert(1)&gt;'), true)
  assert.match(stdout, /,"'=HYPERLINK\(""x""\)","1,2",amd64,/)
})

test('what lacks its epoch is found by the rest of its version, if only one fits', async (t) => {
  const home = await temporaryFolder(t)
  const { call, address } = await startServer(t)
  const versions = ['2:1.0-3', '1:2.0-1', '2:2.0-1', '3.0-1']
  const packages = versions.map((version) => {
    const artifact = anArtifact({ name: 'hello', version, url: `https://mirror.example/${version}.rpm` })
    return aPackage({ name: 'hello', version, artifacts: [artifact] })
  })
  await importPackages(call, packages)
  const wanted = ['1.0-3', '2.0-1', '3.0-1', '2:1.0-3'].map((version) => {
    return { distribution: 'debian', name: 'hello', version, architecture: 'amd64' }
  })
  const rows = versions.map((version) => {
    return { name: 'hello', version, status: 'BAD', distro: 'debian', architecture: 'amd64', build_id: 1 }
  })
  const other = await aServer(t, (request, response) => {
    request.resume()
    if (request.url?.startsWith('/api/v0/pkgs/list') === true) response.end(JSON.stringify(rows))
    else response.writeHead(404).end()
  })

  const exact = await call(lookupPackages, { body: { packages: wanted } })
  const loose = await call(lookupPackages, {
    body: { packages: wanted.map((one) => ({ ...one, any_epoch: true })) },
  })
  const args = ['--list', '-', '--distro', 'debian']
  const input = 'hello-1.0-3.amd64\nhello-2.0-1.amd64\nhello-3.0-1.amd64\n'
  const ours = await runCheck(home, [...args, '--rebuilder', address], { input })
  const listed = await runCheck(home, [...args, '--rebuilder', other], { input })

  const areKnown = ({ records }: typeof exact) => records.map((record) => record !== null)
  assert.deepEqual(areKnown(exact), [false, false, true, true])
  assert.deepEqual(areKnown(loose), [true, false, true, false])
  assert.deepEqual(
    ours.document.packages.map(({ voices }) => voices.length),
    [1, 0, 1],
  )
  assert.deepEqual(
    listed.document.packages.map(({ standing }) => standing),
    ['BAD', 'unknown', 'BAD'],
  )
  assert.match(listed.stderr, /3 packages without epoch, matched by the rest of the version/)
})

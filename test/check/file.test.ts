import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { existsSync, readFileSync } from 'node:fs'
import { mkdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { gzipSync, zstdCompressSync } from 'node:zlib'
import { pack } from 'tar-stream'
import {
  generateSigningKey,
  makeLink,
  publicKeyToPem,
  serialiseEnvelope,
  signLink,
} from '../../src/attestation.ts'
import { packageOfFile } from '../../src/cmd/check/package-file.ts'
import { temporaryFolder } from '../help/server.ts'
import { patienceMilliseconds } from '../help/until.ts'
import { aWitness, hashesOf, runCheck, standingsOf } from './help.ts'

async function aTar(files: Readonly<Record<string, string>>): Promise<Buffer> {
  const tar = pack()
  for (const [name, content] of Object.entries(files)) tar.entry({ name }, content)
  tar.finalize()
  const parts: Buffer[] = []
  for await (const part of tar) parts.push(part as Buffer)
  return Buffer.concat(parts)
}

/** An ar archive, as .deb files are. */
function anAr(members: Readonly<Record<string, Uint8Array>>): Buffer {
  const parts = Object.entries(members).flatMap(([name, content]) => {
    const head = `${name.padEnd(16)}${'0'.padEnd(12)}${'0'.padEnd(6)}${'0'.padEnd(6)}${'100644'.padEnd(8)}`
    const odd = content.length % 2 === 1 ? [Buffer.from('\n')] : []
    return [Buffer.from(`${head}${String(content.length).padEnd(10)}\`\n`), content, ...odd]
  })
  return Buffer.concat([Buffer.from('!<arch>\n'), ...parts])
}

const control = 'Package: hello\nVersion: 1:2.10-3\nArchitecture: amd64\nDescription: greets\n'

async function aDeb(name = 'control.tar.gz', compress = gzipSync): Promise<Buffer> {
  const tar = await aTar({ './md5sums': 'x'.repeat(2000), './control': control })
  return anAr({
    'debian-binary': Buffer.from('2.0\n'),
    [name]: compress(tar),
    'data.tar': Buffer.alloc(999, 7),
  })
}

/** A header of an rpm: texts and numbers by tag. */
function anRpmHeader(values: Readonly<Record<number, string | number>>): Buffer {
  const index: Buffer[] = []
  let store = Buffer.alloc(0)
  for (const [tag, value] of Object.entries(values)) {
    const isText = typeof value === 'string'
    const bytes = isText ? Buffer.from(`${value}\0`) : Buffer.alloc(4)
    if (!isText) bytes.writeUInt32BE(value)
    const entry = Buffer.alloc(16)
    for (const [at, word] of [Number(tag), isText ? 6 : 4, store.length, 1].entries())
      entry.writeUInt32BE(word, at * 4)
    index.push(entry)
    store = Buffer.concat([store, bytes])
  }
  const head = Buffer.alloc(16)
  head.writeUInt32BE(0x8eade801, 0)
  head.writeUInt32BE(index.length, 8)
  head.writeUInt32BE(store.length, 12)
  return Buffer.concat([head, ...index, store])
}

function anRpm(values: Readonly<Record<number, string | number>>): Buffer {
  const lead = Buffer.alloc(96)
  lead.writeUInt32BE(0xedabeedb, 0)
  const signature = anRpmHeader({ 1000: 5 })
  const padding = Buffer.alloc((8 - (signature.length % 8)) % 8)
  return Buffer.concat([lead, signature, padding, anRpmHeader(values), Buffer.from('payload')])
}

const rpmValues = {
  1000: 'bash',
  1001: '5.2',
  1002: '1.fc42',
  1022: 'x86_64',
  1044: 'bash-5.2-1.fc42.src.rpm',
}
const info = 'pkgname = hello\npkgbase = hello\npkgver = 2:1.0-1\narch = x86_64\n'

const kinds: Readonly<Record<string, { file: () => Promise<Buffer> | Buffer; is: string }>> = {
  'a .deb': { file: () => aDeb(), is: 'debian hello 1:2.10-3 amd64' },
  'a .deb in zstd': {
    file: () => aDeb('control.tar.zst', zstdCompressSync as typeof gzipSync),
    is: 'debian hello 1:2.10-3 amd64',
  },
  'a .pkg.tar.zst': {
    file: async () => zstdCompressSync(await aTar({ '.MTREE': 'x'.repeat(70_000), '.PKGINFO': info })),
    is: 'archlinux hello 2:1.0-1 x86_64',
  },
  'an .rpm': { file: () => anRpm(rpmValues), is: 'fedora bash 5.2-1.fc42 x86_64' },
  'an .rpm with an epoch': {
    file: () => anRpm({ ...rpmValues, 1003: 2 }),
    is: 'fedora bash 2:5.2-1.fc42 x86_64',
  },
}

for (const [what, { file, is }] of Object.entries(kinds)) {
  test(`${what} tells what it is, whatever it is called`, async (t) => {
    const path = join(await temporaryFolder(t), 'download')
    const bytes = await file()
    await writeFile(path, bytes)

    const { distribution, name, version, architecture, sha256 } = await packageOfFile(
      path,
      null,
      AbortSignal.timeout(patienceMilliseconds),
    )

    assert.equal(`${distribution} ${name} ${version} ${architecture}`, is)
    assert.equal(sha256?.length, 64)
  })

  test(`${what} that is cut short is refused in words`, async (t) => {
    const path = join(await temporaryFolder(t), 'download')
    await writeFile(path, (await file()).subarray(0, 120))

    await assert.rejects(packageOfFile(path, null, AbortSignal.timeout(patienceMilliseconds)), /reading /)
  })
}

test('what is no package is refused in words', async (t) => {
  const folder = await temporaryFolder(t)
  for (const content of [
    '',
    'hello',
    'x'.repeat(5000),
    '!<arch>\nnothing that an archive has in it, at all, at all, at all, no',
  ]) {
    await writeFile(join(folder, 'download'), content)
    await assert.rejects(
      packageOfFile(join(folder, 'download'), null, AbortSignal.timeout(patienceMilliseconds)),
      /reading /,
    )
  }
  await assert.rejects(packageOfFile(folder, null, AbortSignal.timeout(patienceMilliseconds)), /reading /)
})

test('a .deb that dpkg-deb made is read as dpkg-deb reads it', async (t) => {
  const folder = await temporaryFolder(t)
  await mkdir(join(folder, 'tree/DEBIAN'), { recursive: true })
  await writeFile(join(folder, 'tree/DEBIAN/control'), `${control}Maintainer: Jane <jane@example.org>\n`)
  const path = join(folder, 'made.deb')
  const made = spawnSync('dpkg-deb', ['--build', join(folder, 'tree'), path])
  if (made.status !== 0) return t.skip('dpkg-deb (Debian package dpkg) is missing')

  const { name, version, architecture } = await packageOfFile(
    path,
    null,
    AbortSignal.timeout(patienceMilliseconds),
  )

  assert.deepEqual([name, version, architecture], ['hello', '1:2.10-3', 'amd64'])
})

test('a downloaded file is verified before it is installed; one changed bit and it is not', async (t) => {
  const home = await temporaryFolder(t)
  const bytes = await aDeb()
  const key = generateSigningKey()
  const artifact = { file: 'hello_2.10-3_amd64.deb', ...hashesOf(bytes) }
  const link = makeLink({ artifact, input: { file: 'hello.buildinfo', ...hashesOf('input') } })
  const one = { name: 'hello', version: '1:2.10-3', architecture: 'amd64', distro: 'debian' }
  const attestation = serialiseEnvelope(signLink(link, key))
  const url = await aWitness(t, one, attestation, publicKeyToPem(key.publicKey))
  await writeFile(join(home, 'good.deb'), bytes)
  const changed = Buffer.from(bytes)
  changed[changed.length - 1] = 8
  await writeFile(join(home, 'changed.deb'), changed)

  const good = await runCheck(home, ['--file', join(home, 'good.deb'), '--rebuilder', url])
  const bad = await runCheck(home, ['--file', join(home, 'changed.deb'), '--rebuilder', url])

  assert.deepEqual([standingsOf(good.document), good.code], [{ hello: 'verified' }, 0])
  assert.deepEqual([standingsOf(bad.document), bad.code], [{ hello: 'claimed' }, 3])
  assert.equal(
    bad.document.packages[0]?.reason,
    'the attestation is about another file than the published one',
  )
})

const fixtures = fileURLToPath(new URL('../../../shared/fixtures/attest/', import.meta.url))
const withFixtures = {
  skip: existsSync(fixtures) ? false : 'the fixtures folder shared/fixtures/attest is not here',
}

test('a package of Arch verifies with the attestation that was published for it', withFixtures, async (t) => {
  const home = await temporaryFolder(t)
  const file = join(fixtures, 'filesystem-2025.10.12-1-any.pkg.tar.zst')
  const pem = readFileSync(join(fixtures, 'reproducible-archlinux.pub'), 'utf8')
  const one = { name: 'filesystem', version: '2025.10.12-1', architecture: 'any', distro: 'archlinux' }
  const attestationOf = (name: string): Buffer =>
    readFileSync(join(fixtures, `filesystem-2025.10.12-1-any.${name}`))
  const honest = await aWitness(t, one, attestationOf('in-toto.link'), pem)
  const forged = await aWitness(t, one, attestationOf('INVALID.in-toto.link'), pem)

  const good = await runCheck(home, ['--fresh', '--file', file, '--rebuilder', honest])
  const bad = await runCheck(home, ['--fresh', '--file', file, '--rebuilder', forged])

  assert.deepEqual([standingsOf(good.document), good.code], [{ filesystem: 'verified' }, 0])
  assert.deepEqual([standingsOf(bad.document), bad.code], [{ filesystem: 'claimed' }, 4])
})

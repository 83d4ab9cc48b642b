import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { readFile, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, test, type TestContext } from 'node:test'
import { revokeKey } from 'openpgp'
import { complaintOf } from '../../src/errors.ts'
import {
  aBinary,
  aFolder,
  aKey,
  aSource,
  clearsigned,
  detachedSignature,
  put,
  serveFolder,
  through,
  writeDebianArchive,
  type DebianArchive,
  type TestKey,
} from '../help/archives.ts'
import { mutated, numbers } from '../help/mutations.ts'
import { contentOf, sync } from '../help/sync.ts'

const now = (): Date => new Date('2026-11-22T12:00:00Z')
const yesterday = new Date('2026-11-21T12:00:00Z')
const lastYear = new Date('2025-11-21T12:00:00Z')
const content = { binaries: { 'main/amd64': [aBinary()] }, sources: { main: [aSource()] } }

/** A signed archive, and a profile that trusts its key. */
async function aSignedArchive(
  t: TestContext,
  { signer, trusted, ...more }: Partial<DebianArchive> & { signer?: TestKey; trusted?: TestKey } = {},
) {
  const key = signer ?? (await aKey())
  const folder = await aFolder(t)
  await writeDebianArchive(folder, { ...content, key, ...more })
  const keyring = join(await aFolder(t), 'keyring.gpg')
  await put(keyring, (trusted ?? key).publicKey.write())
  const profile = {
    distro: 'debian',
    source: folder,
    components: ['main'],
    releases: ['test'],
    architectures: ['amd64'],
    keyrings: [keyring],
  }
  return { folder, key, keyring, profile, inRelease: join(folder, 'dists/test/InRelease') }
}

/** Refused in these words; and taken on trust, but marked, where the profile allows that. */
async function assertUnproven(profile: Record<string, unknown>, message: RegExp): Promise<void> {
  const refused = await sync(profile, { now })
  assert.deepEqual(refused.reports, [])
  assert.match(refused.error?.message ?? '', message)

  const trusted = await sync({ ...profile, allow_unsigned: true }, { now })
  assert.equal(trusted.error, null)
  assert.equal(trusted.reports[0]?.index, 'unsigned')
  assert.match(trusted.log.join('\n'), /taken on trust/)
}

describe('an index is proven', () => {
  test('by an InRelease with a good signature', async (t) => {
    const { profile } = await aSignedArchive(t)

    const { reports, error } = await sync(profile, { now })

    assert.equal(error, null)
    assert.equal(reports[0]?.index, 'signed')
    assert.deepEqual(contentOf(reports[0]), ['hello 1.0-1: hello'])
  })

  for (const coding of ['gz', 'zst', 'plain'] as const) {
    test(`when it is stored as ${coding}, also by hash`, async (t) => {
      for (const byHash of [true, false]) {
        const { profile } = await aSignedArchive(t, { coding, byHash })

        const { reports, error } = await sync(profile, { now })

        assert.equal(error, null)
        assert.equal(reports[0]?.packages.length, 1)
      }
    })
  }

  test('by a Release with its signature beside it', async (t) => {
    const { profile, folder, key, inRelease } = await aSignedArchive(t)
    const release = (await readFile(inRelease, 'utf8'))
      .replace(/^[^]*?\n\n/, '')
      .replace(/-----BEGIN PGP SIGNATURE[^]*/, '')
    await rm(inRelease)
    await put(join(folder, 'dists/test/Release'), release)
    await put(join(folder, 'dists/test/Release.gpg'), await detachedSignature(release, key))

    assert.equal((await sync(profile, { now })).reports[0]?.index, 'signed')

    await put(join(folder, 'dists/test/Release'), release.replace('Suite: test', 'Suite: tesT'))
    await assertUnproven(profile, /does not fit the content: it was altered/)

    await rm(join(folder, 'dists/test/Release.gpg'))
    await assertUnproven(profile, /Release\.gpg is not there/)
  })

  test('by one of several keys of an armoured keyring', async (t) => {
    const { profile, keyring, key } = await aSignedArchive(t)
    const other = await aKey()
    await put(keyring, `${other.publicKey.armor()}\n`)
    const second = join(await aFolder(t), 'second.asc')
    await put(second, key.publicKey.armor())

    const { reports } = await sync({ ...profile, keyrings: [keyring, second] }, { now })

    assert.equal(reports[0]?.index, 'signed')
  })

  test('by GnuPG, with a key of GnuPG', async (t) => {
    if (through('gpg', ['--version'], Buffer.alloc(0)) === null) return t.skip('needs the program gpg')
    const { profile, inRelease, keyring } = await aSignedArchive(t)
    const home = await aFolder(t)
    const gpg = (...args: string[]): Buffer =>
      execFileSync('gpg', ['--homedir', home, '--batch', '--quiet', '--passphrase', '', ...args], {
        stdio: ['ignore', 'pipe', 'pipe'],
      })
    t.after(() => execFileSync('gpgconf', ['--homedir', home, '--kill', 'all']))
    gpg('--quick-gen-key', 'archive@example.org', 'rsa2048', 'sign')
    const text = (await readFile(inRelease, 'utf8'))
      .replace(/^[^]*?\n\n/, '')
      .replace(/-----BEGIN PGP SIGNATURE[^]*/, '')
    await put(join(home, 'Release'), text)
    await put(inRelease, gpg('--output', '-', '--clearsign', join(home, 'Release')))
    await put(keyring, gpg('--export'))

    const { reports, error } = await sync(profile)

    assert.equal(error, null)
    assert.equal(reports[0]?.index, 'signed')
  })
})

describe('an index is not proven', () => {
  test('by a key that we do not have', async (t) => {
    const { profile } = await aSignedArchive(t, { trusted: await aKey() })

    await assertUnproven(profile, /key [0-9A-F]{16} is in none of the keyrings/)
  })

  test('by a key that expired', async (t) => {
    const signer = await aKey({ date: lastYear, lifetimeSeconds: 3 * 86_400 })
    const { profile, inRelease } = await aSignedArchive(t)
    const text = (await readFile(inRelease, 'utf8'))
      .replace(/^[^]*?\n\n/, '')
      .replace(/\n-----BEGIN PGP SIGNATURE[^]*/, '')
    await put(inRelease, await clearsigned(text, signer, new Date(lastYear.getTime() + 86_400_000)))
    await put(profile.keyrings[0] ?? '', signer.publicKey.write())

    await assertUnproven(profile, /expired on 2025-11-24/)
  })

  test('by a key that was revoked', async (t) => {
    const { profile, key } = await aSignedArchive(t)
    const { publicKey } = await revokeKey({
      key: key.publicKey,
      revocationCertificate: key.revocationCertificate,
      format: 'object',
      date: yesterday,
    })
    await put(profile.keyrings[0] ?? '', publicKey.write())

    await assertUnproven(profile, /was revoked/)
  })

  test('when one byte of the InRelease was altered', async (t) => {
    const { profile, inRelease } = await aSignedArchive(t)
    await put(inRelease, (await readFile(inRelease, 'utf8')).replace('Suite: test', 'Suite: tesT'))

    await assertUnproven(profile, /does not fit the content: it was altered/)
  })

  test('by what stands before or after the signed text', async (t) => {
    const { profile, inRelease } = await aSignedArchive(t)
    await put(
      inRelease,
      `Suite: other\nCodename: other\n\n${await readFile(inRelease, 'utf8')}\nSuite: more\n`,
    )

    const { reports, error } = await sync(profile, { now })

    if (error === null) assert.deepEqual(contentOf(reports[0]), ['hello 1.0-1: hello'])
    else assert.deepEqual(reports, [])
  })

  test('without a signature', async (t) => {
    const { profile, inRelease } = await aSignedArchive(t)
    const text = (await readFile(inRelease, 'utf8'))
      .replace(/^[^]*?\n\n/, '')
      .replace(/\n-----BEGIN PGP SIGNATURE[^]*/, '')
    await rm(inRelease)
    await put(inRelease.replace('InRelease', 'Release'), text)

    await assertUnproven(profile, /it has no signature/)
  })

  test('without a Release file', async (t) => {
    const { profile, inRelease } = await aSignedArchive(t)
    await rm(inRelease)

    const { reports, error } = await sync(profile, { now })
    const trusted = await sync({ ...profile, allow_unsigned: true }, { now })

    assert.deepEqual(reports, [])
    assert.match(
      error?.message ?? '',
      /dists\/test is not proven: the archive has neither InRelease nor Release/,
    )
    assert.equal(trusted.reports[0]?.index, 'unsigned')
  })

  test('by a keyring that cannot be read', async (t) => {
    const { profile } = await aSignedArchive(t)

    const missing = await sync({ ...profile, keyrings: ['/nowhere/keyring.gpg'] }, { now })
    await put(profile.keyrings[0] ?? '', 'no keyring')
    const broken = await sync(profile, { now })

    assert.match(missing.error?.message ?? '', /cannot read the keyring \/nowhere\/keyring\.gpg/)
    assert.match(broken.error?.message ?? '', /is no keyring/)
  })
})

describe('a proven Release is refused', () => {
  test('when it is older than the last one we saw', async (t) => {
    const { profile, folder, key } = await aSignedArchive(t, {
      fields: { Date: 'Sun, 22 Nov 2026 08:00:00 UTC' },
    })
    const cache = await aFolder(t)
    const first = await sync(profile, { now, cache })
    await writeDebianArchive(folder, { ...content, key, fields: { Date: 'Sat, 21 Nov 2026 08:00:00 UTC' } })

    const replayed = await sync(profile, { now, cache })

    assert.equal(first.error, null)
    assert.deepEqual(replayed.reports, [])
    assert.match(replayed.error?.message ?? '', /is older than the one of Sun, 22 Nov 2026/)
  })

  test('when its time is over, unless the profile allows that', async (t) => {
    const { profile } = await aSignedArchive(t, {
      fields: { 'Valid-Until': 'Sun, 22 Nov 2026 11:00:00 UTC' },
    })

    const refused = await sync(profile, { now })
    const allowed = await sync({ ...profile, allow_expired: true }, { now })

    assert.deepEqual(refused.reports, [])
    assert.match(refused.error?.message ?? '', /valid until Sun, 22 Nov 2026 11:00:00 UTC only/)
    assert.equal(allowed.reports[0]?.index, 'signed')
  })

  test('when it is of another release', async (t) => {
    const { profile } = await aSignedArchive(t, { fields: { Suite: 'oldstable', Codename: 'bookworm' } })

    const { reports, error } = await sync(profile, { now })

    assert.deepEqual(reports, [])
    assert.match(error?.message ?? '', /says that it is bookworm or oldstable/)
  })

  test('when it has no hashes', async (t) => {
    const { profile, inRelease, key } = await aSignedArchive(t)
    await put(inRelease, await clearsigned('Suite: test\nDate: Sat, 21 Nov 2026 10:00:00 UTC\n', key))

    const { error } = await sync(profile, { now })

    assert.match(error?.message ?? '', /lists no SHA256/)
  })
})

describe('an index is refused', () => {
  for (const path of ['main/binary-amd64/Packages.gz', 'main/source/Sources.gz']) {
    test(`when ${path} is not what the Release tells`, async (t) => {
      const { profile, folder } = await aSignedArchive(t)
      const file = join(folder, 'dists/test', path)
      const bytes = await readFile(file)
      bytes[bytes.length - 9] = (bytes[bytes.length - 9] ?? 0) ^ 1
      await put(file, bytes)

      const { reports, error } = await sync({ ...profile, allow_unsigned: true }, { now })

      assert.deepEqual(reports, [])
      assert.match(error?.message ?? '', /is not what the index tells: SHA-256/)
    })
  }
})

test('nothing but the Release is fetched again where nothing has changed', async (t) => {
  const { profile, folder } = await aSignedArchive(t)
  const server = await serveFolder(t, folder)
  const cache = await aFolder(t)

  const first = await sync({ ...profile, source: server.url }, { now, cache })
  server.requests.length = 0
  const second = await sync({ ...profile, source: server.url }, { now, cache })

  assert.equal(first.error, null)
  assert.deepEqual(second.reports, first.reports)
  assert.deepEqual(server.requests, ['/dists/test/InRelease'])
})

test('an unproven index comes with a hint', async (t) => {
  const { profile, inRelease } = await aSignedArchive(t)
  await rm(inRelease)

  const { error } = await sync(profile, { now })

  assert.match(complaintOf(error)?.hint ?? '', /allow_unsigned = true/)
  assert.equal(complaintOf(error)?.exitCode, 1)
})

test('a mutated InRelease is refused, or proves just what it did', async (t) => {
  const { profile, inRelease } = await aSignedArchive(t)
  const whole = await readFile(inRelease)
  const { reports } = await sync(profile, { now })
  const next = numbers(20_261_122)
  let refused = 0

  for (let i = 0; i < 150; i++) {
    await put(inRelease, mutated(whole, next))
    const outcome = await sync(profile, { now })

    if (outcome.error === null) assert.deepEqual(outcome.reports, reports)
    else assert.ok(complaintOf(outcome.error) !== undefined, String(outcome.error.stack))
    refused += Number(outcome.error !== null)
  }

  assert.ok(refused > 100, `${refused} refused`)
})

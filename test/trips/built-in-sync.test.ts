import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { test, type TestContext } from 'node:test'
import { openClient, type Client } from '../../src/client.ts'
import { secondsOf, syncsOf } from '../../src/cmd/syncs.ts'
import { listBinaryPackages } from '../../src/wire/packages.ts'
import { listSyncs, type SyncState } from '../../src/wire/sync.ts'
import {
  aBinary,
  aFolder,
  aKey,
  aPacmanPackage,
  aSource,
  pacmanDb,
  put,
  writeDebianArchive,
} from '../help/archives.ts'
import { patienceMilliseconds, until } from '../help/until.ts'
import { runProgram } from '../cmd/program.ts'
import { firstArgs, program } from '../cmd/program.ts'

for (const [given, seconds] of [
  ['15m', 900],
  ['60s', 60],
  ['6h', 21_600],
  ['1d', 86_400],
] as const) {
  test(`every = "${given}" means ${seconds} seconds`, () => {
    assert.equal(secondsOf(given, 'sync'), seconds)
  })
}

for (const given of ['', '15', '5s', 'often', '-1m', 15]) {
  test(`every = ${JSON.stringify(given)} is refused`, () => {
    assert.throws(() => secondsOf(given, 'sync number 1'), /sync number 1.*no interval/)
  })
}

test('a sync is called after its distribution and release, and two may not be called the same', () => {
  const profile = {
    distro: 'debian',
    source: '/srv',
    releases: ['trixie'],
    components: ['main'],
    architectures: ['amd64'],
  }

  const [sync] = syncsOf([profile])

  assert.equal(sync?.name, 'debian-trixie')
  assert.throws(() => syncsOf([profile, profile]), /another sync called debian-trixie/)
})

test('a server keeps up with the archives of its configuration, and tells how that went', async (t) => {
  const folder = await aFolder(t)
  const archive = join(folder, 'archive')
  await writeDebianArchive(archive, {
    binaries: { 'main/amd64': [aBinary({ Package: 'hello' })] },
    sources: { main: [aSource({ Package: 'hello' })] },
  })
  const config = join(folder, 'rebuilderd.conf')
  await writeFile(config, configOf(archive, join(folder, 'no-such-archive')))

  const client = await serveProcess(t, join(folder, 'data'), config)
  const syncs = await untilAllEnded(client, 2)

  const packages = await client.call(listBinaryPackages)
  assert.deepEqual(
    packages.records.map((record) => record.name),
    ['hello'],
  )
  const [broken, good] = syncs.sort((a, b) => a.name.localeCompare(b.name))
  assert.match(broken?.error ?? '', /no-such-archive/)
  assert.equal(good?.error, null)
  assert.deepEqual([good?.reports, good?.queued], [1, 1])
  assert.deepEqual([good?.checked_at, good?.changed_at], [good?.ended_at, good?.ended_at])
  assert.deepEqual([broken?.checked_at, broken?.changed_at], [null, null])
})

test('Debian and Arch in two lines of configuration are kept up with, and marked where taken on trust', async (t) => {
  const folder = await aFolder(t)
  const [debian, arch] = [join(folder, 'debian'), join(folder, 'arch')]
  const key = await aKey()
  const keyring = join(folder, 'keyring.gpg')
  await put(keyring, key.publicKey.write())
  const content = { binaries: { 'main/amd64': [aBinary()] }, sources: { main: [aSource()] } }
  await writeDebianArchive(debian, { ...content, release: 'trixie', key })
  await put(
    join(arch, 'core/os/x86_64/core.db'),
    await pacmanDb({ 'bash-1': aPacmanPackage({ NAME: 'bash' }) }),
  )
  const config = join(folder, 'rebuilderd.conf')
  const lines = [
    'sync = [',
    `  { distro = "debian", source = "${debian}", keyrings = ["${keyring}"], releases = ["trixie"], components = ["main"], architectures = ["amd64"] },`,
    `  { distro = "archlinux", source = "${arch}/$repo/os/$arch", components = ["core"], architectures = ["x86_64"], allow_unsigned = true },`,
    ']',
  ]
  await writeFile(config, lines.join('\n'))

  const client = await serveProcess(t, join(folder, 'data'), config)
  const syncs = await untilAllEnded(client, 2)
  const { records } = await client.call(listBinaryPackages)
  const ctl = (...words: string[]) =>
    runProgram(['ctl', ...words, '-H', client.base], { home: folder, environment: { TZ: 'UTC' } })
  const [status, why, signed] = [
    await ctl('sync', 'status'),
    await ctl('why', 'bash'),
    await ctl('why', 'hello'),
  ]
  const page = async (path: string): Promise<string> => (await fetch(client.base + path)).text()

  const told = syncs.map(({ name, every, error }) => [name, every, error])
  assert.deepEqual(told.sort(), [
    ['archlinux', 900, null],
    ['debian-trixie', 900, null],
  ])
  assert.deepEqual(records.map(({ name, index }) => [name, index]).sort(), [
    ['bash', 'unsigned'],
    ['hello', 'signed'],
  ])
  assert.match(status.stdout, /^archlinux: last checked 20\S+ \S+, last changed 20\S+ \S+; next at 20/m)
  assert.match(why.stdout, /index: unsigned \(taken on trust/)
  assert.doesNotMatch(signed.stdout, /unsigned/)
  assert.match(await page('/archlinux/-/bash'), /index: unsigned/)
  assert.doesNotMatch(await page('/debian/trixie/hello'), /index: unsigned/)
})

test('a server that was started again still refuses an older Release than it has taken', async (t) => {
  const folder = await aFolder(t)
  const [archive, keyring, data] = [
    join(folder, 'archive'),
    join(folder, 'keyring.gpg'),
    join(folder, 'data'),
  ]
  const key = await aKey()
  await put(keyring, key.publicKey.write())
  const content = { binaries: { 'main/amd64': [aBinary()] }, sources: { main: [aSource()] }, key }
  const write = (day: string): Promise<unknown> =>
    writeDebianArchive(archive, { ...content, fields: { Date: `${day} Nov 2026 12:00:00 UTC` } })
  const config = join(folder, 'rebuilderd.conf')
  const lists = 'releases = ["test"], components = ["main"], architectures = ["amd64"]'
  await writeFile(
    config,
    `sync = [{ distro = "debian", source = "${archive}", keyrings = ["${keyring}"], ${lists} }]`,
  )

  await write('Sun, 22')
  const { client: first, stop } = await startedServe(data, config)
  const [taken] = await untilAllEnded(first, 1)
  await stop()
  await write('Sat, 21')
  const again = await serveProcess(t, data, config)
  const refusal = await until(async () => (await again.call(listSyncs))[0]?.error, 'a refusal')

  assert.equal(taken?.error, null)
  assert.match(refusal, /Release of Sat, 21 Nov 2026 \S+ UTC is older than the one of Sun, 22 Nov/)
  assert.equal((await again.call(listBinaryPackages)).total, 1)
})

function configOf(...archives: readonly string[]): string {
  const tables = archives.map((source, index) =>
    [
      '[[sync]]',
      `name = "${index === 0 ? 'good' : 'broken'}"`,
      'every = "15m"',
      'distro = "debian"',
      `source = "${source}"`,
      'releases = ["test"]',
      'components = ["main"]',
      'architectures = ["amd64"]',
      'allow_unsigned = true',
    ].join('\n'),
  )
  return tables.join('\n\n')
}

/** `rebuilderd serve` as a process of its own; ended when the test is. */
async function serveProcess(t: TestContext, data: string, config: string): Promise<Client> {
  const { client, stop } = await startedServe(data, config)
  t.after(stop)
  return client
}

async function startedServe(
  data: string,
  config: string,
): Promise<{ client: Client; stop: () => Promise<void> }> {
  const args = [...firstArgs, 'serve', '--listen', '127.0.0.1:0', '--data', data, '-c', config]
  const child = spawn(program, args, { stdio: ['ignore', 'pipe', 'ignore'] })
  const stop = async (): Promise<void> => {
    const ended = once(child, 'exit')
    child.kill('SIGTERM')
    await ended
  }
  for await (const line of createInterface({ input: child.stdout })) {
    const address = /ready at (\S+)/.exec(line)?.[1]
    if (address !== undefined)
      return { client: openClient({ base: address, timeout: patienceMilliseconds }), stop }
  }
  throw new Error('the server ended before it was ready')
}

async function untilAllEnded(client: Client, count: number): Promise<SyncState[]> {
  return until(async () => {
    const syncs = await client.call(listSyncs)
    return syncs.length === count && syncs.every((sync) => sync.ended_at !== null) && syncs
  }, 'the end of the syncs')
}

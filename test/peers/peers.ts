/** Upstream's programs against ours and ours against theirs. Run by `npm run test:peers`; skips where they cannot be had. */
import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import { spawn } from 'node:child_process'
import { chmod, mkdir, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { test, type TestContext } from 'node:test'
import zlib from 'node:zlib'
import { parseEnvelope, publicKeyFromPem, verifyEnvelope } from '../../src/attestation.ts'
import { openClient, type Client } from '../../src/client.ts'
import { getAttestation, getBuildLog, listBuilds } from '../../src/wire/builds.ts'
import { listBinaryPackages } from '../../src/wire/packages.ts'
import { listQueue, requestRebuild } from '../../src/wire/queue.ts'
import { listWorkers } from '../../src/wire/workers.ts'
import { door } from '../cmd/program.ts'
import { aServer, files } from '../help/files.ts'
import { aPackage, aReport, anArtifact, signupSecret, startServer, temporaryFolder } from '../help/server.ts'
import { until } from '../help/until.ts'
import { startDaemon, type Daemon } from './daemon.ts'
import { ended, openPeers, started, type Ended, type Peers } from './root.ts'

const found = await openPeers((line) => console.log(`peers: ${line}`))
const skip = typeof found === 'string' ? found : false
if (typeof found === 'string') console.log(`peers: not run: ${found}`)
const { command } = typeof found === 'string' ? ({ command: () => ['false', []] } satisfies Peers) : found

const names = ['good', 'bad', 'fail'] as const
const debOf = (name: string): string => `the bytes of ${name}\n`
const fileOf = (name: string): string => `${name}_1.0-1_amd64.deb`

/** Makes the file of its package; that of `bad` has other bytes, `fail` has no input to begin with. */
const standIn = `#!/bin/sh
set -eu
name=$(basename "$1" | cut -d_ -f1)
echo "rebuilding $name"
printf 'the bytes of %s\\n' "$name" > "$REBUILDERD_OUTDIR/\${name}_1.0-1_amd64.deb"
if [ "$name" = bad ]; then echo more >> "$REBUILDERD_OUTDIR/\${name}_1.0-1_amd64.deb"; fi
`

type World = { folder: string; mirror: string; script: string; env: Record<string, string> }

/** A mirror of three packages with indexes, a stand-in for a backend, and a home of its own. */
async function aWorld(t: TestContext): Promise<World> {
  const folder = await temporaryFolder(t)
  const script = join(folder, 'backend.sh')
  await writeFile(script, standIn)
  await chmod(script, 0o755)
  const pool = Object.fromEntries(names.map((name) => [`/pool/${fileOf(name)}`, debOf(name)]))
  const inputs = ['good', 'bad'].map((name) => [`/inputs/${name}_1.0-1_amd64.buildinfo`, `Source: ${name}\n`])
  const mirror = await aServer(t, files({ ...pool, ...Object.fromEntries(inputs), ...indexes() }))
  const env = { HOME: folder, PATH: process.env['PATH'] ?? '', NO_PROXY: '*', NO_COLOR: '1', TERM: 'dumb' }
  return { folder, mirror, script, env }
}

function indexes(): Record<string, Uint8Array> {
  const source = 'Package: synced\nBinary: synced\nVersion: 1.0-1\nArchitecture: any\nDirectory: pool\n\n'
  const binary =
    'Package: synced\nVersion: 1.0-1\nArchitecture: amd64\nFilename: pool/synced_1.0-1_amd64.deb\n\n'
  return {
    '/dists/lab/main/source/Sources.xz': asXz(source),
    '/dists/lab/main/binary-amd64/Packages.xz': asXz(binary),
  }
}

/** An xz file of one block that is not compressed (tukaani.org/xz/xz-file-format.txt). */
function asXz(text: string): Uint8Array {
  const data = Buffer.from(text)
  const crc = (bytes: Uint8Array): Buffer => {
    const sum = Buffer.alloc(4)
    sum.writeUInt32LE(zlib.crc32(bytes))
    return sum
  }
  const flags = Buffer.from([0, 1]) // the check is a CRC32
  const header = Buffer.from([2, 0, 0x21, 1, 0x16, 0, 0, 0]) // one filter: LZMA2
  const chunk = Buffer.concat([
    Buffer.from([1, (data.length - 1) >> 8, (data.length - 1) & 255]),
    data,
    Buffer.from([0]),
  ])
  const padding = Buffer.alloc((4 - (chunk.length % 4)) % 4)
  const size = (n: number): number[] => (n < 128 ? [n] : [(n & 127) | 128, ...size(n >> 7)])
  const unpadded = header.length + 4 + chunk.length + 4
  const listed = Buffer.from([0, 1, ...size(unpadded), ...size(data.length)])
  const index = Buffer.concat([listed, Buffer.alloc((4 - (listed.length % 4)) % 4)])
  const backward = Buffer.alloc(4)
  backward.writeUInt32LE((index.length + 4) / 4 - 1)
  const foot = Buffer.concat([backward, flags])
  return Buffer.concat([
    Buffer.from([0xfd, 0x37, 0x7a, 0x58, 0x5a, 0]),
    flags,
    crc(flags),
    header,
    crc(header),
    chunk,
    padding,
    crc(data),
    index,
    crc(index),
    crc(foot),
    foot,
    Buffer.from('YZ'),
  ])
}

function reportOf(mirror: string, release = 'lab') {
  const packages = names.map((name) => {
    const url = `${mirror}/pool/${fileOf(name)}`
    return aPackage({
      name,
      url: `${mirror}/inputs/${name}_1.0-1_amd64.buildinfo`,
      artifacts: [anArtifact({ name, url })],
    })
  })
  return aReport(packages, { release })
}

async function verdicts(client: Client, release: string): Promise<Record<string, string | null> | null> {
  const { records } = await client.call(listBuilds, { query: { release } })
  return records.length < names.length
    ? null
    : Object.fromEntries(records.map(({ name, status }) => [name, status]))
}

/** Upstream's rebuildctl, asked as a person would. */
function theirCtl(world: World, address: string, cookieFile: string) {
  return (args: readonly string[], input = ''): Promise<Ended> => {
    const [file, all] = command('rebuildctl', ['-H', address, ...args])
    const child = spawn(file, all, {
      cwd: world.folder,
      env: { ...world.env, REBUILDERD_COOKIE_PATH: cookieFile, NOPAGER: '1' },
    })
    child.stdin.on('error', () => undefined)
    child.stdin.end(input)
    return ended(child)
  }
}

/** Our own program, asked as a person would. */
async function ours(
  world: World,
  args: readonly string[],
  env: Record<string, string>,
  input = '',
): Promise<Ended> {
  const child = spawn(process.execPath, [door, ...args], { cwd: world.folder, env: { ...world.env, ...env } })
  child.stdin.on('error', () => undefined)
  child.stdin.end(input)
  return ended(child)
}

test('their worker and rebuildctl against our server', { skip }, async (t) => {
  const world = await aWorld(t)
  const server = await startServer(t)
  const ctl = theirCtl(world, server.address, server.cookieFile)
  const good = async (args: readonly string[], input = ''): Promise<string> => {
    const { code, stdout, stderr } = await ctl(args, input)
    assert.equal(code, 0, `rebuildctl ${args.join(' ')}: ${stderr}`)
    console.log(`peers: rebuildctl ${args.join(' ')}: ${stdout.split('\n').length - 1} lines`)
    return stdout
  }
  const client = openClient({ base: server.address, cookie: server.cookie })

  await t.test('pkgs sync-stdin imports a report', async () => {
    await good(['pkgs', 'sync-stdin'], JSON.stringify(reportOf(world.mirror)))

    assert.deepEqual((await client.call(listQueue)).records.map(({ name }) => name).sort(), [...names].sort())
  })

  await t.test('queue ls shows what waits, in every way', async () => {
    for (const options of [[], ['--head'], ['--planned'], ['--json']]) {
      const text = await good(['queue', 'ls', ...options])
      for (const name of names) assert.match(text, new RegExp(name))
    }
  })

  await t.test('their worker rebuilds: GOOD, BAD and FAIL', async () => {
    const config = join(world.folder, 'worker.conf')
    await writeFile(
      config,
      `endpoint = "${server.address}"\nsignup_secret = "${signupSecret}"\nsupported_architectures = ["amd64"]\n[backend.debian]\npath = "${world.script}"\n`,
    )
    const [file, args] = command('rebuilderd-worker', ['-c', config, 'connect'])
    const home = join(world.folder, 'their-worker')
    await mkdir(home)
    const worker = started(file, args, home, world.env)
    t.after(worker.stop)

    const all = await until(() => verdicts(client, 'lab'), 'three verdicts').catch((error: unknown) => {
      throw new Error(worker.printed(), { cause: error })
    })

    assert.deepEqual(all, { good: 'GOOD', bad: 'BAD', fail: 'FAIL' })
    assert.match(await good(['status']), /127\.0\.0\.1/)
    await worker.stop()
    console.log(`peers: their worker: ${JSON.stringify(all)}`)
  })

  await t.test('pkgs ls shows the verdicts, filtered and as JSON', async () => {
    const lines = await good(['pkgs', 'ls'])
    assert.match(lines, /\[GOOD *\] good 1\.0-1/)
    assert.match(lines, /\[BAD *\] bad 1\.0-1/)
    assert.match(lines, /\[UNKWN\] fail 1\.0-1/)
    assert.equal(
      (
        await good([
          'pkgs',
          'ls',
          '--status',
          'GOOD',
          '--distro',
          'debian',
          '--suite',
          'main',
          '--architecture',
          'amd64',
        ])
      )
        .trim()
        .split('\n').length,
      1,
    )
    const records = JSON.parse(await good(['pkgs', 'ls', '--json', '--name', 'bad'])) as { status: string }[]
    assert.deepEqual(
      records.map(({ status }) => status),
      ['BAD'],
    )
  })

  await t.test('pkgs log, diffoscope and attestation', async () => {
    assert.match(await good(['pkgs', 'log', '--name', 'good']), /rebuilding good/)
    const none = await ctl(['pkgs', 'diffoscope', '--name', 'good'])
    assert.equal(none.code, 1)
    const envelope = parseEnvelope(
      Buffer.from((await good(['pkgs', 'attestation', '--name', 'good'])).trim()),
    )
    assert.equal(
      envelope.signed.products[fileOf('good')]?.['sha256'],
      createHash('sha256').update(debOf('good')).digest('hex'),
    )
    assert.equal(envelope.signatures.length, 2)
    assert.ok(verifyEnvelope(envelope, publicKeyFromPem(server.publicKey)), 'our signature is true')
  })

  await t.test('queue push and drop', async () => {
    await good([
      'queue',
      'push',
      'debian',
      'main',
      'good',
      '1.0-1',
      '--architecture',
      'amd64',
      '--priority',
      '3',
    ])
    const pushed = (await client.call(listQueue)).records.find(({ name }) => name === 'good')
    assert.equal(pushed?.priority, 3)
    await good(['queue', 'push', 'debian', 'main', 'unknown'])
    await good(['queue', 'drop', 'debian', 'main', 'good'])
    assert.equal(
      (await client.call(listQueue)).records.some(({ name }) => name === 'good'),
      false,
    )
  })

  await t.test('pkgs sync reads a mirror and sends us reports; sync-profile too', async () => {
    const options = ['--component', 'main', '--architecture', 'amd64', '--release', 'lab']
    assert.match(await good(['pkgs', 'sync', 'debian', world.mirror, ...options, '--print-json']), /"synced"/)
    const profiles = join(world.folder, 'sync.conf')
    await writeFile(
      profiles,
      `[profile."lab"]\ndistro = "debian"\nsource = "${world.mirror}"\ncomponents = ["main"]\nreleases = ["lab"]\narchitectures = ["amd64"]\n`,
    )
    await good(['pkgs', 'sync-profile', '--sync-config', profiles, 'lab'])
    assert.equal((await client.call(listBinaryPackages, { query: { name: 'synced' } })).total, 1)
    await good(['pkgs', 'sync', 'debian', world.mirror, ...options])
  })

  await t.test('a wrong cookie is refused, and completions need no server', async () => {
    const file = join(world.folder, 'wrong-cookie')
    await writeFile(file, 'wrong\n')
    assert.equal(
      (await theirCtl(world, server.address, file)(['queue', 'drop', 'debian', 'main', 'good'])).code,
      1,
    )
    assert.match(await good(['completions', 'bash']), /rebuildctl/)
  })

  await t.test('debian-repro-status tells GOOD, BAD and unknown', async () => {
    const installed = join(world.folder, 'installed')
    await writeFile(installed, [...names, 'other'].map((name) => `installed ${name} amd64 1.0-1\n`).join(''))
    const [file, args] = command('debian-repro-status', [
      '--architecture',
      'amd64',
      '-H',
      server.address,
      '--dpkg-query-output',
      installed,
    ])
    const { code, stdout, stderr } = await ended(spawn(file, args, { cwd: world.folder, env: world.env }))

    assert.equal(code, 0, stderr)
    console.log(`peers: debian-repro-status: ${stdout.trim().split('\n').join(' | ')}`)
    assert.match(stdout, /good .* GOOD/)
    assert.match(stdout, /bad .* BAD/)
    assert.match(stdout, /fail .* UNKWN/)
  })
})

/** Upstream's daemon on a free port, until the test ends. */
async function theirDaemon(t: TestContext, world: World): Promise<Daemon> {
  const { folder, env } = world
  const daemon = await startDaemon(command, { folder, env, signupSecret })
  t.after(daemon.stop)
  return daemon
}

test('our worker and ctl against their daemon', { skip }, async (t) => {
  const world = await aWorld(t)
  const daemon = await theirDaemon(t, world)
  const { address, cookieFile } = daemon
  const cookie = (await readFile(cookieFile, 'utf8')).trim()
  const client = openClient({ base: address, cookie })
  const good = async (args: readonly string[], input = ''): Promise<string> => {
    const { code, stdout, stderr } = await ours(
      world,
      ['ctl', ...args, '-H', address],
      { REBUILDERD_COOKIE_PATH: cookieFile },
      input,
    )
    assert.equal(code, 0, `ctl ${args.join(' ')}: ${stderr}\n${daemon.printed().slice(-2000)}`)
    console.log(`peers: our ctl ${args.join(' ')}: ${stdout.split('\n').length - 1} lines`)
    return stdout
  }

  await t.test('our ctl imports, lists and asks', async () => {
    await good(['pkgs', 'sync-stdin'], JSON.stringify(reportOf(world.mirror)))
    const text = await good(['queue', 'ls'])
    for (const name of names) assert.match(text, new RegExp(name))
    await good(['status'])
  })

  await t.test('our worker rebuilds: GOOD, BAD and FAIL', async () => {
    const options = [
      '--backend',
      `debian=${world.script}`,
      '--secret',
      signupSecret,
      '--data',
      join(world.folder, 'our-worker'),
    ]
    const config = join(world.folder, 'our-worker.conf')
    await writeFile(config, 'supported_architectures = ["amd64"]\n')
    const args = [door, 'worker', 'connect', address, '-c', config, ...options]
    const worker = started(process.execPath, args, world.folder, world.env)
    t.after(worker.stop)

    const all = await until(() => verdicts(client, 'lab'), 'three verdicts').catch((error: unknown) => {
      throw new Error(`${worker.printed()}\n${daemon.printed().slice(-3000)}`, { cause: error })
    })

    assert.deepEqual(all, { good: 'GOOD', bad: 'BAD', fail: 'FAIL' })
    assert.equal((await client.call(listWorkers)).total, 1)
    await worker.stop()
    console.log(`peers: our worker at their daemon: ${JSON.stringify(all)}`)
  })

  await t.test('their daemon holds logs and attestations that we and they can read', async () => {
    assert.match(await good(['pkgs', 'ls']), /GOOD.*good/)
    assert.match(await good(['pkgs', 'log', '--name', 'good']), /rebuilding good/)
    const envelope = parseEnvelope(
      Buffer.from((await good(['pkgs', 'attestation', '--name', 'good'])).trim()),
    )
    assert.equal(envelope.signatures.length, 2)
    const { records } = await client.call(listBuilds, { query: { name: 'bad' } })
    assert.match(
      new TextDecoder().decode(await client.call(getBuildLog, { params: { id: records[0]?.id ?? 0 } })),
      /rebuilding bad/,
    )
    const theirs = await theirCtl(world, address, cookieFile)(['pkgs', 'log', '--name', 'good'])
    assert.match(theirs.stdout, /rebuilding good/)
  })

  await t.test('our ctl check proves a package with their attestation', async () => {
    const hashOf = (name: string): string => createHash('sha256').update(debOf(name)).digest('hex')
    const list = ['good', 'bad'].map((name) => `${name} 1.0-1 amd64 ${hashOf(name)}\n`).join('')

    const text = await good(['check', '--json', '--fresh', '--list', '-', '--distro', 'debian'], list)

    const { packages } = JSON.parse(text) as { packages: { name: string; standing: string }[] }
    const standings = Object.fromEntries(packages.map(({ name, standing }) => [name, standing]))
    assert.deepEqual(standings, { good: 'verified', bad: 'BAD' })
  })

  await t.test('our ctl pushes and drops there', async () => {
    await good(['queue', 'push', 'debian', 'main', 'good'])
    assert.ok((await client.call(listQueue)).records.some(({ name }) => name === 'good'))
    await good(['queue', 'drop', 'debian', 'main', 'good'])
    assert.equal(
      (await client.call(listQueue)).records.some(({ name }) => name === 'good'),
      false,
    )
    const body = {
      distribution: null,
      release: null,
      component: null,
      name: 'bad',
      version: null,
      architecture: null,
      status: null,
      priority: null,
      reason: null,
    }
    assert.ok((await client.call(requestRebuild, { body })).affected >= 0)
  })

  await t.test(
    'our ctl db import takes over their database: the same lists, logs and attestations',
    async (t) => {
      const before = await toldBy(client)
      await daemon.stop()
      const data = join(world.folder, 'taken-over')
      const file = join(world.folder, 'their-daemon', 'rebuilderd.db')

      const { code, stdout, stderr } = await ours(world, ['ctl', 'db', 'import', file, '--data', data], {})

      assert.equal(code, 0, stderr)
      console.log(`peers: our ctl db import: ${stdout.trim().split('\n').join(' ')}`)
      const server = await startServer(t, { data })
      const after = await toldBy(openClient({ base: server.address, cookie: server.cookie }))
      assert.ok(before.builds.length >= names.length)
      assert.deepEqual({ ...after, workers: after.workers.filter((name) => name !== 'worker-1') }, before)
    },
  )
})

/** What a server tells of everything it keeps, as far as both of us say the same. */
async function toldBy(client: Client) {
  const builds = (await client.call(listBuilds, { query: { sort: 'id' } })).records
  const binaries = (await client.call(listBinaryPackages, { query: { sort: 'id' } })).records
  const logs: string[] = []
  for (const { id } of builds)
    logs.push(Buffer.from(await client.call(getBuildLog, { params: { id } })).toString())
  const attestations: (string | null)[] = []
  for (const { build_id: id, artifact_id: artifact } of binaries) {
    const bytes =
      id === null || artifact === null
        ? null
        : await client.call(getAttestation, { params: { id, artifact_id: artifact } }).catch(() => null)
    attestations.push(bytes === null ? null : Buffer.from(bytes).toString())
  }
  return {
    builds: builds.map(({ id, name, version, status }) => [id, name, version, status]),
    binaries: binaries.map(({ id, name, version, component, status }) => [
      id,
      name,
      version,
      component,
      status,
    ]),
    queue: (await client.call(listQueue)).records.map(({ name, priority }) => [name, priority]),
    workers: (await client.call(listWorkers)).records.map(({ name }) => name),
    logs,
    attestations,
  }
}

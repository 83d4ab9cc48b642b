/**
 * How long `ctl check` takes, and with how much memory, each run a process of its own: 1,500 packages against a server
 * of ours with half a million binaries, and against a list of API v0 of 35,000 rows as others serve it.
 */
import { spawn, spawnSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import { once } from 'node:events'
import { existsSync, readFileSync } from 'node:fs'
import { mkdir, writeFile } from 'node:fs/promises'
import { createServer, type RequestListener, type Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import {
  countersign,
  generateSigningKey,
  makeLink,
  publicKeyToPem,
  serialiseEnvelope,
  signLink,
} from '../../src/attestation.ts'
import { openSigningKey } from '../../src/server/secrets.ts'
import { openBlobs, type Blob } from '../../src/server/store/blobs.ts'
import { keptBlob } from '../../src/server/store/builds.ts'
import { sql } from '../../src/server/store/database.ts'
import { openSqlite } from '../../src/server/store/sqlite.ts'
import type { Add } from './measure.ts'
import { startProcess } from './process.ts'

type Known = { id: number; name: string; version: string; architecture: string; file: string; sha256: string }
type Run = { seconds: number; megabytes: number; note: string }

const installed = 1500
const listed = 35_000
const root = fileURLToPath(new URL('../../', import.meta.url))

/**
 * @param data folder of a server with half a million binaries, which is written to
 * @param folder an empty one for everything else
 * @param built run dist/rebuilderd where it is there
 */
export async function measureChecks(data: string, folder: string, built: boolean, add: Add): Promise<void> {
  const group = `check of ${installed} packages, 45 MB of lists`
  const packages = await attested(data, installed)
  const system = join(folder, 'system')
  await writeSystem(system, packages)
  const check = (home: string, url: string): Promise<Run> =>
    checked(join(folder, home), ['--root', system, '--rebuilder', url], built)
  const tell = (what: string, { seconds, megabytes, note }: Run, most: number): void => {
    add({ group, what, value: seconds, unit: 's', most, note })
    add({ group, what, value: megabytes, unit: 'MB RSS at most', most: 150 })
  }
  const server = await startProcess({ data, built })
  try {
    tell('server of ours that has just started', await check('first', server.address), 1)
    tell('server of ours, first time', await check('ours', server.address), 1)
    tell('server of ours, second time', await check('ours', server.address), 1)
    const requests = await requestsOf(server.address, (url) => check('counted', url))
    add({ group, what: 'server of ours', value: requests, unit: 'requests', most: 1 })
  } finally {
    await server.kill('SIGTERM')
  }
  await withServer(listOf(packages), async (url) => {
    tell(`list of ${listed} rows, first time`, await check('other', url), 3)
    tell(`list of ${listed} rows, second time (304)`, await check('other', url), 0.5)
  })
}

/** GOOD packages that get attestations, signed by a worker and the server. */
async function attested(data: string, count: number): Promise<Known[]> {
  const file = join(data, 'rebuilderd.db')
  const [worker, ours] = [generateSigningKey(), await openSigningKey(join(data, 'rebuilderd.sign.key'))]
  const blobs = openBlobs(join(data, 'blobs'))
  const db = await openSqlite(file)
  try {
    const packages = await db.all<Known>(sql`
      SELECT b.id, b.name, b.version, b.architecture, b.file, b.sha256 FROM binary_packages b
        JOIN releases r ON r.id = b.release_id
       WHERE r.name = 'trixie' AND b.status = 'GOOD' ORDER BY b.id LIMIT ${count}`)
    const kept: Blob[] = []
    for (const { file: name, sha256 } of packages) {
      const sha512 = createHash('sha512').update(name).digest('hex')
      const input = { file: `${name}info`, sha256, sha512 }
      const link = makeLink({ artifact: { file: name, sha256, sha512 }, input })
      const envelope = countersign(signLink(link, worker), ours)
      kept.push(await blobs.keep(serialiseEnvelope(envelope))) // one by one: a packer takes megabytes
    }
    await db.transaction(async (tx) => {
      for (const [index, { id }] of packages.entries()) {
        const blob = kept[index]
        if (blob === undefined) continue
        const [row] = await tx.all<{ id: number }>(keptBlob(blob, '2026-10-01T10:00:00'))
        await tx.all(sql`UPDATE binary_packages SET attestation_id = ${row?.id} WHERE id = ${id}`)
        await tx.all(sql`
          UPDATE artifacts SET attestation_id = ${row?.id}
           WHERE id = (SELECT artifact_id FROM binary_packages WHERE id = ${id})`)
      }
    })
    return packages
  } finally {
    await db.close()
  }
}

/** A Debian system with these packages, whose apt has lists as long as those of a release. */
async function writeSystem(folder: string, packages: readonly Known[]): Promise<void> {
  const lists = join(folder, 'var/lib/apt/lists')
  for (const path of ['etc', 'var/lib/dpkg', 'var/lib/apt/lists'])
    await mkdir(join(folder, path), { recursive: true })
  await writeFile(join(folder, 'etc/os-release'), 'ID=debian\n')
  const status = packages.map(({ name, version, architecture }) => {
    return `Package: ${name}\nStatus: install ok installed\nInstalled-Size: 100\nArchitecture: ${architecture}\nVersion: ${version}\nDescription: one\n of them\n\n`
  })
  await writeFile(join(folder, 'var/lib/dpkg/status'), status.join(''))
  const filler = 'lib-some-dependency (>= 1.2.3), '.repeat(32)
  const stanzaOf = (name: string, version: string, architecture: string, sha256: string): string =>
    `Package: ${name}\nVersion: ${version}\nArchitecture: ${architecture}\nDepends: ${filler}\nFilename: pool/${name}.deb\nSize: 10\nSHA256: ${sha256}\n\n`
  const ours = packages.map((one) => stanzaOf(one.name, one.version, one.architecture, one.sha256))
  const others = Array.from({ length: listed - ours.length }, (_, i) => {
    const sha256 = createHash('sha256').update(String(i)).digest('hex')
    return stanzaOf(`other-package-${i}`, '1.0-1', 'amd64', sha256)
  })
  const path = join(lists, 'mirror.example_debian_dists_trixie_main_binary-amd64_Packages')
  await writeFile(path, [...others, ...ours].join(''))
  if (spawnSync('lz4', ['-q', '--rm', path, `${path}.lz4`]).error !== undefined)
    console.error('  no lz4 here: lists are plain')
}

/** Runs the program to its end and looks at what it needed. */
async function checked(home: string, args: readonly string[], built: boolean): Promise<Run> {
  await mkdir(home, { recursive: true })
  const executable = join(root, 'dist/rebuilderd')
  const [program, first] =
    built && existsSync(executable) ? [executable, []] : [process.execPath, [join(root, 'src/main.ts')]]
  const start = performance.now()
  const child = spawn(program, [...first, 'ctl', 'check', '--json', ...args], {
    stdio: ['ignore', 'pipe', 'inherit'],
    env: { PATH: process.env['PATH'] ?? '', HOME: home, NO_PROXY: '*' },
  })
  let kilobytes = 0
  const look = setInterval(() => (kilobytes = Math.max(kilobytes, mostOf(child.pid ?? 0))), 10)
  const chunks: Buffer[] = []
  child.stdout.on('data', (chunk: Buffer) => chunks.push(chunk))
  await once(child, 'close')
  clearInterval(look)
  const seconds = (performance.now() - start) / 1000
  const { summary } = JSON.parse(Buffer.concat(chunks).toString()) as Printed // its own document
  const note = `${summary.verified.count} verified, ${summary.claimed.count} claimed`
  return { seconds, megabytes: kilobytes / 1024, note }
}

type Printed = { summary: Record<'verified' | 'claimed', { count: number }> }

/** VmHWM in kB: the most that was resident so far. */
function mostOf(pid: number): number {
  try {
    return Number(/VmHWM:\s+(\d+)/.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1] ?? 0)
  } catch {
    return 0 // it has ended
  }
}

async function withServer(answer: RequestListener, work: (url: string) => Promise<void>): Promise<void> {
  const server: Server = createServer(answer)
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  try {
    await work(`http://127.0.0.1:${(server.address() as AddressInfo).port}`)
  } finally {
    server.closeAllConnections()
    server.close()
  }
}

/** How many requests a check takes, by passing them on. */
async function requestsOf(address: string, work: (url: string) => Promise<unknown>): Promise<number> {
  let count = 0
  const passOn: RequestListener = (request, response) => {
    count++
    void (async () => {
      const { method = 'GET', url = '/' } = request
      const sent = Buffer.concat((await request.toArray()) as Buffer[]) // no encoding is set
      const body = method === 'GET' ? {} : { body: sent, headers: { 'content-type': 'application/json' } }
      const reply = await fetch(address + url, { method, ...body })
      response.writeHead(reply.status, { 'content-type': 'application/json' }).end(await reply.bytes())
    })()
  }
  await withServer(passOn, async (url) => void (await work(url)))
  return count
}

/** A server that has a list and nothing else but its key. */
function listOf(packages: readonly Known[]): RequestListener {
  const row = (name: string, version: string, architecture: string, id: number): unknown => ({
    name,
    version,
    status: 'GOOD',
    distro: 'debian',
    suite: 'main',
    architecture,
    artifact_url: `https://mirror.example/pool/${name}_${version}_${architecture}.deb`,
    build_id: id,
    built_at: '2026-11-22T19:37:51.862',
    has_diffoscope: false,
    has_attestation: false,
  })
  const others = Array.from({ length: listed - packages.length }, (_, i) => {
    return row(`other-package-${i}`, '1.0-1', 'amd64', i + 1)
  })
  const ours = packages.map(({ name, version, architecture, id }) => row(name, version, architecture, id))
  const list = Buffer.from(JSON.stringify([...others, ...ours]))
  const keys = JSON.stringify({ current: [publicKeyToPem(generateSigningKey().publicKey)] })
  const lastModified = 'Sun, 22 Nov 2026 19:37:51 GMT'
  return (request, response) => {
    request.resume()
    const { pathname } = new URL(request.url ?? '/', 'http://list')
    if (pathname === '/api/v1/meta/public-keys') response.end(keys)
    else if (pathname !== '/api/v0/pkgs/list') response.writeHead(404).end()
    else if (request.headers['if-modified-since'] === lastModified) response.writeHead(304).end()
    else response.writeHead(200, { 'last-modified': lastModified }).end(list)
  }
}

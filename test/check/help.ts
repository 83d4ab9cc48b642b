import { createHash } from 'node:crypto'
import { once } from 'node:events'
import { mkdir, writeFile } from 'node:fs/promises'
import { createServer, type AddressInfo } from 'node:net'
import { dirname, join } from 'node:path'
import type { TestContext } from 'node:test'
import { generateSigningKey, makeLink, serialiseEnvelope, signLink } from '../../src/attestation.ts'
import { submitBuild } from '../../src/wire/builds.ts'
import {
  aPackage,
  aResult,
  anArtifact,
  anArtifactResult,
  importPackages,
  pop,
  startServer,
  temporaryFolder,
  type TestServer,
} from '../help/server.ts'
import { aServer } from '../help/files.ts'
import { patienceMilliseconds } from '../help/until.ts'
import { runHere, runProgram, type Ended } from '../cmd/program.ts'

type Verdict = 'GOOD' | 'claimed' | 'BAD' | 'FAIL' | 'UNKWN'

/** SHA-256 and SHA-512 of some bytes. */
export function hashesOf(text: string | Uint8Array): { sha256: string; sha512: string } {
  const hash = (name: string): string => createHash(name).update(text).digest('hex')
  return { sha256: hash('sha256'), sha512: hash('sha512') }
}

/** What the archive publishes as a package: any bytes will do. */
export function bytesOf(name: string): string {
  return `the published bytes of ${name}`
}

/** A server of ours with verdicts of its own: `GOOD` is attested, `claimed` is GOOD without attestation. */
export async function aRebuilder(
  t: TestContext,
  verdicts: Readonly<Record<string, Verdict>>,
  options: { bytes?: (name: string) => string } = {},
): Promise<TestServer> {
  const { bytes = bytesOf } = options
  const server = await startServer(t)
  const packages = Object.keys(verdicts).map((name) => {
    const { sha256 } = hashesOf(bytes(name))
    return aPackage({ name, artifacts: [anArtifact({ name, sha256, size: 10 })] })
  })
  await importPackages(server.call, packages)
  const key = generateSigningKey()
  const { call } = await server.worker(Buffer.from(key.publicKey).toString('base64'), 'signer')
  for (let job = await pop(call); job !== null; job = await pop(call)) {
    const { name } = job.job
    const verdict = verdicts[name] ?? 'UNKWN'
    if (verdict === 'UNKWN') continue // never reported
    const [artifact] = job.artifacts
    const file = `${name}_1.0-1_amd64.deb`
    const input = { file: `${name}.buildinfo`, ...hashesOf('input') }
    const hashes = hashesOf(bytes(name))
    const envelope = signLink(makeLink({ artifact: { file, ...hashes }, input }), key)
    const isGood = verdict === 'GOOD' || verdict === 'claimed'
    const given = {
      name,
      url: artifact?.url ?? null,
      sha256: hashes.sha256,
      size: 10,
      attestation: verdict === 'GOOD' ? serialiseEnvelope(envelope) : null,
      status: isGood ? ('GOOD' as const) : ('BAD' as const),
      ...(isGood ? {} : { reason: 'content_differs' as const }),
    }
    const report =
      verdict === 'FAIL'
        ? aResult(job, { status: 'FAIL', reason: 'build_failed' })
        : aResult(job, {
            status: isGood ? 'GOOD' : 'BAD',
            reason: isGood ? null : 'content_differs',
            artifacts: [anArtifactResult(given)],
          })
    await call(submitBuild, { body: report })
  }
  return server
}

type Heard = { path: string; body: Record<string, unknown>; reply: string }

/** Passes requests on to a server, and keeps what was said. @param change what becomes of each reply */
export async function aListener(
  t: TestContext,
  address: string,
  change: (reply: string) => string = (reply) => reply,
): Promise<{ url: string; asked: Heard[] }> {
  const asked: Heard[] = []
  const url = await aServer(t, async (request, response) => {
    const { method = 'GET', url: path = '/' } = request
    const sent = Buffer.concat((await request.toArray()) as Buffer[]) // no encoding is set
    const body = method === 'GET' ? {} : { body: sent, headers: { 'content-type': 'application/json' } }
    const reply = await fetch(address + path, { method, ...body })
    const text = change(await reply.text())
    asked.push({ path, body: JSON.parse(sent.toString() || '{}') as Heard['body'], reply: text })
    response.writeHead(reply.status, { 'content-type': 'application/json' }).end(text)
  })
  return { url, asked }
}

/** Writes files below a new folder. */
export async function aRoot(
  t: TestContext,
  files: Readonly<Record<string, string | Uint8Array>>,
): Promise<string> {
  const root = await temporaryFolder(t)
  for (const [path, content] of Object.entries(files)) {
    await mkdir(dirname(join(root, path)), { recursive: true })
    await writeFile(join(root, path), content)
  }
  return root
}

/** A Debian system with these packages installed, whose apt knows their hashes. */
export async function aDebian(
  t: TestContext,
  names: readonly string[],
  more: Readonly<Record<string, string | Uint8Array>> = {},
): Promise<string> {
  return aRoot(t, {
    'etc/os-release': 'NAME="Debian"\nID=debian\n',
    'var/lib/dpkg/status': names.map((name) => `${statusOf(name)}\n`).join(''),
    'var/lib/apt/lists/mirror.example_debian_dists_sid_main_binary-amd64_Packages': names
      .map((name) => `${listingOf(name)}\n`)
      .join(''),
    ...more,
  })
}

export function statusOf(name: string): string {
  return `Package: ${name}\nStatus: install ok installed\nInstalled-Size: 100\nArchitecture: amd64\nVersion: 1.0-1\nDescription: one\n of the packages\n`
}

export function listingOf(name: string): string {
  return `Package: ${name}\nVersion: 1.0-1\nArchitecture: amd64\nFilename: pool/${name}.deb\nSize: 10\nSHA256: ${hashesOf(bytesOf(name)).sha256}\n`
}

/** The address of a port of loopback where nobody listens. */
export async function aClosedPort(): Promise<string> {
  const server = createServer()
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as AddressInfo // it listens on a port
  server.close()
  await once(server, 'close')
  return `http://127.0.0.1:${port}`
}

/** A server that knows one package and has this attestation for it. */
export async function aWitness(
  t: TestContext,
  one: { name: string; version: string; architecture: string; distro: string },
  attestation: Uint8Array,
  pem: string,
): Promise<string> {
  const row = { ...one, status: 'GOOD', build_id: 1, has_attestation: true }
  const artifact = { id: 2, name: one.name, has_diffoscope: false, has_attestation: true, status: 'GOOD' }
  const replies: Readonly<Record<string, string | Uint8Array>> = {
    '/api/v0/pkgs/list': JSON.stringify([row]),
    '/api/v1/meta/public-keys': JSON.stringify({ current: [pem] }),
    '/api/v1/builds/1/artifacts': JSON.stringify([artifact]),
    '/api/v1/builds/1/artifacts/2/attestation': attestation,
  }
  return aServer(t, (request, response) => {
    request.resume()
    const reply = replies[new URL(request.url ?? '/', 'http://witness').pathname]
    response.writeHead(reply === undefined ? 404 : 200).end(reply)
  })
}

export type Checked = Ended & { document: CheckDocument }
type CheckDocument = {
  summary: { count: number; size: number } & Record<string, { count: number; percent: number }>
  alarms: string[]
  warnings: string[]
  disagreements: string[]
  rebuilders: {
    url: string
    has_answered: boolean
    problems: string[]
    proven: number
    key: string | null
    key_from: string | null
    voice: number
  }[]
  packages: {
    name: string
    version: string
    architecture: string
    distribution: string
    standing: string
    reason: string | null
    verified_by: number
    good_by: number
    sha256: string | null
    size: number | null
    link: string | null
    voices: { rebuilder: string; status: string; proof: string | null }[]
  }[]
}

/** Runs `ctl check --json`, with time enough for a busy machine unless told otherwise; where variables are given, as a process: the runtime reads some of them itself. */
export async function runCheck(
  home: string,
  args: readonly string[],
  options: { input?: string; environment?: Record<string, string> } = {},
): Promise<Checked> {
  const run = options.environment === undefined ? runHere : runProgram
  const timeout = args.includes('--timeout') ? [] : ['--timeout', String(patienceMilliseconds / 1000)]
  const ended = await run(['ctl', 'check', '--json', ...timeout, ...args], { home, ...options })
  const document = ended.stdout === '' ? {} : (JSON.parse(ended.stdout) as unknown)
  return { ...ended, document: document as CheckDocument } // tests look at what they expect
}

/** Standings by name. */
export function standingsOf({ packages }: CheckDocument): Record<string, string> {
  return Object.fromEntries(packages.map(({ name, standing }) => [name, standing]))
}

import assert from 'node:assert/strict'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { TestContext } from 'node:test'
import { openClient, type Client } from '../../src/client.ts'
import { loadSettings, serverSettings, type ServerSettings } from '../../src/config.ts'
import { silentLog, type Log } from '../../src/log.ts'
import { startServer as start, type RunningServer, type TimeLimits } from '../../src/server/serve.ts'
import type { Evidence, RebuildReport, ReportArtifact } from '../../src/wire/builds.ts'
import { submitPackages, type PackageReport, type ReportedArtifact } from '../../src/wire/packages.ts'
import { popQueue, type Assignment, type RebuildRequest } from '../../src/wire/queue.ts'
import { registerWorker } from '../../src/wire/workers.ts'
import { watchReplies } from './described.ts'
import { patienceMilliseconds } from './until.ts'

export const signupSecret = 'let me in'

export type TestServer = RunningServer & {
  data: string
  /** Calls as administrator, and as the worker `worker-1`, which is registered. */
  call: Client['call']
  /** A client that calls as another registered worker. */
  worker: (key: string, name?: string) => Promise<Client>
  /** The server's clock; tests move it, or stop it at a moment. */
  clock: { ahead: number; stopped?: number }
}

type Options = {
  settings?: Partial<ServerSettings>
  data?: string
  log?: Log
  timeLimits?: TimeLimits
  /** Milliseconds between looks of the server for what is over; usually it never looks: it would at any moment of a test. */
  tick?: number
}

const never = 2 ** 31 - 1
/** A process that gets no turn for a while must not take those who asked meanwhile for slow. */
const patientLimits: TimeLimits = { headers: patienceMilliseconds, request: patienceMilliseconds }

/** A server of its own on a free port of loopback, gone when the test is. */
export async function startServer(t: TestContext, options: Options = {}): Promise<TestServer> {
  const data = options.data ?? (await temporaryFolder(t))
  const clock: TestServer['clock'] = { ahead: 0 }
  const replies = watchReplies()
  const settings = {
    ...(await loadSettings(serverSettings, [])),
    'http.bind_addr': '127.0.0.1:0',
    'worker.signup_secret': signupSecret,
    ...options.settings,
  }
  const now = (): Date => new Date(clock.stopped ?? Date.now() + clock.ahead)
  const { log = silentLog, timeLimits = patientLimits, tick = never } = options
  const server = await start({ settings, data, log, now, observe: replies.observe, tick, timeLimits })
  let isStopped = false
  const stop = async (): Promise<void> => {
    if (!isStopped) await server.stop()
    isStopped = true
    assert.deepEqual(replies.problems, [], 'replies that the description of the API does not allow')
  }
  stopsOf(t).push(stop)
  t.after(stop)
  const clientOf = (key: string): Client =>
    openClient({
      base: server.address,
      cookie: server.cookie,
      workerKey: key,
      signupSecret,
      timeout: patienceMilliseconds,
    })
  const worker = async (key: string, name = key): Promise<Client> => {
    const client = clientOf(key)
    await client.call(registerWorker, { body: { name, tags: [] } })
    return client
  }
  const { call } =
    settings['worker.signup_secret'] === signupSecret ? await worker('key-1', 'worker-1') : clientOf('key-1')
  return { ...server, stop, data, call, worker, clock }
}

/** Servers by the test they belong to. */
const servers = new WeakMap<TestContext, (() => Promise<void>)[]>()

function stopsOf(t: TestContext): (() => Promise<void>)[] {
  const stops = servers.get(t) ?? []
  servers.set(t, stops)
  return stops
}

/** A folder of this test alone. Its servers end first: another folder may get its inode, which names their lock. */
export async function temporaryFolder(t: TestContext): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), 'rebuilderd-test-'))
  t.after(async () => {
    for (const stop of stopsOf(t)) await stop()
    await rm(folder, { recursive: true, force: true })
  })
  return folder
}

/** An artifact as sync reports it. */
export function anArtifact(given: Partial<ReportedArtifact> = {}): ReportedArtifact {
  const { name = 'hello', version = '1.0-1', architecture = 'amd64' } = given
  const url = `http://mirror.example/pool/${name}_${version}_${architecture}.deb`
  return { name, version, architecture, component: 'main', url, sha256: null, size: null, ...given }
}

type Package = PackageReport['packages'][number]

/** A source package as sync reports it, with one artifact of the same name. */
export function aPackage(given: Partial<Package> = {}): Package {
  const { name = 'hello', version = '1.0-1' } = given
  const url = `https://buildinfos.example/${name}_${version}_amd64.buildinfo`
  return { name, version, url, maintainer: null, artifacts: [anArtifact({ name, version })], ...given }
}

export function aReport(packages: readonly Package[], given: Partial<PackageReport> = {}): PackageReport {
  return {
    distribution: 'debian',
    release: 'sid',
    architecture: 'amd64',
    index: null,
    ...given,
    packages: [...packages],
  }
}

/** Imports packages of debian sid for amd64. */
export async function importPackages(
  call: Client['call'],
  packages: readonly Package[],
  given: Partial<PackageReport> = {},
): Promise<void> {
  await call(submitPackages, { body: aReport(packages, given) })
}

/** A request that selects every build; tests narrow it. */
export const anyBuild: RebuildRequest = {
  distribution: null,
  release: null,
  component: null,
  name: null,
  version: null,
  architecture: null,
  status: null,
  priority: null,
  reason: null,
}

/** The next job for a worker that builds anything of debian for amd64 and all; null where there is none. */
export async function pop(
  call: Client['call'],
  architectures: readonly string[] = ['amd64', 'all'],
): Promise<Assignment | null> {
  const body = {
    supported_backends: ['debian'],
    architecture: 'x86_64',
    supported_architectures: [...architectures],
  }
  const given = await call(popQueue, { body })
  return given === 'Nothing' ? null : given.Rebuild
}

export function anArtifactResult(given: Partial<ReportArtifact> = {}): ReportArtifact {
  return {
    name: 'hello',
    status: 'GOOD',
    diffoscope: null,
    attestation: null,
    url: null,
    sha256: null,
    size: null,
    rebuilt_sha256: null,
    rebuilt_size: null,
    first_difference: null,
    reason: null,
    ...given,
  }
}

/** A worker's report on a job: every artifact as the whole, unless told otherwise. */
export function aResult(job: Assignment, given: Partial<RebuildReport> = {}): RebuildReport {
  const status = given.status ?? 'GOOD'
  const artifacts =
    status === 'FAIL' || status === 'UNKWN'
      ? []
      : job.artifacts.map(({ name, url }) => anArtifactResult({ name, url, status }))
  return {
    queue_id: job.job.id,
    built_at: '2026-11-22T19:40:00.500',
    build_log: new TextEncoder().encode('the log\n'),
    status,
    artifacts,
    lease: job.lease,
    reason: null,
    evidence: null,
    ...given,
  }
}

export const someEvidence: Evidence = {
  backend: 'debian',
  backend_digest: null,
  exit_code: 0,
  seconds: 1.5,
  isolation: 'namespaces',
  note: null,
  environment: ['gcc=12.2', 'make=4.3'],
  missing: [],
  temporary: false,
}

/** Exchanges recorded between upstream's programs, replayed: our server answers alike. */
import assert from 'node:assert/strict'
import { existsSync, readFileSync, readdirSync } from 'node:fs'
import { test } from 'node:test'
import { fileURLToPath } from 'node:url'
import zlib from 'node:zlib'
import { generateSigningKey, makeLink, serialiseEnvelope, signLink } from '../../src/attestation.ts'
import { openClient, type Client } from '../../src/client.ts'
import { submitBuild } from '../../src/wire/builds.ts'
import { dropJob, requestRebuild } from '../../src/wire/queue.ts'
import { registerWorker } from '../../src/wire/workers.ts'
import {
  aPackage,
  aResult,
  anArtifact,
  anArtifactResult,
  importPackages,
  signupSecret,
  startServer,
} from '../help/server.ts'
import { jobsOf, popped } from './asking.ts'
import { ask, decoded, documentOf } from './raw.ts'

const folder = fileURLToPath(new URL('../../../shared/fixtures/captures/', import.meta.url))
const skip = existsSync(folder) ? false : 'the captures of upstream programs are not there'
const capture = (name: string): string => readFileSync(`${folder}${name}`, 'latin1')

/** Where we answer otherwise on purpose: the request, and our status. */
const mended: Readonly<Record<string, number>> = {
  'GET /api/v1/builds/99999/log': 404,
  'GET /api/v1/packages/binary?limit=2&sort=bogus': 400,
  'POST /api/v1/queue/pop': 403, // who may not is told so before the body is looked at
}

type Edge = { method: string; target: string; status: number; headers: Map<string, string>; body: string }

/** The replies of curl-edges.txt that name their request. */
function edges(): Edge[] {
  return capture('curl-edges.txt')
    .split(/^=== /m)
    .slice(1)
    .flatMap((part) => {
      const [line = '', ...rest] = part.split('\n')
      const named = /^(GET|POST|DELETE) (\/\S*)$/.exec(line.trim())
      if (named === null) return []
      const [head = '', ...body] = rest.join('\n').replaceAll('\r', '').split('\n\n')
      const headers = new Map(
        [...head.matchAll(/^([\w-]+): (.*)$/gm)].map(([, name = '', value = '']) => [name, value]),
      )
      const status = Number(/^HTTP\/1.1 (\d+)/.exec(head)?.[1])
      return [
        { method: named[1] ?? '', target: named[2] ?? '', status, headers, body: body.join('\n\n').trim() },
      ]
    })
}

/** Members of a document with the kinds of their values; of lists the first item. */
function shapeOf(value: unknown): unknown {
  if (Array.isArray(value)) return value.length === 0 ? [] : [shapeOf(value[0])]
  if (typeof value !== 'object' || value === null) return value === null ? 'null' : typeof value
  return Object.fromEntries(Object.entries(value).map(([name, item]) => [name, shapeOf(item)]))
}

/** Every member of theirs is in ours with the same kind of value, or null in one of them. */
function isCovered(theirs: unknown, ours: unknown): boolean {
  if (theirs === 'null' || ours === 'null' || typeof theirs === 'string')
    return theirs === ours || theirs === 'null' || ours === 'null'
  if (Array.isArray(theirs))
    return Array.isArray(ours) && (theirs.length === 0 || isCovered(theirs[0], ours[0]))
  return Object.entries(theirs as object).every(
    ([name, item]) => name in (ours as object) && isCovered(item, (ours as Record<string, unknown>)[name]),
  )
}

/** What became of the packages of the captures' server; their names tell more. */
const labVerdicts = {
  'peer-good': 'GOOD',
  'peer-bad': 'BAD',
  'peer-fail': 'FAIL',
  'peer-sync': 'FAIL',
  'solo-good': 'GOOD',
  'solo-bad': 'BAD',
} as const

/** The server of the captures, as near as it matters: packages of debian lab with logs, a diff and an attestation. */
async function aLab(t: Parameters<typeof startServer>[0]) {
  const server = await startServer(t)
  const key = generateSigningKey()
  const workerKey = Buffer.from(key.publicKey).toString('base64')
  const { call } = openClient({ base: server.address, workerKey, signupSecret })
  await call(registerWorker, { body: { name: 'peer1', tags: [] } })
  const packages = Object.keys(labVerdicts).map((name) =>
    aPackage({ name, artifacts: [anArtifact({ name })] }),
  )
  await importPackages(server.call, packages, { release: 'lab' })
  for (const _ of packages) {
    const job = await popped(call)
    const status = labVerdicts[job.job.name as keyof typeof labVerdicts]
    const artifacts = job.artifacts.map(({ name, url }) => {
      const file = url.slice(url.lastIndexOf('/') + 1)
      const link = makeLink({ artifact: hashed(file), input: hashed(`${name}_1.0-1_amd64.buildinfo`) })
      const attestation = status === 'GOOD' ? serialiseEnvelope(signLink(link, key)) : null
      const diffoscope = status === 'BAD' ? new TextEncoder().encode('--- a\n+++ b\n') : null
      return anArtifactResult({
        name,
        url,
        status: status === 'FAIL' ? 'UNKWN' : status,
        attestation,
        diffoscope,
      })
    })
    await call(submitBuild, { body: aResult(job, { status, artifacts: status === 'FAIL' ? [] : artifacts }) })
  }
  return { ...server, workerKey }
}

const hashed = (file: string) => ({ file, sha256: 'a'.repeat(64), sha512: 'b'.repeat(128) })

test('what curl was told at the edges', { skip }, async (t) => {
  const { address } = await aLab(t)
  const all = edges()
  assert.ok(all.length > 15, 'the capture was read')

  for (const { method, target, status, headers, body } of all) {
    if (target === '/') continue // ours has pages for people there
    await t.test(`${method} ${target}`, async () => {
      const ours = await ask(address, method, target)
      const wanted = mended[`${method} ${target}`] ?? status

      assert.equal(ours.status, wanted, ours.text)
      if (wanted !== status) return
      assert.equal(ours.headers['content-type'], headers.get('content-type'))
      if (status === 404 || status === 403)
        assert.equal(ours.headers['content-length'], headers.get('content-length'))
      if (headers.has('last-modified')) assert.match(ours.headers['last-modified'] ?? '', / GMT$/)
      if (status === 400) assert.match(ours.text, /^(Query deserialize error|Content type error)/)
      if (status === 200 && isWhole(body)) {
        const shapes = [JSON.parse(body) as unknown, documentOf<unknown>(ours)].map(shapeOf)
        assert.ok(
          isCovered(shapes[0], shapes[1]),
          `${JSON.stringify(shapes[0])} in ${JSON.stringify(shapes[1])}`,
        )
      }
    })
  }
})

test('what curl was told about broken requests and codings', { skip }, async (t) => {
  const { address, workerKey } = await aLab(t)
  const recorded = new Map(
    capture('curl-edges.txt')
      .split(/=== /) // one of them does not begin its line
      .slice(1)
      .map((part) => [/^.*/.exec(part)?.[0] ?? '', part.replaceAll('\r', '')]),
  )
  const json = { 'content-type': 'application/json' }
  const worker = { 'x-worker-key': workerKey, 'x-signup-secret': signupSecret }
  const requests: Record<string, [method: string, target: string, given: Parameters<typeof ask>[3]]> = {
    'POST pop bad json, good key': [
      'POST',
      '/api/v1/queue/pop',
      { headers: { ...json, ...worker }, body: '{"x":1}' },
    ],
    'POST packages, wrong cookie': [
      'POST',
      '/api/v1/packages',
      {
        headers: { ...json, 'x-auth-cookie': 'wrong' },
        body: '{"distribution":"d","architecture":"a","packages":[]}',
      },
    ],
    'POST packages no content type': [
      'POST',
      '/api/v1/packages',
      { headers: { 'x-auth-cookie': 'wrong' }, body: '{}' },
    ],
    'gzip accepted?': [
      'GET',
      '/api/v1/dashboard',
      { headers: { 'accept-encoding': 'gzip, deflate, br, zstd' } },
    ],
  }
  // Who may not is told so before the body is looked at.
  const told: Record<string, number> = { 'POST packages no content type': 403 }

  for (const [name, [method, target, given]] of Object.entries(requests)) {
    const part = recorded.get(name)
    assert.ok(part !== undefined, name)
    const reply = await ask(address, method, target, given)
    const status = Number(/^HTTP\/1.1 (\d+)/m.exec(part)?.[1])

    assert.equal(reply.status, told[name] ?? status, name)
    if (name in told) continue
    for (const header of ['content-type', 'content-encoding', 'vary'])
      assert.equal(
        reply.headers[header],
        new RegExp(`^${header}: (.*)$`, 'm').exec(part)?.[1],
        `${name}: ${header}`,
      )
    if (status === 400) assert.match(reply.text, /^Json deserialize error: [^\n]*supported_backends[^\n]*$/)
  }
})

/** Long bodies were cut in the capture. */
function isWhole(body: string): boolean {
  try {
    JSON.parse(body)
    return true
  } catch {
    return false
  }
}

type Exchange = {
  method: string
  target: string
  headers: Record<string, string>
  body: string | null
  status: number
  told: ReadonlyMap<string, string>
  answer: string | null
}

/** The exchanges of a capture between a program and its server. */
function exchanges(text: string): Exchange[] {
  return text
    .split(/^=== \d+ ===.*$/m)
    .slice(1)
    .map((part) => {
      const [asked = '', told = ''] = part.split('<<< response')
      const [, method = '', target = ''] = /^(\w+) (\S+) HTTP\/1.1/m.exec(asked) ?? []
      const headers = Object.fromEntries(
        [...(asked.split('\n\n')[0]?.matchAll(/^([\w-]+): (.*)$/gm) ?? [])].map(
          ([, name = '', value = '']) => [name, value],
        ),
      )
      return {
        method,
        target,
        headers,
        body: bodyOf(asked),
        status: Number(/HTTP\/1.1 (\d+)/.exec(told)?.[1]),
        told: new Map(
          [...(told.split('\n\n')[0] ?? '').matchAll(/^([\w-]+): (.*)$/gm)].map(
            ([, name = '', value = '']) => [name, value],
          ),
        ),
        answer: bodyOf(told),
      }
    })
}

function bodyOf(text: string): string | null {
  return /^-- body: .*--\n([^\n]*)/m.exec(text)?.[1] ?? null
}

test('the life of an upstream worker: register, ask, ping, report, ask again', { skip }, async (t) => {
  const server = await startServer(t)
  const recorded = exchanges(capture('worker-life.txt'))
  const jobs = new Map<number, number>()
  assert.ok(recorded.length >= 6, 'the capture was read')

  for (const [index, { method, target, headers, body, status, answer }] of recorded.entries()) {
    await t.test(`${index + 1}: ${method} ${target}`, async () => {
      if (target.endsWith('/pop')) await queueOnly(server.call, answer, `lab-${index}`)
      const path = target.replace(/\d+(?=\/ping)/, (id) => String(jobs.get(Number(id)) ?? id))
      const text = body === null ? null : translated(body, jobs)
      const sent = text === null ? {} : { body: zlib.zstdCompressSync(text) }
      const { host: _, 'content-length': __, ...given } = headers
      const reply = await ask(server.address, method, path, {
        headers: {
          ...given,
          'x-signup-secret': signupSecret,
          ...(text === null ? { 'content-length': '0' } : {}),
        },
        ...sent,
      })

      assert.equal(reply.status, status, reply.text)
      if (answer === null) return
      assert.equal(reply.headers['content-type'], 'application/json')
      assert.equal(reply.headers['content-encoding'], codingOf(reply, 'zstd'))
      const [theirs, ours] = [JSON.parse(answer) as unknown, JSON.parse(decoded(reply).toString()) as unknown]
      assert.ok(isCovered(shapeOf(theirs), shapeOf(ours)), JSON.stringify(ours))
      if (typeof theirs === 'object')
        jobs.set((theirs as Assigned).Rebuild.job.id, (ours as Assigned).Rebuild.job.id)
    })
  }
})

type Assigned = {
  Rebuild: {
    job: { id: number; name: string; version: string; url: string }
    artifacts: { name: string; version: string; architecture: string; url: string }[]
  }
}

/** Makes the next job the one that was handed out then, or none. */
async function queueOnly(call: Client['call'], answer: string | null, release: string): Promise<void> {
  for (const { id, started_at } of await jobsOf(call))
    if (started_at === null) await call(dropJob, { params: { id } })
  const then = JSON.parse(answer ?? '""') as Assigned | string
  if (typeof then === 'string') return
  await importPackages(call, [packageOf(then)], { release })
  const everything = { distribution: null, component: null, name: null, version: null, architecture: null }
  await call(requestRebuild, { body: { ...everything, release, status: null, reason: null, priority: null } })
}

function packageOf({ Rebuild: { job, artifacts } }: Assigned) {
  const { name, version, url } = job
  return aPackage({ name, version, url, artifacts: artifacts.map((artifact) => anArtifact(artifact)) })
}

/** A recorded body for this server: its own job ids, and byte fields, which were shortened, whole again. */
function translated(body: string, jobs: ReadonlyMap<number, number>): string {
  const whole = body.replaceAll(/\[40,181,47,253[^\]]*\]/g, '[104,105]')
  return whole.replace(/"queue_id":(\d+)/, (_, id) => `"queue_id":${jobs.get(Number(id)) ?? Number(id)}`)
}

test('what rebuildctl and debian-repro-status ask is answered alike', { skip }, async (t) => {
  const { address, cookie } = await aLab(t)
  const asked = readdirSync(folder)
    .filter((name) => /^(rebuildctl|debian-repro-status)-/.test(name))
    .flatMap((name) => exchanges(capture(name)).map((exchange) => ({ name, ...exchange })))
  assert.ok(asked.length > 45, 'the captures were read')
  let found: Found | undefined // what our server told last of the package that is asked for next

  for (const { name, method, target, headers, body, status, told, answer } of asked) {
    const path = ownIds(target, found)
    await t.test(`${name}: ${method} ${target}`, async () => {
      const cookies = status === 403 ? { 'x-auth-cookie': 'wrong' } : { 'x-auth-cookie': cookie }
      const given = {
        accept: headers['accept'] ?? headers['Accept'] ?? '*/*',
        ...(headers['accept-encoding'] === undefined
          ? {}
          : { 'accept-encoding': headers['accept-encoding'] }),
        ...(headers['x-auth-cookie'] === undefined ? {} : cookies),
      }
      const typed =
        body === null ? given : { ...given, 'content-type': 'application/json', 'content-encoding': 'zstd' }
      const reply = await ask(address, method, path, {
        headers: typed,
        ...(body === null ? {} : { body: zlib.zstdCompressSync(body) }),
      })

      assert.equal(reply.status, status, reply.text)
      for (const header of headersThatMatter) {
        const theirs = told.get(header)
        const isCoding = header === 'content-encoding' && method === 'POST'
        if (theirs !== undefined)
          assert.equal(reply.headers[header], isCoding ? codingOf(reply, theirs) : theirs, header)
      }
      if (told.has('last-modified')) assert.match(reply.headers['last-modified'] ?? '', / GMT$/)
      if (status !== 200 || answer === null) return
      const ours = decoded(reply).toString()
      assert.notEqual(ours, '')
      if (!isWhole(answer)) return
      found = (JSON.parse(ours) as { records?: Found[] }).records?.[0]
      const shapes = [JSON.parse(answer) as unknown, JSON.parse(ours) as unknown].map(shapeOf)
      if (!isEmptyList(shapes[1])) assert.ok(isCovered(shapes[0], shapes[1]), JSON.stringify(shapes))
    })
  }
})

/** What is told in answer to a POST goes as it is where it fits in one packet: every client reads that, too. */
function codingOf({ bytes }: { bytes: Uint8Array }, theirs: string): string | undefined {
  return bytes.length <= 1400 ? undefined : theirs
}

const headersThatMatter = [
  'content-type',
  'content-encoding',
  'vary',
  'x-content-type-options',
  'content-security-policy',
]

type Found = { build_id: number; artifact_id: number | null }

/** The address of a build of theirs, as that of the build of ours which was found just before. */
function ownIds(target: string, found: Found | undefined): string {
  return target
    .replace(/\/builds\/\d+/, `/builds/${found?.build_id ?? 0}`)
    .replace(/\/artifacts\/\d+/, `/artifacts/${found?.artifact_id ?? 0}`)
}

function isEmptyList(shape: unknown): boolean {
  return (
    typeof shape === 'object' &&
    shape !== null &&
    'records' in shape &&
    JSON.stringify(shape.records) === '[]'
  )
}

/** A server with something of everything, and a way to ask it, for tests that go through the contract row by row. */
import assert from 'node:assert/strict'
import { test, type TestContext } from 'node:test'
import { generateSigningKey, makeLink, serialiseEnvelope, signLink } from '../../src/attestation.ts'
import { submitBuild } from '../../src/wire/builds.ts'
import {
  aPackage,
  aResult,
  anArtifact,
  anArtifactResult,
  importPackages,
  startServer,
} from '../help/server.ts'
import { popped } from './asking.ts'
import { ask, documentOf, type RawReply, type RawRequest } from './raw.ts'

export type Document = Record<string, unknown>
export type Records = { total: number; records: Document[] }
export type Stocked = Awaited<ReturnType<typeof aStockedServer>>
/** A row of the contract's tables, and what shows that it holds. */
export type Rows = Readonly<Record<string, (server: Stocked) => unknown>>

export const json = { 'content-type': 'application/json' }
/** How date-times are written: no zone, a fraction of 0, 3, 6 or 9 digits. */
export const moment = /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.(\d{3}){1,3})?$/
export const log = 'a log of some length\n'.repeat(100)

const hashed = (file: string) => ({ file, sha256: 'a'.repeat(64), sha512: 'b'.repeat(128) })

/**
 * Debian sid: good (GOOD, attested), bad (BAD, with a diff), fail (FAIL), runs, waits (in contrib, with waits-doc for
 * all, of no component). Arch Linux, which has no release: good 2, and good 1, which left.
 */
async function aStockedServer(t: TestContext) {
  const server = await startServer(t)
  const key = generateSigningKey()
  const workerKey = Buffer.from(key.publicKey).toString('base64')
  const { call } = await server.worker(workerKey, 'builder')
  const packages = ['good', 'bad', 'fail', 'runs', 'waits'].map((name) => {
    const component = name === 'waits' ? 'contrib' : 'main'
    const doc = anArtifact({ name: 'waits-doc', architecture: 'all', component: null })
    const artifacts = [anArtifact({ name, component }), ...(name === 'waits' ? [doc] : [])]
    return aPackage({ name, artifacts })
  })
  for (const count of packages.keys()) await importPackages(server.call, packages.slice(0, count + 1)) // so that ids are in this order
  for (const status of ['GOOD', 'BAD', 'FAIL'] as const) {
    const job = await popped(call)
    const artifacts = job.artifacts.map(({ name, url }) => {
      const link = makeLink({
        artifact: hashed(url.split('/').at(-1) ?? ''),
        input: hashed(job.job.url.split('/').at(-1) ?? ''),
      })
      return anArtifactResult({
        name,
        url,
        status: status === 'BAD' ? 'BAD' : 'GOOD',
        attestation: status === 'GOOD' ? serialiseEnvelope(signLink(link, key)) : null,
        diffoscope: status === 'BAD' ? new TextEncoder().encode('a diff\n') : null,
      })
    })
    const build_log = new TextEncoder().encode(log)
    await call(submitBuild, {
      body: aResult(job, { status, build_log, artifacts: status === 'FAIL' ? [] : artifacts }),
    })
  }
  const running = await popped(call)
  for (const version of ['1', '2'])
    await importPackages(server.call, [aPackage({ name: 'good', version })], {
      distribution: 'archlinux',
      release: null,
      architecture: 'x86_64',
    })

  const sent = (method: string, target: string, given: RawRequest = {}): Promise<RawReply> =>
    ask(server.address, method, target, given)
  const get = (target: string, headers: Record<string, string> = {}): Promise<RawReply> =>
    sent('GET', target, { headers })
  const document = async <T = Document>(target: string): Promise<T> => {
    const reply = await get(target)
    assert.equal(reply.status, 200, `${target}: ${reply.text}`)
    return documentOf<T>(reply)
  }
  const list = (target: string): Promise<Records> => document<Records>(target)
  /** One member of every record of a list. */
  const column = async (target: string, member = 'name'): Promise<unknown[]> =>
    (await list(target)).records.map((record) => record[member])
  const asAdmin = { 'x-auth-cookie': server.cookie }
  const asWorker = { 'x-worker-key': workerKey }
  const post = (target: string, body: unknown, headers: Record<string, string> = {}): Promise<RawReply> =>
    sent('POST', target, {
      headers: { ...json, ...headers },
      body: typeof body === 'string' ? body : JSON.stringify(body),
    })
  return { ...server, workerKey, running, sent, get, post, document, list, column, asAdmin, asWorker }
}

/** One test for each row, in their order, all of one server. */
export function testRows(part: string, rows: Rows): void {
  test(part, async (t) => {
    const server = await aStockedServer(t)
    for (const [row, holds] of Object.entries(rows)) await t.test(row, async () => void (await holds(server)))
  })
}

/** Holds a status, and of the body a text or a pattern. */
export function told(reply: RawReply, status: number, body?: string | RegExp): void {
  assert.equal(reply.status, status, reply.text)
  if (typeof body === 'string') assert.equal(reply.text, body)
  else if (body !== undefined) assert.match(reply.text, body)
}

/**
 * Holds the members of a document and their kinds, written as `name:kind`; kinds are those of JSON, `date`, and
 * `kind?` where null may stand in its place.
 */
export function hasMembers(document: unknown, members: string): void {
  assert.ok(typeof document === 'object' && document !== null)
  for (const [name = '', kind = ''] of members.split(' ').map((member) => member.split(':'))) {
    assert.ok(name in document, `has ${name}`)
    const value: unknown = (document as Document)[name]
    if (kind.endsWith('?') && value === null) continue
    const plain = kind.replace('?', '')
    if (plain === 'date') assert.match(String(value), moment, name)
    else if (plain === 'int') assert.ok(Number.isInteger(value), `${name} is an integer`)
    else if (plain === 'array') assert.ok(Array.isArray(value), `${name} is a list`)
    else assert.equal(typeof value, plain, name)
  }
}

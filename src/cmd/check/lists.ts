import { createHash, randomUUID } from 'node:crypto'
import { zstdCompressSync, zstdDecompressSync } from 'node:zlib'
import { Complaint } from '../../errors.ts'
import { statuses, statusOf, type Answer } from './answer.ts'
import { fetched, Refused, type Fetched } from './http.ts'
import type { Cache } from './cache.ts'
import { keyOf, isWord, withoutEpoch } from './installed.ts'
import { jsonElements } from './json-stream.ts'

export type ListOptions = { cache: Cache | null; signal: AbortSignal; now: () => Date }

/** Keys of packages that are asked for, and of those among them whose epochs are not told. */
type Wanted = { keys: ReadonlySet<string>; loose: ReadonlySet<string> }

type Answers = { listed: Map<string, Answer>; malformed: number }

/** Largest list in bytes: the largest archives have 100,000 packages of 500 bytes. */
const longestList = 96 * 1024 * 1024
const mostRows = 1_000_000
/** Minutes that a list is good for when its server says nothing that could be asked again. */
const minutes = 10

/**
 * The list of API v0, which every rebuilderd has, cached and asked for only if it changed; else that of API v1.
 * @returns what it says of the wanted packages of one distribution
 */
export async function listOf(
  base: string,
  distribution: string,
  wanted: Wanted,
  options: ListOptions,
): Promise<Answers> {
  const name = encodeURIComponent(distribution)
  const v0 = { url: `${base}/api/v0/pkgs/list?distro=${name}`, member: null }
  const v1 = { url: `${base}/api/v1/packages/binary?distribution=${name}&limit=-1`, member: 'records' }
  try {
    return await answersIn(await rowsOf(v0, distribution, options), v0.url, wanted, options)
  } catch (error) {
    if (!(error instanceof Refused)) throw error
    return answersIn(await rowsOf(v1, distribution, options), v1.url, wanted, options)
  }
}

/** A list as it is kept: validators, and lines of `NAME VERSION ARCHITECTURE STATUS BUILD ARTIFACT ATTESTED`. */
type Kept = Head & { rows: () => string }
type Head = {
  /** Another one for each list. */
  id: string
  etag: string | null
  lastModified: string | null
  at: number
  malformed: number
}

/** What a list says of the wanted packages. That is kept, too: the next check most likely asks for the same. */
async function answersIn(
  list: Kept,
  url: string,
  wanted: Wanted,
  { cache }: Pick<ListOptions, 'cache'>,
): Promise<Answers> {
  const { id, malformed } = list
  const question = `${url}\n${createHash('sha256')
    .update(JSON.stringify([[...wanted.keys], [...wanted.loose]]))
    .digest('hex')}`
  const text = (await cache?.read('answers', question))?.toString() ?? null
  const before = text === null ? null : (JSON.parse(text) as { id: string; listed: [string, Answer][] }) // as it is written below
  if (before?.id === id) return { listed: new Map(before.listed), malformed }
  const listed = chosen(list.rows(), wanted)
  await cache?.write('answers', question, JSON.stringify({ id, listed: [...listed] }))
  return { listed, malformed }
}

async function rowsOf(
  { url, member }: { url: string; member: string | null },
  distribution: string,
  { cache, signal, now }: ListOptions,
): Promise<Kept> {
  const kept = cache === null ? null : await keptList(cache, url)
  const isConditional = kept !== null && (kept.etag !== null || kept.lastModified !== null)
  if (kept !== null && !isConditional && now().getTime() - kept.at < minutes * 60_000) return kept
  const headers = kept === null ? {} : conditions(kept)
  const reply = await fetched(url, { headers, limit: longestList, signal })
  if (reply.status === 304 && kept !== null) {
    reply.drop()
    return kept
  }
  if (reply.status !== 200) {
    reply.drop()
    throw new Refused(reply.status)
  }
  const list = await readList(reply, member, distribution, now())
  await cache?.write('lists', url, packed(list))
  return list
}

function conditions({ etag, lastModified }: Kept): Record<string, string> {
  return {
    ...(etag === null ? {} : { 'if-none-match': etag }),
    ...(lastModified === null ? {} : { 'if-modified-since': lastModified }),
  }
}

async function readList(
  reply: Fetched,
  member: string | null,
  distribution: string,
  now: Date,
): Promise<Kept> {
  const rows: string[] = []
  let malformed = 0
  for await (const element of jsonElements(reply.chunks, member)) {
    const row = rowOf(element, distribution)
    if (row === null) malformed++
    else if (row !== '') rows.push(row)
    if (rows.length + malformed > mostRows) throw new Complaint(`the list has more than ${mostRows} packages`)
  }
  const { etag, lastModified } = reply
  const text = rows.join('\n')
  return { id: randomUUID(), etag, lastModified, at: now.getTime(), malformed, rows: () => text }
}

/** One line; empty for another distribution; null for what is no package. */
function rowOf(element: unknown, distribution: string): string | null {
  if (typeof element !== 'object' || element === null) return null
  const one = element as Readonly<Record<string, unknown>> // every member is checked below
  const { name, version, architecture, status = null } = one
  if (!isWord(name) || !isWord(version) || !isWord(architecture)) return null
  if ((one['distro'] ?? one['distribution']) !== distribution) return ''
  const word = status ?? 'UNKWN'
  if (!isWord(word)) return null
  const attested = one['has_attestation'] === true || isId(one['attestation_log_id'])
  const ids = [one['build_id'], one['artifact_id']].map((id) => (isId(id) ? id : '-'))
  return [name, version, architecture, word, ...ids, attested ? '1' : '0'].join(' ')
}

function isId(given: unknown): given is number {
  return typeof given === 'number' && Number.isSafeInteger(given) && given > 0
}

/** Of a package that several rows tell of, a GOOD one speaks, then a BAD one. */
function chosen(rows: string, { keys, loose }: Wanted): Map<string, Answer> {
  const listed = new Map<string, Answer>()
  const versions = new Map<string, string>() // of packages whose epochs are not told
  const unclear = new Set<string>()
  for (const row of rows.split('\n')) {
    const [name = '', version = '', architecture = '', word = '', build = '-', artifact = '-', attested] =
      row.split(' ')
    const exact = keyOf({ name, version, architecture })
    const key = keys.has(exact) ? exact : keyOf({ name, version: withoutEpoch(version), architecture })
    if (key !== exact && !loose.has(key)) continue
    if (!keys.has(key)) continue
    if (loose.has(key) && (versions.get(key) ?? version) !== version) unclear.add(key)
    versions.set(key, version)
    const told = statusOf(word)
    const known = listed.get(key)
    if (known !== undefined && statuses.indexOf(known.status) <= statuses.indexOf(told.status)) continue
    listed.set(key, {
      ...told,
      sha256: null,
      buildId: build === '-' ? null : Number(build),
      artifactId: artifact === '-' ? null : Number(artifact),
      hasAttestation: attested === '1',
    })
  }
  for (const key of unclear) listed.delete(key)
  return listed
}

/** The head as a line of JSON, then the rows as zstd. */
function packed({ rows, ...head }: Kept): Uint8Array {
  const plain = Buffer.from(rows())
  const line = JSON.stringify({ ...head, size: plain.length })
  return Buffer.concat([Buffer.from(`${line}\n`), zstdCompressSync(plain)])
}

/** The rows are only unpacked where they are asked for. */
async function keptList(cache: Cache, url: string): Promise<Kept | null> {
  const bytes = await cache.read('lists', url)
  if (bytes === null) return null
  const end = bytes.indexOf('\n')
  const { size, ...head } = JSON.parse(bytes.toString('utf8', 0, end)) as Head & { size: number } // written by `packed`
  const rows = (): string =>
    zstdDecompressSync(bytes.subarray(end + 1), { maxOutputLength: Math.max(size, 1) }).toString('utf8')
  return { ...head, rows }
}

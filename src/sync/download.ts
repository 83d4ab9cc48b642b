import { open, rename } from 'node:fs/promises'
import { setTimeout as sleep } from 'node:timers/promises'
import { FetchError, ofetch } from 'ofetch'
import { Complaint, sentenceOf } from '../errors.ts'
import { byTurns, hashesOf } from '../hashing.ts'
import { followEnvironmentProxies } from '../proxy.ts'
import { claimPart, type Continuable, type Part } from './part.ts'

/** What the index says of a file. */
export type Expected = { sha256: string; size: number }

/** What a server said of a file, to ask later whether it has changed. */
export type Validators = { etag: string | null; lastModified: string | null }

type DownloadOptions = {
  /** Where the file goes once it is complete and proven. */
  target: string
  expected: Expected | null
  /** Most bytes that are taken. */
  limit: number
  signal: AbortSignal
  /** Asks only for a file that differs from this one. */
  known?: Validators | null
  /** Milliseconds before the second try; doubled for each further one. */
  retryMs?: number
  /** How often it is tried where no answer comes, or none that tells. */
  mostTries?: number | undefined
  /** Milliseconds without a byte after which the mirror is given up. */
  idleMs?: number
  onProgress?: (done: number, total: number | null) => void
}

type Downloaded = { outcome: 'new'; validators: Validators } | { outcome: 'unchanged' | 'absent' }

const usualTries = 4
const longestWaitMs = 30_000

/** A trouble that may be over soon; `waitMs` is what the server asked for. */
class Hiccup extends Error {
  readonly waitMs: number

  constructor(message: string, waitMs = 0) {
    super(message)
    this.name = 'Hiccup'
    this.waitMs = waitMs
  }
}

/** No answer came, or none that tells: the server may be down. */
export class Unreachable extends Complaint {
  constructor(message: string) {
    super(message)
    this.name = 'Unreachable'
  }
}

/** The file is whole, but not the one that the index tells of: the mirror may be in the middle of an update. */
export class NotAsTold extends Complaint {
  constructor(origin: string, problem: string) {
    super(`${origin} is not what the index tells: ${problem}`, {
      hint: 'the mirror may be in the middle of an update: try again in some minutes',
    })
    this.name = 'NotAsTold'
  }
}

/**
 * Gets a file over HTTP, again and again while that may help. A download that broke off is continued, also one of an
 * earlier sync: where the index tells what the whole must be, or the server gives its versions names.
 * @throws Complaint where the server refuses, breaks off too often, or sends other bytes than expected
 */
export async function download(url: string, options: DownloadOptions): Promise<Downloaded> {
  followEnvironmentProxies()
  await using part = await claimPart(options.target)
  return await downloadTo(part, url, options)
}

async function downloadTo(part: Part, url: string, options: DownloadOptions): Promise<Downloaded> {
  const { mostTries = usualTries } = options
  for (let tries = 1; ; tries++) {
    try {
      return await downloadOnce(part, url, options)
    } catch (error) {
      if (isFullDisk(error)) await part.drop()
      options.signal.throwIfAborted()
      if (error instanceof Complaint) throw error
      if (isMistake(error))
        throw new Complaint(`${url} cannot be downloaded: ${reasonOf(error)}`, {
          hint: 'is the address right?',
        })
      if (tries >= mostTries) {
        const often = tries === 1 ? 'again' : `${tries} times`
        throw new Unreachable(`${url} cannot be downloaded: ${reasonOf(error)} (tried ${often})`)
      }
      const backoff = (options.retryMs ?? 500) * 2 ** (tries - 1) * (0.75 + Math.random() / 2)
      const asked = error instanceof Hiccup ? error.waitMs : 0
      await sleep(Math.min(Math.max(backoff, asked), longestWaitMs), undefined, { signal: options.signal })
    }
  }
}

/** Addresses that fetch asks nobody for, whenever it is tried: of a port that it is kept from, or of another protocol. */
function isMistake(error: unknown): boolean {
  if (!(error instanceof TypeError)) return false
  return error.cause instanceof Error
    ? /^(bad port|unknown scheme)$/.test(error.cause.message)
    : /URL/.test(error.message) // what cannot be made a request
}

/** fetch says "fetch failed" and hides the reason below. */
function reasonOf(error: unknown): string {
  return error instanceof Error && error.cause instanceof Error ? sentenceOf(error.cause) : sentenceOf(error)
}

/** What is left where the disk is full would only keep it full. */
function isFullDisk(error: unknown): boolean {
  return error instanceof Error && 'code' in error && (error.code === 'ENOSPC' || error.code === 'EDQUOT')
}

async function downloadOnce(part: Part, url: string, options: DownloadOptions): Promise<Downloaded> {
  const { expected, known = null } = options
  const had = await part.continuable(url, expected)
  if (expected !== null && had.size === expected.size) {
    await keepProven(part, url, options, true)
    return { outcome: 'new', validators: { etag: null, lastModified: null } }
  }
  const idle = idleLimit(options.idleMs ?? 60_000)
  try {
    const signal = AbortSignal.any([options.signal, idle.signal])
    const response = await asked(url, headersFor(had, known), signal)
    const outcome = outcomeOf(response, url)
    if (outcome !== null) {
      await response.body?.cancel()
      if (response.status === 416 || !(outcome instanceof Error)) await part.drop()
      if (outcome instanceof Error) throw outcome
      return { outcome }
    }
    const validators = validatorsOf(response)
    const from = response.status === 206 && startOf(response) === had.size ? had.size : 0
    if (from === 0) await part.begin(url, validators.etag)
    await receive(response, { part, from, url, idle, options })
    await keepProven(part, url, options, from > 0)
    return { outcome: 'new', validators }
  } finally {
    idle.end()
  }
}

/** The reply, whatever its status: which of them mean another try, and when, is for us to say. */
async function asked(url: string, headers: Record<string, string>, signal: AbortSignal): Promise<Response> {
  const ours = { retry: false, ignoreResponseError: true, responseType: 'stream' } as const
  try {
    return await ofetch.raw(url, { headers, signal, ...ours })
  } catch (error) {
    throw error instanceof FetchError ? error.cause : error // its own words are only the address once more
  }
}

/** Ends a request in which nothing moves. */
function idleLimit(ms: number) {
  const over = new AbortController()
  const timer = setTimeout(() => over.abort(new Hiccup(`nothing came for ${ms / 1000} s`)), ms)
  return { signal: over.signal, moved: () => void timer.refresh(), end: () => clearTimeout(timer) }
}

/** The bytes themselves are asked for: what a server compresses on the way has another hash. */
function headersFor(had: Continuable, known: Validators | null): Record<string, string> {
  const headers: Record<string, string> = { 'accept-encoding': 'identity', 'user-agent': 'rebuilderd' }
  if (had.size > 0) headers['range'] = `bytes=${had.size}-`
  if (had.size > 0 && had.etag !== null) headers['if-range'] = had.etag
  if (known?.etag) headers['if-none-match'] = known.etag
  else if (known?.lastModified) headers['if-modified-since'] = known.lastModified
  return headers
}

/** Null: the file follows. */
function outcomeOf(response: Response, url: string): 'unchanged' | 'absent' | Error | null {
  const { status } = response
  if (status === 200 || status === 206) return null
  if (status === 304) return 'unchanged'
  if (status === 404 || status === 410) return 'absent'
  if (status >= 500 || [408, 416, 425, 429].includes(status)) {
    const seconds = Number(response.headers.get('retry-after') ?? 0)
    return new Hiccup(`the server answers ${status}`, Number.isFinite(seconds) ? seconds * 1000 : 0)
  }
  return new Complaint(`${url} cannot be downloaded: the server answers ${status}`)
}

/** The first byte of a part, from `content-range: bytes 5-9/10`. */
function startOf(response: Response): number | null {
  const match = /^bytes (\d+)-/.exec(response.headers.get('content-range') ?? '')
  return match === null ? null : Number(match[1])
}

function validatorsOf(response: Response): Validators {
  return { etag: response.headers.get('etag'), lastModified: response.headers.get('last-modified') }
}

type Receiving = {
  part: Part
  from: number
  url: string
  idle: ReturnType<typeof idleLimit>
  options: DownloadOptions
}

async function receive(response: Response, { part, from, url, idle, options }: Receiving): Promise<void> {
  const most = Math.min(options.limit, options.expected?.size ?? Infinity)
  const length = Number(response.headers.get('content-length') ?? NaN) + from
  const total = Number.isFinite(length) ? length : (options.expected?.size ?? null)
  if (options.expected !== null && total !== options.expected.size) {
    throw new NotAsTold(url, `${total} bytes instead of ${options.expected.size}`)
  }
  const file = await open(part.path, from > 0 ? 'a' : 'w', 0o600)
  let done = from
  try {
    for await (const chunk of response.body ?? []) {
      idle.moved()
      done += chunk.length
      if (done > most) throw tooLong(url, most, options.expected !== null)
      await file.write(chunk)
      options.onProgress?.(done, total)
    }
  } finally {
    await file.close()
    if (done > most) await part.drop()
  }
  if (total !== null && done < total && options.expected === null)
    throw new Hiccup('the connection broke off')
}

function tooLong(url: string, most: number, isExpected: boolean): Complaint {
  return isExpected
    ? new NotAsTold(url, `more than ${most} bytes`)
    : new Complaint(`${url} is longer than ${most} bytes`)
}

/** Gives the file its name, if it is what the index tells. */
async function keepProven(
  part: Part,
  url: string,
  options: DownloadOptions,
  wasContinued: boolean,
): Promise<void> {
  const { expected, target } = options
  if (expected !== null) {
    const size = await part.size()
    if (size < expected.size)
      throw new Hiccup(`the connection broke off after ${size} of ${expected.size} bytes`)
    const problem = await mismatchOf(part.path, expected)
    if (problem !== null) {
      await part.drop()
      if (wasContinued) throw new Hiccup(problem)
      throw new NotAsTold(url, problem)
    }
  }
  await rename(part.path, target)
}

/** What differs between a file and what the index says of it; null: nothing. */
export async function mismatchOf(path: string, expected: Expected): Promise<string | null> {
  const file = await open(path)
  try {
    const { size } = await file.stat()
    if (size !== expected.size) return `${size} bytes instead of ${expected.size}`
    const { sha256: found } = await byTurns(hashesOf(file.fd, ['sha256']))
    return found === expected.sha256 ? null : `SHA-256 ${found} instead of ${expected.sha256}`
  } finally {
    await file.close()
  }
}

import type { IncomingMessage } from 'node:http'
import { Readable } from 'node:stream'
import { pipeline } from 'node:stream/promises'
import { promisify } from 'node:util'
import { createZstdCompress, zstdCompress, zstdCompressSync } from 'node:zlib'
import { wholeOf } from './chunks.ts'
import { Complaint } from './errors.ts'
import { printable } from './log.ts'
import {
  acceptedCodings,
  followed,
  plainBody,
  redirectStatuses,
  requested,
  whyUnreachable,
  type Asking,
} from './request.ts'
import {
  hasBody,
  isSpecial,
  type BodyOf,
  type Endpoint,
  type ParamsOf,
  type QueryOf,
  type ReplyOf,
} from './wire/endpoint.ts'
import { checked, jsonPieces } from './wire/schema.ts'

const zstd = promisify(zstdCompress)
/** Characters of a body that is compressed at once, in less time than it takes to ask another thread. */
const smallBody = 4096

type Credentials = {
  cookie?: string | undefined
  workerKey?: string | undefined
  signupSecret?: string | undefined
}

type ClientOptions = Credentials & {
  /** Where the server is: `https://rebuilder.example/amd64`. A path is kept, a slash at its end dropped. */
  base: string
  /** Milliseconds a request may take. */
  timeout?: number
  signal?: AbortSignal | undefined
}

/** What a call takes; members that the endpoint does not know are left out. */
type Given<E> = {
  params?: ParamsOf<E>
  query?: Partial<QueryOf<E>>
  body?: Sendable<BodyOf<E>>
  signal?: AbortSignal
}

/** A body whose lists may be read one by one while it is sent. */
type Sendable<T> = T extends object
  ? { [K in keyof T]: T[K] extends readonly (infer Item)[] ? Iterable<Item> : T[K] }
  : T

/** Calls endpoints of one server. */
export type Client = {
  readonly base: string
  call: <E extends Endpoint>(row: E, given?: Given<E>) => Promise<ReplyOf<E>>
  /** From now on requests as a worker carry this proof (X-Worker-Proof). */
  prove: (proof: string) => void
  /** What says which worker we are, for requests that are made elsewhere. */
  workerHeaders: () => Record<string, string>
  /** The bytes of a reply as they come, for replies larger than memory; nothing is asked for in a body. */
  chunks: (row: Endpoint) => Promise<AsyncIterable<Uint8Array>>
}

/** The server answered with a status that is no success; what it said is in `detail`. */
export class ServerSaid extends Complaint {
  readonly status: number

  constructor(status: number, message: string, hint: string | undefined) {
    super(message, { hint })
    this.name = 'ServerSaid'
    this.status = status
  }
}

/**
 * A client for one server, ours or upstream's.
 * @throws Complaint where the address is none
 */
export function openClient(options: ClientOptions): Client {
  const base = baseOf(options.base)
  let proof: string | null = null
  const workerHeaders = (): Record<string, string> => ({
    ...(options.workerKey === undefined ? {} : { 'x-worker-key': options.workerKey }),
    ...(proof === null ? {} : { 'x-worker-proof': proof }),
  })
  const headersFor = (row: Endpoint, hasContent: boolean): Record<string, string> => ({
    ...headersOf(options, row, hasContent),
    ...(isForWorkers(row) ? workerHeaders() : {}),
  })
  return {
    base,
    prove: (given) => (proof = given),
    workerHeaders,
    async call(row, given = {}) {
      const address = addressOf(base, row, given.params)
      const url = new URL(address + queryOf(given.query ?? {}))
      const body = hasBody(row) || given.body !== undefined ? await packed(given.body) : undefined
      const headers = headersFor(row, body !== undefined)
      const signal = anyOf(AbortSignal.timeout(options.timeout ?? 120_000), options.signal, given.signal)
      const response = await succeeded(base, row, url, { headers, body, signal })
      const bytes = await reached(base, signal, allOf(response))
      return readReply(row, bytes, `${row.method} ${address}`)
    },
    async chunks(row) {
      const headers = { ...headersFor(row, false), 'accept-encoding': 'identity' }
      const url = new URL(addressOf(base, row))
      const response = await succeeded(base, row, url, { headers, signal: anyOf(options.signal) })
      return chunksOf(response, base)
    },
  }
}

function anyOf(...signals: readonly (AbortSignal | undefined)[]): AbortSignal {
  return AbortSignal.any(signals.filter((one) => one !== undefined))
}

/** The reply of an endpoint, which is a success; its body is still to be read. */
async function succeeded(base: string, row: Endpoint, url: URL, asking: Asking): Promise<IncomingMessage> {
  const { headers = {}, signal } = asking
  const ask = isSecret(headers) ? requested : followed
  const response = await reached(base, signal, ask(url, { ...asking, method: row.method }))
  const { statusCode: status = 0 } = response
  if (status < 300) return response
  const said = await reached(base, signal, allOf(response))
  refuseRedirect(status, response.headers.location, base)
  throw refusalOf(status, said, base, row)
}

/** What comes of asking a server, or that it cannot be reached and why. */
async function reached<T>(base: string, signal: AbortSignal, asked: Promise<T>): Promise<T> {
  try {
    return await asked
  } catch (error) {
    throw new Complaint(`cannot reach the server at ${base} (${whyUnreachable(error, signal)})`, {
      hint: 'is it running there? `rebuilderd serve` starts one; -H names another address',
    })
  }
}

async function allOf(response: IncomingMessage): Promise<Uint8Array> {
  return wholeOf(plainBody(response))
}

async function* chunksOf(response: IncomingMessage, base: string): AsyncGenerator<Uint8Array> {
  try {
    for await (const part of plainBody(response)) yield part as Uint8Array // no encoding is set
  } catch (error) {
    throw new Complaint(`the server at ${base} broke off`, { cause: error })
  }
}

/** A body as zstd; a large one is never there as one text. */
async function packed(body: unknown): Promise<Uint8Array> {
  const pieces = jsonPieces(body)
  const [first, second] = [pieces.next(), pieces.next()]
  if (second.done === true) {
    const text = first.value ?? ''
    return text.length <= smallBody ? zstdCompressSync(text) : zstd(text)
  }
  const all = function* (): Generator<string> {
    yield first.value ?? ''
    yield second.value
    yield* pieces
  }
  return pipeline(Readable.from(all()), createZstdCompress(), (chunks: AsyncIterable<Uint8Array>) =>
    wholeOf(chunks),
  )
}

/** The address of a server without the slash at its end. */
function baseOf(given: string): string {
  if (!URL.canParse(given) || !/^https?:$/.test(new URL(given).protocol)) {
    throw new Complaint(`${given} is not an address of a server`, {
      hint: 'write it like http://127.0.0.1:8484',
      exitCode: 2,
    })
  }
  return given.replace(/\/+$/, '')
}

/** Where an endpoint is, for what is no single request: streams. */
export function addressOf(
  base: string,
  { path }: Pick<Endpoint, 'path'>,
  params: Readonly<Record<string, unknown>> = {},
): string {
  return base + path.replace(/\{(\w+)\}/g, (_, name: string) => encodeURIComponent(String(params[name])))
}

/** Query members behind a question mark; what is not given is left out. */
function queryOf(query: Readonly<Record<string, unknown>>): string {
  const given = Object.entries(query).filter(([, value]) => value !== undefined && value !== null)
  if (given.length === 0) return ''
  const texts = given.map(([name, value]) => [name, Array.isArray(value) ? value.join(',') : String(value)])
  return `?${new URLSearchParams(texts).toString()}`
}

function isForWorkers(row: Endpoint): boolean {
  return row.caller.startsWith('worker') || row.caller === 'signup'
}

/** Secrets go only where the endpoint asks for them. */
function headersOf(options: ClientOptions, row: Endpoint, hasContent: boolean): Record<string, string> {
  const headers: Record<string, string> = { 'accept-encoding': acceptedCodings, 'user-agent': 'rebuilderd' }
  const asAdmin = row.caller.endsWith('admin')
  if (hasContent) Object.assign(headers, { 'content-type': 'application/json', 'content-encoding': 'zstd' })
  if (options.cookie !== undefined && asAdmin) headers['x-auth-cookie'] = options.cookie
  if (options.signupSecret !== undefined && row.caller === 'signup')
    headers['x-signup-secret'] = options.signupSecret
  return headers
}

/** Cookies and keys, and what we say with them, go to the server that was named and to no other. */
function isSecret(headers: Readonly<Record<string, string>>): boolean {
  return Object.keys(headers).some((name) => name.startsWith('x-'))
}

function refuseRedirect(status: number, location: string | null | undefined, base: string): void {
  if (!redirectStatuses.includes(status)) return
  const target = location ?? ''
  const { origin } = URL.canParse(target, base) ? new URL(target, base) : { origin: 'no address' }
  throw new Complaint(`the server at ${base} sends us to ${printable(origin)}`, {
    hint: 'we follow nobody with our secrets: if that is the right server, name its address',
  })
}

function readReply<E extends Endpoint>(row: E, bytes: Uint8Array, what: string): ReplyOf<E> {
  const { reply } = row
  if (isSpecial(reply)) return (reply.special === 'none' ? undefined : bytes) as ReplyOf<E> // the two cases of ReplyOf
  let document: unknown
  try {
    document = bytes.length === 0 ? { affected: 0 } : JSON.parse(new TextDecoder().decode(bytes))
  } catch (error) {
    throw new Complaint(`${what}: the reply is not JSON`, {
      hint: 'is this address a rebuilderd server?',
      cause: error,
    })
  }
  return checked(reply, document, `the reply of ${what}`) as ReplyOf<E> // checked against the very schema
}

function refusalOf(status: number, body: Uint8Array, base: string, row: Endpoint): ServerSaid {
  const said = new TextDecoder().decode(body).trim().slice(0, 2000)
  const message = `${row.method} ${row.path} at ${base}: ${status}${said === '' ? '' : ` ${said}`}`
  return new ServerSaid(status, message, status === 403 ? forbidden(row) : undefined)
}

function forbidden(row: Endpoint): string {
  switch (row.caller) {
    case 'admin':
    case 'worker or admin':
      return 'the server refused our cookie: set REBUILDERD_COOKIE_PATH to its auth-cookie file, or give the cookie in the configuration'
    case 'signup':
      return 'the server refused to register us: --secret must be its --signup-secret, or its configuration must list our key'
    case 'worker':
      return 'the server does not know this worker (any more): it has to register first'
    case 'anyone':
    case 'anyone or admin':
      return 'something between us and the server refuses the request'
  }
}

import type { Context, Hono } from 'hono'
import type * as v from 'valibot'
import { Complaint, chainOf, didYouMean, explain, sentenceOf } from '../errors.ts'
import { printable, type Log } from '../log.ts'
import {
  hasBody,
  isSpecial,
  kilobytes,
  megabytes,
  type BodyOf,
  type Endpoint,
  type ParamsOf,
  type QueryOf,
  type ReplyOf,
  type Special,
} from '../wire/endpoint.ts'
import { looked, problemOf } from '../wire/schema.ts'
import type { Door, Identity } from './callers.ts'
import { parsedBody } from './body.ts'
import { bodyOf, codingFor, encodedStream } from './encoding.ts'
import { frameReply, type Frame } from './frames.ts'
import { Refusal } from './refusal.ts'
import { jsonReply, streamReply } from './replies.ts'
import { noRoom, openRooms, type BodyRoom } from './room.ts'
import { describe, isUnchanged, notModified, type Revision } from './revision.ts'

/** What a handler is given: everything is checked. */
export type Asked<E> = Identity & {
  params: ParamsOf<E>
  query: QueryOf<E>
  body: BodyOf<E>
  /** The body as it came, decoded; all there is of it where the handler checks it itself. */
  bytes: Uint8Array
  address: string
  request: Request
  context: Context
}

/** JSON text that is ready. */
export type Ready = { json: string | Uint8Array }

/** JSON text that comes in pieces, each of which is sent when it is there. */
type Pieces = { pieces: AsyncGenerator<string> }

type Answer<E> =
  | Response
  | (E extends { reply: Special }
      ? ReplyOf<E> extends undefined
        ? void
        : Frame
      : ReplyOf<E> | Ready | Pieces)

type MountOptions = {
  /** The handler checks the bytes of the body itself. */
  isRaw?: boolean
  /** What the reply depends on; callers that have this revision get 304. */
  revision?: (identity: Identity) => Promise<Revision>
}

export type Mount = <E extends Endpoint>(
  row: E,
  handle: (asked: Asked<E>) => Promise<Answer<E>>,
  options?: MountOptions,
) => void

export type Site = {
  app: Hono
  door: Door
  log: Log
  /** Largest body of endpoints that take large ones. */
  largestBody: number
  addressOf: (c: Context) => string
  /** Sees the status of every reply, and its JSON before that; tests hold them against the description of the API. */
  observe: ((row: Endpoint, status: number, json?: string) => void) | undefined
}

/** Mounts endpoints: may this caller? read the body; check; answer. */
export function mounter(site: Site): Mount {
  const roomFor = roomsByCaller()
  return (row, handle, options = {}) => {
    if (row.conditional !== (options.revision !== undefined))
      throw new Error(`${row.method} ${row.path}: the table says otherwise whether its reply has a revision`)
    const answered = async (c: Context): Promise<Response> => {
      const address = site.addressOf(c)
      const params = checkedText(row.params, c.req.param(), 404)
      const identity = await site.door.enter(row.caller, c.req.raw, address)
      if (identity.isAdmin && row.method !== 'GET') site.log.info(deed(c, address))
      const query = checkedText(row.query, singleValues(c, row), 400)
      if (row.method !== 'GET' && !isSpecial(row.reply)) codingFor(c.req.header('accept-encoding')) // before anything is done
      const room = roomFor(row)
      try {
        const bytes = await readBody(row, c, { largest: site.largestBody, room })
        const body = hasBody(row) && options.isRaw !== true ? await parsedBody(row.body, bytes) : undefined
        const revision = await options.revision?.(identity)
        if (revision !== undefined && isUnchanged(c, revision)) return notModified(c, revision)
        const asked = { ...identity, params, query, body, bytes, address, request: c.req.raw, context: c }
        const answer: unknown = await handle(asked as never) // checked against the row's own schemas just above
        if (row.method !== 'GET' && row.caller !== 'worker') site.door.forget() // it may have changed a worker
        const reply = await replyOf(c, row, answer, site.observe)
        if (revision !== undefined) describe(reply, revision)
        return reply
      } finally {
        room.sent.leave()
        room.plain.leave()
      }
    }
    site.app.on(row.method, row.path.replace(/\{(\w+)\}/g, ':$1'), async (c) => {
      try {
        const reply = await answered(c)
        site.observe?.(row, reply.status)
        return reply
      } catch (error) {
        site.observe?.(row, statusOf(error))
        throw error
      }
    })
  }
}

/** Bodies up to this size take no room of those that are bounded together. */
const small = 256 * kilobytes
/** Bytes of bodies in memory at once, as sent and unpacked: of those with a secret, and of anybody's. */
const [mostTrusted, mostOfAnyone] = [128 * megabytes, 32 * megabytes]

/** Gives each large body its room. What anybody sends does not keep workers waiting. */
function roomsByCaller(): (row: Endpoint) => BodyRoom {
  const roomsFor = (most: number): (() => BodyRoom) => {
    const [sent, plain] = [openRooms(most), openRooms(most)]
    return () => ({ sent: sent(), plain: plain() })
  }
  const [trusted, anyone] = [roomsFor(mostTrusted), roomsFor(mostOfAnyone)]
  return (row) => {
    if (!hasBody(row) || row.bodyLimit <= small) return noRoom
    return row.caller === 'anyone' ? anyone() : trusted()
  }
}

/** What somebody who holds the secret of administrators asks to change; there are no secrets in addresses. */
function deed(c: Context, address: string): string {
  const target = c.req.url.slice(c.req.url.indexOf('/', 8), 1024)
  return `administrator at ${address}: ${c.req.method} ${target}`
}

/** Each member once; what nobody here knows is ignored, however often it comes. */
function singleValues(c: Context, { query, strict }: Endpoint): Record<string, string> {
  const values: Record<string, string> = {}
  for (const [name, given] of Object.entries(c.req.queries())) {
    if (!Object.hasOwn(query.entries, name)) {
      if (strict) throw unknownFilter(name, Object.keys(query.entries))
      continue
    }
    if (given.length > 1) throw new Refusal(400, `Query deserialize error: duplicate field \`${name}\``)
    values[name] = given[0] ?? ''
  }
  return values
}

function unknownFilter(name: string, known: readonly string[]): Refusal {
  const shown = printable(name.slice(0, 64))
  const hint = didYouMean(name.slice(0, 64), known) ?? `there are ${known.join(', ')}`
  return new Refusal(400, `nothing was done: \`${shown}\` is no filter (${hint})`)
}

function checkedText(schema: v.GenericSchema, given: unknown, status: 400 | 404): unknown {
  const result = looked(schema, given)
  if (result.success) return result.output
  throw new Refusal(
    status,
    `${status === 400 ? 'Query' : 'Path'} deserialize error: ${problemOf(result.issues[0])}`,
  )
}

/** The bytes of a body; none where the endpoint takes none. */
async function readBody(
  row: Endpoint,
  c: Context,
  { largest, room }: { largest: number; room: BodyRoom },
): Promise<Uint8Array> {
  if (!hasBody(row)) return new Uint8Array(0)
  const type = c.req.header('content-type') ?? ''
  if (!/^[^/;\s]+\/([^;\s]+\+)?json\s*(;|$)/i.test(type)) throw new Refusal(400, 'Content type error')
  return bodyOf(c, Math.min(row.bodyLimit, largest), room)
}

async function replyOf(
  c: Context,
  row: Endpoint,
  answer: unknown,
  observe: Site['observe'],
): Promise<Response> {
  if (answer instanceof Response) return answer
  const { reply } = row
  // Replies hold no bytes; encodeJson, which looks at every value for some, takes four times as long.
  if (!isSpecial(reply)) {
    if (hasPieces(answer))
      return piecesReply(
        c,
        observe === undefined ? answer : observed(answer, (json) => observe(row, 200, json)),
      )
    const json = isReady(answer) ? answer.json : JSON.stringify(answer)
    observe?.(row, 200, typeof json === 'string' ? json : new TextDecoder().decode(json))
    return jsonReply(c, json)
  }
  if (reply.special === 'none') return new Response(null, { status: 204 })
  if (reply.special === 'gone') return textReply(501, '')
  return frameReply(c, reply.type, answer as Frame) // the only other answer of such endpoints
}

function isReady(answer: unknown): answer is Ready {
  return typeof answer === 'object' && answer !== null && 'json' in answer
}

function hasPieces(answer: unknown): answer is Pieces {
  return typeof answer === 'object' && answer !== null && 'pieces' in answer
}

function observed({ pieces }: Pieces, tell: (json: string) => void): Pieces {
  const all = async function* (): AsyncGenerator<string> {
    let json = ''
    for await (const piece of pieces) {
      json += piece
      yield piece
    }
    tell(json)
  }
  return { pieces: all() }
}

/** A JSON document that is sent while it is made; what goes wrong before its first piece is there is answered as usual. */
async function piecesReply(c: Context, { pieces }: Pieces): Promise<Response> {
  const coding = codingFor(c.req.header('accept-encoding'))
  const first = await pieces.next()
  const encoder = new TextEncoder()
  const all = async function* (): AsyncGenerator<Uint8Array> {
    if (first.done !== true) yield encoder.encode(first.value)
    for await (const piece of pieces) yield encoder.encode(piece)
  }
  return streamReply(encodedStream(all(), coding, 'piecewise'), coding, {
    'content-type': 'application/json',
  })
}

function refusalIn(error: unknown): Refusal | undefined {
  return chainOf(error).find((link) => link instanceof Refusal)
}

/** What an error means to a caller: a complaint is about the request, or else about what the server needs. */
function statusOf(error: unknown): number {
  const refusal = refusalIn(error)
  if (refusal !== undefined) return refusal.status
  if (error instanceof Complaint) return error.exitCode === 2 ? 400 : 503
  return 500
}

/**
 * The reply to an error. Refusals and complaints are told; anything else is our bug: the log gets all of it, the
 * caller no inner text.
 */
export function errorReply(error: unknown, log: Log, what: string): Response {
  const status = statusOf(error)
  const refusal = refusalIn(error)
  if (refusal !== undefined) return textReply(status, refusal.message)
  if (error instanceof Complaint) {
    if (status === 503) log.error(`${what}: ${sentenceOf(error)}`)
    const text = error.hint === undefined ? error.message : `${error.message} (${error.hint})`
    return textReply(status, text)
  }
  log.error(`${what}: ${explain(error)}`)
  return textReply(500, 'internal error; the log of the server tells more')
}

function textReply(status: number, text: string): Response {
  if (text === '') return new Response(null, { status, headers: { 'content-length': '0' } })
  // The length is told here, so that a reply to HEAD has it, too.
  const about = {
    'content-type': 'text/plain; charset=utf-8',
    'content-length': String(Buffer.byteLength(text)),
  }
  const headers = status === 429 || status === 503 ? { ...about, 'retry-after': '60' } : about
  return new Response(text, { status, headers })
}

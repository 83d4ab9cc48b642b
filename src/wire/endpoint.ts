import * as v from 'valibot'
import type { Shape } from './schema.ts'

/**
 * Who may call: anyone; a holder of the admin cookie; a registered worker; somebody who may register a worker.
 * `anyone or admin`: anyone, and administrators are told more.
 */
export type Caller = 'anyone' | 'anyone or admin' | 'admin' | 'worker' | 'signup' | 'worker or admin'
type Method = 'GET' | 'POST' | 'PUT' | 'DELETE'

/** A reply that is no JSON document. `none`: 204. `gone`: 501. `bytes`: the stored log, diff, attestation. `events`: server-sent events. */
export type Special = {
  readonly special: 'none' | 'gone' | 'bytes' | 'events'
  readonly type: string
  /** The bytes never change: parts of them can be asked for (Range), and they have a name (ETag). */
  readonly isKept?: true
}
const nothing = { special: 'none', type: '' } as const satisfies Special
export const gone = { special: 'gone', type: '' } as const satisfies Special
export const growingText = { special: 'bytes', type: 'text/plain; charset=utf-8' } as const satisfies Special
export const textBytes = { ...growingText, isKept: true } as const satisfies Special
export const jsonBytes = { ...textBytes, type: 'application/json; charset=utf-8' } as const satisfies Special
export const htmlBytes = { ...textBytes, type: 'text/html; charset=utf-8' } as const satisfies Special
export const eventStream = { special: 'events', type: 'text/event-stream' } as const satisfies Special

type Body = v.GenericSchema
type Fields = v.ObjectSchema<v.ObjectEntries, undefined>

export type Endpoint<
  P extends Fields = Fields,
  Q extends Fields = Fields,
  B extends Body = Body,
  R = Body | Special,
> = {
  readonly method: Method
  /** As in the address, parameters in braces: `/api/v1/queue/{id}/ping`. */
  readonly path: string
  readonly doc: string
  readonly caller: Caller
  readonly params: P
  readonly query: Q
  readonly body: B
  readonly reply: R
  /** The largest body accepted, in bytes, both as sent and decoded. */
  readonly bodyLimit: number
  /** The reply tells its revision (ETag, Last-Modified); whoever has that one already gets 304. */
  readonly conditional: boolean
  /** Statuses of refusals that the rest of the row does not tell of. */
  readonly refusals: readonly (404 | 409 | 413 | 429)[]
  /** A query member that is not known is refused: without it more would be done than was meant. */
  readonly strict: boolean
  /** Upstream's servers know it too; false for what only ours has. */
  readonly upstream: boolean
}

export type ParamsOf<E> = E extends Endpoint<infer P, infer _Q, infer _B, infer _R> ? Shape<P> : never
export type QueryOf<E> = E extends Endpoint<infer _P, infer Q, infer _B, infer _R> ? Shape<Q> : never
export type BodyOf<E> = E extends Endpoint<infer _P, infer _Q, infer B, infer _R> ? Shape<B> : never
export type ReplyOf<E> =
  E extends Endpoint<infer _P, infer _Q, infer _B, infer R>
    ? R extends Body
      ? Shape<R>
      : R extends { special: 'none' | 'gone' }
        ? undefined
        : Uint8Array
    : never

export const kilobytes = 1024
export const megabytes = 1024 * kilobytes

const none = v.object({})
const noBody = v.unknown()

/** Says one row of the HTTP contract; the server mounts it, clients call it, OpenAPI prints it. */
export function endpoint<
  P extends Fields = typeof none,
  Q extends Fields = typeof none,
  B extends Body = typeof noBody,
  const R extends Body | Special = typeof nothing,
>(
  method: Method,
  path: string,
  row: {
    doc: string
    caller?: Caller
    params?: P
    query?: Q
    body?: B
    reply?: R
    bodyLimit?: number
    conditional?: boolean
    refusals?: Endpoint['refusals']
    strict?: boolean
    upstream?: boolean
  },
): Endpoint<P, Q, B, R> {
  return {
    method,
    path,
    doc: row.doc,
    caller: row.caller ?? 'anyone',
    params: row.params ?? (none as unknown as P), // the defaults of the type parameters are these very values
    query: row.query ?? (none as unknown as Q),
    body: row.body ?? (noBody as unknown as B),
    reply: row.reply ?? (nothing as unknown as R),
    bodyLimit: row.bodyLimit ?? 64 * kilobytes,
    conditional: row.conditional ?? false,
    refusals: row.refusals ?? [],
    strict: row.strict ?? false,
    upstream: row.upstream ?? true,
  }
}

/** Whether callers send a JSON body. */
export function hasBody(row: { readonly body: Body }): boolean {
  return row.body !== (noBody as Body)
}

/** Whether a reply is bytes or nothing, and not JSON of a schema. */
export function isSpecial(reply: Body | Special): reply is Special {
  return 'special' in reply
}

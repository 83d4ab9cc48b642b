import * as v from 'valibot'
import { IdPath, TextOrNull, pageOf, pageQuery } from './common.ts'
import { endpoint } from './endpoint.ts'
import { Count, DateTime, Id, Signature, orNull, text, type Shape } from './schema.ts'

/** What a machine has left: bytes of disk for builds and of memory, and the load of the last minute. */
export const Free = v.object({
  disk_free: Count,
  memory_free: Count,
  load: v.pipe(v.number(), v.minValue(0)),
  /** Bytes of disk without which it takes no job. */
  disk_wanted: v.optional(Count),
})
export type Free = Shape<typeof Free>

export const Worker = v.object({
  id: Id,
  name: v.string(),
  /** For the holder of the admin cookie; others read the empty text. */
  address: v.string(),
  status: TextOrNull,
  last_ping: DateTime,
  is_online: v.boolean(),
  tags: v.optional(v.array(v.string()), []),
  /** It finishes its job and gets no other. */
  draining: v.optional(v.boolean(), false),
  /** It proved to hold its key, and its reports are signed. */
  proven: v.optional(v.boolean(), false),
  /** As its last ping told. */
  free: orNull(Free),
})
export type Worker = Shape<typeof Worker>

export const RegisterRequest = v.object({
  name: text(256),
  /** What this machine can do: jobs that need tags go only to workers that have them all. */
  tags: v.optional(v.pipe(v.array(text(64)), v.maxLength(64)), []),
  /** Ours only: the answer to a challenge, signed with the worker's key. */
  proof: v.optional(v.object({ nonce: text(256), signature: Signature })),
})
export type RegisterRequest = Shape<typeof RegisterRequest>

export const getChallenge = endpoint('GET', '/api/v1/workers/challenge', {
  doc: 'A nonce and a session for the key of the X-Worker-Key header, to be signed: the one is sent with the registration, the other in X-Worker-Proof with every request.',
  caller: 'signup',
  reply: v.object({
    nonce: text(256),
    /** To be signed, and shown in the X-Worker-Proof header of every request from then on. */
    session: v.optional(text(256)),
  }),
  upstream: false,
})

export const listWorkers = endpoint('GET', '/api/v1/workers', {
  doc: 'The workers and what they do; with the admin cookie also their addresses.',
  conditional: true,
  caller: 'anyone or admin',
  query: v.object(pageQuery),
  reply: pageOf(Worker),
})

export const getWorker = endpoint('GET', '/api/v1/workers/{id}', {
  doc: 'One worker; with the admin cookie also its address.',
  conditional: true,
  caller: 'anyone or admin',
  params: IdPath,
  reply: Worker,
})

export const registerWorker = endpoint('POST', '/api/v1/workers', {
  doc: 'Make the key of the X-Worker-Key header known under a name; again: give it a new name.',
  caller: 'signup',
  body: RegisterRequest,
})

export const removeWorker = endpoint('DELETE', '/api/v1/workers/{id}', {
  doc: 'Forget a worker: the admin any of them, a worker itself. With forget_key=true (admin) also that its key was proven.',
  caller: 'worker or admin',
  params: IdPath,
  query: v.object({ forget_key: v.optional(v.picklist(['true', 'false'])) }),
})

export const drainWorker = endpoint('PUT', '/api/v1/workers/{id}', {
  doc: 'Let a worker drain (finish its job and get no other), or work again.',
  caller: 'admin',
  params: IdPath,
  body: v.object({ draining: v.boolean() }),
  upstream: false,
})

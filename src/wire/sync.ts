import * as v from 'valibot'
import { TextOrNull } from './common.ts'
import { endpoint } from './endpoint.ts'
import { IndexTrust } from './packages.ts'
import { Count, DateTime, orNull, text, type Shape } from './schema.ts'

/** How it stands with one sync that the server runs by itself. */
export const SyncState = v.object({
  name: text(256),
  state: v.picklist(['waiting', 'running']),
  /** Seconds between two runs. */
  every: Count,
  started_at: orNull(DateTime),
  ended_at: orNull(DateTime),
  /** When the whole archive was last read without trouble, changed or not. */
  checked_at: v.optional(orNull(DateTime), null),
  /** When it last listed something else than before. */
  changed_at: v.optional(orNull(DateTime), null),
  next_at: orNull(DateTime),
  /** Reports that the last run sent. */
  reports: Count,
  /** Reports that the server has already, so that nothing was sent. */
  unchanged: v.optional(Count, 0),
  /** Jobs that the last run queued. */
  queued: v.optional(Count, 0),
  /** What went wrong in the last run; null: nothing did. */
  error: orNull(text(4096)),
})
export type SyncState = Shape<typeof SyncState>

export const listSyncs = endpoint('GET', '/api/v1/sync', {
  doc: 'The syncs that this server runs by itself: when they ran, how they ended, when they run next.',
  conditional: true,
  reply: v.array(SyncState),
  upstream: false,
})

export const writeSync = endpoint('PUT', '/api/v1/sync/{name}', {
  doc: 'Note how it stands with a sync.',
  caller: 'admin',
  params: v.object({ name: text(256) }),
  body: SyncState,
  upstream: false,
})

export const forgetSync = endpoint('DELETE', '/api/v1/sync/{name}', {
  doc: 'Forget a sync that the configuration no longer has.',
  caller: 'admin',
  params: v.object({ name: text(256) }),
  upstream: false,
})

/** What the last import of one release and architecture did. Packages are binary ones. */
export const Scope = v.object({
  distribution: v.string(),
  release: TextOrNull,
  architecture: v.string(),
  imported_at: DateTime,
  /** When a client last had the same list; null: never since its import. */
  checked_at: orNull(DateTime),
  /** When an import last changed something. */
  changed_at: orNull(DateTime),
  /** Build inputs that the report listed. */
  listed: Count,
  added: Count,
  gone: Count,
  queued: Count,
  index: IndexTrust,
  /** SHA-256 of the report; null where its import did not end. */
  digest: TextOrNull,
})
export type Scope = Shape<typeof Scope>

export const listScopes = endpoint('GET', '/api/v1/scopes', {
  doc: 'What was imported last for each release and architecture, and the digest by which a client knows that it has nothing new to send.',
  conditional: true,
  query: v.object({ distribution: v.optional(text()) }),
  reply: v.array(Scope),
  upstream: false,
})

/** A report that a client has and need not send. */
const Confirmation = v.object({
  distribution: text(),
  release: orNull(text()),
  architecture: text(),
  /** SHA-256 of the report, as in the list of scopes. */
  digest: text(64),
})

export const confirmScope = endpoint('POST', '/api/v1/scopes', {
  doc: 'What a release and architecture list is still the report of this digest: note that it was checked, and queue what should have a job and has none. known=false: the server does not have that report.',
  caller: 'admin',
  body: Confirmation,
  reply: v.object({ known: v.boolean(), queued: Count }),
  upstream: false,
})

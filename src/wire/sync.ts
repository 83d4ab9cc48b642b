import * as v from 'valibot'
import { endpoint } from './endpoint.ts'
import { Count, DateTime, orNull, text, type Shape } from './schema.ts'

/** How it stands with one sync that the server runs by itself. */
export const SyncState = v.object({
  name: text(256),
  state: v.picklist(['waiting', 'running']),
  /** Seconds between two runs. */
  every: Count,
  started_at: orNull(DateTime),
  ended_at: orNull(DateTime),
  next_at: orNull(DateTime),
  /** Reports that the last run sent. */
  reports: Count,
  /** What went wrong in the last run; null: nothing did. */
  error: orNull(text(4096)),
})
export type SyncState = Shape<typeof SyncState>

export const listSyncs = endpoint('GET', '/api/v1/sync', {
  doc: 'The syncs that this server runs by itself: when they ran, how they ended, when they run next.',
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

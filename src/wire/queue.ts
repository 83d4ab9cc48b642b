import * as v from 'valibot'
import {
  BuildStatus,
  IdPath,
  TextOrNull,
  originQuery,
  ourFilters,
  pageOf,
  pageQuery,
  sourceIdentityQuery,
} from './common.ts'
import { endpoint, megabytes, growingText } from './endpoint.ts'
import { Sha256 } from './packages.ts'
import { Reason } from './reasons.ts'
import { Count, DateTime, Id, Int32, orNull, text, type Shape } from './schema.ts'
import { Free } from './workers.ts'

export const QueuedJob = v.object({
  id: Id,
  name: v.string(),
  version: v.string(),
  distribution: v.string(),
  release: TextOrNull,
  architecture: v.string(),
  backend: v.string(),
  url: v.string(),
  /** null: due at once */
  next_retry: v.nullable(DateTime),
  priority: Int32,
  queued_at: DateTime,
  /** null: not running */
  started_at: v.nullable(DateTime),
  /** Name of the worker that holds it. */
  worker: orNull(v.string()),
  /** Why the last attempt was not GOOD. */
  reason: orNull(Reason),
})
export type QueuedJob = Shape<typeof QueuedJob>

export const JobArtifact = v.object({
  name: v.string(),
  version: v.string(),
  architecture: v.string(),
  url: v.string(),
  sha256: orNull(Sha256),
  size: orNull(Count),
})
export type JobArtifact = Shape<typeof JobArtifact>

export const Assignment = v.object({
  job: QueuedJob,
  artifacts: v.array(JobArtifact),
  /** Ours only: names this handing-out; goes back with pings and the report. */
  lease: orNull(v.string()),
})
export type Assignment = Shape<typeof Assignment>

/** The JSON string `"Nothing"`, or an object with the single member `Rebuild`. */
export const JobAssignment = v.union([v.literal('Nothing'), v.object({ Rebuild: Assignment })])
export type JobAssignment = Shape<typeof JobAssignment>

export const PopRequest = v.object({
  supported_backends: v.array(text(256)),
  architecture: text(256),
  supported_architectures: v.array(text(256)),
  /**
   * Ours only: a name that the worker gives to this handing-out, never used before. Asked again under the same name,
   * the server answers with the same job: a reply that was lost on its way costs nobody anything.
   */
  lease: v.optional(v.pipe(v.string(), v.uuid())),
  /** Ours only: what the worker's machine has left, told now and then. */
  free: v.optional(Free),
})
export type PopRequest = Shape<typeof PopRequest>

export const RebuildRequest = v.object({
  distribution: orNull(text()),
  release: orNull(text()),
  component: orNull(text()),
  name: orNull(text()),
  version: orNull(text()),
  architecture: orNull(text()),
  status: orNull(BuildStatus),
  priority: orNull(Int32),
  /** Ours only: those whose latest attempt ended with this reason. */
  reason: orNull(Reason),
})
export type RebuildRequest = Shape<typeof RebuildRequest>

export const Affected = v.object({ affected: Count })

export const listQueue = endpoint('GET', '/api/v1/queue', {
  doc: 'Jobs, running and waiting, due or not.',
  conditional: true,
  query: v.object({
    ...pageQuery,
    ...originQuery,
    ...sourceIdentityQuery,
    releases: ourFilters.releases,
  }),
  reply: pageOf(QueuedJob),
})

export const getJob = endpoint('GET', '/api/v1/queue/{id}', {
  doc: 'One job.',
  conditional: true,
  params: IdPath,
  reply: QueuedJob,
})

export const requestRebuild = endpoint('POST', '/api/v1/queue', {
  doc: 'Rebuild what matches now, ahead of what waits. Counts the build inputs that matched.',
  caller: 'admin',
  body: RebuildRequest,
  reply: Affected,
})

export const dropJobs = endpoint('DELETE', '/api/v1/queue', {
  doc: 'Drop the jobs that match; without a filter the whole queue. Running jobs are told to stop. A filter that is not known is refused.',
  caller: 'admin',
  strict: true,
  query: v.object({ ...originQuery, ...sourceIdentityQuery }),
})

export const dropJob = endpoint('DELETE', '/api/v1/queue/{id}', {
  doc: 'Drop one job.',
  caller: 'admin',
  params: IdPath,
})

export const popQueue = endpoint('POST', '/api/v1/queue/pop', {
  doc: 'Hand this worker the job that should be rebuilt next.',
  caller: 'worker',
  body: PopRequest,
  reply: JobAssignment,
})

export const pingJob = endpoint('POST', '/api/v1/queue/{id}/ping', {
  doc: 'The worker still works on this job. 404: it is no longer its job, and it should stop.',
  refusals: [413],
  caller: 'worker',
  params: IdPath,
})

/** Where to go on reading a log that grows, in bytes. */
export const logQuery = {
  offset: v.optional(v.pipe(v.string(), v.regex(/^\d{1,15}$/), v.transform(Number))),
  follow: v.optional(v.picklist(['0', '1'])),
}

export const watchLog = endpoint('GET', '/api/v1/queue/{id}/log', {
  doc: 'The log of a running job so far; with follow=1 as server-sent events while it grows.',
  refusals: [413, 429],
  params: IdPath,
  query: v.object(logQuery),
  reply: growingText,
  upstream: false,
})

export const appendLog = endpoint('POST', '/api/v1/queue/{id}/log', {
  doc: 'The next piece of the log of a running job, at a byte offset, so that it can be watched.',
  refusals: [409, 413],
  caller: 'worker',
  params: IdPath,
  query: v.object({ offset: v.pipe(v.string(), v.regex(/^\d{1,15}$/), v.transform(Number)) }),
  bodyLimit: 2 * megabytes,
  upstream: false,
})

/** `paused`: nothing is handed out; what runs goes on. */
export const QueueControl = v.object({
  paused: v.boolean(),
  since: orNull(DateTime),
  note: orNull(text(1024)),
})

export const getQueueControl = endpoint('GET', '/api/v1/queue/control', {
  doc: 'Whether the queue is paused, since when and why.',
  conditional: true,
  reply: QueueControl,
  upstream: false,
})

export const setQueueControl = endpoint('PUT', '/api/v1/queue/control', {
  doc: 'Pause the queue or let it go on.',
  caller: 'admin',
  body: v.object({ paused: v.boolean(), note: orNull(text(1024)) }),
  upstream: false,
})

/** What becomes of one build input next. */
export const Outlook = v.object({
  name: v.string(),
  version: v.string(),
  distribution: v.string(),
  release: TextOrNull,
  architecture: v.string(),
  /** As the index names it. */
  maintainer: v.optional(TextOrNull, null),
  /** Where the build input is. */
  url: v.optional(v.string(), ''),
  status: v.nullable(BuildStatus),
  reason: v.nullable(Reason),
  decided_at: v.nullable(DateTime),
  seen_in_last_sync: v.boolean(),
  /** `unsigned`: the index that lists it was taken on trust. Null: not told. */
  index: v.optional(v.nullable(v.picklist(['signed', 'unsigned'])), null),
  retries: Count,
  infrastructure_retries: Count,
  max_retries: v.nullable(Count),
  job: v.nullable(QueuedJob),
  /** Jobs that are handed out before this one; null where it does not wait for its turn. */
  ahead: v.nullable(Count),
  /** Tags that its worker needs. */
  requires: v.array(v.string()),
  /** How many workers are online that could take it. */
  able_workers: Count,
  paused: v.boolean(),
})
export type Outlook = Shape<typeof Outlook>

export const explainPackage = endpoint('GET', '/api/v1/queue/why', {
  doc: 'Why a source package is queued, waits, runs or fails, and what happens next.',
  conditional: true,
  query: v.object({ ...originQuery, ...sourceIdentityQuery, name: text() }),
  reply: v.array(Outlook),
  upstream: false,
})

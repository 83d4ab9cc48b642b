/** API v0: what clients from before 2026 read. Nothing is written through it any more. */
import * as v from 'valibot'
import { ArtifactStatus, IdOrNull, IdPath, TextOrNull } from './common.ts'
import { endpoint, gone, jsonBytes, textBytes } from './endpoint.ts'
import { PublicKeys } from './meta.ts'
import { Count, DateTime, Id, Int32, orNull, text, type Shape } from './schema.ts'

export const PackageV0 = v.object({
  name: v.string(),
  version: v.string(),
  status: ArtifactStatus,
  distro: v.string(),
  suite: v.string(),
  architecture: v.string(),
  artifact_url: v.string(),
  build_id: IdOrNull,
  built_at: v.nullable(DateTime),
  has_diffoscope: v.boolean(),
  has_attestation: v.boolean(),
})

export const listPackagesV0 = endpoint('GET', '/api/v0/pkgs/list', {
  doc: 'Binary packages that are listed, or were in the last 90 days, with their verdict.',
  conditional: true,
  query: v.object({
    name: v.optional(text()),
    status: v.optional(ArtifactStatus),
    distro: v.optional(text()),
    suite: v.optional(text()),
    architecture: v.optional(text()),
  }),
  reply: v.array(PackageV0),
})

const GroupV0 = v.object({
  name: v.string(),
  version: v.string(),
  distro: v.string(),
  suite: v.string(),
  architecture: v.string(),
  input_url: TextOrNull,
  artifacts: v.array(v.object({ name: v.string(), version: v.string(), url: v.string() })),
})

export const QueueItemV0 = v.object({
  id: Id,
  pkgbase: GroupV0,
  version: v.string(),
  queued_at: DateTime,
  worker_id: IdOrNull,
  started_at: v.nullable(DateTime),
  last_ping: v.nullable(DateTime),
})
export type QueueItemV0 = Shape<typeof QueueItemV0>

export const listQueueV0 = endpoint('POST', '/api/v0/queue/list', {
  doc: 'Jobs in the order they will run.',
  body: v.object({ limit: orNull(Int32) }),
  reply: v.object({ now: DateTime, queue: v.array(QueueItemV0) }),
})

export const getDashboardV0 = endpoint('GET', '/api/v0/dashboard', {
  doc: 'Verdicts by component, what is built now, and how much waits.',
  reply: v.object({
    suites: v.record(v.string(), v.object({ good: Count, unknown: Count, bad: Count })),
    active_builds: v.array(QueueItemV0),
    queue_length: Count,
    now: DateTime,
  }),
})

export const getLogV0 = endpoint('GET', '/api/v0/builds/{id}/log', {
  doc: 'The log of a build.',
  params: IdPath,
  reply: textBytes,
})
export const getDiffoscopeV0 = endpoint('GET', '/api/v0/builds/{id}/diffoscope', {
  doc: 'The first diff of a build.',
  params: IdPath,
  reply: textBytes,
})
export const getAttestationV0 = endpoint('GET', '/api/v0/builds/{id}/attestation', {
  doc: 'The first attestation of a build.',
  params: IdPath,
  reply: jsonBytes,
})
export const getPublicKeysV0 = endpoint('GET', '/api/v0/public-keys', {
  doc: 'As in v1.',
  conditional: true,
  reply: PublicKeys,
})

export const listWorkersV0 = endpoint('GET', '/api/v0/workers', {
  doc: 'Workers that are online, without their keys.',
  caller: 'admin',
  reply: v.array(
    v.object({
      id: Id,
      name: v.string(),
      addr: v.string(),
      address: v.string(),
      status: TextOrNull,
      last_ping: DateTime,
      online: v.boolean(),
    }),
  ),
})

const doc = 'Gone with API v0: answers 501. Use API v1.'
const words = v.string()

/** Routes that wrote; each reads its body, and answers 501. */
export const writesV0 = [
  endpoint('POST', '/api/v0/pkgs/sync', {
    doc,
    reply: gone,
    body: v.object({ distro: words, suite: words, groups: v.array(v.unknown()) }),
  }),
  endpoint('POST', '/api/v0/queue/push', {
    doc,
    reply: gone,
    body: v.object({ name: words, priority: Int32, distro: words, suite: words }),
  }),
  endpoint('POST', '/api/v0/queue/pop', {
    doc,
    reply: gone,
    body: v.object({ supported_backends: v.array(words) }),
  }),
  endpoint('POST', '/api/v0/queue/drop', {
    doc,
    reply: gone,
    body: v.object({ name: words, distro: words, suite: words }),
  }),
  endpoint('POST', '/api/v0/pkg/requeue', {
    doc,
    reply: gone,
    body: v.object({ priority: Int32, reset: v.boolean() }),
  }),
  endpoint('POST', '/api/v0/build/ping', { doc, reply: gone, body: v.object({ queue_id: Int32 }) }),
  endpoint('POST', '/api/v0/build/report', {
    doc,
    reply: gone,
    body: v.object({ queue: v.unknown(), build_log: v.unknown(), rebuilds: v.array(v.unknown()) }),
  }),
] as const

import * as v from 'valibot'
import {
  ArtifactStatus,
  BuildStatus,
  IdPath,
  TextOrNull,
  originQuery,
  ourFilters,
  pageOf,
  pageQuery,
  sourceIdentityQuery,
} from './common.ts'
import { endpoint, htmlBytes, jsonBytes, megabytes, textBytes } from './endpoint.ts'
import { IndexTrust, Sha256 } from './packages.ts'
import { logQuery } from './queue.ts'
import { Reason } from './reasons.ts'
import { Bytes, Count, DateTime, Id, Int32, Signature, orNull, text, type Shape } from './schema.ts'

/** What a verdict rests on: how and with what the rebuild was made. */
export const Evidence = v.object({
  backend: orNull(text(256)),
  /**
   * SHA-256 of the backend's script; of one that comes with the worker, over all of its files, as
   * `rebuilderd worker backends --json` tells it.
   */
  backend_digest: orNull(Sha256),
  exit_code: orNull(Int32),
  /** Seconds the backend ran. */
  seconds: orNull(v.number()),
  /** `namespaces` or `none`: whether the build was kept away from the originals and the network. */
  isolation: orNull(text(64)),
  /** One sentence more than the reason says. */
  note: orNull(text(4096)),
  /** Packages of the build environment as `name=version`. */
  environment: v.optional(v.pipe(v.array(text(256)), v.maxLength(20000)), []),
  /** What could not be had in the recorded version. */
  missing: v.optional(v.pipe(v.array(text(256)), v.maxLength(20000)), []),
  /** What made it fail may pass soon: retried as if the infrastructure were to blame. */
  temporary: v.optional(v.boolean(), false),
})
export type Evidence = Shape<typeof Evidence>

/** What is known before anything was done. */
export function noEvidence(backend: string | null): Evidence {
  return {
    backend,
    backend_digest: null,
    exit_code: null,
    seconds: null,
    isolation: null,
    note: null,
    environment: [],
    missing: [],
    temporary: false,
  }
}

export const Rebuild = v.object({
  id: Id,
  name: v.string(),
  version: v.string(),
  distribution: v.string(),
  release: TextOrNull,
  architecture: v.string(),
  backend: v.string(),
  retries: Int32,
  started_at: v.nullable(DateTime),
  built_at: v.nullable(DateTime),
  status: v.nullable(BuildStatus),
  reason: orNull(Reason),
  worker: orNull(v.string()),
  decided_at: orNull(DateTime),
})
export type Rebuild = Shape<typeof Rebuild>

/** One rebuild with its evidence. */
export const RebuildDetails = v.object({ ...Rebuild.entries, evidence: orNull(Evidence), index: IndexTrust })
export type RebuildDetails = Shape<typeof RebuildDetails>

/** What was compared. Sizes in bytes; `first_difference` is the offset of the first byte that differs. */
const comparison = {
  sha256: orNull(Sha256),
  size: orNull(Count),
  rebuilt_sha256: orNull(Sha256),
  rebuilt_size: orNull(Count),
  first_difference: orNull(Count),
  reason: orNull(Reason),
}

export const RebuildArtifact = v.object({
  id: Id,
  name: v.string(),
  has_diffoscope: v.boolean(),
  /** Ours: diffoscope's HTML page is kept beside its text. */
  has_diffoscope_html: v.optional(v.boolean(), false),
  has_attestation: v.boolean(),
  status: v.nullable(ArtifactStatus),
  url: orNull(v.string()),
  ...comparison,
})
export type RebuildArtifact = Shape<typeof RebuildArtifact>

export const ReportArtifact = v.object({
  name: text(),
  diffoscope: orNull(Bytes),
  attestation: orNull(Bytes),
  status: ArtifactStatus,
  /** Ours: diffoscope's page of the same differences. */
  diffoscope_html: v.optional(Bytes),
  /** Ours: which of the job's files, where names alone do not tell. */
  url: orNull(text(4096)),
  ...comparison,
})
export type ReportArtifact = Shape<typeof ReportArtifact>

export const RebuildReport = v.object({
  queue_id: Id,
  built_at: DateTime,
  build_log: Bytes,
  status: BuildStatus,
  artifacts: v.array(ReportArtifact),
  lease: orNull(text(128)),
  reason: orNull(Reason),
  evidence: orNull(Evidence),
  /** Ours only: the worker's signature of what the verdict rests on. */
  signature: v.optional(Signature),
})
export type RebuildReport = Shape<typeof RebuildReport>

/** Whether a worker that was told to stop gives a job back undone; one that was killed over it leaves `temporary` off. */
export function isHandedBack({ status, reason, evidence }: RebuildReport): boolean {
  return status === 'FAIL' && reason === 'worker_lost' && evidence?.temporary === true
}

const ArtifactPath = v.object({ ...IdPath.entries, artifact_id: IdPath.entries.id })

export const listBuilds = endpoint('GET', '/api/v1/builds', {
  doc: 'Finished rebuilds, every attempt.',
  conditional: true,
  query: v.object({
    ...pageQuery,
    ...originQuery,
    ...sourceIdentityQuery,
    status: ourFilters.status,
    reason: ourFilters.reason,
    releases: ourFilters.releases,
    since: ourFilters.since,
  }),
  reply: pageOf(Rebuild),
})

export const submitBuild = endpoint('POST', '/api/v1/builds', {
  doc: 'The result of a job. The same report again gets the same answer.',
  refusals: [404],
  caller: 'worker',
  body: RebuildReport,
  bodyLimit: 1024 * megabytes,
})

export const getBuild = endpoint('GET', '/api/v1/builds/{id}', {
  doc: 'One rebuild with its evidence.',
  conditional: true,
  params: IdPath,
  reply: RebuildDetails,
})

export const getBuildLog = endpoint('GET', '/api/v1/builds/{id}/log', {
  doc: 'The log of a rebuild; with follow=1 as server-sent events, as that of a running job.',
  refusals: [413, 429],
  params: IdPath,
  query: v.object(logQuery),
  reply: textBytes,
})

export const listArtifacts = endpoint('GET', '/api/v1/builds/{id}/artifacts', {
  doc: 'What a rebuild compared.',
  conditional: true,
  params: IdPath,
  reply: v.array(RebuildArtifact),
})

export const getArtifact = endpoint('GET', '/api/v1/builds/{id}/artifacts/{artifact_id}', {
  doc: 'One artifact of a rebuild.',
  conditional: true,
  params: ArtifactPath,
  reply: RebuildArtifact,
})

export const getDiffoscope = endpoint('GET', '/api/v1/builds/{id}/artifacts/{artifact_id}/diffoscope', {
  doc: 'The diff of an artifact.',
  params: ArtifactPath,
  reply: textBytes,
})

export const getDiffoscopeHtml = endpoint(
  'GET',
  '/api/v1/builds/{id}/artifacts/{artifact_id}/diffoscope.html',
  {
    doc: 'The diff of an artifact as HTML, where the worker made it: nothing in it runs or loads anything.',
    params: ArtifactPath,
    reply: htmlBytes,
    upstream: false,
  },
)

export const getAttestation = endpoint('GET', '/api/v1/builds/{id}/artifacts/{artifact_id}/attestation', {
  doc: 'The in-toto attestation of an artifact, signed by worker and server.',
  params: ArtifactPath,
  reply: jsonBytes,
})

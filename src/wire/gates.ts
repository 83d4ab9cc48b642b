/** What migration gates and status tools ask for: many packages at once, the whole of a distribution, what changes. */
import * as v from 'valibot'
import { BuildStatus, IdOrNull, TextOrNull } from './common.ts'
import { endpoint, eventStream, kilobytes, megabytes } from './endpoint.ts'
import { PublicKeys } from './meta.ts'
import { IndexTrust } from './packages.ts'
import { Reason } from './reasons.ts'
import { Count, DateTime, Id, NamesText, text, type Shape } from './schema.ts'

/** Most packages of one look-up. */
export const longestLookup = 10_000

/** Most attestations that come with one look-up, and most bytes of them; the rest is had by `getAttestations`. */
export const mostInline = 5000
export const longestInline = 16 * megabytes

const Wanted = v.object({
  distribution: text(),
  name: text(),
  version: text(),
  architecture: text(),
  /** The caller has its attestation: leave it out. */
  proven: v.optional(v.boolean()),
  /** The version is without its epoch, which the caller does not know: found only if one alone fits. */
  any_epoch: v.optional(v.boolean()),
})

export const LookupRequest = v.object({
  packages: v.pipe(v.array(Wanted), v.maxLength(longestLookup, `at most ${longestLookup} packages at once`)),
  /** What else the reply should carry. Servers that know more words or fewer answer as well. */
  with: v.optional(v.pipe(v.array(text(64)), v.maxLength(16))),
})

/** An in-toto link with its signatures, as it was stored. */
const Attestation = v.record(v.string(), v.unknown())

export const Found = v.object({
  /** null: not known here */
  status: v.nullable(v.picklist(['GOOD', 'BAD', 'FAIL', 'UNKWN'])),
  reason: v.nullable(Reason),
  release: TextOrNull,
  sha256: TextOrNull,
  size: v.nullable(Count),
  build_id: IdOrNull,
  artifact_id: IdOrNull,
  has_attestation: v.boolean(),
  decided_at: v.nullable(DateTime),
  index: IndexTrust,
  /** with "attestations", of what is GOOD: null where there is none; left out where the reply would grow too long */
  attestation: v.optional(v.nullable(Attestation)),
})
export type Found = Shape<typeof Found>

export const lookupPackages = endpoint('POST', '/api/v1/packages/lookup', {
  doc: 'The verdicts of many binary packages at once, in the order asked; null for those not known here. `"with": ["attestations", "keys"]` adds the attestations of GOOD ones and the public keys.',
  body: LookupRequest,
  bodyLimit: 8 * megabytes,
  reply: v.object({ records: v.array(v.nullable(Found)), public_keys: v.optional(PublicKeys) }),
  upstream: false,
})

/** Most attestations of one request. */
export const mostAttestations = 1000

export const AttestationsRequest = v.object({
  attestations: v.pipe(
    v.array(v.object({ build_id: Id, artifact_id: Id })),
    v.maxLength(mostAttestations, `at most ${mostAttestations} attestations at once`),
  ),
})

export const getAttestations = endpoint('POST', '/api/v1/attestations', {
  doc: 'Many in-toto attestations at once, in the order asked; null where there is none, or one of over 64 kB.',
  body: AttestationsRequest,
  reply: v.object({ records: v.array(v.nullable(Attestation)) }),
  bodyLimit: 256 * kilobytes,
  upstream: false,
})

export const Exported = v.object({
  architecture: v.string(),
  name: v.string(),
  version: v.string(),
  source_name: v.string(),
  source_version: v.string(),
  releases: v.array(v.string()),
  status: v.picklist(['GOOD', 'BAD', 'FAIL', 'UNKWN']),
  reason: v.nullable(Reason),
  sha256: TextOrNull,
  build_id: IdOrNull,
  artifact_id: IdOrNull,
  /** Path of the evidence on this server. */
  evidence: TextOrNull,
  index: IndexTrust,
})
export type Exported = Shape<typeof Exported>

export const exportDistribution = endpoint('GET', '/api/v1/export/{distribution}', {
  doc: 'Every listed binary package once per name, version and architecture, in the order of these, for migration gates. format=ndjson: one record a line.',
  conditional: true,
  params: v.object({ distribution: text() }),
  query: v.object({ releases: v.optional(NamesText), format: v.optional(v.picklist(['json', 'ndjson'])) }),
  reply: v.array(Exported),
  upstream: false,
})

/** What the event `verdict` carries. */
export const VerdictEvent = v.object({
  build_id: v.number(),
  name: v.string(),
  version: v.string(),
  distribution: v.string(),
  release: TextOrNull,
  architecture: v.string(),
  status: BuildStatus,
  reason: v.nullable(Reason),
  before: v.nullable(BuildStatus),
})
export type VerdictEvent = Shape<typeof VerdictEvent>

/** What the event `queue` carries: how many jobs became due, or were handed out, and for which backends. */
export const QueueEvent = v.object({
  change: v.picklist(['added', 'started', 'dropped', 'freed']),
  count: Count,
  /** The job, where it is one that was handed out. */
  job: v.optional(
    v.object({
      name: v.string(),
      version: v.string(),
      distribution: v.string(),
      release: v.nullable(v.string()),
      architecture: v.string(),
    }),
  ),
  /** How many are told the same who listen for events of the queue alone, as workers without a job do. */
  listeners: v.optional(Count),
})
export type QueueEvent = Shape<typeof QueueEvent>

export const watchEvents = endpoint('GET', '/api/v1/events', {
  doc: 'Verdicts and changes of the queue as they happen (server-sent events). Last-Event-ID, or after=ID, resumes.',
  refusals: [429],
  query: v.object({
    after: v.optional(v.pipe(v.string(), v.regex(/^\d{1,15}$/), v.transform(Number))),
    kinds: v.optional(NamesText),
  }),
  reply: eventStream,
  upstream: false,
})

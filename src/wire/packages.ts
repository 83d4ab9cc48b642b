import * as v from 'valibot'
import {
  ArtifactStatus,
  BuildStatus,
  IdOrNull,
  IdPath,
  TextOrNull,
  binaryIdentityQuery,
  freshnessQuery,
  originQuery,
  ourFilters,
  pageOf,
  pageQuery,
  sourceIdentityQuery,
} from './common.ts'
import { endpoint, megabytes } from './endpoint.ts'
import { Reason } from './reasons.ts'
import { Count, DateTime, Id, orNull, text, type jsonOfItems, type Shape } from './schema.ts'

/** Lower-case hex of a SHA-256. */
export const Sha256 = v.pipe(v.string(), v.regex(/^[0-9a-f]{64}$/, 'is not a SHA-256 in lower-case hex'))

/** Whether the distribution's signature proves the index that lists a package; null: not told. */
export const IndexTrust = orNull(v.picklist(['signed', 'unsigned']))
export type IndexTrust = Shape<typeof IndexTrust>

export const SourcePackage = v.object({
  id: Id,
  name: v.string(),
  version: v.string(),
  distribution: v.string(),
  release: TextOrNull,
  status: v.nullable(BuildStatus),
  build_id: IdOrNull,
  last_seen: DateTime,
  seen_in_last_sync: v.boolean(),
  reason: orNull(Reason),
  first_seen: orNull(DateTime),
  decided_at: orNull(DateTime),
  index: IndexTrust,
})
export type SourcePackage = Shape<typeof SourcePackage>

export const BinaryPackage = v.object({
  id: Id,
  name: v.string(),
  version: v.string(),
  distribution: v.string(),
  release: TextOrNull,
  component: TextOrNull,
  architecture: v.string(),
  url: v.string(),
  status: v.nullable(ArtifactStatus),
  build_id: IdOrNull,
  artifact_id: IdOrNull,
  diffoscope_log_id: IdOrNull,
  attestation_log_id: IdOrNull,
  last_seen: DateTime,
  seen_in_last_sync: v.boolean(),
  source_name: orNull(v.string()),
  reason: orNull(Reason),
  sha256: orNull(v.string()),
  size: orNull(Count),
  first_seen: orNull(DateTime),
  decided_at: orNull(DateTime),
  worker: orNull(v.string()),
  index: IndexTrust,
})
export type BinaryPackage = Shape<typeof BinaryPackage>

/** One binary package with what lists leave out. */
export const BinaryPackageDetails = v.object({
  ...BinaryPackage.entries,
  /** The distribution's detached OpenPGP signature of the file, as base64. */
  signature: orNull(v.string()),
})
export type BinaryPackageDetails = Shape<typeof BinaryPackageDetails>

/** Longest signature: RSA with 4096 bits has 760 characters. */
const Base64 = v.pipe(text(8192), v.base64())

export const ReportedArtifact = v.object({
  name: text(),
  version: text(),
  component: orNull(text()),
  architecture: text(),
  url: text(4096),
  /** What the distribution's index says of the file; our workers refuse any other bytes. */
  sha256: orNull(Sha256),
  size: orNull(Count),
  /** The distribution's detached OpenPGP signature of the file, as base64, where the index has it. */
  signature: v.optional(Base64),
})
export type ReportedArtifact = Shape<typeof ReportedArtifact>

export const ReportedPackage = v.object({
  name: text(),
  version: text(),
  url: text(4096),
  artifacts: v.array(ReportedArtifact),
  maintainer: orNull(text()),
})
export type ReportedPackage = Shape<typeof ReportedPackage>

export const PackageReport = v.object({
  distribution: text(),
  release: orNull(text()),
  architecture: text(),
  packages: v.array(ReportedPackage),
  /** `signed`: proven by the distribution's signature; `unsigned`: taken on trust. Absent: not told. */
  index: IndexTrust,
})
export type PackageReport = Shape<typeof PackageReport>

/** Source packages that need not be in memory: they are read each time they are gone through. */
export type Packages = Iterable<ReportedPackage> & {
  readonly length: number
  readonly [jsonOfItems]?: () => Iterable<string>
}
/** A report as clients make it. */
export type ReportToSend = Omit<PackageReport, 'packages'> & { packages: Packages }

export const listSourcePackages = endpoint('GET', '/api/v1/packages/source', {
  doc: 'Source packages with the worst status of their latest rebuilds; with architecture, that of this one.',
  conditional: true,
  query: v.object({ ...pageQuery, ...originQuery, ...sourceIdentityQuery, ...freshnessQuery, ...ourFilters }),
  reply: pageOf(SourcePackage),
})

export const getSourcePackage = endpoint('GET', '/api/v1/packages/source/{id}', {
  doc: 'One source package.',
  conditional: true,
  params: IdPath,
  reply: SourcePackage,
})

export const listBinaryPackages = endpoint('GET', '/api/v1/packages/binary', {
  doc: 'Binary packages with their verdict and the ids of the evidence.',
  conditional: true,
  query: v.object({ ...pageQuery, ...originQuery, ...binaryIdentityQuery, ...freshnessQuery, ...ourFilters }),
  reply: pageOf(BinaryPackage),
})

export const getBinaryPackage = endpoint('GET', '/api/v1/packages/binary/{id}', {
  doc: 'One binary package.',
  conditional: true,
  params: IdPath,
  reply: BinaryPackageDetails,
})

export const submitPackages = endpoint('POST', '/api/v1/packages', {
  doc: 'Import what the index of one release and architecture lists. With force=true a sharply shrunken report is taken too.',
  refusals: [409],
  caller: 'admin',
  query: v.object({ force: v.optional(v.picklist(['true', 'false'])) }),
  body: PackageReport,
  bodyLimit: 1024 * megabytes,
})

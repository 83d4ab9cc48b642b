/** What the pages of one release, one package and one build show, gathered from the store. */
import type { Envelope } from '../attestation.ts'
import { keyidOf, parseEnvelope, verifyEnvelope } from '../attestation.ts'
import { decompressed, plainBytes } from '../compression.ts'
import type { RebuildArtifact, RebuildDetails } from '../wire/builds.ts'
import { artifactsOfBuild, findJob, findRebuild } from './overview.ts'
import { outlooks } from './outlook.ts'
import { found } from './refusal.ts'
import type { Service } from './service.ts'
import { longestBlob } from './store/blobs.ts'
import { artifactById, attestationOf, diffoscopeOf } from './store/builds.ts'
import { newestLease } from './store/queue.ts'
import { componentNames } from './store/origins.ts'
import { latestChanges, type ChangeRow } from './store/web.ts'
import {
  attemptsOf,
  buildExtra,
  elsewhere,
  filesOf,
  inputsOf,
  versionsOf,
  type AttemptRow,
  type BuildExtra,
  type ElsewhereRow,
  type FileRow,
  type InputRow,
  type VersionRow,
} from './store/web-package.ts'
import {
  listSources,
  releaseCounts,
  releaseNamed,
  scopesOf,
  sourceCounts,
  verdictsOf,
  type InputVerdict,
  type Listed,
  type ReasonCount,
  type SourceCount,
  type ReleaseRow,
  type ScopeRow,
  type SourceFilter,
} from './store/web-release.ts'
import { clipped, linesOfPage, type Clip } from './web/lines.ts'
import type { Checkable } from './web/verify.ts'
import type { Outlook } from '../wire/queue.ts'
import type { QueuedJob } from '../wire/queue.ts'

export const sorts = {
  name: { sort: 'name', direction: 'Ascending' },
  'name-down': { sort: 'name', direction: 'Descending' },
  newest: { sort: 'decided', direction: 'Descending' },
  oldest: { sort: 'decided', direction: 'Ascending' },
} as const
export type Sort = keyof typeof sorts

export type ReleaseQuery = SourceFilter & {
  sort: Sort
  /** Ids of the rows next to the page. */
  after?: number | undefined
  before?: number | undefined
}

export type ReleaseView = {
  release: ReleaseRow
  scopes: ScopeRow[]
  components: string[]
  counts: ReasonCount[]
  sources: SourceCount[]
  listed: Listed
  verdicts: Map<number, InputVerdict[]>
  query: ReleaseQuery
  hasBefore: boolean
  hasAfter: boolean
}

const rowsOfPage = 100

/** One page of a release's source packages. */
export async function releaseView(
  { db }: Service,
  distribution: string,
  releaseName: string,
  query: ReleaseQuery,
): Promise<ReleaseView> {
  const release = found(await releaseNamed(db, distribution, releaseName))
  const scopes = await scopesOf(db, release.id)
  const isDown = sorts[query.sort].direction === 'Descending'
  const [next, previous] = [query.after, query.before]
  const request = {
    ...sorts[query.sort],
    limit: rowsOfPage + 1,
    after: isDown ? previous : next, // ids of a list mean "greater" whatever its direction
    before: isDown ? next : previous,
  }
  const [components, counts, sources, listed] = await Promise.all([
    componentNames(db, distribution, releaseName),
    releaseCounts(db, release.id),
    sourceCounts(db, release.id),
    listSources(db, release, scopes, query, request),
  ])
  const hasMore = listed.rows.length > rowsOfPage
  const isBackward = previous !== undefined
  const rows = isBackward ? listed.rows.slice(-rowsOfPage) : listed.rows.slice(0, rowsOfPage)
  const verdicts = Map.groupBy(
    await verdictsOf(
      db,
      rows.map((row) => row.id),
    ),
    (row) => row.source_package_id,
  )
  return {
    release,
    scopes,
    components: components.filter((component) => component !== ''),
    counts,
    sources,
    listed: { ...listed, rows },
    verdicts,
    query,
    hasBefore: isBackward ? hasMore : next !== undefined,
    hasAfter: isBackward ? true : hasMore,
  }
}

export type SourceView = {
  release: ReleaseRow
  name: string
  /** null: all of them */
  version: string | null
  versions: VersionRow[]
  inputs: InputRow[]
  files: FileRow[]
  attempts: AttemptRow[]
  elsewhere: ElsewhereRow[]
  changes: ChangeRow[]
  outlooks: Outlook[]
  /** What to try at home; null: nothing is listed. */
  trial: Trial | null
}

/** The input of the newest version that is most in doubt, with its files. */
export type Trial = {
  input: InputRow
  files: FileRow[]
  attestation: Checkable | null
}

/** Everything about a source package of a release, or about one of its versions. */
export async function sourceView(
  service: Service,
  [distribution, releaseName, name, version]: readonly [string, string, string, string | null],
): Promise<SourceView> {
  const { db, schedule } = service
  const release = found(await releaseNamed(db, distribution, releaseName))
  const versions = await versionsOf(db, release.id, name, version)
  found(versions[0])
  const ids = versions.map((row) => row.id)
  const [inputs, files] = await Promise.all([inputsOf(db, ids), filesOf(db, ids)])
  const inputIds = inputs.map((input) => input.id)
  const groups = [...new Set(inputs.map((input) => input.group_id))]
  const origin = { distribution, release: releaseName, name, version }
  const [attempts, others, changes, whys, trial] = await Promise.all([
    attemptsOf(db, inputIds),
    elsewhere(db, release.id, name, groups),
    latestChanges(db, { name, releaseIds: [release.id] }, 20),
    outlooks(db, schedule, origin),
    trialOf(
      service,
      inputs.filter((input) => input.source_package_id === ids[0]),
      files,
    ),
  ])
  return {
    release,
    name,
    version,
    versions,
    inputs,
    files,
    attempts,
    elsewhere: others,
    changes,
    outlooks: whys,
    trial,
  }
}

/** What is tried first at home. */
const doubts = ['BAD', 'FAIL', null, 'GOOD']

async function trialOf(
  service: Service,
  inputs: readonly InputRow[],
  files: readonly FileRow[],
): Promise<Trial | null> {
  const [input] = inputs.toSorted((a, b) => doubts.indexOf(a.status) - doubts.indexOf(b.status))
  if (input === undefined) return null
  const own = files.filter((file) => file.build_input_id === input.id && file.seen === input.seen)
  const others = files.filter((file) => inputs.some(({ id }) => id === file.build_input_id))
  const attested = [...own, ...others].find((file) => file.attestation_id !== null)
  return own.length === 0 ? null : { input, files: own, attestation: await checkableOf(service, attested) }
}

async function checkableOf(service: Service, file: FileRow | undefined): Promise<Checkable | null> {
  const [buildId, artifactId] = [file?.build_id ?? null, file?.artifact_id ?? null]
  if (buildId === null || artifactId === null) return null
  const envelope = await envelopeOf(service, buildId, artifactId)
  if (envelope === null) return null
  const { publicKey } = service.signingKey
  const isCountersigned = envelope.signatures.some(({ keyid }) => keyid === keyidOf(publicKey))
  return { buildId, artifactId, serverKey: isCountersigned ? Buffer.from(publicKey).toString('hex') : null }
}

type Signature = { keyid: string; who: 'worker' | 'server' | 'unknown'; isTrue: boolean }
export type Attested = {
  artifact: RebuildArtifact
  envelope: Envelope
  signatures: Signature[]
  /** The key that countersigns, in hex. */
  serverKey: string
} | null

export type BuildView = {
  build: RebuildDetails
  extra: BuildExtra
  artifacts: RebuildArtifact[]
  /** First and last lines of the log; null: there is none. */
  log: Clip | null
  /** The first attestation of the build. */
  attested: Attested
}

/** One finished rebuild with its evidence. */
export async function buildView(service: Service, id: number): Promise<BuildView> {
  const { db, blobs } = service
  const build = found(await findRebuild(db, blobs, id))
  const extra = found(await buildExtra(db, id))
  const artifacts = await artifactsOfBuild(db, id)
  const [log, attested] = await Promise.all([
    clipOf(service, extra.log_sha256, { head: 60, tail: 240 }),
    attestedOf(service, id, artifacts, extra.worker_key),
  ])
  return { build, extra, artifacts, log, attested }
}

/** Lines of a kept blob; null where there is none or it is damaged. */
async function clipOf(
  { blobs }: Service,
  sha256: string | null,
  part: { head: number; tail: number; from?: number },
): Promise<Clip | null> {
  const frame = sha256 === null ? null : await blobs.read(sha256)
  if (frame === null) return null
  return clipped(decompressed(once(frame), { limit: longestBlob, what: 'the log' }), part)
}

async function* once(bytes: Uint8Array): AsyncGenerator<Uint8Array> {
  yield bytes
}

/** The attestation of a rebuilt file; null where there is none or it is damaged. */
async function envelopeOf(
  { db, blobs }: Service,
  buildId: number,
  artifactId: number,
): Promise<Envelope | null> {
  const blob = await attestationOf(db, buildId, artifactId)
  const frame = blob === null ? null : await blobs.read(blob.sha256)
  return frame === null ? null : parseEnvelope(await plainBytes(frame, 1024 * 1024))
}

async function attestedOf(
  service: Service,
  buildId: number,
  artifacts: readonly RebuildArtifact[],
  workerKey: string | null,
): Promise<Attested> {
  const artifact = artifacts.find((each) => each.has_attestation)
  if (artifact === undefined) return null
  const envelope = await envelopeOf(service, buildId, artifact.id)
  if (envelope === null) return null
  const { signingKey } = service
  const keys = [
    ['server', signingKey.publicKey],
    ...(workerKey === null ? [] : [['worker', Buffer.from(workerKey, 'base64')] as const]),
  ] as const
  const signatures = envelope.signatures.map(({ keyid }): Signature => {
    const known = keys.find(([, key]) => key.length === 32 && keyidOf(key) === keyid)
    return {
      keyid,
      who: known?.[0] ?? 'unknown',
      isTrue: known !== undefined && verifyEnvelope(envelope, known[1]),
    }
  })
  return { artifact, envelope, signatures, serverKey: Buffer.from(signingKey.publicKey).toString('hex') }
}

export type LogView = { build: RebuildDetails; log: Clip; from: number }

/** A page of a log, from a line (1 is the first) on. */
export async function logView(service: Service, id: number, from: number): Promise<LogView> {
  const build = found(await findRebuild(service.db, service.blobs, id))
  const extra = found(await buildExtra(service.db, id))
  const log = found(await clipOf(service, extra.log_sha256, { head: linesOfPage, tail: 0, from }))
  return { build, log, from }
}

export type DiffView = {
  build: RebuildDetails
  artifact: RebuildArtifact
  diff: Clip
  from: number
  name: string
}

/** A page of a diff. */
export async function diffView(
  service: Service,
  [id, artifactId, from]: readonly [number, number, number],
): Promise<DiffView> {
  const { db, blobs } = service
  const build = found(await findRebuild(db, blobs, id))
  const row = found(await artifactById(db, id, artifactId))
  const artifact = found((await artifactsOfBuild(db, id)).find((each) => each.id === artifactId))
  const blob = found(await diffoscopeOf(db, id, artifactId))
  const diff = found(await clipOf(service, blob.sha256, { head: linesOfPage, tail: 0, from }))
  return { build, artifact, diff, from, name: row.file }
}

export type JobView = {
  job: QueuedJob
  log: Clip
  offset: number
  /** The build that its last attempt became; null: none yet. */
  lastBuild: number | null
}

/** What a page shows of a log that grows: so many lines, of so many bytes at the end. */
const [tailLines, tailBytes] = [400, 256 * 1024]

/** A job: where it runs, the end of its log so far; the id of its build when it is over. */
export async function jobView({ db, liveLogs }: Service, id: number): Promise<JobView | { build: number }> {
  const lease = await newestLease(db, id)
  const lastBuild = lease?.build_id ?? null
  const known = await findJob(db, id)
  if (known === null && lastBuild !== null) return { build: lastBuild }
  const job = found(known)
  if (lease === null || job.started_at === null)
    return { job, log: { lines: [], total: 0, clippedAt: null, bytes: 0 }, offset: 0, lastBuild }
  const { text, linesBefore, end } = await liveLogs.tail(lease.id, tailBytes)
  const clip = await clipped(once(text), { head: 0, tail: tailLines })
  const lines = clip.lines.map((line) => ({ ...line, number: line.number + linesBefore }))
  const isWhole = (lines[0]?.number ?? 1) === 1
  const log = { lines, total: clip.total + linesBefore, clippedAt: isWhole ? null : 0, bytes: end }
  return { job, log, offset: end, lastBuild }
}

import { digestOf } from '../report-digest.ts'
import type { PackageReport, ReportedArtifact } from '../wire/packages.ts'
import { momentOf, wireTime } from '../wire/schema.ts'
import { askRules, type Schedule } from './queue.ts'
import { Refusal } from './refusal.ts'
import { rangesOf, toCompare } from './report-ranges.ts'
import type { Database } from './store/database.ts'
import { happened, type Event } from './store/events.ts'
import {
  closeScope,
  friendsBuilds,
  listedInputs,
  missingJobs,
  openScope,
  previousScope,
  queueNeeds,
  rangesOfLast,
  refreshed,
  retire,
  scopeChecked,
  scopeWithDigest,
  shareBuild,
  touched,
  writePackages,
  type Imported,
  type KnownBinary,
  type KnownInput,
  type LastScope,
  type NameRange,
  type RangeDigests,
  type Scope,
  type Upsert,
  type WrittenInput,
} from './store/imports.ts'
import { part, work } from './store/work.ts'

/** Packages written in one piece of work: short enough that nobody waits for it. */
const slice = 100
/** Pieces on their way to the database at once: as many as share a commit there, and some that wait. */
const slicesAtOnce = 24
/** Inputs that are looked at in one question. */
const inputsAtOnce = 2000
/** Reports about fewer packages than this are never thought too short. */
const guardedFrom = 10

export type ImportOptions = {
  schedule: Schedule
  /** Least share of the last report's packages, in percent, that a report must list. */
  shrinkLimitPercent: number
  /** Take a sharply shrunken report all the same. */
  force: boolean
  now: () => Date
}

/** What an import changed; `added` and `gone` count binary packages, the others build inputs. */
export type ImportResult = {
  /** `debian/trixie/amd64` */
  scope: string
  listed: number
  written: number
  retired: number
  queued: number
  added: number
  gone: number
}

/**
 * Applies a package report in slices, between which everything else is answered. What is listed is written and
 * queued where it has no GOOD verdict; what is no longer listed leaves the release. An import that was cut short
 * is simply repeated. Two imports must not run at once.
 * @throws Refusal 409 where the report lists far fewer packages than the last one
 */
export async function importReport(
  db: Database,
  report: PackageReport,
  options: ImportOptions,
): Promise<ImportResult> {
  const { distribution, release, architecture, index: trust } = report
  const start = wireTime(options.now())
  const last = await previousScope(db, distribution, release ?? '', architecture)
  const digest = digestOf(report)
  const applied =
    last !== null && last.digest === digest
      ? await confirmed(db, last, start, options)
      : await changesApplied(db, report, last, start, options)
  const { scope, written, retired, ranges, ...counts } = applied
  const isChanged = written + retired > 0 || last?.trust !== trust
  await importEnded(db, {
    scope,
    told: { ...counts, trust, digest, ranges, isChanged },
    now: wireTime(options.now()),
  })
  const name = [distribution, release, architecture].filter((word) => word !== null).join('/')
  return { scope: name, written, retired, ...counts }
}

type Applied = Omit<ImportResult, 'scope'> & { scope: Scope; ranges: RangeDigests | null }

/** The same report again says what the database has: only jobs may be missing. */
async function confirmed(db: Database, last: Scope, now: string, options: ImportOptions): Promise<Applied> {
  const queued = await queueMissing(db, last, now, options.schedule)
  return { scope: last, listed: last.listed, written: 0, retired: 0, queued, added: 0, gone: 0, ranges: null }
}

async function changesApplied(
  db: Database,
  report: PackageReport,
  last: LastScope | null,
  now: string,
  options: ImportOptions,
): Promise<Applied> {
  const { distribution, release, architecture } = report
  const listed = new Set(report.packages.map(({ name, version, url }) => keyOf(name, version, url))).size
  if (!options.force) refuseShrunken(listed, last?.listed ?? 0, options.shrinkLimitPercent)
  const ranges = rangesOf(report.packages)
  const compared = toCompare(report, ranges, last === null ? null : await rangesOfLast(db, last))
  const scope = await scopeOpened(db, { distribution, release: release ?? '', architecture, now })
  const { upserts, gone, binaries } = await planOf(db, scope, compared.ranges, mergedPackages(compared))
  const delay = options.schedule.initialDelaySeconds
  const firstDue = delay === 0 ? null : wireTime(new Date(momentOf(now).getTime() + delay * 1000))
  const origin = { scope, distribution, architecture, now, firstDue }
  await inPieces(upserts, (packages) => sliceWritten(db, { ...origin, packages }))
  await inPieces(gone, (inputs) => inputsRetired(db, { inputs, now }))
  const queued =
    last === null
      ? await queueScope(db, scope, now, options)
      : await queueMissing(db, scope, now, options.schedule)
  const digests = ranges === null ? null : new Map(ranges.map(({ from, digest }) => [from, digest]))
  const counts = { listed, written: upserts.length, retired: gone.length, queued, ...binaries }
  return { scope, ranges: digests, ...counts }
}

function refuseShrunken(listed: number, before: number, percent: number): void {
  if (before < guardedFrom || listed * 100 >= before * percent) return
  const advice =
    'if the index really shrank that much, send the report with force=true (ctl pkgs sync --force)'
  throw new Refusal(
    409,
    `the report lists ${listed} packages where the last one listed ${before}; nothing was changed; ${advice}`,
  )
}

type Listed = {
  name: string
  version: string
  url: string
  maintainer: string | null
  artifacts: ReportedArtifact[]
}

/** The packages of a report by identity; those named twice become one, with each artifact once. */
function mergedPackages(report: Pick<PackageReport, 'packages'>): Map<string, Listed> {
  const packages = new Map<string, Listed>()
  for (const { name, version, url, maintainer, artifacts } of report.packages) {
    const key = keyOf(name, version, url)
    const known = packages.get(key)
    if (known === undefined) packages.set(key, { name, version, url, maintainer, artifacts })
    else known.artifacts = [...known.artifacts, ...artifacts]
  }
  for (const item of packages.values()) {
    if (item.artifacts.length < 2) continue
    item.artifacts = [
      ...new Map(item.artifacts.map((artifact) => [artifactKey(artifact), artifact])).values(),
    ]
  }
  return packages
}

function keyOf(name: string, version: string, url: string): string {
  return `${name}\n${version}\n${url}`
}

function artifactKey(artifact: {
  name: string
  version: string
  component: string | null
  architecture: string
}): string {
  return [artifact.name, artifact.version, artifact.component ?? '', artifact.architecture].join('\n')
}

type Plan = { upserts: Upsert[]; gone: KnownInput[]; binaries: { added: number; gone: number } }

/** Compares what is listed in ranges with what we know there: the difference is what has to be written. */
async function planOf(
  db: Database,
  scope: Scope,
  ranges: readonly NameRange[],
  listed: ReadonlyMap<string, Listed>,
): Promise<Plan> {
  const missing = new Map(listed)
  const changed: Upsert[] = []
  const gone: KnownInput[] = []
  let knownBinaries = 0
  let goneBinaries = 0
  for await (const { inputs, binaries } of knownIn(db, scope, ranges)) {
    knownBinaries += binaries.length
    const binariesOf = Map.groupBy(binaries, (binary) => binary.build_input_id)
    for (const input of inputs) {
      const key = keyOf(input.name, input.version, input.url)
      const item = missing.get(key)
      missing.delete(key)
      const known = binariesOf.get(input.id) ?? []
      const difference = item === undefined ? [] : differenceOf(item, input, known)
      if (item === undefined) gone.push(input)
      changed.push(...difference)
      goneBinaries += item === undefined ? known.length : (difference[0]?.goneBinaries.length ?? 0)
    }
  }
  const fresh = [...missing.values()].map((item) => ({ ...item, goneBinaries: [] }))
  const listedBinaries = [...listed.values()].reduce((sum, { artifacts }) => sum + artifacts.length, 0)
  const binaries = { added: listedBinaries - (knownBinaries - goneBinaries), gone: goneBinaries }
  return { upserts: [...changed, ...fresh].sort(byName), gone, binaries }
}

/** What is known of ranges, so much at a time that nobody waits for it. */
async function* knownIn(
  db: Database,
  scope: Scope,
  ranges: readonly NameRange[],
): AsyncGenerator<Awaited<ReturnType<typeof listedInputs>>> {
  for (const range of ranges) {
    for (let after: number | null = 0; after !== null;) {
      const known: Awaited<ReturnType<typeof listedInputs>> = await listedInputs(
        db,
        scope,
        range,
        after,
        inputsAtOnce,
      )
      yield known
      after = known.inputs.length < inputsAtOnce ? null : (known.inputs.at(-1)?.id ?? null)
    }
  }
}

/** Neighbours in the report are then neighbours in the indexes: a slice touches a few pages, not one per package. */
function byName(a: Upsert, b: Upsert): number {
  return a.name < b.name ? -1 : a.name > b.name ? 1 : 0
}

/** A listed package that differs from what we know of it; nothing where it does not. */
function differenceOf(item: Listed, input: KnownInput, known: readonly KnownBinary[]): Upsert[] {
  const byKey = new Map(known.map((binary) => [artifactKey(binary), binary]))
  const changed = item.artifacts.filter((artifact) => {
    const binary = byKey.get(artifactKey(artifact))
    byKey.delete(artifactKey(artifact))
    return binary === undefined || !isSame(artifact, binary)
  })
  const goneBinaries = [...byKey.values()].map((binary) => binary.id)
  const hasNewMaintainer = item.maintainer !== null && item.maintainer !== input.maintainer
  return changed.length + goneBinaries.length > 0 || hasNewMaintainer
    ? [{ ...item, artifacts: changed, goneBinaries }]
    : []
}

/** A report without hashes (older clients) does not take away those we know. */
function isSame(artifact: ReportedArtifact, binary: KnownBinary): boolean {
  const agrees = <T>(given: T | null, known: T | null): boolean => given === null || given === known
  return (
    artifact.url === binary.url &&
    agrees(artifact.sha256, binary.sha256) &&
    agrees(artifact.size, binary.size) &&
    agrees(artifact.signature ?? null, binary.signature)
  )
}

const scopeOpened = part(
  'import.open',
  (tx, given: { distribution: string; release: string; architecture: string; now: string }) =>
    openScope(tx, given.distribution, given.release, given.architecture, given.now),
)

type Slice = {
  scope: Scope
  distribution: string
  architecture: string
  packages: readonly Upsert[]
  now: string
  firstDue: string | null
}

const sliceWritten = part('import.write', async (tx, given: Slice): Promise<void> => {
  const { scope, distribution, architecture, packages, now, firstDue } = given
  const inputs = await writePackages(tx, scope, distribution, architecture, packages, { now, firstDue })
  const fresh: WrittenInput[] = inputs.filter((input) => input.build_id === null)
  const shared = await friendsBuilds(tx, fresh)
  for (const { id, build_id: buildId } of shared) await shareBuild(tx, id, buildId)
  // Where nothing has a verdict yet, nothing can have changed.
  const decided = inputs.filter((input) => input.build_id !== null || input.status !== null)
  const got = new Set(shared.map(({ id }) => id))
  await tx.batch(refreshed([...decided, ...fresh.filter(({ id, status }) => status === null && got.has(id))]))
})

const inputsRetired = part(
  'import.retire',
  (tx, { inputs, now }: { inputs: readonly KnownInput[]; now: string }): Promise<void> =>
    retire(tx, inputs, now),
)

const needsQueued = part(
  'import.queue',
  async (
    tx,
    { scope, after, now, schedule }: { scope: Scope; after: number; now: string; schedule: Schedule },
  ) => {
    const limit = schedule.rules.length === 0 ? 500 : 200
    const done = await queueNeeds(tx, scope, after, { now, maxRetries: schedule.maxRetries, limit })
    if (schedule.rules.length > 0) await askRules(tx, schedule.rules, limit, now)
    return done
  },
)

type Ended = { scope: Scope; told: Imported; now: string }

/** The last part: once it is on disk, so is all before it. */
const importEnded = work('import.end', async (tx, { scope, told, now }: Ended): Promise<void> => {
  await closeScope(tx, scope, told, now)
  const isMore = told.isChanged || told.queued > 0
  await tx.all(isMore ? touched(now, 'scopes', 'packages', 'queue', 'builds') : touched(now, 'scopes'))
  const event: Event = { kind: 'queue', data: { change: 'added', count: told.queued } }
  if (told.queued > 0) await tx.all(happened(event, now))
})

/** Works through a long list, a few pieces at once; ends with the first that fails. */
async function inPieces<T>(
  items: readonly T[],
  work: (piece: readonly T[]) => Promise<unknown>,
): Promise<void> {
  let next = 0
  const line = async (): Promise<void> => {
    while (next < items.length) {
      const start = next
      next += slice
      await work(items.slice(start, start + slice))
    }
  }
  await Promise.all(Array.from({ length: slicesAtOnce }, line))
}

/** Queues all that the scope needs at the import's own moment, so that the initial delay is what it says. */
async function queueScope(db: Database, scope: Scope, now: string, options: ImportOptions): Promise<number> {
  const { schedule } = options
  let total = 0
  for (let after: number | null = 0; after !== null;) {
    const { last, queued }: Awaited<ReturnType<typeof queueNeeds>> = await needsQueued(db, {
      scope,
      after,
      now,
      schedule,
    })
    total += queued
    after = last
  }
  return total
}

/** Scanned at once for what misses a job. */
const scanned = 2000

/**
 * Queues what the last report of a scope lists and what should have a job but has none: one was dropped by hand, or the
 * limit of tries was raised. The report itself is not needed for that.
 * @param given what the report is of, and its digest
 * @returns null where the digest is not that of the last report
 */
export async function confirmReport(
  db: Database,
  given: { distribution: string; release: string | null; architecture: string; digest: string },
  { schedule, now }: Pick<ImportOptions, 'schedule' | 'now'>,
): Promise<{ queued: number } | null> {
  const scope = await scopeWithDigest(db, { ...given, release: given.release ?? '' })
  if (scope === null) return null
  const moment = wireTime(now())
  const queued = await queueMissing(db, scope, moment, schedule)
  await scopeConfirmed(db, { scope, queued, now: moment })
  return { queued }
}

/** Queues what a scope needs and has no job for; how much that is. Nearly all has one, so that is looked for first. */
async function queueMissing(db: Database, scope: Scope, now: string, schedule: Schedule): Promise<number> {
  let queued = 0
  for (let after = 0; ;) {
    const { last, first_missing: start, last_missing: end } = await missingJobs(db, scope, after, scanned)
    if (last === null) return queued
    if (start !== null && end !== null)
      queued += await queuedBetween(db, scope, { after: start - 1, last: end, now, schedule })
    after = last
  }
}

type Between = { after: number; last: number; now: string; schedule: Schedule }

async function queuedBetween(db: Database, scope: Scope, between: Between): Promise<number> {
  const { last, now, schedule } = between
  let total = 0
  for (let after: number | null = between.after; after !== null && after < last;) {
    const done: Awaited<ReturnType<typeof queueNeeds>> = await needsQueued(db, {
      scope,
      after,
      now,
      schedule,
    })
    total += done.queued
    after = done.last
  }
  return total
}

type Confirmed = { scope: Scope; queued: number; now: string }

const scopeConfirmed = work(
  'import.confirm',
  async (tx, { scope, queued, now }: Confirmed): Promise<void> => {
    await tx.batch([scopeChecked(scope, now), touched(now, 'scopes')])
    if (queued === 0) return
    await tx.all(touched(now, 'queue'))
    const event: Event = { kind: 'queue', data: { change: 'added', count: queued } }
    await tx.all(happened(event, now))
  },
)

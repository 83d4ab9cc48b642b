import { Complaint } from '../errors.ts'
import type { ReportedArtifact, ReportToSend } from '../wire/packages.ts'
import { addressOf } from './address.ts'
import { stanzas } from './deb822.ts'
import { fetchIndex, isListed, type Index, type IndexPath } from './debian-index.ts'
import {
  binaryOf,
  binaryFields,
  peopleOf,
  sourceReader,
  sourceKey,
  type Binary,
  type Source,
  type SourceNeeds,
} from './debian-packages.ts'
import { readRelease, type Release } from './debian-release.ts'
import { buildInputs } from './debian-input.ts'
import {
  complainAbout,
  releasesOf,
  requireLists,
  troubleOf,
  type Distribution,
  type Failure,
  type SyncContext,
} from './distribution.ts'
import type { Head, PackageList } from './gathering.ts'
import type { Mirror } from './mirror.ts'
import type { Profile } from './profile.ts'
import { wantedBy } from './rules.ts'
import type { Sorting } from './sorting.ts'

/** Most packages of one report: several times what the largest distribution has. */
const mostPackages = 2_000_000

export const debian: Distribution = {
  name: 'debian',
  doc: 'Debian and its derivatives: indexes below dists/, build inputs are .buildinfo or .dsc files',
  async *reports(profile, context) {
    requireLists(profile, 'releases', 'components', 'architectures')
    const failures: Failure[] = []
    for (const release of releasesOf(profile)) {
      const addresses = [release.source, ...release.mirrors].map((address) => address.replace(/\/+$/, ''))
      const mirror = context.mirrorOf(addresses)
      yield* releaseReports(
        { profile, context, mirror, name: release.name, source: addresses[0] ?? '' },
        failures,
      )
    }
    complainAbout(failures)
  },
}

type Reading = { profile: Profile; context: SyncContext; mirror: Mirror; name: string; source: string }

/** Reports of one release, one per architecture that was read whole. */
async function* releaseReports(reading: Reading, failures: Failure[]): AsyncGenerator<ReportToSend> {
  const { profile, context, name } = reading
  const failed: Failed = new Map()
  try {
    const release = await readRelease(reading.mirror, name, profile, context)
    const found = await readIndexes(await fetchIndexes(reading, release), reading, failed)
    const lists = joined(found, reading, failed)
    for (const [architecture, list] of [...lists].sort(byName)) {
      if (failed.has(architecture)) continue
      const index = release?.index ?? 'unsigned'
      yield { distribution: 'debian', release: name, architecture, packages: list.packages(), index }
    }
  } catch (error) {
    const trouble = troubleOf(error, context.signal)
    for (const architecture of profile.architectures) failed.set(architecture, trouble)
  }
  for (const [architecture, trouble] of failed) {
    failures.push({ scope: `debian ${name} ${architecture}`, trouble })
  }
}

/** What went wrong with an architecture. */
type Failed = Map<string, Error>

function byName([a]: readonly [string, unknown], [b]: readonly [string, unknown]): number {
  return a < b ? -1 : Number(a > b)
}

/** An index and what became of its download. */
type Fetched = { path: IndexPath; component: string; architecture: string; index: Index | null | Error }

type Indexes = { sources: Fetched[]; binaries: Fetched[] }

/** Downloads all indexes before any is read, a few at a time. */
async function fetchIndexes(
  { profile, mirror, name, context }: Reading,
  release: Release | null,
): Promise<Indexes> {
  const components = [...new Set(profile.components)]
  const sources = [...new Set(components.map(sourceComponent))].map((component) => ({
    component,
    architecture: 'source',
    path: `${component}/source/Sources`,
  }))
  const binaries = components.flatMap((component) =>
    readArchitectures(profile, component, release).map((architecture) => ({
      component,
      architecture,
      path: `${component}/binary-${architecture}/Packages`,
    })),
  )
  const waiting = [...sources, ...binaries]
  const fetched = new Map<IndexPath, Fetched>()
  const work = async (): Promise<void> => {
    for (let next = waiting.shift(); next !== undefined; next = waiting.shift()) {
      const index = await fetchIndex(mirror, name, next.path, release).catch(asError)
      context.signal.throwIfAborted()
      fetched.set(next.path, { ...next, index })
    }
  }
  await Promise.all([work(), work(), work(), work()])
  const inOrder = (rows: readonly { path: IndexPath }[]): Fetched[] =>
    rows.map(({ path }) => fetched.get(path)).filter((row) => row !== undefined)
  return { sources: inOrder(sources), binaries: inOrder(binaries) }
}

function asError(error: unknown): Error {
  return error instanceof Error ? error : new Error(String(error))
}

/** The sources of `main/debian-installer` are those of `main`. */
function sourceComponent(component: string): string {
  return component.replace(/\/debian-installer$/, '')
}

/** Whose indexes are read: that of `all` only where the others do not tell of its packages, or tell nothing. */
function readArchitectures(profile: Profile, component: string, release: Release | null): string[] {
  const others = [...new Set(profile.architectures)].filter((architecture) => architecture !== 'all')
  if (!profile.architectures.includes('all')) return others
  if (others.length === 0) return ['all']
  if (release === null) return others
  return !release.hasAllElsewhere && isListed(release, `${component}/binary-all/Packages`)
    ? ['all', ...others]
    : others
}

/**
 * Source packages and, in lines after that of theirs, their binaries: there may be more of both than fit in memory. An
 * architecture whose index fails is in `failed`.
 */
async function readIndexes(indexes: Indexes, reading: Reading, failed: Failed): Promise<Sorting> {
  const found = reading.context.sorting()
  await readSources(indexes.sources, found, reading)
  await readBinaries(indexes.binaries, found, reading, failed)
  return found
}

async function readSources(
  fetched: readonly Fetched[],
  found: Sorting,
  { profile, context }: Reading,
): Promise<void> {
  const reader = sourceReader(needsOf(profile))
  for (const { path, index } of fetched) {
    const { origin, chunks } = present(index, path)
    for await (const stanza of stanzas(chunks(context.signal), { what: origin, wanted: reader.fields })) {
      const { key, source } = reader.read(stanza, origin)
      found.add(key, JSON.stringify(source))
    }
  }
}

function needsOf(profile: Profile): SourceNeeds {
  const wantsDsc = profile.build_input === 'dsc'
  const template = profile.buildinfo_url ?? ''
  return {
    uploaders:
      profile.maintainers.length > 0 || profile.include.some(({ maintainer }) => maintainer !== undefined),
    directory: wantsDsc || template.includes('{directory}'),
    dsc: wantsDsc,
  }
}

/** @throws what went wrong with its download */
function present(index: Fetched['index'], path: IndexPath): Index {
  if (index instanceof Error) throw index
  if (index === null) throw new Complaint(`the archive has no ${path}`)
  return index
}

async function readBinaries(
  fetched: readonly Fetched[],
  found: Sorting,
  { profile, context, source }: Reading,
  failed: Failed,
): Promise<void> {
  const architectures = new Set(profile.architectures)
  let count = 0
  for (const { path, component, architecture, index } of fetched) {
    if (failed.has(architecture)) continue
    try {
      const { origin, chunks } = present(index, path)
      for await (const stanza of stanzas(chunks(context.signal), { what: origin, wanted: binaryFields })) {
        const binary = binaryOf(stanza, origin)
        if (!architectures.has(binary.architecture)) continue
        if (++count > mostPackages) throw new Complaint(`${origin} lists more than ${mostPackages} packages`)
        const artifact = artifactOf(binary, component, addressOf(source, binary.path, origin))
        found.add(sourceKey(binary.source, binary.sourceVersion), binaryLine(binary, component, artifact))
      }
    } catch (error) {
      const trouble = troubleOf(error, context.signal)
      failed.set(architecture, trouble)
      if (architectures.has('all')) failed.set('all', trouble) // its packages are in this index, too
    }
  }
}

function artifactOf(binary: Binary, component: string, url: string): ReportedArtifact {
  const { name, version, architecture, sha256, size } = binary
  return { name, version, component, architecture, url, sha256, size }
}

/** What the line of a binary starts with; its artifact follows as it will be in the report. */
type Label = [
  name: string,
  component: string,
  architecture: string,
  rebuild: string,
  maintainer: string | null,
]

/** An array, by which it is told from the line of a source, which is an object. */
function binaryLine(binary: Binary, component: string, artifact: ReportedArtifact): string {
  const { name, architecture, rebuild, maintainer } = binary
  const label: Label = [name, component, architecture, rebuild, maintainer]
  return `${JSON.stringify(label)}\t${JSON.stringify(artifact)}`
}

type Lists = Map<string, PackageList>

/** The packages of each architecture. One whose indexes contradict each other is in `failed`. */
function joined(found: Sorting, reading: Reading, failed: Failed): Lists {
  const { profile, context, name } = reading
  const lists: Lists = new Map(
    profile.architectures.map((architecture) => [architecture, context.packageList()]),
  )
  const buildsOf = builder(reading)
  const orphans: string[] = []
  let left = 0
  for (const group of found.groups()) {
    const source = group.lines.findLast((line) => line.startsWith('{'))
    const binaries = group.lines.filter((line) => line.startsWith('['))
    if (source === undefined) {
      left += binaries.length
      if (orphans.length < mostNamed) orphans.push(group.key)
      continue
    }
    for (const { architecture, head, artifacts } of buildsOf(group.key, source, binaries)) {
      if (failed.has(architecture)) continue
      try {
        lists.get(architecture)?.add(head, artifacts)
      } catch (error) {
        failed.set(architecture, troubleOf(error, context.signal))
      }
    }
  }
  found.close()
  if (left > 0)
    context.log.warning(
      `sync: debian ${name}: left out ${left} packages whose source is in no Sources: ${orphans.join(', ')}`,
    )
  return lists
}

/** Sources that a warning names. */
const mostNamed = 5

/** What is built at once: the binaries of a source that are of one architecture, and of the same rebuild of it. */
type Build = { architecture: string; head: Head; artifacts: string[] }

/** @returns a function that takes a source package and its binaries as `readIndexes` wrote them */
function builder({ profile, source: archive }: Reading) {
  const isWanted = wantedBy(profile)
  const inputOf = buildInputs(profile, archive)
  return (key: string, line: string, binaries: readonly string[]): Iterable<Build> => {
    if (binaries.length === 0) return []
    const source = JSON.parse(line) as Source // as `readSources` wrote it
    const [name = '', sourceVersion = ''] = key.split(' ')
    const builds = new Map<string, Build>()
    for (const binary of binaries) {
      const end = binary.indexOf('\t')
      const label = JSON.parse(binary.slice(0, end)) as Label // as `binaryLine` wrote it
      const [binaryName, component, architecture, rebuild, maintainer] = label
      const maintainers = (): string[] =>
        [maintainer, source.maintainer, ...peopleOf(source.uploaders)].filter((one) => one !== null)
      if (!isWanted({ name: binaryName, source: name, component, maintainers })) continue
      const artifact = binary.slice(end + 1)
      const place = `${architecture} ${rebuild}`
      const build = builds.get(place)
      if (build !== undefined) build.artifacts.push(artifact)
      else {
        const version = sourceVersion + rebuild
        const url = inputOf({ name, source, version, architecture })
        const head = { name, version, url, maintainer: source.maintainer ?? maintainer }
        builds.set(place, { architecture, head, artifacts: [artifact] })
      }
    }
    return builds.values()
  }
}

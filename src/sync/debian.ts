import { Complaint } from '../errors.ts'
import type { Packages, ReportedArtifact, ReportToSend } from '../wire/packages.ts'
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
import type { Gathering } from './gathering.ts'
import type { Mirror } from './mirror.ts'
import type { Profile } from './profile.ts'
import { wantedBy } from './rules.ts'

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
  const failed = new Map<string, Error>()
  try {
    const release = await readRelease(reading.mirror, name, profile, context)
    const groups = await readGroups(reading, release, failed)
    for (const architecture of [...new Set(profile.architectures)].sort()) {
      if (failed.has(architecture)) continue
      const packages = finished(groups.get(architecture), architecture, failed, context.signal)
      if (packages === null) continue
      const index = release?.index ?? 'unsigned'
      yield { distribution: 'debian', release: name, architecture, packages, index }
    }
  } catch (error) {
    const trouble = troubleOf(error, context.signal)
    for (const architecture of profile.architectures) failed.set(architecture, trouble)
  }
  for (const [architecture, trouble] of failed) {
    failures.push({ scope: `debian ${name} ${architecture}`, trouble })
  }
}

/** The packages of an architecture; null where they contradict each other. */
function finished(
  found: Gathering | undefined,
  architecture: string,
  failed: Map<string, Error>,
  signal: AbortSignal,
): Packages | null {
  try {
    return found?.finish() ?? []
  } catch (error) {
    failed.set(architecture, troubleOf(error, signal))
    return null
  }
}

/** Binaries by architecture and source. What was needed of the sources is forgotten then. */
async function readGroups(
  reading: Reading,
  release: Release | null,
  failed: Map<string, Error>,
): Promise<Groups> {
  const indexes = await fetchIndexes(reading, release)
  const sources = await readSources(indexes.sources, reading)
  return readBinaries(indexes.binaries, sources, reading, failed)
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

async function readSources(
  fetched: readonly Fetched[],
  { profile, context }: Reading,
): Promise<Map<string, Source>> {
  const sources = new Map<string, Source>()
  const reader = sourceReader(sources, needsOf(profile))
  for (const { path, index } of fetched) {
    const { origin, chunks } = present(index, path)
    for await (const stanza of stanzas(chunks(context.signal), { what: origin, wanted: reader.fields })) {
      reader.add(stanza, origin)
    }
  }
  return sources
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

type Groups = Map<string, Gathering>

/** Packages by the architecture they are of, grouped by source; an architecture whose index fails is in `failed`. */
async function readBinaries(
  fetched: readonly Fetched[],
  sources: ReadonlyMap<string, Source>,
  reading: Reading,
  failed: Map<string, Error>,
): Promise<Groups> {
  const groups: Groups = new Map(
    reading.profile.architectures.map((architecture) => [architecture, reading.context.gathering('found')]),
  )
  const collect = collector(groups, sources, reading)
  for (const { path, component, architecture, index } of fetched) {
    if (failed.has(architecture)) continue
    try {
      const { origin, chunks } = present(index, path)
      for await (const stanza of stanzas(chunks(reading.context.signal), {
        what: origin,
        wanted: binaryFields,
      })) {
        collect.add(binaryOf(stanza, origin), component, origin)
      }
    } catch (error) {
      const trouble = troubleOf(error, reading.context.signal)
      failed.set(architecture, trouble)
      if (groups.has('all')) failed.set('all', trouble) // its packages are in this index, too
    }
  }
  collect.sayWhatWasLeftOut()
  return groups
}

function collector(
  groups: Groups,
  sources: ReadonlyMap<string, Source>,
  { profile, context, name, source }: Reading,
) {
  const isWanted = wantedBy(profile)
  const inputOf = buildInputs(profile, source)
  const orphans: string[] = []
  let count = 0
  return {
    add(binary: Binary, component: string, origin: string): void {
      const group = groups.get(binary.architecture)
      if (group === undefined) return
      const found = sources.get(sourceKey(binary.source, binary.sourceVersion))
      if (found === undefined) {
        orphans.push(`${binary.name} ${binary.version}`)
        return
      }
      const maintainers = (): string[] =>
        [binary.maintainer, found.maintainer, ...peopleOf(found.uploaders)].filter((one) => one !== null)
      if (!isWanted({ name: binary.name, source: binary.source, component, maintainers })) return
      if (++count > mostPackages) throw new Complaint(`${origin} lists more than ${mostPackages} packages`)
      const artifact = artifactOf(binary, component, addressOf(source, binary.path, origin))
      const version = binary.sourceVersion + binary.rebuild
      group.add(sourceKey(binary.source, version), artifact, () => ({
        name: binary.source,
        version,
        url: inputOf({ name: binary.source, source: found, version, architecture: binary.architecture }),
        maintainer: found.maintainer ?? binary.maintainer,
      }))
    },
    sayWhatWasLeftOut(): void {
      if (orphans.length === 0) return
      const some = orphans.slice(0, 5).join(', ')
      context.log.warning(
        `sync: debian ${name}: left out ${orphans.length} packages whose source is in no Sources: ${some}`,
      )
    },
  }
}

function artifactOf(binary: Binary, component: string, url: string): ReportedArtifact {
  const { name, version, architecture, sha256, size } = binary
  return { name, version, component, architecture, url, sha256, size }
}

/** Answers for migration gates, status tools and watchers. */
import { publicKeyToPem } from '../attestation.ts'
import type { BodyOf } from '../wire/endpoint.ts'
import {
  exportDistribution,
  getAttestations,
  longestInline,
  lookupPackages,
  mostAttestations,
  mostInline,
  watchEvents,
  type Exported,
  type Found,
} from '../wire/gates.ts'
import { isReason, type Reason } from '../wire/reasons.ts'
import { openAttestations, type AttestationReader } from './attestations.ts'
import { eventStreamOf, openEventTail, openNews, openTold, resumedFrom, streamEnd } from './events.ts'
import { keeper } from './kept.ts'
import type { Mount } from './route.ts'
import { revisionOf } from './revision.ts'
import type { Service } from './service.ts'
import { attestationShas, exportRows, lookedUp, type ExportRow, type FoundRow } from './store/gates.ts'
import type { Database } from './store/database.ts'

/** Packages that are looked up together: the database does the next ones while the reply to these is made. */
const lookupsAtOnce = 250
/** Bytes of attestations of one request for them: as many as may be asked for, of the largest size. */
const longestTogether = mostAttestations * 64 * 1024
const rowsAtOnce = 4000
const keptExports = 8

type Status = Exported['status']
type Wanted = BodyOf<typeof lookupPackages>['packages']

/** Mounts what gates, checks and monitors ask: many packages at once, and events. */
export function mountGates(mount: Mount, service: Service): void {
  const { db, blobs } = service
  const attestations = openAttestations(blobs)
  const packages = revisionOf(service, 'packages')
  const keep = keeper(keptExports)
  const public_keys = { current: [publicKeyToPem(service.signingKey.publicKey)] }
  mount(lookupPackages, async ({ body }) => {
    const { packages, with: more = [] } = body
    const read = more.includes('attestations')
      ? attestations({ most: mostInline, longest: longestInline })
      : null
    const keys = more.includes('keys') ? `"public_keys":${JSON.stringify(public_keys)},` : ''
    const pieces = recordPieces(`{${keys}"records":[`, foundPackages(db, read, packages))
    return packages.length > lookupsAtOnce ? { pieces } : { json: (await Array.fromAsync(pieces)).join('') }
  })
  mount(getAttestations, async ({ body }) => {
    const read = attestations({ most: mostAttestations, longest: longestTogether })
    return { json: `{"records":[${await attestationsOf(db, read, body.attestations)}]}` }
  })
  mount(
    exportDistribution,
    async ({ params, query, context }) => {
      const revision = await packages.revision()
      const isLines = query.format === 'ndjson'
      const key = JSON.stringify([params.distribution, query.releases ?? null, isLines])
      const type = isLines ? 'application/x-ndjson' : 'application/json'
      const releases = query.releases ?? null
      return keep(context, key, revision, type, () =>
        exported(service, { distribution: params.distribution, releases, isLines }),
      )
    },
    packages,
  )
  const tail = openEventTail(db)
  const news = openNews(service.pulse, tail)
  const sources = { db, tail, news, told: openTold(), listeners: { count: 0 } }
  mount(watchEvents, async ({ query, request, address }) => {
    const end = streamEnd(service.stopping)
    service.watchers.enter(address, end.over)
    const after = resumedFrom(request, query.after)
    return eventStreamOf(sources, { after, kinds: query.kinds ?? null }, end)
  })
}

/** A document around records that come some at a time. */
async function* recordPieces(
  start: string,
  records: AsyncIterable<readonly string[]>,
): AsyncGenerator<string> {
  let before = start
  for await (const some of records) {
    if (some.length === 0) continue
    yield before + some.join(',')
    before = ','
  }
  yield before === ',' ? ']}' : `${before}]}`
}

/** The records of packages as JSON, in the order asked, some at a time. */
async function* foundPackages(
  db: Database,
  read: AttestationReader | null,
  packages: Wanted,
): AsyncGenerator<string[]> {
  const slices = Array.from({ length: Math.ceil(packages.length / lookupsAtOnce) }, (_, index) =>
    packages.slice(index * lookupsAtOnce, (index + 1) * lookupsAtOnce),
  )
  const lookUp = (slice: Wanted | undefined): Promise<FoundRow[]> => {
    const rows = lookedUp(db, slice ?? [])
    rows.catch(() => undefined) // whoever waits for it is told; nobody may be by then
    return rows
  }
  let next = lookUp(slices[0])
  for (const [index, slice] of slices.entries()) {
    const found = await next
    next = index + 1 < slices.length ? lookUp(slices[index + 1]) : next
    const byPosition = Map.groupBy(found, (row) => row.position)
    yield await recordsOf(slice, byPosition, read)
  }
}

async function recordsOf(
  slice: Wanted,
  byPosition: ReadonlyMap<number, readonly FoundRow[]>,
  read: AttestationReader | null,
): Promise<string[]> {
  const rows = slice.map((_, position) => bestOf(byPosition.get(position) ?? []))
  const records = rows.map((row) => JSON.stringify(row === null ? null : foundOf(row)))
  if (read === null) return records
  const asked = [...rows.keys()].filter((at) => rows[at]?.status === 'GOOD' && slice[at]?.proven !== true)
  const attestations = await read(asked.map((at) => rows[at]?.attestation ?? null))
  for (const [index, at] of asked.entries()) {
    const attestation = attestations[index]
    if (attestation !== undefined)
      records[at] = `${records[at]?.slice(0, -1)},"attestation":${attestation ?? 'null'}}`
  }
  return records
}

/** JSON of attestations in the order asked, with commas between. */
async function attestationsOf(
  db: Database,
  read: AttestationReader,
  wanted: readonly { build_id: number; artifact_id: number }[],
): Promise<string> {
  const shas = new Map((await attestationShas(db, wanted)).map(({ position, sha256 }) => [position, sha256]))
  const files = wanted.map((_, position) => shas.get(position) ?? null)
  return (await read(files)).map((text) => text ?? 'null').join(',')
}

/**
 * The same package in several releases: a GOOD one speaks for all, else the one that is listed. Several versions, where
 * the epoch was not told, are none: nobody can say which is meant.
 */
function bestOf(rows: readonly FoundRow[]): FoundRow | null {
  if (rows.some(({ version }) => version !== rows[0]?.version)) return null
  const rank = (row: FoundRow): number => (row.status === 'GOOD' ? 0 : 2) + (row.seen === 1 ? 0 : 1)
  const [best] = [...rows].sort((a, b) => rank(a) - rank(b))
  return best ?? null
}

function foundOf(best: FoundRow): Found {
  const { release, sha256, size, build_id, artifact_id, decided_at, index } = best
  return {
    status: statusOf(best.status),
    reason: reasonOf(best.reason),
    release: release === '' ? null : release,
    sha256,
    size,
    build_id,
    artifact_id,
    has_attestation: best.attestation !== null,
    decided_at,
    index,
  }
}

function statusOf(status: string | null): Status {
  return (status ?? 'UNKWN') as Status // we wrote it
}

function reasonOf(code: string | null): Reason | null {
  return code !== null && isReason(code) ? code : null
}

/** The text of an export, piece by piece: rows of one name come together, those that differ only by release become one. */
async function* exported(
  { db, basePath }: Service,
  wanted: { distribution: string; releases: readonly string[] | null; isLines: boolean },
): AsyncGenerator<string> {
  const { distribution, releases, isLines } = wanted
  let isFirst = true
  const textOf = (records: readonly Exported[]): string => {
    if (isLines) return records.map((record) => `${JSON.stringify(record)}\n`).join('')
    const text = records.map((record) => JSON.stringify(record)).join(',\n')
    const joint = isFirst || text === '' ? '' : ',\n'
    isFirst &&= text === ''
    return joint + text
  }
  if (!isLines) yield '[\n'
  let pending: ExportRow[] = [] // rows of the last name so far: more of it may come
  for (let after = { name: '', id: 0 }; ;) {
    const rows = await exportRows(db, distribution, releases, after, rowsAtOnce)
    const last = rows.at(-1)
    const all = [...pending, ...rows]
    pending = last === undefined ? [] : all.filter((row) => row.name === last.name)
    yield textOf(distinct(last === undefined ? all : all.filter((row) => row.name !== last.name), basePath))
    if (last === undefined) break
    after = { name: last.name, id: last.id }
  }
  if (!isLines) yield '\n]\n'
}

/** One record per name, version and architecture; the newest build speaks, a GOOD before others. */
function distinct(rows: readonly ExportRow[], basePath = ''): Exported[] {
  const groups = Map.groupBy(rows, (row) => `${row.name}\n${row.version}\n${row.architecture}`)
  const records = [...groups.values()].map((group) => oneOf(group, basePath))
  return records.sort(
    (a, b) =>
      compare(a.name, b.name) || compare(a.version, b.version) || compare(a.architecture, b.architecture),
  )
}

function compare(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0
}

function oneOf(rows: readonly ExportRow[], basePath: string): Exported {
  const newest = [...rows].sort((a, b) => (b.build_id ?? 0) - (a.build_id ?? 0))
  const speaker = newest.find((row) => row.status === 'GOOD') ?? newest[0]
  const spoken = speaker as ExportRow // groups are not empty
  const { architecture, name, version, source_name, source_version, sha256, build_id, artifact_id } = spoken
  return {
    architecture,
    name,
    version,
    source_name,
    source_version,
    releases: [...new Set(rows.map((row) => row.release))].sort(),
    status: statusOf(speaker?.status ?? null),
    reason: reasonOf(speaker?.reason ?? null),
    sha256,
    build_id,
    artifact_id,
    evidence: build_id === null ? null : `${basePath}/api/v1/builds/${build_id}`,
    index: spoken.index,
  }
}

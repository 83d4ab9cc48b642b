/** Answers for migration gates, status tools and watchers. */
import { plainBytes } from '../compression.ts'
import {
  exportDistribution,
  getAttestations,
  getHealth,
  getOpenApi,
  lookupPackages,
  watchEvents,
  type Exported,
  type Found,
} from '../wire/gates.ts'
import { endpoints } from '../wire/index.ts'
import { openApi } from '../wire/openapi.ts'
import { isReason, type Reason } from '../wire/reasons.ts'
import { version } from '../version.ts'
import { eventStreamOf } from './events.ts'
import { keeper } from './kept.ts'
import type { Mount } from './route.ts'
import { revisionOf } from './revision.ts'
import type { Service } from './service.ts'
import { attestationShas, exportRows, lookedUp, type ExportRow, type FoundRow } from './store/gates.ts'
import type { Database } from './store/database.ts'
import { generationsOf } from './store/packages.ts'

const lookupsAtOnce = 1000
/** Bytes of an attestation that is sent together with others; they have 1 kB or two. */
const longestAttestation = 64 * 1024
const rowsAtOnce = 4000
const keptExports = 8

type Status = Exported['status']

export function mountGates(mount: Mount, service: Service): void {
  const { db } = service
  const packages = revisionOf(service, 'packages')
  const keep = keeper(keptExports)
  let description: { json: string } | undefined
  mount(lookupPackages, async ({ body }) => ({ records: await foundPackages(db, body.packages) }))
  mount(getAttestations, async ({ body }) => ({ json: await attestationsText(service, body.attestations) }))
  mount(
    exportDistribution,
    async ({ params, query, context }) => {
      const revision = await packages.revision()
      const isLines = query.format === 'ndjson'
      const key = JSON.stringify([params.distribution, query.releases ?? null, isLines])
      const type = isLines ? 'application/x-ndjson' : 'application/json'
      const releases = query.releases ?? null
      return keep(context, key, revision, type, () => exported(db, params.distribution, releases, isLines))
    },
    packages,
  )
  mount(watchEvents, async ({ query, request }) => {
    const resumed = Number(request.headers.get('last-event-id') ?? Number.NaN)
    const after = query.after ?? (Number.isSafeInteger(resumed) ? resumed : null)
    return eventStreamOf(db, service.pulse, { after, kinds: query.kinds ?? null, signal: service.stopping })
  })
  mount(getOpenApi, async () => (description ??= { json: JSON.stringify(openApi(endpoints, version)) }))
  mount(getHealth, async () => {
    await generationsOf(db, ['packages'])
    return { status: 'ok' as const, version }
  })
}

async function foundPackages(
  db: Database,
  wanted: readonly { distribution: string; name: string; version: string; architecture: string }[],
): Promise<(Found | null)[]> {
  const records: (Found | null)[] = []
  for (let start = 0; start < wanted.length; start += lookupsAtOnce) {
    const slice = wanted.slice(start, start + lookupsAtOnce)
    const byPosition = Map.groupBy(await lookedUp(db, slice), (row) => row.position)
    for (const position of slice.keys()) records.push(bestOf(byPosition.get(position) ?? []))
  }
  return records
}

/** As JSON that is ready: attestations were checked when they came, and are only put together here. */
async function attestationsText(
  { db, blobs }: Service,
  wanted: readonly { build_id: number; artifact_id: number }[],
): Promise<string> {
  const shas = new Map((await attestationShas(db, wanted)).map(({ position, sha256 }) => [position, sha256]))
  const records: string[] = []
  for (const position of wanted.keys()) {
    const sha256 = shas.get(position)
    const stored = sha256 === undefined ? null : await blobs.read(sha256)
    const plain = stored === null ? null : await plainBytes(stored, longestAttestation).catch(() => null)
    records.push(plain === null ? 'null' : Buffer.from(plain).toString('utf8'))
  }
  return `{"records":[${records.join(',')}]}`
}

/** The same package in several releases: a GOOD one speaks for all, else the one that is listed. */
function bestOf(rows: readonly FoundRow[]): Found | null {
  const rank = (row: FoundRow): number => (row.status === 'GOOD' ? 0 : 2) + (row.seen === 1 ? 0 : 1)
  const [best] = [...rows].sort((a, b) => rank(a) - rank(b))
  if (best === undefined) return null
  const { release, sha256, size, build_id, artifact_id, decided_at, index } = best
  return {
    status: statusOf(best.status),
    reason: reasonOf(best.reason),
    release: release === '' ? null : release,
    sha256,
    size,
    build_id,
    artifact_id,
    has_attestation: best.attestation_id !== null,
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
  db: Database,
  distribution: string,
  releases: readonly string[] | null,
  isLines: boolean,
): AsyncGenerator<string> {
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
    yield textOf(distinct(last === undefined ? all : all.filter((row) => row.name !== last.name)))
    if (last === undefined) break
    after = { name: last.name, id: last.id }
  }
  if (!isLines) yield '\n]\n'
}

/** One record per name, version and architecture; the newest build speaks, a GOOD before others. */
export function distinct(rows: readonly ExportRow[]): Exported[] {
  const groups = Map.groupBy(rows, (row) => `${row.name}\n${row.version}\n${row.architecture}`)
  const records = [...groups.values()].map(oneOf)
  return records.sort(
    (a, b) =>
      compare(a.name, b.name) || compare(a.version, b.version) || compare(a.architecture, b.architecture),
  )
}

function compare(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0
}

function oneOf(rows: readonly ExportRow[]): Exported {
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
    evidence: build_id === null ? null : `/api/v1/builds/${build_id}`,
    index: spoken.index,
  }
}

/** API v0, told in terms of what the server has now, and nothing else. */
import type { Hono } from 'hono'
import { matchedRoutes } from 'hono/route'
import { publicKeyToPem } from '../attestation.ts'
import { wireTime } from '../wire/schema.ts'
import {
  getAttestationV0,
  getDashboardV0,
  getDiffoscopeV0,
  getLogV0,
  getPublicKeysV0,
  listPackagesV0,
  listQueueV0,
  listWorkersV0,
  writesV0,
  type QueueItemV0,
} from '../wire/v0.ts'
import { briefly } from './costly.ts'
import { keeper } from './kept.ts'
import type { Mount } from './route.ts'
import { constantRevision, revisionOf } from './revision.ts'
import { frameOf, type Service } from './service.ts'
import { firstBlobOf, logOf } from './store/builds.ts'
import { componentCounts, packagesAsJson, queueRowsV0, type QueueRowV0 } from './store/legacy.ts'
import { limitOf, longestPage } from './store/page.ts'
import { countJobs } from './store/queue.ts'
import { listWorkerRows } from './store/workers.ts'

/** Lists kept ready: one for each filter that is asked for a lot. */
const keptLists = 8

/** Running jobs from which on a dashboard that tells of each takes so long that it is made once for all who ask at the time. */
const manyRunning = 500

/** Milliseconds for which the list has packages that left their release: whoever updates now and then still finds theirs. */
const keptAfterLeaving = 90 * 24 * 3_600_000

/** What v0 says where v1 says nothing; clients compare these texts. */
const words: Readonly<Record<number, string>> = { 403: 'Authentication failed\n', 404: 'Not found\n' }

/** Mounts API v0. */
export function mountLegacy(app: Hono, mount: Mount, service: Service): void {
  app.use('/api/v0/*', async (c, next) => {
    await next()
    const text = words[c.res.status]
    const isRoute = matchedRoutes(c).some(({ path }) => path.startsWith('/api/v0/') && !path.endsWith('/*'))
    if (text === undefined || !isRoute || c.res.headers.get('content-length') !== '0') return
    const { status } = c.res
    c.res = undefined // else its headers would stay
    c.res = new Response(text, { status, headers: { 'content-length': String(text.length) } })
  })
  const { db, now, signingKey } = service
  const keep = keeper(keptLists)
  const packages = revisionOf(service, 'packages')
  mount(
    listPackagesV0,
    async ({ query, context }) => {
      const revision = await packages.revision()
      const cutoff = wireTime(new Date(now().getTime() - keptAfterLeaving))
      return keep(context, JSON.stringify(query), revision, 'application/json', () =>
        packagesAsJson(db, query, cutoff),
      )
    },
    packages,
  )
  const dashboard = async () => {
    const [counts, running, jobs] = await Promise.all([
      componentCounts(db),
      queueRowsV0(db, longestPage, true),
      countJobs(db, {}, wireTime(now())),
    ])
    const suites = counts.map(
      ({ component, good, bad, unknown }) => [component, { good, unknown, bad }] as const,
    )
    return {
      suites: Object.fromEntries(suites),
      active_builds: running.map((row) => queueItem(row)),
      queue_length: jobs.available + jobs.pending,
      now: wireTime(now()),
    }
  }
  mount(
    getDashboardV0,
    briefly(dashboard, ({ active_builds: running }) => running.length > manyRunning),
  )
  mount(listQueueV0, async ({ body }) => {
    const rows = await queueRowsV0(db, limitOf(body.limit ?? -1), false)
    return { now: wireTime(now()), queue: rows.map((row) => queueItem(row)) }
  })
  mount(getLogV0, async ({ params }) => frameOf(service, await logOf(db, params.id)))
  mount(getDiffoscopeV0, async ({ params }) =>
    frameOf(service, await firstBlobOf(db, params.id, 'diffoscope')),
  )
  mount(getAttestationV0, async ({ params }) =>
    frameOf(service, await firstBlobOf(db, params.id, 'attestation')),
  )
  const keys = { current: [publicKeyToPem(signingKey.publicKey)] }
  mount(getPublicKeysV0, async () => keys, constantRevision(now, keys))
  mount(listWorkersV0, async () => {
    const { rows } = await listWorkerRows(db, { limit: longestPage })
    const online = rows.filter((row) => row.online === 1)
    return online.map(({ id, name, address, status, last_ping }) => ({
      id,
      name,
      addr: address,
      address,
      status,
      last_ping,
      online: true,
    }))
  })
  for (const row of writesV0) mount(row, async () => undefined)
}

function queueItem(row: QueueRowV0): QueueItemV0 {
  const { id, name, version, distribution, architecture, url, queued_at, worker_id, started_at } = row
  const artifacts = JSON.parse(row.artifacts) as QueueItemV0['pkgbase']['artifacts'] // as the query made it
  return {
    id,
    pkgbase: { name, version, distro: distribution, suite: '', architecture, input_url: url, artifacts },
    version,
    queued_at,
    worker_id,
    started_at,
    last_ping: started_at === null ? null : row.last_ping,
  }
}

import { Hono, type Context } from 'hono'
import * as v from 'valibot'
import {
  getArtifact,
  getAttestation,
  getBuild,
  getDiffoscope,
  getDiffoscopeHtml,
  listArtifacts,
  listBuilds,
  submitBuild,
} from '../wire/builds.ts'
import {
  getBinaryPackage,
  getSourcePackage,
  listBinaryPackages,
  listSourcePackages,
  submitPackages,
} from '../wire/packages.ts'
import {
  dropJob,
  dropJobs,
  getJob,
  listQueue,
  pingJob as pingQueue,
  popQueue,
  requestRebuild,
} from '../wire/queue.ts'
import { wireTime } from '../wire/schema.ts'
import {
  Free,
  getChallenge,
  getWorker,
  listWorkers,
  registerWorker,
  removeWorker,
  type Worker,
} from '../wire/workers.ts'
import type { Again } from './again.ts'
import { bodyOf } from './encoding.ts'
import { openDoor, type Identity } from './callers.ts'
import { openChallenges, openSessions, type Sessions } from './challenge.ts'
import { importBytes } from './import-elsewhere.ts'
import { incomingOf } from './incoming.ts'
import {
  artifactsOfBuild,
  findArtifact,
  findBinary,
  findJob,
  findRebuild,
  findSource,
  findWorker,
  queuedJobs,
  rebuilds,
  sourcePackages,
  workers,
} from './overview.ts'
import { mountBackup } from './backup.ts'
import { mountControl } from './control.ts'
import { mountGates } from './gates.ts'
import { mountHistory } from './history.ts'
import { mountLegacy } from './legacy.ts'
import { mountMeta } from './meta.ts'
import { jobsDropped, rebuildsOrdered } from './orders.ts'
import { mountPages } from './pages.ts'
import { pingJob, popJob } from './queue.ts'
import { Refusal, found, notFound } from './refusal.ts'
import { workerRegistered, workerRemoved } from './registry.ts'
import { tagText } from './rules.ts'
import { takeReport } from './results.ts'
import { revisionOf, tagged, type Revision } from './revision.ts'
import { errorReply, mounter, type Asked, type Mount, type Ready } from './route.ts'
import { frameOf, type Service } from './service.ts'
import { oneAtATime } from './turns.ts'
import { mountWatching } from './watching.ts'
import { binaryPage } from './store/binaries.ts'
import { attestationOf, diffoscopeHtmlOf, diffoscopeOf } from './store/builds.ts'
import type { PageRequest } from './store/page.ts'
import type { PackageFilter } from './store/packages.ts'
import { isKeyProven } from './store/workers.ts'

/**
 * The HTTP application: API v1, mounted from the table of endpoints, and the pages.
 * @param again is given the replies of pages that are the same until something changes
 */
export function openApp(service: Service, again: Again): Hono {
  const app = new Hono()
  const { log, db, secrets, now, largestBody } = service
  const sessions = openSessions(service.signingKey, now)
  const door = openDoor(db, secrets, now, sessions)
  const addressOf = (c: Context): string => callerAddress(c, service.realIpHeader)
  app.use(openToReaders)
  app.use(async (c, next) => {
    await next()
    if (c.req.method !== 'GET' && c.res.ok) service.pulse.beat()
  })
  const mount = mounter({ app, door, log, largestBody, addressOf, observe: service.observe })
  mountPackages(mount, service)
  mountBuilds(mount, service)
  mountControl(mount, service)
  mountHistory(mount, service)
  mountQueue(mount, service)
  mountWorkers(mount, service, sessions)
  mountMeta(mount, service)
  mountLegacy(app, mount, service)
  mountGates(mount, service)
  mountWatching(mount, service)
  mountBackup(mount, service)
  mountPages(app, service, again)
  app.notFound(() => errorReply(notFound(), log, ''))
  app.onError((error, c) => errorReply(error, log, `${c.req.method} ${c.req.path}`))
  return app
}

/** Anybody may read from any web page (fetch.spec.whatwg.org, CORS); secrets are never asked for by that way. */
async function openToReaders(c: Context, next: () => Promise<void>): Promise<Response | undefined> {
  if (c.req.method === 'OPTIONS') {
    const allowed = 'GET, HEAD, OPTIONS'
    const headers = {
      allow: allowed,
      'access-control-allow-origin': '*',
      'access-control-allow-methods': allowed,
    }
    return new Response(null, { status: 204, headers: { ...headers, 'access-control-max-age': '86400' } })
  }
  await next()
  if (c.req.method === 'GET' || c.req.method === 'HEAD') c.res.headers.set('access-control-allow-origin', '*')
  return undefined
}

/** The address of whoever calls: the connection's, or what a proxy that the operator trusts says. */
function callerAddress(c: Context, header: string | null): string {
  if (header !== null) {
    const told = c.req.header(header)?.split(',').at(-1)?.trim() // what stands before, the caller may have made up
    if (told !== undefined && /^[0-9a-fA-F.:]{2,45}$/.test(told)) return told
  }
  return incomingOf(c)?.socket.remoteAddress ?? '127.0.0.1'
}

function mountPackages(mount: Mount, service: Service): void {
  const { db } = service
  const packages = revisionOf(service, 'packages')
  const inTurn = oneAtATime() // an import compares with what the one before it left
  const binaries = async (query: PackageFilter & PageRequest): Promise<Ready> => {
    return { json: await binaryPage(db, { filter: query, request: query }) }
  }
  mount(listBinaryPackages, ({ query }) => binaries(query), packages)
  mount(getBinaryPackage, async ({ params }) => found(await findBinary(db, params.id)), packages)
  mount(listSourcePackages, ({ query }) => sourcePackages(db, query, query), packages)
  mount(getSourcePackage, async ({ params }) => found(await findSource(db, params.id)), packages)
  const take = async ({ bytes, query }: Asked<typeof submitPackages>): Promise<void> => {
    const { schedule, shrinkLimitPercent, now, log } = service
    const options = { schedule, shrinkLimitPercent, now, force: query.force === 'true' }
    const { scope, listed, written, retired, queued } = await inTurn(() => importBytes(db, bytes, options))
    log.info(`import ${scope}: ${listed} listed, ${written} written, ${retired} gone, ${queued} queued`)
  }
  mount(submitPackages, take, { isRaw: true })
}

function mountBuilds(mount: Mount, service: Service): void {
  const { db, blobs, schedule, log, now } = service
  const results = { db, blobs, schedule, log, signingKey: service.countersigns ? service.signingKey : null }
  const builds = revisionOf(service, 'builds')
  mount(listBuilds, ({ query }) => rebuilds(db, query, query), builds)
  mount(getBuild, async ({ params }) => found(await findRebuild(db, blobs, params.id)), builds)
  mount(listArtifacts, ({ params }) => artifactsOfBuild(db, params.id), builds)
  mount(
    getArtifact,
    async ({ params }) => found(await findArtifact(db, params.id, params.artifact_id)),
    builds,
  )
  mount(getDiffoscope, async ({ params }) =>
    frameOf(service, await diffoscopeOf(db, params.id, params.artifact_id)),
  )
  mount(getDiffoscopeHtml, async ({ params }) => ({
    ...(await frameOf(service, await diffoscopeHtmlOf(db, params.id, params.artifact_id))),
    headers: pageHeaders(`diff-${params.id}-${params.artifact_id}.html`),
  }))
  mount(getAttestation, async ({ params }) =>
    frameOf(service, await attestationOf(db, params.id, params.artifact_id)),
  )
  mount(submitBuild, async ({ body, worker }) => {
    const reporter = found(worker)
    const verdict = await takeReport(results, reporter, body, now())
    if (verdict === null) throw new Refusal(404, `job ${body.queue_id} was never given to this worker`)
    if (verdict === 'returned') log.info(`worker ${reporter.name}: job ${body.queue_id} is handed back`)
    else if (verdict !== 'repeated') {
      log.info(
        `worker ${reporter.name}: job ${body.queue_id}: ${[verdict.status, verdict.reason ?? ''].join(' ').trim()}`,
      )
    }
  })
}

function mountQueue(mount: Mount, service: Service): void {
  const { db, schedule, log, now } = service
  const queue = revisionOf(service, 'queue')
  mount(listQueue, ({ query }) => queuedJobs(db, query, query), queue)
  mount(getJob, async ({ params }) => found(await findJob(db, params.id)), queue)
  mount(popQueue, ({ body, worker }) => popJob(db, schedule, found(worker), body, now()))
  mount(pingQueue, async ({ params, worker, context }) => {
    const free = await freeOf(context)
    if (!(await pingJob(db, schedule, found(worker).id, params.id, now(), free))) throw notFound()
  })
  mount(requestRebuild, async ({ body }) => {
    const order = { selection: body, priority: body.priority ?? 0, moment: now() }
    return { affected: await rebuildsOrdered(db, order) }
  })
  mount(dropJobs, async ({ query }) => {
    log.info(`${await jobsDropped(db, { which: query, moment: now() })} jobs dropped`)
  })
  mount(dropJob, async ({ params }) => {
    if ((await jobsDropped(db, { which: { id: params.id }, moment: now() })) === 0) throw notFound()
  })
}

/**
 * A page that others made: shown inside ours or alone, nothing in it runs, loads, sends or leads astray
 * (w3.org/TR/CSP3, with the sandbox of HTML's iframes). Pictures of differences are part of the page itself.
 */
function pageHeaders(name: string): Record<string, string> {
  return {
    'content-security-policy':
      "sandbox; default-src 'none'; style-src 'unsafe-inline'; img-src data:; frame-ancestors 'self'",
    'content-disposition': `inline; filename="${name}"`,
    'referrer-policy': 'no-referrer',
  }
}

/** What a worker of ours says of its machine; those of other programs send nothing that counts. */
async function freeOf(c: Context): Promise<Free | null> {
  const bytes = await bodyOf(c, 4096)
  if (bytes.length === 0) return null
  try {
    const { success, output } = v.safeParse(Free, JSON.parse(new TextDecoder().decode(bytes)))
    return success ? output : null
  } catch {
    return null
  }
}

function mountWorkers(mount: Mount, service: Service, sessions: Sessions): void {
  const { db, log, now, secrets } = service
  const changed = revisionOf(service, 'workers')
  const challenges = openChallenges(now)
  mount(getChallenge, async ({ workerKey }) => {
    const key = workerKey ?? ''
    return { nonce: challenges.ask(key), session: sessions.open(key) }
  })
  // Where a worker stands is for administrators; others read the empty text.
  const revision = async ({ isAdmin }: Identity): Promise<Revision> => {
    const told = await changed.revision()
    return isAdmin ? tagged(told, 'admin') : told
  }
  const shown = (worker: Worker, isAdmin: boolean): Worker => (isAdmin ? worker : { ...worker, address: '' })
  mount(
    listWorkers,
    async ({ query, isAdmin }) => {
      const sort = query.sort === 'address' && !isAdmin ? 'id' : query.sort
      const { total, records } = await workers(db, { ...query, sort })
      return { total, records: records.map((worker) => shown(worker, isAdmin)) }
    },
    { revision },
  )
  mount(getWorker, async ({ params, isAdmin }) => shown(found(await findWorker(db, params.id)), isAdmin), {
    revision,
  })
  mount(registerWorker, async ({ body, workerKey, address }) => {
    const moment = wireTime(now())
    const key = workerKey ?? ''
    if (body.proof !== undefined) challenges.check(body, key)
    else if (secrets.requireProof || (await isKeyProven(db, key)))
      throw new Refusal(403, 'the worker has to prove that it holds its key')
    const worker = { key, name: body.name, address, tags: tagText(body.tags) }
    await workerRegistered(db, { worker, isProven: body.proof !== undefined, now: moment })
    log.info(`worker ${body.name} registered from ${address}`)
  })
  mount(removeWorker, async ({ params, query, worker, isAdmin }) => {
    const forgetsKey = query.forget_key === 'true'
    if (!isAdmin && (worker?.id !== params.id || forgetsKey)) throw new Refusal(403)
    const removed = { id: params.id, forgetsKey, now: wireTime(now()) }
    if (!(await workerRemoved(db, removed))) throw notFound()
  })
}

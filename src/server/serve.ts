import { accessSync, constants } from 'node:fs'
import { createServer, type IncomingMessage, type Server as HttpServer, type ServerResponse } from 'node:http'
import { join } from 'node:path'
import { getRequestListener } from '@hono/node-server'
import type { ServerSettings } from '../config.ts'
import { Complaint, during, explain } from '../errors.ts'
import { makeFolders } from '../folders.ts'
import type { Log } from '../log.ts'
import { publicKeyToPem } from '../attestation.ts'
import { wireTime } from '../wire/schema.ts'
import { openAgain } from './again.ts'
import { openApp } from './app.ts'
import { boundConnections, possibleConnections } from './connections.ts'
import { isSharedAddress, openPulse, openWatchers } from './events.ts'
import { copiesFolder, openHousekeeping } from './housekeeping.ts'
import { applyRules, tendQueue, type Schedule } from './queue.ts'
import { openPace, type Pace } from './pace.ts'
import { pageTender } from './snapshots.ts'
import type { Service, WebOptions } from './service.ts'
import { openLiveLogs } from './livelog.ts'
import { rulesOf } from './rules.ts'
import { silentNoted } from './registry.ts'
import { openCookie, openSigningKey } from './secrets.ts'
import { openBlobs } from './store/blobs.ts'
import type { Database } from './store/database.ts'
import { lockFolder } from './store/lock.ts'
import { namesPrepared } from './store/names.ts'
import { migrate, migrations } from './store/schema.ts'
import { openSqlite } from './store/sqlite.ts'
import { refuseHalfTaken } from './takeover.ts'
import { trendKeeper } from './trends.ts'
import { againAndAgain } from './turns.ts'

type ServeOptions = {
  settings: ServerSettings
  /** Folder of everything that is kept; made when it is missing. */
  data: string
  /** File of the signing key; default `rebuilderd.sign.key` in the data folder. */
  signingKey?: string | undefined
  /** File of the cookie; default `auth-cookie` in the data folder. */
  cookieFile?: string | undefined
  log: Log
  now?: () => Date
  /** Sees every JSON reply. */
  observe?: Service['observe']
  timeLimits?: TimeLimits
  /** Milliseconds between looks for jobs whose worker stopped answering, and for a day that is over. */
  tick?: number
}

/** Milliseconds until all of a request's headers, and all of the request, must be there: else the reply is 408. */
export type TimeLimits = { headers: number; request: number }

export type RunningServer = {
  /** `http://127.0.0.1:8484` */
  address: string
  cookie: string
  cookieFile: string
  /** The public key as PEM that attestations are countersigned with. */
  publicKey: string
  /** Nobody can register a worker. */
  isClosed: boolean
  /** Answers what has been asked, then ends. */
  stop: () => Promise<void>
  /** Texts of the SQL run so far, for the test of its plans. */
  statements: () => Promise<string[]>
}

const usualTick = 5000
/** Milliseconds that the log of a job is kept after its last piece; the report has brought it long before. */
const keptLive = 2 * 24 * 3_600_000
const usualLimits: TimeLimits = { headers: 15_000, request: 600_000 }
/** Milliseconds that requests under way may take when the server stops. */
const drainTime = 20_000

/**
 * Starts a server: takes its folder, brings the database up to date, listens.
 * @throws Complaint where the folder is in use or not writable, the database damaged, the port taken
 */
export async function startServer(options: ServeOptions): Promise<RunningServer> {
  const { settings, data, log, now = () => new Date() } = options
  openFolder(data)
  const lock = await lockFolder(data)
  const stopping = new AbortController()
  const cleanUp: (() => Promise<void>)[] = [() => lock.release()]
  const undo = async (): Promise<void> => {
    for (const step of cleanUp.splice(0).reverse()) await step()
  }
  try {
    const cookieFile = options.cookieFile ?? join(data, 'auth-cookie')
    const cookie = await openCookie(settings['auth.cookie'], cookieFile)
    const signingKey = await openSigningKey(options.signingKey ?? join(data, 'rebuilderd.sign.key'))
    const file = join(data, 'rebuilderd.db')
    const db = await openSqlite(file)
    cleanUp.push(() => db.close())
    await during(`bringing the database ${file} up to date`, () => migrate(db, file, migrations, log.info))
    await refuseHalfTaken(db)
    await applyRules(db, settings['schedule.rule'], wireTime(now()))
    const folders = { blobs: join(data, 'blobs'), copies: join(data, copiesFolder) }
    const housekeeping = openHousekeeping({ db, log, now }, folders, settings['retention.logs_per_package'])
    cleanUp.push(housekeeping.stop)
    const service: Service = {
      db,
      blobs: openBlobs(folders.blobs),
      liveLogs: openLiveLogs(join(data, 'live')),
      schedule: scheduleOf(settings),
      secrets: {
        cookie,
        signupSecret: settings['worker.signup_secret'],
        authorizedWorkers: settings['worker.authorized_workers'],
        requireProof: settings['worker.require_proof'],
      },
      signingKey,
      countersigns: settings['http.transparently_sign_attestations'],
      shrinkLimitPercent: settings['import.shrink_limit_percent'],
      largestBody: settings['http.post_body_size_limit'],
      realIpHeader: settings['http.real_ip_header'],
      log,
      now,
      basePath: basePathOf(settings['http.base_path']),
      web: webOf(settings),
      trends: trendKeeper(db),
      pulse: openPulse(),
      watchers: openWatchers(settings['http.real_ip_header'] === null),
      data,
      holdingStill: housekeeping.holdingStill,
      stopping: stopping.signal,
      observe: options.observe,
    }
    const { timeLimits = usualLimits, tick = usualTick } = options
    cleanUp.push(keepTime(service, tick))
    const pace = openPace()
    cleanUp.push(async () => pace.stop())
    const http = await listen(service, {
      pace,
      bind: settings['http.bind_addr'],
      basePath: settings['http.base_path'],
      timeLimits,
      mostConnections: connectionsOf(settings, log),
    })
    cleanUp.push(() => drain(http, stopping))
    return {
      address: addressOf(http) + basePathOf(settings['http.base_path']),
      cookie,
      cookieFile,
      publicKey: publicKeyToPem(signingKey.publicKey),
      isClosed: service.secrets.signupSecret === null && service.secrets.authorizedWorkers.length === 0,
      stop: undo,
      statements: () => db.statements(),
    }
  } catch (error) {
    await undo()
    throw error
  }
}

function openFolder(data: string): void {
  try {
    makeFolders(data, 0o700)
    accessSync(data, constants.R_OK | constants.W_OK | constants.X_OK)
  } catch (error) {
    throw new Complaint(`cannot write to the data folder ${data}`, {
      cause: error,
      hint: 'give another folder with --data',
    })
  }
}

/** @throws Complaint where nobody could connect */
function connectionsOf(settings: ServerSettings, log: Log): number {
  const wanted = settings['http.max_connections']
  if (wanted === 0) throw new Complaint('http.max_connections must be at least 1', { exitCode: 2 })
  const possible = possibleConnections(wanted)
  if (possible < wanted)
    log.warning(`at most ${possible} connections at once: this process may not open more files (ulimit -n)`)
  return possible
}

/** The operator's settings as numbers. `max_retries = 0` means what leaving it out means. */
export function scheduleOf(settings: ServerSettings): Schedule {
  const maxRetries = settings['schedule.max_retries']
  return {
    retryDelayHours: settings['schedule.retry_delay_base'],
    maxRetries: maxRetries === 0 ? null : maxRetries,
    infrastructureRetryMinutes: settings['schedule.infrastructure_retry_minutes'],
    infrastructureMaxRetries: settings['schedule.infrastructure_max_retries'],
    initialDelaySeconds: settings['schedule.initial_delay'],
    leaseSeconds: settings['schedule.lease_seconds'],
    rules: rulesOf(settings['schedule.rule']),
  }
}

function webOf(settings: ServerSettings): WebOptions | null {
  if (!settings['web.enabled']) return null
  const [title, logo, link] = [settings['web.title'], settings['web.logo'], settings['web.link']]
  const publicUrl = publicUrlOf(settings['web.public_url'])
  return { title, logo, link, publicUrl, sitemap: settings['web.sitemap'] }
}

/** Without a slash at its end; it goes into commands as it is. */
function publicUrlOf(given: string | null): string | null {
  if (given === null) return null
  const url = URL.parse(given)
  if (url === null || !/^https?:\/\/[\w.\-:[\]]+(\/[\w.~%/-]*)?$/.test(given))
    throw new Complaint(`web.public_url = ${given} is no address of pages`, {
      hint: 'write it like https://rebuilder.example or https://rebuilder.example/amd64',
      exitCode: 2,
    })
  return given.replace(/\/+$/, '')
}

/**
 * Frees jobs of workers that stopped answering, and makes ready what would take long when it is first asked for; ends when
 * its result is called.
 */
function keepTime({ db, schedule, log, now, pulse, liveLogs }: Service, tick: number): () => Promise<void> {
  const over = new AbortController()
  const prepareNames = nameTender(db, log, over.signal)
  const prepared = prepareNames()
  const tendPages = pageTender(db, now)
  const look = async (): Promise<void> => {
    const moment = now()
    const { freed, due } = await tendQueue(db, schedule, moment)
    if (freed + due > 0) pulse.beat()
    if (freed > 0) log.warning(`${freed} jobs taken back from workers that stopped answering`)
    const deadline = wireTime(new Date(moment.getTime() - schedule.leaseSeconds * 1000))
    await silentNoted(db, { deadline, now: wireTime(moment) })
    await tendPages()
    await prepareNames()
    await liveLogs.forget(Date.now() - keptLive)
  }
  const told = (error: unknown): void => log.error(`looking for dead jobs: ${explain(error)}`)
  const end = againAndAgain(() => look().catch(told), tick)
  return async () => {
    over.abort()
    await Promise.all([end(), prepared])
  }
}

/** Keeps the names of packages read, so that nobody who searches waits for that; where it fails, whoever searches is told. */
function nameTender(db: Database, log: Log, over: AbortSignal): () => Promise<void> {
  let isOn = true
  return async () => {
    if (!isOn) return
    await namesPrepared(db, over).catch((error: unknown) => {
      isOn = false
      log.error(`reading the names of packages: ${explain(error)}`)
    })
  }
}

async function listen(
  service: Service,
  {
    pace,
    bind,
    basePath,
    timeLimits,
    mostConnections,
  }: { pace: Pace; bind: string; basePath: string; timeLimits: TimeLimits; mostConnections: number },
): Promise<HttpServer> {
  const again = openAgain()
  const app = openApp(service, again)
  const prefix = basePathOf(basePath)
  // Probes of load balancers ask by HTTP/1.0, which has no Host; others without one are refused before.
  const listener = getRequestListener((request, env) => app.fetch(request, env), { hostname: 'localhost' })
  const served = async (incoming: IncomingMessage, outgoing: ServerResponse): Promise<void> => {
    const answer = again.answer(incoming, outgoing)
    if (answer === false || !(await answer)) await listener(incoming, outgoing)
  }
  const server = createServer(
    {
      requestTimeout: timeLimits.request,
      headersTimeout: timeLimits.headers,
      keepAliveTimeout: 30_000,
      connectionsCheckingInterval: Math.min(5000, timeLimits.headers),
    },
    (incoming, outgoing) => {
      if (!admits(incoming, outgoing)) return
      if (incoming.headers['x-worker-key'] !== undefined) pace.asked()
      incoming.url = normalised(incoming.url ?? '/', prefix)
      void served(incoming, outgoing)
    },
  )
  server.maxHeadersCount = 100
  const isOpen = (network: string): boolean => service.realIpHeader !== null || isSharedAddress(network)
  const admits = boundConnections(server, mostConnections, isOpen)
  const { host, port } = hostAndPort(bind)
  await new Promise<void>((resolve, reject) => {
    server.once('error', (error: Error & { code?: string }) => reject(cannotListen(bind, error)))
    server.listen(port, host, () => resolve())
  })
  return server
}

function cannotListen(bind: string, error: Error & { code?: string }): Complaint {
  const isTaken = error.code === 'EADDRINUSE'
  return new Complaint(
    `cannot listen on ${bind}: ${isTaken ? 'another program listens there' : error.message}`,
    {
      hint: isTaken ? 'stop that program, or choose another port with --listen 127.0.0.1:PORT' : undefined,
    },
  )
}

/** `/amd64/` → `/amd64`; the empty text stays empty. */
function basePathOf(given: string): string {
  const trimmed = given.replace(/^\/+|\/+$/g, '')
  return trimmed === '' ? '' : `/${trimmed}`
}

/** The same address with a plain path: no base path, no doubled slashes, none at the end. */
function normalised(url: string, prefix: string): string {
  if (url === '*') return '/' // OPTIONS of the server as a whole
  if (!url.startsWith('/')) return url
  const end = url.search(/[?#]/)
  const path = end === -1 ? url : url.slice(0, end)
  const below =
    prefix !== '' && (path === prefix || path.startsWith(`${prefix}/`)) ? path.slice(prefix.length) : path
  const plain = below.replace(/\/{2,}/g, '/').replace(/(.)\/$/, '$1')
  return (plain === '' ? '/' : plain) + (end === -1 ? '' : url.slice(end))
}

function hostAndPort(bind: string): { host: string; port: number } {
  const match = /^(?:\[([^\]]+)\]|([^:]*)):(\d{1,5})$/.exec(bind)
  const port = Number(match?.[3])
  if (match === null || port > 65_535) {
    throw new Complaint(`${bind} is no address to listen on`, {
      hint: 'write it like 127.0.0.1:8484 or [::1]:8484',
      exitCode: 2,
    })
  }
  return { host: match[1] ?? (match[2] === '' ? '0.0.0.0' : (match[2] ?? '')), port }
}

function addressOf(server: HttpServer): string {
  const address = server.address()
  if (address === null || typeof address === 'string') return ''
  return `http://${address.family === 'IPv6' ? `[${address.address}]` : address.address}:${address.port}`
}

/** Lets requests end, for a while. */
async function drain(server: HttpServer, stopping: AbortController): Promise<void> {
  stopping.abort() // ends streams of events
  const closed = new Promise((resolve) => server.close(resolve))
  server.closeIdleConnections()
  const timer = setTimeout(() => server.closeAllConnections(), drainTime)
  const idle = setInterval(() => server.closeIdleConnections(), 100)
  await closed
  clearTimeout(timer)
  clearInterval(idle)
}

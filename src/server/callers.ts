import { createHash, timingSafeEqual } from 'node:crypto'
import type { Caller } from '../wire/endpoint.ts'
import type { Sessions } from './challenge.ts'
import { Refusal } from './refusal.ts'
import type { Database } from './store/database.ts'
import { workerByKey, type WorkerRow } from './store/workers.ts'

/** A worker as far as only its registration and its operator change it. */
export type KnownWorker = Pick<WorkerRow, 'id' | 'key' | 'name' | 'tags' | 'draining' | 'proven'>

/** What proves who is calling. */
export type Secrets = {
  cookie: string
  signupSecret: string | null
  authorizedWorkers: readonly string[]
  /** Only workers that proved to hold their key. */
  requireProof: boolean
}

/** Failed attempts of one address in a minute before it has to wait. */
const mostFailures = 30
const minute = 60_000
/** Addresses remembered at once. */
const mostAddresses = 10_000
/** Workers remembered at once. */
const mostWorkers = 10_000

/** Equal, in a time that does not tell how much of it is. */
export function isSame(given: string, secret: string): boolean {
  const digest = (text: string): Buffer => createHash('sha256').update(text).digest()
  return timingSafeEqual(digest(given), digest(secret))
}

/** A header of visible ASCII; anything else counts as missing. */
function headerOf(request: Request, name: string): string | null {
  const value = request.headers.get(name)
  return value !== null && /^[\x20-\x7e]*$/.test(value) ? value : null
}

export type Identity = { isAdmin: boolean; worker: KnownWorker | null; workerKey: string | null }

/** Decides whether a caller may do what an endpoint does, before its body is read. */
export function openDoor(
  db: Database,
  secrets: Secrets,
  now: () => Date,
  sessions: Pick<Sessions, 'isTrue'>,
) {
  const failures = failureCounter(now)
  const known = workerMemory(db)
  const isAdmin = (request: Request): boolean => {
    const cookie = headerOf(request, 'x-auth-cookie')
    return cookie !== null && isSame(cookie, secrets.cookie)
  }
  const isListed = (key: string): boolean =>
    secrets.authorizedWorkers.length === 0 || secrets.authorizedWorkers.includes(key)
  const workerOf = async (request: Request): Promise<KnownWorker | null> => {
    const key = headerOf(request, 'x-worker-key')
    const worker = key !== null && isListed(key) ? await known.find(key) : null
    if (key === null || worker === null) return null
    if (worker.proven !== 1) return secrets.requireProof ? null : worker
    return sessions.isTrue(headerOf(request, 'x-worker-proof'), key) ? worker : null
  }
  const maySignUp = (request: Request): boolean => {
    const key = headerOf(request, 'x-worker-key')
    if (key === null || !isListed(key)) return false
    const secret = headerOf(request, 'x-signup-secret')
    if (secrets.signupSecret !== null) return secret !== null && isSame(secret, secrets.signupSecret)
    return secrets.authorizedWorkers.length > 0 // else registration is closed
  }
  return {
    /** @throws Refusal 403, or 429 where an address fails again and again */
    async enter(caller: Caller, request: Request, address: string): Promise<Identity> {
      const identity: Identity = {
        isAdmin: false,
        worker: null,
        workerKey: headerOf(request, 'x-worker-key'),
      }
      if (caller === 'anyone') return identity
      failures.refuseMany(address)
      if (caller === 'admin' || caller === 'worker or admin') identity.isAdmin = isAdmin(request)
      if (caller === 'worker' || caller === 'worker or admin') identity.worker = await workerOf(request)
      const isWelcome =
        identity.isAdmin || identity.worker !== null || (caller === 'signup' && maySignUp(request))
      if (!isWelcome) {
        failures.count(address)
        throw new Refusal(403)
      }
      return identity
    },
    isAdmin,
    /** To be called when a worker may have changed. */
    forget: known.forget,
  }
}
export type Door = ReturnType<typeof openDoor>

/** Workers by key, so that a call of theirs need not ask the database who it is. */
function workerMemory(db: Database) {
  let known = new Map<string, KnownWorker>()
  return {
    async find(key: string): Promise<KnownWorker | null> {
      const found = known.get(key)
      if (found !== undefined) return found
      const current = known
      const worker = await workerByKey(db, key)
      if (worker !== null && current.size < mostWorkers) current.set(key, worker) // lost where all were forgotten meanwhile
      return worker
    },
    forget(): void {
      known = new Map()
    },
  }
}

/** Failed attempts by address, forgotten each minute. */
function failureCounter(now: () => Date) {
  let counts = new Map<string, number>()
  let since = now().getTime()
  const refresh = (): void => {
    if (Math.abs(now().getTime() - since) < minute && counts.size < mostAddresses) return
    counts = new Map()
    since = now().getTime()
  }
  return {
    refuseMany(address: string): void {
      refresh()
      if ((counts.get(address) ?? 0) >= mostFailures)
        throw new Refusal(429, 'too many failed attempts; try again in a minute')
    },
    count(address: string): void {
      counts.set(address, (counts.get(address) ?? 0) + 1)
    },
  }
}

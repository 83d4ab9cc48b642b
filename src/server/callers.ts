import { createHash, timingSafeEqual } from 'node:crypto'
import { isIPv6 } from 'node:net'
import type { Caller } from '../wire/endpoint.ts'
import type { Sessions } from './challenge.ts'
import { Refusal } from './refusal.ts'
import type { Database } from './store/database.ts'
import { workerByKey, type WorkerRow } from './store/workers.ts'

/** A worker as far as only its registration and its operator change it. */
type KnownWorker = Pick<WorkerRow, 'id' | 'key' | 'name' | 'tags' | 'draining' | 'proven'>

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
/**
 * Characters from which on a secret cannot be guessed however often one tries: its holder is never kept waiting for
 * what others at the same address do, as all callers have one behind a proxy that does not tell theirs.
 */
const unguessable = 20
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
  /** Whether an attempt at this endpoint is made with a secret that is long enough not to be guessed. */
  const isUnguessable = (caller: Caller, request: Request): boolean => {
    const longOf = (name: string): boolean => (headerOf(request, name) ?? '').length >= unguessable
    const hasCookie = headerOf(request, 'x-auth-cookie') !== null
    if (caller === 'worker' || (caller === 'worker or admin' && !hasCookie)) return longOf('x-worker-key')
    if (caller === 'signup')
      return secrets.signupSecret === null ? longOf('x-worker-key') : longOf('x-signup-secret')
    return longOf('x-auth-cookie')
  }
  /** Who reads what is for anyone may show the cookie too, and is told more; guesses count here as well. */
  const isKnownAdmin = (request: Request, address: string): boolean => {
    if (headerOf(request, 'x-auth-cookie') === null) return false
    if (failures.areMany(address) && !isUnguessable('admin', request)) return false
    const isRight = isAdmin(request)
    if (!isRight) failures.count(address)
    return isRight
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
      if (caller === 'anyone or admin') return { ...identity, isAdmin: isKnownAdmin(request, address) }
      const isKeptOut = failures.areMany(address)
      if (isKeptOut && !isUnguessable(caller, request)) throw tooOften()
      if (caller === 'admin' || caller === 'worker or admin') identity.isAdmin = isAdmin(request)
      if (caller === 'worker' || caller === 'worker or admin') identity.worker = await workerOf(request)
      const isWelcome =
        identity.isAdmin || identity.worker !== null || (caller === 'signup' && maySignUp(request))
      if (!isWelcome) {
        failures.count(address)
        throw isKeptOut ? tooOften() : new Refusal(403)
      }
      return identity
    },
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

function tooOften(): Refusal {
  return new Refusal(429, 'too many failed attempts; try again in a minute')
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
    areMany(address: string): boolean {
      refresh()
      return (counts.get(networkOf(address)) ?? 0) >= mostFailures
    },
    count(address: string): void {
      const network = networkOf(address)
      counts.set(network, (counts.get(network) ?? 0) + 1)
    },
  }
}

/** An IPv4 address; of an IPv6 address the 64 bits of its network, as a machine may choose the others (RFC 4291). */
export function networkOf(address: string): string {
  if (!isIPv6(address)) return address
  const [, mapped] = /^::ffff:(\d+\.\d+\.\d+\.\d+)$/i.exec(address) ?? []
  if (mapped !== undefined) return mapped
  const [head = '', tail = ''] = (address.split('%')[0] ?? '').split('::')
  const groups = head === '' ? [] : head.split(':')
  const missing = 8 - groups.length - (tail === '' ? 0 : tail.split(':').length)
  const whole = address.includes('::')
    ? [...groups, ...Array<string>(Math.max(0, missing)).fill('0'), ...tail.split(':')]
    : groups
  return whole
    .slice(0, 4)
    .map((group) => parseInt(group, 16).toString(16))
    .join(':')
}

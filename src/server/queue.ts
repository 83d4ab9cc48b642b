import { randomUUID } from 'node:crypto'
import type { JobArtifact, JobAssignment, PopRequest, QueuedJob } from '../wire/queue.ts'
import { isReason, type ReasonClass } from '../wire/reasons.ts'
import { wireTime } from '../wire/schema.ts'
import type { Free } from '../wire/workers.ts'
import { ruleFor, servedSets, type Rule } from './rules.ts'
import { touched } from './store/imports.ts'
import type { Database, Transaction } from './store/database.ts'
import { happened } from './store/events.ts'
import {
  choresBefore,
  extendLease,
  freeJobs,
  knownArchitectures,
  handedOut,
  leaseJob,
  leaseNamed,
  promoted,
  ruledJob,
  rulesSwitch,
  rulesForgotten,
  switchOf,
  switched,
  turns,
  unruled,
  unruledJobs,
  type ArtifactRow,
  type Chores,
  type JobRow,
  type Switch,
  type Wanted,
  workerSeen,
} from './store/queue.ts'
import { part, work } from './store/work.ts'
import { freeTold } from './store/workers.ts'

/** The operator's choices, as numbers. */
export type Schedule = {
  retryDelayHours: number
  /** null: never give up */
  maxRetries: number | null
  infrastructureRetryMinutes: number
  infrastructureMaxRetries: number
  initialDelaySeconds: number
  leaseSeconds: number
  rules: readonly Rule[]
}

const minute = 60_000
const hour = 60 * minute

/** Combinations of backend, architecture and tags looked at for one pop: a bound against hostile lists. */
const mostPairs = 512
/** Jobs that the rules are asked about, and whose wait ends, in one piece of work. */
const tendedAtOnce = 200
/** The same in a pop, which shall be short: imports and the timer have seen to nearly all by then. */
const tendedInPop = 10

/**
 * When a rebuild that was not GOOD is tried again.
 * After the n-th failure for the package's own reasons it waits n times the base delay, and is left alone after
 * `maxRetries` of them. Failures of infrastructure come back sooner, on a budget of their own.
 * @param retries failures of this class so far, this one included
 * @returns null: not again by itself
 */
export function nextRetry(
  now: Date,
  reasonClass: ReasonClass,
  retries: number,
  schedule: Schedule,
): Date | null {
  const base = schedule.retryDelayHours * hour
  if (reasonClass === 'package') {
    const isOver = schedule.maxRetries !== null && retries >= schedule.maxRetries
    return isOver ? null : new Date(now.getTime() + retries * base)
  }
  const doubled = schedule.infrastructureRetryMinutes * minute * 2 ** Math.min(retries - 1, 30)
  const isPatient = retries > schedule.infrastructureMaxRetries
  return new Date(now.getTime() + (isPatient ? base : Math.min(doubled, base)))
}

/** Names that kernels and distributions give the same architecture. */
const sameArchitecture: readonly (readonly string[])[] = [
  ['x86', 'i386', 'i686'],
  ['x86_64', 'amd64'],
  ['aarch64', 'arm64'],
  ['powerpc64', 'ppc64'],
]

/** The names given and those that mean the same; `*` is kept. */
function architecturesOf(given: readonly string[]): string[] {
  const names = given.flatMap((name) => sameArchitecture.find((aliases) => aliases.includes(name)) ?? [name])
  return [...new Set(names)]
}

/** What a worker says when it asks for work; the moment is the server's. */
type Pop = {
  worker: { id: number; tags: string; draining: number }
  request: PopRequest
  rules: readonly Rule[]
  moment: Date
  until: string
}

/** Hands a worker the job whose turn it is, with the files to compare; `Nothing` where none is due that it can build. */
export function popJob(
  db: Database,
  schedule: Schedule,
  { id, tags, draining }: Pop['worker'],
  request: PopRequest,
  moment: Date,
): Promise<JobAssignment> {
  const worker = { id, tags, draining }
  return popped(db, { worker, request, rules: schedule.rules, moment, until: leaseEnd(schedule, moment) })
}

function leaseEnd(schedule: Schedule, moment: Date): string {
  return wireTime(new Date(moment.getTime() + schedule.leaseSeconds * 1000))
}

const popped = work(
  'queue.pop',
  async (tx, { worker, request, rules, moment, until }: Pop): Promise<JobAssignment> => {
    const workerId = worker.id
    const now = wireTime(moment)
    if (request.free !== undefined) await tx.batch([freeTold(workerId, JSON.stringify(request.free))])
    const named = request.lease === undefined ? null : await leaseNamed(tx, request.lease)
    if (request.lease !== undefined && named?.worker_id === workerId && named.job_id !== null) {
      await extendLease(tx, named.job_id, workerId, { now, until })
      return assignmentOf(await handedOut(tx, named.job_id), request.lease) // the reply was lost on its way
    }
    const next = await nextJob(tx, { worker, request, rules, moment })
    if (next === undefined) {
      await tx.batch([workerSeen(workerId, now), touched(now, 'workers')])
      return 'Nothing'
    }
    const token = named === null ? (request.lease ?? randomUUID()) : randomUUID()
    const given = await leaseJob(tx, next.id, { token, workerId, now, until })
    const { name, version, distribution, release, architecture } = queuedJob(given.job)
    const job = { name, version, distribution, release, architecture }
    const event = happened({ kind: 'queue', data: { change: 'started', count: 1, job } }, now)
    await tx.batch([touched(now, 'queue', 'workers'), event])
    return assignmentOf(given, token)
  },
)

function assignmentOf(
  { job, artifacts }: { job: JobRow; artifacts: ArtifactRow[] },
  lease: string,
): JobAssignment {
  return { Rebuild: { job: queuedJob(job), artifacts: artifacts.map(jobArtifact), lease } }
}

type Turn = { id: number; priority: number; queued_at: string }

/** The job whose turn it is for this worker; undefined where there is none, or it may have none now. */
async function nextJob(
  tx: Transaction,
  { worker, request, rules, moment }: Omit<Pop, 'until'>,
): Promise<Turn | undefined> {
  const named = architecturesOf(request.supported_architectures)
  const architectures = named.includes('*') ? await knownArchitectures(tx) : named
  const wanted = wantedOf(request.supported_backends, architectures, servedSets(rules, worker.tags))
  const shunUntil = wireTime(new Date(moment.getTime() - 10 * minute))
  const now = wireTime(moment)
  const [chores] = await tx.all<Chores>(choresBefore(now, pauseSwitch))
  if (chores?.unruled === 1) await askRules(tx, rules, tendedInPop, now)
  if (chores?.due === 1) await tx.batch([promoted(now, tendedInPop), touched(now, 'queue')])
  if (worker.draining === 1 || chores?.paused === 1) return undefined
  const found = await tx.batch<Turn>(turns(wanted, worker.id, shunUntil))
  return found.flat().sort(byTurn)[0]
}

/** The switch that pauses the queue. */
export const pauseSwitch = 'queue.paused'

/** Has jobs asked anew where the rules are others than when the server last ran. */
export async function applyRules(db: Database, rules: readonly unknown[], now: string): Promise<void> {
  const text = JSON.stringify(rules)
  await db.transaction(async (tx) => {
    const [known] = await tx.all<Switch>(switchOf(rulesSwitch))
    if ((known?.value ?? '[]') === text) return
    await tx.batch([rulesForgotten, switched(rulesSwitch, text, now)])
  })
}

/** Jobs that are new, or all after the rules have changed, get their priority and the tags they need; how many did. */
export async function askRules(
  tx: Transaction,
  rules: readonly Rule[],
  limit: number,
  now: string,
): Promise<number> {
  if (rules.length === 0) return (await tx.all(unruled(limit))).length
  const jobs = await unruledJobs(tx, limit)
  if (jobs.length > 0) await tx.all(touched(now, 'queue'))
  await tx.batch(
    jobs.map((job) => {
      const { tags, priority } = ruleFor(rules, job)
      return ruledJob(job.id, tags, priority)
    }),
  )
  return jobs.length
}

function wantedOf(
  backends: readonly string[],
  architectures: readonly string[],
  tagSets: readonly string[],
): Wanted[] {
  const wanted = [...new Set(backends)].flatMap((backend) =>
    architectures.flatMap((architecture) => tagSets.map((requires) => ({ backend, architecture, requires }))),
  )
  return wanted.slice(0, mostPairs)
}

/** Most urgent first, then the one that has waited longest. */
function byTurn(a: Turn, b: Turn): number {
  if (a.priority !== b.priority) return a.priority - b.priority
  if (a.queued_at !== b.queued_at) return a.queued_at < b.queued_at ? -1 : 1
  return a.id - b.id
}

/** The worker still works on its job. False: the job is no longer its own. */
export function pingJob(
  db: Database,
  schedule: Schedule,
  workerId: number,
  jobId: number,
  moment: Date,
  free: Free | null = null,
): Promise<boolean> {
  const told = free === null ? null : JSON.stringify(free)
  return pinged(db, { workerId, jobId, now: wireTime(moment), until: leaseEnd(schedule, moment), free: told })
}

const pinged = work(
  'queue.ping',
  async (
    tx,
    given: { workerId: number; jobId: number; now: string; until: string; free: string | null },
  ): Promise<boolean> => {
    const { workerId, jobId, now, until, free } = given
    const isHeld = await extendLease(tx, jobId, workerId, { now, until })
    await tx.batch([...(free === null ? [] : [freeTold(workerId, free)]), touched(now, 'workers')])
    return isHeld
  },
)

/** Takes jobs from workers that stopped answering and makes due what has waited long enough; how many of each. */
export async function tendQueue(
  db: Database,
  schedule: Schedule,
  moment: Date,
): Promise<{ freed: number; due: number }> {
  const given = { now: wireTime(moment), longest: leaseEnd(schedule, moment) }
  const total = { freed: 0, due: 0 }
  for (let hasMore = true; hasMore;) {
    const { freed, due } = await tended(db, given)
    total.freed += freed
    total.due += due
    hasMore = due === tendedAtOnce
  }
  while ((await rulesAsked(db, { rules: schedule.rules, now: given.now })) === tendedAtOnce);
  return total
}

const rulesAsked = part('queue.rules', (tx, { rules, now }: { rules: readonly Rule[]; now: string }) =>
  askRules(tx, rules, tendedAtOnce, now),
)

const tended = work(
  'queue.tend',
  async (tx, { now, longest }: { now: string; longest: string }): Promise<{ freed: number; due: number }> => {
    const freed = await freeJobs(tx, now, longest)
    const due = await tx.all(promoted(now, tendedAtOnce))
    const changes = { freed: freed.length, due: due.length }
    if (changes.freed + changes.due === 0) return changes
    const count = changes.freed + changes.due
    await tx.batch([
      touched(now, 'queue', 'workers'),
      happened({ kind: 'queue', data: { change: changes.freed > 0 ? 'freed' : 'added', count } }, now),
    ])
    return changes
  },
)

/** A job as it is on the wire. */
export function queuedJob(row: JobRow): QueuedJob {
  const reason = row.reason !== null && isReason(row.reason) ? row.reason : null
  return { ...row, release: row.release === '' ? null : row.release, reason }
}

function jobArtifact({ name, version, architecture, url, sha256, size }: ArtifactRow): JobArtifact {
  return { name, version, architecture, url, sha256, size }
}

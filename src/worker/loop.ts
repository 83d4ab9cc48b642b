import { existsSync } from 'node:fs'
import { rm } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { ServerSaid, type Client } from '../client.ts'
import { sentenceOf, withoutUsers } from '../errors.ts'
import type { Log } from '../log.ts'
import { presenceOf, proofOf, signedReport } from '../proof.ts'
import { submitBuild, type RebuildReport } from '../wire/builds.ts'
import { pingJob, popQueue, type Assignment, type PopRequest } from '../wire/queue.ts'
import { getChallenge, registerWorker } from '../wire/workers.ts'
import { openAsked, type Asked } from './asked.ts'
import { openCalm, type Calm } from './calm.ts'
import { diskFree, freeHere } from './free.ts'
import { LostJob, holding } from './holding.ts'
import { lockFolder } from './lock.ts'
import { openLiveLog } from './livelog.ts'
import { buildFolder, rebuild, type RebuildSettings, type Result } from './rebuild.ts'
import { removeFolder } from './sandbox.ts'
import {
  clearBuilds,
  clearScratch,
  forgetHeld,
  lostReport,
  makeScratch,
  returnReport,
  type Held,
} from './scratch.ts'
import { isRefusal, openSpool, type Spool } from './spool.ts'
import { openWake, type Wake } from './wake.ts'

export type WorkerOptions = {
  client: Client
  /** What the server lists us under. */
  name: string
  /** The worker's state folder: spool, scratch folders, the restart flag. */
  directory: string
  settings: RebuildSettings
  workerKey: string
  /** What this machine can do beyond others; our server gives jobs that need it only to such. */
  tags?: readonly string[]
  architectures: { native: string; supported: readonly string[] }
  /** Jobs at once. */
  jobs: number
  idleSeconds: number
  /** Bytes of disk without which no job is taken. */
  minFreeBytes: number
  log: Log
  /** Aborted: take no more jobs, finish those at hand. */
  signal: AbortSignal
  /** Aborted: drop those at hand, too. */
  drop: AbortSignal
  /** Resolves when there may be work; else the events of the server tell, where it has them. */
  wake?: Wake
  pingMilliseconds?: number
  /** For so long after a job new ones are looked for often. */
  eagerMilliseconds?: number
}

const restartFlag = 'rebuilderd.restart'
const pingMilliseconds = 60_000
const eagerMilliseconds = 60_000
const eagerPauseMilliseconds = 2000
/** How often a worker without a job tells what its machine has left. */
const tellMilliseconds = 60_000

/** What the jobs of one worker share while it runs. */
type Running = WorkerOptions & {
  spool: Spool
  stop: AbortController
  wake: Wake
  lastJobAt: number
  /** null: the server is none of ours. */
  asked: Asked | null
  /** When the server last told us what to show with our requests. */
  sessionAt: number
  /** When the server last heard what this machine has left, and whether that was enough. */
  told: { at: number; isFull: boolean }
  /** A result could not be sent: look again soon. */
  nudge: () => void
  /** Jobs that are being worked on. */
  atHand: number
}

/**
 * Registers, then rebuilds what the server hands out until told to stop.
 * @returns why it ended: `stopped`, or `restart` when the file `rebuilderd.restart` appeared
 * @throws Complaint where the server does not let us register
 */
export async function runWorker(options: WorkerOptions): Promise<'stopped' | 'restart'> {
  await using lock = await lockFolder(options.directory)
  const jobs = join(lock.directory, 'jobs')
  const abandoned = await clearScratch(jobs) // of a worker that was killed
  await clearBuilds(join(lock.directory, 'builds'))
  const spool = await openSpool(join(options.directory, 'spool'), options.client, options.log)
  const stop = new AbortController()
  const signal = AbortSignal.any([options.signal, stop.signal])
  const server = await register({ ...options, signal })
  if (server === null) return 'stopped'
  options.log.info(`worker: ${options.name} takes jobs from ${withoutUsers(options.client.base)}`)
  const wake = options.wake ?? openWake(options.client.base, options.log, signal)
  const leases = abandoned.flatMap(({ lease }) => lease ?? [])
  const asked = server === 'ours' ? await openAsked(options.directory, leases) : null
  const running: Running = {
    ...options,
    spool,
    stop,
    signal,
    wake,
    lastJobAt: Date.now(),
    asked,
    sessionAt: Date.now(),
    told: { at: 0, isFull: false },
    nudge: () => undefined,
    atHand: 0,
  }
  options.signal.addEventListener('abort', () => tellEnding(running), { once: true })
  for (const held of abandoned) await giveBack(lostReport(held), held, running)
  const over = new AbortController()
  const sending = sendUntil(running, over.signal)
  try {
    const turn = openTurn()
    await Promise.all(Array.from({ length: options.jobs }, () => takeJobs(running, turn)))
  } finally {
    stop.abort()
    over.abort()
    await sending
  }
  return stop.signal.reason === restartFlag ? 'restart' : 'stopped'
}

/** Whoever asks a worker to end sees that it has heard, and what to do where that takes too long. */
function tellEnding({ atHand, drop, log }: Running): void {
  if (atHand === 0 || drop.aborted) return
  const jobs = atHand === 1 ? 'the job' : `the ${atHand} jobs`
  log.info(
    `worker: ends after ${jobs} at hand; asked once more, it hands ${atHand === 1 ? 'it' : 'them'} back`,
  )
}

/** Seconds to wait after the nth failure in a row, spread so that workers do not come back all at once. */
export function patience(failures: number, random: number = Math.random()): number {
  return Math.min(60, 2 ** Math.min(failures, 10)) * (0.5 + random / 2)
}

/** Waits; false when told to stop meanwhile. */
async function pause(seconds: number, signal: AbortSignal): Promise<boolean> {
  await sleep(seconds * 1000, undefined, { signal }).catch(() => undefined)
  return !signal.aborted
}

/** A server may be busy or starting; a refusal that stays one is for the person to solve. */
const mostRefusals = 3

/** @returns whose server it is; null when told to stop meanwhile */
async function register(running: WorkerOptions): Promise<'ours' | "upstream's" | null> {
  const { log, signal } = running
  let refusals = 0
  for (let failures = 0; !signal.aborted; failures++) {
    try {
      return await signUp(running)
    } catch (error) {
      if (signal.aborted) return null
      if (error instanceof ServerSaid && error.status < 500) refusals += 1
      if (refusals >= mostRefusals) throw error
      log.warning(`worker: cannot register yet: ${sentenceOf(error)}`)
    }
    await pause(patience(failures), signal)
  }
  return null
}

/** Registers, with a proof that we hold our key where the server asks for one: upstream's does not. */
async function signUp({
  client,
  signal,
  name,
  tags = [],
  settings,
}: WorkerOptions): Promise<'ours' | "upstream's"> {
  const body = { name, tags: [...tags] }
  const challenge = await client.call(getChallenge, { signal }).catch((error: unknown) => {
    if (error instanceof ServerSaid && error.status < 500) return null
    throw error
  })
  const proof = challenge === null ? {} : { proof: proofOf(body, challenge.nonce, settings.key) }
  await client.call(registerWorker, { body: { ...body, ...proof }, signal })
  if (challenge?.session !== undefined) client.prove(presenceOf(challenge.session, settings.key))
  return challenge === null ? "upstream's" : 'ours'
}

/** A session lasts for a day; a quarter of it leaves time for servers that are away. */
const sessionMilliseconds = 6 * 3_600_000

/** Shows another session once ours is old, so that neither a long build nor a long wait ends with it. */
async function renewed(running: Running, signal: AbortSignal): Promise<void> {
  const { client, settings, asked, log } = running
  if (asked === null || Date.now() - running.sessionAt < sessionMilliseconds) return
  try {
    const { session } = await client.call(getChallenge, { signal })
    if (session !== undefined) client.prove(presenceOf(session, settings.key))
    running.sessionAt = Date.now()
  } catch (error) {
    if (!signal.aborted) log.warning(`worker: no new session yet: ${sentenceOf(error)}`)
  }
}

/** Sends what is left over from earlier, and what could not be sent at once. */
async function sendUntil(running: Running, over: AbortSignal): Promise<void> {
  const { spool, log, drop } = running
  for (let failures = 0; !over.aborted;) {
    const nudged = new AbortController()
    running.nudge = () => nudged.abort()
    try {
      const left = await spool.send(AbortSignal.any([over, drop]))
      failures = left === 0 ? 0 : failures + 1
    } catch (error) {
      if (over.aborted || drop.aborted) return
      log.error(`worker: ${sentenceOf(error)}`)
      failures += 1
    }
    if (failures === 0) await pause(30, AbortSignal.any([over, nudged.signal]))
    if (failures > 0 || nudged.signal.aborted)
      await pause(patience(failures) * (failures === 0 ? 1 : 5), over)
  }
}

/** Lets one at a time look for work; the others wait until it has found some. */
type Turn = <T>(look: () => Promise<T>) => Promise<T>

function openTurn(): Turn {
  let last: Promise<unknown> = Promise.resolve()
  return async (look) => {
    const mine = last.then(look)
    last = mine.catch(() => undefined)
    return mine
  }
}

/**
 * Takes one job after the other. The next one is asked for once the last one has a result: writing that to disk goes
 * on meanwhile, and sending it and removing the folder once the next build runs, which leaves us with nothing to do.
 * That is for one result at a time, so that no pile of them can grow: work on a job waits until that is over for the
 * last but one.
 */
async function takeJobs(running: Running, turn: Turn): Promise<void> {
  const calm = openCalm()
  let last: Promise<void> = Promise.resolve()
  let earlier = last
  while (!running.signal.aborted) {
    const given = await turn(() => nextJob(running, calm))
    if (given === null) break
    const { built, done } = begin(given, running, { calm, earlier })
    await built
    await earlier
    earlier = last
    last = done
    if (running.asked === null) await last // upstream's server takes a worker to do one thing at a time
    running.lastJobAt = Date.now()
    await checkRestart(running)
  }
  await earlier
  await last
}

/** What a job has to do with those before and after it. */
type Around = {
  calm: Calm
  /** Settles when the last job but one is done with. */
  earlier: Promise<void>
}

/** Begins to work on a job. `built`: another one may be built, because this one has its result or will have none. */
function begin(
  given: Given,
  running: Running,
  around: Around,
): { built: Promise<void>; done: Promise<void> } {
  const { promise, resolve } = Promise.withResolvers<void>()
  const done = workOn(given, running, { ...around, onBuilt: resolve })
  done.catch(() => undefined) // whoever waits for it gets the error
  return { built: Promise.race([promise, done]), done }
}

async function checkRestart({ directory, stop, log }: Running): Promise<void> {
  const flag = join(directory, restartFlag)
  if (!existsSync(flag) || stop.signal.aborted) return
  await rm(flag, { force: true })
  log.info('worker: asked to restart')
  stop.abort(restartFlag)
}

/** A job that was handed to us, and the folder that is its own. */
type Given = { assignment: Assignment; directory: string }

/** Asks until there is work; null when told to stop. */
async function nextJob(running: Running, calm: Calm): Promise<Given | null> {
  const { log, signal } = running
  for (let failures = 0; !signal.aborted;) {
    try {
      const assignment = await ask(running)
      if (assignment !== null) return await settled(assignment, running)
      calm.come()
      failures = 0
      await checkRestart(running)
      await idle(running)
    } catch (error) {
      calm.come()
      if (signal.aborted) return null
      log.warning(`worker: cannot get work: ${sentenceOf(error)}`)
      await pause(patience(failures++), signal)
      if (error instanceof ServerSaid && error.status === 403) await registerAgain(running)
    }
  }
  return null
}

/** Asks once, under a name by which the same answer can be had again; null where there is no work for us. */
async function ask(running: Running): Promise<Assignment | null> {
  const { client, signal, drop, asked } = running
  const named = asked === null ? {} : { lease: await asked.name() }
  await renewed(running, signal)
  const wish = await wishOf(running)
  const found = await client.call(popQueue, { body: { ...wish, ...named }, signal: drop }) // else a job could get lost
  if (found === 'Nothing') return null
  const { Rebuild: assignment } = found
  if (!signal.aborted || assignment.lease === null) return assignment
  await handBack(heldBy(assignment, running), running)
  return null
}

/** From here on a worker that is killed knows what it held. */
async function settled(assignment: Assignment, running: Running): Promise<Given> {
  const held = heldBy(assignment, running)
  try {
    const directory = makeScratch(join(running.directory, 'jobs'), held)
    running.asked?.answered()
    return { assignment, directory }
  } catch (error) {
    running.asked?.answered()
    await handBack(held, running)
    throw error
  }
}

/** A server that lost its memory of us, or was only too busy to look, as upstream's then says. */
async function registerAgain(running: Running): Promise<void> {
  const { log, signal } = running
  try {
    await signUp(running)
    running.sessionAt = Date.now()
  } catch (error) {
    if (!signal.aborted) log.warning(`worker: cannot register again: ${sentenceOf(error)}`)
  }
}

/** What we can build: nothing at all on a disk that is nearly full, but the server hears of us and why. */
async function wishOf(running: Running): Promise<PopRequest> {
  const { settings, architectures, minFreeBytes, directory, asked } = running
  const bytes = await diskFree(directory)
  const isFull = bytes < minFreeBytes
  const isNews = Date.now() - running.told.at > tellMilliseconds || isFull !== running.told.isFull
  if (isFull !== running.told.isFull) tellFull(bytes, running)
  if (isNews) running.told = { at: Date.now(), isFull }
  return {
    supported_backends: isFull ? [] : [...settings.backends.keys()],
    architecture: architectures.native,
    supported_architectures: [...architectures.supported],
    ...(asked !== null && isNews ? { free: await freeHere(directory, minFreeBytes) } : {}),
  }
}

function tellFull(bytes: number, { log, directory, minFreeBytes, told }: Running): void {
  const have = `${Math.floor(bytes / 1e6)} MB free on the disk of ${directory}`
  if (told.isFull) log.info(`worker: ${have}: takes jobs again`)
  else log.warning(`worker: ${have}: takes no job with less than ${Math.ceil(minFreeBytes / 1e6)} MB`)
}

/** Waits for the next look: briefly after a job, else as long as configured or until the server wakes us. */
async function idle({ idleSeconds, lastJobAt, signal, wake, ...running }: Running): Promise<void> {
  const isEager = Date.now() - lastJobAt < (running.eagerMilliseconds ?? eagerMilliseconds)
  const milliseconds = isEager ? Math.min(eagerPauseMilliseconds, idleSeconds * 1000) : idleSeconds * 1000
  const over = new AbortController()
  const either = AbortSignal.any([signal, over.signal])
  await Promise.race([pause(milliseconds / 1000, either), wake(either)])
  over.abort()
}

/** From the assignment to the acknowledged, or at least stored, result; `onBuilt` is called once there is one. */
async function workOn(
  { assignment, directory }: Given,
  running: Running,
  { calm, earlier, onBuilt }: Around & { onBuilt: () => void },
): Promise<void> {
  const { client, log, drop } = running
  const { job } = assignment
  const started = Date.now()
  running.atHand += 1
  log.info(`worker: ${titleOf(assignment)}: begins`)
  const ping = async (signal: AbortSignal): Promise<void> => {
    const isOurs = assignment.lease !== null // others expect no body
    const told = isOurs ? { body: await freeHere(running.directory, running.minFreeBytes) } : {}
    await renewed(running, signal)
    try {
      await client.call(pingJob, { params: { id: job.id }, ...told, signal })
    } catch (error) {
      if (error instanceof ServerSaid && error.status === 403) running.sessionAt = 0 // the next one shows another
      throw error
    }
  }
  const work = async (signal: AbortSignal): Promise<void> => {
    await earlier.catch(() => undefined) // whoever takes the jobs gets the error
    const result = await build(assignment, running, { directory, onStart: calm.come, signal })
    log.info(`worker: ${titleOf(assignment)}: ${wordsFor(result, (Date.now() - started) / 1000)}`)
    const next = calm.expect()
    onBuilt()
    await report(assignment, result, running, {
      async onKept() {
        await forgetHeld(directory)
        if (running.asked !== null && !drop.aborted) await next // with upstream's nothing else happens meanwhile
      },
      makeRoom: () => removeFolder(buildFolder(directory)),
    })
  }
  try {
    const everyMilliseconds = running.pingMilliseconds ?? pingMilliseconds
    await holding(ping, work, { everyMilliseconds, signal: drop, log })
  } catch (error) {
    if (error instanceof LostJob || !drop.aborted)
      log.error(`worker: ${titleOf(assignment)}: ${sentenceOf(error)}`)
    else await handBack(heldBy(assignment, running), running)
  } finally {
    running.atHand -= 1
    await removeFolder(directory).catch((error: unknown) => {
      log.error(`worker: ${directory} could not be removed: ${sentenceOf(error)}`)
    })
  }
}

function heldBy({ job, lease }: Assignment, { client }: Running): Held {
  return { server: client.base, queue_id: job.id, lease }
}

function titleOf({ job }: Assignment): string {
  return `job ${job.id} ${job.name} ${job.version}`
}

type Keeping = {
  /** It is on disk. */
  onKept: () => Promise<void>
  /** The disk does not take it. */
  makeRoom: () => Promise<void>
}

/** Stores the result and tries to send it; when that fails it is sent later. */
async function report(
  { job, lease }: Assignment,
  result: Result,
  running: Running,
  keeping: Keeping,
): Promise<void> {
  const body = signedReport({ queue_id: job.id, lease, ...result }, running.settings.key)
  await keepAndSend(body, running, running.drop, keeping)
}

async function keepAndSend(
  body: RebuildReport,
  running: Running,
  signal: AbortSignal,
  { onKept, makeRoom }: Partial<Keeping> = {},
): Promise<void> {
  const { spool, log } = running
  try {
    await spool.keep(body)
    await onKept?.()
  } catch (error) {
    log.error(`worker: ${sentenceOf(error)}`)
    await makeRoom?.().catch(() => undefined) // whoever removes the job's folder tells
    if (await sendUnkept(body, running, signal)) return // a full disk is no reason to lose it
    await onKept?.()
  }
  const left = await spool.send(signal).catch((error: unknown) => {
    log.warning(`worker: a result waits to be sent: ${sentenceOf(error)}`)
    return 1
  })
  if (left > 0) running.nudge()
}

/**
 * What the disk does not take is sent from memory; where the server is away, too, both are asked until one takes it.
 * @returns false: it is kept on disk and can be sent from there
 * @throws ServerSaid where the server does not want it, the signal's reason once aborted
 */
async function sendUnkept(body: RebuildReport, running: Running, signal: AbortSignal): Promise<boolean> {
  const { spool, client, log } = running
  for (let failures = 0; ; failures++) {
    try {
      await client.call(submitBuild, { body, signal })
      return true
    } catch (error) {
      if (isRefusal(error, body)) throw error
      if (failures === 0) log.warning(`worker: a result waits for room or its server: ${sentenceOf(error)}`)
    }
    await pause(patience(failures), signal)
    signal.throwIfAborted()
    const kept = await spool.keep(body).then(
      () => true,
      () => false,
    )
    if (kept) return false
  }
}

async function build(
  assignment: Assignment,
  { client, settings }: Running,
  { directory, onStart, signal }: { directory: string; onStart: () => void; signal: AbortSignal },
): Promise<Result> {
  const isOurs = assignment.lease !== null // only our server names leases, and only it takes logs early
  const live = isOurs
    ? openLiveLog({ base: client.base, headers: client.workerHeaders, jobId: assignment.job.id })
    : null
  try {
    const listening = live === null ? {} : { onLog: live.add }
    const wanted = isOurs ? settings : { ...settings, diffoscope: textOnly(settings.diffoscope) }
    return await rebuild(assignment, { directory, settings: wanted, onStart, signal, ...listening })
  } finally {
    await live?.stop()
  }
}

/** Servers of upstream know no HTML. */
function textOnly(settings: RebuildSettings['diffoscope']): RebuildSettings['diffoscope'] {
  return settings === null ? null : { ...settings, html: false }
}

/** `BAD (content_differs) in 311 s, first difference at byte 7340` */
function wordsFor(result: Result, seconds: number): string {
  const why = result.reason === null ? '' : ` (${result.reason})`
  const first = result.artifacts.find((artifact) => artifact.first_difference !== null)?.first_difference
  const where = first === undefined || first === null ? '' : `, first difference at byte ${first}`
  return `${result.status}${why} in ${Math.round(seconds)} s${where}`
}

function handBack(held: Held, running: Running): Promise<void> {
  return giveBack(returnReport(held), held, running)
}

/** Whoever stops a worker does not wait longer for a server that does not answer; the next start tells it then. */
const returnMilliseconds = 15_000

/** Tells our server that a dropped job is free again; upstream's would count it as a failure of the package. */
async function giveBack(report: RebuildReport, held: Held, running: Running): Promise<void> {
  const { client, spool, log, settings } = running
  const { lease } = held
  if (lease === null || held.server !== client.base || (await spool.holds(lease))) return
  log.warning(`worker: job ${held.queue_id} is dropped`)
  const body = signedReport(report, settings.key)
  const signal = AbortSignal.timeout(returnMilliseconds)
  try {
    await keepAndSend(body, running, signal)
  } catch (error) {
    log.warning(`worker: ${sentenceOf(error)}`)
  }
}

/** `[[sync]]`: archives that a server keeps up with by itself. */
import { setTimeout as sleep } from 'node:timers/promises'
import { startThread } from '../assets.ts'
import { openClient, type Client } from '../client.ts'
import { Complaint, sentenceOf } from '../errors.ts'
import type { Log } from '../log.ts'
import { checkedProfile, type Profile } from '../sync/profile.ts'
import { wireTime } from '../wire/schema.ts'
import { forgetSync, listSyncs, writeSync, type SyncState } from '../wire/sync.ts'
import { counted } from './output.ts'
import type { SyncOutcome, SyncServer, SyncTask, SyncWord } from './sync-thread.ts'

type Sync = { name: string; everySeconds: number; profile: Profile }

const usualEvery = '15m'
const leastSeconds = 60
const unitSeconds: Readonly<Record<string, number>> = { s: 1, m: 60, h: 3600, d: 86_400 }
/** Syncs do not all start at the same moment: up to this share of their interval later. */
const jitter = 0.1

/**
 * The syncs of the configuration.
 * @throws Complaint naming the sync and what is wrong with it
 */
export function syncsOf(given: readonly Readonly<Record<string, unknown>>[]): Sync[] {
  const names = new Set<string>()
  return given.map(({ name, every = usualEvery, ...profile }, index) => {
    const what = `sync number ${index + 1}`
    const title = typeof name === 'string' && name !== '' ? name : titleOf(profile, index)
    if (names.has(title))
      throw new Complaint(`${what}: there is another sync called ${title}`, { exitCode: 2 })
    names.add(title)
    return {
      name: title,
      everySeconds: secondsOf(every, what),
      profile: checkedProfile(`sync ${title}`, profile),
    }
  })
}

/** `debian-trixie`, where no name is given. */
function titleOf({ distro, releases }: Readonly<Record<string, unknown>>, index: number): string {
  const release: unknown = Array.isArray(releases) ? releases[0] : undefined
  const words = [distro, release].filter((word) => typeof word === 'string')
  return words.length === 0 ? `sync-${index + 1}` : words.join('-')
}

/** `15m` → 900 */
export function secondsOf(given: unknown, what: string): number {
  const match = /^(\d{1,6})([smhd])$/.exec(String(given))
  const seconds = Number(match?.[1]) * (unitSeconds[match?.[2] ?? ''] ?? Number.NaN)
  if (seconds >= leastSeconds) return seconds
  throw new Complaint(`${what}: every = ${JSON.stringify(given)} is no interval`, {
    hint: 'write it like "15m", "6h" or "1d"; at least 60s',
    exitCode: 2,
  })
}

type Runner = {
  /** Where reports go, and what we may do there. */
  server: SyncServer
  log: Log
  signal: AbortSignal
  /** Folder that keeps what was downloaded. */
  cache: string
}
type Running = Runner & { client: Client }

/** Runs the syncs in turn, each when it is due, until the signal ends it. */
export async function runSyncs(syncs: readonly Sync[], given: Runner): Promise<void> {
  const { server, signal } = given
  const runner = { ...given, client: openClient({ ...server, timeout: 3_600_000 }) }
  const states = await statesOf(syncs, runner)
  const due = new Map(syncs.map((sync) => [sync.name, Date.now()]))
  while (!signal.aborted && syncs.length > 0) {
    const [next] = [...syncs].sort((a, b) => (due.get(a.name) ?? 0) - (due.get(b.name) ?? 0))
    if (next === undefined) return
    const wait = (due.get(next.name) ?? 0) - Date.now()
    if (wait > 0) await sleep(wait, undefined, { signal }).catch(() => undefined)
    if (signal.aborted) return
    const nextAt = Date.now() + next.everySeconds * 1000 * (1 + jitter * Math.random())
    due.set(next.name, nextAt)
    const before = states.get(next.name) ?? newState(next)
    states.set(next.name, await runOne(next, before, new Date(nextAt), runner))
  }
}

/** How it stood with the syncs when the server was last ended. Those that the configuration no longer has are forgotten. */
async function statesOf(syncs: readonly Sync[], { client, log }: Running): Promise<Map<string, SyncState>> {
  const states = new Map<string, SyncState>()
  try {
    const known = new Map((await client.call(listSyncs)).map((state) => [state.name, state]))
    for (const sync of syncs) {
      const { checked_at, changed_at, ended_at, error } = known.get(sync.name) ?? newState(sync)
      states.set(sync.name, { ...newState(sync), checked_at, changed_at, ended_at, error })
      known.delete(sync.name)
    }
    for (const name of known.keys()) await client.call(forgetSync, { params: { name } })
    for (const state of states.values()) await noted(state, client)
  } catch (error) {
    log.warning(`sync: ${sentenceOf(error)}`)
  }
  return states
}

function newState({ name, everySeconds }: Sync): SyncState {
  const times = { started_at: null, ended_at: null, checked_at: null, changed_at: null, next_at: null }
  const counts = { reports: 0, unchanged: 0, queued: 0 }
  return { name, state: 'waiting', every: everySeconds, ...times, ...counts, error: null }
}

async function noted(state: SyncState, client: Client): Promise<void> {
  await client.call(writeSync, { params: { name: state.name }, body: state })
}

/** While it runs, what is told of the last run stays. */
async function runOne(
  sync: Sync,
  before: SyncState,
  nextAt: Date,
  { server, client, log, signal, cache }: Running,
): Promise<SyncState> {
  const note = async (more: Partial<SyncState>): Promise<SyncState> => {
    const state = { ...before, ...more }
    await noted(state, client).catch((error: unknown) =>
      log.warning(`sync ${sync.name}: ${sentenceOf(error)}`),
    )
    return state
  }
  const started_at = wireTime(new Date())
  await note({ state: 'running', started_at, next_at: null })
  const { error, ...counts } = await elsewhere({ profile: sync.profile, server, cache }, log, signal)
  if (signal.aborted) return before
  if (error === null) {
    const { reports, unchanged, queued } = counts
    log.info(
      `sync ${sync.name}: ${counted(reports, 'list')} imported, ${unchanged} unchanged, ${counted(queued, 'job')} queued`,
    )
  } else log.error(`sync ${sync.name}: ${error}`)
  const ended_at = wireTime(new Date())
  const changed = counts.reports > 0 ? { changed_at: ended_at } : {}
  const checked = error === null ? { checked_at: ended_at } : {}
  const times = { started_at, ended_at, next_at: wireTime(nextAt), ...changed, ...checked }
  return note({ state: 'waiting', ...times, ...counts, error: error?.slice(0, 4000) ?? null })
}

/** Milliseconds that a sync which was told to stop may take for it. */
const stopMs = 5000

/** Runs a sync in a thread of its own: reading a distribution would keep those who ask the server waiting. */
async function elsewhere(task: SyncTask, log: Log, signal: AbortSignal): Promise<SyncOutcome> {
  const thread = startThread('sync', task)
  const failed = (error: string): SyncOutcome => ({ reports: 0, unchanged: 0, queued: 0, error })
  const stop = (): void => {
    thread.postMessage('stop')
    setTimeout(() => void thread.terminate(), stopMs).unref()
  }
  signal.addEventListener('abort', stop, { once: true })
  try {
    return await new Promise<SyncOutcome>((resolve) => {
      thread.on('message', (word: SyncWord) => {
        if ('outcome' in word) resolve(word.outcome)
        else log[word.severity](word.text)
      })
      thread.once('error', (error) => resolve(failed(`the sync broke off: ${sentenceOf(error)}`)))
      thread.once('exit', () => resolve(failed('the sync broke off')))
    })
  } finally {
    signal.removeEventListener('abort', stop)
    await thread.terminate()
  }
}

/** `[[sync]]`: archives that a server keeps up with by itself. */
import { setTimeout as sleep } from 'node:timers/promises'
import type { Client } from '../client.ts'
import { Complaint, during, sentenceOf } from '../errors.ts'
import type { Log } from '../log.ts'
import { checkedProfile, reportsOf, type Profile } from '../sync/index.ts'
import { wireTime } from '../wire/schema.ts'
import { writeSync, type SyncState } from '../wire/sync.ts'
import { post } from './post.ts'

export type Sync = { name: string; everySeconds: number; profile: Profile }

const usualEvery = '15m'
const leastSeconds = 60
const unitSeconds: Readonly<Record<string, number>> = { s: 1, m: 60, h: 3600, d: 86_400 }
/** Syncs do not all start at the same moment: up to this share of their interval later. */
const jitter = 0.1
const importTimeout = 3_600_000

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

export type Runner = { client: Client; log: Log; signal: AbortSignal; cache: string }

/** Runs the syncs in turn, each when it is due, until the signal ends it. */
export async function runSyncs(
  syncs: readonly Sync[],
  { client, log, signal, cache }: Runner,
): Promise<void> {
  const due = new Map(syncs.map((sync) => [sync.name, Date.now()]))
  while (!signal.aborted && syncs.length > 0) {
    const [next] = [...syncs].sort((a, b) => (due.get(a.name) ?? 0) - (due.get(b.name) ?? 0))
    if (next === undefined) return
    const wait = (due.get(next.name) ?? 0) - Date.now()
    if (wait > 0) await sleep(wait, undefined, { signal }).catch(() => undefined)
    if (signal.aborted) return
    const nextAt = Date.now() + next.everySeconds * 1000 * (1 + jitter * Math.random())
    due.set(next.name, nextAt)
    await runOne(next, new Date(nextAt), { client, log, signal, cache })
  }
}

async function runOne(sync: Sync, nextAt: Date, { client, log, signal, cache }: Runner): Promise<void> {
  const started = wireTime(new Date())
  const note = async (more: Partial<SyncState>): Promise<void> => {
    const state: SyncState = {
      name: sync.name,
      state: 'waiting',
      every: sync.everySeconds,
      started_at: started,
      ended_at: null,
      next_at: wireTime(nextAt),
      reports: 0,
      unchanged: 0,
      error: null,
      ...more,
    }
    await client
      .call(writeSync, { params: { name: sync.name }, body: state })
      .catch((error: unknown) => log.warning(`sync ${sync.name}: ${sentenceOf(error)}`))
  }
  await note({ state: 'running', next_at: null })
  let reports = 0
  let unchanged = 0
  const importAll = async (): Promise<void> => {
    for await (const body of reportsOf(sync.profile, { log, signal, cache })) {
      const limit = AbortSignal.any([signal, AbortSignal.timeout(importTimeout)])
      const { outcome } = await post(client, body, { force: false, signal: limit })
      if (outcome === 'posted') reports++
      else unchanged++
    }
  }
  try {
    await during(`reading the archive ${sync.profile.source}`, importAll)
    log.info(`sync ${sync.name}: ${reports} reports imported, ${unchanged} unchanged`)
    await note({ ended_at: wireTime(new Date()), reports, unchanged })
  } catch (error) {
    if (signal.aborted) return
    log.error(`sync ${sync.name}: ${sentenceOf(error)}`)
    await note({
      ended_at: wireTime(new Date()),
      reports,
      unchanged,
      error: sentenceOf(error).slice(0, 4000),
    })
  }
}

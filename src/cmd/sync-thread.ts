/** The thread that runs one sync of a server: what it holds meanwhile goes with it, and nobody waits for it. */
import { parentPort, workerData } from 'node:worker_threads'
import { openClient } from '../client.ts'
import { during, sentenceOf } from '../errors.ts'
import type { Log, Severity } from '../log.ts'
import { reportsOf, type Profile } from '../sync/index.ts'
import { EmptyList, post } from './post.ts'

/** Where reports go, and what we may do there. */
export type SyncServer = { base: string; cookie: string }
export type SyncTask = { profile: Profile; server: SyncServer; cache: string }
/** What came of it: reports that were imported and that were not needed, and jobs that were queued. */
export type SyncOutcome = { reports: number; unchanged: number; queued: number; error: string | null }
/** What the thread says; it is told nothing but to stop. */
export type SyncWord = { severity: Severity; text: string } | { outcome: SyncOutcome }

const importTimeout = 3_600_000

async function outcomeOf(
  { profile, server, cache }: SyncTask,
  log: Log,
  signal: AbortSignal,
): Promise<SyncOutcome> {
  const client = openClient({ ...server, timeout: importTimeout })
  const empty: EmptyList[] = []
  const done = { reports: 0, unchanged: 0, queued: 0 }
  try {
    await during(`reading the archive ${profile.source}`, async () => {
      for await (const report of reportsOf(profile, { log, signal, cache })) {
        const limit = AbortSignal.any([signal, AbortSignal.timeout(importTimeout)])
        const posted = await post(client, report, { force: false, signal: limit }).catch((error: unknown) => {
          if (!(error instanceof EmptyList)) throw error
          empty.push(error)
          return null
        })
        if (posted === null) continue
        done[posted.outcome === 'posted' ? 'reports' : 'unchanged']++
        done.queued += posted.outcome === 'posted' ? (posted.scope?.queued ?? 0) : posted.queued
      }
    })
    return { ...done, error: empty[0] === undefined ? null : sentenceOf(empty[0]) } // the others are in
  } catch (error) {
    return { ...done, error: sentenceOf(error) }
  }
}

if (parentPort !== null) {
  const main = parentPort
  const stopped = new AbortController()
  main.once('message', () => stopped.abort())
  const said =
    (severity: Severity) =>
    (text: string): void =>
      main.postMessage({ severity, text })
  const log = {
    error: said('error'),
    warning: said('warning'),
    info: said('info'),
    debug: said('debug'),
  }
  const task = workerData as SyncTask // as it was started with
  void outcomeOf(task, log, stopped.signal).then((outcome) => main.postMessage({ outcome }))
}

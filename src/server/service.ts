import type { SigningKey } from '../attestation.ts'
import { plainParts } from '../compression.ts'
import type { Log } from '../log.ts'
import type { Secrets } from './callers.ts'
import type { Pulse, Watchers } from './events.ts'
import type { LiveLogs } from './livelog.ts'
import type { Schedule } from './queue.ts'
import { Refusal, found } from './refusal.ts'
import type { Frame } from './frames.ts'
import type { Site } from './route.ts'
import { longestBlob, type Blobs } from './store/blobs.ts'
import type { Database } from './store/database.ts'
import type { TrendKeeper } from './trends.ts'

/** What an operator may choose about the pages. */
export type WebOptions = {
  title: string
  logo: string | null
  link: string | null
  /** `https://rebuilder.example/amd64`: where people reach the pages; null: wherever they ask. */
  publicUrl: string | null
  sitemap: boolean
}

/** Everything that answers requests is made of. */
export type Service = {
  db: Database
  blobs: Blobs
  liveLogs: LiveLogs
  schedule: Schedule
  secrets: Secrets
  signingKey: SigningKey
  /** Countersign attestations that were checked. */
  countersigns: boolean
  shrinkLimitPercent: number
  largestBody: number
  realIpHeader: string | null
  log: Log
  now: () => Date
  /** `/amd64`: path under which everything is served; the empty text: none. */
  basePath: string
  /** How the pages for people look; null: there are none. */
  web: WebOptions | null
  /** How each release went, for pages and API alike. */
  trends: TrendKeeper
  /** Wakes those who watch events. */
  pulse: Pulse
  /** Bounds how many watch events and logs. */
  watchers: Watchers
  /** Folder of everything that is kept. */
  data: string
  /** Runs work during which no kept file is removed. */
  holdingStill: <T>(work: () => Promise<T>) => Promise<T>
  /** Aborted when the server stops: endless replies end. */
  stopping: AbortSignal
  observe: Site['observe']
}

/** A kept blob, or 404 in words. */
export async function frameOf(
  { blobs, log }: Pick<Service, 'blobs' | 'log'>,
  blob: { sha256: string } | null,
): Promise<Frame> {
  const { sha256 } = found(blob)
  const frame = await blobs.read(sha256)
  if (frame === null) {
    log.error(`the file ${sha256} of the data folder is missing or damaged`)
    throw new Refusal(404, 'the server no longer has this file as it was stored')
  }
  return { frame, sha256, plain: () => plainParts(frame, longestBlob) }
}

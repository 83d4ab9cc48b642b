import { randomBytes, randomUUID } from 'node:crypto'
import { mkdir, open, readFile, readdir, rename, rm, stat, truncate } from 'node:fs/promises'
import { join } from 'node:path'
import { submitBuild, RebuildReport } from '../wire/builds.ts'
import { ServerSaid, type Client } from '../client.ts'
import { during, sentenceOf } from '../errors.ts'
import type { Log } from '../log.ts'
import { isFull } from './failure.ts'
import { diskFree } from './free.ts'
import { checked, encodeJson } from '../wire/schema.ts'

/** Finished results, each a file until the server has acknowledged it. */
export type Spool = {
  /** On disk when this resolves. */
  keep: (report: RebuildReport) => Promise<void>
  /** Whether there is a result of this lease. */
  holds: (lease: string) => Promise<boolean>
  /**
   * Sends everything to its server, oldest first.
   * @returns how many could not be sent now
   */
  send: (signal: AbortSignal) => Promise<number>
}

/**
 * How often upstream's server may answer "internal error" to a report before we put that one aside: it says so of
 * jobs that are gone. One of ours means it, and may be mended.
 */
const mostServerErrors = 20

/**
 * Opens the spool of one server. Reports for other servers stay where they are.
 * @param directory `spool` in the worker's state folder
 */
export async function openSpool(directory: string, client: Client, log: Log): Promise<Spool> {
  const folder = join(directory, encodeURIComponent(client.base).slice(0, 200))
  await mkdir(join(folder, 'refused'), { recursive: true, mode: 0o700 })
  for (const name of await readdir(folder)) if (name.endsWith('.part')) await rm(join(folder, name)) // of one who was killed
  await fillReserve(folder)
  const serverErrors = new Map<string, number>()
  let sending: Promise<unknown> = Promise.resolve()

  const send = async (signal: AbortSignal): Promise<number> => {
    let left = 0
    for (const name of await reportsIn(folder)) {
      signal.throwIfAborted()
      const outcome = await sendOne(join(folder, name), client, signal)
      if (outcome.is === 'broken' && !outcome.ours) serverErrors.set(name, (serverErrors.get(name) ?? 0) + 1)
      const isHopeless = (serverErrors.get(name) ?? 0) >= mostServerErrors
      if (outcome.is === 'accepted') await rm(join(folder, name), { force: true })
      else if (outcome.is === 'refused' || isHopeless) await putAside(folder, name, outcome.why, log)
      else left += 1
      if (outcome.is === 'later') {
        log.warning(`worker: a result waits to be sent: ${outcome.why}`)
        return left // the others would fare no better
      }
    }
    await fillReserve(folder)
    return left
  }
  return {
    keep: (report) => writeReport(folder, report),
    holds: async (lease) => (await reportsIn(folder)).some((name) => name.endsWith(`-${lease}.json`)),
    send: async (signal) => {
      const mine = sending.then(() => send(signal)) // one after the other, so that no report is sent twice at once
      sending = mine.catch(() => undefined)
      return mine
    },
  }
}

/** Oldest first: names begin with the time. */
async function reportsIn(folder: string): Promise<string[]> {
  return (await readdir(folder)).filter((name) => name.endsWith('.json')).sort()
}

async function writeReport(folder: string, report: RebuildReport): Promise<void> {
  await during('keeping a result until it is sent', async () => {
    const name = `${Date.now()}-${report.queue_id}-${leaseIn(report)}.json`
    const part = join(folder, `${name}.part`)
    const content = encodeJson(report)
    try {
      await withReserve(folder, Buffer.byteLength(content), () => writeSynced(part, content))
      await rename(part, join(folder, name))
    } catch (error) {
      await rm(part, { force: true })
      throw error
    }
    await using directory = await open(folder, 'r')
    await directory.sync()
  })
}

async function writeSynced(path: string, content: string | Uint8Array): Promise<void> {
  await using file = await open(path, 'w', 0o600)
  await file.writeFile(content)
  await file.sync()
}

/** Room for results on a disk that somebody else has filled: as many bytes as a large one has, or some that are small. */
const reserveBytes = 8 * 1024 * 1024

/** A file of nothing, which holds that room. */
function reserveIn(folder: string): string {
  return join(folder, 'reserve')
}

/** Makes the reserve as large as it should be, but not of the last that a disk has. */
async function fillReserve(folder: string): Promise<void> {
  const reserve = reserveIn(folder)
  const { size } = await stat(reserve).catch(() => ({ size: 0 }))
  if (size >= reserveBytes || (await diskFree(folder)) < 4 * reserveBytes) return
  const noise = randomBytes(reserveBytes / 64) // some file systems keep no room for bytes that are all alike
  try {
    await using file = await open(reserve, 'a', 0o600)
    for (let filled = size; filled < reserveBytes; filled += noise.length) await file.write(noise)
  } catch {
    return // then we have less, or none
  }
}

/** Writes a file; where the disk is full, again with as much of the reserve as it takes, and with all of it. */
async function withReserve(folder: string, bytes: number, write: () => Promise<void>): Promise<void> {
  const reserve = reserveIn(folder)
  const shrink = async (): Promise<void> => {
    const { size } = await stat(reserve)
    await truncate(reserve, Math.max(0, size - bytes - 64 * 1024))
  }
  for (const makeRoom of [shrink, () => rm(reserve, { force: true })]) {
    try {
      return await write()
    } catch (error) {
      if (!isFull(error)) throw error
      await makeRoom().catch(() => undefined)
    }
  }
  await write()
}

/** A name for the file; servers that name no leases get one of ours. */
function leaseIn({ lease }: RebuildReport): string {
  return lease !== null && /^[\w-]{1,64}$/.test(lease) ? lease : randomUUID()
}

type Outcome =
  | { is: 'accepted' }
  /** It will never be taken. */
  | { is: 'refused'; why: string }
  /** The server broke over this very report; others may pass. */
  | { is: 'broken'; why: string; ours: boolean }
  | { is: 'later'; why: string }

async function sendOne(path: string, client: Client, signal: AbortSignal): Promise<Outcome> {
  let report: RebuildReport
  try {
    report = checked(RebuildReport, JSON.parse(await readFile(path, 'utf8')), path)
  } catch (error) {
    return { is: 'refused', why: `it cannot be read: ${sentenceOf(error)}` }
  }
  try {
    await client.call(submitBuild, { body: report, signal })
    return { is: 'accepted' }
  } catch (error) {
    signal.throwIfAborted()
    return outcomeOf(error, report.lease !== null)
  }
}

/** Whether an answer to a report means that it will never be taken, as far as a server can be believed. */
export function isRefusal(error: unknown, { lease }: RebuildReport): boolean {
  const outcome = outcomeOf(error, lease !== null)
  return outcome.is === 'refused' || (outcome.is === 'broken' && !outcome.ours)
}

function outcomeOf(error: unknown, ours: boolean): Outcome {
  const why = sentenceOf(error)
  if (!(error instanceof ServerSaid)) return { is: 'later', why }
  if (error.status === 500) return { is: 'broken', why, ours }
  const isForLater = error.status > 500 || [401, 403, 408, 429].includes(error.status)
  return { is: isForLater ? 'later' : 'refused', why }
}

const mostPutAside = 100

/** Keeps what the server does not want, for a person to look at; the oldest make room. */
async function putAside(folder: string, name: string, why: string, log: Log): Promise<void> {
  const aside = join(folder, 'refused')
  log.error(`worker: a result is put aside, kept as ${join(aside, name)}: ${why}`)
  await rename(join(folder, name), join(aside, name))
  const kept = (await readdir(aside)).sort()
  for (const old of kept.slice(0, Math.max(0, kept.length - mostPutAside)))
    await rm(join(aside, old), { force: true })
}

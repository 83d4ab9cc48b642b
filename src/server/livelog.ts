import { mkdir, open, readdir, rm, stat, type FileHandle } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout } from 'node:timers/promises'
import { streamHeaders, type Pulse } from './events.ts'
import { Refusal } from './refusal.ts'
import { putNewest } from './newest.ts'

/** Logs of running jobs, while they grow: one file per lease. They are for watching; the report brings the log itself. */
export type LiveLogs = {
  /**
   * Writes a piece at its offset; the same piece again changes nothing.
   * @throws Refusal 409 where a piece before it is missing, 413 over the bound
   */
  append: (lease: number, offset: number, piece: Uint8Array) => Promise<void>
  /** What there is from an offset on, up to a bound; empty where there is nothing yet. */
  read: (lease: number, offset: number) => Promise<Uint8Array>
  /** The last whole lines of a log, within a bound of bytes. */
  tail: (lease: number, most: number) => Promise<LogTail>
  /** Removes what was written before a moment (milliseconds since 1970). */
  forget: (before: number) => Promise<void>
}

/** The end of a log: whole lines as they are, how many are before them, and the offset after the last of them. */
type LogTail = { text: Uint8Array; linesBefore: number; end: number }

/** Largest live log in bytes; the report may bring more. */
const longestLive = 64 * 1024 * 1024
const bytesAtOnce = 256 * 1024
/** Milliseconds between two looks of one watcher: something is committed all the time, mostly not for this log. */
const betweenLooks = 200

/** Logs of running jobs, one file a lease in a folder. */
export function openLiveLogs(folder: string): LiveLogs {
  const pathOf = (lease: number): string => join(folder, `${lease}.log`)
  const counted = lineCounter()
  return {
    async append(lease, offset, piece) {
      if (offset + piece.length > longestLive) throw new Refusal(413, `a live log holds ${longestLive} bytes`)
      await mkdir(folder, { recursive: true, mode: 0o700 })
      const size = await sizeOf(pathOf(lease))
      if (offset > size) throw new Refusal(409, `the log has ${size} bytes so far`)
      const file = await open(pathOf(lease), size === 0 ? 'w' : 'r+', 0o600)
      try {
        await file.write(piece, 0, piece.length, offset)
      } finally {
        await file.close()
      }
    },
    async read(lease, offset) {
      const file = await open(pathOf(lease), 'r').catch(() => null)
      if (file === null) return new Uint8Array()
      try {
        const { buffer, bytesRead } = await file.read(Buffer.alloc(bytesAtOnce), 0, bytesAtOnce, offset)
        return buffer.subarray(0, bytesRead)
      } finally {
        await file.close()
      }
    },
    async tail(lease, most) {
      const file = await open(pathOf(lease), 'r').catch(() => null)
      if (file === null) return { text: new Uint8Array(), linesBefore: 0, end: 0 }
      try {
        const { size } = await file.stat()
        const start = Math.max(0, size - most)
        const { buffer, bytesRead } = await file.read(Buffer.alloc(size - start), 0, size - start, start)
        const read = buffer.subarray(0, bytesRead)
        const from = start === 0 ? 0 : read.indexOf(lineEnd) + 1
        const text = read.subarray(from, Math.max(from, read.lastIndexOf(lineEnd) + 1))
        const linesBefore = await counted(lease, file, start + from)
        return { text, linesBefore, end: start + from + text.length }
      } finally {
        await file.close()
      }
    },
    async forget(before) {
      for (const name of await readdir(folder).catch(() => [])) {
        const path = join(folder, name)
        const found = await stat(path).catch(() => null)
        if (found !== null && found.mtimeMs < before) await rm(path, { force: true })
      }
    },
  }
}

const lineEnd = 10
/** Logs whose lines are remembered to be counted. */
const mostCounted = 256

/** Counts the lines of growing logs, going on from where it was. */
function lineCounter(): (lease: number, file: FileHandle, end: number) => Promise<number> {
  const known = new Map<number, { offset: number; lines: number }>()
  return async (lease, file, end) => {
    const last = known.get(lease)
    let { offset, lines } = last !== undefined && last.offset <= end ? last : { offset: 0, lines: 0 }
    const buffer = Buffer.alloc(Math.min(bytesAtOnce, end - offset))
    while (offset < end) {
      const { bytesRead } = await file.read(buffer, 0, Math.min(buffer.length, end - offset), offset)
      if (bytesRead === 0) break
      const piece = buffer.subarray(0, bytesRead)
      for (let at = piece.indexOf(lineEnd); at !== -1; at = piece.indexOf(lineEnd, at + 1)) lines++
      offset += bytesRead
    }
    putNewest(known, lease, { offset, lines }, mostCounted)
    return lines
  }
}

async function sizeOf(path: string): Promise<number> {
  const found = await stat(path).catch(() => null)
  return found?.size ?? 0
}

/** Where the bytes of a followed log come from, and what it ended as. */
export type Followed = {
  read: (offset: number) => Promise<Uint8Array>
  /** null: it still grows; else the build that it became (null in there: none, the job was dropped or lost). */
  ended: () => Promise<{ build: number | null } | null>
}

/**
 * A log as server-sent events: `log` with the text and the offset after it (also the event's id, to resume from),
 * then `end` with the id of the build. Text is cut between characters.
 */
export function followed(
  log: Followed,
  { offset, pulse }: { offset: number; pulse: Pulse },
  { over, leave }: { over: AbortSignal; leave: () => void },
): Response {
  let position = offset
  const body = new ReadableStream<Uint8Array>({
    async pull(controller) {
      const say = (text: string): void => controller.enqueue(new TextEncoder().encode(text))
      for (;;) {
        const waiting = pulse.next(over)
        const end = await log.ended() // before reading: what is read afterwards is all there will be
        const piece = wholeCharacters(await log.read(position), end !== null)
        if (piece.length > 0) {
          position += piece.length
          return say(eventOf('log', position, { offset: position, text: new TextDecoder().decode(piece) }))
        }
        if (end !== null) say(eventOf('end', position, { build_id: end.build }))
        else if (!over.aborted && !(await waiting)) return say(':\n\n')
        if (end !== null || over.aborted) {
          leave()
          return controller.close()
        }
        await setTimeout(betweenLooks)
      }
    },
    cancel: leave,
  })
  return new Response(body, { headers: streamHeaders })
}

function eventOf(kind: string, id: number, data: unknown): string {
  return `id: ${id}\nevent: ${kind}\ndata: ${JSON.stringify(data)}\n\n`
}

/** The bytes without a character that is cut at the end; all of them when no more will come. */
function wholeCharacters(bytes: Uint8Array, isAll: boolean): Uint8Array {
  if (isAll || bytes.length < 4) return isAll ? bytes : bytes.subarray(0, lastWhole(bytes))
  const kept = lastWhole(bytes)
  return bytes.subarray(0, kept === 0 ? bytes.length : kept)
}

/** Where the last character that is complete ends (UTF-8, RFC 3629). */
function lastWhole(bytes: Uint8Array): number {
  for (let back = 1; back <= Math.min(4, bytes.length); back++) {
    const byte = bytes[bytes.length - back] ?? 0
    if (byte < 0x80) return bytes.length - back + 1
    if (byte < 0xc0) continue
    const wanted = byte >= 0xf0 ? 4 : byte >= 0xe0 ? 3 : 2
    return back >= wanted ? bytes.length : bytes.length - back
  }
  return bytes.length
}

/** Logs that grow, shown while they do. */
import * as v from 'valibot'
import { addressOf, type Client } from '../client.ts'
import { followedEvents } from '../event-stream.ts'
import { printable } from '../log.ts'
import { getBuild, getBuildLog } from '../wire/builds.ts'
import { IdOrNull } from '../wire/common.ts'
import { watchLog, type QueuedJob } from '../wire/queue.ts'
import { wordsOf } from '../wire/reasons.ts'
import { checked } from '../wire/schema.ts'
import type { Context } from './command.ts'
import { paintFor, paintedStatus } from './output.ts'
import { harmless } from './pager.ts'

const Piece = v.object({ offset: v.number(), text: v.string() })
const End = v.object({ build_id: IdOrNull })

/** Shows the log of a running job until the job ends, then tells how it ended. */
export async function followJob(client: Client, job: QueuedJob, context: Context): Promise<void> {
  context.err(printable(`${job.name} ${job.version} (job ${job.id}) runs at ${job.worker ?? 'a worker'}`))
  const screen = openScreen(context)
  const seen = await follow(addressOf(client.base, watchLog, { id: job.id }), 0, screen, context)
  // What was not sent before the end came with the report.
  if (seen.build !== null)
    await follow(addressOf(client.base, getBuildLog, { id: seen.build }), seen.offset, screen, context)
  screen.close()
  if (seen.build === null)
    context.err('the job ended without a result: it was dropped, or its worker is lost')
  else await tellVerdict(client, seen.build, context)
}

/** @returns what the log became, and how many bytes of it were shown */
async function follow(
  address: string,
  from: number,
  screen: Screen,
  { signal, err }: Context,
): Promise<{ offset: number; build: number | null }> {
  let offset = from
  const onLost = (why: string): void => err(printable(`connection lost (${why}); trying again`))
  const events = followedEvents(`${address}?follow=1`, { after: String(from), signal, onLost })
  for await (const { kind, data } of events) {
    if (kind === 'end')
      return { offset, build: checked(End, JSON.parse(data), 'the end of the log').build_id }
    if (kind !== 'log') continue // of a newer server
    const piece = checked(Piece, JSON.parse(data), 'a piece of the log')
    offset = piece.offset
    screen.show(piece.text)
  }
  return { offset, build: null }
}

async function tellVerdict(client: Client, id: number, context: Context): Promise<void> {
  const { status, reason } = await client.call(getBuild, { params: { id } })
  const why = reason === null ? '' : ` (${reason}: ${wordsOf(reason)})`
  context.err(`${paintedStatus(status ?? 'UNKWN', paintFor(context.colours))}${why}, build ${id}`)
}

type Screen = { show: (text: string) => void; close: () => void }

/** A line that is longer is shown before its end comes. */
const longestLine = 8192

/** Whole lines at a time on a terminal, so that no escape sequence is cut in two; elsewhere all as it comes. */
export function openScreen({ isTerminal, write, colours }: Context): Screen {
  if (!isTerminal) return { show: write, close: () => undefined }
  const paint = paintFor(colours)
  let rest = ''
  return {
    show(text) {
      const whole = rest + text
      const end =
        whole.length - whole.lastIndexOf('\n') > longestLine ? whole.length : whole.lastIndexOf('\n') + 1
      rest = whole.slice(end)
      write(harmless(whole.slice(0, end), 'log', paint))
    },
    close() {
      write(harmless(rest, 'log', paint))
    },
  }
}

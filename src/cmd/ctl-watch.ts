import * as v from 'valibot'
import { addressOf } from '../client.ts'
import { followedEvents, type ServerEvent } from '../event-stream.ts'
import { printable } from '../log.ts'
import { QueueEvent, VerdictEvent, watchEvents } from '../wire/gates.ts'
import { wireTime } from '../wire/schema.ts'
import { choice, command, flag, number, text } from './command.ts'
import { openPublicClient, serverOptions } from './credentials.ts'
import { counted, jsonLine, paintFor, paintedStatus, shownTime, type Paint } from './output.ts'

export const queueWatch = command(
  'ctl queue watch',
  'Print verdicts and changes of the queue as they happen',
  {
    ...serverOptions,
    kind: choice('Only events of this kind', ['verdict', 'queue']),
    distro: text('Only verdicts of this distribution', { aliases: ['distribution'] }),
    after: number('Begin after the event of this number, as --json prints it; else with what comes now', {
      min: 0,
      placeholder: 'ID',
    }),
    json: flag('Print one JSON object a line'),
  },
  async (_, { kind, distro, after, json, ...options }, context) => {
    const { base } = await openPublicClient(options, context)
    const kinds = kind ?? (distro === undefined ? null : 'verdict')
    const address = addressOf(base, watchEvents) + (kinds === null ? '' : `?kinds=${kinds}`)
    const paint = paintFor(context.colours)
    const onLost = (why: string): void => context.err(printable(`connection lost (${why}); trying again`))
    const from = after === undefined ? null : String(after)
    for await (const event of followedEvents(address, { after: from, signal: context.signal, onLost })) {
      const shown = json ? asJson(event, distro) : asLine(event, distro, paint)
      if (shown !== null) context.out(shown)
    }
  },
  {
    details:
      'Runs until it is interrupted. A lost connection is made again and goes on where it was: nothing is missed.',
  },
)

function parsed({ data }: ServerEvent): unknown {
  try {
    return JSON.parse(data)
  } catch {
    return null
  }
}

/** As it came, with its number and kind; null where it is not wanted. */
function asJson(event: ServerEvent, distro: string | undefined): string | null {
  const verdict = v.safeParse(VerdictEvent, parsed(event))
  if (distro !== undefined && (!verdict.success || verdict.output.distribution !== distro)) return null
  return jsonLine({ id: Number(event.id), kind: event.kind, data: parsed(event) })
}

function asLine(event: ServerEvent, distro: string | undefined, paint: Paint): string | null {
  const time = paint.faint(shownTime(wireTime(new Date())))
  if (event.kind === 'verdict') {
    const { success, output } = v.safeParse(VerdictEvent, parsed(event))
    if (!success || (distro !== undefined && output.distribution !== distro)) return null
    return `${time} ${verdictWords(output, paint)}`
  }
  const { success, output } = v.safeParse(QueueEvent, parsed(event))
  return success && event.kind === 'queue' ? `${time} ${queueWords(output, paint)}` : null
}

/** `1 job started: hello 1.0-1 (debian, sid, amd64)` */
function queueWords({ change, count, job }: QueueEvent, paint: Paint): string {
  const what = `${counted(count, 'job')} ${change}`
  return job === undefined ? what : `${what}: ${titled(job, paint)}`
}

type Titled = Pick<VerdictEvent, 'name' | 'version' | 'distribution' | 'release' | 'architecture'>

/** `hello 1.0-1 (debian, sid, amd64)` */
function titled({ name, version, distribution, release, architecture }: Titled, paint: Paint): string {
  const origin = [distribution, release, architecture].filter((word) => word !== null).join(', ')
  return `${paint.bold(printable(name))} ${printable(`${version} (${origin})`)}`
}

/** `BAD   hello 1.0-1 (debian, sid, amd64) content_differs, was GOOD` */
function verdictWords(verdict: VerdictEvent, paint: Paint): string {
  const { status, reason, before } = verdict
  const was = before !== null && before !== status ? `was ${before}` : null
  const more = [reason, was].filter((word) => word !== null).join(', ')
  return `${paintedStatus(status.padEnd(5), paint)} ${titled(verdict, paint)} ${more}`.trimEnd()
}

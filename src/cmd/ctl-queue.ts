import type { Client } from '../client.ts'
import { printable } from '../log.ts'
import { buildStatuses } from '../wire/common.ts'
import type { QueryOf } from '../wire/endpoint.ts'
import { dropJobs, listQueue, requestRebuild, type QueuedJob } from '../wire/queue.ts'
import { momentOf } from '../wire/schema.ts'
import { choice, command, flag, number, text, type Context } from './command.ts'
import { openAdminClient, openPublicClient, serverOptions } from './credentials.ts'
import { recordsOf } from './lists.ts'
import {
  alignedLines,
  fittingLines,
  paintFor,
  quoted,
  shownSeconds,
  shownTime,
  writeJsonArray,
  type Cell,
  type Paint,
} from './output.ts'
import { refuseUnknown } from './unknown.ts'

const headCount = 25

export const queueLs = command(
  'ctl queue ls',
  'List the jobs that run or are due',
  {
    ...serverOptions,
    head: flag(`Only the first ${headCount}`),
    planned: flag('Those too that are only due later', { short: 'p' }),
    name: text('Only jobs of this source package'),
    distro: text('Only this distribution', { aliases: ['distribution'] }),
    release: text('Only this release'),
    architecture: text('Only this architecture', { aliases: ['arch'] }),
    json: flag('Print one JSON array'),
  },
  async (_, options, context) => {
    const client = await openPublicClient(options, context)
    const { name, distro, release, architecture, planned, head } = options
    const query: Partial<QueryOf<typeof listQueue>> = {}
    if (name !== undefined) query.name = name
    if (distro !== undefined) query.distribution = distro
    if (release !== undefined) query.release = release
    if (architecture !== undefined) query.architecture = architecture
    const all = recordsOf(client, listQueue, query)
    const jobs = shownJobs(all, { planned, most: head ? headCount : Infinity, now: new Date() })
    if (options.json) return writeJsonArray(jobs, context.write, context.signal)
    await (context.isTerminal ? printTable(jobs, context) : printLines(jobs, context))
  },
)

async function* shownJobs(
  jobs: AsyncIterable<QueuedJob>,
  { planned, most, now }: { planned: boolean; most: number; now: Date },
): AsyncGenerator<QueuedJob> {
  let shown = 0
  for await (const job of jobs) {
    if (!planned && job.next_retry !== null && momentOf(job.next_retry) > now) continue
    yield job
    if (++shown >= most) return
  }
}

async function printLines(jobs: AsyncIterable<QueuedJob>, context: Context): Promise<void> {
  const paint = paintFor(context.colours)
  for await (const job of jobs) {
    context.signal.throwIfAborted()
    context.out(jobLine(job, new Date(), paint))
  }
}

/** A line as rebuildctl prints it, its way of writing a release included: programs read it. */
function jobLine(job: QueuedJob, now: Date, paint: Paint): string {
  const title = `${printable(job.name)} ${printable(job.version)}`
  const name = paint.bold(printable(job.name)) + title.slice(printable(job.name).length)
  return [
    paint.faint(shownTime(job.queued_at)),
    name + ' '.repeat(Math.max(0, 60 - title.length)),
    runningTime(job, now).padStart(11).replace(/\S.*$/, paint.green),
    shownTime(job.started_at).padEnd(19),
    quoted(job.distribution),
    job.release === null ? 'None' : `Some(${quoted(job.release)})`,
    quoted(job.architecture),
  ].join(' ')
}

function runningTime(job: QueuedJob, now: Date): string {
  return job.started_at === null
    ? ''
    : shownSeconds((now.getTime() - momentOf(job.started_at).getTime()) / 1000)
}

/** For people: what each job is and what it waits for. */
async function printTable(jobs: AsyncIterable<QueuedJob>, context: Context): Promise<void> {
  const paint = paintFor(context.colours)
  const rows: (readonly Cell[])[] = []
  for await (const job of jobs) rows.push(jobRow(job, new Date(), paint))
  if (rows.length === 0) return context.out('nothing to do')
  const head = ['QUEUED', 'PACKAGE', 'ORIGIN', 'PRIORITY', 'STATE'].map((text) => ({ text, as: paint.bold }))
  const widths: number[] = []
  const lines = alignedLines([head, ...rows], widths)
  const isWide = widths.reduce((sum, width) => sum + width + 2, -2) > context.columns
  for (const line of isWide ? fittingLines(rows.map(inWords), context.columns) : lines) context.out(line)
}

/** What matters most comes first where a row has no room, and numbers are no column with a title. */
function inWords([queued = '', name = '', origin = '', priority = '', state = '']: readonly Cell[]): Cell[] {
  const said = (word: string, cell: Cell): Cell =>
    typeof cell === 'string' ? `${word} ${cell}` : { ...cell, text: `${word} ${cell.text}` }
  return [name, state, origin, said('priority', priority), said('queued', queued)]
}

function jobRow(job: QueuedJob, now: Date, paint: Paint): Cell[] {
  const origin = [job.distribution, job.release, job.architecture].filter((word) => word !== null)
  return [
    { text: shownTime(job.queued_at), as: paint.faint },
    { text: `${job.name} ${job.version}`, as: paint.bold },
    origin.join(' '),
    String(job.priority),
    stateOf(job, now, paint),
  ]
}

function stateOf(job: QueuedJob, now: Date, paint: Paint): Cell {
  if (job.started_at !== null) {
    const where = job.worker === null ? '' : ` at ${job.worker}`
    return { text: `runs for ${runningTime(job, now).trim()}${where}`, as: paint.green }
  }
  if (job.next_retry === null || momentOf(job.next_retry) <= now) return 'due'
  const why = job.reason === null ? '' : `, ${job.reason}`
  return { text: `due ${shownTime(job.next_retry)}${why}`, as: paint.faint }
}

export const queuePush = command(
  'ctl queue push <distro> <component> [name] [version]',
  'Rebuild packages now, ahead of everything that waits',
  {
    ...serverOptions,
    release: text('Only this release'),
    architecture: text('Only this architecture', { aliases: ['arch'] }),
    status: choice('Only those that were rebuilt with this verdict', buildStatuses),
    priority: number('Lower is sooner; what nobody asked for has 1, retries have 2; default 0', {
      placeholder: 'N',
    }),
  },
  async ([distribution, component, name = null, version = null], options, context) => {
    const { release = null, architecture = null, status = null, priority = 0 } = options
    const client = await openAdminClient(options, context)
    const body = {
      distribution,
      component,
      name,
      version,
      release,
      architecture,
      status,
      priority,
      reason: null,
    }
    const { affected } = await client.call(requestRebuild, { body })
    context.out(`Queue operation applied to ${affected} builds`)
    if (affected === 0 && name !== null) await refuseUnknown(client, 'source', name, context)
  },
  {
    details: 'Without a name: every package of the component.',
    examples: [
      'rebuilderd ctl queue push debian main hello --release trixie',
      'rebuilderd ctl queue push debian main --status BAD',
    ],
  },
)

/** Servers that cannot be asked may have one. */
async function hasJob(client: Client, query: Partial<QueryOf<typeof listQueue>>): Promise<boolean> {
  return client.call(listQueue, { query: { ...query, limit: 1 } }).then(
    ({ records }) => records.length > 0,
    () => true,
  )
}

export const queueDrop = command(
  'ctl queue drop <distro> <suite> <name> [version]',
  'Drop jobs; the next sync queues again what is not GOOD',
  {
    ...serverOptions,
    release: text('Only this release'),
    architecture: text('Only this architecture', { aliases: ['arch'] }),
  },
  async ([distribution, component, name, version], { release, architecture, ...options }, context) => {
    const query: Partial<QueryOf<typeof dropJobs>> = { distribution, component, name }
    if (version !== undefined) query.version = version
    if (release !== undefined) query.release = release
    if (architecture !== undefined) query.architecture = architecture
    const client = await openAdminClient(options, context)
    const isQueued = await hasJob(client, query)
    await client.call(dropJobs, { query })
    if (isQueued || (await refuseUnknown(client, 'source', name, context))) return
    context.err(printable(`no job of ${name} matches`))
  },
)

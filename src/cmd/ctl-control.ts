import type { Client } from '../client.ts'
import { Complaint } from '../errors.ts'
import { printable } from '../log.ts'
import { getBuild, listBuilds } from '../wire/builds.ts'
import { explainPackage, requestRebuild, setQueueControl, type Outlook } from '../wire/queue.ts'
import { reasonCodes, wordsOf, type Reason } from '../wire/reasons.ts'
import { listSyncs, type SyncState } from '../wire/sync.ts'
import { choice, command, flag, text, type Context } from './command.ts'
import { openAdminClient, openPublicClient, serverOptions } from './credentials.ts'
import { counted, paintFor, paintedStatus, shownTime, type Paint } from './output.ts'
import { unknownName } from './unknown.ts'

export const queuePause = command(
  'ctl queue pause [note]',
  'Hand out no more jobs; those that run go on',
  serverOptions,
  async ([note = null], options, context) => {
    const client = await openAdminClient(options, context)
    await client.call(setQueueControl, { body: { paused: true, note } })
    context.out('the queue is paused; `ctl queue resume` lets it go on')
  },
)

export const queueResume = command(
  'ctl queue resume',
  'Hand out jobs again',
  serverOptions,
  async (_, options, context) => {
    const client = await openAdminClient(options, context)
    await client.call(setQueueControl, { body: { paused: false, note: null } })
    context.out('the queue goes on')
  },
)

export const queueRetry = command(
  'ctl queue retry',
  'Rebuild now what failed for one reason',
  {
    ...serverOptions,
    reason: choice('Those whose latest attempt ended so', reasonCodes),
    distro: text('Only this distribution', { aliases: ['distribution'] }),
    release: text('Only this release'),
    architecture: text('Only this architecture', { aliases: ['arch'] }),
  },
  async (_, { reason, distro, release, architecture, ...options }, context) => {
    if (reason === undefined) {
      throw new Complaint('which reason?', {
        hint: `give --reason with one of ${reasonCodes.join(', ')}`,
        exitCode: 2,
      })
    }
    const client = await openAdminClient(options, context)
    const body = {
      distribution: distro ?? null,
      release: release ?? null,
      component: null,
      name: null,
      version: null,
      architecture: architecture ?? null,
      status: null,
      priority: null,
      reason,
    }
    const { affected } = await client.call(requestRebuild, { body })
    context.out(`${counted(affected, 'job')} queued again`)
  },
)

export const why = command(
  'ctl why <name> [version]',
  'Tell why a source package is queued, waits, runs or fails, and what happens next',
  {
    ...serverOptions,
    distro: text('Only this distribution', { aliases: ['distribution'] }),
    release: text('Only this release'),
    architecture: text('Only this architecture', { aliases: ['arch'] }),
    all: flag('Versions too that are no longer listed'),
    json: flag('Print one JSON array'),
  },
  async ([name, version], { distro, release, architecture, all, json, ...options }, context) => {
    const client = await openPublicClient(options, context)
    const given = { name, version, distribution: distro, release, architecture }
    const query = Object.fromEntries(Object.entries(given).filter(([, value]) => value !== undefined))
    const found = await client.call(explainPackage, { query })
    const shown = all ? found : found.filter((item) => item.seen_in_last_sync)
    if (json) return context.write(`${JSON.stringify(shown, null, 2)}\n`)
    if (shown.length === 0) {
      const unknown = found.length > 0 ? null : await unknownName(client, 'source', name)
      throw (
        unknown ??
        new Complaint(`no source package ${name} is listed`, {
          hint: '`ctl pkgs ls` lists what the server knows; --all shows older versions',
        })
      )
    }
    for (const [index, item] of shown.entries())
      tell(item, index < mostExplained ? await saidOf(client, item) : [], context)
  },
)

/** Packages for which the server is asked what the worker said. */
const mostExplained = 20

/** What the worker said about the attempt that a verdict rests on. */
async function saidOf(client: Client, item: Outlook): Promise<string[]> {
  const { name, version, distribution, release, architecture, status, reason } = item
  if (status === null || reason === null) return []
  const origin = { distribution, release: release ?? '', architecture, name, version }
  const newest = { sort: 'id', direction: 'Descending', limit: 1 } as const
  const { records } = await client.call(listBuilds, {
    query: { ...origin, status: [status], reason: [reason], ...newest },
  })
  const [last] = records
  if (last === undefined) return []
  const { evidence } = await client.call(getBuild, { params: { id: last.id } })
  const { note, missing } = evidence ?? { note: null, missing: [] }
  const more = missing.length > mostMissing ? ` and ${missing.length - mostMissing} more` : ''
  return [
    ...(note === null ? [] : [note]),
    ...(missing.length === 0 ? [] : [`missing: ${missing.slice(0, mostMissing).join(', ')}${more}`]),
  ]
}

const mostMissing = 10

function tell(item: Outlook, said: readonly string[], context: Context): void {
  const paint = paintFor(context.colours)
  const origin = [item.distribution, item.release, item.architecture]
    .filter((word) => word !== null)
    .join(' ')
  context.out(`${paint.bold(printable(item.name))} ${printable(item.version)} (${printable(origin)})`)
  for (const line of sentencesOf(item, said)) {
    context.out(
      `  ${line.status === undefined ? '' : `${paintedStatus(line.status, paint)}: `}${printable(line.text)}`,
    )
  }
}

/** What is so and what the worker said of it, then what happens next. */
function sentencesOf(item: Outlook, said: readonly string[]): { status?: string; text: string }[] {
  const { status, reason, decided_at, job } = item
  const verdict =
    status === null
      ? { text: 'not rebuilt yet' }
      : {
          status,
          text: `${reason === null ? 'every file is equal' : reasonText(reason)} (${shownTime(decided_at)})`,
        }
  const sentences = [verdict, ...[...said, nextOf(item)].map((text) => ({ text }))]
  if (item.index === 'unsigned')
    sentences.push({ text: 'index: unsigned (taken on trust, no signature proves it)' })
  if (item.paused && job !== null && job.started_at === null)
    sentences.push({ text: 'the queue is paused: nothing is handed out' })
  return sentences
}

function reasonText(reason: Reason): string {
  return `${reason}: ${wordsOf(reason)}`
}

function nextOf({
  job,
  status,
  seen_in_last_sync,
  retries,
  max_retries,
  ahead,
  requires,
  able_workers,
}: Outlook): string {
  if (job === null) {
    if (!seen_in_last_sync) return 'no longer listed: it is not tried again'
    if (status === 'GOOD') return 'nothing more to do'
    if (max_retries !== null && retries >= max_retries) {
      return `given up after ${retries} attempts; \`ctl queue push\` asks for another`
    }
    return 'not queued: its job was dropped; the next sync queues it again, `ctl queue push` at once'
  }
  if (job.started_at !== null)
    return `runs since ${shownTime(job.started_at)}${job.worker === null ? '' : ` at ${job.worker}`}`
  if (ahead === null) return `tried again at ${shownTime(job.next_retry)}`
  const needs = requires.length === 0 ? '' : `, needs a worker with ${requires.join(', ')}`
  const workers = able_workers === 0 ? ', and no worker that could take it is online' : ''
  return `due, ${ahead === 0 ? 'next in turn' : `${counted(ahead, 'job')} ${ahead === 1 ? 'goes' : 'go'} before it`}${needs}${workers}`
}

export const syncStatus = command(
  'ctl sync status',
  'Tell when the server synced by itself, how that ended, and when it does next',
  { ...serverOptions, json: flag('Print one JSON array') },
  async (_, { json, ...options }, context) => {
    const client = await openPublicClient(options, context)
    const syncs = await client.call(listSyncs)
    if (json) return context.write(`${JSON.stringify(syncs, null, 2)}\n`)
    if (syncs.length === 0) context.out('this server has no [[sync]] in its configuration')
    const paint = paintFor(context.colours)
    for (const sync of syncs) {
      const { name, state, checked_at, changed_at, next_at } = sync
      const checked = checked_at === null ? 'never checked yet' : `last checked ${shownTime(checked_at)}`
      const changed = changed_at === null ? '' : `, last changed ${shownTime(changed_at)}`
      const next = state === 'running' ? 'runs now' : `next at ${shownTime(next_at)}`
      context.out(`${paint.bold(printable(name))}: ${checked}${changed}; ${next}`)
      if (sync.ended_at !== null) context.out(`  ${lastRunOf(sync, paint)}`)
    }
  },
)

function lastRunOf({ ended_at, reports, unchanged, queued, error }: SyncState, paint: Paint): string {
  if (error !== null) return paint.red(`failed at ${shownTime(ended_at)}: ${printable(error)}`)
  const lists = `${counted(reports, 'list')} imported, ${unchanged} unchanged`
  return queued === 0 ? lists : `${lists}, ${counted(queued, 'job')} queued`
}

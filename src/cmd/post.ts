/** Sending package reports to a server that may have them already. */
import { ServerSaid, type Client } from '../client.ts'
import { Complaint, during } from '../errors.ts'
import { printable } from '../log.ts'
import { digestOf } from '../report-digest.ts'
import { submitPackages, type ReportToSend } from '../wire/packages.ts'
import { confirmScope, listScopes, type Scope } from '../wire/sync.ts'

/** `debian/trixie (amd64)` */
export function scopeName({ distribution, release, architecture }: ReportToSend): string {
  return printable(`${distribution}${release === null ? '' : `/${release}`} (${architecture})`)
}

/** A report that lists nothing. Those after it are not to blame. */
export class EmptyList extends Complaint {
  constructor(name: string) {
    super(`the list of ${name} is empty: importing it would end all work on it`, {
      hint: 'are components and filters right? --force imports it all the same',
    })
    this.name = 'EmptyList'
  }
}

/** What came of a report. `scope` is what the server tells of its import; null where it is one of upstream's. */
export type Posted =
  | { outcome: 'posted'; scope: Scope | null }
  /** Jobs that were missing, and are queued again. */
  | { outcome: 'unchanged'; queued: number }

export type PostOptions = {
  /** Send it though it is empty, short, or the same again. */
  force: boolean
  signal?: AbortSignal
  /** Called before the report is sent. */
  onSend?: () => void
}

/**
 * Sends a report, unless it is what the server imported last: then the server only queues again what lost its job.
 * @throws Complaint where it is empty, or refused
 */
export async function post(
  client: Client,
  report: ReportToSend,
  { force, signal, onSend }: PostOptions,
): Promise<Posted> {
  const name = scopeName(report)
  if (report.packages.length === 0 && !force) {
    throw new EmptyList(name)
  }
  const limited = signal === undefined ? {} : { signal }
  const confirmed = force ? null : await confirmationOf(client, report, limited)
  if (confirmed?.known === true) return { outcome: 'unchanged', queued: confirmed.queued }
  onSend?.()
  const query = force ? { query: { force: 'true' as const } } : {}
  await during(`importing ${name}`, () => client.call(submitPackages, { body: report, ...query, ...limited }))
  return { outcome: 'posted', scope: await scopeAt(client, report, limited) }
}

/** Null where the server is one of upstream's, which takes every report. */
async function confirmationOf(
  client: Client,
  report: ReportToSend,
  limited: { signal?: AbortSignal },
): Promise<{ known: boolean; queued: number } | null> {
  const { distribution, release, architecture } = report
  const body = { distribution, release, architecture, digest: digestOf(report) }
  return client.call(confirmScope, { body, ...limited }).catch((error: unknown) => {
    if (error instanceof ServerSaid && [404, 405].includes(error.status)) return null
    throw error
  })
}

/** What the server imported last for the scope of a report; null: nothing, or it cannot tell. */
async function scopeAt(
  client: Client,
  { distribution, release, architecture }: ReportToSend,
  limited: { signal?: AbortSignal },
): Promise<Scope | null> {
  const scopes = await client
    .call(listScopes, { query: { distribution }, ...limited })
    .catch((error: unknown) => {
      if (error instanceof ServerSaid && error.status === 404) return []
      throw error
    })
  const isMeant = (scope: Scope): boolean =>
    scope.distribution === distribution && scope.release === release && scope.architecture === architecture
  return scopes.find(isMeant) ?? null
}

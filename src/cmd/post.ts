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
type Posted =
  | { outcome: 'posted'; scope: Scope | null }
  /** Jobs that were missing, and are queued again. */
  | { outcome: 'unchanged'; queued: number }

type PostOptions = {
  /** Send it though it is empty, short, or the same again. */
  force: boolean
  signal?: AbortSignal
  /** Called before the report is sent. */
  onSend?: () => void
}

/**
 * Sends a report, unless it is what the server imported last: then the server only queues again what lost its job.
 * An empty one is never sent.
 * @throws Complaint where it is refused, or is empty and the server may have packages there
 */
export async function post(
  client: Client,
  report: ReportToSend,
  { force, signal, onSend }: PostOptions,
): Promise<Posted> {
  const name = scopeName(report)
  const limited = signal === undefined ? {} : { signal }
  if (report.packages.length === 0 && !force) {
    if (await hasPackages(client, report, limited)) throw new EmptyList(name)
    return { outcome: 'unchanged', queued: 0 } // suites of updates often are empty
  }
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

/** Whether the last import of a report's scope listed anything; a server that cannot tell may have packages. */
async function hasPackages(
  client: Client,
  report: ReportToSend,
  limited: { signal?: AbortSignal },
): Promise<boolean> {
  const scopes = await scopesOf(client, report, limited)
  return scopes === null || scopes.some(({ listed }) => listed > 0)
}

/** What the server imported last for the scope of a report; null: nothing, or it cannot tell. */
async function scopeAt(
  client: Client,
  report: ReportToSend,
  limited: { signal?: AbortSignal },
): Promise<Scope | null> {
  return (await scopesOf(client, report, limited))?.[0] ?? null
}

/** The scope of a report as the server knows it, if it does; null where it is one of upstream's. */
async function scopesOf(
  client: Client,
  { distribution, release, architecture }: ReportToSend,
  limited: { signal?: AbortSignal },
): Promise<Scope[] | null> {
  const scopes = await client
    .call(listScopes, { query: { distribution }, ...limited })
    .catch((error: unknown) => {
      if (error instanceof ServerSaid && error.status === 404) return null
      throw error
    })
  const isMeant = (scope: Scope): boolean =>
    scope.distribution === distribution && scope.release === release && scope.architecture === architecture
  return scopes?.filter(isMeant) ?? null
}

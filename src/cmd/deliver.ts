import type { Client } from '../client.ts'
import { Complaint, during } from '../errors.ts'
import { printable } from '../log.ts'
import { listBinaryPackages, submitPackages, type PackageReport } from '../wire/packages.ts'
import type { Context } from './command.ts'
import { openAdminClient, openPublicClient, type ServerOptions } from './credentials.ts'
import { recordsOf } from './lists.ts'
import { counted, jsonLine, paintFor, shownCount } from './output.ts'

export type Delivery = ServerOptions & {
  readonly printJson?: boolean
  readonly dryRun: boolean
  readonly force: boolean
}

/** Milliseconds that an import may take: older servers need minutes for a distribution. */
const importTimeout = 3_600_000

/**
 * Sends package reports to the server, or prints them, or tells what they would change.
 * The server is asked for first: nobody downloads for minutes to hear that the cookie is missing.
 */
export async function deliver(
  reports: AsyncIterable<PackageReport>,
  options: Delivery,
  context: Context,
): Promise<void> {
  if (options.printJson === true) return printReports(reports, context)
  if (options.dryRun) return foretell(reports, await openPublicClient(options, context), context)
  const client = await openAdminClient(options, context, importTimeout)
  for await (const report of reports) await send(report, options.force, client, context)
}

/** One array with one report on each line; what was begun is closed even where a later report cannot be read. */
async function printReports(reports: AsyncIterable<PackageReport>, context: Context): Promise<void> {
  let printed = 0
  try {
    for await (const report of reports) context.write(`${printed++ === 0 ? '[' : ','}\n${jsonLine(report)}`)
    if (printed === 0) context.write('[]\n')
  } finally {
    if (printed > 0) context.write('\n]\n')
  }
}

async function send(report: PackageReport, force: boolean, client: Client, context: Context): Promise<void> {
  const scope = scopeOf(report)
  if (report.packages.length === 0 && !force) {
    throw new Complaint(`the list of ${scope} is empty: importing it would end all work on it`, {
      hint: 'are components and filters right? --force imports it all the same',
    })
  }
  const artifacts = report.packages.reduce((sum, { artifacts }) => sum + artifacts.length, 0)
  const what = `${counted(report.packages.length, 'build input')} with ${counted(artifacts, 'package')}`
  context.log.info(`sending ${scope} to ${client.base}: ${what}`)
  const begin = performance.now()
  await during(`importing ${scope}`, () =>
    client.call(submitPackages, { body: report, ...(force ? { query: { force: 'true' } } : {}) }),
  )
  context.log.info(`imported ${scope} in ${((performance.now() - begin) / 1000).toFixed(1)} s`)
}

/** `debian/trixie (amd64)` */
function scopeOf({ distribution, release, architecture }: PackageReport): string {
  return printable(`${distribution}${release === null ? '' : `/${release}`} (${architecture})`)
}

/** Most lines of changes that a terminal gets. */
const mostShown = 40

async function foretell(
  reports: AsyncIterable<PackageReport>,
  client: Client,
  context: Context,
): Promise<void> {
  const paint = paintFor(context.colours)
  const most = context.isTerminal ? mostShown : Infinity
  for await (const report of reports) {
    const { listed, added, gone } = await changesOf(report, client)
    const scope = scopeOf(report)
    context.out(
      `${paint.bold(scope)}: ${counted(listed, 'package')}, ${shownCount(added.length)} new, ${shownCount(gone.length)} gone`,
    )
    const lines = [
      ...added.map((one) => paint.green(`+ ${one}`)),
      ...gone.map((one) => paint.red(`- ${one}`)),
    ]
    for (const line of lines.slice(0, most)) context.out(line)
    if (lines.length > most) context.out(`… and ${shownCount(lines.length - most)} more`)
  }
}

/** What an import would add to the packages that the server lists, and what it would take away. */
async function changesOf(
  report: PackageReport,
  client: Client,
): Promise<{ listed: number; added: string[]; gone: string[] }> {
  const { distribution, release } = report
  const artifacts = report.packages.flatMap((one) => one.artifacts)
  const named = new Set(artifacts.map(titleOf))
  const architectures = new Set([report.architecture, ...artifacts.map((one) => one.architecture)])
  const query = { distribution, seen_only: true, ...(release === null ? {} : { release }) }
  const known = new Set<string>()
  for await (const record of recordsOf(client, listBinaryPackages, query)) {
    const isOfScope = record.release === release && record.seen_in_last_sync
    if (isOfScope && architectures.has(record.architecture)) known.add(titleOf(record))
  }
  return { listed: named.size, added: [...named.difference(known)], gone: [...known.difference(named)] }
}

function titleOf(one: {
  name: string
  version: string
  architecture: string
  component: string | null
}): string {
  const component = one.component === null ? '' : `, ${one.component}`
  return printable(`${one.name} ${one.version} (${one.architecture}${component})`)
}

import type { Client } from '../client.ts'
import { Complaint, complaintOf, sentenceOf } from '../errors.ts'
import type { ReportToSend } from '../wire/packages.ts'
import type { Context } from './command.ts'
import { openAdminClient, openPublicClient, type ServerOptions } from './credentials.ts'
import { foretold, type Changes } from './foretell.ts'
import { counted, jsonLinePieces, paintFor, shownCount, shownJson } from './output.ts'
import { EmptyList, post, scopeName } from './post.ts'

type Delivery = ServerOptions & {
  readonly printJson?: boolean
  readonly json: boolean
  readonly dryRun: boolean
  readonly force: boolean
}

/** Reports from one place, in the order they come. */
type Run = {
  /** Name in the configuration; null where it has none. */
  profile: string | null
  /** Runs of one place go one after the other, others at once. */
  place: string
  reports: AsyncIterable<ReportToSend>
}

/** What came of one report, or of a run that could not go on. Packages are binary ones. */
type Summary = {
  profile: string | null
  distribution: string | null
  release: string | null
  architecture: string | null
  index: 'signed' | 'unsigned' | null
  outcome: 'posted' | 'unchanged' | 'foretold' | 'failed'
  /** Build inputs and packages of the report. */
  inputs: number | null
  packages: number | null
  /** Null where the server does not tell, as upstream's. */
  new: number | null
  gone: number | null
  queued: number | null
  seconds: number
  error: string | null
}

/** Milliseconds that an import may take: older servers need minutes for a distribution. */
const importTimeout = 3_600_000
/** Places that are read at once: a report of a whole distribution takes memory. */
const placesAtOnce = 4

/**
 * Sends package reports to the server, or prints them, or tells what they would change. A run that fails hinders
 * no other one.
 * The server is asked for first: nobody downloads for minutes to hear that the cookie is missing.
 * @returns the exit code; where there is one run only, its failure is thrown
 */
export async function deliver(runs: readonly Run[], options: Delivery, context: Context): Promise<number> {
  if (options.printJson === true) return printReports(runs, options, context)
  const summaries: Summary[] = []
  const take = options.dryRun
    ? foretelling(await openPublicClient(options, context), options, context)
    : sending(await openAdminClient(options, context, importTimeout), options, context)
  const places = [...Map.groupBy(runs, ({ place }) => place).values()]
  const failures: Failed[] = []
  const work = async (): Promise<void> => {
    for (let place = places.shift(); place !== undefined; place = places.shift())
      for (const run of place) failures.push(...(await runOne(run, take, summaries)))
  }
  await Promise.all(Array.from({ length: Math.min(placesAtOnce, places.length) }, work))
  if (options.json) context.write(`${shownJson(summaries)}\n`)
  return endOf(runs, failures, context)
}

type Take = (report: ReportToSend, packages: number) => Promise<Partial<Summary>>
type Failed = { run: Run; error: unknown }

/** Takes the reports of a run until one fails: what comes after it may rest on it, unless it was only empty. */
async function runOne({ profile, ...run }: Run, take: Take, summaries: Summary[]): Promise<Failed[]> {
  let begin = performance.now()
  let current: ReportToSend | null = null
  let packages: number | null = null
  const note = (more: Partial<Summary>): void => {
    const seconds = Math.round(performance.now() - begin) / 1000
    summaries.push({ ...summaryOf(current), packages, profile, seconds, ...more })
  }
  const failures: Failed[] = []
  const fail = (error: unknown): void => {
    note({ outcome: 'failed', error: sentenceOf(error) })
    failures.push({ run: { profile, ...run }, error })
  }
  try {
    for await (const report of run.reports) {
      current = report
      packages = packagesOf(report)
      try {
        note(await take(report, packages))
      } catch (error) {
        if (!(error instanceof EmptyList)) throw error
        fail(error)
      }
      current = null
      packages = null
      begin = performance.now()
    }
  } catch (error) {
    fail(error)
  }
  return failures
}

function summaryOf(report: ReportToSend | null): Omit<Summary, 'profile' | 'packages' | 'seconds'> {
  return {
    distribution: report?.distribution ?? null,
    release: report?.release ?? null,
    architecture: report?.architecture ?? null,
    index: report?.index ?? null,
    outcome: 'failed',
    inputs: report?.packages.length ?? null,
    new: null,
    gone: null,
    queued: null,
    error: null,
  }
}

function packagesOf(report: ReportToSend): number {
  return Iterator.from(report.packages).reduce((sum, { artifacts }) => sum + artifacts.length, 0)
}

/** @throws the failure, where there was one run only: what ended it is all there is to tell */
function endOf(runs: readonly Run[], failures: readonly Failed[], context: Context): number {
  context.signal.throwIfAborted()
  for (const failed of failures) {
    if (runs.length === 1) throw failed.error
    const hint = complaintOf(failed.error)?.hint
    const told = `${failed.run.profile ?? failed.run.place}: ${sentenceOf(failed.error)}`
    context.log.error(hint === undefined ? told : `${told} (${hint})`)
  }
  return failures.length === 0 ? 0 : 1
}

/** One array with one report on each line; what was begun is closed even where a later report cannot be read. */
async function printReports(runs: readonly Run[], options: Delivery, context: Context): Promise<number> {
  if (options.json)
    throw new Complaint('give either --print-json or --json: both write to standard output', { exitCode: 2 })
  let printed = 0
  const failures: Failed[] = []
  for (const run of runs) {
    try {
      for await (const report of run.reports) {
        context.write(printed++ === 0 ? '[\n' : ',\n')
        for (const piece of jsonLinePieces(report)) {
          context.write(piece)
          await context.written()
        }
      }
    } catch (error) {
      failures.push({ run, error })
    }
  }
  if (printed > 0) context.write('\n]\n')
  else if (failures.length === 0) context.write('[]\n')
  return endOf(runs, failures, context)
}

function sending(client: Client, { force }: Delivery, { log }: Context): Take {
  return async (report, packages) => {
    const name = scopeName(report)
    const what = `${counted(report.packages.length, 'build input')} with ${counted(packages, 'package')}`
    const begin = performance.now()
    const onSend = (): void => log.info(`sending ${name} to ${client.base}: ${what}`)
    const posted = await post(client, report, { force, onSend })
    if (posted.outcome === 'unchanged' && report.packages.length === 0) {
      log.warning(`the list of ${name} is empty; ${client.base} has none of its packages either`)
      return { outcome: posted.outcome, new: 0, gone: 0, queued: 0 }
    }
    if (posted.outcome === 'unchanged') {
      const { outcome, queued } = posted
      const again =
        queued === 0
          ? ''
          : `; ${counted(queued, 'job')} had gone and ${queued === 1 ? 'is' : 'are'} queued again`
      log.info(`unchanged: ${name} has ${what}, as ${client.base} knows${again}`)
      return { outcome, new: 0, gone: 0, queued }
    }
    const { outcome, scope } = posted
    const changes =
      scope === null
        ? ''
        : `: ${shownCount(scope.added)} new, ${shownCount(scope.gone)} gone, ${shownCount(scope.queued)} queued`
    log.info(`imported ${name} in ${((performance.now() - begin) / 1000).toFixed(1)} s${changes}`)
    return { outcome, new: scope?.added ?? null, gone: scope?.gone ?? null, queued: scope?.queued ?? null }
  }
}

function foretelling(client: Client, { json }: Delivery, context: Context): Take {
  return (report) =>
    foretold(report, client, async (changes) => {
      if (!json) await tellChanges(report, changes, context)
      const { added, gone, queued } = changes
      return { outcome: 'foretold', new: added.count, gone: gone.count, queued }
    })
}

/** Most lines of changes that a terminal gets. */
const mostShown = 40

async function tellChanges(report: ReportToSend, changes: Changes, context: Context): Promise<void> {
  const { added, gone, unchanged, queued } = changes
  const paint = paintFor(context.colours)
  const most = context.isTerminal ? mostShown : Infinity
  const numbers = `${shownCount(added.count)} new, ${shownCount(gone.count)} gone, ${shownCount(unchanged)} unchanged, ${shownCount(queued)} to be queued`
  const name = paint.bold(scopeName(report))
  context.out(`${name}: ${counted(added.count + unchanged, 'package')}, ${numbers}`)
  const lines = function* (): Generator<string> {
    for (const one of added.all()) yield paint.green(`+ ${one}`)
    for (const one of gone.all()) yield paint.red(`- ${one}`)
  }
  let shown = 0
  for (const line of lines()) {
    if (shown++ === most) break
    context.out(line)
    if (shown % 1000 === 0) await context.written() // all of a first import would not fit into memory
  }
  const left = added.count + gone.count - most
  if (left > 0) context.out(`… and ${shownCount(left)} more`)
}

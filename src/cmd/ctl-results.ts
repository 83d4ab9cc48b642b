import { writeFile } from 'node:fs/promises'
import { setTimeout as sleep } from 'node:timers/promises'
import type { Client } from '../client.ts'
import { ServerSaid } from '../client.ts'
import { Complaint, during } from '../errors.ts'
import { printable } from '../log.ts'
import { getAttestation, getBuildLog, getDiffoscope, getDiffoscopeHtml } from '../wire/builds.ts'
import { listBinaryPackages, type BinaryPackage } from '../wire/packages.ts'
import { listQueue, type QueuedJob } from '../wire/queue.ts'
import { momentOf } from '../wire/schema.ts'
import { command, flag, longName, text, type Command, type Context, type OptionsTable } from './command.ts'
import { openPublicClient, serverOptions, type ServerOptions } from './credentials.ts'
import {
  isWanted,
  packageFilters,
  queryOf,
  verdictOf,
  withName,
  type PackageFilters,
} from './ctl-packages.ts'
import { followJob } from './follow.ts'
import { pagesOf, recordsOf } from './lists.ts'
import { shownTime } from './output.ts'
import { showText } from './pager.ts'
import { unknownName } from './unknown.ts'

/** One kind of result of a rebuild. */
type Kind = {
  word: string
  doc: string
  /** What it is called in a sentence. */
  what: string
  has: (found: BinaryPackage) => boolean
  options: OptionsTable
  fetch: (client: Client, found: Built, asked: Asked) => Promise<Uint8Array>
  show: (bytes: Uint8Array, context: Context) => Promise<void> | void
}
type Built = { id: number; artifact_id: number }
type Asked = ServerOptions & PackageFilters & { follow?: boolean; page?: boolean; output: string | undefined }

const log: Kind = {
  word: 'log',
  doc: 'Show the build log of a package',
  what: 'log',
  options: {
    follow: flag(
      'Follow the log of a job until it ends, and wait for one that is due; else the log as it is',
      {
        short: 'f',
      },
    ),
  },
  has: (found) => found.build_id !== null,
  fetch: (client, { id }) => client.call(getBuildLog, { params: { id } }),
  show: (bytes, context) => showText(bytes, 'log', context),
}

const diffoscope: Kind = {
  word: 'diffoscope',
  doc: 'Show where a rebuilt package differs from the original',
  what: 'diff',
  options: { page: flag('The HTML page in place of the text, where the worker made one') },
  has: (found) => found.build_id !== null && found.diffoscope_log_id !== null,
  fetch: (client, params, { page }) =>
    client.call(page === true ? getDiffoscopeHtml : getDiffoscope, { params }),
  show: (bytes, context) => showText(bytes, 'diff', context),
}

const attestation: Kind = {
  word: 'attestation',
  doc: 'Print the signed in-toto attestation of a package',
  what: 'attestation',
  options: {},
  has: (found) => found.build_id !== null && found.attestation_log_id !== null,
  fetch: (client, params) => client.call(getAttestation, { params }),
  show: (bytes, context) => {
    context.write(bytes)
    context.write('\n')
  },
}

const outputOption = text('Write it to this file, as it is', { short: 'o', placeholder: 'FILE' })

/** `ctl pkgs log`, `diffoscope`, `attestation`: one result of one package. */
export const resultCommands: readonly Command[] = [log, diffoscope, attestation].map((kind) =>
  command(
    `ctl pkgs ${kind.word} [name]`,
    kind.doc,
    { ...serverOptions, ...packageFilters, ...kind.options, output: outputOption },
    ([name], options: Asked, context) => showResult(kind, withName(options, name), context),
    {
      details:
        'Where one name is left but several versions, releases or architectures, the newest result is shown,\nand standard error tells which.',
    },
  ),
)

async function showResult(kind: Kind, options: Asked, context: Context): Promise<void> {
  if (options.page === true && options.output === undefined && context.isTerminal) throw notForTerminals()
  const client = await openPublicClient(options, context)
  const before = await candidates(client, options)
  const { job, hasWaited } =
    options.follow === true ? await awaitedJob(client, options, before.records, context) : nothingToFollow
  if (job !== null) return followJob(client, job, context)
  const { records, more } = hasWaited ? await candidates(client, options) : before
  if (records.length === 0) {
    const { name } = options
    const unknown = name === undefined ? null : await unknownName(client, 'binary', name)
    throw noPackage(options, unknown?.hint)
  }
  if (kind.word === 'log' && records.length > 0) await tellRunning(client, options, records, context)
  const found = choose(kind, records, more)
  tellChoice(found, records, context)
  const { build_id, artifact_id } = found
  const bytes = await kind
    .fetch(client, { id: build_id ?? 0, artifact_id: artifact_id ?? 0 }, options)
    .catch((error: unknown) => {
      throw error instanceof ServerSaid && error.status === 404 ? missing(kind, found, options) : error
    })
  const { output } = options
  if (output === undefined) await kind.show(bytes, context)
  else await during(`writing the ${kind.what}`, () => writeFile(output, bytes))
}

type Awaited = { job: QueuedJob | null; hasWaited: boolean }
const nothingToFollow: Awaited = { job: null, hasWaited: false }
const lookMilliseconds = 1000

/** The job that runs for this package. One that is due is waited for, and any where there is no log to show instead. */
async function awaitedJob(
  client: Client,
  filters: PackageFilters,
  records: readonly BinaryPackage[],
  { err, signal }: Context,
): Promise<Awaited> {
  const isNew = records.every(({ build_id }) => build_id === null)
  for (let hasWaited = false; ; hasWaited = true) {
    const jobs = await queuedJobs(client, filters, records)
    const running = jobs.filter(({ started_at }) => started_at !== null)
    if (running.length > 1) throw severalRun(running)
    const [first] = jobs.filter(({ next_retry: due }) => isNew || due === null || momentOf(due) <= new Date())
    const job = running[0] ?? null
    if (job !== null || first === undefined) return { job, hasWaited }
    if (!hasWaited) err(printable(waitsFor(first)))
    await sleep(lookMilliseconds, undefined, { signal })
  }
}

/** Whoever reads the last log may want the one that grows. */
async function tellRunning(
  client: Client,
  filters: PackageFilters,
  records: readonly BinaryPackage[],
  { err, isTerminal }: Context,
): Promise<void> {
  if (!isTerminal) return
  const jobs = await queuedJobs(client, filters, records).catch(() => [])
  const running = jobs.find(({ started_at }) => started_at !== null)
  if (running === undefined) return
  const { name, version, started_at } = running
  err(
    printable(`${name} ${version} is being rebuilt since ${shownTime(started_at)}; --follow shows that log`),
  )
}

function waitsFor({ name, version, id }: QueuedJob): string {
  return `${name} ${version} (job ${id}) has not begun; waiting until it does (Ctrl-C ends this; \`rebuilderd ctl why ${name}\` tells what it waits for)`
}

/** What is queued for this package; sources are, whatever their packages are called. */
async function queuedJobs(
  client: Client,
  { name, version, distro, release, architecture }: PackageFilters,
  records: readonly BinaryPackage[],
): Promise<QueuedJob[]> {
  const names = new Set(
    [name, ...records.map((record) => record.source_name)].filter((word) => word !== undefined),
  )
  const jobs = new Map<number, QueuedJob>()
  for (const source of [...names].filter((word) => word !== null).slice(0, 5)) {
    const query = { name: source, version, distribution: distro, release, architecture }
    const given = Object.fromEntries(Object.entries(query).filter(([, value]) => value !== undefined))
    for await (const job of recordsOf(client, listQueue, given)) jobs.set(job.id, job)
  }
  return [...jobs.values()]
}

function severalRun(jobs: readonly QueuedJob[]): Complaint {
  const some = jobs
    .slice(0, 5)
    .map(({ name, version, release, architecture }) =>
      [name, version, release, architecture].filter((word) => word !== null).join(' '),
    )
  return new Complaint(`${jobs.length} jobs run: ${some.join(', ')}`, {
    hint: 'say which: --name, then --version, --release, --architecture or --distro where needed',
  })
}

/** The first page, and how many more there are: whoever matches that many has to be more specific anyway. */
async function candidates(
  client: Client,
  filters: PackageFilters,
): Promise<{ records: BinaryPackage[]; more: number }> {
  const [page] = await Array.fromAsync(firstOf(pagesOf(client, listBinaryPackages, queryOf(filters))))
  const records = page?.records ?? []
  const more = (page?.total ?? 0) - records.length
  return { records: records.filter((record) => isWanted(record, filters)), more }
}

async function* firstOf<T>(items: AsyncIterable<T>): AsyncGenerator<T> {
  for await (const item of items) return yield item
}

/** The newest of the packages that have such a result. */
function choose(kind: Kind, records: readonly BinaryPackage[], more: number): BinaryPackage {
  const names = new Set(records.map((record) => record.name))
  if (names.size > 1 || more > 0) throw ambiguous(names, records.length + more)
  const withResult = records.filter((record) => kind.has(record))
  const [newest] = withResult.sort((a, b) => (b.build_id ?? 0) - (a.build_id ?? 0))
  if (newest === undefined) throw noResult(kind, records)
  return newest
}

function noPackage(
  filters: PackageFilters,
  hint = 'names are exact; `ctl pkgs ls` lists what there is',
): Complaint {
  const given = Object.keys(packageFilters)
    .map((name) => [name, filters[name as keyof PackageFilters]] as const) // the keys of that very table
    .filter(([, value]) => value !== undefined)
    .map(([name, value]) => `--${longName(name)} ${value}`)
  const asked = given.length === 0 ? '' : ` for ${given.join(' ')}`
  return new Complaint(`the server knows no package${asked}`, { hint })
}

function ambiguous(names: ReadonlySet<string>, total: number): Complaint {
  const some = [...names].slice(0, 5).join(', ')
  const many = names.size > 5 ? ' …' : ''
  return new Complaint(`${total} packages match, of more than one name: ${some}${many}`, {
    hint: 'say which: --name, then --version, --release, --architecture, --component or --distro where needed',
  })
}

function notForTerminals(): Complaint {
  return new Complaint('an HTML page is for a browser, not for a terminal', {
    hint: 'name a file for it: --output diff.html',
    exitCode: 2,
  })
}

function missing(kind: Kind, found: BinaryPackage, { page }: Asked): Complaint {
  if (page !== true) return noResult(kind, [found])
  return new Complaint(`there is no HTML page of the diff of ${found.name} ${found.version}`, {
    hint: 'there is its text, without --page; workers make pages with html = true below [diffoscope]',
  })
}

function noResult(kind: Kind, records: readonly BinaryPackage[]): Complaint {
  const [first] = records
  if (first === undefined) return new Complaint(`there is no ${kind.what}`)
  const title = records.length === 1 ? `${first.name} ${first.version}` : first.name
  if (records.every((record) => record.build_id === null)) {
    return new Complaint(`${title} has not been rebuilt yet`, {
      hint: '`ctl queue ls` shows when its turn is',
    })
  }
  const verdicts = [...new Set(records.map(verdictOf))].join(', ')
  const hint = kind.word === 'log' ? undefined : `its log: ctl pkgs log --name ${first.name}`
  return new Complaint(`there is no ${kind.what} of ${title}: it is ${verdicts}`, { hint })
}

/** Which of several it is, so that nobody reads the wrong one. */
function tellChoice(found: BinaryPackage, records: readonly BinaryPackage[], context: Context): void {
  if (records.length === 1) return
  const { name, version, distribution, release, component, architecture } = found
  const origin = [distribution, release, component, architecture].filter((word) => word !== null).join(', ')
  const narrowing = (['version', 'release', 'architecture', 'component', 'distribution'] as const)
    .filter((member) => new Set(records.map((record) => record[member])).size > 1)
    .map((member) => (member === 'distribution' ? '--distro' : `--${member}`))
  const hint = narrowing.length === 0 ? '' : ` (others by ${narrowing.join(', ')})`
  context.err(printable(`${name} ${version} (${origin}), the newest of ${records.length}${hint}`))
}

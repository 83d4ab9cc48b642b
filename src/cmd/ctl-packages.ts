import { Complaint, didYouMean } from '../errors.ts'
import { printable } from '../log.ts'
import { listBinaryPackages, type BinaryPackage } from '../wire/packages.ts'
import { isReason, reasonCodes, type Reason } from '../wire/reasons.ts'
import type { QueryOf } from '../wire/endpoint.ts'
import { choice, command, flag, text, texts, type Context, type Given, type OptionsTable } from './command.ts'
import { openPublicClient, serverOptions } from './credentials.ts'
import { recordsOf } from './lists.ts'
import { padded, paintFor, paintedStatus, quoted, writeJsonArray, type Paint } from './output.ts'
import { refuseUnknown } from './unknown.ts'

const statuses = ['GOOD', 'BAD', 'FAIL', 'UNKWN'] as const

/** What narrows a list of packages. */
export const packageFilters = {
  name: text('Only the package of this name'),
  version: text('Only this version'),
  distro: text('Only this distribution', { aliases: ['distribution'] }),
  release: text('Only this release, such as trixie'),
  component: text('Only this component, such as main', { aliases: ['suite'] }),
  architecture: text('Only this architecture, as the package has it', { aliases: ['arch'] }),
  status: choice('Only packages with this verdict', statuses),
} as const satisfies OptionsTable
export type PackageFilters = Given<typeof packageFilters>

export const pkgsLs = command(
  'ctl pkgs ls [name]',
  'List packages and their verdicts',
  {
    ...serverOptions,
    ...packageFilters,
    reason: texts('Only packages whose last rebuild ended for this reason, or for one of CODE,CODE', {
      placeholder: 'CODE',
    }),
    current: flag('Only what the distribution still lists'),
    json: flag('Print one JSON array'),
  },
  async ([name], options, context) => {
    const client = await openPublicClient(options, context)
    const filters = withName(options, name)
    const query: PackageQuery = { ...queryOf(filters), sort: 'name' }
    if (options.current) query.seen_only = true
    const reasons = reasonsOf(options.reason)
    if (reasons.length > 0) query.reason = reasons
    const wanted = { ...filters, current: options.current, reasons }
    const found = matching(recordsOf(client, listBinaryPackages, query), wanted)
    const seen = { any: false }
    const noted = notingAny(found, seen)
    if (options.json) await writeJsonArray(noted, context.write, context.signal)
    else await printPackages(noted, context)
    if (seen.any) return
    if (filters.name !== undefined && (await refuseUnknown(client, 'binary', filters.name, context))) return
    const isNarrowed = Object.keys(query).length > 1 // beside the order
    if (isNarrowed) context.err('no package matches')
    else if (context.isTerminal) context.err('no packages yet; `ctl pkgs sync` imports some')
  },
  {
    details:
      'GOOD: equal byte for byte. BAD: built, and it differs. FAIL: no comparison was possible, for a reason that is\nprinted at the end of the line on a terminal. UNKWN: not rebuilt yet; also FAIL, at servers without reasons.',
  },
)

async function* notingAny<T>(records: AsyncIterable<T>, seen: { any: boolean }): AsyncGenerator<T> {
  for await (const record of records) {
    seen.any = true
    yield record
  }
}

/** @throws Complaint where a code is none */
function reasonsOf(given: readonly string[]): Reason[] {
  const codes = given.flatMap((word) => word.toLowerCase().split(',')).filter((word) => word !== '')
  return codes.map((code) => {
    if (isReason(code)) return code
    const hint = didYouMean(code, reasonCodes) ?? `it can be: ${reasonCodes.join(', ')}`
    throw new Complaint(`${code} is no reason`, { hint, exitCode: 2 })
  })
}

type PackageQuery = Partial<QueryOf<typeof listBinaryPackages>>

/** Filters as the server takes them. */
export function queryOf(filters: PackageFilters): PackageQuery {
  const { name, version, distro, release, component, architecture, status } = filters
  const query: PackageQuery = {}
  if (name !== undefined) query.name = name
  if (version !== undefined) query.version = version
  if (distro !== undefined) query.distribution = distro
  if (release !== undefined) query.release = release
  if (component !== undefined) query.component = component
  if (architecture !== undefined) query.architecture = architecture
  if (status !== undefined) query.status = [status]
  return query
}

/** A name may be given with or without `--name`. */
export function withName<T extends { readonly name: string | undefined }>(
  options: T,
  name: string | undefined,
): T {
  if (name === undefined || name === options.name) return options
  if (options.name === undefined) return { ...options, name }
  throw new Complaint(`two names are given: ${options.name} and ${name}`, { exitCode: 2 })
}

type Wanted = PackageFilters & { reasons?: readonly Reason[]; current?: boolean }

/** Older servers ignore some filters, so that what they send is looked at again. */
async function* matching(
  records: AsyncIterable<BinaryPackage>,
  wanted: Wanted,
): AsyncGenerator<BinaryPackage> {
  for await (const record of records) if (isWanted(record, wanted)) yield record
}

/** Whether a package meets what the server cannot be asked to filter by. */
export function isWanted(record: BinaryPackage, wanted: Wanted): boolean {
  if (wanted.status !== undefined && !hasStatus(record, wanted.status)) return false
  if (wanted.version !== undefined && record.version !== wanted.version) return false
  if (wanted.release !== undefined && (record.release ?? '') !== wanted.release) return false
  if (wanted.component !== undefined && (record.component ?? '') !== wanted.component) return false
  const { reasons = [] } = wanted
  if (reasons.length > 0 && (record.reason === null || !reasons.includes(record.reason))) return false
  return wanted.current !== true || record.seen_in_last_sync
}

/** Servers that know reasons have one where a rebuild could not be compared; others leave FAIL and UNKWN alike. */
export function verdictOf({ status, reason }: BinaryPackage): (typeof statuses)[number] {
  if (status === 'GOOD' || status === 'BAD') return status
  return reason === null ? 'UNKWN' : 'FAIL'
}

function hasStatus(record: BinaryPackage, wanted: (typeof statuses)[number]): boolean {
  const verdict = verdictOf(record)
  return verdict === wanted || (wanted === 'FAIL' && verdict === 'UNKWN' && record.build_id !== null)
}

async function printPackages(records: AsyncIterable<BinaryPackage>, context: Context): Promise<void> {
  const paint = paintFor(context.colours)
  for await (const record of records) {
    context.signal.throwIfAborted()
    const why = context.isTerminal && record.reason !== null ? ` ${paint.faint(record.reason)}` : ''
    const trust =
      context.isTerminal && record.index === 'unsigned' ? ` ${paint.faint('index: unsigned')}` : ''
    context.out(packageLine(record, paint) + why + trust)
  }
}

/** `[GOOD ] name version … (debian, trixie, main, amd64) "https://…"`, as rebuildctl prints it. */
function packageLine(record: BinaryPackage, paint: Paint): string {
  const status = paintedStatus(verdictOf(record).padEnd(5), paint)
  const { distribution, release, component, architecture } = record
  const origin = [distribution, release, component, architecture].map((word) => printable(word ?? '<none>'))
  const title = padded(printable(`${record.name} ${record.version}`), 60, paint.bold)
  return `${paint.bold('[')}${status}${paint.bold(']')} ${title} (${origin.join(', ')}) ${quoted(record.url)}`
}

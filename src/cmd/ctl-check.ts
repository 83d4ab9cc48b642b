import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { loadSettings, serverSettings } from '../config.ts'
import { Complaint, during } from '../errors.ts'
import { openCache } from './check/cache.ts'
import { checkPackages, type Report } from './check/check.ts'
import { reportCsv, reportDocument } from './check/export.ts'
import { checkTarget } from './check/given.ts'
import { summaryOf } from './check/judge.ts'
import { configuredRebuilders, namedRebuilders, type Rebuilder } from './check/rebuilders.ts'
import { readInventory, requireOneSource, watchedOnly } from './check/sources.ts'
import { reportLines, shownPercent } from './check/tell.ts'
import { command, flag, number, text, texts, type Context, type Given } from './command.ts'
import { chooseServer, folderOf, serverOptions } from './server-choice.ts'
import { counted, jsonLine, paintFor, shownJson } from './output.ts'
import { openProgressLine, type ProgressLine } from './progress.ts'

const options = {
  endpoint: serverOptions.endpoint,
  config: serverOptions.config,
  rebuilder: texts('Ask this rebuilder; else the [[rebuilder]] entries of the configuration', {
    placeholder: 'URL',
  }),
  threshold: number('How many distinct rebuilders must agree on a package; default 1', {
    placeholder: 'N',
    min: 1,
    max: 100,
  }),
  root: text('Check the system in this folder; default /', {
    placeholder: 'DIR',
  }),
  image: text(
    'Check the container image in this archive or folder of docker, podman or skopeo, `-` for standard input',
    {
      placeholder: 'PATH',
    },
  ),
  list: text('Check a list as dpkg-query, apt, pacman, rpm or dnf print it, `-` for standard input', {
    placeholder: 'FILE',
  }),
  sbom: text('Check the packages of this SPDX or CycloneDX file (JSON), `-` for standard input', {
    placeholder: 'FILE',
  }),
  file: text('Check one downloaded .deb, .pkg.tar.zst or .rpm', { placeholder: 'FILE' }),
  distro: text('The distribution; else that of os-release, of the package URLs, or of the kind of file', {
    aliases: ['distribution'],
  }),
  index: texts(
    'Packages, pacman database or primary.xml with hashes of published files, or a folder of them',
    { placeholder: 'PATH' },
  ),
  watchList: text('Only packages that this file names, one name or glob a line', { placeholder: 'FILE' }),
  failUnder: number('Exit with 3 if fewer percent than this are verified', {
    placeholder: 'PERCENT',
    min: 0,
    max: 100,
  }),
  acceptClaims: flag('Let --fail-under and --file take what rebuilders say for verified, without proof'),
  timeout: number('Seconds that a rebuilder may take; default 60', {
    placeholder: 'SECONDS',
    min: 1,
    max: 3600,
  }),
  fresh: flag('Use no lists, hashes and proofs of earlier times, and keep none'),
  all: flag('List every package that is not verified, not only the first 40'),
  json: flag('Print one JSON document'),
  csv: flag('Print one line of CSV per package'),
  html: text('Write the report to this file, as a page of its own', { placeholder: 'FILE' }),
}
type CheckOptions = Given<typeof options>

/** Exit codes beyond those of every command. */
const belowGoal = 3
const alarmed = 4

export const check = command(
  'ctl check',
  'Tell how much of this system is verified by rebuilders',
  options,
  async (_, given, context) => {
    if (given.json && given.csv)
      throw new Complaint('--json and --csv cannot be given together', { exitCode: 2 })
    const line = openProgressLine(context)
    try {
      const report = await reportOf(given, context, line)
      line.clear()
      await show(report, given, context)
      const outcome = outcomeOf(report, given)
      if (outcome === belowGoal) context.log.error(`check: ${shortfallOf(report, given)}`)
      return outcome
    } finally {
      line.clear()
    }
  },
  {
    details: `A package is verified if enough distinct rebuilders signed an attestation for the very file that the
distribution publishes: the hash is taken from the lists of apt or pacman on this machine, from package files that they
keep, or from --index, never from a rebuilder. It is claimed if they only say GOOD. Rebuilders are told apart by their
keys. A key is kept when a rebuilder is first asked (rebuilders.keys in the state folder); one that changes is an alarm,
and only what the known key signed still counts. Keys that were met so are one voice per site, however many paths and
hosts it has; those in the configuration are told apart by themselves.

[[rebuilder]] in rebuilderd.conf: url (with {architecture} where there is one server per architecture), public_key (PEM,
64 hex digits, or a file; one or a list), distributions, architectures. Without any, the server of -H is asked.`,
    examples: [
      'rebuilderd ctl check --rebuilder https://rebuilder.example',
      'rebuilderd ctl check --file ./curl_8.14.1-2_amd64.deb',
      'podman save app | rebuilderd ctl check --image - --index /var/lib/apt/lists --fail-under 95',
    ],
    exits: {
      1: 'nothing could be checked: no rebuilder answered, or a file cannot be read',
      [belowGoal]: 'fewer are verified than --fail-under asks for; with --file: the file is not verified',
      [alarmed]: 'a rebuilder shows another key than before, or attestations that its known key did not sign',
    },
  },
)

async function reportOf(given: CheckOptions, context: Context, line: ProgressLine): Promise<Report> {
  requireOneSource(given)
  if (given.html !== undefined) await checkTarget('--html', given.html)
  if (given.image === undefined) return reportOfSystem(given, {}, context, line)
  const { openImage } = await import('./check/image.ts') // loaded where it is needed
  await using image = await openImage(given.image, { ...context, progress: line.show })
  const called = given.image === '-' ? 'the image' : given.image
  return await reportOfSystem({ ...given, root: image.root }, { called }, context, line) // it is there until then
}

async function reportOfSystem(
  given: CheckOptions,
  { called }: { called?: string | undefined },
  context: Context,
  line: ProgressLine,
): Promise<Report> {
  const { environment, signal, input } = context
  line.show('reading what is installed')
  const inventory = await readInventory({ ...given, called, input, signal })
  const packages = await watchedOnly(inventory.packages, given.watchList)
  if (packages.length === 0) throw nothingFound(inventory.problems)
  const architectures = [...new Set(packages.map(({ architecture }) => architecture))].sort()
  const rebuilders = await chosenRebuilders(given, context, architectures)
  const threshold = given.threshold ?? 1
  if (threshold > rebuilders.length) {
    const asked = `${rebuilders.length} that ${rebuilders.length === 1 ? 'is' : 'are'} asked`
    throw new Complaint(`${threshold} rebuilders cannot agree among the ${asked}`, { exitCode: 2 })
  }
  const state = join(folderOf(environment, 'XDG_STATE_HOME', '.local/state'), 'rebuilderd')
  const cache = join(folderOf(environment, 'XDG_CACHE_HOME', '.cache'), 'rebuilderd')
  const report = await checkPackages(packages, {
    rebuilders,
    threshold,
    timeoutSeconds: given.timeout ?? 60,
    unreadable: inventory.unreadable,
    root: given.root ?? (given.file === undefined ? '/' : null),
    isPassing: called !== undefined,
    indexes: given.index,
    cache: given.fresh ? null : await openCache(cache, state),
    state,
    progress: line.show,
    signal,
    now: () => new Date(),
  })
  return { ...report, warnings: [...inventory.problems, ...report.warnings] }
}

function nothingFound([problem]: readonly string[]): Complaint {
  const hint = problem === undefined ? {} : { hint: problem }
  return new Complaint('there is no package to check', { exitCode: 2, ...hint })
}

/** `--rebuilder`, else the configuration, else the server that the other commands talk to. */
async function chosenRebuilders(
  given: CheckOptions,
  { environment }: Context,
  architectures: readonly string[],
): Promise<readonly Rebuilder[]> {
  const { endpoint, files } = await chooseServer(given, environment)
  const settings = await loadSettings(
    serverSettings,
    files.map(({ path }) => path),
  )
  const configured = await configuredRebuilders(settings.rebuilder, architectures)
  if (given.rebuilder.length > 0) return distinct(namedRebuilders(given.rebuilder, configured, architectures))
  if (given.endpoint === undefined && configured.length > 0) return distinct(configured)
  return namedRebuilders([endpoint], configured, architectures)
}

function distinct(rebuilders: readonly Rebuilder[]): Rebuilder[] {
  return [...new Map(rebuilders.map((one) => [one.url, one])).values()]
}

async function show(report: Report, given: CheckOptions, context: Context): Promise<void> {
  const { html } = given
  if (html !== undefined) {
    const { reportPage } = await import('./check/page.ts')
    await during(`writing ${html}`, async () => writeFile(html, await reportPage(report)))
  }
  if (given.json)
    context.out(context.isTerminal ? shownJson(reportDocument(report)) : jsonLine(reportDocument(report)))
  else if (given.csv) context.write(reportCsv(report))
  else {
    const columns = context.isTerminal ? context.columns : Infinity
    const look = { most: given.all ? null : 40, paint: paintFor(context.colours), columns }
    for (const line of reportLines(report, look)) context.out(line)
  }
  for (const alarm of report.alarms) context.log.error(`check: ${alarm}`)
  for (const { url, problems } of report.rebuilders) {
    for (const problem of problems) context.log.warning(`check: ${url}: ${problem}`)
  }
  for (const warning of report.warnings.slice(0, 20)) context.log.warning(`check: ${warning}`)
  if (report.warnings.length > 20)
    context.log.warning(`check: ${report.warnings.length - 20} more such problems`)
}

function outcomeOf(report: Report, given: CheckOptions): number {
  if (report.alarms.length > 0) return alarmed
  return sufficient(report, given) < goalOf(given) ? belowGoal : 0
}

function goalOf({ failUnder, file }: CheckOptions): number {
  return failUnder ?? (file === undefined ? 0 : 100)
}

/** Percent of the packages that count for the exit code. Damage hides none: what cannot be read is not verified. */
function sufficient(report: Report, { acceptClaims }: CheckOptions): number {
  const { by, count } = summaryOf(report.packages)
  return ((by.verified.count + (acceptClaims ? by.claimed.count : 0)) / (count + report.unreadable)) * 100
}

function shortfallOf(report: Report, given: CheckOptions): string {
  const word = given.acceptClaims ? 'verified or claimed' : 'verified'
  if (given.file !== undefined) return `${given.file} is not ${word}`
  const unread = report.unreadable === 0 ? '' : `; ${counted(report.unreadable, 'package')} cannot be read`
  return `${shownPercent(sufficient(report, given))} % are ${word}, ${goalOf(given)} % are asked for${unread}`
}

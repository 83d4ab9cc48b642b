import { join } from 'node:path'
import type { PackageReport } from '../wire/packages.ts'
import { choice, command, flag, text, texts, type Context, type Given, type OptionsTable } from './command.ts'
import { folderOf, serverOptions } from './credentials.ts'
import { deliver } from './deliver.ts'
import { openProgressLine, shownBytes } from './progress.ts'
import { readReports } from './reports-in.ts'
import { Complaint, didYouMean, during } from '../errors.ts'
import type { Profile } from '../sync/profile.ts'

/** What to do with package reports. */
const deliveryOptions = {
  ...serverOptions,
  dryRun: flag('Change nothing: tell what is new and what is gone, compared with the lists of the server'),
  force: flag('Import a list too that is empty or much shorter than the last one'),
} as const satisfies OptionsTable

const printing = {
  printJson: flag('Print the reports as one JSON array, for sync-stdin, and ask no server'),
} as const satisfies OptionsTable

const fromCommandLine = {
  component: texts('Component, such as main'),
  architecture: texts('Architecture, as the distribution names it', { aliases: ['arch'] }),
  release: texts('Release, such as trixie'),
  maintainer: texts('Only packages of this maintainer; the beginning of the name is enough'),
  pkg: texts('Only packages whose name matches this pattern: py*, lib[a-c]*'),
  exclude: texts('No packages whose name matches this pattern'),
  syncMethod: text('How to read the archive, where the name of the distribution does not tell'),
  mirror: texts('Another mirror, asked where the first one fails', { placeholder: 'URL' }),
  keyring: texts('File with the OpenPGP keys that may sign the index', { placeholder: 'FILE' }),
  allowUnsigned: flag('Take an index on trust that is not signed, or by nobody we know'),
  allowExpired: flag('Take an index whose time is over, such as one of a snapshot archive'),
  buildInput: choice('What workers build Debian packages from', ['buildinfo', 'dsc']),
  buildinfoUrl: text(
    'Address of a .buildinfo: {prefix} {source} {version} {architecture} {directory} {mirror}',
    {
      placeholder: 'TEMPLATE',
    },
  ),
} as const satisfies OptionsTable

export const pkgsSync = command(
  'ctl pkgs sync <distro> <source>',
  'Import what the archive of a distribution lists',
  { ...fromCommandLine, ...printing, ...deliveryOptions },
  async ([distro, source], options, context) => {
    const { checkedProfile } = await import('../sync/profile.ts')
    const profile = checkedProfile('the command line', profileOf(distro, source, options))
    await syncProfile(profile, options, context)
  },
  { details: 'The source is the address of a mirror, or a folder that has the same files.' },
)

export const pkgsSyncProfile = command(
  'ctl pkgs sync-profile <profile>',
  'Import what a profile of the configuration names',
  {
    syncConfig: text('Where the profiles are (default: /etc/rebuilderd-sync.conf)', { placeholder: 'FILE' }),
    ...printing,
    ...deliveryOptions,
  },
  async ([name], options, context) => {
    const file = options.syncConfig ?? '/etc/rebuilderd-sync.conf'
    const { readProfiles } = await import('../sync/profile.ts')
    const profiles = await readProfiles(file)
    const profile = profiles.get(name)
    if (profile === undefined) {
      const hint = didYouMean(name, profiles.keys()) ?? `it has: ${[...profiles.keys()].join(', ')}`
      throw new Complaint(`${file} has no profile ${name}`, { hint, exitCode: 2 })
    }
    await syncProfile(profile, options, context)
  },
)

export const pkgsSyncStdin = command(
  'ctl pkgs sync-stdin',
  'Import package reports from standard input',
  deliveryOptions,
  (_, options, context) => deliver(readReports(context.input), options, context),
  {
    details:
      'One report as a JSON object, an array of them, or one on each line; gzip, zstd or xz are unpacked.\nThis is how other distributions are fed.',
  },
)

/** The options as a table of rebuilderd-sync.conf; what was not given is left to its default. */
function profileOf(
  distro: string,
  source: string,
  options: Given<typeof fromCommandLine>,
): Record<string, unknown> {
  const given = {
    distro,
    source,
    sync_method: options.syncMethod,
    mirrors: options.mirror,
    components: options.component,
    releases: options.release,
    architectures: options.architecture,
    maintainers: options.maintainer,
    pkgs: options.pkg,
    excludes: options.exclude,
    keyrings: options.keyring.length === 0 ? undefined : options.keyring,
    allow_unsigned: options.allowUnsigned || undefined,
    allow_expired: options.allowExpired || undefined,
    build_input: options.buildInput,
    buildinfo_url: options.buildinfoUrl,
  }
  return Object.fromEntries(Object.entries(given).filter(([, value]) => value !== undefined))
}

async function syncProfile(
  profile: Profile,
  options: Given<typeof deliveryOptions> & { printJson: boolean },
  context: Context,
): Promise<void> {
  const progress = openProgressLine(context)
  const cache = join(folderOf(context.environment, 'XDG_CACHE_HOME', '.cache'), 'rebuilderd/sync')
  try {
    await deliver(reports(profile, progress, cache, context), options, { ...context, log: progress.log })
  } finally {
    progress.clear()
  }
}

async function* reports(
  profile: Profile,
  progress: ReturnType<typeof openProgressLine>,
  cache: string,
  { signal }: Context,
): AsyncGenerator<PackageReport> {
  const { reportsOf } = await import('../sync/index.ts')
  const found = reportsOf(profile, {
    log: progress.log,
    signal,
    cache,
    progress: ({ what, done, total }) => progress.show(`${howFar(done, total)} of ${what}`),
  })
  try {
    for await (const report of found) {
      progress.clear()
      yield report
    }
  } catch (error) {
    await during(`reading the archive ${profile.source}`, () => {
      throw error
    })
  }
}

function howFar(done: number, total: number | null): string {
  const percent =
    total === null || total === 0 ? '' : ` (${Math.min(100, Math.floor((done / total) * 100))} %)`
  return shownBytes(done) + percent
}

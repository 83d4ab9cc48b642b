import { join } from 'node:path'
import type { ReportToSend } from '../wire/packages.ts'
import { choice, command, flag, text, texts, type Context, type Given, type OptionsTable } from './command.ts'
import { folderOf, serverOptions } from './credentials.ts'
import { deliver } from './deliver.ts'
import { counted } from './output.ts'
import { openProgressLine, shownBytes, type ProgressLine } from './progress.ts'
import { Complaint, didYouMean, during } from '../errors.ts'
import { makeFolders } from '../folders.ts'
import { setRuntimePace } from '../runtime.ts'
import type { Progress } from '../sync/mirror.ts'
import type { Profile } from '../sync/profile.ts'

/** What to do with package reports. */
const deliveryOptions = {
  ...serverOptions,
  dryRun: flag('Change nothing: tell what is new, gone and unchanged at the server, and what it would queue'),
  force: flag('Import a list too that is empty, much shorter or older than the last one, or the same again'),
  json: flag('Print what came of each report as one JSON array'),
} as const satisfies OptionsTable

const printing = {
  printJson: flag('Print the reports as one JSON array, for sync-stdin, and ask no server'),
} as const satisfies OptionsTable

const fromCommandLine = {
  component: texts('Component, such as main', { placeholder: 'NAME' }),
  architecture: texts('Architecture, as the distribution names it', {
    aliases: ['arch'],
    placeholder: 'NAME',
  }),
  release: texts('Release, such as trixie', { placeholder: 'NAME' }),
  maintainer: texts('Only packages of this maintainer; the beginning of the name is enough', {
    placeholder: 'NAME',
  }),
  pkg: texts('Only packages whose name matches this pattern: py*, lib[a-c]*', {
    placeholder: 'GLOB',
  }),
  exclude: texts('No packages whose name matches this pattern', { placeholder: 'GLOB' }),
  syncMethod: text('How to read the archive, where the name of the distribution does not tell', {
    placeholder: 'DISTRO',
  }),
  mirror: texts('Another mirror, asked where the first one fails', { placeholder: 'URL' }),
  keyring: texts('File with the OpenPGP keys that may sign the index', { placeholder: 'FILE' }),
  allowUnsigned: flag('Take an index on trust that is not signed, or by nobody we know'),
  allowExpired: flag('Take an index whose time is over, such as one of a snapshot archive'),
  buildInput: choice('What workers build Debian packages from', ['buildinfo', 'dsc'], {
    placeholder: 'KIND',
  }),
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
    return syncAll([[null, profile]], options, context)
  },
  {
    details: 'The source is the address of a mirror, or a folder that has the same files.',
    examples: [
      'rebuilderd ctl pkgs sync debian https://mirror.example/debian --release trixie --component main --architecture amd64',
      "rebuilderd ctl pkgs sync archlinux 'https://mirror.example/archlinux/$repo/os/$arch' --component core --architecture x86_64 --allow-unsigned",
      'rebuilderd ctl pkgs sync fedora https://mirror.example/fedora/linux/releases --release 43 --component Everything --architecture x86_64 --allow-unsigned',
      'rebuilderd ctl pkgs sync tails https://mirror.example/tails --release stable --architecture amd64 --allow-unsigned',
    ],
    pace: 'sparing',
  },
)

export const pkgsSyncProfile = command(
  'ctl pkgs sync-profile [...profiles]',
  'Import what profiles of the configuration name',
  {
    all: flag('Every profile there is'),
    syncConfig: text('Where the profiles are (default: /etc/rebuilderd-sync.conf)', { placeholder: 'FILE' }),
    ...printing,
    ...deliveryOptions,
  },
  async (names, options, context) => {
    const file = options.syncConfig ?? '/etc/rebuilderd-sync.conf'
    const { readProfiles } = await import('../sync/profile.ts')
    const profiles = await readProfiles(file)
    if (options.all === names.length > 0)
      throw new Complaint('name the profiles, or give --all', { hint: shownNames(profiles), exitCode: 2 })
    const chosen = options.all ? [...profiles] : chosenOf(profiles, new Set(names), file)
    return syncAll(chosen, options, context)
  },
  {
    details:
      'Several profiles are read at once where their mirrors differ. One that fails hinders no other; the exit code is 1 then.',
    examples: ['rebuilderd ctl pkgs sync-profile debian-trixie', 'rebuilderd ctl pkgs sync-profile --all'],
    pace: 'sparing',
  },
)

type Named = [name: string | null, profile: Profile]

function shownNames(profiles: ReadonlyMap<string, Profile>): string {
  return `there are: ${[...profiles.keys()].join(', ')}`
}

/** @throws Complaint about a name that the file does not have */
function chosenOf(profiles: ReadonlyMap<string, Profile>, names: ReadonlySet<string>, file: string): Named[] {
  return [...names].map((name) => {
    const profile = profiles.get(name)
    if (profile !== undefined) return [name, profile]
    const hint = didYouMean(name, profiles.keys()) ?? shownNames(profiles)
    throw new Complaint(`${file} has no profile ${name}`, { hint, exitCode: 2 })
  })
}

export const pkgsSyncStdin = command(
  'ctl pkgs sync-stdin',
  'Import package reports from standard input',
  deliveryOptions,
  async (_, options, context) => {
    const folder = cacheOf(context)
    makeFolders(folder, 0o700)
    const { readReports } = await import('./reports-in.ts')
    const run = { profile: null, place: 'standard input', reports: readReports(context.input, folder) }
    return deliver([run], options, context)
  },
  {
    details:
      'One report as a JSON object, an array of them, or one on each line; gzip, zstd, bzip2 or xz are unpacked. All of them are checked before the first is sent; the server imports each as a whole, one after the other, up to the first that it refuses. This is how other distributions are fed.',
    examples: ['my-index-reader | rebuilderd ctl pkgs sync-stdin'],
    pace: 'sparing',
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

async function syncAll(
  named: readonly Named[],
  options: Given<typeof deliveryOptions> & { printJson: boolean },
  context: Context,
): Promise<number> {
  const progress = openProgressLine(context)
  const cache = cacheOf(context)
  try {
    const downloads = downloadSum()
    const show = (one: Progress): void => progress.show(downloads(one))
    const runs = named.map(([name, profile]) => ({
      profile: name,
      place: placeOf(profile.source),
      reports: reports(
        options.force ? { ...profile, allow_older: true } : profile,
        { ...progress, download: show },
        cache,
        context,
      ),
    }))
    return await deliver(runs, options, { ...context, log: progress.log })
  } finally {
    progress.clear()
  }
}

/** Where indexes are kept, and what is too long for memory. */
function cacheOf({ environment }: Context): string {
  return join(folderOf(environment, 'XDG_CACHE_HOME', '.cache'), 'rebuilderd/sync')
}

/** The host of a mirror; folders are all on this machine's disk. */
function placeOf(source: string): string {
  return URL.canParse(source) ? new URL(source).host : ''
}

async function* reports(
  profile: Profile,
  progress: Pick<ProgressLine, 'clear' | 'log'> & { download: (one: Progress) => void },
  cache: string,
  { signal }: Context,
): AsyncGenerator<ReportToSend> {
  const { reportsOf } = await import('../sync/index.ts')
  if ((profile.sync_method ?? profile.distro) === 'archlinux') setRuntimePace('fast') // small lists
  const found = reportsOf(profile, {
    log: progress.log,
    signal,
    cache,
    progress: progress.download,
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

/**
 * Sums up downloads, as several are under way at once.
 * @returns a function that takes news of one and tells of all: `5.1 of 19.2 MB (26 %), 2 files, Packages.xz`
 */
export function downloadSum(): (one: Progress) => string {
  const files = new Map<string, Progress>()
  return (one) => {
    files.set(one.what, one)
    const all = [...files.values()]
    const done = all.reduce((sum, file) => sum + file.done, 0)
    const total = all.reduce((sum, file) => sum + Math.max(file.done, file.total ?? 0), 0)
    const isKnown = total > 0 && all.every((file) => file.total !== null)
    const percent = Math.floor((done / total) * 100)
    const share = isKnown ? ` of ${shownBytes(total)} (${percent} %)` : ''
    return `downloading ${shownBytes(done)}${share}, ${counted(all.length, 'file')}: ${nameOf(one.what)}`
  }
}

/** What people know a file by: hashes are no names, the folder above them is. */
function nameOf(address: string): string {
  const path = address.replace(/\/by-hash\/\w+\/[0-9a-f]{64}$/, '').replace(/^.*\/dists\//, '')
  return path.startsWith('http') ? (path.split('/').at(-1) ?? path) : path
}

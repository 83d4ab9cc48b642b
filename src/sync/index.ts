import { Complaint, didYouMean } from '../errors.ts'
import type { Log } from '../log.ts'
import type { ReportToSend } from '../wire/packages.ts'
import { archlinux } from './archlinux.ts'
import { debian } from './debian.ts'
import type { Distribution } from './distribution.ts'
import { fedora } from './fedora.ts'
import { openGathering, openPackageList } from './gathering.ts'
import { downloadFolder, openMirror, type Progress } from './mirror.ts'
import type { Profile } from './profile.ts'
import { silentServers } from './silent-servers.ts'
import { openSorting } from './sorting.ts'
import { tails } from './tails.ts'

export { checkedProfile, type Profile } from './profile.ts'
export type { Distribution } from './distribution.ts'
export type { Progress } from './mirror.ts'

export const distributions: readonly Distribution[] = [archlinux, debian, fedora, tails]

export type SyncOptions = {
  log: Log
  signal: AbortSignal
  /** Folder that keeps downloads, and the age of the last Release seen, for the next sync; null: nothing is kept. */
  cache: string | null
  progress?: ((progress: Progress) => void) | undefined
  now?: () => Date
  /** Milliseconds before the second try of a download. */
  retryMs?: number
}

/**
 * Package reports of a profile, one per release and architecture; their packages can be gone through until the sync is
 * over. What is sound is yielded, then a Complaint tells what
 * could not be read: nothing may be changed for that.
 */
export async function* reportsOf(profile: Profile, options: SyncOptions): AsyncGenerator<ReportToSend> {
  const { log, signal, progress, now = () => new Date() } = options
  const distribution = distributionFor(profile.sync_method ?? profile.distro)
  await using folder = await downloadFolder(options.cache)
  const retry = options.retryMs === undefined ? {} : { retryMs: options.retryMs }
  const silent = silentServers()
  using opened = new DisposableStack()
  const closedAtEnd = <T extends { close: () => void }>(one: T): T =>
    opened.adopt(one, ({ close }) => close())
  yield* distribution.reports(profile, {
    log,
    signal,
    now,
    mirrorOf: (addresses) => openMirror({ addresses, folder, log, signal, progress, silent, ...retry }),
    gathering: () => closedAtEnd(openGathering(folder.path)),
    sorting: () => closedAtEnd(openSorting(folder.path)),
    packageList: () => closedAtEnd(openPackageList(folder.path)),
  })
}

function distributionFor(method: string): Distribution {
  const found = distributions.find(({ name }) => name === method)
  if (found !== undefined) return found
  const names = distributions.map(({ name }) => name)
  throw new Complaint(`there is no way to sync ${method}`, {
    hint: didYouMean(method, names) ?? `there are ${names.join(', ')}; others by: pkgs sync-stdin`,
    exitCode: 2,
  })
}

import { Complaint } from '../errors.ts'
import type { ReportToSend } from '../wire/packages.ts'
import { addressOf } from './address.ts'
import {
  architecturesOf,
  eachReport,
  releasesOf,
  requireLists,
  requireTrust,
  type Distribution,
  type SyncContext,
} from './distribution.ts'
import { bytesOf } from './mirror.ts'
import type { Profile } from './profile.ts'

const longestListing = 4 * 1024 * 1024

export const tails: Distribution = {
  name: 'tails',
  doc: 'Tails: the newest .img and .iso of a mirror',
  async *reports(profile, context) {
    requireLists(profile, 'releases', 'architectures')
    const reports = releasesOf(profile).flatMap((release) =>
      architecturesOf(profile).map((architecture) => ({
        scope: `tails ${release.name} ${architecture}`,
        read: () => reportOf(profile, release, architecture, context),
      })),
    )
    yield* eachReport(reports, context.signal)
  },
}

async function reportOf(
  profile: Profile,
  release: ReturnType<typeof releasesOf>[number],
  architecture: string,
  context: SyncContext,
): Promise<ReportToSend> {
  const mirror = context.mirrorOf([release.source, ...release.mirrors])
  const listing = await mirror.file(release.name, { limit: longestListing })
  if (listing === null) throw new Complaint(`${release.source} has no ${release.name}`)
  await requireTrust(profile, listing.origin, context.log, async () => {
    throw new Complaint('listings are not signed')
  })
  const html = (await bytesOf(listing, longestListing)).toString('utf8')
  const version = newestVersion(html, architecture)
  if (version === null) throw new Complaint(`${listing.origin} lists no tails-${architecture}`)
  const name = `tails-${architecture}-${version}`
  const artifacts = ['img', 'iso'].map((ending) => ({
    name: `${name}.${ending}`,
    version,
    component: null,
    architecture,
    url: addressOf(release.source, `${release.name}/${name}/${name}.${ending}`, listing.origin),
    sha256: null,
    size: null,
  }))
  const url = artifacts[0]?.url ?? ''
  const packages = [{ name: 'tails', version, url, artifacts, maintainer: null }]
  return { distribution: 'tails', release: release.name, architecture, packages, index: 'unsigned' }
}

/** The newest version that a listing names; `~` comes before the end: 6.0~rc1 is older than 6.0. */
export function newestVersion(html: string, architecture: string): string | null {
  const found = [...html.matchAll(/tails-([a-z0-9_]+)-([0-9a-z~.]{1,64})\//g)]
  const versions = found.filter(([, of]) => of === architecture).map(([, , version = '']) => version)
  return versions.sort(olderFirst).at(-1) ?? null
}

function olderFirst(a: string, b: string): number {
  const parts = (version: string): (string | number)[] =>
    (version.match(/\d+|[^\d]/g) ?? []).map((part) => (/\d/.test(part) ? Number(part) : part))
  const [left, right] = [parts(a), parts(b)]
  for (let i = 0; i < Math.max(left.length, right.length); i++) {
    const order = rank(left[i]) - rank(right[i])
    if (order !== 0) return order
  }
  return 0
}

/** Tilde, the end, dots and letters, numbers. */
function rank(part: string | number | undefined): number {
  if (part === undefined) return -1
  if (part === '~') return -2
  return typeof part === 'number' ? 1000 + part : part.charCodeAt(0)
}

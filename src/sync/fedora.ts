import { decompressed } from '../compression.ts'
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
import type { Gathering } from './gathering.ts'
import { bytesOf, type Mirror, type MirrorFile } from './mirror.ts'
import { readKeyrings, verifyDetached } from './openpgp.ts'
import type { Profile } from './profile.ts'
import { checkNotOlder } from './replay.ts'
import { metadataFile, rpmPackages, type RpmPackage } from './rpm-md.ts'
import { wantedBy } from './rules.ts'

const longestRepomd = 4 * 1024 * 1024
/** Most bytes of a primary.xml as stored, and unpacked. */
const longestStored = 1024 * 1024 * 1024
const longestPlain = 8 * 1024 * 1024 * 1024

export const fedora: Distribution = {
  name: 'fedora',
  doc: 'Fedora: repodata below SOURCE/RELEASE/COMPONENT/ARCHITECTURE/os',
  async *reports(profile, context) {
    requireLists(profile, 'releases', 'components', 'architectures')
    const reports = releasesOf(profile).flatMap((release) =>
      architecturesOf(profile).map((architecture) => ({
        scope: `fedora ${release.name} ${architecture}`,
        read: () => reportOf(profile, release, architecture, context),
      })),
    )
    yield* eachReport(reports, context.signal)
  },
}

type Release = ReturnType<typeof releasesOf>[number]

async function reportOf(
  profile: Profile,
  release: Release,
  architecture: string,
  context: SyncContext,
): Promise<ReportToSend> {
  const isWanted = wantedBy(profile)
  const found = context.gathering()
  let isSigned = true
  for (const component of new Set(profile.components)) {
    const addresses = [release.source, ...release.mirrors].map((address) =>
      addressOf(address, `${release.name}/${component}/${architecture}/os`, address),
    )
    const mirror = context.mirrorOf(addresses)
    const primary = await fetchPrimary(mirror, addresses[0] ?? '', profile, context)
    if (!primary.isSigned) isSigned = false
    const plain = decompressed(primary.file.chunks(), { limit: primary.plainSize, what: primary.file.origin })
    for await (const one of rpmPackages(plain, primary.file.origin)) {
      const { name, packager } = one
      const maintainers = (): string[] => (packager === null ? [] : [packager])
      if (!isWanted({ name, source: null, component, maintainers })) continue
      addTo(found, one, component, addressOf(addresses[0] ?? '', one.path, primary.file.origin))
    }
  }
  const index = isSigned ? 'signed' : 'unsigned'
  return {
    distribution: 'fedora',
    release: release.name,
    architecture,
    packages: found.finish(),
    index,
  }
}

type Primary = { file: MirrorFile; plainSize: number; isSigned: boolean }

async function fetchPrimary(
  mirror: Mirror,
  address: string,
  profile: Profile,
  context: SyncContext,
): Promise<Primary> {
  const repomd = await mirror.file('repodata/repomd.xml', { limit: longestRepomd })
  if (repomd === null) throw new Complaint(`${address} has no repodata/repomd.xml`)
  const proof = await requireTrust(profile, repomd.origin, context.log, async (keyrings) => {
    const signature = await mirror.file('repodata/repomd.xml.asc', { limit: 1024 * 1024 })
    if (signature === null) throw new Complaint('it has no signature (repomd.xml.asc is not there)')
    const content = await bytesOf(repomd, longestRepomd)
    const keys = await readKeyrings(keyrings)
    return verifyDetached(content, await bytesOf(signature, 1024 * 1024), keys, context.now())
  })
  const told = await metadataFile(repomd.chunks(), 'primary', repomd.origin)
  const { path, sha256, size, plainSize } = told.file
  const expected = sha256 === null || size === null ? null : { sha256, size }
  if (expected === null && profile.allow_unsigned !== true) {
    throw new Complaint(`${repomd.origin} tells no SHA-256 and size of ${path}`)
  }
  const isSigned = proof !== null && expected !== null
  if (told.madeAt !== null) {
    const date = new Date(told.madeAt * 1000).toUTCString()
    const dated = { key: 'repomd', what: `the repomd.xml of ${address}`, date, isSigned }
    await checkNotOlder(mirror, dated, { profile, log: context.log })
  }
  const file = await mirror.file(path, { expected, limit: expected?.size ?? longestStored })
  if (file === null) throw new Complaint(`${address} has no ${path}`)
  return { file, plainSize: plainSize ?? longestPlain, isSigned }
}

/** A source package goes by the file name of its .src.rpm; its build input is the first package file. */
function addTo(found: Gathering, one: RpmPackage, component: string, url: string): void {
  const { name, version, architecture, sourceFile, sha256, size, packager } = one
  if (sourceFile === null) return
  const artifact = { name, version, component, architecture, url, sha256, size }
  found.add(sourceFile, artifact, () => ({ name: sourceFile, version, url, maintainer: packager }))
}

import { decompressed } from '../compression.ts'
import { Complaint } from '../errors.ts'
import type { ReportToSend } from '../wire/packages.ts'
import { addressOf } from './address.ts'
import {
  architecturesOf,
  eachReport,
  requireLists,
  requireTrust,
  type Distribution,
  type SyncContext,
} from './distribution.ts'
import type { Gathering } from './gathering.ts'
import { bytesOf, type Mirror, type MirrorFile } from './mirror.ts'
import { readKeyrings, verifyDetached, type Proven } from './openpgp.ts'
import { pacmanPackages, type PacmanPackage } from './pacman-db.ts'
import type { Profile } from './profile.ts'
import { checkNotOlder } from './replay.ts'
import { wantedBy } from './rules.ts'

/** Most bytes of a database as stored, and unpacked. */
const longestStored = 256 * 1024 * 1024
const longestPlain = 2 * 1024 * 1024 * 1024

export const archlinux: Distribution = {
  name: 'archlinux',
  doc: 'Arch Linux and derivatives: pacman databases; source is a template with $repo and $arch',
  async *reports(profile, context) {
    requireLists(profile, 'components', 'architectures')
    const reports = architecturesOf(profile).map((architecture) => ({
      scope: `archlinux ${architecture}`,
      read: () => reportOf(profile, architecture, context),
    }))
    yield* eachReport(reports, context.signal)
  },
}

async function reportOf(profile: Profile, architecture: string, context: SyncContext): Promise<ReportToSend> {
  const isWanted = wantedBy(profile)
  const found = context.gathering()
  let isSigned = true
  for (const component of new Set(profile.components)) {
    const values = { repo: component, arch: architecture }
    const addresses = [profile.source, ...profile.mirrors].map((template) => filledIn(template, values))
    const mirror = context.mirrorOf(addresses)
    const file = await mirror.file(`${component}.db`, { limit: longestStored })
    if (file === null) throw new Complaint(`${addresses[0]} has no ${component}.db`)
    const proof = await proofOf(file, `${component}.db.sig`, mirror, profile, context)
    if (proof === null) isSigned = false
    let newest = 0
    const plain = decompressed(file.chunks(), { limit: longestPlain, what: file.origin })
    for await (const one of pacmanPackages(plain, file.origin)) {
      const { name, base: source, packager } = one
      newest = Math.max(newest, one.builtAt ?? 0)
      const maintainers = (): string[] => (packager === null ? [] : [packager])
      if (!isWanted({ name, source, component, maintainers })) continue
      addTo(found, one, component, addressOf(addresses[0] ?? '', one.file, file.origin))
    }
    if (proof !== null || newest > 0) {
      const date = (proof?.signedAt ?? new Date(newest * 1000)).toUTCString()
      const dated = { key: `${component}.db`, what: file.origin, date, isSigned: proof !== null }
      await checkNotOlder(mirror, dated, { profile, log: context.log })
    }
  }
  return {
    distribution: 'archlinux',
    release: null,
    architecture,
    packages: found.finish(),
    index: isSigned ? 'signed' : 'unsigned',
  }
}

/**
 * One source package per base, version and component: the same base may be in testing as well, with other files.
 * Its build input is the first package file.
 */
function addTo(found: Gathering, one: PacmanPackage, component: string, url: string): void {
  const { name, base, version, architecture, sha256, size, packager, signature } = one
  const told = { name, version, component, architecture, url, sha256, size }
  const artifact = signature === null ? told : { ...told, signature }
  const head = { name: base, version, url, maintainer: packager }
  found.add([base, version, encodeURIComponent(component)].join(' '), artifact, () => head)
}

/**
 * A template's $repo and $arch; a variable reaches to the next slash.
 * @throws Complaint where there is another, or none
 */
function filledIn(template: string, values: Readonly<Record<'repo' | 'arch', string>>): string {
  const hint = { hint: 'write it like https://mirror.example/$repo/os/$arch', exitCode: 2 }
  if (template.endsWith('.db'))
    throw new Complaint(`source is a template now, not a database: ${template}`, hint)
  return template.replace(/\$([^/]*)/g, (_, name: string) => {
    if (name === 'repo' || name === 'arch') return values[name]
    throw new Complaint(`source has an unknown variable $${name}`, hint)
  })
}

/** Databases are rarely signed: without keyrings they need the profile's trust. */
async function proofOf(
  file: MirrorFile,
  signature: string,
  mirror: Mirror,
  profile: Profile,
  context: SyncContext,
): Promise<Proven | null> {
  return requireTrust(profile, file.origin, context.log, async (keyrings) => {
    const found = await mirror.file(signature, { limit: 1024 * 1024 })
    if (found === null) throw new Complaint(`it has no signature (${signature} is not there)`)
    const keys = await readKeyrings(keyrings)
    const content = await bytesOf(file, longestStored)
    return verifyDetached(content, await bytesOf(found, 1024 * 1024), keys, context.now())
  })
}

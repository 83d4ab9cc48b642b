import * as v from 'valibot'
import { loadSettings, syncSettings } from '../config.ts'
import { Complaint, didYouMean } from '../errors.ts'
import { looked, problemOf, text } from '../wire/schema.ts'
import { globOf } from './rules.ts'

const Texts = v.optional(v.array(text()), [])
const Globs = v.optional(v.array(v.pipe(text(), v.check(isGlob, 'is not a valid pattern'))), [])

const IncludeRule = v.strictObject({
  exclude: v.optional(v.boolean()),
  component: v.optional(text()),
  binary_pkgs: Globs,
  source_pkgs: Globs,
  maintainer: v.optional(text()),
})

const Release = v.union(
  [text(), v.strictObject({ name: text(), source: text(4096) })],
  'is neither a name nor { name = …, source = … }',
)

/** The members of `[profile."NAME"]` in rebuilderd-sync.conf(5). */
const Profile = v.strictObject({
  /** Distribution, and the default of `sync_method`. */
  distro: text(),
  sync_method: v.optional(text()),
  /** Address of the mirror, or a folder; for Arch a template with $repo and $arch. */
  source: text(4096),
  /** Other mirrors with the same content, tried in this order where `source` fails. */
  mirrors: v.optional(v.array(text(4096)), []),
  components: Texts,
  releases: v.optional(v.array(Release), []),
  architectures: Texts,
  include: v.optional(v.array(IncludeRule), []),
  maintainers: Texts,
  pkgs: Globs,
  excludes: Globs,
  /** Files with the OpenPGP keys that may sign the index. Absent: the distribution's own, where this machine has them. */
  keyrings: v.optional(v.array(text(4096))),
  /** Take an index on trust that nobody signed, or whose signature proves nothing. */
  allow_unsigned: v.optional(v.boolean()),
  /** Take an index whose Valid-Until is over, such as one of a snapshot archive. */
  allow_expired: v.optional(v.boolean()),
  /** Take an index that is older than the last one taken. */
  allow_older: v.optional(v.boolean()),
  /** What workers build Debian packages from. */
  build_input: v.optional(v.picklist(['buildinfo', 'dsc'])),
  /** Template of a .buildinfo's address: {prefix} {source} {version} {architecture} {directory} {mirror}. */
  buildinfo_url: v.optional(text(4096)),
})
export type Profile = v.InferOutput<typeof Profile>

/** Keys that files of older rebuilderds have. */
const removed: Readonly<Record<string, string>> = {
  suite: 'it was removed: write components = ["main"]',
  architecture: 'it was removed: write architectures = ["amd64"]',
}

/**
 * Checks one profile.
 * @param what names it in complaints: `profile "debian-trixie" of /etc/rebuilderd-sync.conf`
 * @throws Complaint naming the key, with what to write instead
 */
export function checkedProfile(what: string, given: unknown): Profile {
  const result = looked(Profile, given)
  if (result.success) return result.output
  const [issue] = result.issues
  const key = issue.path?.at(-1)?.key
  const isUnknown = issue.type === 'strict_object' && issue.expected === 'never'
  if (!isUnknown || typeof key !== 'string')
    throw new Complaint(`${what}: ${problemOf(issue)}`, { exitCode: 2 })
  const known = Object.keys(issue.path?.length === 1 ? Profile.entries : IncludeRule.entries)
  throw new Complaint(`${what}: unknown key ${key}`, {
    hint: removed[key] ?? didYouMean(key, known),
    exitCode: 2,
  })
}

/**
 * The profiles of a rebuilderd-sync.conf(5), by name.
 * @throws Complaint where the file cannot be read, or holds a key that we do not know
 */
export async function readProfiles(file: string): Promise<Map<string, Profile>> {
  const { profile } = await loadSettings(syncSettings, [file])
  const profiles = Object.entries(profile)
  if (profiles.length === 0) {
    throw new Complaint(`${file} has no profile`, {
      hint: '[profile."debian-trixie"] starts one',
      exitCode: 2,
    })
  }
  return new Map(
    profiles.map(([name, given]) => [name, checkedProfile(`profile "${name}" of ${file}`, given)]),
  )
}

function isGlob(pattern: string): boolean {
  try {
    globOf(pattern)
    return true
  } catch {
    return false
  }
}

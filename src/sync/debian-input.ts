import { Complaint, didYouMean } from '../errors.ts'
import { addressOf } from './address.ts'
import type { Source } from './debian-packages.ts'
import type { Profile } from './profile.ts'

/** What a worker builds from: one address per source, version and architecture. */
type BuildInputOf = (group: { name: string; source: Source; version: string; architecture: string }) => string

/** Debian's collection of .buildinfo files, in the layout of a pool. */
const usualTemplate =
  'https://buildinfos.debian.net/buildinfo-pool/{prefix}/{source}/{source}_{version}_{architecture}.buildinfo'

/**
 * Addresses of build inputs as the profile wants them.
 * @param mirror address of the archive
 * @throws Complaint where the profile's template has a placeholder that we do not know
 */
export function buildInputs(profile: Profile, mirror: string): BuildInputOf {
  if (profile.build_input === 'dsc') {
    return ({ name, source }) => addressOf(mirror, `${source.directory}/${source.dsc}`, `the .dsc of ${name}`)
  }
  const template = profile.buildinfo_url ?? usualTemplate
  const known = ['prefix', 'source', 'version', 'architecture', 'directory', 'mirror']
  for (const [, name = ''] of template.matchAll(/\{([^{}]*)\}/g)) {
    if (known.includes(name)) continue
    throw new Complaint(`buildinfo_url has an unknown placeholder {${name}}`, {
      hint: didYouMean(name, known) ?? `there are {${known.join('} {')}}`,
      exitCode: 2,
    })
  }
  return ({ name, source, version, architecture }) => {
    const values: Record<string, string> = {
      prefix: poolPrefix(name),
      source: name,
      version: version.replace(/^\d+:/, ''),
      architecture,
      directory: source.directory,
      mirror,
    }
    return template.replace(/\{(\w+)\}/g, (_, name: string) => values[name] ?? '')
  }
}

/** Pools keep the many libraries by four letters, all others by one. */
function poolPrefix(source: string): string {
  return source.startsWith('lib') ? source.slice(0, 4) : source.slice(0, 1)
}

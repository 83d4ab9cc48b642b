import type { Setting, SettingsTable } from '../config.ts'

/** A configuration file with every setting, each left at its default. */
export function sampleOf(settings: SettingsTable, title: string): string {
  const groups = Map.groupBy(Object.entries(settings), ([name]) => name.split('.').slice(0, -1).join('.'))
  const ordered = [...groups].sort(([one], [other]) => Number(one !== '') - Number(other !== '')) // TOML wants these first
  const parts = ordered.map(([group, members]) => {
    const lines = members.flatMap(([name, setting]) => ['', ...sampleLines(name, setting)])
    return `${group === '' ? '' : `\n[${group}]`}${lines.join('\n')}`
  })
  return `# ${title}\n# What is commented out is the default, or an example where there is none.\n${parts.join('\n')}\n`
}

function sampleLines(name: string, setting: Setting<unknown>): string[] {
  const comment = [`# ${setting.doc}`]
  if (setting.environment !== undefined) comment.push(`# The variable ${setting.environment} wins over it.`)
  if (setting.kind === 'table' || setting.kind === 'tables') return comment
  return [...comment, `#${name.split('.').at(-1)} = ${shownDefault(setting)}`]
}

/** A default as TOML; where there is none, something of its kind. */
export function shownDefault({ kind, fallback }: Setting<unknown>): string {
  if (fallback === null) return kind === 'count' ? '0' : '"…"'
  return JSON.stringify(fallback)
}

/** Profiles as people write them. */
export const sampleProfiles = `# rebuilderd-sync.conf(5): what \`rebuilderd ctl pkgs sync-profile NAME\` imports

[profile."debian-trixie"]
distro = "debian"
source = "https://mirror.example/debian"
components = ["main"]
releases = ["trixie"]
architectures = ["amd64"]
# Only these source packages; without include, maintainers and pkgs: all.
include = [
  { source_pkgs = ["base-files", "tzdata"] },
]
# Never these, whatever else is said.
excludes = ["*-dbg"]
`

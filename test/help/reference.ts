/** The tables of README, printed from what the program itself reads. */
import type { Command } from '../../src/cmd/command.ts'
import { serverSettings, workerSettings, type SettingsTable } from '../../src/config.ts'
import { endpoints } from '../../src/wire/index.ts'
import { reasons } from '../../src/wire/reasons.ts'

/** Blocks by the name in their markers: `<!-- settings -->` … `<!-- /settings -->`. */
export function referenceBlocks(commands: readonly Command[]): Map<string, string> {
  return new Map([
    ['commands', commandsTable(commands)],
    ['server settings', settingsTable(serverSettings)],
    ['worker settings', settingsTable(workerSettings)],
    ['endpoints', endpointsTable()],
    ['reasons', reasonsTable()],
  ])
}

/** README with its blocks as they should be. */
export function withBlocks(readme: string, blocks: ReadonlyMap<string, string>): string {
  let text = readme
  for (const [name, block] of blocks) {
    const pattern = new RegExp(`(<!-- ${name} -->\n)[\\s\\S]*?(<!-- /${name} -->)`)
    text = text.replace(pattern, (_, open: string, close: string) => `${open}\n${block}\n\n${close}`)
  }
  return text
}

function tableOf(head: readonly string[], rows: readonly (readonly string[])[]): string {
  const lines = [head, head.map(() => '---'), ...rows]
  return lines
    .map((cells) => `| ${cells.map((cell) => cell.replaceAll('|', '\\|')).join(' | ')} |`)
    .join('\n')
}

function commandsTable(commands: readonly Command[]): string {
  return tableOf(
    ['command', 'what it does'],
    commands.map((command) => [`\`rebuilderd ${command.usage}\``, command.doc]),
  )
}

function settingsTable(settings: SettingsTable): string {
  const rows = Object.entries(settings).map(([name, setting]) => {
    const variable = setting.environment === undefined ? '' : ` Environment: \`${setting.environment}\`.`
    return [`\`${name}\``, defaultOf(setting.fallback), setting.doc + variable]
  })
  return tableOf(['setting', 'default', 'meaning'], rows)
}

function defaultOf(fallback: unknown): string {
  const isNone =
    fallback === null ||
    fallback === '' ||
    (typeof fallback === 'object' && Object.keys(fallback).length === 0)
  return isNone
    ? ''
    : `\`${typeof fallback === 'object' ? JSON.stringify(fallback) : `${fallback as string | number | boolean}`}\``
}

function endpointsTable(): string {
  return tableOf(
    ['request', 'who', 'what'],
    endpoints.map((row) => [`\`${row.method} ${row.path}\``, row.caller, row.doc]),
  )
}

function reasonsTable(): string {
  return tableOf(
    ['reason', 'whose turn', 'meaning'],
    Object.entries(reasons).map(([code, [side, words]]) => [`\`${code}\``, side, words]),
  )
}

import { writeFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { assetText } from '../assets.ts'
import { serverSettings, syncSettings, workerSettings, type SettingsTable } from '../config.ts'
import { during } from '../errors.ts'
import { makeFolders } from '../folders.ts'
import { command, longName, type Command, type Option, type OptionsTable } from './command.ts'
import { completionsFor } from './completions.ts'
import { exitCodes, docOf, flagsOf, groupDocs } from './help.ts'
import { globalOptions } from './parse.ts'
import { roffOf, type Page, type Part, type Section } from './roff.ts'
import { sampleOf, sampleProfiles, shownDefault } from './samples.ts'
import { version } from '../version.ts'

export const manual = command(
  'manual <directory>',
  'Write the manual pages, the completions and sample configurations',
  {},
  async ([directory], _, { allCommands, out }) => {
    for (const [name, content] of manualFiles(await allCommands())) {
      const path = join(directory, name)
      await during(`writing ${path}`, async () => {
        makeFolders(dirname(path))
        await writeFile(path, content)
      })
      out(path)
    }
  },
  {
    details:
      'They are printed from the tables that the program itself reads; the same version prints the same bytes.',
  },
)

/** Files by their path below the folder: man/man1, man/man5, completions, samples. */
export function manualFiles(commands: readonly Command[]): Map<string, string> {
  const pages = [mainPage(commands), ...commandPages(commands), ...settingsPages]
  return new Map([
    ...pages.map((page): [string, string] => [
      `man/man${page.section}/${page.name}.${page.section}`,
      roffOf(page, version),
    ]),
    ['completions/rebuilderd.bash', completionsFor('bash', commands)],
    ['completions/_rebuilderd', completionsFor('zsh', commands)],
    ['completions/rebuilderd.fish', completionsFor('fish', commands)],
    [
      'samples/rebuilderd.conf',
      sampleOf(serverSettings, 'rebuilderd.conf(5): the server, and what ctl asks'),
    ],
    ['samples/rebuilderd-worker.conf', sampleOf(workerSettings, 'rebuilderd-worker.conf(5): a worker')],
    ['samples/rebuilderd-sync.conf', sampleProfiles],
    ['samples/log-rules.toml', assetText('log-rules.toml')],
  ])
}

function mainPage(commands: readonly Command[]): Page {
  const words = [...new Set(commands.map((one) => one.words[0] ?? ''))]
  const listed = words.map((word): Part => {
    const exact = commands.find((one) => one.words.join(' ') === word)
    return {
      kind: 'term',
      term: `rebuilderd ${word}`,
      text: `${exact?.doc ?? groupDocs[word] ?? ''}. See rebuilderd-${word}(1).`,
    }
  })
  return {
    name: 'rebuilderd',
    section: 1,
    doc: 'verifies the packages of distributions by rebuilding them',
    sections: [
      { title: 'SYNOPSIS', parts: [{ kind: 'synopsis', text: 'rebuilderd <command> [options]' }] },
      { title: 'COMMANDS', parts: listed },
      { title: 'OPTIONS', parts: optionParts(globalOptions) },
      exitSection([]),
    ],
  }
}

/** One page for each first word: rebuilderd-ctl(1) has all that begins with ctl. */
function commandPages(commands: readonly Command[]): Page[] {
  const groups = Map.groupBy(commands, (one) => one.words[0] ?? '')
  return [...groups].map(([word, members]): Page => {
    const [first] = members
    const doc = groupDocs[word] ?? first?.doc ?? ''
    const parts = members.flatMap((one) => commandParts(one))
    return {
      name: `rebuilderd-${word}`,
      section: 1,
      doc: doc.charAt(0).toLowerCase() + doc.slice(1),
      sections: [
        {
          title: 'SYNOPSIS',
          parts: members.map((one): Part => ({
            kind: 'synopsis',
            text: `rebuilderd ${one.usage} [options]`,
          })),
        },
        { title: 'COMMANDS', parts },
        { title: 'OPTIONS OF EVERY COMMAND', parts: optionParts(globalOptions) },
        exitSection(members),
        {
          title: 'SEE ALSO',
          parts: [
            {
              kind: 'text',
              text: 'rebuilderd(1), rebuilderd.conf(5), rebuilderd-worker.conf(5), rebuilderd-sync.conf(5)',
            },
          ],
        },
      ],
    }
  })
}

function commandParts(one: Command): Part[] {
  const details = (one.details?.split('\n\n') ?? []).map((text): Part => ({ kind: 'text', text }))
  return [
    { kind: 'heading', text: one.usage },
    { kind: 'text', text: `${one.doc}.` },
    ...details,
    ...optionParts(one.options),
    ...(one.examples.length === 0 ? [] : [{ kind: 'example', lines: one.examples } as const]),
  ]
}

function optionParts(options: OptionsTable): Part[] {
  return Object.entries(options)
    .filter(([, option]) => !option.hidden)
    .map(([name, option]): Part => ({
      kind: 'term',
      term: flagsOf(name, option).trim(),
      text: `${docOf(option)}.${alsoCalled(option)}`,
    }))
}

function alsoCalled({ aliases }: Option): string {
  return aliases.length === 0 ? '' : ` Also: ${aliases.map((name) => `--${longName(name)}`).join(', ')}.`
}

function exitSection(members: readonly Command[]): Section {
  const own = members.flatMap(({ usage, exits }) =>
    Object.entries(exits).map(([code, meaning]): Part => ({
      kind: 'term',
      term: code,
      text: `${usage}: ${meaning}`,
    })),
  )
  const usual = Object.entries(exitCodes).map(([code, meaning]): Part => ({
    kind: 'term',
    term: code,
    text: meaning,
  }))
  return { title: 'EXIT STATUS', parts: [...usual, ...own] }
}

const settingsPages: readonly Page[] = [
  settingsPage('rebuilderd.conf', 'configuration of the server, and of ctl', serverSettings, [
    '/etc/rebuilderd.conf',
    '~/.config/rebuilderd.conf',
  ]),
  settingsPage('rebuilderd-worker.conf', 'configuration of a worker', workerSettings, [
    '/etc/rebuilderd-worker.conf',
  ]),
  settingsPage(
    'rebuilderd-sync.conf',
    'profiles of what is imported',
    syncSettings,
    ['/etc/rebuilderd-sync.conf'],
    sampleProfiles,
  ),
]

function settingsPage(
  name: string,
  doc: string,
  settings: SettingsTable,
  files: readonly string[],
  sample?: string,
): Page {
  const parts = Object.entries(settings).map(([setting, one]): Part => {
    const environment = one.environment === undefined ? '' : ` The variable ${one.environment} wins over it.`
    const isTable = one.kind === 'table' || one.kind === 'tables'
    const fallback = isTable || one.fallback === null ? '' : ` Default: ${shownDefault(one)}.`
    return { kind: 'term', term: setting, text: `${one.doc}${fallback}${environment}` }
  })
  const example: Section[] =
    sample === undefined
      ? []
      : [{ title: 'EXAMPLE', parts: [{ kind: 'example', lines: sample.trim().split('\n') }] }]
  return {
    name,
    section: 5,
    doc,
    sections: [
      {
        title: 'DESCRIPTION',
        parts: [
          {
            kind: 'text',
            text: 'TOML (https://toml.io). A setting written http.endpoint here is endpoint in the table [http].',
          },
        ],
      },
      { title: 'SETTINGS', parts },
      ...example,
      { title: 'FILES', parts: files.map((text): Part => ({ kind: 'text', text })) },
    ],
  }
}

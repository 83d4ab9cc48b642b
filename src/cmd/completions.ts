import { longName, type Command, type Option } from './command.ts'
import { globalOptions } from './parse.ts'

/** One place on the command line: the words behind it, and what may follow. */
type Place = { path: string; words: Named[]; options: ShownOption[] }
type Named = { word: string; doc: string }
type ShownOption = Named & { short: string | undefined; choices: readonly string[]; takesValue: boolean }

const programs = ['rebuilderd', 'rebuildctl', 'rebuilderd-worker'] as const
export const shells = ['bash', 'zsh', 'fish'] as const
type Shell = (typeof shells)[number]

/** A completion script for all names of the program. */
export function completionsFor(shell: Shell, commands: readonly Command[]): string {
  const places = placesOf(commands)
  switch (shell) {
    case 'bash':
      return bash(places)
    case 'zsh':
      return zsh(places)
    case 'fish':
      return fish(places)
  }
}

function placesOf(commands: readonly Command[]): Place[] {
  const places = new Map<string, Place>()
  const at = (words: readonly string[]): Place => {
    const path = words.join(' ')
    const place = places.get(path) ?? { path, words: [], options: [] }
    places.set(path, place)
    return place
  }
  for (const command of commands) {
    for (const [i, word] of command.words.entries()) {
      const { words } = at(command.words.slice(0, i))
      const doc = i === command.words.length - 1 ? command.doc : ''
      if (!words.some((known) => known.word === word)) words.push({ word, doc })
    }
    at(command.words).options.push(...optionsOf(command))
  }
  return [...places.values()]
}

function optionsOf(command: Command): ShownOption[] {
  return Object.entries({ ...command.options, ...globalOptions, ...command.options })
    .filter(([, option]) => !option.hidden)
    .map(([name, option]) => shownOption(name, option))
}

function shownOption(name: string, { doc, short, choices = [], kind }: Option): ShownOption {
  return { word: `--${longName(name)}`, doc, short, choices, takesValue: kind !== 'flag' && kind !== 'count' }
}

/** Words of a shell, none of which any shell would take for more than a word. */
function bare(words: readonly string[]): string {
  return words.filter((word) => /^[\w.@%+:/-]+$/.test(word)).join(' ')
}

/** In single quotes; a quote inside ends them for a moment. */
function inQuotes(text: string): string {
  return `'${text.replaceAll("'", `'\\''`)}'`
}

/** Shared by bash and zsh: which place the words before the cursor lead to. */
function walk(places: readonly Place[], wordAt: (index: string) => string, from: string, to: string): string {
  const inner = places.filter((place) => place.path !== '').map((place) => inQuotes(place.path))
  return `  local place='' word index
  case "$program" in
    rebuildctl) place='ctl' ;;
    rebuilderd-worker) place='worker' ;;
  esac
  for ((index = ${from}; index < ${to}; index++)); do
    word="\${place:+$place }${wordAt('index')}"
    case "$word" in
      ${inner.join('|')}) place="$word" ;;
    esac
  done`
}

function bash(places: readonly Place[]): string {
  const cases = places.map(({ path, words, options }) => {
    const all = [...words, ...options].map(({ word }) => word)
    return `    ${inQuotes(path)}) words=${inQuotes(bare(all))} ;;`
  })
  const values = places.flatMap(({ path, options }) =>
    options
      .filter((option) => option.takesValue)
      .map(({ word, choices }) => `    ${inQuotes(`${path}:${word}`)}) words=${inQuotes(bare(choices))} ;;`),
  )
  return `# bash completion for ${programs.join(', ')}
_rebuilderd() {
  local program="\${COMP_WORDS[0]##*/}" current="\${COMP_WORDS[COMP_CWORD]}" before="\${COMP_WORDS[COMP_CWORD - 1]}" words=''
${walk(places, (index) => `\${COMP_WORDS[${index}]}`, '1', 'COMP_CWORD')}
  case "$place" in
${cases.join('\n')}
  esac
  case "$place:$before" in
${values.join('\n')}
  esac
  COMPREPLY=($(compgen -W "$words" -- "$current"))
}
complete -o default -F _rebuilderd ${programs.join(' ')}
`
}

function zsh(places: readonly Place[]): string {
  const item = ({ word, doc }: Named): string =>
    inQuotes(doc === '' ? word : `${word.replaceAll(':', '\\:')}:${doc.replaceAll(':', '\\:')}`)
  const cases = places.map(
    ({ path, words, options }) =>
      `    ${inQuotes(path)}) items=(${[...words, ...options].map(item).join(' ')}) ;;`,
  )
  const values = places.flatMap(({ path, options }) =>
    options
      .filter((option) => option.takesValue)
      .map(({ word, choices }) => {
        const then = choices.length === 0 ? '_files; return' : `compadd -- ${bare(choices)}; return`
        return `    ${inQuotes(`${path}:${word}`)}) ${then} ;;`
      }),
  )
  return `#compdef ${programs.join(' ')}
_rebuilderd() {
  local program="\${words[1]:t}"
  local -a items
${walk(places, (index) => `\${words[${index}]}`, '2', 'CURRENT')}
  case "$place:\${words[CURRENT - 1]}" in
${values.join('\n')}
  esac
  case "$place" in
${cases.join('\n')}
  esac
  _describe 'rebuilderd' items || _files
}
if [ "$funcstack[1]" = '_rebuilderd' ]; then _rebuilderd "$@"; else compdef _rebuilderd ${programs.join(' ')}; fi
`
}

function fish(places: readonly Place[]): string {
  const inner = places.filter((place) => place.path !== '').map((place) => inFishQuotes(place.path))
  const lines = places.flatMap((place) => [
    ...place.words.map(({ word, doc }) => `${fishAt(place)} -f -a ${word}${fishDoc(doc)}`),
    ...place.options.map((option) => fishOption(place, option)),
  ])
  const each = programs.map((program) => lines.map((line) => line.replace('PROGRAM', program)).join('\n'))
  return `# fish completion for ${programs.join(', ')}
function __rebuilderd_at
  set -l words (commandline -opc)
  set -l place
  switch (basename -- $words[1])
    case rebuildctl
      set place ctl
    case rebuilderd-worker
      set place worker
  end
  for word in $words[2..-1]
    set -l next (string trim -- "$place $word")
    contains -- "$next" ${inner.join(' ')}; and set place "$next"
  end
  test "$place" = "$argv[1]"
end
${each.join('\n')}
`
}

function fishAt({ path }: Place): string {
  return `complete -c PROGRAM -n ${inFishQuotes(`__rebuilderd_at "${path}"`)}`
}

function fishDoc(doc: string): string {
  return doc === '' ? '' : ` -d ${inFishQuotes(doc)}`
}

function fishOption(place: Place, { word, doc, short, choices, takesValue }: ShownOption): string {
  const letter = short === undefined ? '' : ` -s ${short}`
  const values = choices.length === 0 ? ' -r' : ` -x -a ${inFishQuotes(bare(choices))}`
  return `${fishAt(place)} -l ${word.slice(2)}${letter}${takesValue ? values : ''}${fishDoc(doc)}`
}

function inFishQuotes(text: string): string {
  return `'${text.replace(/[\\']/g, '\\$&')}'`
}

import { longName, type Command, type Option, type OptionsTable } from './command.ts'
import { globalOptions } from './parse.ts'

const intro = `rebuilderd verifies the packages of Linux distributions: it rebuilds them from source
and compares the result with what the distribution ships, byte for byte.`

/** What each word before the last one stands for. */
export const groupDocs: Readonly<Record<string, string>> = {
  ctl: 'Ask a server and tell it what to do; also reached under the name rebuildctl',
  'ctl pkgs': 'Packages: list them, see their logs and diffs, import what a distribution lists',
  'ctl queue': 'What is being rebuilt, and what will be',
  'ctl sync': 'The archives that the server keeps up with by itself',
  'ctl workers': 'Those who rebuild',
  'ctl db': 'All that a server keeps: look at it, save it, take it over',
  worker: 'Take jobs from a server and rebuild; also reached under the name rebuilderd-worker',
}

/** Lines that are longer are hard to read, however wide the terminal is. */
const widest = 112

/**
 * The help of the program, of a group of commands (`ctl pkgs`) or of one command.
 * @param columns how many characters a line may have
 */
export function helpOf(
  words: readonly string[],
  commands: readonly Command[],
  program: string,
  columns: number = widest,
): string {
  const width = Math.max(40, Math.min(widest, columns))
  const below = commands.filter((command) => words.every((word, i) => command.words[i] === word))
  const exact = below.find((command) => command.words.length === words.length)
  const others = below.filter((command) => command !== exact)
  const parts: string[] =
    exact === undefined ? groupIntro(words, program) : commandIntro(exact, program, width)
  if (others.length > 0)
    parts.push(
      section(
        'Commands',
        others.map((other) => listed(other, program)),
        width,
      ),
    )
  const own = exact === undefined ? [] : rowsOf(exact.options)
  if (own.length > 0) parts.push(section('Options', own, width))
  const hidden = new Set(Object.keys(exact?.options ?? {}))
  const rest = Object.entries(globalOptions).filter(([name]) => !hidden.has(name))
  parts.push(
    section(own.length > 0 ? 'Options of every command' : 'Options', rowsOf(Object.fromEntries(rest)), width),
  )
  if (exact !== undefined && exact.examples.length > 0)
    parts.push(['Examples:', ...exact.examples.map((line) => shownLine(line, program, width))].join('\n'))
  parts.push(section('Exit codes', exitRows(exact), width))
  if (exact === undefined)
    parts.push(`\`${shownCommand(['<command>'], program)} --help\` tells more of one command.`)
  return parts.join('\n\n')
}

function groupIntro(words: readonly string[], program: string): string[] {
  const usage = `Usage: ${shownCommand([...words, '<command>', '[options]'], program)}`
  return [words.length === 0 ? intro : (groupDocs[words.join(' ')] ?? intro), usage]
}

function commandIntro(command: Command, program: string, width: number): string[] {
  const usage = `Usage: ${shownCommand([...command.usage.split(' '), '[options]'], program)}`
  const details = command.details?.split('\n\n') ?? []
  return [command.doc, usage, ...details.map((text) => folded(text.replaceAll('\n', ' '), width).join('\n'))]
}

/** The first word that is in a name already: called as rebuildctl, all commands are those of ctl. */
export function impliedWord(program: string): string | undefined {
  return { rebuildctl: 'ctl', 'rebuilderd-worker': 'worker' }[program]
}

/** As it is typed under the name that the program was called by. */
function shownCommand(words: readonly string[], program: string): string {
  return [program, ...(words[0] === impliedWord(program) ? words.slice(1) : words)].join(' ')
}

/** A command line of an example under the name that the program was called by, broken as a shell takes it. */
function shownLine(line: string, program: string, width: number): string {
  const implied = impliedWord(program)
  const typed = line.replace(implied === undefined ? 'rebuilderd ' : `rebuilderd ${implied} `, `${program} `)
  return `  ${folded(typed, width - 6).join(' \\\n    ')}`
}

type Row = readonly [string, string]

function listed(command: Command, program: string): Row {
  const typed = shownCommand(command.usage.split(' '), program)
  return [typed.slice(program.length + 1), command.doc]
}

function rowsOf(options: OptionsTable): Row[] {
  return Object.entries(options)
    .filter(([, option]) => !option.hidden)
    .map(([name, option]) => [flagsOf(name, option), docOf(option)])
}

/** `-H, --endpoint <URL>` */
export function flagsOf(name: string, option: Option): string {
  const short = option.short === undefined ? '    ' : `-${option.short}, `
  return `${short}--${longName(name)}${placeholderOf(name, option)}`
}

/** ` <URL>`, or nothing for flags. */
function placeholderOf(name: string, option: Option): string {
  if (option.kind === 'flag' || option.kind === 'count') return ''
  return ` <${option.placeholder ?? longName(name).toUpperCase()}>`
}

/** The sentence of an option, and in brackets what limits its value. */
export function docOf(option: Option): string {
  const notes = [
    option.choices === undefined ? '' : `one of ${option.choices.join(', ')}`,
    option.kind === 'texts' ? 'repeatable' : '',
    option.environment === undefined ? '' : `else $${option.environment}`,
  ].filter((note) => note !== '')
  return notes.length === 0 ? option.doc : `${option.doc} (${notes.join('; ')})`
}

export const exitCodes: Readonly<Record<number, string>> = {
  0: 'it was done',
  1: 'it could not be done',
  2: 'it was asked for in a wrong way: an unknown command, option or setting',
}

function exitRows(command: Command | undefined): Row[] {
  return Object.entries({ ...exitCodes, ...command?.exits }).map(([code, meaning]) => [code, meaning])
}

/** A title and two columns; long second columns go on below their beginning. */
function section(title: string, rows: readonly Row[], columns: number): string {
  const most = Math.min(44, Math.floor(columns * 0.45))
  const width = Math.min(most, Math.max(0, ...rows.map(([left]) => left.length)))
  const lines = rows.map(([left, right]) => {
    const [first = '', ...more] = folded(right, columns - 4 - width)
    const begin = left.length > width ? `  ${left}\n  ${' '.repeat(width)}` : `  ${left.padEnd(width)}`
    return [`${begin}  ${first}`, ...more.map((line) => `  ${' '.repeat(width)}  ${line}`)].join('\n')
  })
  return [`${title}:`, ...lines].join('\n')
}

/** Text in lines of at most `width` characters. */
export function folded(text: string, width: number): string[] {
  const lines = ['']
  for (const word of text.split(' ')) {
    const line = lines.at(-1) ?? ''
    if (line !== '' && line.length + 1 + word.length > width) lines.push(word)
    else lines[lines.length - 1] = line === '' ? word : `${line} ${word}`
  }
  return lines
}

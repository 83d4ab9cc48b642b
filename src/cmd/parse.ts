import { cac } from 'cac'
import { Complaint, didYouMean } from '../errors.ts'
import { count, flag, longName, type Command, type Option, type OptionsTable } from './command.ts'

/** Options that every command has. */
export const globalOptions = {
  verbose: count('Say more; twice: still more', { short: 'v' }),
  color: flag('Use colours even where the output is no terminal', { short: 'C', aliases: ['colour'] }),
  help: flag('Show this help', { short: 'h' }),
  version: flag('Show the version', { short: 'V' }),
} as const satisfies OptionsTable

/** What an argv asks for. */
export type Request =
  | { wants: 'run'; command: Command; positionals: (string | undefined)[]; options: Record<string, unknown> }
  | { wants: 'help'; words: readonly string[]; asked: boolean }
  | { wants: 'version' }

type Environment = Readonly<Record<string, string | undefined>>

/**
 * Reads a command line.
 * @param argv without runtime and script
 * @throws Complaint (exit code 2) naming what is not understood and the nearest that would be
 */
export function parse(
  argv: readonly string[],
  commands: readonly Command[],
  environment: Environment,
): Request {
  const { words, rest, stray, candidates } = findWords(argv, commands)
  const command = candidates.find((candidate) => candidate.words.length === words.length)
  if (wantsHelp(rest, command)) return { wants: 'help', words, asked: true }
  if (command !== undefined) {
    if (stray !== undefined) refuseMistypedWord(command, stray, candidates)
    return readCommand(command, rest, environment)
  }
  if (stray === 'help') return { wants: 'help', words: [...words, ...rest.slice(1)], asked: true }
  if (stray !== undefined) throw unknownCommand([...words, stray], candidates)
  if (rest.includes('--version') || rest.includes('-V')) return { wants: 'version' }
  return { wants: 'help', words, asked: words.length === 0 }
}

type Found = { words: string[]; rest: string[]; stray: string | undefined; candidates: readonly Command[] }

/** Finds the words that name a command among options, which may stand before them. */
function findWords(argv: readonly string[], commands: readonly Command[]): Found {
  const found: Found = { words: [], rest: [], stray: undefined, candidates: commands }
  for (let i = 0; i < argv.length; i++) {
    const arg = argv[i] ?? ''
    if (arg === '--') {
      found.rest.push(...argv.slice(i))
      break
    }
    const narrowed = found.stray === undefined ? startingWith(found, arg) : []
    if (narrowed.length > 0) {
      found.candidates = narrowed
      found.words.push(arg)
      continue
    }
    found.rest.push(arg)
    if (!isOption(arg)) found.stray ??= arg
    else if (takesNext(arg, found.candidates) && i + 1 < argv.length) found.rest.push(argv[++i] ?? '')
  }
  return found
}

function startingWith({ candidates, words }: Found, arg: string): Command[] {
  return candidates.filter((candidate) => candidate.words[words.length] === arg)
}

function isOption(arg: string): boolean {
  return arg.length > 1 && arg.startsWith('-')
}

/** Whether the value of an option that stands before the command's last word is the next argument. */
function takesNext(arg: string, candidates: readonly Command[]): boolean {
  if (arg.includes('=')) return false
  for (const { options } of [...candidates, { options: globalOptions }]) {
    const [last, glued] = lastOption(arg, options)
    if (last !== undefined) return takesValue(last.option) && glued === ''
  }
  return false
}

/** The option that `--name` or the last letter of `-abc` names, with the value glued to it. */
function lastOption(arg: string, table: OptionsTable): [Named | undefined, string] {
  if (arg.startsWith('--')) return [namedLong(arg.slice(2), table), '']
  for (let i = 1; i < arg.length; i++) {
    const named = namedShort(arg[i] ?? '', table)
    if (named === undefined || takesValue(named.option) || i === arg.length - 1)
      return [named, arg.slice(i + 1)]
  }
  return [undefined, '']
}

function wantsHelp(rest: readonly string[], command: Command | undefined): boolean {
  const end = rest.indexOf('--')
  return rest.slice(0, end === -1 ? rest.length : end).some((arg, i, all) => {
    if (arg !== '--help' && arg !== '-h') return false
    const before = all[i - 1]
    return (
      before === undefined || !isOption(before) || !takesNext(before, command === undefined ? [] : [command])
    )
  })
}

function readCommand(command: Command, rest: readonly string[], environment: Environment): Request {
  const table: OptionsTable = { ...globalOptions, ...command.options }
  const { given, positionals } = readOptions(rest, table)
  const asks = (name: 'help' | 'version'): boolean =>
    table[name] === globalOptions[name] && given.some((one) => one.name === name)
  if (asks('help')) return { wants: 'help', words: command.words, asked: true }
  if (asks('version')) return { wants: 'version' }
  checkPositionals(command, positionals)
  const parsed = throughCac(command, table, given, positionals)
  const options = valuesOf(table, parsed.options, environment)
  return { wants: 'run', command, positionals: parsed.positionals, options }
}

/** `worker buidl` is no address of a server. */
function refuseMistypedWord(command: Command, stray: string, candidates: readonly Command[]): void {
  if (/[/:.]/.test(stray)) return
  const next = candidates
    .map((candidate) => candidate.words[command.words.length] ?? '')
    .filter((word) => word !== '')
  if (next.length > 0 && didYouMean(stray, next) !== undefined) {
    throw unknownCommand([...command.words, stray], candidates)
  }
}

function unknownCommand(words: readonly string[], candidates: readonly Command[]): Complaint {
  const at = words.length - 1
  const known = new Set(
    candidates.map((candidate) => candidate.words[at] ?? '').filter((word) => word !== ''),
  )
  const hint = didYouMean(words[at] ?? '', known) ?? `there are: ${[...known].join(', ')}`
  return new Complaint(`unknown command ${words.join(' ')}`, { hint, exitCode: 2 })
}

type Named = { name: string; option: Option }

function namedLong(long: string, table: OptionsTable): Named | undefined {
  const entry = Object.entries(table).find(
    ([name, option]) => longName(name) === long || option.aliases.includes(long),
  )
  return entry === undefined ? undefined : { name: entry[0], option: entry[1] }
}

function namedShort(letter: string, table: OptionsTable): Named | undefined {
  const entry = Object.entries(table).find(([, option]) => option.short === letter)
  return entry === undefined ? undefined : { name: entry[0], option: entry[1] }
}

function takesValue({ kind }: Option): boolean {
  return kind === 'text' || kind === 'texts' || kind === 'number'
}

type OneOption = { name: string; value: string }

/** Parts options from positionals; every option gets its full name, every value its option. */
function readOptions(
  rest: readonly string[],
  table: OptionsTable,
): { given: OneOption[]; positionals: string[] } {
  const given: OneOption[] = []
  const positionals: string[] = []
  const queue = [...rest]
  for (let arg = queue.shift(); arg !== undefined; arg = queue.shift()) {
    if (arg === '--') positionals.push(...queue.splice(0))
    else if (!isOption(arg)) positionals.push(arg)
    else if (arg.startsWith('--')) given.push(readLong(arg, queue, table))
    else given.push(...readShort(arg, queue, table))
  }
  return { given, positionals }
}

function readLong(arg: string, queue: string[], table: OptionsTable): OneOption {
  const end = arg.indexOf('=')
  const long = arg.slice(2, end === -1 ? undefined : end)
  const named = namedLong(long, table)
  if (named === undefined) throw unknownOption(`--${long}`, table)
  if (!takesValue(named.option)) {
    if (end !== -1) throw wrongUsage(`--${long} takes no value`)
    return { name: named.name, value: 'true' }
  }
  const value = end === -1 ? nextValue(`--${long}`, named.option, queue, table) : arg.slice(end + 1)
  return { name: named.name, value }
}

/** `-vv`, `-pC`, `-H URL`, `-HURL`, `-H=URL` */
function readShort(arg: string, queue: string[], table: OptionsTable): OneOption[] {
  const given: OneOption[] = []
  for (let i = 1; i < arg.length; i++) {
    const shown = `-${arg[i]}`
    const named = namedShort(arg[i] ?? '', table)
    if (named === undefined) throw unknownOption(shown, table)
    if (takesValue(named.option)) {
      const glued = arg.slice(i + 1).replace(/^=/, '')
      given.push({
        name: named.name,
        value: glued === '' ? nextValue(shown, named.option, queue, table) : glued,
      })
      break
    }
    given.push({ name: named.name, value: 'true' })
  }
  return given
}

function nextValue(shown: string, option: Option, queue: string[], table: OptionsTable): string {
  const next = queue.shift()
  const isNumber = option.kind === 'number' && /^-\d+$/.test(next ?? '')
  const isOther = next !== undefined && isOption(next) && !isNumber
  if (
    next === undefined ||
    (isOther && (next.startsWith('--') || lastOption(next, table)[0] !== undefined))
  ) {
    const hint = next === undefined ? undefined : `if ${next} is the value, write ${shown}=${next}`
    throw wrongUsage(`${shown} needs a value`, hint)
  }
  return next
}

function unknownOption(shown: string, table: OptionsTable): Complaint {
  const names = Object.entries(table).filter(([, option]) => !option.hidden)
  const longs = names
    .flatMap(([name, option]) => [longName(name), ...option.aliases])
    .map((name) => `--${name}`)
  const hint = shown.startsWith('--') ? didYouMean(shown, longs) : undefined
  return wrongUsage(`unknown option ${shown}`, hint ?? 'see --help')
}

function wrongUsage(message: string, hint?: string): Complaint {
  return new Complaint(message, { hint, exitCode: 2 })
}

function checkPositionals(command: Command, positionals: readonly string[]): void {
  const { args, words } = command
  const missing = args.find((argument, i) => argument.required && i >= positionals.length)
  const hint = `usage: ${command.usage}`
  if (missing !== undefined) throw wrongUsage(`${words.join(' ')} needs <${missing.name}>`, hint)
  const isFull = !args.some((argument) => argument.variadic)
  if (isFull && positionals.length > args.length) {
    throw wrongUsage(`unexpected argument ${positionals[args.length]}`, hint)
  }
}

/** cac reads numbers, booleans and dashes out of texts; a text that begins with this is left alone. */
const mark = '\u0001'

/** The only place that meets cac: one word, full option names, nothing that it could take for something else. */
function throughCac(
  command: Command,
  table: OptionsTable,
  given: readonly OneOption[],
  positionals: readonly string[],
): { positionals: (string | undefined)[]; options: Record<string, unknown> } {
  const word = command.words.join('-')
  const cli = cac('rebuilderd')
  const declared = cli.command(
    [word, ...command.usage.split(' ').slice(command.words.length)].join(' '),
    command.doc,
  )
  for (const [name, option] of Object.entries(table)) {
    declared.option(`--${longName(name)}${takesValue(option) ? ' <value>' : ''}`, option.doc)
  }
  let received: unknown[] = []
  declared.action((...all: unknown[]) => (received = all))
  const options = given.map(({ name, value }) => {
    const { kind } = table[name] ?? {}
    return `--${longName(name)}=${kind === 'flag' || kind === 'count' ? value : mark + value}`
  })
  cli.parse(['', '', word, ...options, ...positionals.map((positional) => mark + positional)])
  const texts = received.slice(0, -1).flat() as (string | undefined)[]
  return { positionals: texts.map(unmarked), options: (received.at(-1) ?? {}) as Record<string, unknown> } // cac passes the options last
}

function unmarked<T>(value: T): T {
  return (typeof value === 'string' && value.startsWith(mark) ? value.slice(mark.length) : value) as T // only shortens texts
}

/** Texts as cac hands them out, or of the environment, as the values that the table promises. */
function valuesOf(
  table: OptionsTable,
  raw: Readonly<Record<string, unknown>>,
  environment: Environment,
): Record<string, unknown> {
  const values = Object.entries(table).map(([name, option]) => {
    const given = raw[name] === undefined ? [] : [raw[name]].flat().map(unmarked)
    const inherited = option.environment === undefined ? undefined : environment[option.environment]
    if (given.length === 0 && inherited !== undefined && inherited !== '') given.push(inherited)
    return [name, valueOf(`--${longName(name)}`, option, given)]
  })
  return Object.fromEntries(values)
}

function valueOf(shown: string, option: Option, given: readonly unknown[]): unknown {
  if (option.kind === 'count') return given.length
  const last = given.at(-1)
  if (last === undefined) return option.fallback
  if (option.kind === 'flag') return last === true || last === 'true' || last === '1'
  const found = given.map((one) => checkedText(shown, option, String(one)))
  if (option.kind === 'texts') return found
  return option.kind === 'number' ? wholeNumber(shown, option, found.at(-1) ?? '') : found.at(-1)
}

function checkedText(shown: string, { choices }: Option, value: string): string {
  if (choices === undefined) return value
  const same = choices.find((word) => word.toLowerCase() === value.toLowerCase())
  if (same !== undefined) return same
  const all = `it can be: ${choices.join(', ')}`
  const hint = choices.length < 8 ? all : (didYouMean(value, choices) ?? all)
  throw wrongUsage(`${shown} cannot be ${value}`, hint)
}

function wholeNumber(shown: string, { min, max }: Option, value: string): number {
  if (!/^[+-]?\d{1,15}$/.test(value)) throw wrongUsage(`${shown} must be a whole number, not ${value}`)
  const found = Number(value)
  if (found < min || found > max) throw wrongUsage(`${shown} must be between ${min} and ${max}, not ${value}`)
  return found
}

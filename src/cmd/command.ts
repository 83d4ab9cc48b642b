import type { Log } from '../log.ts'
import type { RuntimePace } from '../runtime.ts'

/** One option of a command: what it holds, one sentence, and how else it may be called. */
export type Option<T = unknown> = {
  readonly kind: 'text' | 'texts' | 'number' | 'flag' | 'count'
  readonly doc: string
  readonly fallback: T
  /** One letter: `p` for `-p`. */
  readonly short: string | undefined
  /** Other long names, such as those of upstream's programs; accepted and not shown. */
  readonly aliases: readonly string[]
  /** What help calls the value: `URL` for `--endpoint <URL>`. */
  readonly placeholder: string | undefined
  readonly choices: readonly string[] | undefined
  /** The environment variable that is read when the option is not given. */
  readonly environment: string | undefined
  readonly hidden: boolean
  /** Bounds of a number. */
  readonly min: number
  readonly max: number
}

type Extra = {
  short?: string
  aliases?: readonly string[]
  placeholder?: string
  environment?: string
  hidden?: boolean
}

function option<T>(
  kind: Option['kind'],
  doc: string,
  fallback: T,
  extra: Extra & { choices?: readonly string[]; min?: number; max?: number },
): Option<T> {
  return {
    kind,
    doc,
    fallback,
    short: extra.short,
    aliases: extra.aliases ?? [],
    placeholder: extra.placeholder,
    choices: extra.choices,
    environment: extra.environment,
    hidden: extra.hidden ?? false,
    min: extra.min ?? -(2 ** 31),
    max: extra.max ?? 2 ** 31 - 1,
  }
}

/** `--name TEXT`, taken as it is typed; undefined when not given. */
export function text(doc: string, extra: Extra = {}): Option<string | undefined> {
  return option('text', doc, undefined, extra)
}
/** `--component A --component B`: repeatable; empty when not given. */
export function texts(doc: string, extra: Extra = {}): Option<readonly string[]> {
  return option<readonly string[]>('texts', doc, [], extra)
}
/** `--status GOOD`: one of some words, in any case. */
export function choice<const W extends string>(
  doc: string,
  words: readonly W[],
  extra: Extra = {},
): Option<W | undefined> {
  return option<W | undefined>('text', doc, undefined, { ...extra, choices: words })
}
/** `--priority 5`: a whole number. */
export function number(
  doc: string,
  extra: Extra & { min?: number; max?: number } = {},
): Option<number | undefined> {
  return option<number | undefined>('number', doc, undefined, extra)
}
/** `--json` */
export function flag(doc: string, extra: Extra = {}): Option<boolean> {
  return option('flag', doc, false, extra)
}
/** `-vv`: how often it was given. */
export function count(doc: string, extra: Extra = {}): Option<number> {
  return option('count', doc, 0, extra)
}

export type OptionsTable = Readonly<Record<string, Option>>
/** The values of a table: what `run` gets. */
export type Given<T extends OptionsTable> = {
  readonly [Name in keyof T]: T[Name] extends Option<infer V> ? V : never
}

/** `'queue push <distro> [name]'` → `[string, string | undefined]` */
type Positionals<U extends string> = U extends `${infer Word} ${infer Rest}`
  ? [...Positional<Word>, ...Positionals<Rest>]
  : Positional<U>
type Positional<W extends string> = W extends `<...${string}>` | `[...${string}]`
  ? string[]
  : W extends `<${string}>`
    ? [string]
    : W extends `[${string}]`
      ? [string | undefined]
      : []

/** What a command may touch of the world. */
export type Context = {
  /** Writes one line to standard output. */
  out: (line: string) => void
  /** Writes to standard output as it is, without a line end. */
  write: (chunk: string | Uint8Array) => void
  /** Resolves when standard output took all: who writes more than fits into memory waits for its reader. */
  written: () => Promise<void>
  /** Writes one line to standard error. */
  err: (line: string) => void
  /** Writes to standard error as it is. */
  writeError: (text: string) => void
  log: Log
  /** Aborted by the first SIGINT or SIGTERM, or when nobody reads standard output any more. */
  signal: AbortSignal
  /** Aborted by the second one. Who asks for it must end soon then; otherwise the second one ends the program. */
  hurry: () => AbortSignal
  /** Standard output is a terminal. */
  isTerminal: boolean
  /** Standard error is a terminal: progress may be drawn there. */
  showsProgress: boolean
  colours: boolean
  /** Width of the terminal. */
  columns: number
  environment: Readonly<Record<string, string | undefined>>
  input: AsyncIterable<Uint8Array>
  /** What we were called: `rebuilderd`, `rebuildctl`, `rebuilderd-worker`. */
  program: string
  /** Every command, for what is generated from them. */
  allCommands: () => Promise<readonly Command[]>
}

type Argument = { readonly name: string; readonly required: boolean; readonly variadic: boolean }

type More = {
  /** Paragraphs that help prints below the first sentence. */
  details?: string
  /** Command lines that help prints, as a shell takes them. */
  examples?: readonly string[]
  /** Exit codes beyond 0, 1 and 2, or what these mean here. */
  exits?: Readonly<Record<number, string>>
  /** Exit code where it could not be done; 1 where it is not said. */
  failure?: number
  /** Whether it spares memory or time; time where it is not said. */
  pace?: RuntimePace
}

/** What ended a command: nothing for success, or the exit code. */
type Outcome = Promise<number | void>

export type Command = {
  /** As declared: `ctl pkgs ls` or `worker build <distro> <artifact-url>`. */
  readonly usage: string
  readonly words: readonly string[]
  readonly args: readonly Argument[]
  readonly doc: string
  readonly details: string | undefined
  readonly examples: readonly string[]
  readonly exits: Readonly<Record<number, string>>
  readonly failure: number
  readonly pace: RuntimePace
  readonly options: OptionsTable
  readonly run: (
    positionals: readonly (string | undefined)[],
    options: Record<string, unknown>,
    context: Context,
  ) => Outcome
}

/**
 * Declares one command; --help, completions and the man page are printed from the same words.
 * @param usage words, then arguments: `<needed>`, `[optional]`, `[...several]`
 * @param options by name in camelCase: `printJson` is `--print-json`
 */
export function command<const U extends string, const T extends OptionsTable>(
  usage: U,
  doc: string,
  options: T,
  run: (positionals: Positionals<U>, options: Given<T>, context: Context) => Outcome,
  more: More = {},
): Command {
  const parts = usage.split(' ')
  return {
    usage,
    words: parts.filter((part) => !/^[<[]/.test(part)),
    args: parts.filter((part) => /^[<[]/.test(part)).map(argumentOf),
    doc,
    details: more.details,
    examples: more.examples ?? [],
    exits: more.exits ?? {},
    failure: more.failure ?? 1,
    pace: more.pace ?? 'fast',
    options,
    run: run as Command['run'], // parse.ts reads argv by this very usage and table
  }
}

function argumentOf(part: string): Argument {
  const name = part.slice(1, -1)
  return {
    name: name.replace(/^\.\.\./, ''),
    required: part.startsWith('<'),
    variadic: name.startsWith('...'),
  }
}

/** `printJson` → `print-json` */
export function longName(name: string): string {
  return name.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`)
}

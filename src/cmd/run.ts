import type { Writable } from 'node:stream'
import { setImmediate } from 'node:timers/promises'
import { complaintOf, explain } from '../errors.ts'
import { setRuntimePace } from '../runtime.ts'
import { openLog, printable, wantedSeverity } from '../log.ts'
import type { Command, Context } from './command.ts'
import { allCommands, commandsFor } from './commands.ts'
import { helpOf, impliedWord } from './help.ts'
import { parse, type Request } from './parse.ts'
import { version } from '../version.ts'

/** Why a command was stopped from outside; nothing is printed for it. */
class Stopped extends Error {
  readonly exitCode: number
  constructor(exitCode: number) {
    super('stopped')
    this.name = 'Stopped'
    this.exitCode = exitCode
  }
}

const signals = { SIGINT: 130, SIGTERM: 143 } as const

type Output = Writable & { isTTY?: boolean; columns?: number }

/** What a program has of its process, which is all of it; tests run many within theirs. */
type Surroundings = {
  readonly env: Readonly<Record<string, string | undefined>>
  readonly stdin: AsyncIterable<Uint8Array>
  readonly stdout: Output
  readonly stderr: Output
}

/** Runs what an argv asks for, prints what went wrong, and ends the process with its exit code. */
export async function run(program: string, argv: readonly string[]): Promise<void> {
  const stopping = new AbortController()
  stopQuietlyWithoutReader(program, stopping)
  const code = await outcomeOf(program, argv, process, stopping.signal, ({ pace }) => {
    if (pace !== 'sparing') setRuntimePace(pace) // that is how the executable starts
    return watchSignals(stopping)
  })
  await written(process.stdout)
  end(code)
}

/**
 * Lets the process end by itself: then the runtime first tells what it does in the background to stop. `process.exit`
 * does not, and may wait for good for a compilation that waits for memory (nodejs/node issue 54918). Whatever else is
 * still waited for gets a moment.
 */
function end(code: number): void {
  process.exitCode = code
  setTimeout(() => process.exit(code), endMilliseconds).unref()
}

const endMilliseconds = 100

/**
 * Does what an argv asks for, prints what went wrong, and gives the exit code; never throws.
 * @param stopping asks the command to end
 * @param starts is told of the command before it runs; gives what `hurry` of its context is
 */
export async function outcomeOf(
  program: string,
  argv: readonly string[],
  around: Surroundings,
  stopping: AbortSignal,
  starts: (command: Command) => Context['hurry'],
): Promise<number> {
  let failure: number | undefined
  try {
    if (argv.length === 1 && isVersionFlag(argv[0] ?? '')) return say(`rebuilderd ${version}`, around)
    const { words, commands } = await understood(program, argv)
    const request = parse(words, commands, around.env)
    if (request.wants === 'version') return say(`rebuilderd ${version}`, around)
    if (request.wants === 'help') return help(request, program, commands, around)
    const { command, positionals, options } = request
    const hurry = starts(command)
    failure = command.failure
    const context = contextOf(program, options, around, stopping, hurry)
    return (await command.run(positionals, options, context)) ?? 0
  } catch (error) {
    return failed(program, error, around, stopping, failure)
  }
}

function isVersionFlag(arg: string): boolean {
  return arg === '--version' || arg === '-V'
}

function say(text: string, { stdout }: Surroundings): number {
  stdout.write(`${text}\n`)
  return 0
}

/** Help that nobody asked for is an error: a script would go on. */
function help(
  request: Request & { wants: 'help' },
  program: string,
  commands: readonly Command[],
  around: Surroundings,
): number {
  const { stdout, stderr } = around
  const text = helpOf(request.words, commands, program, widthOf(request.asked ? stdout : stderr))
  if (request.asked) return say(text, around)
  stderr.write(`${text}\n`)
  return 2
}

/**
 * The words that are meant, and the commands they may name: `rebuildctl …` is `ctl …`; upstream's daemon has no
 * subcommand: `rebuilderd -c FILE` is `serve -c FILE`.
 */
async function understood(
  program: string,
  argv: readonly string[],
): Promise<{ words: readonly string[]; commands: readonly Command[] }> {
  const implied = impliedWord(program)
  const words = implied === undefined ? argv : [implied, ...argv]
  const commands = await commandsFor(words)
  const isOurs = (arg: string): boolean => isVersionFlag(arg) || /^(-h|--help|-C|--color)$/.test(arg)
  const mayBeServe = implied === undefined && argv[0]?.startsWith('-') === true && !argv.every(isOurs)
  const isServe = mayBeServe && probe(argv, commands) === 'help'
  return { words: isServe ? ['serve', ...argv] : words, commands }
}

/** Whether an argv names a command; one that cannot be read names some. */
function probe(argv: readonly string[], commands: readonly Command[]): Request['wants'] | 'unclear' {
  try {
    const request = parse(argv, commands, {})
    return request.wants === 'help' && request.words.length > 0 ? 'unclear' : request.wants
  } catch {
    return 'unclear'
  }
}

/** The first signal asks to end, the second one to hurry; who does not listen to that is ended. */
function watchSignals(stopping: AbortController): () => AbortSignal {
  const hurrying = new AbortController()
  let listens = false
  for (const [name, code] of Object.entries(signals)) {
    process.on(name, () => {
      if (!stopping.signal.aborted) stopping.abort(new Stopped(code))
      else if (listens && !hurrying.signal.aborted) hurrying.abort(new Stopped(code))
      else process.exit(code)
    })
  }
  return () => {
    listens = true
    return hurrying.signal
  }
}

/** `ctl pkgs ls | head`: who reads has enough; that is no error. A full disk is one. */
function stopQuietlyWithoutReader(program: string, stopping: AbortController): void {
  process.stdout.on('error', (error: NodeJS.ErrnoException) => {
    if (error.code === 'EPIPE') return stopping.abort(new Stopped(0))
    process.stderr.write(`${program}: writing the output: ${error.message}\n`)
    process.exit(1)
  })
  process.stderr.on('error', () => {})
}

/** Prints an error and gives the exit code for it: that of the complaint, unless it only says that it could not be done. */
function failed(
  program: string,
  error: unknown,
  { stderr }: Surroundings,
  signal: AbortSignal,
  failure = 1,
): number {
  if (signal.aborted && signal.reason instanceof Stopped) return signal.reason.exitCode
  stderr.write(`${program}: ${printable(explain(error), true)}\n`)
  const code = complaintOf(error)?.exitCode ?? 1
  return code === 1 ? failure : code
}

/** Resolves when standard output took all; what is written to pipes may wait for its reader. */
async function written(stdout: Output): Promise<void> {
  await setImmediate() // what went wrong with the last write is told after it
  if (stdout.writableLength === 0 || stdout.destroyed) return
  await new Promise<void>((resolve) => {
    const done = (): void => {
      stdout.off('error', done)
      resolve()
    }
    stdout.once('error', done)
    stdout.write('', done)
  })
}

/** A terminal that does not know its size says 0. */
function widthOf({ columns }: Output): number | undefined {
  return columns === 0 ? undefined : columns
}

function contextOf(
  program: string,
  options: Readonly<Record<string, unknown>>,
  around: Surroundings,
  signal: AbortSignal,
  hurry: () => AbortSignal,
): Context {
  const { env: environment, stdout, stderr } = around
  const isTerminal = stdout.isTTY ?? false
  return {
    out: (line) => void stdout.write(`${line}\n`),
    write: (chunk) => void stdout.write(chunk),
    written: () => written(stdout),
    err: (line) => void stderr.write(`${line}\n`),
    writeError: (text) => void stderr.write(text),
    log: openLog({
      level:
        wantedSeverity(environment['RUST_LOG']) ?? (Number(options['verbose'] ?? 0) > 0 ? 'debug' : 'info'),
      write: (line) => void stderr.write(`${line}\n`),
    }),
    signal,
    hurry,
    isTerminal,
    showsProgress: stderr.isTTY ?? false,
    colours: options['color'] === true || wantsColours(environment, isTerminal),
    get columns() {
      return widthOf(stdout) ?? widthOf(stderr) ?? 80 // it may be resized at any time
    },
    environment,
    input: around.stdin,
    program,
    allCommands,
  }
}

/** The conventions of https://no-color.org and https://bixense.com/clicolors/. */
export function wantsColours(
  environment: Readonly<Record<string, string | undefined>>,
  isTerminal: boolean,
): boolean {
  const isSet = (name: string): boolean => (environment[name] ?? '') !== ''
  if (isSet('NO_COLOR')) return false
  if (isSet('CLICOLOR_FORCE') && environment['CLICOLOR_FORCE'] !== '0') return true
  return isTerminal && environment['CLICOLOR'] !== '0' && environment['TERM'] !== 'dumb'
}

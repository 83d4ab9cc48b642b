/** How important a line is; the number is syslog's (RFC 5424 section 6.2.1). */
const severity = { error: 3, warning: 4, info: 6, debug: 7 } as const
export type Severity = keyof typeof severity

export type Log = {
  error: (text: string) => void
  warning: (text: string) => void
  info: (text: string) => void
  debug: (text: string) => void
}

type LogOptions = {
  /** The least important lines that are still written. */
  level: Severity
  /** Where lines go; a line has no line end. */
  write?: (line: string) => void
  /** Under systemd lines carry `<priority>` instead of a time (sd-daemon(3)). */
  systemd?: boolean
  now?: () => Date
}

/** One line per event on standard error. */
export function openLog(options: LogOptions): Log {
  const {
    level,
    write = toStderr,
    systemd = process.env['JOURNAL_STREAM'] !== undefined,
    now = () => new Date(),
  } = options
  const say = (as: Severity) => (text: string) => {
    if (severity[as] > severity[level]) return
    const line = printable(text)
    write(systemd ? `<${severity[as]}>${line}` : `${now().toISOString()} ${as.padEnd(7)} ${line}`)
  }
  return { error: say('error'), warning: say('warning'), info: say('info'), debug: say('debug') }
}

const levels: Readonly<Record<string, Severity>> = {
  off: 'error',
  error: 'error',
  warn: 'warning',
  info: 'info',
  debug: 'debug',
  trace: 'debug',
}

/**
 * What a filter of RUST_LOG asks of us: `debug`, `warn,rebuilderd=debug` (docs.rs/env_logger). Units of existing
 * installations set it; filters for other programs' parts mean nothing here. Null: it asks for nothing.
 */
export function wantedSeverity(filter: string | undefined): Severity | null {
  let [ours, everything]: (Severity | undefined)[] = []
  for (const directive of (filter ?? '').toLowerCase().split(',')) {
    const [target = '', level] = directive.trim().split('=')
    if (level === undefined) everything = levels[target] ?? everything
    else if (/^rebuild(erd|ctl)\b/.test(target)) ours = levels[level] ?? ours
  }
  return ours ?? everything ?? null
}

/** A log that nobody reads, for tests and one-off calls. */
export const silentLog: Log = { error: nothing, warning: nothing, info: nothing, debug: nothing }

function nothing(): void {}

function toStderr(line: string): void {
  process.stderr.write(`${line}\n`)
}

/**
 * Text from outside made harmless for a terminal or a log line: control characters, escape sequences and
 * bidirectional overrides become visible escapes. Tabs stay; line ends stay only when `lines` is true.
 */
export function printable(text: string, lines = false): string {
  return text.replace(
    /[\u0000-\u0008\u000a-\u001f\u007f-\u009f\u2028\u2029\u202a-\u202e\u2066-\u2069]/g,
    (character) => {
      if (lines && character === '\n') return character
      const code = character.codePointAt(0) ?? 0
      return code < 256
        ? `\\x${code.toString(16).padStart(2, '0')}`
        : `\\u${code.toString(16).padStart(4, '0')}`
    },
  )
}

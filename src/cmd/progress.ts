import { printable, type Log } from '../log.ts'
import type { Context } from './command.ts'

/** A line on the terminal that is written over again and again; without a terminal nothing. */
export type ProgressLine = {
  show: (text: string) => void
  clear: () => void
  /** The same log, for which the line makes room. */
  log: Log
}

const leastMilliseconds = 80

/** A line on standard error that is drawn over itself, where that is a terminal. */
export function openProgressLine(context: Context, now: () => number = Date.now): ProgressLine {
  let shownAt = -Infinity
  let isShown = false
  const clear = (): void => {
    if (isShown) context.writeError('\r\u001b[K')
    isShown = false
  }
  const making =
    (say: (text: string) => void) =>
    (text: string): void => {
      clear()
      say(text)
    }
  const { log } = context
  return {
    show(text) {
      if (!context.showsProgress || now() - shownAt < leastMilliseconds) return
      shownAt = now()
      isShown = true
      context.writeError(`\r\u001b[K${printable(text).slice(0, context.columns - 1)}`)
    },
    clear,
    log: {
      error: making(log.error),
      warning: making(log.warning),
      info: making(log.info),
      debug: making(log.debug),
    },
  }
}

/** Bytes for people: `12.3 MB`. */
export function shownBytes(bytes: number): string {
  const units = ['B', 'kB', 'MB', 'GB', 'TB']
  const power = bytes < 1000 ? 0 : Math.min(units.length - 1, Math.floor(Math.log10(bytes) / 3))
  const value = bytes / 1000 ** power
  return `${power === 0 ? value : value.toFixed(1)} ${units[power]}`
}

import type { Context } from '../command.ts'
import { openProgressLine } from '../progress.ts'

/** Tells a person how far we are: lines that stay, and below them one that changes. */
export type Teller = {
  say: (line: string) => void
  /** On a terminal the changing line; elsewhere a line that stays, but only now and then. */
  status: (text: string) => void
  /** Removes the changing line. */
  quiet: () => void
}

/** Without a terminal somebody reads a log, who only wants to know that it goes on. */
const quietMilliseconds = 15_000
const spinner = ['|', '/', '-', '\\']

/** What the demo says, with a line of progress below it. */
export function openTeller(context: Context, now: () => number = Date.now): Teller {
  const line = openProgressLine(context)
  let saidAt = now()
  let turns = 0
  const say = (text: string): void => {
    line.clear()
    saidAt = now()
    context.out(text)
  }
  return {
    say,
    status(text) {
      if (context.showsProgress) line.show(`${spinner[turns++ % spinner.length]} ${text}`)
      else if (now() - saidAt >= quietMilliseconds) say(`  ${text}`)
    },
    quiet: line.clear,
  }
}

import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { printable } from '../log.ts'
import type { Context } from './command.ts'
import { paintFor, type Paint } from './output.ts'

/**
 * Shows a log or a diff: as it is where somebody else reads it, harmless and in a pager on a terminal.
 * `NOPAGER` turns the pager off, `PAGER` names another one.
 */
export async function showText(bytes: Uint8Array, kind: 'log' | 'diff', context: Context): Promise<void> {
  if (!context.isTerminal) return context.write(bytes)
  const text = harmless(new TextDecoder().decode(bytes), kind, paintFor(context.colours))
  const shown =
    context.environment['NOPAGER'] === undefined && (await throughPager(text, context.environment))
  if (!shown) context.write(text)
}

/** Text whose colours are ours alone: what builds print may hold any escape sequence. */
export function harmless(text: string, kind: 'log' | 'diff', paint: Paint): string {
  const bare = text.replaceAll('\r\n', '\n').replace(/\u001b\[[0-9;:]*m/g, '')
  const lines = printable(bare, true)
  return kind === 'log'
    ? lines
    : lines
        .split('\n')
        .map((line) => paintedDiffLine(line, paint))
        .join('\n')
}

function paintedDiffLine(line: string, paint: Paint): string {
  const [, mark = ''] = /^[│ ]*([-+@])/.exec(line) ?? []
  switch (mark) {
    case '-':
      return paint.red(line)
    case '+':
      return paint.green(line)
    case '@':
      return paint.blue(line)
    default:
      return line
  }
}

/** False where there is no pager to be had. It gets signals from the terminal itself; we wait until it ends. */
async function throughPager(text: string, environment: Context['environment']): Promise<boolean> {
  const named = environment['PAGER'] ?? ''
  const pager =
    named === ''
      ? spawn('less', ['-R'], { stdio: ['pipe', 'inherit', 'inherit'] })
      : spawn(named, { shell: true, stdio: ['pipe', 'inherit', 'inherit'] })
  pager.stdin.on('error', () => {}) // left before the end of the text
  const ended = once(pager, 'close').then(([code]) => code !== 127) // what a shell says of a program it does not find
  pager.stdin.end(text)
  return ended.catch(() => false)
}

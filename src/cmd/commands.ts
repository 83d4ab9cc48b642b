import type { Command } from './command.ts'
import { completions } from './ctl-completions.ts'
import { pkgsLs } from './ctl-packages.ts'
import { queueDrop, queueLs, queuePush } from './ctl-queue.ts'
import { resultCommands } from './ctl-results.ts'
import { status, workersLs } from './ctl-status.ts'

/** Every command, in the order of --help. What a command needs besides is imported when it runs. */
export const commands: readonly Command[] = [
  status,
  pkgsLs,
  ...resultCommands,
  queueLs,
  queuePush,
  queueDrop,
  workersLs,
  completions,
]

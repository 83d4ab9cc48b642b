import type { Command } from './command.ts'
import { completions } from './ctl-completions.ts'
import { queuePause, queueResume, queueRetry, syncStatus, why } from './ctl-control.ts'
import { pkgsLs } from './ctl-packages.ts'
import { queueDrop, queueLs, queuePush } from './ctl-queue.ts'
import { resultCommands } from './ctl-results.ts'
import { pkgsSync, pkgsSyncProfile, pkgsSyncStdin } from './ctl-sync.ts'
import { workersDrain, workersResume } from './ctl-workers.ts'
import { demo } from './demo.ts'
import { manual } from './manual.ts'
import { serve } from './serve.ts'
import { workerCommands } from './worker.ts'
import { status, workersLs, workersRm } from './ctl-status.ts'

/** Every command, in the order of --help. What a command needs besides is imported when it runs. */
export const commands: readonly Command[] = [
  demo,
  serve,
  ...workerCommands,
  status,
  pkgsLs,
  ...resultCommands,
  pkgsSync,
  pkgsSyncProfile,
  pkgsSyncStdin,
  queueLs,
  queuePush,
  queueDrop,
  queueRetry,
  queuePause,
  queueResume,
  why,
  syncStatus,
  workersLs,
  workersRm,
  workersDrain,
  workersResume,
  completions,
  manual,
]

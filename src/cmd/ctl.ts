import type { Command } from './command.ts'
import { check } from './ctl-check.ts'
import { completions } from './ctl-completions.ts'
import { queuePause, queueResume, queueRetry, syncStatus, why } from './ctl-control.ts'
import { dbCommands } from './ctl-db.ts'
import { pkgsLs } from './ctl-packages.ts'
import { queueDrop, queueLs, queuePush } from './ctl-queue.ts'
import { resultCommands } from './ctl-results.ts'
import { status, workersLs, workersRm } from './ctl-status.ts'
import { pkgsSync, pkgsSyncProfile, pkgsSyncStdin } from './ctl-sync.ts'
import { queueWatch } from './ctl-watch.ts'
import { workersDrain, workersResume } from './ctl-workers.ts'

/** What a person asks of a server, and tells it. */
export const ctlCommands: readonly Command[] = [
  status,
  pkgsLs,
  ...resultCommands,
  pkgsSync,
  pkgsSyncProfile,
  pkgsSyncStdin,
  queueLs,
  queueWatch,
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
  ...dbCommands,
  check,
  completions,
]

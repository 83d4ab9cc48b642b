import { readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:net'
import { join } from 'node:path'
import { Complaint } from '../../errors.ts'

/** Holds a data folder for this process. */
type Lock = { release: () => Promise<void> }

/**
 * Takes a data folder for this process alone. The lock is an abstract socket named after the folder's device and
 * inode, so it goes with the process however that ends; a pid file beside the data names the holder, and keeps
 * away processes of other network namespaces (containers), which do not see the socket.
 * @throws Complaint where another process holds the folder
 */
export async function lockFolder(folder: string): Promise<Lock> {
  const { dev, ino } = statSync(folder)
  const pidFile = join(folder, 'rebuilderd.pid')
  const server = createServer()
  await new Promise<void>((resolve, reject) => {
    server.once('error', () => reject(inUse(folder, holderOf(pidFile))))
    server.listen(`\0rebuilderd-${dev}-${ino}`, resolve)
  })
  server.unref()
  const holder = holderOf(pidFile)
  if (holder !== null && holder !== process.pid && isRebuilderd(holder)) {
    server.close()
    throw inUse(folder, holder)
  }
  writeFileSync(pidFile, `${process.pid}\n`, { mode: 0o600 })
  return {
    async release() {
      rmSync(pidFile, { force: true })
      await new Promise((resolve) => server.close(resolve))
    },
  }
}

function inUse(folder: string, holder: number | null): Complaint {
  const who = holder === null ? 'another server' : `another server (process ${holder})`
  return new Complaint(`the data folder ${folder} is in use by ${who}`, {
    hint: 'stop that one first, or give this one a folder of its own with --data',
  })
}

function holderOf(pidFile: string): number | null {
  try {
    const pid = Number(readFileSync(pidFile, 'utf8'))
    return Number.isInteger(pid) && pid > 0 ? pid : null
  } catch {
    return null
  }
}

/** Whether a process of that number runs and was started as we are; numbers are used again. */
function isRebuilderd(pid: number): boolean {
  try {
    return readFileSync(`/proc/${pid}/cmdline`, 'utf8').includes('serve')
  } catch {
    return false
  }
}

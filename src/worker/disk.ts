import { diskFree, filesFree } from './free.ts'

const everyMilliseconds = 2000
/** Other jobs and the worker itself need some, too. */
const fewestFiles = 2000

/** Watches the free space of the disk that holds a folder; `full` is aborted once there is less than `minFreeBytes`. */
export function watchDisk(folder: string, minFreeBytes: number): { full: AbortSignal; close: () => void } {
  const full = new AbortController()
  const look = async (): Promise<void> => {
    if ((await diskFree(folder)) < minFreeBytes || (await filesFree(folder)) < fewestFiles) full.abort()
  }
  const timer = setInterval(() => void look().catch(() => clearInterval(timer)), everyMilliseconds)
  timer.unref()
  return { full: full.signal, close: () => clearInterval(timer) }
}

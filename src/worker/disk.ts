import { diskFree } from './free.ts'

const everyMilliseconds = 2000

/** Watches the free space of the disk that holds a folder; `full` is aborted once there is less than `minFreeBytes`. */
export function watchDisk(folder: string, minFreeBytes: number): { full: AbortSignal; close: () => void } {
  const full = new AbortController()
  const look = async (): Promise<void> => {
    if ((await diskFree(folder)) < minFreeBytes) full.abort()
  }
  const timer = setInterval(() => void look().catch(() => clearInterval(timer)), everyMilliseconds)
  timer.unref()
  return { full: full.signal, close: () => clearInterval(timer) }
}

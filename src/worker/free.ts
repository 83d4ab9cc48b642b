import { statfs, readFile } from 'node:fs/promises'
import { freemem, loadavg } from 'node:os'
import type { Free } from '../wire/workers.ts'

/** What this machine has left for builds in a folder. */
export async function freeHere(directory: string, diskWanted: number): Promise<Free> {
  const disk_free = await diskFree(directory)
  return { disk_free, memory_free: await memoryFree(), load: loadavg()[0] ?? 0, disk_wanted: diskWanted }
}

/** Files that may still be made on the disk of a folder; file systems that make room for them as needed tell none. */
export async function filesFree(directory: string): Promise<number> {
  const { files, ffree } = await statfs(directory)
  return files === 0 ? Infinity : ffree
}

/** Bytes that we may still write to the disk of a folder. */
export async function diskFree(directory: string): Promise<number> {
  const { bavail, bsize } = await statfs(directory)
  return bavail * bsize
}

/** Caches count as free (proc_meminfo(5)). */
async function memoryFree(): Promise<number> {
  const text = await readFile('/proc/meminfo', 'latin1').catch(() => '')
  const [, kilobytes] = /^MemAvailable: +(\d+) kB$/m.exec(text) ?? []
  return kilobytes === undefined ? freemem() : Number(kilobytes) * 1024
}

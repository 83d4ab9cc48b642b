import { existsSync, readFileSync, readdirSync } from 'node:fs'
import { join } from 'node:path'

type Leftovers = { mounts: string[]; groups: string[]; processes: string[]; entries: string[] }

/** What a job has left on this machine: things that bear the name of its folder, or of our process. */
export function leftovers(folder: string): Leftovers {
  return {
    mounts: linesWith('/proc/self/mountinfo', folder),
    groups: groupFolders().filter((name) => name.includes(`rebuilderd-${process.pid}-`)),
    processes: processesWith(folder),
    entries: existsSync(folder) ? readdirSync(folder).sort() : [],
  }
}

/** Nothing but the folder for the outputs. */
export const clean: Leftovers = { mounts: [], groups: [], processes: [], entries: ['out'] }

export function linesWith(file: string, text: string): string[] {
  return readFileSync(file, 'utf8')
    .split('\n')
    .filter((line) => line.includes(text))
}

/** Seconds that nothing sleeps to their end: a number of this process alone, which tells its sleepers from those of other tests. */
export const forEver = `7654321.${String(process.pid).padStart(8, '0')}`

/** Names of control groups at the places where workers make theirs. */
export function groupFolders(): string[] {
  const lines = readFileSync('/proc/self/cgroup', 'utf8').split('\n')
  const own = lines.map((line) => line.split(':')[2] ?? '').filter((path) => path !== '')
  const roots = ['', 'unified', 'memory', 'pids'].map((name) => join('/sys/fs/cgroup', name))
  return roots.flatMap((root) => ['/', ...own].flatMap((path) => foldersIn(join(root, path))))
}

function foldersIn(folder: string): string[] {
  return existsSync(folder) ? readdirSync(folder) : []
}

/** Processes whose arguments or environment name the folder, this one aside. */
export function processesWith(text: string): string[] {
  return readdirSync('/proc').filter((id) => {
    if (!/^\d+$/.test(id) || Number(id) === process.pid) return false
    return contentOf(`/proc/${id}/cmdline`).includes(text) || contentOf(`/proc/${id}/environ`).includes(text)
  })
}

/** Kills them all. */
export function killWith(text: string): void {
  for (const id of processesWith(text)) kill(Number(id))
}

/** Kills a process, unless it has ended meanwhile. */
export function kill(id: number): void {
  try {
    process.kill(id, 'SIGKILL')
  } catch {
    // It has.
  }
}

/** The content of a file below /proc; empty where the process has ended meanwhile, or is not ours. */
export function contentOf(file: string): string {
  try {
    return readFileSync(file, 'latin1')
  } catch {
    return ''
  }
}

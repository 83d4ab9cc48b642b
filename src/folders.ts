import { existsSync, mkdirSync, statSync } from 'node:fs'
import { dirname } from 'node:path'
import { Complaint } from './errors.ts'

/**
 * Makes a folder that a person named, and those above it. Node's own recursive way never ends where a file system
 * refuses with ENOENT, as /proc does (mkdir(2)).
 * @param mode of the folders that are made, before the umask
 * @throws Complaint where something else is there, or the file system has no place for a folder; else what the system says
 */
export function makeFolders(path: string, mode = 0o777): void {
  if (isFolder(path)) return
  const above = dirname(path)
  if (above !== path) makeFolders(above, mode)
  try {
    mkdirSync(path, { mode })
  } catch (error) {
    if (isFolder(path)) return // another process was faster
    throw complaintOn(path, error) ?? error
  }
}

function complaintOn(path: string, error: unknown): Complaint | null {
  const code = error instanceof Error && 'code' in error ? error.code : undefined
  if (code === 'EEXIST') return new Complaint(`${path} is no folder`)
  const above = dirname(path)
  return code === 'ENOENT' && existsSync(above) ? new Complaint(`no folder can be made in ${above}`) : null
}

function isFolder(path: string): boolean {
  return statSync(path, { throwIfNoEntry: false })?.isDirectory() ?? false
}

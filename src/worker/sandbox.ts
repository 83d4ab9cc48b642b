import { execFile } from 'node:child_process'
import { opendirSync, rmSync } from 'node:fs'
import { rm, unlink, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { asset } from '../assets.ts'

/**
 * How our user gets into namespaces (user_namespaces(7)): `none`: as root, `auto`: with the range of ids in
 * /etc/subuid, `single`: with its own id alone.
 */
export type UserNamespace = 'none' | 'auto' | 'single'

export type SandboxPlan = {
  /** Path of backends/sandbox.pl on disk. */
  script: string
  userNamespace: UserNamespace
  /** Folders and files that may be written, seen at the same path. */
  writable: readonly string[]
  /** Folder seen as /tmp and as /var/tmp. */
  temporary: string
  readable: readonly string[]
  /** Folders and files in whose place an empty one is seen. */
  hidden: readonly string[]
  /** What is seen elsewhere than it is: where it is, where it is seen. */
  placed?: readonly (readonly [source: string, target: string])[]
  network: boolean
  /** Runs the command as this user without any rights; absent: as root of the sandbox. */
  user?: number
  /** Processes at once, where no control group limits them. */
  processes: number | null
  directory: string
}

const run = promisify(execFile)
/** Long enough for a machine under load: for as long as the worker runs it is believed what was found. */
const probeMilliseconds = 120_000

/** Puts the script that makes sandboxes into a folder. @returns its path */
export async function placeSandbox(folder: string): Promise<string> {
  const path = join(folder, 'sandbox.pl')
  await writeFile(path, asset('backends/sandbox.pl'), { mode: 0o500 })
  return path
}

/** What a sandbox wants to find in its environment, and keeps from the command: perl says nothing of odd locales. */
export const sandboxEnvironment = { PERL_BADLANG: '0' }

/** What backends/sandbox.pl is told for a command. */
export function sandboxArguments(plan: SandboxPlan, command: readonly string[]): string[] {
  const options = ['--user-namespace', plan.userNamespace, '--directory', plan.directory]
  for (const path of ['/tmp', '/var/tmp']) options.push('--bind', plan.temporary, path)
  for (const path of plan.hidden) options.push('--hide', path)
  for (const [source, target] of plan.placed ?? []) options.push('--bind', source, target)
  for (const path of plan.readable) options.push('--read', path, path)
  for (const path of plan.writable) options.push('--bind', path, path)
  if (plan.network) options.push('--network')
  if (plan.user !== undefined) options.push('--user', String(plan.user))
  if (plan.processes !== null && plan.userNamespace !== 'none')
    options.push('--processes', String(plan.processes))
  return [...options, '--', ...command]
}

/**
 * The kind of user namespace with which this machine lets us isolate, or null when it does not at all, as in most
 * containers. Found by trying; remembered, because it does not change while we run.
 */
export async function findUserNamespace(script: string, signal: AbortSignal): Promise<UserNamespace | null> {
  found ??= probe(script) // for all who ask, so nobody's signal may end it
  const kind = await found
  signal.throwIfAborted()
  return kind
}
let found: Promise<UserNamespace | null> | undefined // a property of the machine, not of a job

async function probe(script: string): Promise<UserNamespace | null> {
  const kinds: readonly UserNamespace[] =
    process.getuid?.() === 0 ? ['none', 'auto', 'single'] : ['auto', 'single']
  for (const kind of kinds) {
    if (await works(script, kind)) return kind
  }
  return null
}

/** Root inside a sandbox needs to look like root, and nested sandboxes must be possible. */
async function works(script: string, kind: UserNamespace): Promise<boolean> {
  const nested = ['perl', script, '--user', '1234', '--', 'true']
  const outer = ['--user-namespace', kind, '--read', script, script, '--', ...nested]
  try {
    await run('perl', [script, ...outer], { timeout: probeMilliseconds, killSignal: 'SIGKILL' })
    return true
  } catch {
    return false
  }
}

/**
 * Removes a folder whatever a build left in it: a million files, for which Node would need gigabytes of memory, or
 * folders nested deeper than a path may be long. In a user namespace its files may belong to ids that are not ours,
 * and there we may remove them.
 */
export async function removeFolder(folder: string): Promise<void> {
  const ways = [
    async () => {
      const { size, files } = lookedInto(folder)
      if (size === 'large') await run('rm', ['-rf', '--', folder])
      else if (size === 'small') await removed(folder)
      else await removedAtOnce(folder, files)
    },
    () => run('rm', ['-rf', '--', folder]),
    () => run('unshare', [...asRoot, '--map-auto', 'rm', '-rf', '--', folder]),
    () => run('unshare', [...asRoot, 'rm', '-rf', '--', folder]),
  ]
  for (const way of ways) {
    const isDone = await way().then(
      () => true,
      () => false,
    )
    if (isDone) return
  }
  await removed(folder) // says what is in the way
}

const asRoot = ['--user', '--map-root-user']

/** Files by other threads: a disk that is told of the room that gets free (mount(8), `discard`) makes us wait for it. */
async function removedAtOnce(folder: string, files: readonly string[]): Promise<void> {
  await Promise.all(files.map((path) => unlink(path)))
  rmSync(folder, { recursive: true, force: true })
}

function removed(folder: string): Promise<void> {
  return rm(folder, { recursive: true, force: true, maxRetries: 3 })
}

/** Fewer are removed faster without another program. */
const mostEntries = 500
/** Folders of so few entries are removed at once, without a detour for each of them. */
const fewEntries = 64

type Look = { size: 'tiny' | 'small' | 'large'; files: readonly string[] }

/** Looked at at once, too: the number of entries is bounded, and a detour for each would take ten times as long. */
function lookedInto(folder: string): Look {
  const open = [folder]
  const files: string[] = []
  let entries = 0
  for (let next = open.pop(); next !== undefined; next = open.pop()) {
    for (const { name, isFolder } of entriesOf(next, mostEntries + 1 - entries)) {
      entries += 1
      const into = isFolder ? open : files
      into.push(join(next, name))
    }
    if (entries > mostEntries) return { size: 'large', files: [] }
  }
  return { size: entries <= fewEntries ? 'tiny' : 'small', files }
}

/** Some entries of a folder: it may have a million. None where it is gone, no folder or not ours: its removal will tell. */
function entriesOf(folder: string, most: number): { name: string; isFolder: boolean }[] {
  const found: { name: string; isFolder: boolean }[] = []
  try {
    const reading = opendirSync(folder)
    try {
      for (let entry = reading.readSync(); entry !== null && found.length < most; entry = reading.readSync())
        found.push({ name: entry.name, isFolder: entry.isDirectory() })
    } finally {
      reading.closeSync()
    }
  } catch {
    return found
  }
  return found
}

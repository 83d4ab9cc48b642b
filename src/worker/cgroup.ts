import { randomBytes } from 'node:crypto'
import { mkdirSync, readFileSync, readdirSync, readlinkSync, writeFileSync } from 'node:fs'
import { readdir, rmdir } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'

type GroupLimits = {
  /** Bytes of memory, null: no limit. */
  memoryBytes: number | null
  /** Processes and threads at once, null: no limit. */
  processes: number | null
}

/** What a control group saw: one of its limits was reached, or the machine itself had no memory left for it. */
export type Exceeded = 'memory' | 'processes' | 'machine' | null

/** One job's control groups (cgroups(7)): a set of folders under /sys/fs/cgroup, one per hierarchy. */
export type ControlGroup = {
  /** Files into which a process writes its id to join. */
  joinFiles: readonly string[]
  /** Which limits are in force on this machine. */
  limited: { memory: boolean; processes: boolean }
  exceeded: () => Exceeded
  /** Kills all members; true when that is certain. */
  kill: () => Promise<boolean>
  remove: () => Promise<void>
}

type Hierarchy = { root: string; own: string; version: 1 | 2 }

/**
 * Makes control groups for one job below our own ones, as far as this machine lets us: v2 with `cgroup.kill`,
 * v1 for memory and processes, both on machines with the hybrid layout, none at all without the right to.
 */
export async function openControlGroup(limits: GroupLimits): Promise<ControlGroup> {
  const name = groupName(randomBytes(4).toString('hex'))
  const unified = await settledOnce()
  await sweepOnce(unified)
  const v2 = unified === null ? null : await makeUnified(unified, name)
  const memory =
    (await limited(v2, 'memory.max', limits.memoryBytes)) ??
    (await limited(makeOld('memory', name), 'memory.limit_in_bytes', limits.memoryBytes))
  const processes =
    (await limited(v2, 'pids.max', limits.processes)) ??
    (await limited(makeOld('pids', name), 'pids.max', limits.processes))
  if (memory !== null && memory !== v2) denySwap(memory, limits.memoryBytes)
  const folders = [...new Set([v2, memory, processes].filter((folder) => folder !== null))]
  return {
    joinFiles: folders.map((folder) => join(folder, 'cgroup.procs')),
    limited: { memory: memory !== null, processes: processes !== null },
    exceeded: () => exceededIn(memory, processes),
    kill: () => killMembers(v2, folders),
    remove: () => removeAll(folders),
  }
}

/** Tells whose group it is, for whoever finds it when that is over. */
function groupName(end: string): string {
  ownName ??= `rebuilderd-${process.pid}-${startOf(process.pid)}-${ownProcessSpace()}`
  return `${ownName}-${end}`
}
let ownName: string | undefined // of this process

let settled: Promise<Hierarchy | null> | undefined // our place does not change, and we leave it once

/** Our group in the unified hierarchy, ready to have groups with controllers below it where that can be. */
function settledOnce(): Promise<Hierarchy | null> {
  settled ??= settle()
  return settled
}

async function settle(): Promise<Hierarchy | null> {
  const unified = unifiedHierarchy()
  if (unified !== null) await handOn(unified)
  return unified
}

let swept: Promise<void> | undefined // once per process is enough

/** Removes groups of workers that were killed before they could. */
function sweepOnce(unified: Hierarchy | null): Promise<void> {
  swept ??= sweep(unified)
  return swept
}

async function sweep(unified: Hierarchy | null): Promise<void> {
  const parents = unified === null ? [] : [unified.root, join(unified.root, unified.own)]
  for (const controller of ['memory', 'pids'] as const) {
    const own = ownGroup(controller)
    if (own !== null) parents.push(join('/sys/fs/cgroup', controller, own))
  }
  const space = ownProcessSpace()
  for (const parent of new Set(parents)) {
    for (const name of namesIn(parent)) {
      const [, owner, start, where] = /^rebuilderd-(\d+)-(\d+)-(\d+)-[0-9a-f]{8}$/.exec(name) ?? []
      if (owner === undefined || where !== space) continue // of a worker in a container, say: it may well live
      if (startOf(Number(owner)) === start) continue
      const folder = join(parent, name)
      await killMembers(folder, [folder])
      await removeAll([folder])
    }
  }
}

/** The space in which process ids mean something: groups may be seen from several (pid_namespaces(7)). */
function ownProcessSpace(): string {
  try {
    return /\d+/.exec(readlinkSync('/proc/self/ns/pid'))?.[0] ?? '0'
  } catch {
    return '0'
  }
}

/** When a process started, in ticks: its id may be another's by now (proc_pid_stat(5), field 22). */
function startOf(id: number): string | null {
  const text = textOf(`/proc/${id}/stat`)
  return text?.replace(/^.*\) /s, '').split(' ')[19] ?? null
}

/** Where the unified hierarchy is mounted and which group we are in. */
function unifiedHierarchy(): Hierarchy | null {
  for (const root of ['/sys/fs/cgroup', '/sys/fs/cgroup/unified']) {
    if (textOf(join(root, 'cgroup.controllers')) === null) continue
    return { root, own: ownGroup('') ?? '/', version: 2 }
  }
  return null
}

/** Our group in a hierarchy: `0::/path` for v2, `4:memory:/path` for v1 (proc_pid_cgroup(5)). */
function ownGroup(controller: string): string | null {
  const lines = (textOf('/proc/self/cgroup') ?? '').split('\n')
  for (const line of lines) {
    const [, controllers = '', path = '/'] = /^\d+:([^:]*):(.*)$/.exec(line) ?? []
    if (line !== '' && controllers.split(',').includes(controller)) return path
  }
  return null
}

const wanted = ['memory', 'pids']

/**
 * Has our own group hand its controllers on to groups below it. On a machine with v2 alone no group can that has
 * processes of its own (cgroup-v2.rst, "No Internal Process Constraint"): so we leave it for a leaf beside those of
 * the builds. That helps where the group is ours alone, as that of a service with `Delegate=yes` is.
 */
export async function handOn(
  { root, own }: Hierarchy,
  controllers: readonly string[] = wanted,
): Promise<void> {
  const group = join(root, own)
  const ask = (): boolean =>
    written(join(group, 'cgroup.subtree_control'), controllers.map((name) => `+${name}`).join(' '))
  if (ask()) return
  const leaf = made(join(group, groupName('0'.repeat(8))))
  if (leaf === null) return
  const moved = written(join(leaf, 'cgroup.procs'), String(process.pid))
  if (moved && ask()) return
  written(join(group, 'cgroup.procs'), String(process.pid)) // others are there, too
  await removeAll([leaf])
}

/**
 * Below our own group if its controllers are handed on, else below the root of the hierarchy, which systemd
 * lets hand them on; a group without controllers still has `cgroup.kill`.
 * @returns its folder, null where we may make none
 */
export async function makeUnified(
  { root, own }: Hierarchy,
  name: string,
  controllers: readonly string[] = wanted,
): Promise<string | null> {
  let plain: string | null = null
  for (const parent of new Set([join(root, own), root])) {
    const folder = made(join(parent, name))
    if (folder === null) continue
    const there = (textOf(join(folder, 'cgroup.controllers')) ?? '').trim().split(' ')
    if (controllers.every((controller) => there.includes(controller))) {
      if (plain !== null) await removeAll([plain])
      return folder
    }
    if (plain === null) plain = folder
    else await removeAll([folder])
  }
  return plain
}

const oldGroups = new Map<string, string | null>() // like the unified one

function makeOld(controller: 'memory' | 'pids', name: string): string | null {
  const known = oldGroups.get(controller)
  const own = known === undefined ? ownGroup(controller) : known
  oldGroups.set(controller, own)
  return own === null ? null : made(join('/sys/fs/cgroup', controller, own, name))
}

async function limited(folder: string | null, file: string, limit: number | null): Promise<string | null> {
  if (folder === null) return null
  if (limit !== null && written(join(folder, file), String(limit))) return folder
  if (file !== 'memory.max' && file !== 'pids.max') await removeAll([folder])
  return null
}

/** Else a build over its limit would only get slow. */
function denySwap(folder: string, limit: number | null): void {
  if (limit !== null) written(join(folder, 'memory.memsw.limit_in_bytes'), String(limit))
}

function exceededIn(memory: string | null, processes: string | null): Exceeded {
  const killed = memory !== null && hasKilled(memory)
  if (killed) return wasReached(memory) ? 'memory' : 'machine'
  const refusals = processes === null ? 0 : counted(processes, ['pids.events'], 'max')
  return refusals > 0 ? 'processes' : null
}

/** Members were killed for want of memory, be it that of the group or that of the machine. */
function hasKilled(folder: string): boolean {
  return counted(folder, ['memory.events', 'memory.oom_control'], 'oom_kill') > 0
}

/** Whether the group's own limit stood in the way: v2 counts that, v1 tells how much was used at most. */
function wasReached(folder: string): boolean {
  const most = textOf(join(folder, 'memory.max_usage_in_bytes'))
  if (most === null) return counted(folder, ['memory.events'], 'oom') > 0
  return Number(most) >= Number(textOf(join(folder, 'memory.limit_in_bytes')))
}

/** The number behind a word in the first of these files that is there. */
function counted(folder: string, files: readonly string[], word: string): number {
  for (const file of files) {
    const text = textOf(join(folder, file))
    if (text !== null) return Number(new RegExp(`^${word} (\\d+)$`, 'm').exec(text)?.[1] ?? 0)
  }
  return 0
}

/** How long members that were killed may take to end: on a machine with much else to do each has to wait for its turn. */
const patienceMilliseconds = 60_000

/** At one blow where the kernel can, else one by one. */
async function killMembers(v2: string | null, folders: readonly string[]): Promise<boolean> {
  if (v2 !== null && written(join(v2, 'cgroup.kill'), '1')) return true
  const [first] = folders
  if (first === undefined) return false
  // Without cgroup.kill a fork bomb may outrun us, so until nobody is left.
  for (const end = performance.now() + patienceMilliseconds; performance.now() < end;) {
    const members = (textOf(join(first, 'cgroup.procs')) ?? '').split('\n').filter((id) => id !== '')
    if (members.length === 0) return true
    for (const id of members) killOne(Number(id))
    await sleep(5)
  }
  return false
}

function killOne(id: number): void {
  try {
    process.kill(id, 'SIGKILL')
  } catch {
    // It has ended meanwhile.
  }
}

/** A group can be removed once the last member is gone, which takes the kernel a moment after the kill. */
async function removeAll(folders: readonly string[]): Promise<void> {
  for (const folder of folders) {
    const end = performance.now() + patienceMilliseconds
    for (let round = 0; !(await removed(folder)) && performance.now() < end; round++)
      await sleep(round < 20 ? 5 : 50)
  }
}

/** Not at once: there may be very many. */
async function removed(folder: string): Promise<boolean> {
  try {
    for (const entry of await readdir(folder, { withFileTypes: true })) {
      if (entry.isDirectory()) await removed(join(folder, entry.name)) // a build may have made groups of its own
    }
    await rmdir(folder)
    return true
  } catch (error) {
    return error instanceof Error && 'code' in error && error.code === 'ENOENT'
  }
}

// The rest at once: these reach no disk, and a detour for each would take ten times as long.

function made(folder: string): string | null {
  try {
    mkdirSync(folder, { mode: 0o755 })
    return folder
  } catch {
    return null
  }
}

function written(file: string, text: string): boolean {
  try {
    writeFileSync(file, text)
    return true
  } catch {
    return false
  }
}

function textOf(file: string): string | null {
  try {
    return readFileSync(file, 'utf8')
  } catch {
    return null
  }
}

function namesIn(folder: string): string[] {
  try {
    return readdirSync(folder)
  } catch {
    return []
  }
}

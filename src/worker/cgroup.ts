import { randomBytes } from 'node:crypto'
import { mkdir, readFile, readdir, readlink, rmdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'

export type GroupLimits = {
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
  exceeded: () => Promise<Exceeded>
  /** Kills all members; true when that is certain. */
  kill: () => Promise<boolean>
  remove: () => Promise<void>
}

export type Hierarchy = { root: string; own: string; version: 1 | 2 }

/**
 * Makes control groups for one job below our own ones, as far as this machine lets us: v2 with `cgroup.kill`,
 * v1 for memory and processes, both on machines with the hybrid layout, none at all without the right to.
 */
export async function openControlGroup(limits: GroupLimits): Promise<ControlGroup> {
  const name = await groupName(randomBytes(4).toString('hex'))
  const unified = await settledOnce()
  await sweepOnce(unified)
  const v2 = unified === null ? null : await makeUnified(unified, name)
  const memory =
    (await limited(v2, 'memory.max', limits.memoryBytes)) ??
    (await limited(await makeOld('memory', name), 'memory.limit_in_bytes', limits.memoryBytes))
  const processes =
    (await limited(v2, 'pids.max', limits.processes)) ??
    (await limited(await makeOld('pids', name), 'pids.max', limits.processes))
  if (memory !== null && memory !== v2) await denySwap(memory, limits.memoryBytes)
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
async function groupName(end: string): Promise<string> {
  ownName ??= Promise.all([startOf(process.pid), ownProcessSpace()])
  const [start, space] = await ownName
  return `rebuilderd-${process.pid}-${start}-${space}-${end}`
}
let ownName: Promise<[string | null, string]> | undefined // of this process

let settled: Promise<Hierarchy | null> | undefined // our place does not change, and we leave it once

/** Our group in the unified hierarchy, ready to have groups with controllers below it where that can be. */
function settledOnce(): Promise<Hierarchy | null> {
  settled ??= unifiedHierarchy().then(async (unified) => {
    if (unified !== null) await handOn(unified)
    return unified
  })
  return settled
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
    const own = await ownGroup(controller)
    if (own !== null) parents.push(join('/sys/fs/cgroup', controller, own))
  }
  const space = await ownProcessSpace()
  for (const parent of new Set(parents)) {
    for (const name of await readdir(parent).catch(() => [])) {
      const [, owner, start, where] = /^rebuilderd-(\d+)-(\d+)-(\d+)-[0-9a-f]{8}$/.exec(name) ?? []
      if (owner === undefined || where !== space) continue // of a worker in a container, say: it may well live
      if ((await startOf(Number(owner))) === start) continue
      const folder = join(parent, name)
      await killMembers(folder, [folder])
      await removeAll([folder])
    }
  }
}

/** The space in which process ids mean something: groups may be seen from several (pid_namespaces(7)). */
async function ownProcessSpace(): Promise<string> {
  const text = await readlink('/proc/self/ns/pid').catch(() => '')
  return /\d+/.exec(text)?.[0] ?? '0'
}

/** When a process started, in ticks: its id may be another's by now (proc_pid_stat(5), field 22). */
async function startOf(id: number): Promise<string | null> {
  const text = await textOf(`/proc/${id}/stat`)
  return text?.replace(/^.*\) /s, '').split(' ')[19] ?? null
}

/** Where the unified hierarchy is mounted and which group we are in. */
async function unifiedHierarchy(): Promise<Hierarchy | null> {
  for (const root of ['/sys/fs/cgroup', '/sys/fs/cgroup/unified']) {
    if ((await textOf(join(root, 'cgroup.controllers'))) === null) continue
    return { root, own: (await ownGroup('')) ?? '/', version: 2 }
  }
  return null
}

/** Our group in a hierarchy: `0::/path` for v2, `4:memory:/path` for v1 (proc_pid_cgroup(5)). */
async function ownGroup(controller: string): Promise<string | null> {
  const lines = ((await textOf('/proc/self/cgroup')) ?? '').split('\n')
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
  const ask = (): Promise<boolean> =>
    written(join(group, 'cgroup.subtree_control'), controllers.map((name) => `+${name}`).join(' '))
  if (await ask()) return
  const leaf = await made(join(group, await groupName('0'.repeat(8))))
  if (leaf === null) return
  const moved = await written(join(leaf, 'cgroup.procs'), String(process.pid))
  if (moved && (await ask())) return
  await written(join(group, 'cgroup.procs'), String(process.pid)) // others are there, too
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
    const folder = await made(join(parent, name))
    if (folder === null) continue
    const there = ((await textOf(join(folder, 'cgroup.controllers'))) ?? '').trim().split(' ')
    if (controllers.every((controller) => there.includes(controller))) {
      if (plain !== null) await removeAll([plain])
      return folder
    }
    if (plain === null) plain = folder
    else await removeAll([folder])
  }
  return plain
}

const oldGroups = new Map<string, Promise<string | null>>() // like the unified one

async function makeOld(controller: 'memory' | 'pids', name: string): Promise<string | null> {
  const asked = oldGroups.get(controller) ?? ownGroup(controller)
  oldGroups.set(controller, asked)
  const own = await asked
  return own === null ? null : made(join('/sys/fs/cgroup', controller, own, name))
}

async function limited(folder: string | null, file: string, limit: number | null): Promise<string | null> {
  if (folder === null) return null
  if (limit !== null && (await written(join(folder, file), String(limit)))) return folder
  if (file !== 'memory.max' && file !== 'pids.max') await removeAll([folder])
  return null
}

/** Else a build over its limit would only get slow. */
async function denySwap(folder: string, limit: number | null): Promise<void> {
  if (limit !== null) await written(join(folder, 'memory.memsw.limit_in_bytes'), String(limit))
}

async function exceededIn(memory: string | null, processes: string | null): Promise<Exceeded> {
  const killed = memory !== null && (await hasKilled(memory))
  if (killed) return (await wasReached(memory)) ? 'memory' : 'machine'
  const refusals = processes === null ? 0 : await counted(processes, ['pids.events'], 'max')
  return refusals > 0 ? 'processes' : null
}

/** Members were killed for want of memory, be it that of the group or that of the machine. */
async function hasKilled(folder: string): Promise<boolean> {
  return (await counted(folder, ['memory.events', 'memory.oom_control'], 'oom_kill')) > 0
}

/** Whether the group's own limit stood in the way: v2 counts that, v1 tells how much was used at most. */
async function wasReached(folder: string): Promise<boolean> {
  const most = await textOf(join(folder, 'memory.max_usage_in_bytes'))
  if (most === null) return (await counted(folder, ['memory.events'], 'oom')) > 0
  return Number(most) >= Number(await textOf(join(folder, 'memory.limit_in_bytes')))
}

/** The number behind a word in the first of these files that is there. */
async function counted(folder: string, files: readonly string[], word: string): Promise<number> {
  for (const file of files) {
    const text = await textOf(join(folder, file))
    if (text !== null) return Number(new RegExp(`^${word} (\\d+)$`, 'm').exec(text)?.[1] ?? 0)
  }
  return 0
}

/** At one blow where the kernel can, else one by one. */
async function killMembers(v2: string | null, folders: readonly string[]): Promise<boolean> {
  if (v2 !== null && (await written(join(v2, 'cgroup.kill'), '1'))) return true
  const [first] = folders
  if (first === undefined) return false
  // Without cgroup.kill a fork bomb may outrun us, so until nobody is left.
  for (let round = 0; round < 200; round++) {
    const members = ((await textOf(join(first, 'cgroup.procs'))) ?? '').split('\n').filter((id) => id !== '')
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
    for (let round = 0; round < 200; round++) {
      if (await removed(folder)) break
      await sleep(round < 20 ? 5 : 50)
    }
  }
}

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

async function made(folder: string): Promise<string | null> {
  try {
    await mkdir(folder, { mode: 0o755 })
    return folder
  } catch {
    return null
  }
}

async function written(file: string, text: string): Promise<boolean> {
  try {
    await writeFile(file, text)
    return true
  } catch {
    return false
  }
}

async function textOf(file: string): Promise<string | null> {
  try {
    return await readFile(file, 'utf8')
  } catch {
    return null
  }
}

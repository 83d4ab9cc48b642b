import { spawn, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, readFileSync, readdirSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'

/** A server in a process of its own, as an operator runs it. */
export type ServerProcess = {
  address: string
  cookie: string
  pid: number
  child: ChildProcess
  /** Milliseconds from its start until it said that it is ready. */
  readyAfter: number
  /** What it wrote to standard error so far. */
  said: () => string
  /** CPU seconds used so far, user and system. */
  cpu: () => number
  /** Milliseconds that its threads had a processor, and that they waited for one, of those threads that still are. */
  scheduled: () => { ran: number; waited: number }
  /** Megabytes resident, now and at most. */
  memory: () => { now: number; most: number }
  kill: (signal: NodeJS.Signals) => Promise<void>
}

const root = fileURLToPath(new URL('../../', import.meta.url))
export const signupSecret = 'bench'
/** What rebuilderd.service has in its environment. */
export const unitEnvironment = { MALLOC_ARENA_MAX: '2' } as const

type StartOptions = {
  data: string
  port?: number
  /** Run dist/rebuilderd where it is built. */
  built?: boolean
  /** Run this script instead of the source tree. */
  script?: string | undefined
  /** A configuration file. */
  config?: string
  environment?: Record<string, string>
  nodeOptions?: readonly string[]
}

/**
 * Starts a server on a data folder and waits until it is ready.
 * @throws Error with what it said where it ended instead
 */
export async function startProcess(options: StartOptions): Promise<ServerProcess> {
  const { data, port = 0, built = false, nodeOptions = [], script = join(root, 'src/main.ts') } = options
  const executable = join(root, 'dist/rebuilderd')
  const [program, first] =
    built && existsSync(executable) ? [executable, []] : [process.execPath, [...nodeOptions, script]]
  const serve = ['serve', '--data', data, '--listen', `127.0.0.1:${port}`, '--signup-secret', signupSecret]
  if (options.config !== undefined) serve.push('--config', options.config)
  const startedAt = performance.now()
  const child = spawn(program, [...first, ...serve], {
    cwd: root,
    stdio: ['ignore', 'pipe', 'pipe'],
    env: { ...process.env, NO_PROXY: '*', ...unitEnvironment, ...options.environment },
  })
  let errors = ''
  child.stderr.on('data', (chunk: Buffer) => (errors = (errors + chunk.toString()).slice(-20_000)))
  const address = await addressFrom(child, () => errors)
  const readyAfter = performance.now() - startedAt
  const cookie = readFileSync(join(data, 'auth-cookie'), 'utf8').trim()
  return processOf(child, { address, cookie, readyAfter, said: () => errors })
}

/** What the bench looks at of any server's process. */
export function processOf(
  child: ChildProcess,
  known: Pick<ServerProcess, 'address' | 'cookie' | 'readyAfter' | 'said'>,
): ServerProcess {
  const pid = child.pid ?? 0
  return {
    ...known,
    pid,
    child,
    cpu: () => cpuOf(pid),
    scheduled: () => scheduledOf(pid),
    memory: () => memoryOf(pid),
    async kill(signal) {
      if (child.exitCode !== null || child.signalCode !== null) return
      const ended = once(child, 'exit')
      child.kill(signal)
      await ended
    },
  }
}

async function addressFrom(child: ChildProcess, said: () => string): Promise<string> {
  let text = ''
  return new Promise((resolve, reject) => {
    child.stdout?.on('data', (chunk: Buffer) => {
      text += chunk.toString()
      const match = /is ready at (\S+)/.exec(text)
      if (match?.[1] !== undefined) resolve(match[1])
    })
    child.once('error', reject)
    child.once('exit', (code) => reject(new Error(`the server ended with ${code}: ${said().slice(-2000)}`)))
  })
}

/** Ticks of /proc/PID/stat in a second (man7.org/linux/man-pages/man5/proc_pid_stat.5.html). */
const ticks = 100

function cpuOf(pid: number): number {
  const fields = readFileSync(`/proc/${pid}/stat`, 'utf8')
    .replace(/^.*\) /s, '')
    .split(' ')
  return (Number(fields[11]) + Number(fields[12])) / ticks
}

/** As the scheduler tells it of each thread (docs.kernel.org/scheduler/sched-stats.html). */
function scheduledOf(pid: number): { ran: number; waited: number } {
  const tasks = readdirSync(`/proc/${pid}/task`).map((task) =>
    readFileSync(`/proc/${pid}/task/${task}/schedstat`, 'utf8').split(' ').map(Number),
  )
  const sum = (index: number): number => tasks.reduce((all, task) => all + (task[index] ?? 0), 0) / 1e6
  return { ran: sum(0), waited: sum(1) }
}

function memoryOf(pid: number): { now: number; most: number } {
  const status = readFileSync(`/proc/${pid}/status`, 'utf8')
  const value = (name: string): number =>
    Number(new RegExp(`${name}:\\s+(\\d+)`).exec(status)?.[1] ?? 0) / 1024
  return { now: value('VmRSS'), most: value('VmHWM') }
}

/** Megabytes of files below a folder. */
export function sizeOf(path: string): number {
  const found = statSync(path, { throwIfNoEntry: false })
  if (found === undefined) return 0
  if (!found.isDirectory()) return found.size / 1024 / 1024
  return readdirSync(path).reduce((sum, name) => sum + sizeOf(join(path, name)), 0)
}

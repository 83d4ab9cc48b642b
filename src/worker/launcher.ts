import { spawn, type ChildProcessByStdio } from 'node:child_process'
import { constants, openSync } from 'node:fs'
import { Socket } from 'node:net'
import { constants as system } from 'node:os'
import type { Readable, Writable } from 'node:stream'
import { createInterface } from 'node:readline'

/** A program that runs. */
export type Child = {
  /** Of the process, and of its group and session. */
  id: number
  /** stdout and stderr in one. */
  output: Readable
  /** Exit code, or the signal that ended it, once the program itself has ended, even if its children keep the pipe open. */
  ended: Promise<readonly [exitCode: number | null, killedBy: string | null]>
}

/** What goes into a sandbox. */
type Launch = {
  /** Path of backends/sandbox.pl on disk. */
  script: string
  /** Working directory on the outside. */
  directory: string
  environment: Readonly<Record<string, string>>
  /** Files of control groups to join. */
  groups: readonly string[]
  /** Largest file that may be written, bytes. */
  maxFileBytes: number | undefined
  /** Arguments of the script. */
  given: readonly string[]
}

type Launcher = {
  launch: (what: Launch) => Promise<Child>
  /** It cannot be used any more. */
  isGone: () => boolean
}

/**
 * Starts a program in a sandbox. That is left to a small process (`serve` in backends/sandbox.pl) that is started once:
 * to start a program we would have to copy all of our memory, which stops us for many milliseconds. It dies with us, and
 * its sandboxes with it.
 * @throws Error where the sandbox cannot be made
 */
export function launch(what: Launch): Promise<Child> {
  if (launcher === undefined || launcher.isGone()) launcher = openLauncher(what.script)
  return launcher.launch(what)
}
let launcher: Launcher | undefined // of this process; whoever ends us ends it

type Waiting = {
  started: (id: number, descriptor: number) => void
  failed: (why: string) => void
  /** Asks for it once more; false if that was done before. */
  again: () => boolean
}
type Ended = (exitCode: number | null, killedBy: string | null) => void

function openLauncher(script: string): Launcher {
  const environment = { PATH: process.env['PATH'], PERL_BADLANG: '0' } // no secrets: who is in a sandbox may see them
  const child: ChildProcessByStdio<Writable, Readable, null> = spawn('perl', [script, '--serve'], {
    cwd: '/',
    env: environment,
    stdio: ['pipe', 'pipe', 'inherit'],
    detached: true, // what a terminal says is said to us
  })
  const waiting = new Map<string, Waiting>()
  const running = new Map<string, Ended>()
  let count = 0
  let isGone = false
  const gone = (why: string): void => {
    isGone = true
    for (const { failed } of waiting.values()) failed(why)
    for (const ended of running.values()) ended(null, 'SIGKILL') // they die with it
    waiting.clear()
    running.clear()
  }
  const keepAwake = (): void => {
    const handles = [child, child.stdin, child.stdout] as unknown as Pick<Socket, 'ref' | 'unref'>[] // pipes are sockets
    const isNeeded = waiting.size + running.size > 0
    for (const handle of handles) {
      if (isNeeded) handle.ref()
      else handle.unref()
    }
  }
  const heard = (line: string): void => {
    const [what = '', name = '', ...rest] = line.split(' ')
    const [first, second] = rest.map(Number)
    const asked = waiting.get(name)
    if (what === 'started') asked?.started(first ?? 0, second ?? 0)
    if (what === 'failed') asked?.failed(rest.join(' '))
    if (asked !== undefined) ask('close', name) // the pipe, which we have opened or never will
    if (what === 'ended') {
      if (asked?.again() === true) return // it was killed before it was told what to do
      asked?.failed('it ended before it began')
      running.get(name)?.(...statusOf(first ?? 0))
      running.delete(name)
    }
    waiting.delete(name)
    keepAwake()
  }
  child.on('error', ({ message }) => gone(message))
  child.on('exit', () => gone('the process that makes sandboxes was killed'))
  child.stdin.on('error', () => undefined) // its end tells
  createInterface(child.stdout).on('line', heard)
  const ask = (...texts: readonly string[]): void => {
    child.stdin.write(framed(texts))
  }
  return {
    isGone: () => isGone,
    async launch({ directory, environment: variables, groups, maxFileBytes = '', given }) {
      const name = String(count++)
      const pairs = Object.entries(variables).map(([key, value]) => `${key}=${value}`)
      const { promise, resolve, reject } = Promise.withResolvers<Child>()
      const end = Promise.withResolvers<readonly [number | null, string | null]>()
      const failed = (why: string): void => reject(new Error(`no sandbox could be made: ${why}`))
      const started = (id: number, descriptor: number): void => {
        running.set(name, (exitCode, killedBy) => end.resolve([exitCode, killedBy]))
        try {
          resolve({ id, output: openPipe(child.pid ?? 0, descriptor), ended: end.promise })
        } catch (error) {
          failed(String(error)) // killed in this very moment, and so is what it started
        }
      }
      let left = 2
      const again = (): boolean => {
        if (left-- === 0) return false
        ask('start', name, directory, String(maxFileBytes), ...groups, '', ...pairs, '', ...given)
        return true
      }
      again()
      waiting.set(name, { started, failed, again })
      keepAwake()
      return promise
    },
  }
}

/** A request: its length, and texts that end with NUL. */
function framed(texts: readonly string[]): Uint8Array {
  if (texts.some((text) => text.includes('\0'))) throw new Error('a NUL in an argument of a program')
  const body = Buffer.from(texts.map((text) => `${text}\0`).join(''))
  const head = Buffer.alloc(4)
  head.writeUInt32BE(body.length)
  return Buffer.concat([head, body])
}

/** The end to read from of a pipe that another process has open (proc_pid_fd(5)). */
function openPipe(owner: number, descriptor: number): Readable {
  const fd = openSync(`/proc/${owner}/fd/${descriptor}`, constants.O_RDONLY | constants.O_NONBLOCK)
  return new Socket({ fd, readable: true, writable: false })
}

/** wait(2): the signal in the lowest seven bits, the exit code above the eighth. */
function statusOf(status: number): [exitCode: number | null, killedBy: string | null] {
  const number = status & 127
  if (number === 0) return [status >> 8, null]
  const [name = `signal ${number}`] =
    Object.entries(system.signals).find(([, value]) => value === number) ?? []
  return [null, name]
}

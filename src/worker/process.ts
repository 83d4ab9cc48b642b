import { spawn } from 'node:child_process'
import { isUtf8 } from 'node:buffer'
import { once } from 'node:events'
import { readFile, readdir } from 'node:fs/promises'
import { setImmediate as turn, setTimeout as sleep } from 'node:timers/promises'
import type { Readable } from 'node:stream'
import type { ControlGroup } from './cgroup.ts'
import { launch, type Child } from './launcher.ts'
import { sandboxArguments, type SandboxPlan } from './sandbox.ts'

/** Output kept of a process when nobody said how much. */
const defaultLogBytes = 32 * 1024 * 1024

type ProcessRun = {
  /** Program and arguments. */
  command: readonly [string, ...string[]]
  /** Where it runs in a sandbox. */
  sandbox?: SandboxPlan | undefined
  /** Working directory. */
  directory: string
  environment: Readonly<Record<string, string>>
  timeoutSeconds: number
  /** Between SIGTERM and SIGKILL. */
  graceSeconds?: number
  /** Bytes of output that are kept; null: `defaultLogBytes`. */
  maxLogBytes: number | null
  /** End it once the output is full, as at the time limit, for programs of which only the output counts. */
  stopWhenFull?: boolean
  /** Largest file that may be written, bytes. */
  maxFileBytes?: number
  /** The log while it grows. */
  onLog?: ((chunk: Uint8Array) => void) | undefined
  /** Groups that the process is put into before it starts. */
  group?: ControlGroup | undefined
  /** Text in the environment by which strays are known where no group holds them, such as `OUTDIR=/a/folder`. */
  mark?: string
  /** Once aborted everything is killed, and the result tells of it as of any other end. */
  stop?: AbortSignal
  signal: AbortSignal
}

export type ProcessResult = {
  exitCode: number | null
  killedBy: string | null
  timedOut: boolean
  seconds: number
  /** stdout and stderr in order of arrival; valid UTF-8, whatever came. */
  log: Uint8Array
  logTruncated: boolean
}

/**
 * Runs a program in a session of its own, both outputs in one pipe so that their order is kept. At the time limit
 * SIGTERM goes to the process group, and `graceSeconds` later SIGKILL to everything.
 * Once the program has ended, whatever it left behind is killed and not waited for.
 * @throws the signal's reason once aborted, after everything was killed
 */
export async function runProcess(run: ProcessRun): Promise<ProcessResult> {
  run.signal.throwIfAborted()
  const started = performance.now()
  const log = openLog(run.maxLogBytes ?? defaultLogBytes, run.onLog)
  const child = await start(run)
  const over = new AbortController()
  const watching = watch(run, child, log, over.signal)
  let ending: Promise<void> = Promise.resolve()
  const reading = readAll(child.output, log, () => {
    if (run.stopWhenFull === true) ending = askToEnd(run, child, over.signal)
  })
  try {
    const [exitCode, killedBy] = await child.ended
    await killEverything(child, run)
    await Promise.race([reading, sleep(1000).then(() => turn())]) // what is still in the pipe; not for those who keep it open
    const seconds = (performance.now() - started) / 1000
    run.signal.throwIfAborted()
    return { exitCode, killedBy, seconds, timedOut: log.timedOut(), ...log.close() }
  } finally {
    over.abort()
    child.output.destroy()
    await Promise.all([watching, ending])
  }
}

/**
 * Joins the groups and sets the limits before the program starts, so that nothing of it is ever outside. It dies
 * with us, even when we are killed.
 */
const prelude = `exec 2>&1
for file in $REBUILDERD_GROUPS; do echo $$ > "$file" || exit 125; done
unset REBUILDERD_GROUPS
ulimit -c 0
[ -z "$REBUILDERD_FILE_BLOCKS" ] || ulimit -f "$REBUILDERD_FILE_BLOCKS" || exit 125
unset REBUILDERD_FILE_BLOCKS
if command -v setpriv > /dev/null; then exec setpriv --pdeathsig KILL -- "$@"; fi
exec "$@"`

function start(run: ProcessRun): Promise<Child> {
  const groups = run.group?.joinFiles ?? []
  if (run.sandbox === undefined) return spawned(run, groups)
  const { directory, environment, maxFileBytes, sandbox } = run
  const given = sandboxArguments(sandbox, run.command)
  return launch({ script: sandbox.script, directory, environment, groups, maxFileBytes, given })
}

async function spawned(run: ProcessRun, groups: readonly string[]): Promise<Child> {
  const blocks = run.maxFileBytes === undefined ? '' : String(Math.ceil(run.maxFileBytes / 512)) // sh counts so
  const child = spawn('/bin/sh', ['-c', prelude, 'sh', ...run.command], {
    cwd: run.directory,
    env: { ...run.environment, REBUILDERD_GROUPS: groups.join(' '), REBUILDERD_FILE_BLOCKS: blocks },
    stdio: ['ignore', 'pipe', 'ignore'],
    detached: true,
  })
  const ended = once(child, 'exit') as Promise<[number | null, NodeJS.Signals | null]> // as documented
  await once(child, 'spawn')
  return { id: child.pid ?? 0, output: child.stdout, ended }
}

/** Ends the program at the time limit or when aborted. */
async function watch(run: ProcessRun, child: Child, log: GrowingLog, over: AbortSignal): Promise<void> {
  const cause = await Promise.race([
    sleep(run.timeoutSeconds * 1000, 'timeout', { signal: over }).catch(() => 'over'),
    aborted(run.stop === undefined ? run.signal : AbortSignal.any([run.signal, run.stop]), over),
  ])
  if (cause === 'over') return
  if (cause === 'timeout') {
    log.timeOut(run.timeoutSeconds)
    return askToEnd(run, child, over)
  }
  await killEverything(child, run)
}

/** Asks a program to end, and kills it where it has not done so after a while. */
async function askToEnd(run: ProcessRun, child: Child, over: AbortSignal): Promise<void> {
  signalGroup(child, 'SIGTERM')
  const grace = sleep((run.graceSeconds ?? 10) * 1000, null, { signal: over }).catch(() => null)
  await Promise.race([grace, aborted(run.signal, over)])
  await killEverything(child, run)
}

async function aborted(signal: AbortSignal, over: AbortSignal): Promise<string> {
  if (over.aborted) return 'over'
  if (!signal.aborted) await once(signal, 'abort', { signal: over }).catch(() => null)
  return over.aborted ? 'over' : 'aborted'
}

async function killEverything(child: Child, { group, mark }: ProcessRun): Promise<void> {
  signalGroup(child, 'SIGKILL')
  if ((await group?.kill()) === true || mark === undefined) return
  await killMarked(mark)
}

/** Long enough for a machine under load. */
const strayMilliseconds = 20_000

/** Kills our own processes with a text in their environment, and those that they make meanwhile. */
export async function killMarked(mark: string): Promise<void> {
  const end = performance.now() + strayMilliseconds
  for (let round = 0; performance.now() < end; round++) {
    const strays = await marked(mark)
    if (strays.length === 0) return
    for (const id of strays) send(id, 'SIGKILL')
    if (round >= 20) await sleep(20) // those that were killed take a while to end where there is much else to do
  }
}

/** Our own processes with a text in their environment (proc_pid_environ(5)). */
async function marked(mark: string): Promise<number[]> {
  const ids = (await readdir('/proc')).map(Number).filter((id) => id > 0 && id !== process.pid)
  const has = async (id: number) =>
    (await readFile(`/proc/${id}/environ`, 'latin1').catch(() => '')).includes(mark)
  const found = await Promise.all(ids.map(async (id) => ((await has(id)) ? id : 0)))
  return found.filter((id) => id > 0)
}

function signalGroup(child: Child, signal: NodeJS.Signals): void {
  send(-child.id, signal)
}

function send(id: number, signal: NodeJS.Signals): void {
  try {
    process.kill(id, signal)
  } catch {
    // Nobody of that name is left.
  }
}

async function readAll(pipe: Readable, log: GrowingLog, whenFull: () => void): Promise<void> {
  pipe.on('data', (chunk: Uint8Array) => {
    if (log.add(chunk)) whenFull()
  })
  await once(pipe, 'close').catch(() => null)
}

type GrowingLog = {
  /** True the first time a byte does not fit. */
  add: (chunk: Uint8Array) => boolean
  timeOut: (seconds: number) => void
  timedOut: () => boolean
  close: () => { log: Uint8Array; logTruncated: boolean }
}

/** A bounded log with upstream's markers, made valid UTF-8 as it grows. */
function openLog(limit: number, onLog: ((chunk: Uint8Array) => void) | undefined): GrowingLog {
  const log = growingBytes(limit)
  const decoder = new TextDecoder('utf-8', { ignoreBOM: true })
  let kept = 0
  let pending = false
  let timedOut = false
  let full = false

  const put = (bytes: Uint8Array): void => {
    if (bytes.length === 0) return
    log.add(bytes)
    onLog?.(bytes)
  }
  const keep = (bytes: Uint8Array): void => {
    kept += bytes.length
    if (!pending && isUtf8(bytes)) return put(bytes)
    put(Buffer.from(decoder.decode(bytes, { stream: true })))
    pending = true // from here on the decoder may hold the beginning of a character
  }
  const mark = (what: string): void => {
    if (pending) put(Buffer.from(decoder.decode()))
    pending = false
    put(Buffer.from(`\n\nTRUNCATED DUE TO ${what}\n\n`))
  }
  return {
    add: (chunk) => {
      if (full || timedOut || chunk.length === 0) return false
      const room = limit - kept
      keep(chunk.subarray(0, room))
      if (chunk.length <= room) return false
      full = true
      mark(`SIZE LIMIT: ${limit} bytes`)
      return true
    },
    timeOut: (seconds) => {
      timedOut = true
      mark(`TIMEOUT: ${Math.floor(seconds)} seconds`)
    },
    timedOut: () => timedOut,
    close: () => {
      if (pending) put(Buffer.from(decoder.decode()))
      return { log: log.bytes(), logTruncated: full || timedOut }
    },
  }
}

/** What most logs fit into; more would make work for the garbage collector with every job. */
const firstBytes = 256 * 1024

/**
 * Bytes in one piece: a list of pieces would need the memory twice when it is put together. Each room is four times
 * the last one; memory that nothing was written to costs nothing.
 */
function growingBytes(most: number): { add: (bytes: Uint8Array) => void; bytes: () => Uint8Array } {
  const slack = 1024 // for the markers
  let buffer = Buffer.allocUnsafeSlow(Math.min(most, firstBytes) + slack)
  let length = 0
  return {
    add(bytes) {
      if (length + bytes.length > buffer.length) {
        const needed = length + bytes.length
        const larger = Buffer.allocUnsafeSlow(Math.max(Math.min(4 * buffer.length, most + slack), needed))
        buffer.copy(larger, 0, 0, length)
        buffer = larger
      }
      buffer.set(bytes, length)
      length += bytes.length
    },
    bytes: () => buffer.subarray(0, length),
  }
}

/** A worker, its server and its mirror as processes and addresses of their own, with traps between them. */
import { spawn, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, readdirSync, readlinkSync } from 'node:fs'
import { createServer, request as ask, type IncomingMessage, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { groupFolders, linesWith, processesWith } from '../help/machine.ts'
import { signupSecret } from '../bench/process.ts'

/** A moment in the life of a job at which somebody may be killed. */
export type Moment =
  /** The worker asks the server this, which has not heard it (`before`) or whose answer is on its way (`after`). */
  | { asks: RegExp; side: 'before' | 'after'; answer?: string }
  /** Half of a file has come from the mirror. */
  | { fetches: string }
  /** The worker's folder looks so. */
  | { folder: (data: string) => boolean }
  /** The worker has a file open with this in its path. */
  | { opens: string }
  /** A process runs with this and the worker's folder behind it in its environment, and this in its command line. */
  | { runs: string; as?: string }
  /** The build has printed this. */
  | { prints: string }

type Trap = { moment: Moment; spring: () => Promise<void> }

/** Holds the trap of the moment, which springs once. */
export function trapHolder() {
  let trap: Trap | null = null
  const springIf = async (isIt: (moment: Moment) => boolean): Promise<boolean> => {
    if (trap === null || !isIt(trap.moment)) return false
    const { spring } = trap
    trap = null
    await spring()
    return true
  }
  return { set: (next: Trap | null) => (trap = next), springIf, isSet: () => trap !== null }
}
type TrapHolder = ReturnType<typeof trapHolder>

/** Listens on loopback; what it answers with is up to `answer`. */
async function listening(answer: (request: IncomingMessage, response: ServerResponse) => Promise<void>) {
  const server = createServer((request, response) => {
    answer(request, response).catch(() => response.destroy())
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  return {
    base: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    close: () => {
      server.closeAllConnections()
      server.close()
    },
  }
}

/** Stands between worker and server, so that either can be killed with a request on its way. */
export function startProxy(target: () => string, traps: TrapHolder) {
  return listening(async (request, response) => {
    const what = `${request.method} ${request.url}`
    const chunks: Buffer[] = []
    for await (const chunk of request as AsyncIterable<Buffer>) chunks.push(chunk)
    const isIt = (moment: Moment, side: string): boolean =>
      'asks' in moment && moment.side === side && moment.asks.test(what)
    const isCut = await traps.springIf((moment) => isIt(moment, 'before'))
    const asked = ask(`${target()}${request.url}`, {
      method: request.method,
      headers: { ...request.headers, 'accept-encoding': 'identity' },
    })
    asked.end(Buffer.concat(chunks))
    const [reply] = (await once(asked, 'response')) as [IncomingMessage]
    response.on('close', () => reply.destroy())
    reply.on('error', () => response.destroy())
    if (reply.headers['content-type'] === 'text/event-stream') {
      response.writeHead(reply.statusCode ?? 500, reply.headers)
      return void reply.pipe(response)
    }
    const answer: Buffer[] = []
    for await (const chunk of reply as AsyncIterable<Buffer>) answer.push(chunk)
    const text = Buffer.concat(answer).toString('latin1')
    const isLost = await traps.springIf(
      (moment) => isIt(moment, 'after') && 'asks' in moment && text.includes(moment.answer ?? ''),
    )
    if (isCut || isLost) return void response.destroy()
    response.writeHead(reply.statusCode ?? 500, reply.headers)
    response.end(Buffer.concat(answer))
  })
}

/** Serves files by path, in two halves. */
export function startMirror(files: Map<string, string | Buffer>, traps: TrapHolder) {
  return listening(async (request, response) => {
    const text = files.get(decodeURIComponent(request.url ?? '').replace('/./', '/')) // as apt writes it
    if (text === undefined) return void response.writeHead(404).end()
    response.writeHead(200, { 'content-length': text.length })
    const half = Math.floor(text.length / 2)
    response.write(text.slice(0, half)) // texts have one byte for each character
    await traps.springIf((moment) => 'fetches' in moment && (request.url ?? '').endsWith(moment.fetches))
    response.end(text.slice(half))
  })
}

export type WorkerProcess = {
  child: ChildProcess
  pid: number
  said: () => string
  kill: () => Promise<void>
}

/** Starts a worker as an operator does, with one backend of ours. */
export function startWorker(
  options: {
    base: string
    folder: string
    backend: string
    config: string | null
    script: string | undefined
  },
  traps: TrapHolder,
): WorkerProcess {
  const { base, folder, backend, config, script } = options
  const main = script ?? fileURLToPath(new URL('../../src/main.ts', import.meta.url))
  const args = ['worker', 'connect', base, '--secret', signupSecret, '--data', join(folder, 'worker')]
  const settings = config === null ? [] : ['--config', config]
  const child = spawn(
    process.execPath,
    [main, ...args, '--name', 'victim', '--backend', `debian=${backend}`, ...settings],
    {
      stdio: ['ignore', 'ignore', 'pipe'],
      env: { ...process.env, NO_PROXY: '*', TMPDIR: join(folder, 'tmp') },
    },
  )
  let said = ''
  child.stderr.on('data', (chunk: Buffer) => {
    said = (said + chunk.toString()).slice(-20_000)
    void traps.springIf((moment) => 'prints' in moment && said.includes(moment.prints))
  })
  return {
    child,
    pid: child.pid ?? 0,
    said: () => said,
    async kill() {
      if (child.exitCode !== null || child.signalCode !== null) return
      const ended = once(child, 'exit')
      child.kill('SIGKILL')
      await ended
    },
  }
}

/** What is left on this machine of workers that had these ids and this folder, in words. */
export function leftBy(pids: readonly number[], folder: string, alive: number): string[] {
  const data = join(folder, 'worker')
  const marked = ['REBUILDERD_OUTDIR', 'REBUILDERD_JOB'].flatMap((name) => processesWith(`${name}=${data}`))
  const strays = marked.filter((id) => Number(id) !== alive)
  const groups = groupFolders().filter((name) => pids.some((pid) => name.startsWith(`rebuilderd-${pid}-`)))
  const jobs = entriesOf(join(data, 'jobs'))
  const unsent = entriesOf(join(data, 'spool')).flatMap((server) =>
    entriesOf(join(data, 'spool', server)).filter((name) => name !== 'refused' && name !== 'reserve'),
  )
  const refused = entriesOf(join(data, 'spool')).flatMap((server) =>
    entriesOf(join(data, 'spool', server, 'refused')),
  )
  return [
    ...linesWith('/proc/self/mountinfo', folder).map((line) => `mount ${line}`),
    ...groups.map((name) => `control group ${name}`),
    ...strays.map((id) => `process ${id}`),
    ...jobs.map((name) => `folder ${name}`),
    ...unsent.map((name) => `result ${name}`),
    ...refused.map((name) => `refused result ${name}`),
    ...entriesOf(join(folder, 'tmp')).map((name) => `temporary ${name}`),
  ]
}

/** Paths of what a process has open. */
export function openedBy(pid: number): string[] {
  try {
    return readdirSync(`/proc/${pid}/fd`).map((fd) => readlinkSync(`/proc/${pid}/fd/${fd}`))
  } catch {
    return [] // it has ended, or one of them was closed meanwhile: look again
  }
}

export function entriesOf(folder: string): string[] {
  return existsSync(folder) ? readdirSync(folder) : []
}

/** Throws malformed requests at a server: none may end it, none may be answered with its own failure. Run by `npm run fuzz`. */
import { spawn, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { readFileSync } from 'node:fs'
import { mkdtemp, rm } from 'node:fs/promises'
import { Agent, request } from 'node:http'
import { connect } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { patienceMilliseconds } from '../help/until.ts'
import { inputOf, randomFrom, wireInputs, type Input } from './inputs.ts'
import { largeReports, stallingRequests } from './pressure.ts'

const seed = Number(process.env['FUZZ_SEED'] ?? '1')
const count = Number(process.env['FUZZ_INPUTS'] ?? '6000')
const mostMemory = 1000 // MiB of the server
const longest = patienceMilliseconds // without an answer to anybody

type Target = { address: string; cookie: string; child: ChildProcess; errors: () => string }

async function start(folder: string): Promise<Target> {
  const script = fileURLToPath(new URL('server.ts', import.meta.url))
  const child = spawn(process.execPath, [script, folder], { stdio: ['pipe', 'pipe', 'pipe'] })
  let errors = ''
  child.stderr?.on('data', (chunk: Buffer) => (errors = (errors + chunk.toString()).slice(-200_000)))
  const ended = once(child, 'close').then(() => Promise.reject(new Error(`the server ended: ${errors}`)))
  ended.catch(() => undefined) // it does so at last
  const lines: Buffer[] = await Promise.race([once(child.stdout, 'data') as Promise<Buffer[]>, ended])
  const { address, cookie } = JSON.parse(String(lines[0])) as { address: string; cookie: string } // as server.ts prints it
  return { address, cookie, child, errors: () => errors }
}

const agent = new Agent({ keepAlive: true, maxSockets: 8 })
/** As many connections as there are requests. */
const lone = new Agent({ keepAlive: false })

/** Limits of the requests that wait for an answer. */
const waiting = new Set<NodeJS.Timeout>()

/** The status of the answer; null where the server only closed the connection, which it may. */
function send(
  address: string,
  { method, target, headers, body }: Input,
  through = agent,
): Promise<number | null> {
  const { hostname, port } = new URL(address)
  return new Promise((resolve, reject) => {
    let sent: ReturnType<typeof request>
    try {
      const length = body === null ? {} : { 'content-length': String(body.length) }
      sent = request({
        hostname,
        port,
        path: target,
        method,
        headers: { ...length, ...headers },
        agent: through,
      })
    } catch {
      return resolve(null) // Node itself does not send such a thing
    }
    const timer = setTimeout(() => sent.destroy(new Error('no answer in time')), longest)
    waiting.add(timer)
    const ended = (): void => {
      clearTimeout(timer)
      waiting.delete(timer)
    }
    sent.on('response', (reply) => {
      ended()
      for (const one of waiting) one.refresh() // it is their turn now
      if (reply.headers['content-type'] === 'text/event-stream') reply.destroy()
      reply.on('error', () => undefined)
      reply.resume()
      reply.on('close', () => resolve(reply.statusCode ?? 0))
    })
    sent.on('error', (error: Error & { code?: string }) => {
      ended()
      if (error.code === 'ECONNRESET' || error.code === 'EPIPE' || error.message.startsWith('Parse Error'))
        resolve(null)
      else reject(error)
    })
    return sent.end(body ?? undefined)
  })
}

/** Writes bytes to the server; the status it answers with, or null. */
function write(address: string, bytes: string): Promise<number | null> {
  const { hostname, port } = new URL(address)
  return new Promise((resolve) => {
    const socket = connect(Number(port), hostname)
    let text = ''
    const end = (): void => {
      socket.destroy()
      const status = /^HTTP\/1\.1 (\d+)/.exec(text)?.[1]
      resolve(status === undefined ? null : Number(status))
    }
    socket.setTimeout(1000, end)
    socket.on('data', (chunk: Buffer) => (text += chunk.toString('latin1')))
    socket.on('error', () => end())
    socket.on('close', () => end())
    socket.write(Buffer.from(bytes, 'latin1'))
  })
}

/** The most memory a process ever had, in MiB. */
function peakMemory(pid: number): number {
  return Number(/VmHWM:\s*(\d+) kB/.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1]) / 1024
}

const isFailure = (status: number | null): boolean => status !== null && status >= 500 && status !== 501

async function main(): Promise<number> {
  const folder = await mkdtemp(join(tmpdir(), 'rebuilderd-fuzz-'))
  const server = await start(folder)
  const random = randomFrom(seed)
  const kinds = new Map<string, number>()
  const statuses = new Map<number | null, number>()
  const failed: string[] = []
  const counted = (kind: string, status: number | null, what: () => string): void => {
    kinds.set(kind, (kinds.get(kind) ?? 0) + 1)
    statuses.set(status, (statuses.get(status) ?? 0) + 1)
    if (isFailure(status)) failed.push(`${status}: ${what()}`)
  }
  const stalling = stallingRequests(server) // they wait while all else is answered
  const inputs = Array.from({ length: count }, () => inputOf(random, server))
  const worker = async (): Promise<void> => {
    for (let input = inputs.pop(); input !== undefined; input = inputs.pop()) {
      const { kind, method, target, headers, body } = input
      const what = (): string =>
        `${method} ${target.slice(0, 300)} ${JSON.stringify(headers).slice(0, 300)} ${Buffer.from(body ?? [])
          .toString('latin1')
          .slice(0, 300)}`
      const status = await send(server.address, input).catch((error: unknown) => {
        failed.push(`${String(error)}: ${what()}`)
        return null
      })
      counted(kind, status, what)
    }
  }
  await Promise.all(Array.from({ length: 6 }, worker))
  await Promise.all(
    largeReports().map(async (input) => {
      const status = await send(server.address, input, lone).catch((error: unknown) => {
        failed.push(`${String(error)}: large reports at once`)
        return null
      })
      counted(input.kind, status === 503 ? null : status, () => 'large reports at once') // told to come again
    }),
  )
  kinds.set('stalled', stalling.count)
  if (!(await stalling.end())) failed.push('requests without an end were not let go')
  for (const [name, bytes] of wireInputs) counted('wire', await write(server.address, bytes), () => name)

  const isAlive = await fetch(`${server.address}/api/v1/dashboard`).then(
    (reply) => reply.ok,
    () => false,
  )
  const memory = server.child.pid === undefined || !isAlive ? 0 : peakMemory(server.child.pid)
  server.child.stdin?.end()
  if (isAlive) await once(server.child, 'close')
  agent.destroy()
  await rm(folder, { recursive: true, force: true })

  const total = [...kinds.values()].reduce((sum, n) => sum + n, 0)
  const list = (map: ReadonlyMap<string | number | null, number>): string =>
    [...map]
      .sort()
      .map(([name, n]) => `${name ?? 'closed'} ${n}`)
      .join(', ')
  console.log(`fuzz: ${total} inputs (seed ${seed}): ${list(kinds)}`)
  console.log(`fuzz: answers: ${list(statuses)}`)
  console.log(`fuzz: the server ${isAlive ? `is well, at most ${memory.toFixed(0)} MiB` : 'is gone'}`)
  for (const line of failed.slice(0, 20)) console.log(`fuzz: FAILED ${line}`)
  if (failed.length > 0 || !isAlive) console.log(server.errors().slice(-4000))
  const isWell = failed.length === 0 && isAlive && memory < mostMemory
  console.log(
    `fuzz: ${isWell ? total : total - failed.length} passed, ${isWell ? 0 : Math.max(1, failed.length)} failed`,
  )
  return isWell ? 0 : 1
}

process.exitCode = await main()

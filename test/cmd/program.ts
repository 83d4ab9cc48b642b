import assert from 'node:assert/strict'
import { spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, rm } from 'node:fs/promises'
import { createServer, type IncomingMessage } from 'node:http'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Readable, Writable } from 'node:stream'
import type { TestContext } from 'node:test'
import { fileURLToPath } from 'node:url'
import { zstdDecompressSync } from 'node:zlib'
import { outcomeOf } from '../../src/cmd/run.ts'
import { builtFolder } from '../help/built.ts'

export const door = fileURLToPath(new URL('../../src/main.ts', import.meta.url))

/** What starts the program: the executable where it was built of the sources as they are, else these by node. */
export const [program, ...firstArgs] = startOfProgram()

function startOfProgram(): readonly [string, ...string[]] {
  const built = builtFolder()
  return built === undefined ? [process.execPath, door] : [join(built, 'rebuilderd')]
}

export type Ended = { code: number | null; stdout: string; stderr: string }

/** A folder that is gone when the test is. */
export async function tempFolder(t: TestContext): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), 'rebuilderd-cmd-'))
  t.after(() => rm(folder, { recursive: true, force: true }))
  return folder
}

/** Many short runs of the same sources: the second one need not strip and compile them again. */
const compileCache = fileURLToPath(new URL('../../node_modules/.cache/compile', import.meta.url))

/** A program that knows nothing of the person who runs the tests. */
export function cleanEnvironment(home: string): Record<string, string> {
  return {
    PATH: process.env['PATH'] ?? '',
    HOME: home,
    NO_PROXY: '*',
    TERM: 'xterm',
    NODE_COMPILE_CACHE: compileCache,
  }
}

/** A shell script that is the program by another name. */
export const scriptThatStarts = `#!/bin/sh\nexec ${[program, ...firstArgs].map((word) => `'${word}'`).join(' ')} "$@"\n`

/** Runs the program to its end. */
export async function runProgram(
  args: readonly string[],
  options: { home: string; environment?: Record<string, string>; input?: string; script?: string },
): Promise<Ended> {
  const [command, ...before] =
    options.script === undefined ? [program, ...firstArgs] : [process.execPath, options.script]
  const child = spawn(command, [...before, ...args], {
    env: { ...cleanEnvironment(options.home), ...options.environment },
    cwd: options.home,
  })
  child.stdin.on('error', () => {})
  child.stdin.end(options.input ?? '')
  return endOf(child)
}

type Place = {
  home: string
  environment?: Record<string, string>
  input?: string
  /** Its outputs are a terminal of this width; absent: no terminal. */
  columns?: number
  /** The name it is called by; absent: our own. */
  program?: 'rebuilderd' | 'rebuildctl'
}

/**
 * Runs a command within this process, in that folder, which takes a tenth of what a process takes: for what a command
 * says, reads and asks of servers. That programs do the same as processes, with signals, terminals and pipes, is proven
 * by `runProgram`.
 */
export function runHere(args: readonly string[], place: Place): Promise<Ended> {
  return inFolder(place.home, async () => {
    const [out, err] = [collected(), collected()]
    const code = await outcomeHere(args, place, out.stream, err.stream)
    return { code, stdout: out.text(), stderr: err.text() }
  })
}

/** A server within this process that is started by its command line; gone when the test is. */
export async function serveHere(
  t: TestContext,
  args: readonly string[],
  place: Place,
): Promise<{ address: string; err: () => string }> {
  const [stopping, out, err] = [new AbortController(), collected(), collected()]
  const address = await inFolder(place.home, async () => {
    const ended = outcomeHere(['serve', ...args], place, out.stream, err.stream, stopping)
    t.after(async () => {
      stopping.abort()
      await ended
    })
    const failed = ended.then((code) => assert.fail(`the server ended with ${code}: ${err.text()}`))
    failed.catch(() => {}) // when it was ready before
    for (;;) {
      const [, ready] = /ready at (\S+)/.exec(out.text()) ?? []
      if (ready !== undefined) return ready
      await Promise.race([once(out.stream, 'taken'), failed])
    }
  })
  return { address, err: err.text }
}

let before: Promise<unknown> = Promise.resolve()

/** One after another: a process is in one folder at a time. */
function inFolder<T>(folder: string, act: () => Promise<T>): Promise<T> {
  const done = before.then(async () => {
    const was = process.cwd()
    process.chdir(folder)
    try {
      return await act()
    } finally {
      process.chdir(was)
    }
  })
  before = done.catch(() => {})
  return done
}

function outcomeHere(
  args: readonly string[],
  { home, environment, input = '', columns, program: calledAs = 'rebuilderd' }: Place,
  stdout: Writable,
  stderr: Writable,
  { signal } = new AbortController(),
): Promise<number> {
  const env = { ...cleanEnvironment(home), ...environment }
  const stdin = Readable.from(input === '' ? [] : [Buffer.from(input)])
  if (columns !== undefined)
    for (const output of [stdout, stderr]) Object.assign(output, { isTTY: true, columns })
  return outcomeOf(calledAs, args, { env, stdin, stdout, stderr }, signal, () => () => signal)
}

function collected(): { stream: Writable; text: () => string } {
  const chunks: Buffer[] = []
  const stream = new Writable({
    write: (chunk: Buffer, _, done) => {
      chunks.push(Buffer.from(chunk))
      done()
      stream.emit('taken')
    },
  })
  return { stream, text: () => Buffer.concat(chunks).toString() }
}

/** Why a test that needs a terminal is skipped, or false. */
export const noTerminal =
  spawnSync('script', ['--version']).status === 0 ? false : 'script (Debian package bsdutils) is missing'

/** Runs the program on a terminal of its own, by script(1); standard error is on it too. */
export async function runOnTerminal(
  args: readonly string[],
  options: { home: string; environment?: Record<string, string>; columns?: number },
): Promise<Ended> {
  const line = [program, ...firstArgs, ...args].map((arg) => `'${arg.replaceAll("'", "'\\''")}'`).join(' ')
  const size = options.columns === undefined ? '' : `stty cols ${options.columns}; `
  const child = spawn('script', ['-qec', size + line, '/dev/null'], {
    env: { ...cleanEnvironment(options.home), ...options.environment },
    cwd: options.home,
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  return endOf(child)
}

async function endOf(child: ReturnType<typeof spawn>): Promise<Ended> {
  const chunks = { stdout: [] as Buffer[], stderr: [] as Buffer[] }
  child.stdout?.on('data', (chunk: Buffer) => chunks.stdout.push(chunk))
  child.stderr?.on('data', (chunk: Buffer) => chunks.stderr.push(chunk))
  const [code] = (await once(child, 'close')) as [number | null]
  return {
    code,
    stdout: Buffer.concat(chunks.stdout).toString(),
    stderr: Buffer.concat(chunks.stderr).toString(),
  }
}

export type Asked = {
  method: string
  path: string
  query: URLSearchParams
  cookie: string | undefined
  body: unknown
}
/** `never`: the request is heard and left waiting. */
export type Answer = { status?: number; type?: string; body?: unknown; never?: true }

/** A server that speaks as much of the contract as its `answer`; `asked` is what it heard. */
export async function startStandIn(
  t: TestContext,
  answer: (asked: Asked) => Answer,
): Promise<{ url: string; asked: Asked[] }> {
  const asked: Asked[] = []
  const server = createServer((request, response) => {
    void heard(request).then((one) => {
      asked.push(one)
      const { status = 200, type = 'application/json', body, never } = answer(one)
      if (never) return
      response.writeHead(status, body === undefined ? {} : { 'content-type': type })
      response.end(
        body === undefined || typeof body === 'string' || body instanceof Uint8Array
          ? body
          : JSON.stringify(body),
      )
    })
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  t.after(() => {
    server.closeAllConnections()
    server.close()
  })
  return { url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`, asked }
}

async function heard(request: IncomingMessage): Promise<Asked> {
  const url = new URL(request.url ?? '/', 'http://stand-in')
  const chunks = (await request.toArray()) as Buffer[]
  const sent = Buffer.concat(chunks)
  const bytes = request.headers['content-encoding'] === 'zstd' ? zstdDecompressSync(sent) : sent
  const cookie = request.headers['x-auth-cookie']
  return {
    method: request.method ?? '',
    path: url.pathname,
    query: url.searchParams,
    cookie: typeof cookie === 'string' ? cookie : undefined,
    body: bytes.length === 0 ? undefined : JSON.parse(bytes.toString()),
  }
}

/** A package as a server lists it. */
export function aPackage(values: Record<string, unknown> = {}): Record<string, unknown> {
  const { name = 'midge', version = '0.2.41-5' } = values
  return {
    id: 1,
    name,
    version,
    distribution: 'debian',
    release: 'trixie',
    component: 'main',
    architecture: 'amd64',
    url: `https://mirror.example/pool/${String(name)}_${String(version)}_amd64.deb`,
    status: 'GOOD',
    build_id: 7,
    artifact_id: 3,
    diffoscope_log_id: null,
    attestation_log_id: 4,
    last_seen: '2026-11-22T19:41:51.919395',
    seen_in_last_sync: true,
    ...values,
  }
}

export function aJob(values: Record<string, unknown> = {}): Record<string, unknown> {
  return {
    id: 1,
    name: 'midge',
    version: '0.2.41-5',
    distribution: 'debian',
    release: 'trixie',
    architecture: 'amd64',
    backend: 'debian',
    url: 'https://mirror.example/midge_0.2.41-5.buildinfo',
    next_retry: null,
    priority: 1,
    queued_at: '2026-11-22T19:41:51.9',
    started_at: null,
    ...values,
  }
}

export function aWorker(values: Record<string, unknown> = {}): Record<string, unknown> {
  return {
    id: 1,
    name: 'w1',
    address: '127.0.0.1',
    status: null,
    last_ping: '2026-11-22T19:41:51.9',
    is_online: true,
    ...values,
  }
}

/** A list as a server answers it: cut by `limit` and `after`, in the order of the records. */
export function listReply(records: readonly Record<string, unknown>[], query: URLSearchParams): Answer {
  const after = query.get('after')
  const from = after === null ? 0 : records.findIndex((record) => record['id'] === Number(after)) + 1
  const limit = Number(query.get('limit') ?? 1000)
  return { body: { total: records.length, records: records.slice(from, from + limit) } }
}

/** The process that asks: a load generator on plain node:http, so that its own work stays small. Started by drive.ts. */
import { Agent, request, type IncomingMessage } from 'node:http'
import { zstdCompressSync } from 'node:zlib'
import { logsOf, seeded } from './data.ts'

export type Ask = { method: string; path: string; headers?: Record<string, string>; body?: Uint8Array }
/** `startedAt`: when its first bytes were there (performance.now()). */
export type Answer = {
  status: number
  headers: IncomingMessage['headers']
  body: Buffer
  startedAt: number
}

export type ReadsJob = {
  kind: 'reads'
  base: string
  paths: readonly string[]
  headers: Record<string, string>
  connections: number
  seconds: number
  /** Ends after so many requests, where that is sooner. */
  most: number
  /** Ask first for the ETag, then again and again whether it changed. */
  isConditional: boolean
}
export type WorkersJob = {
  kind: 'workers'
  base: string
  secret: string
  workers: number
  seconds: number
  most: number
  logBytes: number
  seed: number
  /** Milliseconds between two pops of one worker; 0: at once. */
  pause: number
  /** Only pop, and never report. */
  popsOnly: boolean
  /** Seconds before those that count: connections are made, code is compiled. */
  warmUp: number
}
export type Job = ReadsJob | WorkersJob

/** Times in milliseconds, by what was asked. */
export type Outcome = {
  seconds: number
  count: number
  bytes: number
  errors: Record<string, number>
  times: Record<string, number[]>
}

type Asker = (ask: Ask) => Promise<Answer>

/** Asks one server over connections that are kept. */
function askerOf(base: string, connections: number): Asker {
  const agent = new Agent({ keepAlive: true, maxSockets: connections })
  const { hostname, port, pathname } = new URL(base)
  const prefix = pathname.replace(/\/$/, '')
  return ({ method, path, headers, body }) =>
    new Promise((resolve, reject) => {
      const length = body === undefined ? {} : { 'content-length': body.length }
      const options = {
        agent,
        hostname,
        port,
        method,
        path: prefix + path,
        headers: { ...headers, ...length },
      }
      const asked = request(options, (reply) => {
        const startedAt = performance.now()
        const chunks: Buffer[] = []
        reply.on('data', (chunk: Buffer) => chunks.push(chunk))
        reply.on('end', () =>
          resolve({
            status: reply.statusCode ?? 0,
            headers: reply.headers,
            body: Buffer.concat(chunks),
            startedAt,
          }),
        )
        reply.on('error', reject)
      })
      asked.setTimeout(120_000, () => asked.destroy(new Error('no answer in two minutes')))
      asked.on('error', reject)
      asked.end(body)
    })
}

function tally(): Outcome & { timed: (what: string, work: () => Promise<Answer>) => Promise<Answer | null> } {
  const outcome: Outcome = { seconds: 0, count: 0, bytes: 0, errors: {}, times: {} }
  const failed = (what: string): void => {
    outcome.errors[what] = (outcome.errors[what] ?? 0) + 1
  }
  return Object.assign(outcome, {
    async timed(what: string, work: () => Promise<Answer>) {
      const start = performance.now()
      try {
        const answer = await work()
        ;(outcome.times[what] ??= []).push(performance.now() - start)
        ;(outcome.times[firstByteOf(what)] ??= []).push(answer.startedAt - start)
        outcome.bytes += answer.body.length
        if (answer.status < 400) return answer
        failed(`${what} ${answer.status}`)
      } catch (error) {
        failed(`${what} ${error instanceof Error ? error.message : ''}`)
      }
      return null
    },
  })
}

/** What the times to the first byte of an answer are kept under. */
function firstByteOf(what: string): string {
  return `${what}, first byte`
}

/** What is sent back. */
function finished({ count, bytes, errors, times }: Outcome, start: number): Outcome {
  return { seconds: (performance.now() - start) / 1000, count, bytes, errors, times }
}

async function reads(job: ReadsJob): Promise<Outcome> {
  const ask = askerOf(job.base, job.connections)
  const results = tally()
  const known = new Map<string, string>()
  if (job.isConditional) {
    for (const path of job.paths) {
      const { headers } = await ask({ method: 'GET', path, headers: job.headers })
      known.set(path, headers.etag ?? '')
    }
  }
  const end = performance.now() + job.seconds * 1000
  const start = performance.now()
  let next = 0
  const connection = async (): Promise<void> => {
    while (performance.now() < end && results.count < job.most) {
      const path = job.paths[next++ % job.paths.length] ?? '/'
      const tag = known.get(path)
      const headers = tag === undefined ? job.headers : { ...job.headers, 'if-none-match': tag }
      results.count += 1
      await results.timed('read', () => ask({ method: 'GET', path, headers }))
    }
  }
  await Promise.all(Array.from({ length: job.connections }, connection))
  return finished(results, start)
}

const json = { 'content-type': 'application/json' }
const wanted = Buffer.from(
  JSON.stringify({
    supported_backends: ['debian'],
    architecture: 'x86_64',
    supported_architectures: ['amd64', 'all'],
  }),
)

/** Workers that pop, ping and report, each one thing at a time, as many as asked for at once. */
async function workers(job: WorkersJob): Promise<Outcome> {
  const ask = askerOf(job.base, job.workers)
  const results = tally()
  const random = seeded(job.seed)
  const nextLog = logsOf(random, job.logBytes)
  const keys = Array.from({ length: job.workers }, (_, index) => `bench-${index}`)
  for (const key of keys) {
    const headers = { ...json, 'x-worker-key': key, 'x-signup-secret': job.secret }
    const body = Buffer.from(JSON.stringify({ name: key }))
    await results.timed('register', () => ask({ method: 'POST', path: '/api/v1/workers', headers, body }))
  }
  delete results.times['register']
  const start = performance.now() + job.warmUp * 1000
  const end = start + job.seconds * 1000
  const warm = setTimeout(() => {
    results.times = {}
    results.count = 0
  }, job.warmUp * 1000)
  const one = async (key: string): Promise<void> => {
    const headers = { ...json, 'x-worker-key': key }
    await sleep(job.pause * random())
    while (performance.now() < end && results.count < job.most) {
      const body = wanted
      const answer = await results.timed('pop', () =>
        ask({ method: 'POST', path: '/api/v1/queue/pop', headers, body }),
      )
      const given: unknown = answer === null ? null : JSON.parse(answer.body.toString())
      if (isRebuild(given) && !job.popsOnly) await work(headers, given.Rebuild)
      if (given === 'Nothing') results.errors['nothing to do'] = (results.errors['nothing to do'] ?? 0) + 1
      results.count += 1
      if (job.pause > 0 || given === 'Nothing') await sleep(Math.max(job.pause, 20) * (0.5 + random()))
    }
  }
  const work = async (headers: Record<string, string>, given: Rebuild['Rebuild']): Promise<void> => {
    const { id } = given.job
    await results.timed('ping', () => ask({ method: 'POST', path: `/api/v1/queue/${id}/ping`, headers }))
    const body = reportOf(given, zstdCompressSync(nextLog()), random())
    const coded = { ...headers, 'content-encoding': 'zstd' }
    await results.timed('report', () => ask({ method: 'POST', path: '/api/v1/builds', headers: coded, body }))
  }
  await Promise.all(keys.map(one))
  clearTimeout(warm)
  return finished(results, start)
}

function sleep(milliseconds: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, milliseconds))
}

type Rebuild = {
  Rebuild: {
    job: { id: number }
    artifacts: { name: string; url: string; sha256: string | null }[]
    lease?: string
  }
}

function isRebuild(given: unknown): given is Rebuild {
  return typeof given === 'object' && given !== null && 'Rebuild' in given
}

/** What a worker sends: two of three are GOOD. */
function reportOf(
  { job, artifacts, lease }: Rebuild['Rebuild'],
  log: Uint8Array,
  chance: number,
): Uint8Array {
  const status = chance < 0.67 ? 'GOOD' : 'BAD'
  const reason = status === 'GOOD' ? null : 'content_differs'
  const compared = artifacts.map(({ name, url, sha256 }) => {
    return { name, url, status, reason, sha256, diffoscope: null, attestation: null }
  })
  const built_at = new Date().toISOString().slice(0, 19)
  const report = {
    queue_id: job.id,
    built_at,
    build_log: null,
    status,
    reason,
    artifacts: compared,
    lease,
  }
  // Written out: the numbers of a log are most of what is sent.
  const text = JSON.stringify(report).replace('"build_log":null', `"build_log":[${log.join(',')}]`)
  return zstdCompressSync(text)
}

process.once('message', (job: Job) => {
  const outcome = job.kind === 'reads' ? reads(job) : workers(job)
  outcome.then(
    (value) => process.send?.(value, () => process.disconnect?.()),
    (error: unknown) => {
      console.error(error)
      process.exit(1)
    },
  )
})

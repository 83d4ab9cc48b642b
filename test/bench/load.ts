/** The process that asks: a load generator whose own work is kept small. Started by drive.ts. */
import { zstdCompressSync, zstdDecompressSync } from 'node:zlib'
import { headerIn, openConnection, type Answer, type Connection } from './connection.ts'
import { logsOf, seeded } from './data.ts'

type ReadsJob = {
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
  const connections = Array.from({ length: job.connections }, () => openConnection(job.base))
  const results = tally()
  const requests = await requestsOf(job)
  const end = performance.now() + job.seconds * 1000
  const start = performance.now()
  let next = 0
  const read = async (connection: Connection): Promise<void> => {
    while (performance.now() < end && results.count < job.most) {
      const request = requests[next++ % requests.length] ?? new Uint8Array(0)
      results.count += 1
      await results.timed('read', () => connection.send(request))
    }
  }
  await Promise.all(connections.map(read))
  for (const connection of connections) connection.close()
  return finished(results, start)
}

/** The requests for each path, written out; those that ask whether something changed have asked before. */
async function requestsOf({ base, paths, headers, isConditional }: ReadsJob): Promise<Buffer[]> {
  const connection = openConnection(base)
  const requests: Buffer[] = []
  for (const path of paths) {
    const plain = { method: 'GET', path, headers }
    const tag = isConditional ? headerIn(await connection.ask(plain), 'etag') : null
    const told = tag === null ? headers : { ...headers, 'if-none-match': tag }
    requests.push(connection.requestOf({ ...plain, headers: told }))
  }
  connection.close()
  return requests
}

/** As workers of ours send them. */
const json = {
  'accept-encoding': 'zstd, gzip',
  'user-agent': 'rebuilderd',
  'content-type': 'application/json',
}
const wanted = Buffer.from(
  JSON.stringify({
    supported_backends: ['debian'],
    architecture: 'x86_64',
    supported_architectures: ['amd64', 'all'],
  }),
)

/** Logs that are made before the clock runs: those of real builds are made on other machines. */
const mostReady = 2000

/** Workers that pop, ping and report, each one thing at a time, as many as asked for at once. */
async function workers(job: WorkersJob): Promise<Outcome> {
  const results = tally()
  const random = seeded(job.seed)
  const nextLog = logsOf(random, job.logBytes)
  const isBusy = job.pause === 0 && !job.popsOnly
  const logs = Array.from({ length: isBusy ? Math.min(mostReady, job.most) : 0 }, () =>
    zstdCompressSync(nextLog()),
  )
  const all = Array.from({ length: job.workers }, (_, index) => workerOf(job.base, `bench-${index}`))
  for (const { connection, key, headers } of all) {
    const signup = { ...headers, 'x-signup-secret': job.secret }
    const body = Buffer.from(JSON.stringify({ name: key }))
    await results.timed('register', () =>
      connection.ask({ method: 'POST', path: '/api/v1/workers', headers: signup, body }),
    )
  }
  delete results.times['register']
  const start = performance.now() + job.warmUp * 1000
  const end = start + job.seconds * 1000
  const warm = setTimeout(() => {
    results.times = {}
    results.count = 0
  }, job.warmUp * 1000)
  const one = async (worker: Worker): Promise<void> => {
    await sleep(job.pause * random())
    while (performance.now() < end && results.count < job.most) {
      const answer = await results.timed('pop', () => worker.connection.send(worker.pop))
      const given = answer === null ? null : documentOf(answer)
      if (isRebuild(given) && !job.popsOnly) await work(worker, given.Rebuild)
      if (given === 'Nothing') results.errors['nothing to do'] = (results.errors['nothing to do'] ?? 0) + 1
      results.count += 1
      if (job.pause > 0 || given === 'Nothing') await sleep(Math.max(job.pause, 20) * (0.5 + random()))
    }
  }
  const work = async ({ connection, headers }: Worker, given: Rebuild['Rebuild']): Promise<void> => {
    const { id } = given.job
    await results.timed('ping', () =>
      connection.ask({ method: 'POST', path: `/api/v1/queue/${id}/ping`, headers }),
    )
    const body = reportOf(given, logs.pop() ?? zstdCompressSync(nextLog()), random())
    const coded = { ...headers, 'content-encoding': 'zstd' }
    await results.timed('report', () =>
      connection.ask({ method: 'POST', path: '/api/v1/builds', headers: coded, body }),
    )
  }
  await Promise.all(all.map(one))
  clearTimeout(warm)
  for (const { connection } of all) connection.close()
  return finished(results, start)
}

/** `pop`: the request, written out. */
type Worker = { connection: Connection; key: string; headers: Record<string, string>; pop: Buffer }

function workerOf(base: string, key: string): Worker {
  const connection = openConnection(base)
  const headers = { ...json, 'x-worker-key': key }
  const pop = connection.requestOf({ method: 'POST', path: '/api/v1/queue/pop', headers, body: wanted })
  return { connection, key, headers, pop }
}

function documentOf(answer: Answer): unknown {
  const coding = headerIn(answer, 'content-encoding')
  const plain = coding === 'zstd' ? zstdDecompressSync(answer.body) : answer.body
  return JSON.parse(plain.toString())
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
  const [before = '', after = ''] = JSON.stringify(report).split('"build_log":null', 2)
  const parts = [Buffer.from(`${before}"build_log":[`), numbersOf(log), Buffer.from(`]${after}`)]
  return zstdCompressSync(Buffer.concat(parts))
}

const numbers = Array.from({ length: 256 }, (_, byte) => Buffer.from(`${byte},`))

/** Bytes as a list of JSON has them, without its brackets. */
function numbersOf(bytes: Uint8Array): Uint8Array {
  const text = Buffer.allocUnsafe(4 * bytes.length)
  let length = 0
  for (const byte of bytes) for (const digit of numbers[byte] ?? []) text[length++] = digit
  return text.subarray(0, Math.max(0, length - 1))
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

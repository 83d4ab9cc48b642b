import { once } from 'node:events'
import type { IncomingMessage } from 'node:http'
import type { TestContext } from 'node:test'
import { plainBytes } from '../../src/compression.ts'
import type { RebuildReport } from '../../src/wire/builds.ts'
import { aServer } from './files.ts'
import { patienceMilliseconds } from './until.ts'
import type { aJob } from './jobs.ts'

type Seen = { method: string; path: string; headers: IncomingMessage['headers']; body: unknown }

/** What the server does with one request, and when; undefined: what upstream's does. */
type Whim = (seen: Seen) => number | undefined | Promise<undefined>

type Upstream = {
  base: string
  /** Every request, in order. */
  seen: readonly Seen[]
  /** Reports that were accepted. */
  reports: readonly RebuildReport[]
  hand: (job: ReturnType<typeof aJob>, lease?: string) => void
  /** Resolves once this many requests to a path have been answered. */
  until: (path: string, times?: number) => Promise<void>
}

/** A server that speaks to workers as upstream's does: no leases, plain errors, no memory of results. With a nonce it passes for one of ours. */
export async function anUpstream(
  t: TestContext,
  whim: Whim = () => undefined,
  nonce?: string,
): Promise<Upstream> {
  const seen: Seen[] = []
  const reports: RebuildReport[] = []
  const jobs: unknown[] = []
  const answered: string[] = []
  const answers = new EventTarget()
  let nextId = 1

  const base = await aServer(t, async (request, response) => {
    const now = {
      method: request.method ?? '',
      path: request.url ?? '',
      headers: request.headers,
      body: await bodyOf(request),
    }
    seen.push(now)
    const status = await whim(now)
    if (status !== undefined) response.writeHead(status).end()
    else if (nonce !== undefined && now.path.endsWith('/challenge'))
      response.setHeader('content-type', 'application/json').end(JSON.stringify({ nonce }))
    else if (now.path.startsWith('/api/v1/events') || now.path.endsWith('/challenge'))
      response.writeHead(404).end()
    else if (now.path === '/api/v1/queue/pop') {
      response.setHeader('content-type', 'application/json')
      response.end(JSON.stringify(jobs.shift() ?? 'Nothing'))
    } else {
      if (now.path === '/api/v1/builds') reports.push(now.body as RebuildReport)
      response.writeHead(204).end()
    }
    answered.push(now.path)
    answers.dispatchEvent(new Event('answer'))
  })
  const until = async (path: string, times = 1): Promise<void> => {
    while (answered.filter((one) => one.endsWith(path)).length < times)
      await once(answers, 'answer', { signal: AbortSignal.timeout(patienceMilliseconds) })
  }
  const hand = ({ job, artifacts }: ReturnType<typeof aJob>, lease?: string): void => {
    const queued = {
      next_retry: null,
      priority: 1,
      queued_at: '2026-11-22T19:41:51.919395240',
      started_at: null,
    }
    const listed = artifacts.map(({ name, version, architecture, url }) => ({
      name,
      version,
      architecture,
      url,
    }))
    const named = lease === undefined ? {} : { lease }
    jobs.push({ Rebuild: { job: { id: nextId++, ...job, ...queued }, artifacts: listed, ...named } })
  }
  return { base, seen, reports, hand, until }
}

async function bodyOf(request: IncomingMessage): Promise<unknown> {
  const chunks: Buffer[] = []
  for await (const chunk of request as AsyncIterable<Buffer>) chunks.push(chunk)
  const sent = Buffer.concat(chunks)
  if (request.headers['content-type'] !== 'application/json') return sent.toString()
  return JSON.parse(Buffer.from(await plainBytes(sent, 1e8)).toString())
}

import { randomUUID } from 'node:crypto'
import { availableParallelism } from 'node:os'
import { join } from 'node:path'
import { openClient, type Client } from '../../client.ts'
import { loadSettings, serverSettings } from '../../config.ts'
import type { Log } from '../../log.ts'
import { startServer, type RunningServer } from '../../server/serve.ts'
import { builtInBackend, type BackendSettings } from '../../worker/backend.ts'
import { cacheLimit } from '../../worker/cache.ts'
import { openIdentity } from '../../worker/identity.ts'
import { readLogRules } from '../../worker/logrules.ts'
import { runWorker } from '../../worker/loop.ts'
import type { RebuildSettings } from '../../worker/rebuild.ts'

type StageOptions = {
  /** Folder of this demonstration alone. */
  folder: string
  /** Folder that outlives it: build roots, downloads. */
  cache: string
  /** Of this machine, as Debian names it. */
  architecture: string
  log: Log
}

/** A server and a worker of its own, both in this process. */
export type Stage = AsyncDisposable & {
  server: RunningServer
  /** May do everything. */
  client: Client
  /** Folder of the files that were built. */
  rebuilt: string
  /** Aborted with the worker's error when it fails. */
  trouble: AbortSignal
}

/** Starts a server on a free loopback port and a worker that registers with its secret. */
export async function openStage({ folder, cache, architecture, log }: StageOptions): Promise<Stage> {
  const secret = randomUUID()
  const settings = await loadSettings(serverSettings, [])
  const server = await startServer({
    settings: { ...settings, 'http.bind_addr': '127.0.0.1:0', 'worker.signup_secret': secret },
    data: join(folder, 'server'),
    log,
  })
  const rebuilt = join(folder, 'rebuilt')
  const directory = join(folder, 'worker')
  const { key, workerKey } = await openIdentity(directory)
  const stop = new AbortController()
  const trouble = new AbortController()
  const working = runWorker({
    client: openClient({ base: server.address, workerKey, signupSecret: secret }),
    name: 'demo',
    directory,
    settings: { ...(await rebuildSettings(cache, rebuilt)), key },
    workerKey,
    architectures: { native: architecture, supported: [architecture, 'all'] },
    jobs: Math.min(4, availableParallelism()),
    idleSeconds: 1,
    minFreeBytes: 0,
    log,
    signal: stop.signal,
    drop: stop.signal,
  }).catch((error: unknown) => trouble.abort(error))
  return {
    server,
    client: openClient({ base: server.address, cookie: server.cookie }),
    rebuilt,
    trouble: trouble.signal,
    async [Symbol.asyncDispose]() {
      stop.abort(new Error('the demonstration is over'))
      await working
      await server.stop()
    },
  }
}

async function rebuildSettings(cache: string, rebuilt: string): Promise<Omit<RebuildSettings, 'key'>> {
  // What Debian built with is seldom still in its archive: take what is, and say so.
  const debian: BackendSettings = { ...builtInBackend('debian'), options: { present_toolchain: true } }
  return {
    backends: new Map([['debian', debian]]),
    diffoscope: { args: [], timeoutSeconds: 300, maxBytes: 1_000_000, html: true },
    originals: { directory: join(cache, 'originals'), limit: cacheLimit },
    cache: join(cache, 'build'), // a folder of its own: builds may write there, and must not reach the originals
    outputs: rebuilt,
    timeoutSeconds: 1800,
    maxLogBytes: null,
    silent: true,
    logRules: await readLogRules(null),
    isolation: 'auto',
  }
}

import type { TestContext } from 'node:test'
import { chmod, mkdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { generateSigningKey } from '../../src/attestation.ts'
import { openClient } from '../../src/client.ts'
import { silentLog } from '../../src/log.ts'
import { readLogRules } from '../../src/worker/logrules.ts'
import type { WorkerOptions } from '../../src/worker/loop.ts'
import type { RebuildJob, RebuildSettings } from '../../src/worker/rebuild.ts'
import { aFolder } from './files.ts'
import { patienceMilliseconds, patienceSeconds } from './until.ts'

/** Settings whose backend `test` is this shell script. */
export async function rebuildSettings(
  t: TestContext,
  script: string,
  given: Partial<RebuildSettings> = {},
): Promise<RebuildSettings> {
  const folder = await aFolder(t)
  const path = join(folder, 'backend.sh')
  await writeFile(path, `#!/bin/sh\n${script}\n`)
  await chmod(path, 0o755)
  await mkdir(join(folder, 'cache'))
  return {
    backends: new Map([['test', { name: 'test', path, options: {} }]]),
    diffoscope: null,
    key: generateSigningKey(),
    originals: null,
    cache: join(folder, 'cache'),
    timeoutSeconds: patienceSeconds,
    maxLogBytes: null,
    silent: true,
    logRules: await readLogRules(null),
    isolation: 'off',
    ...given,
  }
}

/** A job of one artifact below an address, unless told otherwise. */
export function aJob(base: string, artifacts: readonly string[] = ['hello.deb']): RebuildJob {
  return {
    job: {
      name: 'hello',
      version: '1.0-1',
      distribution: 'testing',
      release: 'sid',
      architecture: 'amd64',
      backend: 'test',
      url: `${base}/hello.buildinfo`,
    },
    artifacts: artifacts.map((path) => ({
      name: path.replace(/^.*\/|\.deb$/g, ''),
      version: '1.0-1',
      architecture: 'amd64',
      url: `${base}/${path}`,
      sha256: null,
      size: null,
    })),
  }
}

/** Options of a worker for one server, that looks for work all the time. */
export async function workerOptions(
  t: TestContext,
  base: string,
  settings: RebuildSettings,
  given: Partial<WorkerOptions> = {},
): Promise<WorkerOptions> {
  const workerKey = Buffer.from(settings.key.publicKey).toString('base64')
  const stop = new AbortController()
  t.after(() => stop.abort())
  return {
    client: openClient({ base, workerKey, signupSecret: 'let me in', timeout: patienceMilliseconds }),
    name: 'w1',
    directory: await aFolder(t),
    settings,
    workerKey,
    architectures: { native: 'x86_64', supported: ['amd64', 'all'] },
    jobs: 1,
    idleSeconds: 0.02,
    minFreeBytes: 0,
    log: silentLog,
    signal: stop.signal,
    drop: stop.signal,
    ...given,
  }
}

import { mkdir } from 'node:fs/promises'
import { basename, dirname, join } from 'node:path'
import type { TestContext } from 'node:test'
import {
  builtInBackend,
  runBackend,
  type BackendJob,
  type BackendResult,
  type BackendRun,
} from '../../src/worker/backend.ts'
import { aFolder, debianArchitecture, serveFolder } from './debs.ts'
import { patienceMilliseconds, patienceSeconds } from './until.ts'

export type DebianRun = Partial<Omit<BackendRun, 'backend' | 'input' | 'job'>> & {
  options?: BackendRun['backend']['options']
  job?: Partial<BackendJob>
}

/**
 * Rebuilds with the built-in Debian script; the folder of the input is served unless the job has an address, so that
 * the source is found beside it.
 * @param given `directory`: a folder of the job's own, made here
 */
export async function rebuildDebian(
  t: TestContext,
  input: string,
  { options = {}, job = {}, directory, ...given }: DebianRun = {},
): Promise<BackendResult> {
  const folder = directory ?? join(await aFolder(t), 'job')
  await mkdir(folder, { mode: 0o700 })
  const inputUrl = job.inputUrl ?? `${await serveFolder(t, dirname(input))}/${basename(input)}`
  const timeoutSeconds = given.timeoutSeconds ?? patienceSeconds
  return runBackend({
    backend: { ...builtInBackend('debian'), options },
    input,
    directory: folder,
    job: {
      name: 'tiny',
      version: '1.0',
      distribution: 'debian',
      release: null,
      architecture: debianArchitecture(),
      artifacts: [],
      ...job,
      inputUrl,
    },
    cache: join(folder, '../cache'),
    maxLogBytes: null,
    silent: true,
    isolation: 'auto',
    signal: AbortSignal.timeout(timeoutSeconds * 1000 + patienceMilliseconds),
    ...given,
    timeoutSeconds,
  })
}

import type { BackendRun } from './backend.ts'
import { sandboxEnvironment } from './sandbox.ts'

type Places = {
  readonly home: string
  readonly temporary: string
  readonly outdir: string
  readonly result: string
}

/** Secrets of the worker are none of the build's business. */
const secret = /SECRET|TOKEN|PASSWORD|COOKIE|CREDENTIAL|PRIVATE|(^|_)KEY$/i

/** What a script finds in its environment: ours without secrets, the job, and the settings of the backend. */
export function environmentOf(run: BackendRun, place: Places, isolated: boolean): Record<string, string> {
  const own = Object.entries(process.env).filter(
    ([name]) => !secret.test(name) && !name.startsWith('REBUILDERD_'),
  )
  const temporary = isolated ? '/tmp' : place.temporary
  const environment: Record<string, string> = {
    PATH: '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin',
    ...(Object.fromEntries(own) as Record<string, string>), // names in process.env have values
    HOME: place.home,
    TMPDIR: temporary,
    REBUILDERD_OUTDIR: place.outdir,
    REBUILDERD_RESULT: place.result,
    REBUILDERD_CACHE: run.cache,
    REBUILDERD_NAME: run.job.name,
    REBUILDERD_VERSION: run.job.version,
    REBUILDERD_DISTRIBUTION: run.job.distribution,
    REBUILDERD_RELEASE: run.job.release ?? '',
    REBUILDERD_ARCHITECTURE: run.job.architecture,
    REBUILDERD_INPUT_URL: run.job.inputUrl,
    REBUILDERD_ARTIFACTS: run.job.artifacts.join('\n'),
    REBUILDERD_ISOLATED: isolated ? '1' : '',
    ...(isolated ? sandboxEnvironment : {}),
  }
  for (const [key, value] of Object.entries(run.backend.options)) {
    const name = `REBUILDERD_BACKEND_${key.toUpperCase().replaceAll(/[^A-Z0-9]/g, '_')}`
    environment[name] = Array.isArray(value) ? value.join('\n') : String(value)
  }
  return environment
}

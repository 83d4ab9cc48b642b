import { execFile } from 'node:child_process'
import { readFile } from 'node:fs/promises'
import { promisify } from 'node:util'
import { Complaint } from '../../errors.ts'

const execute = promisify(execFile)

export type MachineMirror = { address: string; release: string; architecture: string }

/**
 * Where this machine gets its own packages from.
 * @throws Complaint where it is no Debian, or apt knows no archive of its release
 */
export async function machineMirror(signal: AbortSignal): Promise<MachineMirror> {
  const release = codenameOf(await readFile('/etc/os-release', 'utf8').catch(() => ''))
  const format = '$(REPO_URI)|$(RELEASE)|$(CODENAME)|$(COMPONENT)'
  const { stdout: indexes } = await execute('apt-get', ['indextargets', '--format', format], { signal })
  const { stdout: architecture } = await execute('dpkg', ['--print-architecture'], { signal })
  const address = addressFor(release, indexes)
  if (address === null) {
    throw new Complaint(`apt knows no archive with the component main of ${release}`, {
      hint: 'add the machine’s mirror to /etc/apt/sources.list, or try demo --local',
    })
  }
  return { address, release, architecture: architecture.trim() }
}

/** `VERSION_CODENAME` of os-release(5); testing and unstable have none and follow stable here. */
export function codenameOf(osRelease: string): string {
  const fields = new Map(
    [...osRelease.matchAll(/^(\w+)=["']?([^"'\n]*)["']?$/gm)].map((match) => [match[1], match[2]]),
  )
  if (fields.get('ID') !== 'debian') {
    throw new Complaint('this machine is no Debian', { hint: 'demo --local works without a mirror' })
  }
  return fields.get('VERSION_CODENAME') ?? 'stable'
}

/** The first web address among `URI|RELEASE|CODENAME|COMPONENT` lines that has `main` of a release. */
export function addressFor(release: string, indexes: string): string | null {
  for (const line of indexes.split('\n')) {
    const [uri = '', suite, codename, component] = line.split('|')
    const isRelease = suite === release || codename === release
    if (isRelease && component === 'main' && /^https?:/.test(uri)) return uri.replace(/\/+$/, '')
  }
  return null
}

import { spawn } from 'node:child_process'
import { access, constants } from 'node:fs/promises'
import { delimiter, join } from 'node:path'
import { Complaint, during } from '../../errors.ts'

/** A file that a package of Debian brings: a program's name, or a path. */
type Need = { file: string; package: string }

/** The local half: building, isolating and comparing. */
const localNeeds: readonly Need[] = [
  { file: 'dpkg-buildpackage', package: 'dpkg-dev' },
  { file: 'xz', package: 'xz-utils' },
  { file: 'unshare', package: 'util-linux' },
  { file: 'mount', package: 'mount' },
  { file: 'diffoscope', package: 'diffoscope-minimal' },
]

/** Debian's own packages need a build root, too. */
const officialNeeds: readonly Need[] = [
  { file: 'mmdebstrap', package: 'mmdebstrap' },
  { file: '/usr/share/keyrings/debian-archive-keyring.gpg', package: 'debian-archive-keyring' },
]

/** Without root, other users inside a build root come from ranges of ids. */
const ordinaryNeeds: readonly Need[] = [{ file: 'newuidmap', package: 'uidmap' }]

type NeedsOptions = {
  official: boolean
  install: boolean
  isRoot: boolean
  say: (line: string) => void
  signal: AbortSignal
}

/**
 * Makes sure that everything is there that the demonstration runs, installing it where that was asked for.
 * @throws Complaint with the line to type, where something is missing
 */
export async function requirePackages(options: NeedsOptions): Promise<void> {
  const missing = await missingPackages(options)
  if (missing.length === 0) return
  const line = `apt-get install --no-install-recommends ${missing.join(' ')}`
  if (!options.install || !options.isRoot) {
    const who = options.isRoot ? '' : 'as root: '
    const ease = options.isRoot ? ' (or demo --install, which does it)' : ''
    throw new Complaint(`Debian packages are missing: ${missing.join(', ')}`, { hint: who + line + ease })
  }
  options.say(`installing ${missing.join(', ')}`)
  await during(`installing ${missing.join(', ')}`, async () => {
    await aptGet(['update', '-q'], options.signal)
    await aptGet(['install', '-q', '-y', '--no-install-recommends', ...missing], options.signal)
  })
}

/** Where programs are looked for: an ordinary user's PATH lacks some. */
function usualFolders(): string[] {
  const own = (process.env['PATH'] ?? '').split(delimiter).filter((folder) => folder !== '')
  return [...own, '/usr/sbin', '/usr/bin', '/sbin', '/bin']
}

/** Debian packages that have to be installed first. */
export async function missingPackages(
  { official, isRoot }: Pick<NeedsOptions, 'official' | 'isRoot'>,
  folders: readonly string[] = usualFolders(),
): Promise<string[]> {
  const needs = [...localNeeds, ...(official ? [...officialNeeds, ...(isRoot ? [] : ordinaryNeeds)] : [])]
  const missing = new Set<string>()
  for (const need of needs) if (!(await isThere(need.file, folders))) missing.add(need.package)
  return [...missing].sort()
}

async function isThere(file: string, folders: readonly string[]): Promise<boolean> {
  const isPath = file.startsWith('/')
  for (const place of isPath ? [file] : folders.map((folder) => join(folder, file))) {
    const found = await access(place, isPath ? constants.R_OK : constants.X_OK).then(
      () => true,
      () => false,
    )
    if (found) return true
  }
  return false
}

/** What apt-get says goes to standard error: standard output is for verdicts. */
async function aptGet(args: readonly string[], signal: AbortSignal): Promise<void> {
  const environment = { ...process.env, DEBIAN_FRONTEND: 'noninteractive' }
  const child = spawn('apt-get', args, { stdio: ['ignore', 2, 2], env: environment, signal })
  const code = await new Promise<number | null>((resolve, reject) => {
    child.once('error', reject)
    child.once('close', resolve)
  })
  if (code !== 0) throw new Complaint(`apt-get ${args[0] ?? ''} failed`, { hint: 'its own words are above' })
}

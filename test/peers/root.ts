/** Upstream's programs, from Debian's packages, in a root of their own. */
import { execFile, spawn, type ChildProcess } from 'node:child_process'
import { existsSync } from 'node:fs'
import { mkdir, rename, rm } from 'node:fs/promises'
import { homedir } from 'node:os'
import { dirname, join } from 'node:path'
import { promisify } from 'node:util'
import { patienceMilliseconds } from '../help/until.ts'

const run = promisify(execFile)

const programs = ['rebuildctl', 'rebuilderd', 'rebuilderd-worker', 'debian-repro-status'] as const
type Program = (typeof programs)[number]

/** How to start one of upstream's programs: its own loader, since this machine's libc may be older. */
export type Peers = { command: (program: Program, args: readonly string[]) => [string, string[]] }

const suites = ['sid', 'forky'] as const

/** Loader and libraries by Debian's name of the machine. */
const machines: Readonly<Record<string, { loader: string; libraries: string }>> = {
  amd64: { loader: 'usr/lib64/ld-linux-x86-64.so.2', libraries: 'usr/lib/x86_64-linux-gnu' },
  arm64: { loader: 'usr/lib/ld-linux-aarch64.so.1', libraries: 'usr/lib/aarch64-linux-gnu' },
}

/**
 * Unpacks upstream's programs below the cache folder, once.
 * @returns the programs, or why they are not to be had here, as a sentence
 */
export async function openPeers(say: (line: string) => void): Promise<Peers | string> {
  const architecture = await printed('dpkg', ['--print-architecture'])
  const machine = machines[architecture ?? '']
  if (machine === undefined)
    return `upstream's programs are not packaged for this machine (${architecture ?? 'no dpkg'})`
  const cache = process.env['XDG_CACHE_HOME'] ?? join(homedir(), '.cache')
  const root = join(cache, 'rebuilderd', `peers-${architecture ?? ''}`)
  if (!existsSync(join(root, 'usr/bin/rebuildctl'))) {
    const trouble = await unpack(root, say)
    if (trouble !== null) return trouble
  }
  const loader = join(root, machine.loader)
  const libraries = join(root, machine.libraries)
  const command = (program: Program, args: readonly string[]): [string, string[]] => [
    loader,
    ['--library-path', libraries, join(root, 'usr/bin', program), ...args],
  ]
  for (const program of programs) {
    const version = await printed(...command(program, ['--version']))
    if (version === null) return `${program} does not start here`
    say(version)
  }
  return { command }
}

/** What a program prints, or null where it fails. */
async function printed(file: string, args: string[]): Promise<string | null> {
  try {
    return (await run(file, args, { timeout: patienceMilliseconds })).stdout.trim()
  } catch {
    return null
  }
}

async function unpack(root: string, say: (line: string) => void): Promise<string | null> {
  if ((await printed('mmdebstrap', ['--version'])) === null)
    return 'mmdebstrap is missing: apt-get install mmdebstrap'
  const mirror = await mirrorOfApt()
  if (mirror === null) return 'apt has no mirror of Debian in its configuration'
  const aside = `${root}.new`
  await mkdir(dirname(root), { recursive: true })
  let trouble = ''
  for (const suite of suites) {
    say(`unpacking upstream's programs of ${suite}, once`)
    await rm(aside, { recursive: true, force: true })
    try {
      await run('mmdebstrap', optionsOf(suite, aside, mirror), {
        timeout: 2 * patienceMilliseconds,
        maxBuffer: 16_000_000,
      })
      await rename(aside, root)
      return null
    } catch (error) {
      const { stderr = '' } = error as { stderr?: string }
      trouble = stderr.split('\n').find((line) => line.startsWith('E:')) ?? 'it did not answer in time'
    }
  }
  await rm(aside, { recursive: true, force: true })
  return `the mirror does not hand out upstream's programs: ${trouble.replaceAll(mirror, 'the mirror')}`
}

/** Old index times are no matter here: nothing of this is installed. */
function optionsOf(suite: string, target: string, mirror: string): string[] {
  const options = ['Acquire::Check-Valid-Until "false"', 'APT::Install-Recommends "false"']
  const included = `--include=${programs.join(',')}`
  return [
    '--quiet',
    '--variant=extract',
    ...options.map((line) => `--aptopt=${line}`),
    included,
    suite,
    target,
    mirror,
  ]
}

/** The mirror that this machine's apt takes Debian from. */
async function mirrorOfApt(): Promise<string | null> {
  const format = '$(REPO_URI) $(COMPONENT) $(LABEL)'
  const lines = await printed('apt-get', ['indextargets', '--format', format, 'Created-By: Packages'])
  const found = (lines ?? '').split('\n').find((line) => line.endsWith(' main Debian'))
  return found?.split(' ')[0]?.replace(/\/+$/, '') ?? null
}

export type Ended = { code: number | null; stdout: string; stderr: string }

/** Runs a program to its end, or until it hangs. */
export function ended(child: ChildProcess): Promise<Ended> {
  let [stdout, stderr] = ['', '']
  child.stdout?.on('data', (chunk: Buffer) => (stdout += chunk.toString()))
  child.stderr?.on('data', (chunk: Buffer) => (stderr += chunk.toString()))
  const timer = setTimeout(() => child.kill('SIGKILL'), patienceMilliseconds)
  return new Promise((resolve, reject) => {
    child.on('error', reject)
    child.on('close', (code) => {
      clearTimeout(timer)
      resolve({ code, stdout, stderr })
    })
  })
}

type Started = { child: ChildProcess; printed: () => string; stop: () => Promise<void> }

/** Starts a program that runs until it is told to stop. */
export function started(
  file: string,
  args: readonly string[],
  cwd: string,
  env: Record<string, string>,
): Started {
  const child = spawn(file, args, { cwd, env, stdio: ['ignore', 'pipe', 'pipe'] })
  let text = ''
  const keep = (chunk: Buffer): void => void (text = (text + chunk.toString()).slice(-20_000))
  child.stdout.on('data', keep)
  child.stderr.on('data', keep)
  const gone = new Promise<void>((resolve) => child.once('close', () => resolve()))
  const stop = async (): Promise<void> => {
    child.kill('SIGTERM')
    const timer = setTimeout(() => child.kill('SIGKILL'), patienceMilliseconds)
    await gone
    clearTimeout(timer)
  }
  return { child, printed: () => text, stop }
}

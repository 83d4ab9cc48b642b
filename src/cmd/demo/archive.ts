import { execFile } from 'node:child_process'
import { createHash } from 'node:crypto'
import { chmod, mkdir, readFile, readdir, rename, rm, writeFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { promisify } from 'node:util'
import { gzipSync } from 'node:zlib'
import { Complaint, during } from '../../errors.ts'
import { tinySources, type SourcePackage } from './sources.ts'

const execute = promisify(execFile)

export type Archive = {
  folder: string
  release: string
  component: string
  /** Of this machine, as Debian names it. */
  architecture: string
}

/**
 * Builds three tiny packages and lays them out like a Debian mirror (wiki.debian.org/DebianRepository/Format),
 * each .buildinfo beside its source package. Needs neither root nor network.
 * @param folder empty or missing
 * @throws Complaint with the last lines of a program that failed
 */
export async function makeArchive(
  folder: string,
  { signal, onStep }: { signal: AbortSignal; onStep?: (what: string) => void },
): Promise<Archive> {
  const tools = toolsFor(signal)
  const architecture = (await tools.run('dpkg', ['--print-architecture'])).trim()
  const archive = { folder, release: 'demo', component: 'main', architecture }
  for (const source of tinySources) {
    onStep?.(`building ${source.name}, which ${source.lesson}`)
    await during(`building ${source.name} for the first time`, () => addPackage(archive, source, tools))
  }
  await writeIndexes(archive, tools)
  return archive
}

type Tools = { run: (program: string, args: readonly string[], options?: RunOptions) => Promise<string> }
type RunOptions = { cwd?: string; environment?: Readonly<Record<string, string>> }

/** Programs with an environment that is the same for everybody. */
function toolsFor(signal: AbortSignal): Tools {
  const clean = { PATH: '/usr/sbin:/usr/bin:/sbin:/bin', LC_ALL: 'C.UTF-8', TZ: 'UTC', HOME: '/nonexistent' }
  return {
    async run(program, args, { cwd, environment = {} } = {}) {
      const options = { ...(cwd === undefined ? {} : { cwd }), signal, maxBuffer: 16 * 1024 ** 2 }
      try {
        return (await execute(program, args, { ...options, env: { ...clean, ...environment } })).stdout
      } catch (error) {
        signal.throwIfAborted()
        throw failureOf(program, error)
      }
    },
  }
}

function failureOf(program: string, error: unknown): Complaint {
  const { stderr = '', code } = error as { stderr?: string; code?: unknown } // execFile's own error
  if (code === 'ENOENT') return new Complaint(`${program} is not installed`)
  const last = stderr.trim().split('\n').slice(-5).join('\n')
  return new Complaint(`${program} failed: ${last === '' ? String(error) : last}`)
}

function poolOf({ component }: Archive, name: string): string {
  return join('pool', component, name.slice(0, 1), name)
}

/** Builds where nobody looks and moves what came out into the pool. */
async function addPackage(archive: Archive, source: SourcePackage, tools: Tools): Promise<void> {
  const work = join(archive.folder, `.${source.name}`)
  const tree = join(work, `${source.name}-${source.version}`)
  for (const [path, content] of Object.entries(source.files)) {
    const file = join(tree, path)
    await mkdir(dirname(file), { recursive: true })
    await writeFile(file, content)
    await chmod(file, content.startsWith('#!') ? 0o755 : 0o644)
  }
  await tools.run('dpkg-source', ['--build', tree], { cwd: work })
  const build = ['-c', 'umask 022; exec dpkg-buildpackage -us -uc -d --build=any']
  await tools.run('sh', build, { cwd: tree, environment: source.onlyHere })
  const pool = join(archive.folder, poolOf(archive, source.name))
  await mkdir(pool, { recursive: true })
  for (const file of await readdir(work)) {
    if (/\.(deb|dsc|buildinfo)$|\.tar\.\w+$/.test(file)) await rename(join(work, file), join(pool, file))
  }
  await rm(work, { recursive: true })
}

async function writeIndexes(archive: Archive, tools: Tools): Promise<void> {
  const { folder, component, architecture, release } = archive
  const dists = join(folder, 'dists', release)
  const scans = {
    [`${component}/binary-${architecture}/Packages`]: ['dpkg-scanpackages', '--multiversion', 'pool'],
    [`${component}/source/Sources`]: ['dpkg-scansources', 'pool'],
  }
  const listed: string[] = []
  for (const [path, [program = '', ...args]] of Object.entries(scans)) {
    const index = join(dists, path)
    await mkdir(dirname(index), { recursive: true })
    await writeFile(index, await tools.run(program, args, { cwd: folder }))
    await writeFile(`${index}.gz`, gzipSync(await readFile(index), { level: 9 }))
    await tools.run('xz', ['--keep', index])
    listed.push(path, `${path}.gz`, `${path}.xz`)
  }
  await writeFile(join(dists, 'Release'), await releaseFile(archive, dists, listed))
}

async function releaseFile(archive: Archive, dists: string, listed: readonly string[]): Promise<string> {
  const lines = [
    'Origin: Demo',
    'Label: Demo',
    `Suite: ${archive.release}`,
    `Codename: ${archive.release}`,
    `Date: ${new Date().toUTCString()}`,
    `Architectures: ${archive.architecture}`,
    `Components: ${archive.component}`,
    'SHA256:',
  ]
  for (const path of listed) {
    const bytes = await readFile(join(dists, path))
    lines.push(` ${createHash('sha256').update(bytes).digest('hex')} ${bytes.length} ${path}`)
  }
  return `${lines.join('\n')}\n`
}

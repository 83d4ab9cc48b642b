import { execFile, execFileSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import { createReadStream } from 'node:fs'
import { chmod, mkdir, readFile, readdir, rm, writeFile } from 'node:fs/promises'
import { basename, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { gzipSync } from 'node:zlib'
import type { TestContext } from 'node:test'
import { put } from './archives.ts'
import { aServer } from './files.ts'
import { aTar } from './images.ts'

export { aFolder } from './files.ts'

const run = promisify(execFile)
export const sandbox = fileURLToPath(new URL('../../src/worker/backends/sandbox.pl', import.meta.url))
const buildPath = '/build/reproducible-path'

/** Why tests that build packages cannot run here, or false. */
export function lacksPrograms(...programs: string[]): string | false {
  const missing = programs.filter((program) => {
    try {
      execFileSync('/bin/sh', ['-c', `command -v ${program}`], { stdio: 'ignore' })
      return false
    } catch {
      return true
    }
  })
  return missing.length === 0 ? false : `needs ${missing.join(', ')}`
}

/** Why tests that mount something cannot run here, or false. */
export function lacksNamespaces(): string | false {
  try {
    execFileSync('unshare', ['--user', '--map-root-user', '--mount', 'true'], { stdio: 'ignore' })
    return false
  } catch {
    return 'this machine does not let us make namespaces'
  }
}

export type SourceIdea = {
  name: string
  version?: string
  /** Shell lines that make the file `made`, which goes into every package. */
  make: string
  packages?: readonly { name: string; architecture: 'any' | 'all' }[]
  buildDepends?: string
}

/**
 * A source package without debhelper, as small as they get, and as dpkg-source would pack it: the path of its .dsc.
 * Many tests need one, and dpkg-source takes as long as the rest of their preparations.
 */
export async function aSource(folder: string, idea: SourceIdea): Promise<string> {
  const { name, version = '1.0' } = idea
  const members = Object.entries(treeOf(idea)).map(
    ([file, text]) => [`${name}-${version}/${file}`, text] as const,
  )
  const archive = `${name}_${version}.tar.gz`
  const bytes = gzipSync(await aTar(members))
  await mkdir(folder, { recursive: true })
  await writeFile(join(folder, archive), bytes)
  const sums = ['sha1', 'sha256', 'md5'].map((kind) => {
    const field = kind === 'md5' ? 'Files' : `Checksums-${kind.replace('sha', 'Sha')}`
    return `${field}:\n ${createHash(kind).update(bytes).digest('hex')} ${bytes.length} ${archive}\n`
  })
  const depends = idea.buildDepends === undefined ? '' : `Build-Depends: ${idea.buildDepends}\n`
  const packages = packagesOf(idea)
  const path = join(folder, `${name}_${version}.dsc`)
  await writeFile(
    path,
    `Format: 3.0 (native)
Source: ${name}
Binary: ${packages.map((one) => one.name).join(', ')}
Architecture: ${[...new Set(packages.map((one) => one.architecture))].join(' ')}
Version: ${version}
Maintainer: Tiny <tiny@mirror.example>
Standards-Version: 4.6.2
${depends}${sums.join('')}`,
  )
  return path
}

/** Files of a source by their paths; dpkg-source sees to it that debian/rules can be run. */
function treeOf(idea: SourceIdea): Record<string, string> {
  const { name, version = '1.0' } = idea
  return {
    'debian/source/format': '3.0 (native)\n',
    'make.sh': `set -eu\n${idea.make}\n`,
    'debian/rules': rulesOf(idea),
    'debian/control': controlOf(idea),
    'debian/changelog': changelogEntry(name, version, 'First.'),
  }
}

export function changelogEntry(name: string, version: string, change: string, more = ''): string {
  return `${name} (${version}) unstable; urgency=medium${more}

  * ${change}

 -- Tiny <tiny@mirror.example>  Sun, 03 Mar 2024 12:00:00 +0000
`
}
const writtenAt = Date.UTC(2024, 2, 3, 12) / 1000 // seconds, as SOURCE_DATE_EPOCH

function packagesOf(idea: SourceIdea) {
  return idea.packages ?? [{ name: idea.name, architecture: 'any' as const }]
}

function rulesOf(idea: SourceIdea): string {
  const recipe = (kind: 'any' | 'all') =>
    packagesOf(idea)
      .filter((one) => one.architecture === kind)
      .map(
        ({ name }) => `
	install -D -m644 made debian/${name}/usr/share/${name}/made
	mkdir -p debian/${name}/DEBIAN
	dpkg-gencontrol -p${name} -Pdebian/${name}
	find debian/${name} -newermt "@$(SOURCE_DATE_EPOCH)" -exec touch -hd "@$(SOURCE_DATE_EPOCH)" {} +
	dpkg-deb --root-owner-group --build debian/${name} ..`,
      )
      .join('')
  return `#!/usr/bin/make -f
build build-arch build-indep:
	[ -e made ] || sh ./make.sh
binary: binary-arch binary-indep
binary-arch: build${recipe('any')}
binary-indep: build${recipe('all')}
clean:
	rm -rf made debian/files ${packagesOf(idea)
    .map(({ name }) => `debian/${name}`)
    .join(' ')}
`
}

function controlOf(idea: SourceIdea): string {
  const depends = idea.buildDepends === undefined ? '' : `Build-Depends: ${idea.buildDepends}\n`
  const source = `Source: ${idea.name}
Section: misc
Priority: optional
Maintainer: Tiny <tiny@mirror.example>
${depends}Standards-Version: 4.6.2
Rules-Requires-Root: no
`
  const binaries = packagesOf(idea).map(
    ({ name, architecture }) =>
      `\nPackage: ${name}\nArchitecture: ${architecture}\nDescription: tiny\n It holds one file.\n`,
  )
  return source + binaries.join('')
}

/**
 * Builds a source package as a distribution would: the packages and a .buildinfo in `out`, whose path is returned.
 * @param entry a changelog entry put on top, as for a rebuild without changes (binNMU)
 */
export async function buildOriginals(dsc: string, out: string, entry = ''): Promise<string> {
  await mkdir(out, { recursive: true, mode: 0o777 })
  await chmod(out, 0o777)
  const tree = `${buildPath}/${basename(dsc, '.dsc').replace('_', '-')}`
  const script = `set -e; umask 022; cd ${buildPath}
    dpkg-source --no-check -x source/${basename(dsc)} ${tree}; cd ${tree}
    if [ -n "$1" ]; then { printf '%s\\n' "$1"; cat debian/changelog; } > c; cat c > debian/changelog; rm c; fi
    dpkg-buildpackage -us -uc -b -d; cd ..; rm -rf ${tree}`
  const as = process.getuid?.() === 0 ? ['--user-namespace', 'none'] : ['--user-namespace', 'single']
  const binds = ['--bind', out, buildPath, '--read', join(dsc, '..'), `${buildPath}/source`]
  await mkdir(join(out, 'source'), { recursive: true })
  const inside = [sandbox, ...as, ...binds, '--user', '1234', '--directory', buildPath, '--']
  const clean = ['env', '-i', 'PATH=/usr/bin:/bin', 'LC_ALL=C.UTF-8', 'HOME=/nonexistent']
  await run('perl', [...inside, ...clean, '/bin/sh', '-c', script, 'sh', entry])
  const made = await readdir(out)
  return join(out, made.find((file) => file.endsWith('.buildinfo')) ?? 'none')
}

/**
 * The packages alone, made in `out` by the rules of the source: the same bytes as dpkg-buildpackage comes to, which runs
 * these rules and then describes what they made.
 */
export async function buildByRules(idea: SourceIdea, out: string): Promise<void> {
  const tree = join(out, 'tree')
  for (const [file, text] of Object.entries(treeOf(idea))) await put(join(tree, file), text)
  await chmod(join(tree, 'debian/rules'), 0o755)
  await run('/bin/sh', ['-c', 'umask 022; exec debian/rules build binary'], {
    cwd: tree,
    env: { PATH: '/usr/bin:/bin', LC_ALL: 'C.UTF-8', SOURCE_DATE_EPOCH: `${writtenAt}` },
  })
  await rm(tree, { recursive: true })
}

/** The .buildinfo of one source, told as if it were that of another: for sources that never build. */
export async function buildinfoFor(template: string, folder: string, name: string): Promise<string> {
  const text = await readFile(template, 'utf8')
  const old = /^Source: (\S+)/m.exec(text)?.[1] ?? ''
  const file = join(folder, `${name}_1.0_${debianArchitecture()}.buildinfo`)
  await writeFile(
    file,
    text.replace(/^Checksums-\w+:\n( .*\n)+/gm, '').replaceAll(new RegExp(`\\b${old}\\b`, 'g'), name),
  )
  return file
}

export function debianArchitecture(): string {
  return execFileSync('dpkg', ['--print-architecture'], { encoding: 'utf8' }).trim()
}

/** Serves a folder over HTTP on this machine for as long as the test runs: its base URL. */
export async function serveFolder(t: TestContext, folder: string): Promise<string> {
  return aServer(t, (request, response) => {
    const path = decodeURIComponent(request.url ?? '/')
    const file = createReadStream(join(folder, path.replaceAll('..', '')))
    file.on('error', () => response.writeHead(404).end())
    file.on('open', () => file.pipe(response))
  })
}

/** Makes a folder of packages and sources an apt archive, or brings its indexes up to date. */
export async function indexArchive(folder: string, label = 'tiny'): Promise<void> {
  const named = ['-o', `APT::FTPArchive::Release::Label=${label}`]
  for (const [what, file] of [
    ['packages', 'Packages'],
    ['sources', 'Sources'],
    ['release', 'Release'],
  ] as const) {
    const { stdout } = await run('apt-ftparchive', [...named, what, '.'], { cwd: folder })
    await writeFile(join(folder, file), stdout)
  }
}

/** A served folder of packages and sources as an apt archive: its lines. */
export async function anArchive(t: TestContext, folder: string): Promise<string[]> {
  await indexArchive(folder)
  return linesFor(await serveFolder(t, folder))
}

export function linesFor(url: string): string[] {
  return [`deb [trusted=yes] ${url} ./`, `deb-src [trusted=yes] ${url} ./`]
}

/** An archive with a few versions of the package tiny-tool, in which there is nothing, and no more. */
export async function anArchiveOf(
  folder: string,
  versions: readonly string[],
  label?: string,
): Promise<void> {
  await rm(folder, { recursive: true, force: true })
  for (const version of versions) {
    const tree = join(folder, 'tree')
    await mkdir(join(tree, 'DEBIAN'), { recursive: true })
    const facts = 'Architecture: all\nMaintainer: Tiny <tiny@mirror.example>\nDescription: tiny\n'
    await writeFile(join(tree, 'DEBIAN/control'), `Package: tiny-tool\nVersion: ${version}\n${facts}`)
    await run('dpkg-deb', ['--build', tree, folder])
    await rm(tree, { recursive: true })
  }
  await indexArchive(folder, label)
}

/** The record of a build of a source package with a version of tiny-tool and nothing else: its path in the folder. */
export async function buildinfoOf(folder: string, source: string, toolVersion: string): Promise<string> {
  const architecture = debianArchitecture()
  const path = join(folder, `${source}_1.0-${toolVersion}_${architecture}.buildinfo`)
  const text = `Format: 1.0
Source: ${source}
Version: 1.0
Architecture: ${architecture}
Build-Architecture: ${architecture}
Build-Path: /build/reproducible-path/${source}-1.0
Installed-Build-Depends:
 tiny-tool (= ${toolVersion})
`
  await writeFile(path, text)
  return path
}

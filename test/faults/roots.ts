/** Jobs for which the Debian backend first makes a build root with the real mmdebstrap, from an archive of ours. */
import { execFileSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import {
  chmodSync,
  copyFileSync,
  mkdirSync,
  readFileSync,
  readdirSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { basename, dirname, join } from 'node:path'
import { debianArchitecture, indexArchive, lacksPrograms, linesFor } from '../help/debs.ts'

/** Why there can be no such jobs here, or false. */
export const lacksRoots: string | false =
  process.getuid?.() === 0
    ? lacksPrograms('mmdebstrap', 'dpkg-deb', 'apt-ftparchive', 'apt-get')
    : 'build roots are made by root'

/** What there is in the only package of the archive: a shell, and in place of dpkg and its like the least that will do. */
const programs = ['sh', 'env', 'sleep', 'nice', 'mkdir', 'rm']
const scripts: Readonly<Record<string, string>> = {
  // Of mmdebstrap's steps this is the one that runs in the new root.
  dpkg: 'echo installing; sleep 2',
  'dpkg-source': 'mkdir -p "$4"',
  'dpkg-buildpackage': `name=\${PWD##*/}; name=\${name%-*}
echo "made of $name" > "../\${name}_1.0_all.deb"`,
}
const packageName = 'tiny-tool'

/** Makes the archive, with as many versions of its package as there are roots to be made, and tells its files by path. */
export async function anArchiveOfRoots(folder: string, versions: number): Promise<Map<string, Buffer>> {
  mkdirSync(folder)
  const tree = join(folder, 'tree')
  for (const path of [...programs.map(pathOf), ...librariesOf(programs.map(pathOf))]) {
    const target = join(tree, path.replace(/^\/(?!usr\/)/, '/usr/')) // as on a machine with one /usr
    mkdirSync(dirname(target), { recursive: true })
    copyFileSync(path, target)
  }
  for (const [name, text] of Object.entries(scripts)) {
    const path = join(tree, 'usr/bin', name)
    writeFileSync(path, `#!/bin/sh\n${text}\n`)
    chmodSync(path, 0o755)
  }
  for (const name of ['bin', 'sbin', 'lib', 'lib64']) {
    mkdirSync(join(tree, 'usr', name), { recursive: true })
    symlinkSync(`usr/${name}`, join(tree, name))
  }
  for (const name of ['etc', 'proc', 'sys', 'tmp']) mkdirSync(join(tree, name))
  writeFileSync(join(tree, 'etc/passwd'), 'root:x:0:0::/root:/bin/sh\n')
  writeFileSync(join(tree, 'etc/group'), 'root:x:0:\n')
  mkdirSync(join(tree, 'DEBIAN'))
  const facts = 'Architecture: all\nMaintainer: Tiny <tiny@mirror.example>\nDescription: tiny\n'
  for (let version = 1; version <= versions; version++) {
    writeFileSync(join(tree, 'DEBIAN/control'), `Package: ${packageName}\nVersion: ${version}\n${facts}`)
    execFileSync('dpkg-deb', ['-Znone', '--root-owner-group', '--build', tree, folder], { stdio: 'ignore' })
  }
  rmSync(tree, { recursive: true })
  await indexArchive(folder)
  return new Map(readdirSync(folder).map((name) => [name, readFileSync(join(folder, name))]))
}

/** Settings of the backend that builds in such roots only. */
export function rootedBackend(archive: string): string {
  return `[backend.rooted]\npath = "built-in:debian"\nhost = false\nsources = ${JSON.stringify(linesFor(archive))}\n`
}

/** The files of a job by name, and what its build makes. The build root has that version of the package. */
export function aRootedJob(name: string, version: number): { files: Map<string, string>; made: string } {
  const source = 'nothing is in there\n'
  const tar = `${name}_1.0.tar.xz`
  const sum = (text: string): string => createHash('sha256').update(text).digest('hex')
  const dsc = `Format: 3.0 (native)
Source: ${name}
Version: 1.0
Checksums-Sha256:
 ${sum(source)} ${source.length} ${tar}
`
  const buildinfo = `Format: 1.0
Source: ${name}
Version: 1.0
Architecture: all
Build-Architecture: ${debianArchitecture()}
Build-Path: /build/reproducible-path/${name}-1.0
Installed-Build-Depends:
 ${packageName} (= ${version})
`
  const files = new Map([
    [tar, source],
    [`${name}_1.0.dsc`, dsc],
    [`${name}_1.0_all.buildinfo`, buildinfo],
  ])
  return { files, made: `made of ${name}\n` }
}

/** Build roots that nobody goes on to make, in the folder of a worker. */
export function unfinishedRoots(data: string): string[] {
  const roots = join(data, 'cache/build/roots')
  try {
    return readdirSync(roots).filter((name) => name.endsWith('.new'))
  } catch {
    return [] // none was made yet
  }
}

function pathOf(program: string): string {
  return execFileSync('/bin/sh', ['-c', `command -v ${basename(program)}`], { encoding: 'utf8' }).trim()
}

function librariesOf(paths: readonly string[]): string[] {
  const said = execFileSync('ldd', paths, { encoding: 'utf8' })
  return [...new Set(said.match(/\/\S+\.so\S*/g))]
}

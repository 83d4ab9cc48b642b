/** A worker that is killed while the Debian backend makes a build root, or builds in one: what that leaves, and for how long. */
import assert from 'node:assert/strict'
import { execFile, spawn, type ChildProcess } from 'node:child_process'
import { createHash } from 'node:crypto'
import { once } from 'node:events'
import { existsSync, readdirSync } from 'node:fs'
import { chmod, copyFile, cp, mkdir, readFile, writeFile } from 'node:fs/promises'
import { basename, dirname, join } from 'node:path'
import { test, type TestContext } from 'node:test'
import { promisify } from 'node:util'
import {
  aFolder,
  aSource,
  anArchiveOf,
  buildinfoOf,
  debianArchitecture,
  lacksPrograms,
  linesFor,
} from '../help/debs.ts'
import { aServer } from '../help/files.ts'
import { groupFolders, linesWith, processesWith, forEver } from '../help/machine.ts'
import { until } from '../help/until.ts'
import { firstArgs, program } from '../cmd/program.ts'

const run = promisify(execFile)
const lacks = lacksPrograms('mmdebstrap', 'dpkg-buildpackage', 'apt-ftparchive', 'unshare', 'setpriv')
const skip = process.getuid?.() === 0 ? lacks : 'build roots are made by root'

type Stage = { folder: string; data: string; base: string; held: Promise<string> }

/** Serves a folder; the answer to what `holds` names never ends. */
async function aStage(t: TestContext, holds: RegExp): Promise<Stage> {
  const folder = await aFolder(t)
  const { promise: held, resolve } = Promise.withResolvers<string>()
  const base = await aServer(t, (request, response) => {
    const path = decodeURIComponent(request.url ?? '')
    if (holds.test(path)) return resolve(path)
    readFile(join(folder, path.replaceAll('..', ''))).then(
      (bytes) => response.end(bytes),
      () => response.writeHead(404).end(),
    )
  })
  const data = join(folder, 'worker')
  await writeFile(
    join(folder, 'worker.conf'),
    `[backend.debian]\nhost = false\nsources = ${JSON.stringify(linesFor(`${base}/archive`))}\n`,
  )
  return { folder, data, base, held }
}

/** A source and the record of its build with one tool only, in the folder of the stage: the name of that. */
async function anInput({ folder }: Stage, name: string, toolVersion: string): Promise<string> {
  await aSource(folder, { name, make: 'echo > made' })
  await writeFile(join(folder, `${name}.deb`), 'never compared')
  return basename(await buildinfoOf(folder, name, toolVersion))
}

function startBuild({ folder, data, base }: Stage, input: string): ChildProcess & { said: () => string } {
  const deb = input.replace(/_.*/, '.deb')
  const args = ['worker', 'build', 'debian', `${base}/${deb}`, '--input-url', `${base}/${input}`]
  const child = spawn(
    program,
    [...firstArgs, ...args, '--data', data, '-c', join(folder, 'worker.conf'), '--require-isolation'],
    { stdio: ['ignore', 'pipe', 'pipe'], env: { ...process.env, NO_PROXY: '*' } },
  )
  let text = ''
  for (const stream of [child.stdout, child.stderr])
    stream.on('data', (chunk: Buffer) => (text = (text + chunk.toString()).slice(-20_000)))
  return Object.assign(child, { said: () => text })
}

/** Kills a build, waits until its processes are gone, and lets another one come to its end. */
async function killThenBuild(stage: Stage, victim: ChildProcess, next: string): Promise<string> {
  victim.kill('SIGKILL')
  await once(victim, 'exit')
  await until(() => processesWith(stage.data).length === 0, 'the end of all processes')
  assert.deepEqual(linesWith('/proc/self/mountinfo', stage.data), [], 'mounts')
  const child = startBuild(stage, next)
  await once(child, 'close')
  return child.said()
}

function assertClean({ data }: Stage, victim: ChildProcess): void {
  assert.deepEqual(processesWith(data), [], 'processes')
  assert.deepEqual(linesWith('/proc/self/mountinfo', data), [], 'mounts')
  assert.deepEqual(
    groupFolders().filter((name) => name.startsWith(`rebuilderd-${victim.pid}-`)),
    [],
    'control groups',
  )
  assert.deepEqual(readdirSync(join(data, 'builds')), [], 'folders of builds')
  const roots = join(data, 'cache/build/roots')
  const unfinished = existsSync(roots) ? readdirSync(roots).filter((name) => name.endsWith('.new')) : []
  assert.deepEqual(unfinished, [], 'build roots half made')
}

test(
  'a worker killed while a build root is made leaves nothing once the next one has run',
  { skip },
  async (t) => {
    const stage = await aStage(t, /tiny-tool_1\.0_/)
    await anArchiveOf(join(stage.folder, 'archive'), ['1.0', '2.0'])
    const first = await anInput(stage, 'first', '1.0')
    const second = await anInput(stage, 'second', '2.0')

    const victim = startBuild(stage, first)
    await Promise.race([stage.held, once(victim, 'exit')])
    assert.equal(victim.exitCode, null, victim.said())
    assert.equal(
      readdirSync(join(stage.data, 'cache/build/roots')).some((name) => name.endsWith('.new')),
      true,
    )
    const said = await killThenBuild(stage, victim, second)

    assert.match(said, /environment_unavailable/) // one package makes no root
    assertClean(stage, victim)
  },
)

test(
  'a worker killed while a build runs in its layer over a root leaves nothing either',
  { skip },
  async (t) => {
    const stage = await aStage(t, /never/)
    const first = await anInput(stage, 'first', '1.0')
    const second = await anInput(stage, 'second', '1.0')
    await aRoot(join(stage.data, 'cache/build/roots'), 'tiny-tool=1.0', linesFor(`${stage.base}/archive`))

    const victim = startBuild(stage, first)
    const asleep = await until(() => {
      const found = processesWith(forEver)
      return (found.length > 0 || victim.exitCode !== null) && found
    })
    assert.equal(victim.exitCode, null, victim.said())
    const layers = asleep.flatMap((id) => linesWith(`/proc/${id}/mountinfo`, ' - overlay '))
    assert.ok(layers.length > 0)
    const said = await killThenBuild(stage, victim, second)

    assert.match(said, /build_failed/)
    assert.deepEqual(processesWith(forEver), [])
    assertClean(stage, victim)
  },
)

/** A root that is there already, with just enough in it to begin to build: that of `first` never ends. */
async function aRoot(roots: string, environment: string, sources: readonly string[]): Promise<void> {
  const key = createHash('sha256')
    .update(`${environment}\n${debianArchitecture()}\n${sources.join('\n')}\n\n`)
    .digest('hex')
    .slice(0, 32)
  const root = join(roots, key, 'root')
  for (const folder of ['tmp', 'etc', 'usr/bin', 'usr/lib', 'usr/lib64'])
    await mkdir(join(root, folder), { recursive: true })
  const programs = ['/bin/sh', '/usr/bin/env', '/bin/sleep']
  const { stdout } = await run('ldd', programs)
  const libraries = new Set(stdout.match(/\/\S+\.so\S*/g))
  for (const path of [...programs, ...libraries]) {
    await mkdir(join(root, dirname(path)), { recursive: true })
    await copyFile(path, join(root, path))
  }
  await cp('/etc/passwd', join(root, 'etc/passwd'))
  await cp('/etc/group', join(root, 'etc/group'))
  const unpack = join(root, 'usr/bin/dpkg-source')
  await writeFile(unpack, `#!/bin/sh\ncase "$*" in *first_*) sleep ${forEver} ;; esac\nexit 1\n`)
  await chmod(unpack, 0o755)
  for (const [name, text] of [
    ['size', '1000'],
    ['complete', ''],
    ['used', ''],
  ] as const)
    await writeFile(join(roots, key, name), text)
}

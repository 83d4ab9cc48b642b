import assert from 'node:assert/strict'
import { execFile, execFileSync } from 'node:child_process'
import { copyFile, mkdir, mkdtemp, readFile, readdir, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { basename, join } from 'node:path'
import { after, before, test, type TestContext } from 'node:test'
import { promisify } from 'node:util'
import type { BackendResult } from '../../src/worker/backend.ts'
import { rebuildDebian } from '../help/debian.ts'
import {
  aFolder,
  aSource,
  anArchive,
  buildOriginals,
  debianArchitecture,
  lacksPrograms,
} from '../help/debs.ts'
import { clean, leftovers } from '../help/machine.ts'

// These make build roots from the machine's own mirror, which takes minutes.
const skip =
  process.env['REBUILDERD_TEST_MIRROR'] === undefined
    ? 'makes build roots from the mirror of this machine: set REBUILDERD_TEST_MIRROR=1'
    : lacksPrograms('mmdebstrap', 'dpkg-buildpackage', 'apt-ftparchive')
const run = promisify(execFile)
const architecture = skip === false ? debianArchitecture() : ''
const minutes = 60_000
let cache = ''

before(async () => {
  if (skip === false) cache = await mkdtemp(join(tmpdir(), 'rebuilderd-test-'))
})
after(() => (cache === '' ? undefined : rm(cache, { recursive: true, force: true })))

/** One-line sources of this machine's archive. */
function machineLines(): string[] {
  const format = ['--format', '$(REPO_URI) $(RELEASE) $(COMPONENT)', 'Created-By: Packages']
  const own = execFileSync('apt-get', ['indextargets', ...format], { encoding: 'utf8' }).split('\n')
  const keyring = '[signed-by=/usr/share/keyrings/debian-archive-keyring.gpg]'
  const lines = own.filter((line) => line.includes(` ${codename()}`)).map((line) => `deb ${keyring} ${line}`)
  return [...new Set(lines)]
}

function codename(): string {
  return execFileSync('/bin/sh', ['-c', '. /etc/os-release; echo "$VERSION_CODENAME"'], {
    encoding: 'utf8',
  }).trim()
}

async function rebuild(
  t: TestContext,
  input: string,
  options: Record<string, string | boolean | number | readonly string[]>,
  inputUrl = '',
): Promise<BackendResult> {
  const directory = join(await aFolder(t), 'job')
  const result = await rebuildDebian(t, input, {
    directory,
    options: { host: false, ...options },
    job: { release: codename(), ...(inputUrl === '' ? {} : { inputUrl }) },
    cache,
    isolation: 'require',
  })
  await result.tidy()
  assert.deepEqual(leftovers(directory), clean)
  return result
}

test(
  'an official package is rebuilt from its .dsc with the present toolchain',
  { skip, timeout: 10 * minutes },
  async (t) => {
    const folder = await aFolder(t)
    const uris = ['--print-uris', '-qq', '--only-source', 'source', 'midge']
    const lines = machineLines().map((line) => line.replace(/^deb /, 'deb-src '))
    await writeFile(join(folder, 'sources.list'), `${lines.join('\n')}\n`)
    await mkdir(join(folder, 'lists/partial'), { recursive: true })
    const apt = ['-o', `Dir::Etc::SourceList=${folder}/sources.list`, '-o', 'Dir::Etc::SourceParts=/dev/null']
    apt.push(
      '-o',
      `Dir::State::Lists=${folder}/lists`,
      '-o',
      `Dir::Cache=${folder}`,
      '-o',
      'APT::Sandbox::User=root',
    )
    await run('apt-get', [...apt, '-qq', 'update'])
    const { stdout } = await run('apt-get', [...apt, ...uris])
    const [, url = '', name = ''] = /'([^']+\.dsc)' (\S+)/.exec(stdout) ?? []
    await run('apt-get', [...apt, '--download-only', '--dsc-only', 'source', 'midge'], { cwd: folder })

    const result = await rebuild(t, join(folder, name), {}, url)

    assert.equal(result.exitCode, 0, Buffer.from(result.log).toString().slice(-5000))
    assert.equal(result.told?.presentToolchain, true)
    assert.ok((await readdir(result.outdir)).includes(`${basename(name, '.dsc')}_all.deb`))
  },
)

test(
  'a build dependency of the recorded version is found in whichever archive has it',
  { skip, timeout: 20 * minutes },
  async (t) => {
    const folder = await aFolder(t)
    const archives = new Map<string, string[]>()
    for (const version of ['1.0', '2.0']) {
      const at = join(folder, version)
      const dsc = await aSource(await made(join(folder, `source-${version}`)), {
        name: 'tiny-tool',
        version,
        make: `echo ${version} > made`,
      })
      await buildOriginals(dsc, at)
      await rm(join(at, 'source'), { recursive: true, force: true })
      archives.set(version, await anArchive(t, at))
    }
    const [old = [], recent = []] = [archives.get('1.0'), archives.get('2.0')]
    const make = 'cat /usr/share/tiny-tool/made > made'
    const dsc = await aSource(await made(join(folder, 'pinned')), {
      name: 'pinned',
      make,
      buildDepends: 'tiny-tool',
    })
    const original = await rebuild(t, dsc, { sources: [...machineLines(), ...old] })
    assert.equal(original.exitCode, 0, Buffer.from(original.log).toString().slice(-5000))
    const deb = `pinned_1.0_${architecture}.deb`
    const buildinfo = join(folder, 'pinned', `pinned_1.0_${architecture}.buildinfo`)
    await copyFile(join(original.outdir, basename(buildinfo)), buildinfo)
    const wanted = await readFile(join(original.outdir, deb))

    const gone = await rebuild(t, buildinfo, { sources: [...machineLines(), ...recent] })
    const present = { sources: [...machineLines(), ...recent], present_toolchain: true }
    const other = await rebuild(t, buildinfo, present)
    const found = await rebuild(t, buildinfo, {
      sources: [...machineLines(), ...recent, ...old],
      cache_bytes: 1,
    })

    assert.equal(gone.exitCode, 3)
    assert.deepEqual(gone.told?.missing, ['tiny-tool=1.0'])
    assert.equal(other.exitCode, 0, Buffer.from(other.log).toString().slice(-5000))
    assert.equal(other.told?.presentToolchain, true)
    assert.ok(!(await readFile(join(other.outdir, deb))).equals(wanted))
    assert.equal(found.exitCode, 0, Buffer.from(found.log).toString().slice(-5000))
    assert.equal(found.told?.presentToolchain, false)
    assert.ok(found.told.environment.includes('tiny-tool=1.0'))
    assert.ok((await readFile(join(found.outdir, deb))).equals(wanted))
    const roots = (await readdir(join(cache, 'roots'))).filter((name) => !name.endsWith('.lock'))
    assert.equal(roots.length, 1, 'roots beyond the bound are removed, the one in use stays')
  },
)

test('recorded versions that nobody has are named', { skip, timeout: 10 * minutes }, async (t) => {
  const folder = await aFolder(t)
  const dsc = await aSource(folder, { name: 'ancient', make: 'echo > made' })
  const buildinfo = await buildOriginals(dsc, folder)
  const text = await readFile(buildinfo, 'utf8')
  await writeFile(buildinfo, text.replace(/^ libc6 \(= .*\)/m, ' libc6 (= 2.0.1-1)'))

  const result = await rebuild(t, buildinfo, { sources: machineLines() })

  assert.equal(result.exitCode, 3)
  assert.equal(result.told?.reason, 'environment_unavailable')
  assert.ok(result.told.missing.includes('libc6=2.0.1-1'))
})

async function made(folder: string): Promise<string> {
  await mkdir(folder)
  return folder
}

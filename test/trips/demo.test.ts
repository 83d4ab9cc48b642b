import assert from 'node:assert/strict'
import { spawn, type ChildProcess } from 'node:child_process'
import { createHash } from 'node:crypto'
import { once } from 'node:events'
import { readFileSync, readdirSync } from 'node:fs'
import { join } from 'node:path'
import { test, type TestContext } from 'node:test'
import { missingPackages } from '../../src/cmd/demo/needs.ts'
import { aFolder } from '../help/files.ts'
import { firstArgs, program } from '../cmd/program.ts'

const missing = await missingPackages({ official: false, isRoot: process.getuid?.() === 0 })
const skip = missing.length === 0 ? false : `needs the Debian packages ${missing.join(', ')}`

/** The executable needs no node: it does not find one. */
const ownPath = firstArgs.length === 0 ? { PATH: '/usr/sbin:/usr/bin:/sbin:/bin' } : {}

/** The demonstration with its temporary files where we can look at them. */
function aDemo(t: TestContext, folder: string, ...args: string[]): ChildProcess & { said: () => string } {
  const environment = { ...process.env, ...ownPath, TMPDIR: folder, XDG_CACHE_HOME: join(folder, 'cache') }
  const child = spawn(program, [...firstArgs, 'demo', '--local', ...args], {
    env: environment,
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  let said = ''
  child.stdout.on('data', (chunk: Buffer) => (said += chunk.toString()))
  child.stderr.on('data', (chunk: Buffer) => (said += chunk.toString()))
  t.after(() => child.kill('SIGKILL'))
  return Object.assign(child, { said: () => said })
}

async function ended(child: ChildProcess): Promise<number | null> {
  const [code] = (await once(child, 'close')) as [number | null]
  return code
}

/** What a demonstration left: folders of its own, mounts and processes that name them. */
function leftIn(folder: string): string[] {
  const mounts = readFileSync('/proc/self/mountinfo', 'utf8').split('\n')
  return [
    ...readdirSync(folder).filter((name) => name.startsWith('rebuilderd-')),
    ...mounts.filter((line) => line.includes(folder)),
    ...readdirSync('/proc').filter((id) => /^\d+$/.test(id) && commandOf(id).includes(folder)),
  ]
}

function commandOf(id: string): string {
  try {
    return readFileSync(`/proc/${id}/cmdline`, 'latin1')
  } catch {
    return '' // ended meanwhile
  }
}

type Document = {
  packages: {
    name: string
    verdict: string
    reason: string | null
    artifacts: { sha256: string; rebuilt_sha256: string | null; rebuilt_file: string | null }[]
  }[]
}

test('three packages made here get the verdicts that they deserve', { skip }, async (t) => {
  const folder = await aFolder(t)
  const file = join(folder, 'verdicts.json')

  const child = aDemo(t, folder, '--once', '--keep', '--json', file)
  const code = await ended(child)

  assert.equal(code, 0, child.said())
  const { packages } = JSON.parse(readFileSync(file, 'utf8')) as Document
  const verdicts = packages.map(({ name, verdict, reason }) => `${name} ${verdict} ${reason}`).sort()
  assert.deepEqual(verdicts, [
    'demo-broken FAIL build_failed',
    'demo-dice BAD content_differs',
    'demo-hello GOOD null',
  ])
  for (const { name, artifacts } of packages) {
    const [artifact] = artifacts
    if (artifact?.rebuilt_file === null || artifact === undefined) assert.equal(name, 'demo-broken')
    else assert.equal(sha256Of(artifact.rebuilt_file), artifact.rebuilt_sha256)
    assert.equal(artifact?.sha256 === artifact?.rebuilt_sha256, name === 'demo-hello')
  }
  assert.match(child.said(), /-echo 'the dice say [0-9a-f]{8}'/)
  assert.match(child.said(), /error: the secret ingredient is missing/)
})

function sha256Of(path: string): string {
  return createHash('sha256').update(readFileSync(path)).digest('hex')
}

for (const [when, words] of [
  ['while the first packages are built', 'Rebuilding'],
  ['after the first verdict', 'demo-broken 1.0'],
] as const) {
  test(`a demonstration that is stopped ${when} leaves nothing behind`, { skip }, async (t) => {
    const folder = await aFolder(t)
    const child = aDemo(t, folder)
    const end = ended(child)
    while (!child.said().includes(words) && child.exitCode === null)
      await Promise.race([once(child.stdout ?? child, 'data'), end])

    child.kill('SIGINT')
    const code = await end

    assert.equal(code, 130, child.said())
    assert.deepEqual(leftIn(folder), [])
  })
}

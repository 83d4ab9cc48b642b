/** The commands that pages print do what they say, exactly as they are printed. */
import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { readFile, readdir, writeFile } from 'node:fs/promises'
import { createHash } from 'node:crypto'
import { basename, join } from 'node:path'
import { test, type TestContext } from 'node:test'
import { cleanEnvironment, scriptThatStarts } from '../cmd/program.ts'
import {
  aFolder,
  aSource,
  buildOriginals,
  debianArchitecture,
  lacksPrograms,
  serveFolder,
} from '../help/debs.ts'
import { aPackage, anArtifact, importPackages, startServer } from '../help/server.ts'
import { commandOf } from '../help/pages.ts'

const skip = lacksPrograms('dpkg-buildpackage', 'unshare', 'apt-get', 'setpriv')

/** What a program that was asked for by its name says in a shell. */
async function shell(t: TestContext, commands: string): Promise<{ code: number; said: string }> {
  const home = await aFolder(t)
  await writeFile(join(home, 'rebuilderd'), scriptThatStarts, { mode: 0o755 })
  const state = { PATH: `${home}:${process.env['PATH'] ?? ''}`, XDG_STATE_HOME: join(home, 'state') }
  const env = { ...cleanEnvironment(home), ...state }
  return new Promise((resolve) => {
    execFile('sh', ['-c', commands], { cwd: home, env }, (error, stdout, stderr) =>
      resolve({ code: Number(error?.code ?? 0), said: stdout + stderr }),
    )
  })
}

test(
  'the command on the page of a package repeats its verdict at home, file by file',
  { skip },
  async (t) => {
    const folder = await aFolder(t)
    const packages = [
      { name: 'steady-program', architecture: 'any' },
      { name: 'steady-data', architecture: 'all' },
    ] as const
    const make = 'date -u -d "@$SOURCE_DATE_EPOCH" > made'
    const dsc = await aSource(folder, { name: 'steady', make, packages })
    const buildinfo = await buildOriginals(dsc, folder)
    const mirror = await serveFolder(t, folder)
    const server = await startServer(t)
    const artifacts = []
    for (const file of (await readdir(folder)).filter((each) => each.endsWith('.deb'))) {
      const bytes = await readFile(join(folder, file))
      const sha256 = createHash('sha256').update(bytes).digest('hex')
      const name = file.split('_')[0] ?? ''
      artifacts.push(
        anArtifact({ name, version: '1.0', url: `${mirror}/${file}`, sha256, size: bytes.length }),
      )
    }
    const url = `${mirror}/${basename(buildinfo)}`
    await importPackages(server.call, [aPackage({ name: 'steady', version: '1.0', url, artifacts })], {
      architecture: debianArchitecture(),
    })

    const page = await (await fetch(`${server.address}/debian/sid/steady`)).text()
    const { code, said } = await shell(t, commandOf(page, 'Command that repeats the verdict'))

    assert.equal(code, 0, said)
    assert.match(said, /^GOOD$/m)
    for (const { name } of packages) assert.match(said, new RegExp(`^GOOD ${name}$`, 'm'))
  },
)

/** The built-in Debian backend alone with the programs of this machine; verdicts.test.ts has what whole rebuilds come to. */
import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { existsSync } from 'node:fs'
import { chmod, mkdir, readFile, readdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { test } from 'node:test'
import type { BackendResult } from '../../src/worker/backend.ts'
import { rebuildDebian } from '../help/debian.ts'
import {
  aFolder,
  aSource,
  buildOriginals,
  buildinfoFor,
  debianArchitecture,
  lacksPrograms,
} from '../help/debs.ts'

const skip = lacksPrograms('dpkg-buildpackage', 'unshare', 'apt-get', 'setpriv')
const architecture = skip === false ? debianArchitecture() : ''

async function same(result: BackendResult, out: string, name: string): Promise<boolean> {
  const [rebuilt, original] = await Promise.all([
    readFile(join(result.outdir, name)),
    readFile(join(out, name)),
  ])
  return rebuilt.equals(original)
}

test('a reproducible package comes out bit by bit', { skip }, async (t) => {
  const folder = await aFolder(t)
  const dsc = await aSource(folder, { name: 'steady', make: 'date -u -d "@$SOURCE_DATE_EPOCH" > made' })
  const buildinfo = await buildOriginals(dsc, folder)

  const result = await rebuildDebian(t, buildinfo)

  assert.equal(result.exitCode, 0, Buffer.from(result.log).toString())
  assert.ok(await same(result, folder, `steady_1.0_${architecture}.deb`))
  assert.equal(result.told?.presentToolchain, false)
  assert.ok(result.told.environment.some((line) => line.startsWith('libc6=')))
})
test(
  'a package that this machine has installed is not rebuilt with what is installed here',
  { skip },
  async (t) => {
    const folder = await aFolder(t)
    const dsc = await aSource(folder, { name: 'copying', make: 'cp /usr/bin/dpkg made' })
    const buildinfo = await buildOriginals(dsc, folder)
    const { stdout } = spawnSync('dpkg-query', ['-W', '-f', '${Version}', 'dpkg'], { encoding: 'utf8' })
    const text = await readFile(buildinfo, 'utf8')
    await writeFile(buildinfo, text.replaceAll(/^ dpkg \(= .*\n| dpkg-dev \(= .*\n/gm, ''))

    const result = await rebuildDebian(t, buildinfo, {
      options: { sources: ['deb [trusted=yes] file:/nowhere ./'] },
      job: { artifacts: [`dpkg_${stdout}_${architecture}.deb`] },
    })

    assert.equal(result.exitCode, 3, Buffer.from(result.log).toString())
    assert.match(
      Buffer.from(result.log).toString(),
      /not with the packages of this machine: dpkg=\S+ is one of them/,
    )
  },
)

const unguarded =
  skip !== false
    ? skip
    : process.getuid?.() !== 0 || existsSync('/build')
      ? 'needs root and a machine without a folder /build'
      : false

for (const [name, make, exits] of [
  ['steady', 'echo made > made', 0],
  ['broken', 'exit 7', 1],
] as const) {
  test(
    `without namespaces a package named ${name} is built at its Build-Path → ${exits}`,
    { skip: unguarded },
    async (t) => {
      const folder = await aFolder(t)
      const programs = join(folder, 'programs')
      await mkdir(programs)
      await writeFile(join(programs, 'unshare'), '#!/bin/sh\nexit 1\n')
      await chmod(join(programs, 'unshare'), 0o755)
      const template = await buildOriginals(
        await aSource(folder, { name: 'template', make: 'echo > made' }),
        folder,
      )
      await aSource(folder, { name, make })
      const buildinfo = await buildinfoFor(template, folder, name)
      const path = process.env['PATH']
      t.after(() => (process.env['PATH'] = path))
      process.env['PATH'] = `${programs}:${path}`

      const result = await rebuildDebian(t, buildinfo, { isolation: 'off' })

      assert.equal(result.exitCode, exits, Buffer.from(result.log).toString())
      assert.equal(result.isolation, 'none')
      const made = (await readdir(result.outdir)).filter((file) => file.endsWith('.deb'))
      assert.deepEqual(made, exits === 0 ? [`${name}_1.0_${architecture}.deb`] : [])
      assert.ok(!existsSync('/build'))
    },
  )
}

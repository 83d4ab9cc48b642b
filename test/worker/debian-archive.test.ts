/** The built-in Debian backend and archives that move on, lead elsewhere or are gone: without the machine's mirror. */
import assert from 'node:assert/strict'
import { copyFile, mkdir, readFile, readdir } from 'node:fs/promises'
import { basename, dirname, join } from 'node:path'
import { test } from 'node:test'
import type { BackendResult } from '../../src/worker/backend.ts'
import { rebuildDebian } from '../help/debian.ts'
import {
  aFolder,
  aSource,
  anArchiveOf,
  buildinfoOf,
  lacksPrograms,
  linesFor,
  serveFolder,
} from '../help/debs.ts'
import { aServer, aStandIn } from '../help/files.ts'
import { openGpg } from '../help/gpg.ts'
import { behindAProxy, redirections } from '../help/redirects.ts'

const skip = lacksPrograms('gpg', 'mmdebstrap', 'dpkg-buildpackage', 'apt-ftparchive', 'unshare', 'setpriv')

test(
  'lists that are young, yet older than the archive, which has another label now: what is gone from it is named',
  { skip },
  async (t) => {
    const folder = await aFolder(t)
    const archive = join(folder, 'archive')
    await anArchiveOf(archive, ['1.0'], 'present')
    const [keyring, gpg] = [join(folder, 'cache/archive.gpg'), openGpg(t)] // where the sandbox sees it
    const key = gpg.key('tiny')
    await mkdir(dirname(keyring))
    gpg.exported(keyring, key)
    const signed = (): void => gpg.sign(key, join(archive, 'Release'), 'clear', join(archive, 'InRelease'))
    signed()
    const sources = linesFor(await serveFolder(t, archive)).map((line) =>
      line.replace('trusted=yes', `signed-by=${keyring}`),
    )
    await aSource(folder, { name: 'wanted', make: 'echo > made' })
    const base = await serveFolder(t, folder)
    const build = async (version: string): Promise<BackendResult> => {
      const input = await buildinfoOf(folder, 'wanted', version)
      const job = { release: 'stable', inputUrl: `${base}/${basename(input)}` }
      return rebuildDebian(t, input, { job, cache: join(folder, 'cache'), options: { host: false, sources } })
    }

    const before = await build('0.9')
    await anArchiveOf(archive, ['2.0'], 'archived')
    signed()
    const after = await build('1.0')

    assert.deepEqual(before.told?.missing, ['tiny-tool=0.9'])
    assert.equal(after.exitCode, 3, Buffer.from(after.log).toString())
    assert.equal(after.told?.reason, 'environment_unavailable')
    assert.deepEqual(after.told.missing, ['tiny-tool=1.0'])
    const roots = (await readdir(join(folder, 'cache/roots'))).filter((name) => !name.endsWith('.lock'))
    assert.deepEqual(roots, [])
  },
)

for (const { what, from, leadsTo } of redirections) {
  test(`a public server that sends us to ${what}`, { skip }, async (t) => {
    const folder = await aFolder(t)
    const dsc = await aSource(folder, { name: 'steady', make: 'echo steady > made' })
    const asked = await behindAProxy(t, folder)
    const input = await alone(dsc)

    const result = await rebuildDebian(t, input, {
      job: { release: 'stable', inputUrl: `${from}${basename(input)}` },
      options: { sources: ['deb [trusted=yes] http://mirror.example/none ./'] },
    })

    const log = Buffer.from(result.log).toString()
    const elsewhere = asked.filter((url) => !url.startsWith('http://mirror.example/'))
    assert.equal(/sends us to .* inside our network/.test(log), leadsTo === null, log)
    assert.deepEqual(elsewhere, leadsTo === null ? [] : [`${leadsTo}steady_1.0.tar.gz`])
  })
}

test('an archive that fails while a build root is made, or before, is told as such', { skip }, async (t) => {
  const folder = await aFolder(t)
  await anArchiveOf(join(folder, 'archive'), ['1.0'])
  await aSource(folder, { name: 'wanted', make: 'echo > made' })
  const base = await aServer(t, async (request, response) => {
    const { url = '' } = request
    const kept = await readFile(join(folder, 'archive', basename(url))).catch(() => null)
    response.writeHead(kept === null || url.endsWith('.deb') ? 404 : 200).end(kept)
  })
  const build = async (version: string, sources: readonly string[]): Promise<BackendResult> =>
    rebuildDebian(t, await buildinfoOf(folder, 'wanted', version), {
      directory: join(folder, `job-${version}`),
      cache: join(folder, 'cache'),
      options: { host: false, sources },
    })

  const during = await build('1.0', linesFor(base))
  const before = await build('0.9', [...linesFor(base), 'deb [trusted=yes] http://127.0.0.1:1/gone ./'])

  for (const [{ exitCode, told, log }, note] of [
    [during, /^an archive did not deliver what it lists/],
    [before, /^not every archive gave its package lists, and the others lack 1 recorded/],
  ] as const) {
    assert.deepEqual([exitCode, told?.reason, told?.missing], [3, 'environment_unavailable', []])
    assert.match(told?.note ?? '', note, Buffer.from(log).toString())
  }
})

test('mmdebstrap that is killed says nothing of the recorded packages', { skip }, async (t) => {
  const folder = await aFolder(t)
  await anArchiveOf(join(folder, 'archive'), ['1.0'])
  await aSource(folder, { name: 'wanted', make: 'echo > made' })
  const sources = linesFor(await serveFolder(t, join(folder, 'archive')))
  await aStandIn(t, 'mmdebstrap', 'kill -9 $$')

  const result = await rebuildDebian(t, await buildinfoOf(folder, 'wanted', '1.0'), {
    job: { release: 'stable' },
    options: { host: false, sources },
    isolation: 'off', // the stand-in lies where no sandbox looks
  })

  assert.equal(result.exitCode, 5, Buffer.from(result.log).toString())
  assert.equal(result.told?.note, 'mmdebstrap was killed while it made the build root')
})

test(
  'a source is fetched from the address that was looked at, not from what its name leads to later',
  { skip },
  async (t) => {
    const folder = await aFolder(t)
    const dsc = await aSource(folder, { name: 'steady', make: 'echo steady > made' })
    const asked: string[] = []
    const server = await aServer(t, async (request, response) => {
      asked.push(`${request.headers.host}${request.url}`)
      response.end(await readFile(join(folder, basename(request.url ?? ''))))
    })
    // Answers once: whoever asks again, or asks otherwise, learns of nobody by this name.
    await aStandIn(
      t,
      'getent',
      `[ "$*" != 'ahosts mirror.example' ] || echo '127.0.0.1 STREAM mirror.example'`,
    )
    const host = server.replace('http://127.0.0.1', 'mirror.example')

    const result = await rebuildDebian(t, await alone(dsc), {
      job: { release: 'stable', inputUrl: `http://${host}/steady_1.0.dsc` },
      options: { sources: ['deb [trusted=yes] http://mirror.example/none ./'] },
      isolation: 'off', // the stand-in lies where no sandbox looks
    })

    assert.deepEqual(asked, [`${host}/steady_1.0.tar.gz`], Buffer.from(result.log).toString())
  },
)

/** Into a folder of its own, where the other files of its source do not lie beside it. */
async function alone(input: string): Promise<string> {
  const path = join(input, '../alone', basename(input))
  await mkdir(dirname(path))
  await copyFile(input, path)
  return path
}

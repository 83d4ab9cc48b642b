import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { readdir, readFile, utimes } from 'node:fs/promises'
import type { IncomingMessage, ServerResponse } from 'node:http'
import { join } from 'node:path'
import { describe, test, type TestContext } from 'node:test'
import { fileURLToPath } from 'node:url'
import { silentLog } from '../../src/log.ts'
import { bytesOf, downloadFolder, openMirror } from '../../src/sync/mirror.ts'
import { aBinary, aFolder, aSource, put, serveFolder, sha256, writeDebianArchive } from '../help/archives.ts'
import { patienceMilliseconds, untilKept } from '../help/until.ts'

const content = Buffer.from(Array.from({ length: 20_000 }, (_, i) => `line ${i}\n`).join(''))
const expected = { sha256: sha256(content), size: content.length }
const half = 100_000
const limit = 1e7

type Asked = { range: string | undefined; ifRange: string | undefined }

/** A mirror with one file, and a cache; `breaks`: it stops in the middle of the file, and has nothing behind that. */
async function aMirror(t: TestContext, { etag = true } = {}) {
  const folder = await aFolder(t)
  const cache = await aFolder(t)
  await put(join(folder, 'index'), content)
  const server = await serveFolder(t, folder)
  const state = { breaks: true, asked: [] as Asked[] }
  server.intercept = ({ headers }: IncomingMessage, response: ServerResponse) => {
    state.asked.push({ range: headers.range, ifRange: headers['if-range']?.toString() })
    if (!state.breaks) return false
    if (headers.range !== undefined) {
      response.writeHead(503).end()
      return true
    }
    const length = { 'content-length': content.length }
    response.writeHead(200, etag ? { ...length, etag: `"${sha256(content).slice(0, 16)}"` } : length)
    response.write(content.subarray(0, half))
    void untilKept(cache, half).finally(() => response.destroy())
    return true
  }
  const read = async (options: { expected?: typeof expected } = {}): Promise<Buffer | null> => {
    await using downloads = await downloadFolder(cache)
    const mirror = openMirror({
      addresses: [server.url],
      folder: downloads,
      log: silentLog,
      signal: AbortSignal.timeout(patienceMilliseconds),
      retryMs: 1,
    })
    const file = await mirror.file('index', { limit, ...options })
    return file === null ? null : bytesOf(file, limit)
  }
  /** Lets the mirror break off until the sync gives up; then the mirror is well again. */
  const breakOff = async (options: { expected?: typeof expected } = {}): Promise<void> => {
    await assert.rejects(read(options), /cannot be downloaded/)
    state.breaks = false
    state.asked.length = 0
  }
  const parts = async (): Promise<string[]> =>
    (await readdir(cache)).filter((name) => name.endsWith('.part')).map((name) => join(cache, name))
  return { folder, cache, state, read, breakOff, parts }
}

describe('a download that an earlier sync did not end', () => {
  test('is continued, and proven by the hash', async (t) => {
    const { state, read, breakOff, cache } = await aMirror(t)
    await breakOff({ expected })

    assert.deepEqual(await read({ expected }), content)

    const etag = `"${sha256(content).slice(0, 16)}"`
    assert.deepEqual(state.asked, [{ range: `bytes=${half}-`, ifRange: etag }])
    assert.deepEqual(await readdir(cache), [`sha256-${expected.sha256}`])
  })

  test('is taken as it is where only its last step was missing', async (t) => {
    const { state, read, breakOff, parts } = await aMirror(t)
    await breakOff({ expected })
    await put((await parts())[0] ?? '', content)

    assert.deepEqual(await read({ expected }), content)
    assert.deepEqual(state.asked, [])
  })

  test('is begun anew where what is left of it is damaged', async (t) => {
    const { state, read, breakOff, parts } = await aMirror(t)
    await breakOff({ expected })
    await put((await parts())[0] ?? '', 'x'.repeat(half))

    assert.deepEqual(await read({ expected }), content)
    assert.deepEqual(
      state.asked.map(({ range }) => range),
      [`bytes=${half}-`, undefined],
    )
  })

  test('is continued without a hash where the mirror names its versions, and only in the same one', async (t) => {
    for (const changes of [false, true]) {
      const { state, read, breakOff, folder } = await aMirror(t)
      await breakOff()
      const now = changes ? Buffer.from('something else') : content
      if (changes) await put(join(folder, 'index'), now)

      assert.deepEqual(await read(), now)
      assert.equal(state.asked[0]?.range, `bytes=${half}-`)
      assert.match(state.asked[0].ifRange ?? '', /^"[0-9a-f]{16}"$/)
    }
  })

  test('is begun anew where neither hash nor version tells that both halves are of one file', async (t) => {
    const { state, read, breakOff, parts } = await aMirror(t, { etag: false })
    await breakOff()

    assert.deepEqual(await parts(), [])
    assert.deepEqual(await read(), content)
    assert.equal(state.asked[0]?.range, undefined)
  })

  test('is left to the process that still works on it', async (t) => {
    const { state, read, breakOff, parts, cache } = await aMirror(t)
    await breakOff({ expected })
    const other = spawn('sleep', ['infinity'])
    t.after(() => other.kill())
    const theirs = join(cache, `sha256-${expected.sha256}.${other.pid}-${'0'.repeat(12)}.part`)
    await put(theirs, content.subarray(0, half + 1))

    assert.deepEqual(await read({ expected }), content)
    assert.equal(state.asked[0]?.range, `bytes=${half}-`)
    assert.deepEqual(await parts(), [theirs])
  })

  test('is one file however often that happens, and gone after two days', async (t) => {
    const { state, read, breakOff, parts } = await aMirror(t)
    await breakOff({ expected })
    state.breaks = true
    await breakOff({ expected })
    const [part = '', ...others] = await parts()
    assert.deepEqual(others, [])
    const old = new Date(Date.now() - 3 * 86_400_000)
    await utimes(part, old, old)

    await read()

    assert.deepEqual(await parts(), [])
  })
})

for (const signal of ['SIGKILL', 'SIGINT'] as const) {
  test(`a sync that was ended by ${signal} goes on where it stopped`, async (t) => {
    const [folder, home] = [await aFolder(t), await aFolder(t)]
    const names = Array.from({ length: 3000 }, (_, i) => `package-${i}-${sha256(String(i)).slice(0, 40)}`)
    await writeDebianArchive(folder, {
      binaries: { 'main/amd64': names.map((Package) => aBinary({ Package })) },
      sources: { main: names.map((Package) => aSource({ Package })) },
      coding: 'plain',
    })
    const index = join(folder, 'dists/test/main/binary-amd64/Packages')
    const bytes = await readFile(index)
    await writeRelease(folder)
    const server = await serveFolder(t, folder)
    const stuck = Promise.withResolvers<void>()
    const ranges: (string | undefined)[] = []
    server.intercept = (request, response) => {
      if (request.url?.endsWith('/binary-amd64/Packages') !== true) return false
      ranges.push(request.headers.range)
      if (ranges.length > 1) return false
      response.writeHead(200, { 'content-length': bytes.length })
      response.write(bytes.subarray(0, half))
      untilKept(home, half, sha256(bytes)).then(stuck.resolve, stuck.reject)
      return true
    }
    const sync = () => startSync(server.url, home)

    const first = sync()
    await stuck.promise
    first.child.kill(signal)
    const [code, by] = await first.ended
    const second = sync()
    const [again] = await second.ended

    assert.ok(by === signal || code === 130, `${code} ${by} ${first.told()}`)
    assert.equal(again, 0, second.told())
    assert.deepEqual(ranges, [undefined, `bytes=${half}-`])
    assert.equal((JSON.parse(second.told()) as { packages: unknown[] }[])[0]?.packages.length, names.length)
  })
}

/** An unsigned Release: it tells the hashes, which is what a download is continued by. */
async function writeRelease(folder: string): Promise<void> {
  const dists = join(folder, 'dists/test')
  const lines: string[] = []
  for (const path of ['main/binary-amd64/Packages', 'main/source/Sources']) {
    const bytes = await readFile(join(dists, path))
    lines.push(` ${sha256(bytes)} ${bytes.length} ${path}`)
  }
  await put(join(dists, 'Release'), `Codename: test\nSHA256:\n${lines.join('\n')}\n`)
}

function startSync(url: string, home: string) {
  const main = fileURLToPath(new URL('../../src/main.ts', import.meta.url))
  const lists = ['--release', 'test', '--component', 'main', '--architecture', 'amd64']
  const args = [main, 'ctl', 'pkgs', 'sync', 'debian', url, ...lists, '--allow-unsigned', '--print-json']
  const child = spawn(process.execPath, args, { env: { ...process.env, HOME: home, XDG_CACHE_HOME: home } })
  let told = ''
  child.stdout.on('data', (chunk: Buffer) => (told += chunk.toString()))
  child.stderr.on('data', () => undefined)
  const ended = once(child, 'close') as Promise<[number | null, string | null]>
  return { child, ended, told: () => told }
}

import assert from 'node:assert/strict'
import { readdir, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, test, type TestContext } from 'node:test'
import { silentLog } from '../../src/log.ts'
import { addressOf } from '../../src/sync/address.ts'
import { bytesOf, downloadFolder, openMirror, type Mirror } from '../../src/sync/mirror.ts'
import { Unreachable } from '../../src/sync/download.ts'
import { silentServers } from '../../src/sync/silent-servers.ts'
import { aFolder, put, serveFolder, sha256 } from '../help/archives.ts'
import { patienceMilliseconds, untilKept } from '../help/until.ts'

const content = Buffer.from('content of an index\n'.repeat(5000))
const expected = { sha256: sha256(content), size: content.length }
const limit = 1e7

async function aServer(t: TestContext, files: Readonly<Record<string, string | Uint8Array>>) {
  const folder = await aFolder(t)
  for (const [path, bytes] of Object.entries(files)) await put(join(folder, path), bytes)
  return { folder, server: await serveFolder(t, folder) }
}

async function aMirror(t: TestContext, addresses: readonly string[], cache?: string): Promise<Mirror> {
  const folder = await downloadFolder(cache ?? null)
  t.after(() => folder[Symbol.asyncDispose]())
  return openMirror({
    addresses,
    folder,
    log: silentLog,
    signal: AbortSignal.timeout(patienceMilliseconds),
    retryMs: 1,
  })
}

async function read(mirror: Mirror, path: string, options: Partial<Parameters<Mirror['file']>[1]> = {}) {
  const file = await mirror.file(path, { limit, ...options })
  return file === null ? null : bytesOf(file, limit)
}

describe('a mirror', () => {
  test('is a web server, a folder or a file: address', async (t) => {
    const { folder, server } = await aServer(t, { 'a/index': content })

    for (const address of [server.url, `${server.url}/`, folder, `file://${folder}`]) {
      const mirror = await aMirror(t, [address])
      assert.deepEqual(await read(mirror, 'a/index', { expected }), content, address)
      assert.equal(await read(mirror, 'a/none'), null, address)
    }
  })

  test('of another scheme is refused', async (t) => {
    await assert.rejects(read(await aMirror(t, ['ftp://mirror.example']), 'index'), /scheme/)
  })

  test('that sends other bytes than the index tells is refused', async (t) => {
    const { folder, server } = await aServer(t, { index: content })

    for (const address of [server.url, folder]) {
      const mirror = await aMirror(t, [address])
      const other = { ...expected, sha256: sha256('other') }
      await assert.rejects(read(mirror, 'index', { expected: other }), /is not what the index tells: SHA-256/)
      await assert.rejects(read(mirror, 'index', { expected: { ...expected, size: 7 } }), /tells/)
    }
  })

  test('that sends more than the limit is given up', async (t) => {
    const { folder, server } = await aServer(t, { index: content })

    for (const address of [server.url, folder]) {
      await assert.rejects(
        read(await aMirror(t, [address]), 'index', { limit: 100 }),
        /longer than 100 bytes/,
      )
    }
  })

  test('that stumbles is asked again', async (t) => {
    const { server } = await aServer(t, { index: content })
    server.intercept = (_, response) => {
      if (server.requests.length > 2) return false
      response.writeHead(503).end()
      return true
    }

    assert.deepEqual(await read(await aMirror(t, [server.url]), 'index'), content)
    assert.equal(server.requests.length, 3)
  })

  test('that stays broken is given up after four tries', async (t) => {
    const { server } = await aServer(t, {})
    server.intercept = (_, response) => {
      response.writeHead(500).end()
      return true
    }

    await assert.rejects(read(await aMirror(t, [server.url]), 'index'), /answers 500 \(tried 4 times\)/)
    assert.equal(server.requests.length, 4)
  })

  test('that refuses us is not asked again', async (t) => {
    const { server } = await aServer(t, {})
    server.intercept = (_, response) => {
      response.writeHead(403).end()
      return true
    }

    await assert.rejects(read(await aMirror(t, [server.url]), 'index'), /answers 403/)
    assert.equal(server.requests.length, 1)
  })

  test('that breaks off is asked for the rest', async (t) => {
    const { server } = await aServer(t, { index: content })
    const cache = await aFolder(t)
    const ranges: (string | undefined)[] = []
    server.intercept = (request, response) => {
      ranges.push(request.headers.range)
      if (server.requests.length > 1) return false
      response.writeHead(200, { 'content-length': content.length })
      response.write(content.subarray(0, 40_000))
      void untilKept(cache, 40_000).finally(() => response.destroy())
      return true
    }

    assert.deepEqual(await read(await aMirror(t, [server.url], cache), 'index', { expected }), content)
    assert.deepEqual(ranges, [undefined, 'bytes=40000-'])
  })

  test('with copies is replaced by the next where it fails', async (t) => {
    const { server } = await aServer(t, { index: content })
    const { server: empty } = await aServer(t, {})
    const dead = 'http://127.0.0.1:1'

    const mirror = await aMirror(t, [dead, empty.url, server.url])

    assert.deepEqual(await read(mirror, 'index'), content)
    await assert.rejects(read(mirror, 'none'), /cannot be downloaded/)
  })

  test('that did not answer is asked last from then on, once for each file, until it answers', async (t) => {
    const { server: silent } = await aServer(t, { 'only here': content })
    const { server } = await aServer(t, { a: content, b: content })
    let isSilent = true
    silent.intercept = (_, response) => {
      if (isSilent) response.destroy()
      return isSilent
    }
    const mirror = await aMirror(t, [silent.url, server.url])

    await read(mirror, 'a')
    await read(mirror, 'b')
    assert.deepEqual(silent.requests, ['/a', '/a', '/a', '/a'])
    await assert.rejects(read(mirror, 'only here'), /cannot be downloaded: .* \(tried again\)/)
    assert.equal(silent.requests.length, 5)
    isSilent = false
    assert.deepEqual(await read(mirror, 'only here'), content)
    await read(mirror, 'a')

    assert.equal(silent.requests.at(-1), '/a')
  })

  test('may not be left by a path', async (t) => {
    const mirror = await aMirror(t, [await aFolder(t)])

    for (const path of ['../etc/passwd', 'a/../../b', '/etc/passwd', 'a//b', 'a\0b', '']) {
      await assert.rejects(read(mirror, path), /not a path inside the archive/)
    }
  })
})

describe('a cache', () => {
  test('spares the download of what is proven', async (t) => {
    const { server } = await aServer(t, { index: content })
    const cache = await aFolder(t)

    await read(await aMirror(t, [server.url], cache), 'index', { expected })
    assert.deepEqual(await read(await aMirror(t, [server.url], cache), 'index', { expected }), content)

    assert.equal(server.requests.length, 1)
  })

  test('that was damaged is replaced', async (t) => {
    const { server } = await aServer(t, { index: content })
    const cache = await aFolder(t)
    await read(await aMirror(t, [server.url], cache), 'index', { expected })
    const [name = ''] = await readdir(cache)
    await put(join(cache, name), 'x'.repeat(content.length))

    assert.deepEqual(await read(await aMirror(t, [server.url], cache), 'index', { expected }), content)
    assert.deepEqual(await readFile(join(cache, name)), content)
  })

  test('asks whether the rest has changed', async (t) => {
    const { folder, server } = await aServer(t, { InRelease: 'one' })
    const cache = await aFolder(t)
    const statuses: number[] = []
    server.intercept = (_, response) => {
      response.on('finish', () => statuses.push(response.statusCode))
      return false
    }

    const first = await read(await aMirror(t, [server.url], cache), 'InRelease')
    const again = await read(await aMirror(t, [server.url], cache), 'InRelease')
    await put(join(folder, 'InRelease'), 'two')
    const changed = await read(await aMirror(t, [server.url], cache), 'InRelease')

    assert.deepEqual([first, again, changed].map(String), ['one', 'one', 'two'])
    assert.deepEqual(statuses, [200, 304, 200])
  })

  test('leaves no drafts behind', async (t) => {
    const { server } = await aServer(t, { index: content })
    const cache = await aFolder(t)

    await assert.rejects(read(await aMirror(t, [server.url], cache), 'index', { limit: 10 }))

    assert.deepEqual(await readdir(cache), [])
  })
})

test('an aborted download ends at once', async (t) => {
  const { server } = await aServer(t, { index: content })
  const asked = Promise.withResolvers<void>()
  server.intercept = () => {
    asked.resolve()
    return true
  }
  const stop = new AbortController()
  await using folder = await downloadFolder(null)
  const mirror = openMirror({ addresses: [server.url], folder, log: silentLog, signal: stop.signal })

  const reading = mirror.file('index', { limit })
  await Promise.race([asked.promise, reading])
  stop.abort(new Error('enough'))

  await assert.rejects(reading, /enough/)
})

test('an address that nobody can be asked for is told at once, and not tried again', async (t) => {
  const mirror = await aMirror(t, ['http://127.0.0.1:1/debian'])

  await assert.rejects(read(mirror, 'InRelease'), (error) => {
    assert.ok(error instanceof Error && !(error instanceof Unreachable))
    assert.match(error.message, /127\.0\.0\.1:1\/debian\/InRelease cannot be downloaded: bad port$/)
    return true
  })
})

test('addresses keep what mirrors keep, and encode what an address would misread', () => {
  for (const [path, address] of [
    ['pool/g++_1.0~rc1+b2_amd64.deb', 'https://mirror.example/pool/g++_1.0~rc1+b2_amd64.deb'],
    ['./pool/a.deb', 'https://mirror.example/pool/a.deb'],
    ['zip-1:3.0-1-x86_64.pkg.tar.zst', 'https://mirror.example/zip-1:3.0-1-x86_64.pkg.tar.zst'],
    ['a b%3a?#.deb', 'https://mirror.example/a%20b%253a%3F%23.deb'],
  ] as const) {
    assert.equal(addressOf('https://mirror.example/', path, 'index'), address)
  }
})

test('a server that stays silent costs a sync a minute after its first failure, not one for each file', async () => {
  let clock = 0
  let asked = 0
  const servers = silentServers(() => clock)
  const one = servers.asking.bind(null, 'https://mirror.example/debian/a', () => {
    asked++
    clock += 25_000
    return Promise.reject(new Unreachable('nothing came'))
  })

  for (let i = 0; i < 20; i++) await assert.rejects(one(), Unreachable)

  assert.equal(asked, 4)
  await assert.rejects(one(), /a is not asked for any more: nothing came/)
  assert.equal(await servers.asking('https://other.example/', () => Promise.resolve(1)), 1)
})

import { test } from 'node:test'
import assert from 'node:assert/strict'
import { execFile, execFileSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import { mkdir, readFile, readdir, stat, writeFile } from 'node:fs/promises'
import type { Socket } from 'node:net'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { reachOf } from '../../src/worker/addresses.ts'
import { fetchCached } from '../../src/worker/cache.ts'
import { download, downloadLimits, fileNameOf, type DownloadOptions } from '../../src/worker/download.ts'
import { sentenceOf } from '../../src/errors.ts'
import { lacksNamespaces, lacksPrograms } from '../help/debs.ts'
import { aFolder, aServer, files } from '../help/files.ts'
import { patienceSeconds, untilKept } from '../help/until.ts'

const options: DownloadOptions = {
  limit: 10_000_000,
  seconds: patienceSeconds,
  signal: new AbortController().signal,
  tries: 3,
  pauseMilliseconds: 5,
}
const content = Buffer.alloc(300_000, 'the original ')
const sha256 = createHash('sha256').update(content).digest('hex')
const sha512 = createHash('sha512').update(content).digest('hex')
const unknown = { sha256: null, size: null }

test('a file arrives whole, with its hash and size', async (t) => {
  const base = await aServer(t, files({ '/pool/a.deb': content }))
  const path = join(await aFolder(t), 'a.deb')

  const got = await download({ url: `${base}/pool/a.deb`, sha256, size: content.length }, path, options)

  assert.deepEqual(got, { sha256, sha512, size: content.length })
  assert.deepEqual(await readFile(path), content)
  assert.equal((await stat(path)).mode & 0o777, 0o600)
})

for (const [what, wanted, reason] of [
  ['another hash than the index says', { sha256: 'ab'.repeat(32), size: null }, 'input_mismatch'],
  ['fewer bytes than the index says', { sha256, size: content.length + 1 }, 'input_mismatch'],
  ['more bytes than the index says', { sha256, size: content.length - 1 }, 'input_mismatch'],
] as const) {
  test(`a file with ${what} → ${reason}`, async (t) => {
    const base = await aServer(t, files({ '/a.deb': content }))
    const path = join(await aFolder(t), 'a.deb')

    await assert.rejects(
      download({ url: `${base}/a.deb`, ...wanted }, path, options).catch((error: Error) => {
        throw error.cause
      }),
      { name: 'Failure', reason },
    )
  })
}

/** The failure inside "downloading …: …". */
async function failureOf(work: Promise<unknown>): Promise<unknown> {
  try {
    await work
    return 'nothing'
  } catch (error) {
    return (error as { cause?: { reason?: string } }).cause?.reason
  }
}

test('a file that is larger than we take is refused, even when the server does not tell its size', async (t) => {
  const base = await aServer(t, (_, response) => {
    const more = (): unknown => response.destroyed || response.write(content, () => void setImmediate(more))
    more()
  })
  const path = join(await aFolder(t), 'a')

  const reason = await failureOf(
    download({ url: `${base}/a`, ...unknown }, path, { ...options, limit: 1_000_000 }),
  )

  assert.equal(reason, 'too_large')
  assert.ok((await stat(path)).size <= 1_000_000)
})

test('a file that is not there is not asked for again', async (t) => {
  let asked = 0
  const base = await aServer(t, (_, response) => {
    asked += 1
    response.writeHead(404).end()
  })

  const reason = await failureOf(
    download({ url: `${base}/a`, ...unknown }, join(await aFolder(t), 'a'), options),
  )

  assert.equal(reason, 'input_unavailable')
  assert.equal(asked, 1)
})

test('a name that nobody knows is a download that failed, not the end of the worker', async (t) => {
  const path = join(await aFolder(t), 'a.deb')
  const url = 'http://mirror.invalid/a.deb'

  assert.equal(await failureOf(download({ url, ...unknown }, path, options)), 'input_unavailable')
})

test('what is said of an address tells nothing of the password in it', async (t) => {
  const base = await aServer(t, (_, response) => void response.writeHead(403).end())
  const url = `${base.replace('//', '//someone:sesame@open@')}/a.deb`
  const failed = download({ url, ...unknown }, join(await aFolder(t), 'a'), options)

  const said = sentenceOf(await failed.catch((error: unknown) => error))

  assert.match(said, /^downloading http:\/\/…@127\.0\.0\.1:\d+\/a\.deb: /)
  assert.doesNotMatch(said, /sesame|open@/)
})

test('a server that is busy is asked again, but not for ever', async (t) => {
  let asked = 0
  const base = await aServer(t, (_, response) => {
    asked += 1
    response.writeHead(503).end()
  })

  const reason = await failureOf(
    download({ url: `${base}/a`, ...unknown }, join(await aFolder(t), 'a'), options),
  )

  assert.equal(reason, 'input_unavailable')
  assert.equal(asked, 3)
})

test('a broken connection is resumed where it broke', async (t) => {
  const folder = await aFolder(t)
  const large = Buffer.alloc(1_300_001, 'a file of several blocks ')
  const ranges: (string | undefined)[] = []
  const base = await aServer(t, async (request, response) => {
    ranges.push(request.headers.range)
    if (ranges.length === 1) {
      response.writeHead(200, { 'content-length': large.length, etag: '"1"' })
      response.write(large.subarray(0, 600_000))
      await untilKept(folder, 512 * 1024) // it is written in blocks of that size
      return void response.destroy()
    }
    assert.equal(request.headers['if-range'], '"1"')
    const from = Number(/bytes=(\d+)-/.exec(request.headers.range ?? '')?.[1])
    const range = `bytes ${from}-${large.length - 1}/${large.length}`
    response.writeHead(206, { 'content-range': range, 'content-length': large.length - from })
    response.end(large.subarray(from))
  })
  const path = join(folder, 'a')

  const got = await download({ url: `${base}/a`, ...unknown }, path, options)

  assert.equal(got.sha256, createHash('sha256').update(large).digest('hex'))
  assert.deepEqual(await readFile(path), large)
  assert.match(ranges[1] ?? '', /^bytes=[1-9]\d*-$/)
})

test('pieces of any size make the same file, over a connection that breaks again and again', async (t) => {
  const large = Buffer.alloc(1_300_001, 'a file of several blocks ')
  const base = await aServer(t, (request, response) => {
    const from = Number(/bytes=(\d+)-/.exec(request.headers.range ?? '')?.[1] ?? 0)
    response.writeHead(from === 0 ? 200 : 206, { 'content-range': `bytes ${from}-`, etag: '"1"' })
    const send = (at: number): void => {
      if (at >= large.length) return void response.end()
      if (at > from + 400_000) return response.socket?.destroySoon() // once it is on its way
      const piece = large.subarray(at, at + 1 + ((at * 7919) % 90_000))
      response.write(piece, () => send(at + piece.length))
    }
    send(from)
  })
  const path = join(await aFolder(t), 'a')

  const got = await download({ url: `${base}/a`, ...unknown }, path, { ...options, tries: 9 })

  assert.deepEqual(await readFile(path), large)
  assert.equal(got.sha512, createHash('sha512').update(large).digest('hex'))
})

test('a file that changed between two tries is fetched anew', async (t) => {
  let asked = 0
  const base = await aServer(t, (_, response) => {
    asked += 1
    response.writeHead(200, { 'content-length': content.length, etag: `"${asked}"` })
    if (asked > 1) response.end(content)
    else response.write(Buffer.alloc(5000, 'old'), () => response.socket?.destroySoon()) // once it is on its way
  })
  const path = join(await aFolder(t), 'a')

  assert.equal((await download({ url: `${base}/a`, ...unknown }, path, options)).sha256, sha256)
  assert.deepEqual(await readFile(path), content)
})

test('a download that takes too long ends', async (t) => {
  const base = await aServer(t, (_, response) => {
    response.writeHead(200)
    response.write('x')
  })
  const path = join(await aFolder(t), 'a')

  const reason = await failureOf(
    download({ url: `${base}/a`, ...unknown }, path, { ...options, seconds: 0.2 }),
  )

  assert.equal(reason, 'input_unavailable')
})

test('a download ends when it is told to', async (t) => {
  const stop = new AbortController()
  const base = await aServer(t, (_, response) => {
    response.writeHead(200)
    response.write('x', () => stop.abort())
  })
  const path = join(await aFolder(t), 'a')

  await assert.rejects(download({ url: `${base}/a`, ...unknown }, path, { ...options, signal: stop.signal }))
  assert.ok(stop.signal.aborted)
})

test('files of one mirror come over one connection', async (t) => {
  const connections = new Set<Socket>()
  const base = await aServer(t, (request, response) => {
    connections.add(request.socket)
    response.end(content)
  })
  const folder = await aFolder(t)

  for (const name of ['a', 'b', 'c'])
    await download({ url: `${base}/${name}`, ...unknown }, join(folder, name), options)

  assert.equal(connections.size, 1)
})

test('redirects are followed, but not round and round', async (t) => {
  const base = await aServer(t, (request, response) => {
    if (request.url === '/end') response.end(content)
    else response.writeHead(302, { location: request.url === '/start' ? '/end' : '/round' }).end()
  })
  const folder = await aFolder(t)

  assert.equal(
    (await download({ url: `${base}/start`, ...unknown }, join(folder, 'a'), options)).sha256,
    sha256,
  )
  assert.equal(
    await failureOf(download({ url: `${base}/round`, ...unknown }, join(folder, 'b'), options)),
    'input_unavailable',
  )
})

test('a redirect to what is no web address is refused', async (t) => {
  const base = await aServer(t, (_, response) => {
    response.writeHead(302, { location: 'file:///etc/passwd' }).end()
  })

  const reason = await failureOf(
    download({ url: `${base}/a`, ...unknown }, join(await aFolder(t), 'a'), options),
  )

  assert.equal(reason, 'input_unavailable')
})

const lacksMounts = lacksPrograms('unshare', 'mount') || lacksNamespaces()

test('a full disk is told as that; a cache without room is none', { skip: lacksMounts }, async (t) => {
  const base = await aServer(t, files({ '/a': content, '/large': Buffer.alloc(700_000, 'x') }))
  const folder = await aFolder(t)
  const module = (name: string): string =>
    JSON.stringify(fileURLToPath(new URL(`../../src/worker/${name}.ts`, import.meta.url)))
  await writeFile(
    join(folder, 'full.ts'),
    `import { readdirSync } from 'node:fs'
     import { fetchCached } from ${module('cache')}
     import { reasonOf } from ${module('failure')}
     const [, , disk, base, other] = process.argv
     const options = { limit: 1e7, seconds: ${patienceSeconds}, signal: new AbortController().signal }
     const fetch = (name, sha256, to) =>
       fetchCached({ url: base + name, sha256, size: null }, to, { directory: disk, limit: 1e7 }, options)
     await fetch('/large', null, disk + '/large').catch((error) => console.log(reasonOf(error)))
     console.log((await fetch('/a', '${sha256}', other)).size, readdirSync(disk).join())`,
  )
  const lines = 'mount -t tmpfs -o size=512k full "$1" && "$2" "$3" "$1" "$4" "$5"'
  await mkdir(join(folder, 'disk'))
  const args = ['--user', '--map-root-user', '--mount', 'sh', '-c', lines, 'sh', join(folder, 'disk')]
  const given = [...args, process.execPath, join(folder, 'full.ts'), base, join(folder, 'a')]

  const { stdout } = await promisify(execFile)('unshare', given)

  assert.equal(stdout, `no_space\n${content.length} large\n`)
})

const fetchScript = fileURLToPath(new URL('../../src/worker/backends/fetch.sh', import.meta.url))
for (const [address, expected] of [
  ['8.8.8.8', 'public'],
  ['2001:4860::1', 'public'],
  ['127.0.0.1', 'private'],
  ['10.1.2.3', 'private'],
  ['172.31.0.1', 'private'],
  ['172.32.0.1', 'public'],
  ['169.254.169.254', 'private'],
  ['100.64.0.1', 'private'],
  ['0.0.0.0', 'private'],
  ['255.255.255.255', 'private'],
  ['::1', 'private'],
  ['fd00::1', 'private'],
  ['fe80::1', 'private'],
  ['::ffff:192.168.0.1', 'private'],
  ['64:ff9b::127.0.0.1', 'private'],
  ['64:ff9b::a00:1', 'private'],
  ['64:ff9b::', 'private'],
  ['64:ff9b::8.8.8.8', 'public'],
  ['2002:7f00:1::', 'private'],
] as const) {
  test(`${address} is ${expected}`, () => {
    assert.equal(reachOf(address), expected)
  })
  test(`${address} is ${expected} for build scripts`, () => {
    const code = `. "$1"; reach_of "http://[$2]/"; echo $reach`
    const told = execFileSync('bash', ['-euc', code, 'bash', fetchScript, address], { encoding: 'utf8' })
    assert.equal(told, `${expected}\n`)
  })
}

test('what build scripts download is bounded as what the worker downloads is', () => {
  const code = `. "$1"; bounded sh -c 'ulimit -f; tr "\\0" " " < /proc/$PPID/cmdline'`
  const told = execFileSync('bash', ['-euc', code, 'bash', fetchScript], { encoding: 'utf8' })

  const [blocks, command = ''] = told.split('\n')
  assert.equal(Number(blocks) * 512, downloadLimits.limit) // sh counts so
  assert.match(command, new RegExp(`^timeout --foreground ${downloadLimits.seconds} `))
})

for (const [address, expected] of [
  ['http://mirror.example/pool/h/hello_1.0-1_amd64.deb', 'hello_1.0-1_amd64.deb'],
  ['http://mirror.example/g%2b%2b_1%3a2.deb?x=y#z', 'g%2b%2b_1%3a2.deb'],
  ['http://mirror.example/a/../libstdc++6.deb', 'libstdc++6.deb'],
] as const) {
  test(`the file of ${address} is ${expected}`, () => {
    assert.equal(fileNameOf(address), expected)
  })
}

for (const address of [
  'http://mirror.example/',
  'http://mirror.example/pool/%2e%2e',
  'file:///etc/passwd',
  'nonsense',
]) {
  test(`${address} names no file to download`, () => {
    assert.throws(() => fileNameOf(address), { name: 'Failure' })
  })
}

test('a file whose hash is known is downloaded once', async (t) => {
  let asked = 0
  const base = await aServer(t, (_, response) => {
    asked += 1
    response.end(content)
  })
  const folder = await aFolder(t)
  const cache = { directory: join(folder, 'cache'), limit: 10_000_000 }
  const wanted = { url: `${base}/a`, sha256, size: null }

  const first = await fetchCached(wanted, join(folder, 'first'), cache, options)
  const second = await fetchCached(wanted, join(folder, 'second'), cache, options)

  assert.equal(asked, 1)
  assert.deepEqual(first, { sha256, sha512, size: content.length })
  assert.deepEqual(second, first)
  assert.deepEqual(await readFile(join(folder, 'second')), content)
})

test('a kept file that was damaged is fetched anew', async (t) => {
  const base = await aServer(t, files({ '/a': content }))
  const folder = await aFolder(t)
  const cache = { directory: join(folder, 'cache'), limit: 10_000_000 }
  const wanted = { url: `${base}/a`, sha256, size: null }
  await fetchCached(wanted, join(folder, 'first'), cache, options)
  await writeFile(join(cache.directory, `${sha256}-${sha512}`), 'damaged')

  await fetchCached(wanted, join(folder, 'second'), cache, options)

  assert.deepEqual(await readFile(join(folder, 'second')), content)
})

test('what was not used for longest leaves the cache first', async (t) => {
  const sizes = { '/a': 400, '/b': 401, '/c': 402 } as const
  const base = await aServer(
    t,
    files(Object.fromEntries(Object.entries(sizes).map(([path, size]) => [path, Buffer.alloc(size)]))),
  )
  const folder = await aFolder(t)
  const cache = { directory: join(folder, 'cache'), limit: 1000 }
  const hashOf = (size: number, name = 'sha256'): string =>
    createHash(name).update(Buffer.alloc(size)).digest('hex')
  const take = async (path: keyof typeof sizes, to: string): Promise<void> => {
    await fetchCached(
      { url: base + path, sha256: hashOf(sizes[path]), size: null },
      join(folder, to),
      cache,
      options,
    )
    await new Promise((resolve) => setTimeout(resolve, 15))
  }

  await take('/a', '1')
  await take('/b', '2')
  await take('/a', '3')
  await take('/c', '4')

  assert.deepEqual(
    (await readdir(cache.directory)).sort(),
    [400, 402].map((size) => `${hashOf(size)}-${hashOf(size, 'sha512')}`).sort(),
  )
})

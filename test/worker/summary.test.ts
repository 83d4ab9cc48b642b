import { execFileSync, spawnSync } from 'node:child_process'
import { test } from 'node:test'
import assert from 'node:assert/strict'
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { gzipSync, zstdCompressSync } from 'node:zlib'
import { pack, type Header } from 'tar-stream'
import { summaryOf } from '../../src/worker/summary.ts'
import { aFolder } from '../help/files.ts'

const { signal } = new AbortController()
type Entry = Partial<Header> & { name: string; text?: string }

async function aTar(entries: readonly Entry[]): Promise<Buffer> {
  const archive = pack()
  for (const { text = '', ...header } of entries) archive.entry({ mtime: new Date(0), ...header }, text)
  archive.finalize()
  const chunks: Buffer[] = []
  for await (const chunk of archive as AsyncIterable<Buffer>) chunks.push(chunk)
  return Buffer.concat(chunks)
}

/** An ar archive (ar(5)). */
function anAr(members: Readonly<Record<string, Buffer>>, mtime = 0): Buffer {
  const parts = Object.entries(members).map(([name, data]) => {
    const fields = [
      name.padEnd(16),
      String(mtime).padEnd(12),
      '0'.padEnd(6),
      '0'.padEnd(6),
      '100644'.padEnd(8),
    ]
    const header = `${fields.join('')}${String(data.length).padEnd(10)}\`\n`
    return Buffer.concat([Buffer.from(header), data, Buffer.alloc(data.length % 2, '\n')])
  })
  return Buffer.concat([Buffer.from('!<arch>\n'), ...parts])
}

const entry = (given: Partial<Entry> = {}): Entry => ({ name: 'usr/bin/hello', text: 'hello', ...given })
const aDeb = async (entries: readonly Entry[], mtime = 0): Promise<Buffer> =>
  anAr({ 'debian-binary': Buffer.from('2.0\n'), 'data.tar.gz': gzipSync(await aTar(entries)) }, mtime)

async function summary(t: Parameters<typeof aFolder>[0], a: Buffer, b: Buffer): Promise<string> {
  const folder = await aFolder(t)
  await writeFile(join(folder, 'a'), a)
  await writeFile(join(folder, 'b'), b)
  return summaryOf(join(folder, 'a'), join(folder, 'b'), 'hello.deb', signal)
}

for (const [what, changed, expected] of [
  ['content', entry({ text: 'HELLO' }), 'usr/bin/hello (content)'],
  ['size', entry({ text: 'hello!' }), 'usr/bin/hello (size)'],
  ['mode', entry({ mode: 0o755 }), 'usr/bin/hello (mode)'],
  ['owner', entry({ uid: 7 }), 'usr/bin/hello (uid)'],
  ['time stamp', entry({ mtime: new Date(1e12) }), 'usr/bin/hello (time stamp)'],
  ['name', entry({ name: 'usr/bin/HELLO' }), 'the list of files: usr/bin/hello against usr/bin/HELLO'],
] as const) {
  test(`a package whose file differs in ${what} is summed up so`, async (t) => {
    const first = entry({ name: 'etc/first' })

    const said = await summary(t, await aDeb([first, entry()]), await aDeb([first, changed]))

    assert.equal(said, `hello.deb differs in data.tar.gz: ${expected}`)
  })
}

test('a package with one file more is summed up so', async (t) => {
  const said = await summary(t, await aDeb([entry()]), await aDeb([entry(), entry({ name: 'more' })]))

  assert.equal(said, 'hello.deb differs in data.tar.gz: the list of files: none against more')
})

test('a package that is only compressed in another way is summed up so', async (t) => {
  const tar = await aTar([entry({ text: 'hello '.repeat(1000) })])

  const said = await summary(
    t,
    anAr({ 'data.tar': gzipSync(tar, { level: 1 }) }),
    anAr({ 'data.tar': gzipSync(tar, { level: 9 }) }),
  )

  assert.equal(said, 'hello.deb differs in data.tar: the compression only')
})

test('a package whose members carry other times is summed up so', async (t) => {
  const said = await summary(t, await aDeb([entry()]), await aDeb([entry()], 1))

  assert.equal(said, 'hello.deb differs in the time stamp or mode of debian-binary')
})

test('a compressed tar archive is looked into as well', async (t) => {
  const [a, b] = [await aTar([entry()]), await aTar([entry({ text: 'HELLO' })])]

  assert.equal(
    await summary(t, zstdCompressSync(a), zstdCompressSync(b)),
    'hello.deb differs in usr/bin/hello (content)',
  )
})

test('names in a package cannot speak to the terminal', async (t) => {
  const said = await summary(t, await aDeb([entry({ name: 'a\u001b[2J' })]), await aDeb([]))

  assert.equal(said, 'hello.deb differs in data.tar.gz: the list of files: a\\x1b[2J against none')
})

for (const [what, bytes] of [
  ['no archive', Buffer.from('nothing of the kind')],
  ['half an ar archive', anAr({ 'data.tar': Buffer.alloc(100) }).subarray(0, 90)],
  ['damaged compression', zstdCompressSync(Buffer.alloc(1000)).fill(7, 12)],
  ['nothing', Buffer.alloc(0)],
] as const) {
  test(`${what} in place of a package is only said to differ`, async (t) => {
    assert.match(await summary(t, await aDeb([entry()]), bytes), /^hello\.deb differs/)
    assert.match(await summary(t, bytes, bytes), /^hello\.deb differs/)
  })
}

const noDpkg = {
  skip: spawnSync('dpkg-deb', ['--version']).status === 0 ? false : 'dpkg-deb is not installed',
}

test('a package made by dpkg-deb is looked into', noDpkg, async (t) => {
  const folder = await aFolder(t)
  const made = ['one', 'two'].map((word) => {
    const script = `mkdir -p ${word}/DEBIAN && printf 'Package: a\\nVersion: 1\\nArchitecture: all\\nMaintainer: A <a@a>\\nDescription: a\\n' > ${word}/DEBIAN/control
      printf ${word} > ${word}/file && touch -d @0 ${word}/file ${word}/DEBIAN/control ${word}/DEBIAN ${word} && dpkg-deb -b ${word} ${word}.deb`
    execFileSync('sh', ['-ec', script], { cwd: folder, env: { ...process.env, SOURCE_DATE_EPOCH: '0' } })
    return join(folder, `${word}.deb`)
  })

  const said = await summaryOf(made[0] ?? '', made[1] ?? '', 'a.deb', signal)

  assert.equal(said, 'a.deb differs in data.tar.xz: ./file (content)')
})

import { test } from 'node:test'
import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { mkdir, readdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { openClient } from '../../src/client.ts'
import { silentLog } from '../../src/log.ts'
import type { RebuildReport } from '../../src/wire/builds.ts'
import { openSpool } from '../../src/worker/spool.ts'
import { lacksNamespaces, lacksPrograms } from '../help/debs.ts'
import { aFolder } from '../help/files.ts'
import { until } from '../help/until.ts'
import { anUpstream } from '../help/upstream.ts'

const { signal } = new AbortController()
const mounts = lacksPrograms('unshare', 'mount') || lacksNamespaces()
const aReport = (queue_id: number): RebuildReport => ({
  queue_id,
  built_at: '2026-11-22T19:40:00',
  build_log: Buffer.from('the log\n'),
  status: 'FAIL',
  artifacts: [],
  lease: null,
  reason: 'build_failed',
  evidence: null,
})

test('reports are sent in the order they were kept, and gone then', async (t) => {
  const upstream = await anUpstream(t)
  const spool = await openSpool(await aFolder(t), openClient({ base: upstream.base }), silentLog)
  const before = Date.now()
  await spool.keep(aReport(2))
  await until(() => Date.now() > before + 1)
  await spool.keep(aReport(1))

  assert.equal(await spool.send(signal), 0)
  assert.equal(await spool.send(signal), 0)

  assert.deepEqual(
    upstream.reports.map(({ queue_id }) => queue_id),
    [2, 1],
  )
})

/** Keeps reports with logs of `bytes` on a small disk that something else has filled. @returns what is there then */
async function keptOnFullDisk(
  t: Parameters<typeof aFolder>[0],
  given: { kilobytes: number; count: number; bytes: number },
): Promise<string[]> {
  const folder = await aFolder(t)
  const module = fileURLToPath(new URL('../../src/worker/spool.ts', import.meta.url))
  await writeFile(
    join(folder, 'full.ts'),
    `import { appendFileSync, readFileSync, readdirSync, statSync } from 'node:fs'
     import { openSpool } from '${module}'
     const folder = process.argv[2]
     const spool = await openSpool(folder, { base: 'http://127.0.0.1:9' }, {})
     try { for (;;) appendFileSync(folder + '/other', Buffer.alloc(65536)) } catch {}
     const report = { ...${JSON.stringify({ ...aReport(1), build_log: '' })}, build_log: Buffer.alloc(${given.bytes}, 255) }
     for (let i = 0; i < ${given.count}; i++)
       await spool.keep(report).catch((error) => console.log(error.cause?.code ?? error.code))
     for (const name of readdirSync(folder, { recursive: true }).sort()) {
       const path = folder + '/' + name
       if (name.endsWith('.json')) console.log('log of ' + JSON.parse(readFileSync(path)).build_log.length)
       if (name.endsWith('reserve') || name.endsWith('.part')) console.log(name.slice(-7), statSync(path).size > 2 ** 20)
     }`,
  )
  const lines = `mount -t tmpfs -o size=${given.kilobytes}k full "$1" && "$2" "$3" "$1"`
  await mkdir(join(folder, 'spool'))
  const args = ['--user', '--map-root-user', '--mount', 'sh', '-c', lines, 'sh']
  const said = execFileSync(
    'unshare',
    [...args, join(folder, 'spool'), process.execPath, join(folder, 'full.ts')],
    { encoding: 'utf8' },
  )
  return said.trim().split('\n')
}

test('a report that a full disk has no room for leaves nothing there', { skip: mounts }, async (t) => {
  assert.deepEqual(await keptOnFullDisk(t, { kilobytes: 64, count: 1, bytes: 200_000 }), ['ENOSPC'])
})

test('room is kept for reports on a disk that something else has filled', { skip: mounts }, async (t) => {
  const kept = await keptOnFullDisk(t, { kilobytes: 40_960, count: 2, bytes: 200_000 })

  assert.deepEqual(kept, ['log of 200000', 'log of 200000', 'reserve true'])
})

test('reports wait for a server that is away', async (t) => {
  const spool = await openSpool(await aFolder(t), openClient({ base: 'http://127.0.0.1:9' }), silentLog)
  await spool.keep(aReport(1))

  assert.equal(await spool.send(signal), 1)
})

test('a report that the server refuses is put aside, and the next one is sent', async (t) => {
  const upstream = await anUpstream(t, ({ body }) =>
    (body as RebuildReport).queue_id === 1 ? 400 : undefined,
  )
  const folder = await aFolder(t)
  const spool = await openSpool(folder, openClient({ base: upstream.base }), silentLog)
  await spool.keep(aReport(1))
  await spool.keep(aReport(2))

  assert.equal(await spool.send(signal), 0)

  const [server = ''] = await readdir(folder)
  assert.equal(upstream.reports[0]?.queue_id, 2)
  assert.equal((await readdir(join(folder, server, 'refused'))).length, 1)
})

test('a report that breaks the server is tried some time and then put aside; others pass meanwhile', async (t) => {
  const upstream = await anUpstream(t, ({ body }) =>
    (body as RebuildReport).queue_id === 1 ? 500 : undefined,
  )
  const spool = await openSpool(await aFolder(t), openClient({ base: upstream.base }), silentLog)
  await spool.keep(aReport(1))
  await spool.keep(aReport(2))

  assert.equal(await spool.send(signal), 1)
  assert.equal(upstream.reports[0]?.queue_id, 2)
  for (let i = 0; i < 30; i++) await spool.send(signal)

  assert.equal(await spool.send(signal), 0)
  assert.equal(upstream.seen.length, 21)
})

test('a result of a server with leases is kept for as long as that server breaks over it', async (t) => {
  let isMended = false
  const upstream = await anUpstream(t, () => (isMended ? undefined : 500))
  const spool = await openSpool(await aFolder(t), openClient({ base: upstream.base }), silentLog)
  await spool.keep({ ...aReport(1), lease: 'lease-1' })
  for (let i = 0; i < 30; i++) await spool.send(signal)
  isMended = true

  assert.equal(await spool.holds('lease-1'), true)
  assert.equal(await spool.send(signal), 0)
  assert.equal(upstream.reports.length, 1)
  assert.equal(await spool.holds('lease-1'), false)
})

test('what a crash left of a report is gone at the next start', async (t) => {
  const folder = await aFolder(t)
  const client = openClient({ base: 'http://127.0.0.1:9' })
  await openSpool(folder, client, silentLog)
  const [server = ''] = await readdir(folder)
  await writeFile(join(folder, server, '1-1-a.json.part'), '{"')

  await openSpool(folder, client, silentLog)

  assert.deepEqual((await readdir(join(folder, server))).sort(), ['refused', 'reserve'])
})

test('reports for one server are not sent to another', async (t) => {
  const [one, other] = [await anUpstream(t), await anUpstream(t)]
  const folder = await aFolder(t)
  await (await openSpool(folder, openClient({ base: one.base }), silentLog)).keep(aReport(1))

  await (await openSpool(folder, openClient({ base: other.base }), silentLog)).send(signal)

  assert.deepEqual(other.seen, [])
})

test('half a report, left by a crash, is not sent', async (t) => {
  const upstream = await anUpstream(t)
  const folder = await aFolder(t)
  const spool = await openSpool(folder, openClient({ base: upstream.base }), silentLog)
  const [server = ''] = await readdir(folder)
  await writeFile(join(folder, server, '1-1-a.json.part'), '{"queue_id":1')
  await writeFile(join(folder, server, '1-1-b.json'), '{"queue_id":1')

  assert.equal(await spool.send(signal), 0)
  assert.deepEqual(upstream.seen, [])
})

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { listQueue, pingJob } from '../../src/wire/queue.ts'
import { listWorkers } from '../../src/wire/workers.ts'
import { freeHere } from '../../src/worker/free.ts'
import { runWorker } from '../../src/worker/loop.ts'
import { aFolder } from '../help/files.ts'
import { rebuildSettings, workerOptions } from '../help/jobs.ts'
import { aPackage, importPackages, pop, startServer } from '../help/server.ts'
import { until } from '../help/until.ts'
import { runHere, tempFolder } from '../cmd/program.ts'

test('a machine says what it has left', async (t) => {
  const { disk_free, memory_free, load } = await freeHere(await aFolder(t), 0)

  assert.ok(Number.isSafeInteger(disk_free) && disk_free > 0)
  assert.ok(Number.isSafeInteger(memory_free) && memory_free > 1_000_000)
  assert.ok(load >= 0)
})

test('pings tell it, those without a body or with another one change nothing', async (t) => {
  const server = await startServer(t)
  await importPackages(server.call, [aPackage()])
  const id = (await pop(server.call))?.job.id ?? 0
  const free = { disk_free: 210_000_000_000, memory_free: 12_500_000_000, load: 3.14 }
  const told = async (body?: unknown): Promise<unknown> => {
    await server.call(pingJob, { params: { id }, ...(body === undefined ? {} : { body }) })
    return (await server.call(listWorkers)).records[0]?.free
  }

  assert.equal(await told(), null)
  assert.deepEqual(await told(free), free)
  assert.deepEqual(await told({ ...free, load: 'high' }), free)
  assert.deepEqual(await told(), free)
  const home = await tempFolder(t)
  const { stdout } = await runHere(['ctl', 'workers', 'ls', '-H', server.address], { home })
  assert.match(stdout, /disk 210 GB, memory 12 GB, load 3\.1/)
})

test('a worker whose disk is nearly full takes no job, and everybody can see why', async (t) => {
  const server = await startServer(t)
  await importPackages(server.call, [aPackage()])
  const said: string[] = []
  const nothing = (): void => undefined
  const log = {
    error: nothing,
    warning: (text: string) => void said.push(text),
    info: nothing,
    debug: nothing,
  }
  const stop = new AbortController()
  const options = await workerOptions(t, server.address, await rebuildSettings(t, 'true'), {
    signal: stop.signal,
    minFreeBytes: 2 ** 50,
    log,
  })
  const backends = new Map([['debian', { name: 'debian', path: '/bin/true', options: {} }]])

  const working = runWorker({ ...options, settings: { ...options.settings, backends } })
  const told = await until(async () => {
    const { records } = await server.call(listWorkers)
    return records.find(({ name }) => name === 'w1')?.free
  })
  const home = await tempFolder(t)
  const { stdout } = await runHere(['ctl', 'workers', 'ls', '-H', server.address], { home })
  stop.abort()
  await working

  const [job] = (await server.call(listQueue, {})).records
  assert.equal(job?.started_at, null)
  assert.equal(told.disk_wanted, 2 ** 50)
  assert.match(stdout, /idle, disk nearly full/)
  assert.equal(said.length, 1)
  assert.match(
    said[0] ?? '',
    /^worker: \d+ MB free on the disk of \S+: takes no job with less than 1125899907 MB$/,
  )
})

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { pingJob } from '../../src/wire/queue.ts'
import { listWorkers } from '../../src/wire/workers.ts'
import { freeHere } from '../../src/worker/free.ts'
import { aFolder } from '../help/files.ts'
import { aPackage, importPackages, pop, startServer } from '../help/server.ts'
import { runProgram, tempFolder } from '../cmd/program.ts'

test('a machine says what it has left', async (t) => {
  const { disk_free, memory_free, load } = await freeHere(await aFolder(t))

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
  const { stdout } = await runProgram(['ctl', 'workers', 'ls', '-H', server.address], { home })
  assert.match(stdout, /disk 210 GB, memory 12 GB, load 3\.1/)
})

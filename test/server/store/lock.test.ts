import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { Complaint } from '../../../src/errors.ts'
import { lockFolder } from '../../../src/server/store/lock.ts'
import { startServer, temporaryFolder } from '../../help/server.ts'

const isInUse = (error: unknown): boolean =>
  error instanceof Complaint && /is in use by another server/.test(error.message)

test('a folder is held by one, and free again when that one ends', async (t) => {
  const folder = await temporaryFolder(t)
  const first = await lockFolder(folder)

  await assert.rejects(lockFolder(folder), isInUse)
  await first.release()

  const second = await lockFolder(folder)
  await second.release()
})

test('by whatever path it is reached', async (t) => {
  const folder = await temporaryFolder(t)
  const lock = await lockFolder(folder)
  t.after(() => lock.release())

  await assert.rejects(lockFolder(`${folder}/../${folder.split('/').at(-1) ?? ''}/.`), isInUse)
})

test('a process that is killed holds nothing', { timeout: 300_000 }, async (t) => {
  const folder = await temporaryFolder(t)
  const module = fileURLToPath(new URL('../../../src/server/store/lock.ts', import.meta.url))
  const script = `import { lockFolder } from ${JSON.stringify(module)}; await lockFolder(${JSON.stringify(folder)}); console.log('held'); setInterval(() => {}, 1000)`
  const child = spawn(process.execPath, ['--input-type=module', '-e', script], {
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  t.after(() => child.kill('SIGKILL'))
  await once(child.stdout, 'data')

  await assert.rejects(
    lockFolder(folder),
    (error) => isInUse(error) && String(error).includes(String(child.pid)),
  )
  child.kill('SIGKILL')
  await once(child, 'close')

  await (await lockFolder(folder)).release()
})

test('a number left behind by a process that is gone, or is something else by now, is no holder', async (t) => {
  const folder = await temporaryFolder(t)
  for (const left of ['4194304\n', '1\n', 'nonsense', '']) {
    await writeFile(join(folder, 'rebuilderd.pid'), left)
    await (await lockFolder(folder)).release()
  }
})

test('a second server on the same folder does not start, and the first goes on', async (t) => {
  const first = await startServer(t)

  await assert.rejects(startServer(t, { data: first.data }), isInUse)

  assert.equal((await fetch(`${first.address}/api/v1/dashboard`)).status, 200)
  assert.equal(await readFile(join(first.data, 'rebuilderd.pid'), 'utf8'), `${process.pid}\n`)
})

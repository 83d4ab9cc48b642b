import { test } from 'node:test'
import assert from 'node:assert/strict'
import { chmod, readFile, readdir, stat, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { generateSigningKey, signingKeyToDer } from '../../src/attestation.ts'
import { keyFile, openIdentity } from '../../src/worker/identity.ts'
import { lockFolder } from '../../src/worker/lock.ts'
import { aFolder } from '../help/files.ts'

test('a worker makes a key once and keeps it', async (t) => {
  const folder = await aFolder(t)

  const first = await openIdentity(folder)
  const second = await openIdentity(folder)

  assert.equal(second.workerKey, first.workerKey)
  assert.match(first.workerKey, /^[A-Za-z0-9+/]{43}=$/)
  assert.equal((await readFile(join(folder, keyFile))).length, 83)
  assert.equal((await stat(join(folder, keyFile))).mode & 0o777, 0o600)
  assert.deepEqual(await readdir(folder), [keyFile])
})

test("a key of upstream's worker is taken over, and closed to others", async (t) => {
  const folder = await aFolder(t)
  const key = generateSigningKey()
  await writeFile(join(folder, keyFile), signingKeyToDer(key))
  await chmod(join(folder, keyFile), 0o640)

  const identity = await openIdentity(folder)

  assert.equal(identity.key.keyid, key.keyid)
  assert.equal((await stat(join(folder, keyFile))).mode & 0o777, 0o600)
})

test('two workers that start at once in one folder get one key', async (t) => {
  const folder = await aFolder(t)

  const [a, b] = await Promise.all([openIdentity(folder), openIdentity(folder)])

  assert.equal(a.workerKey, b.workerKey)
})

test('a damaged key is complained about and left as it is', async (t) => {
  const folder = await aFolder(t)
  await writeFile(join(folder, keyFile), 'no key')

  await assert.rejects(openIdentity(folder), /reading the worker's key/)
  assert.equal(await readFile(join(folder, keyFile), 'utf8'), 'no key')
})

test('a folder belongs to one worker at a time', async (t) => {
  const folder = await aFolder(t)

  const lock = await lockFolder(folder)
  await assert.rejects(lockFolder(folder), /another worker already uses/)
  await lock[Symbol.asyncDispose]()

  await using again = await lockFolder(folder)
  assert.equal(again.directory, folder)
})

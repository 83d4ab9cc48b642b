import assert from 'node:assert/strict'
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { test } from 'node:test'
import { missingPackages } from '../../../src/cmd/demo/needs.ts'
import { aFolder } from '../../help/files.ts'

test('on a machine without programs everything is missing, each package once', async (t) => {
  const missing = await missingPackages({ official: false, isRoot: true }, [await aFolder(t)])

  assert.deepEqual(missing, ['diffoscope-minimal', 'dpkg-dev', 'mount', 'util-linux', 'xz-utils'])
})

test('an ordinary user needs ranges of ids for official packages, root does not', async (t) => {
  const folders = [await aFolder(t)]

  const ordinary = await missingPackages({ official: true, isRoot: false }, folders)
  const root = await missingPackages({ official: true, isRoot: true }, folders)

  assert.ok(root.includes('mmdebstrap'))
  assert.deepEqual(
    ordinary.filter((name) => !root.includes(name)),
    ['uidmap'],
  )
})

test('a program counts in whichever folder it is, if it may be run', async (t) => {
  const [first, second] = [await aFolder(t), await aFolder(t)]
  await writeFile(join(second, 'xz'), '', { mode: 0o755 })
  await writeFile(join(second, 'unshare'), '', { mode: 0o644 })

  const missing = await missingPackages({ official: false, isRoot: true }, [first, second])

  assert.deepEqual(missing, ['diffoscope-minimal', 'dpkg-dev', 'mount', 'util-linux'])
})

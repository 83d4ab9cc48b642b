import assert from 'node:assert/strict'
import { test } from 'node:test'
import { asset, assetNames, assetText } from '../src/assets.ts'
import { Complaint } from '../src/errors.ts'

test('the program carries the database engine and the scripts of its backends', () => {
  const names = assetNames()

  assert.ok(names.includes('sql-wasm.wasm'))
  assert.ok(names.includes('backends/debian.sh'))
  assert.deepEqual(names, [...names].sort())
})

test('every asset can be read', () => {
  for (const name of assetNames()) assert.ok(asset(name).length > 0, name)
})

test('a wasm asset is bytes, a script is text', () => {
  assert.deepEqual([...asset('sql-wasm.wasm').subarray(0, 4)], [0, 0x61, 0x73, 0x6d])
  assert.match(assetText('backends/debian.sh'), /^#!\/bin\/bash\n/)
})

for (const name of [
  '',
  'nothing.css',
  '../assets.ts',
  'backends/../backend.ts',
  'backends/none',
  '/etc/passwd',
]) {
  test(`there is no asset ${JSON.stringify(name)}`, () => {
    assert.throws(() => asset(name), name.endsWith('.css') ? /ENOENT|carries no file/ : Complaint)
  })
}

import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { readFileSync, realpathSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { librariesOf, stripped, withoutLibatomic } from '../build/elf.ts'
import { aFolder } from './help/files.ts'

/** An executable of one segment that ends at byte 4096, with 1000 bytes of symbols and section headers behind. */
function anExecutable(): Buffer {
  const elf = Buffer.alloc(5096, 0xaa)
  elf.fill(0, 0, 120)
  elf.write('\x7fELF\x02\x01\x01', 'latin1')
  elf.writeUInt16LE(62, 18) // x86-64
  elf.writeBigUInt64LE(64n, 32) // program headers
  elf.writeBigUInt64LE(4500n, 40) // section headers
  elf.writeUInt16LE(56, 54)
  elf.writeUInt16LE(1, 56)
  elf.writeUInt16LE(64, 58)
  elf.writeUInt16LE(9, 60)
  elf.writeUInt32LE(1, 64) // loaded
  elf.writeBigUInt64LE(4096n, 64 + 32)
  elf.writeBigUInt64LE(4096n, 64 + 40)
  return elf
}

test('stripping leaves what is loaded, and no trace of section headers', () => {
  const given = anExecutable()

  const bare = stripped(given)

  assert.equal(bare.length, 4096)
  assert.equal(bare.readBigUInt64LE(40), 0n)
  assert.equal(bare.readUInt16LE(60), 0)
  assert.deepEqual(bare.subarray(120), given.subarray(120, 4096))
})

test('the executable that was given stays as it is', () => {
  const given = anExecutable()

  stripped(given)

  assert.deepEqual(given, anExecutable())
})

for (const [what, bytes] of [
  ['a script', Buffer.from(`#!/bin/sh\n${' '.repeat(100)}`)],
  ['a 32-bit executable', Buffer.concat([Buffer.from('\x7fELF\x01\x01', 'latin1'), Buffer.alloc(100)])],
  ['an empty file', Buffer.alloc(0)],
] as const) {
  test(`${what} is refused`, () => {
    assert.throws(() => stripped(bytes), /no 64-bit ELF/)
    assert.throws(() => withoutLibatomic(bytes), /no 64-bit ELF/)
  })
}

test('the runtime starts, compiles and counts atomically without libatomic', async (t) => {
  const runtime = readFileSync(realpathSync(process.execPath))
  if (!librariesOf(runtime).includes('libatomic.so.1')) return t.skip('this runtime does without libatomic')
  const path = join(await aFolder(t), 'node')

  const changed = stripped(withoutLibatomic(runtime))
  writeFileSync(path, changed, { mode: 0o755 })

  assert.deepEqual(
    librariesOf(changed),
    librariesOf(runtime).filter((name) => name !== 'libatomic.so.1'),
  )
  const loop = 'let n = 0; for (let i = 0; i < 3e4; i++) n += eval("x => x + 1")(0); console.log(n)'
  assert.equal(execFileSync(path, ['-e', loop], { encoding: 'utf8' }), '30000\n')
})

test('a runtime that is changed already stays as it is', () => {
  const runtime = readFileSync(realpathSync(process.execPath))

  const once = withoutLibatomic(runtime)

  assert.equal(Buffer.compare(withoutLibatomic(once), once), 0)
})

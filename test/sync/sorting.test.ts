import assert from 'node:assert/strict'
import { describe, test, type TestContext } from 'node:test'
import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import { openSorting, type Sorting } from '../../src/sync/sorting.ts'
import { aFolder } from '../help/archives.ts'

async function aSorting(t: TestContext, mostBytes?: number): Promise<Sorting> {
  const sorting = openSorting(await aFolder(t), mostBytes)
  t.after(sorting.close)
  return sorting
}

describe('lines sorted by their keys', () => {
  test('come in the order of the keys, those of one key as they came, though pieces are merged again and again', async (t) => {
    const sorting = await aSorting(t, 0)
    const keys = 4000
    const long = 'x'.repeat(3600)
    // 72 MB: more than sixteen pieces of four
    for (let i = 0; i < 5 * keys; i++) sorting.add(`key ${(i * 7919) % keys}`, `${i} ${long}`)

    let count = 0
    let last = ''
    for (const { key, lines } of sorting.groups()) {
      assert.ok(last < key, `${last} comes before ${key}`)
      const numbers = lines.map((line) => Number.parseInt(line, 10))
      assert.deepEqual(
        numbers,
        numbers.toSorted((a, b) => a - b),
      )
      assert.ok(numbers.length === 5 && numbers.every((i) => `key ${(i * 7919) % keys}` === key))
      count++
      last = key
    }

    assert.equal(count, keys)
  })

  test('are those in memory where there are few', async (t) => {
    const sorting = await aSorting(t)
    for (const [key, line] of [
      ['b', '1'],
      ['a', 'with\ttab'],
      ['b', '0'],
    ] as const)
      sorting.add(key, line)

    assert.deepEqual(
      [...sorting.groups()],
      [
        { key: 'a', lines: ['with\ttab'] },
        { key: 'b', lines: ['1', '0'] },
      ],
    )
  })

  test('are refused where those of one key would fill the memory', async (t) => {
    const sorting = await aSorting(t, 0)
    const line = 'x'.repeat(1 << 20)
    for (let i = 0; i < 40; i++) sorting.add('linux 6.1', line)

    assert.throws(() => [...sorting.groups()], /the indexes tell too much of linux 6\.1/)
  })

  test('take the same memory however many there are', async (t) => {
    setFlagsFromString('--expose-gc')
    const collect = runInNewContext('gc') as () => void // the flag makes it
    const sorting = await aSorting(t, 0)
    const [count, line] = [160_000, 'y'.repeat(250)]
    let held = 0
    const look = (i: number): void => {
      if (i % 23_000 !== 0) return
      collect()
      collect() // bytes outside of the heap go with the second one
      held = Math.max(held, heldBytes())
    }
    look(0)
    const before = held

    for (let i = 1; i < count; i++) {
      sorting.add(`source-package-${(i * 7919) % count} 1.0-1`, line)
      look(i)
    }
    let i = 0
    for (const { lines } of sorting.groups()) look((i += lines.length))

    assert.equal(i, count - 1)
    assert.ok(held - before > 1_000_000, `${held - before} bytes are held`)
    assert.ok(held - before < 12_000_000, `${held - before} of ${count * 280} bytes are held`)
  })
})

/** Bytes of this process that something still refers to, after a collection. */
function heldBytes(): number {
  const { heapUsed, arrayBuffers } = process.memoryUsage()
  return heapUsed + arrayBuffers
}

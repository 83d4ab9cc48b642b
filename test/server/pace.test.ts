import assert from 'node:assert/strict'
import { test } from 'node:test'
import { openPace } from '../../src/server/pace.ts'

test('memory is spent while many workers ask, and spared again when they have been quiet for a while', (t) => {
  const paces: string[] = []
  const pace = openPace((name) => paces.push(name))
  t.after(pace.stop)
  const second = (requests: number): void => {
    for (let index = 0; index < requests; index++) pace.asked()
    pace.tick()
  }

  second(5)
  assert.deepEqual(paces, [])
  second(100)
  second(100)
  assert.deepEqual(paces.splice(0), ['busy'])
  for (let quiet = 0; quiet < 9; quiet++) second(1)
  assert.deepEqual(paces, [])
  second(1)
  assert.deepEqual(paces, ['sparing'])
})

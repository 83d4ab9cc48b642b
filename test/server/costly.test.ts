import assert from 'node:assert/strict'
import { test } from 'node:test'
import { briefly } from '../../src/server/costly.ts'

test('an answer that was costly is given again for two seconds, others are made anew', async (t) => {
  t.mock.timers.enable({ apis: ['setTimeout'] })
  let made = 0
  let size = 1
  const ask = briefly(
    async () => ({ number: ++made, size }),
    (answer) => answer.size > 500,
  )
  const asked = async (): Promise<number> => (await ask()).number

  assert.deepEqual([await asked(), await asked()], [1, 2])
  size = 1000
  assert.deepEqual([await asked(), await asked()], [3, 3])
  t.mock.timers.tick(1999)
  assert.equal(await asked(), 3)
  t.mock.timers.tick(1)
  assert.deepEqual(await Promise.all([asked(), asked()]), [4, 4])
  size = 1
  t.mock.timers.tick(2000)
  assert.deepEqual([await asked(), await asked()], [5, 6])
})

test('what failed is made again for the next who asks', async () => {
  let made = 0
  const ask = briefly(
    async () => {
      if (++made === 1) throw new Error('not now')
      return { made }
    },
    () => true,
  )

  await assert.rejects(ask(), /not now/)
  assert.deepEqual(await ask(), { made: 2 })
})

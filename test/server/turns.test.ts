import assert from 'node:assert/strict'
import { setTimeout as sleep } from 'node:timers/promises'
import { test } from 'node:test'
import { someAtATime } from '../../src/server/turns.ts'

test('no more than so many run at once, all in the order they came, and one that fails makes room', async () => {
  const inTurn = someAtATime(3)
  const started: number[] = []
  let [running, most] = [0, 0]
  const work = async (n: number): Promise<number> => {
    started.push(n)
    most = Math.max(most, ++running)
    await sleep(n % 3)
    running--
    if (n % 5 === 0) throw new Error(`no ${n}`)
    return n
  }

  const numbers = Array.from({ length: 40 }, (_, index) => index)
  const ended = await Promise.allSettled(numbers.map((n) => inTurn(() => work(n))))

  assert.equal(most, 3)
  assert.deepEqual(started, numbers)
  assert.equal(ended.filter(({ status }) => status === 'rejected').length, 8)
  assert.equal(await inTurn(async () => 'still open'), 'still open')
})

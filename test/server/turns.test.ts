import assert from 'node:assert/strict'
import { setImmediate as turn, setTimeout as sleep } from 'node:timers/promises'
import { test } from 'node:test'
import { againAndAgain, readingTogether, someAtATime } from '../../src/server/turns.ts'

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

test('who comes while something is read shares the reading after it, so that nobody is told what was before', async () => {
  const together = readingTogether<number>()
  const [begun, gate] = [Promise.withResolvers<void>(), Promise.withResolvers<void>()]
  let [value, reads] = [0, 0]
  const read = async (): Promise<number> => {
    reads++
    const seen = value
    begun.resolve()
    await gate.promise
    if (seen === 9) throw new Error('broken')
    return seen
  }

  const first = Array.from({ length: 50 }, () => together('a', read))
  const other = together('b', read)
  await begun.promise
  await new Promise(setImmediate) // the other one has begun too
  value = 1
  const later = Array.from({ length: 50 }, () => together('a', read))
  gate.resolve()

  assert.deepEqual([...new Set(await Promise.all(first))], [0])
  assert.equal(await other, 0)
  assert.deepEqual([...new Set(await Promise.all(later))], [1])
  assert.equal(reads, 3)
  value = 9
  await assert.rejects(together('a', read), /broken/)
  value = 10
  assert.equal(await together('a', read), 10)
})

test('what is done again and again is never done twice at once, and has an end', async (t) => {
  t.mock.timers.enable({ apis: ['setInterval'] })
  let [begun, gate] = [0, Promise.withResolvers<void>()]
  const end = againAndAgain(() => {
    begun++
    return gate.promise
  }, 1000)
  const begunAfter = (milliseconds: number): number => {
    t.mock.timers.tick(milliseconds)
    return begun
  }

  const first = [begunAfter(999), begunAfter(1), begunAfter(5000)]
  gate.resolve()
  await turn()
  gate = Promise.withResolvers()
  const second = begunAfter(1000)
  let isOver = false
  const ending = end().then(() => (isOver = true))
  await turn()
  const wasOver = isOver
  gate.resolve()
  await ending

  assert.deepEqual([first, second, wasOver], [[0, 1, 1], 2, false])
  assert.equal(begunAfter(5000), 2)
})

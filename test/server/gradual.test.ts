import assert from 'node:assert/strict'
import { test } from 'node:test'
import { setImmediate as turn } from 'node:timers/promises'
import * as v from 'valibot'
import { lookedGradually } from '../../src/server/gradual.ts'
import { PackageReport } from '../../src/wire/packages.ts'
import { aPackage, aReport } from '../help/server.ts'

const packages = Array.from({ length: 1001 }, (_, index) => aPackage({ name: `pkg-${index}` }))

test('what is checked some at a time is the same as what is checked at once', async () => {
  const given = JSON.parse(JSON.stringify(aReport(packages))) as unknown

  const result = await lookedGradually(PackageReport, given)

  assert.ok(result.success)
  assert.deepEqual(result.output, v.parse(PackageReport, given))
})

for (const [what, spoilt] of [
  ['a member far down the list', aReport([...packages, aPackage({ name: 'x'.repeat(2000) })])],
  [
    'a member of a member',
    aReport([...packages, aPackage({ artifacts: [{ ...packages[0]?.artifacts[0], url: 7 } as never] })]),
  ],
  ['what is beside the list', { ...aReport(packages), distribution: 7 }],
] as const) {
  test(`${what} is refused with the words and the path of a check at once`, async () => {
    const atOnce = v.safeParse(PackageReport, spoilt, { abortEarly: true })

    const result = await lookedGradually(PackageReport, spoilt)

    assert.ok(!result.success && !atOnce.success)
    assert.equal(v.getDotPath(result.issues[0]), v.getDotPath(atOnce.issues[0]))
    assert.equal(result.issues[0].message, atOnce.issues[0].message)
  })
}

test('others get their turn while a long list is checked', async () => {
  let turns = 0
  const work = lookedGradually(PackageReport, aReport(packages)).then(() => 'done')

  while ((await Promise.race([work, turn('a turn')])) !== 'done') turns += 1

  assert.ok(turns >= 3, `${turns} turns`)
})

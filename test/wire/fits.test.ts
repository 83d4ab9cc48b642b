import assert from 'node:assert/strict'
import { test } from 'node:test'
import * as v from 'valibot'
import { Envelope, generateSigningKey, makeLink, signLink } from '../../src/attestation.ts'
import { fits } from '../../src/wire/fits.ts'
import { Found, LookupRequest } from '../../src/wire/gates.ts'
import { looked, orNull } from '../../src/wire/schema.ts'

const file = { file: 'bash_5.2_amd64.deb', sha256: 'ab'.repeat(32), sha512: 'cd'.repeat(64) }
const envelope = signLink(makeLink({ artifact: file, input: file }), generateSigningKey())
const wanted = { distribution: 'debian', name: 'bash', version: '1:5.2', architecture: 'amd64' }
const Loose = v.looseObject({
  a: v.string(),
  b: orNull(v.number()),
  c: v.optional(v.boolean()),
  rest: v.record(v.string(), v.array(v.union([v.literal(1), v.string()]))),
})

/** Schemas, each with a value that is as it should be. */
const samples: readonly (readonly [string, v.GenericSchema, unknown])[] = [
  ['an attestation', Envelope, envelope],
  ['a look-up', LookupRequest, { packages: [wanted, { ...wanted, proven: true }], with: ['keys'] }],
  ['an open object', Loose, { a: 'x', unknown: { d: 1 }, b: null, rest: { e: [1, 'f'] } }],
]

const values = [undefined, null, 1, 0.5, NaN, '', 'text', 'ab', true, [], [null], {}, { a: 1 }]

/** Every value that differs from this one in one place. */
function* mutants(value: unknown): Generator {
  yield* values
  if (typeof value !== 'object' || value === null) return
  if (Array.isArray(value)) {
    for (const [at, item] of value.entries()) for (const other of mutants(item)) yield value.with(at, other)
    return
  }
  const members = Object.entries(value)
  yield Object.fromEntries(members.toReversed())
  yield { ...value, unknown: 1 }
  yield JSON.parse(JSON.stringify({ _: 1, ...value }).replace('"_":1', '"__proto__":{}'))
  yield Object.assign(Object.create({ inherited: 1 }) as object, value)
  for (const [at, [name, member]] of members.entries()) {
    yield Object.fromEntries(members.toSpliced(at, 1))
    for (const other of mutants(member)) yield Object.fromEntries(members.with(at, [name, other]))
  }
}

for (const [what, schema, sample] of samples) {
  test(`${what} that is as it should be is taken as it is`, () => {
    assert.ok(fits(schema, sample))
    const result = looked(schema, sample)
    assert.ok(result.success)
    assert.equal(result.output, sample)
  })

  test(`${what} that differs in one place fits only where its schema would make the same of it`, () => {
    let [fitting, refused] = [0, 0]
    for (const mutant of mutants(sample)) {
      const { success, output } = v.safeParse(schema, mutant)
      if (!success) refused++
      if (!fits(schema, mutant)) continue
      fitting++
      assert.ok(success, JSON.stringify(mutant))
      assert.deepEqual(output, mutant)
      const isOpen = schema.type === 'loose_object' // members that are not named may stand anywhere
      if (!isOpen) assert.equal(JSON.stringify(output), JSON.stringify(mutant))
    }
    assert.ok(fitting > 0 && refused > 0, `${fitting} fit, ${refused} are refused`)
  })
}

test('values that a schema makes are left to it', () => {
  assert.equal(fits(v.pipe(v.string(), v.transform(Number)), '1'), false)
  assert.equal(fits(v.object({ a: v.optional(v.number(), 1) }), {}), false)
  assert.equal(fits(v.object({ a: v.number() }), { a: 1, b: 2 }), false)
  assert.equal(fits(v.union([v.object({}), v.object({ a: v.number() })]), { a: 1 }), false)
  assert.equal(fits(Found, {}), false)
})

test('what is wrong is told as the schema tells it', () => {
  const result = looked(LookupRequest, { packages: [{ ...wanted, name: 7 }] })
  assert.ok(!result.success)
  assert.match(result.issues[0].message, /expected string|Invalid type/i)
})

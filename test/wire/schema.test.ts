import assert from 'node:assert/strict'
import { test } from 'node:test'
import { encodeJson, jsonPieces } from '../../src/wire/schema.ts'

for (const [what, body] of [
  ['nothing', null],
  ['a list', [1, { a: 2 }]],
  ['bytes', { log: new Uint8Array([1, 2]), list: [Buffer.from('a')] }],
  ['members without a value', { a: undefined, b: 1, c: undefined, d: [undefined, null] }],
  ['empty lists and objects', { a: [], b: {} }],
  [
    'a long list between others',
    { a: 'x', list: Array.from({ length: 20_000 }, (_, i) => ({ i, t: '"\u2028' })), z: [1] },
  ],
] as const) {
  test(`JSON in pieces is the same text: ${what}`, () => {
    assert.equal([...jsonPieces(body)].join(''), encodeJson(body))
  })
}

test('a long list comes in many pieces', () => {
  const pieces = [...jsonPieces({ list: Array.from({ length: 20_000 }, (_, i) => `item ${i}`) })]

  assert.ok(pieces.length > 2 && pieces.every((piece) => piece.length < 100_000), `${pieces.length}`)
})

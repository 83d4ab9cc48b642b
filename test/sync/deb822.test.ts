import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { Complaint } from '../../src/errors.ts'
import { stanzaOf, stanzas } from '../../src/sync/deb822.ts'
import { inPieces } from '../help/archives.ts'

async function read(
  text: string,
  size = 1 << 20,
  wanted?: readonly string[],
): Promise<Record<string, string>[]> {
  const found: Record<string, string>[] = []
  const options = wanted === undefined ? { what: 'file' } : { what: 'file', wanted }
  for await (const { fields } of stanzas(inPieces(Buffer.from(text), size), options))
    found.push({ ...fields })
  return found
}

describe('stanzas', () => {
  for (const [name, text, expected] of [
    ['none in an empty file', '', []],
    ['none in blank lines', '\n\n \n\t\n', []],
    ['one', 'A: 1\nB: 2\n', [{ A: '1', B: '2' }]],
    ['the last one without a line end', 'A: 1\n\nB: 2', [{ A: '1' }, { B: '2' }]],
    ['two parted by several blank lines', 'A: 1\n\n\n\nB: 2\n', [{ A: '1' }, { B: '2' }]],
    ['two parted by a line of blanks', 'A: 1\n \t\nB: 2\n', [{ A: '1' }, { B: '2' }]],
    ['a folded field', 'A: 1\n two\n\tthree\nB: 2\n', [{ A: '1\ntwo\nthree', B: '2' }]],
    ['a folded field with an empty first line', 'A:\n one\n .\n two\n', [{ A: '\none\n.\ntwo' }]],
    ['colons inside a value', 'A: http://example.org:80/\n', [{ A: 'http://example.org:80/' }]],
    ['values with and without blanks around', 'A:1\nB:   2  \nC:\n', [{ A: '1', B: '2', C: '' }]],
    ['umlauts and others', 'A: Jürgen 山田 <j@example.org>\n', [{ A: 'Jürgen 山田 <j@example.org>' }]],
  ] as const) {
    test(`are read: ${name}`, async () => {
      for (const size of [1, 2, 3, 7, 1 << 20])
        assert.deepEqual(await read(text, size), expected, `pieces of ${size}`)
    })
  }

  for (const [name, text, message] of [
    [
      'a line that is no field',
      'A: 1\n\nB: 2\nnonsense\n',
      /line 4 is neither a field nor a continuation: "nonsense"/,
    ],
    ['a continuation of nothing', 'A: 1\n\n  folded\n', /line 3 continues a field/],
    ['a field twice', 'A: 1\nA: 2\n', /line 2 has A a second time/],
    ['a name with a blank', 'A B: 1\n', /line 1 is neither/],
    ['a name that starts with a hyphen', '-A: 1\n', /line 1 is neither/],
    ['a comment', '# A: 1\n', /line 1 is neither/],
    ['a control byte', 'A: 1\n\nB: \x1b[31m\n', /line 3 starts a stanza with control bytes/],
    ['a zero byte', 'A: 1\0B\n', /line 1 starts a stanza with control bytes/],
    ['a name that every object has', 'constructor: 1\n', /line 1 is neither/],
  ] as const) {
    test(`are refused with the line: ${name}`, async () => {
      for (const size of [1, 5, 1 << 20]) {
        await assert.rejects(
          read(text, size),
          (error) => error instanceof Complaint && message.test(error.message),
        )
      }
    })
  }

  test('hold only the fields that are wanted, which may come in another case', async () => {
    const text = 'Package: a\nX: 1\n y\nVERSION: 2\n\nversion: 3\nPackage: b\nPrefix: 1\n'

    const found = await read(text, 4, ['Package', 'Version'])

    assert.deepEqual(found, [
      { Package: 'a', Version: '2' },
      { Package: 'b', Version: '3' },
    ])
  })

  test('are checked for form even in fields that nobody wants', async () => {
    await assert.rejects(read('Package: a\nnonsense\n', 9, ['Package']), /line 2/)
  })

  test('of endless length are given up', async () => {
    async function* endless(): AsyncGenerator<Uint8Array> {
      for (let i = 0; i < 1000; i++) yield Buffer.alloc(1 << 20, 'A')
    }

    await assert.rejects(async () => {
      for await (const stanza of stanzas(endless(), { what: 'file' })) assert.ok(stanza)
    }, /has a stanza of over/)
  })

  test('tell the line at which they start', async () => {
    const lines: number[] = []
    for await (const { line } of stanzas(inPieces(Buffer.from('A: 1\nB: 2\n\n\nC: 3\n d\n\nE: 4\n'), 3), {
      what: 'file',
    })) {
      lines.push(line)
    }

    assert.deepEqual(lines, [1, 5, 8])
  })
})

test('a file of one stanza must hold just one', () => {
  assert.equal(stanzaOf(Buffer.from('A: 1\n'), 'file').fields['A'], '1')
  assert.throws(() => stanzaOf(Buffer.from(''), 'file'), Complaint)
  assert.throws(() => stanzaOf(Buffer.from('A: 1\n\nB: 1\n'), 'file'), Complaint)
})

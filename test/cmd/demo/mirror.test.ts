import assert from 'node:assert/strict'
import { test } from 'node:test'
import { addressFor, codenameOf } from '../../../src/cmd/demo/mirror.ts'

const indexes = [
  'http://mirror.example/debian-security/|bookworm-security|bookworm-security|main',
  'file:/srv/local/|bookworm|bookworm|main',
  'http://mirror.example/debian/|bookworm|bookworm|contrib',
  'http://mirror.example/debian/|bookworm|bookworm|main',
  'http://other.example/debian/|stable|trixie|main',
  '',
].join('\n')

for (const [release, expected] of [
  ['bookworm', 'http://mirror.example/debian'],
  ['stable', 'http://other.example/debian'],
  ['trixie', 'http://other.example/debian'],
  ['sid', null],
] as const) {
  test(`the mirror for ${release} is ${expected ?? 'unknown'}`, () => {
    assert.equal(addressFor(release, indexes), expected)
  })
}

for (const [osRelease, expected] of [
  ['ID=debian\nVERSION_CODENAME=bookworm\n', 'bookworm'],
  ['VERSION_CODENAME="trixie"\nID="debian"\n', 'trixie'],
  ['ID=debian\n', 'stable'],
] as const) {
  test(`${JSON.stringify(osRelease)} means ${expected}`, () => {
    assert.equal(codenameOf(osRelease), expected)
  })
}

test('another distribution is told to stay with what is made here', () => {
  assert.throws(() => codenameOf('ID=arch\n'), /no Debian/)
})

import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { Complaint } from '../../src/errors.ts'
import { globOf, wantedBy, type Rules } from '../../src/sync/rules.ts'

const none: Rules = { include: [], maintainers: [], pkgs: [], excludes: [] }
const bash = {
  name: 'bash-doc',
  source: 'bash',
  component: 'main',
  maintainers: () => ['Matthias Klose <doko@debian.org>', 'Jane Doe <jane@example.org>'],
}

describe('a profile', () => {
  for (const [name, rules, expected] of [
    ['without rules wants all', {}, true],
    ['excludes win over everything', { excludes: ['bash*'], pkgs: ['*'], include: [{}] }, false],
    ['pkgs must match the binary name', { pkgs: ['bash'] }, false],
    ['pkgs are globs', { pkgs: ['zsh', 'bash-?o?'] }, true],
    ['maintainers are prefixes', { maintainers: ['Jane Doe'] }, true],
    ['maintainers are no infixes', { maintainers: ['Klose'] }, false],
    ['either maintainers or pkgs suffice', { maintainers: ['Nobody'], pkgs: ['bash*'] }, true],
    ['the first matching rule accepts', { include: [{ source_pkgs: ['bash'] }, { exclude: true }] }, true],
    ['the first matching rule rejects', { include: [{ exclude: true, component: 'main' }, {}] }, false],
    ['a rule that rejects wins over pkgs', { include: [{ exclude: true }], pkgs: ['bash*'] }, false],
    ['no matching rule falls back to pkgs', { include: [{ source_pkgs: ['zsh'] }], pkgs: ['bash*'] }, true],
    ['no matching rule and nothing else rejects', { include: [{ source_pkgs: ['zsh'] }] }, false],
    [
      'all conditions of a rule must hold',
      { include: [{ source_pkgs: ['bash'], component: 'contrib' }] },
      false,
    ],
    ['a rule without conditions matches', { include: [{}] }, true],
    ['empty lists are no conditions', { include: [{ binary_pkgs: [], source_pkgs: [] }] }, true],
    ['a rule may ask for a maintainer', { include: [{ maintainer: 'Matthias' }] }, true],
  ] as const) {
    test(name, () => {
      assert.equal(wantedBy({ ...none, ...rules })(bash), expected)
    })
  }

  test('with rules on sources wants nothing of an index that does not tell them', () => {
    assert.equal(wantedBy({ ...none, include: [{ source_pkgs: ['*'] }] })({ ...bash, source: null }), false)
  })
})

describe('a glob', () => {
  for (const [pattern, name, expected] of [
    ['bash', 'bash', true],
    ['bash', 'bash2', false],
    ['Bash', 'bash', false],
    ['*', '', true],
    ['*', '.hidden/dir', true],
    ['lib*dev', 'libfoo/bar-dev', true],
    ['?', 'ä', true],
    ['?', '', false],
    ['[abc]', 'b', true],
    ['[a-c]x', 'bx', true],
    ['[!a-c]', 'b', false],
    ['[!a-c]', 'd', true],
    ['[]]', ']', true],
    ['[!]]', 'x', true],
    ['[!]]', ']', false],
    ['[a-]', '-', true],
    ['[*]', '*', true],
    ['[*]', 'x', false],
    ['[z-a]', 'm', false],
    ['[!z-a]', 'm', true],
    ['[^a]', '^', true],
    ['a.c', 'abc', false],
    ['a\\*', 'a\\bc', true],
    ['{a,b}', 'a', false],
    ['{a,b}', '{a,b}', true],
    ['libc++1', 'libc++1', true],
    ['**', 'a/b', true],
    ['**/c', 'c', true],
    ['**/c', 'a/b/c', true],
    ['**/c', 'a/bc', false],
    ['a/**', 'a/b/c', true],
    ['a/**/c', 'a/c', true],
    ['a/**/c', 'ac', false],
    ['a\nb', 'a\nb', true],
    ['*', 'a\nb', true],
  ] as const) {
    test(`${JSON.stringify(pattern)} ${expected ? 'matches' : 'does not match'} ${JSON.stringify(name)}`, () => {
      assert.equal(globOf(pattern).test(name), expected)
    })
  }

  for (const pattern of ['***', 'a**', '**a', 'a/**b', '[', 'x[', '[]', '[!]', '[a']) {
    test(`${pattern} is refused`, () => {
      assert.throws(
        () => globOf(pattern),
        (error) => error instanceof Complaint && error.exitCode === 2,
      )
    })
  }
})

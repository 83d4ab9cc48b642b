import { Complaint } from '../errors.ts'

/** One rule of `include`: it matches when all conditions that are given hold, and then decides. */
type IncludeRule = {
  exclude?: boolean | undefined
  component?: string | undefined
  binary_pkgs?: readonly string[] | undefined
  source_pkgs?: readonly string[] | undefined
  maintainer?: string | undefined
}

export type Rules = {
  readonly include: readonly IncludeRule[]
  readonly maintainers: readonly string[]
  readonly pkgs: readonly string[]
  readonly excludes: readonly string[]
}

/** What rules look at. */
type Candidate = {
  name: string
  /** Null where the index does not tell. */
  source: string | null
  component: string | null
  /** Asked only where a rule needs them. */
  maintainers: () => readonly string[]
}

/**
 * Which packages a profile wants: `excludes` always win, then the first matching rule of `include` decides,
 * then `maintainers` or `pkgs` must match; a profile without any of these wants all.
 * @throws Complaint where a pattern is malformed
 */
export function wantedBy(rules: Rules): (candidate: Candidate) => boolean {
  const excluded = anyGlob(rules.excludes)
  const listed = anyGlob(rules.pkgs)
  const include = rules.include.map(compiled)
  const isOpen = [rules.include, rules.maintainers, rules.pkgs].every((list) => list.length === 0)
  return (candidate) => {
    if (excluded(candidate.name)) return false
    const deciding = include.find(({ matches }) => matches(candidate))
    if (deciding !== undefined) return deciding.accepts
    return isOpen || hasMaintainer(candidate, rules.maintainers) || listed(candidate.name)
  }
}

type Compiled = { accepts: boolean; matches: (candidate: Candidate) => boolean }

function compiled(rule: IncludeRule): Compiled {
  const { component, maintainer, binary_pkgs: binaries = [], source_pkgs: sources = [] } = rule
  const isBinary = anyGlob(binaries)
  const isSource = anyGlob(sources)
  return {
    accepts: rule.exclude !== true,
    matches: (candidate) =>
      (component === undefined || candidate.component === component) &&
      (binaries.length === 0 || isBinary(candidate.name)) &&
      (sources.length === 0 || (candidate.source !== null && isSource(candidate.source))) &&
      (maintainer === undefined || hasMaintainer(candidate, [maintainer])),
  }
}

function hasMaintainer(candidate: Candidate, prefixes: readonly string[]): boolean {
  return prefixes.some((prefix) =>
    candidate.maintainers().some((maintainer) => maintainer.startsWith(prefix)),
  )
}

function anyGlob(patterns: readonly string[]): (name: string) => boolean {
  const globs = patterns.map(globOf)
  return (name) => globs.some((glob) => glob.test(name))
}

/**
 * A glob over a whole name, as rebuilderd's have always been (docs.rs/glob, `Pattern`): `*` and `?` also match `/` and
 * leading dots, `[a-z]` and `[!a-z]`, no braces, no escapes; `**` only as a whole path component.
 * @throws Complaint naming pattern and place
 */
export function globOf(pattern: string): RegExp {
  if (pattern.length > 1024) throw badGlob(pattern, 'it is too long')
  let source = ''
  for (let at = 0; at < pattern.length;) {
    const token = tokenAt(pattern, at)
    source += token.source
    at += token.length
  }
  return new RegExp(`^(?:${source})$`, 'su')
}

type Token = { source: string; length: number }

function tokenAt(pattern: string, at: number): Token {
  const character = String.fromCodePoint(pattern.codePointAt(at) ?? 0)
  if (character === '?') return { source: '.', length: 1 }
  if (character === '*') return stars(pattern, at)
  if (character === '[') return range(pattern, at)
  return { source: literal(character), length: character.length }
}

/** The character itself; everything a pattern could mean something by is written as its number. */
function literal(character: string): string {
  return `\\u{${(character.codePointAt(0) ?? 0).toString(16)}}`
}

function stars(pattern: string, at: number): Token {
  const count = /^\*+/.exec(pattern.slice(at))?.[0].length ?? 0
  if (count === 1) return { source: '.*', length: 1 }
  if (count > 2) throw badGlob(pattern, 'wildcards are either * or **')
  const isAlone = (at === 0 || pattern[at - 1] === '/') && [undefined, '/'].includes(pattern[at + 2])
  if (!isAlone) throw badGlob(pattern, '** must be a whole path component')
  return pattern[at + 2] === '/' ? { source: '(?:.*/)?', length: 3 } : { source: '.*', length: 2 }
}

/** `[…]`: a `]` that comes first is one of the characters. */
function range(pattern: string, at: number): Token {
  const isNegated = pattern[at + 1] === '!'
  const first = at + (isNegated ? 2 : 1)
  const end = pattern.indexOf(']', first + 1)
  if (end < 0) throw badGlob(pattern, 'a [ is never closed')
  const characters = Array.from(pattern.slice(first, end))
  let source = ''
  for (let i = 0; i < characters.length;) {
    const [from = '', dash, to] = characters.slice(i, i + 3)
    const isSpan = dash === '-' && to !== undefined
    if (!isSpan) source += literal(from)
    else if (from <= to) source += `${literal(from)}-${literal(to)}`
    i += isSpan ? 3 : 1
  }
  return { source: classOf(source, isNegated), length: end + 1 - at }
}

/** A class without members matches nothing, its opposite anything. */
function classOf(members: string, isNegated: boolean): string {
  return `[${isNegated ? '^' : ''}${members}]`
}

function badGlob(pattern: string, problem: string): Complaint {
  return new Complaint(`${JSON.stringify(pattern)} is not a pattern: ${problem}`, {
    hint: 'patterns are like lib*, python3-?*, [a-m]*; write [*] for a star itself',
    exitCode: 2,
  })
}

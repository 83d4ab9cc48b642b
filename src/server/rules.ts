import { matchesGlob } from 'node:path'
import * as v from 'valibot'
import { Complaint } from '../errors.ts'
import { looked, problemOf } from '../wire/schema.ts'

const Tag = v.pipe(
  v.string(),
  v.regex(/^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$/, 'is no tag: use letters, digits, dot, dash'),
)

const Rule = v.strictObject({
  distribution: v.optional(v.string()),
  release: v.optional(v.string()),
  source: v.optional(v.string()),
  larger_than: v.optional(v.pipe(v.number(), v.integer(), v.minValue(0))),
  priority: v.optional(v.pipe(v.number(), v.integer())),
  tags: v.optional(v.array(Tag)),
})

/**
 * One `[[schedule.rule]]`: packages that meet every condition given (distribution and release exactly, the source
 * package by glob, the listed files together larger than so many bytes) get a priority and need a worker with tags.
 */
export type Rule = v.InferOutput<typeof Rule>

/**
 * Checks the rules of the configuration.
 * @throws Complaint naming the rule and what is wrong with it
 */
export function rulesOf(given: readonly unknown[]): Rule[] {
  return given.map((item, index) => {
    const result = looked(Rule, item)
    if (result.success) return result.output
    throw new Complaint(`schedule.rule number ${index + 1}: ${problemOf(result.issues[0])}`, { exitCode: 2 })
  })
}

type Ruled = { distribution: string; release: string; source: string; bytes: number }

/** What the rules say of a package: for each effect the first rule that matches and has it. */
export function ruleFor(rules: readonly Rule[], item: Ruled): { priority: number | null; tags: string } {
  const matching = rules.filter((rule) => matches(rule, item))
  const priority = matching.find((rule) => rule.priority !== undefined)?.priority ?? null
  return { priority, tags: tagText(matching.find((rule) => rule.tags !== undefined)?.tags ?? []) }
}

function matches(rule: Rule, item: Ruled): boolean {
  if (rule.distribution !== undefined && rule.distribution !== item.distribution) return false
  if (rule.release !== undefined && rule.release !== item.release) return false
  if (rule.source !== undefined && !matchesGlob(item.source, rule.source)) return false
  return rule.larger_than === undefined || item.bytes > rule.larger_than
}

/** Tags as one text, sorted: equal sets are equal texts. */
export function tagText(tags: readonly string[]): string {
  return [...new Set(tags)].sort().join(',')
}

/** Sets of tags that jobs can need and this worker has; the empty set is always among them. */
export function servedSets(rules: readonly Rule[], workerTags: string): string[] {
  const has = new Set(workerTags.split(','))
  const sets = new Set(['', ...rules.map((rule) => tagText(rule.tags ?? []))])
  return [...sets].filter((set) => set === '' || set.split(',').every((tag) => has.has(tag)))
}

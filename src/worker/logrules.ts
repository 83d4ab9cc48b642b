import { readFile } from 'node:fs/promises'
import { parse } from 'smol-toml'
import * as v from 'valibot'
import { assetText } from '../assets.ts'
import { Complaint, didYouMean, during } from '../errors.ts'
import { isReason, type Reason } from '../wire/reasons.ts'
import { looked } from '../wire/schema.ts'
import { tellable } from './verdict.ts'

/** What a line of a log says about a build that failed. */
export type LogRule = {
  readonly pattern: RegExp
  readonly reason: Reason
  /** Another attempt soon may end otherwise. */
  readonly temporary: boolean
}

const Rule = v.strictObject({
  pattern: v.pipe(v.string(), v.nonEmpty('must not be empty'), v.maxLength(10_000)),
  reason: v.string(),
  ignore_case: v.optional(v.boolean(), false),
  temporary: v.optional(v.boolean(), false),
})
const Rules = v.strictObject({ rule: v.optional(v.pipe(v.array(v.unknown()), v.maxLength(1000)), []) })

/** The rules that come with us, as operators may copy and edit them (toml.io). */
export function builtInLogRules(): string {
  return assetText('log-rules.toml')
}

/**
 * The rules of a file, in place of those that come with us.
 * @param file null: those that come with us
 * @throws Complaint naming the file and the rule where one cannot be used
 */
export async function readLogRules(file: string | null): Promise<LogRule[]> {
  if (file === null) return logRulesOf(builtInLogRules())
  return during(`reading the log rules ${file}`, async () => {
    const content = await readFile(file, 'utf8').catch((error: unknown) => {
      throw new Complaint('the file cannot be read', { cause: error, exitCode: 2 })
    })
    return logRulesOf(content)
  })
}

/** Rules as TOML: tables `[[rule]]` with pattern, reason, ignore_case, temporary. */
export function logRulesOf(toml: string): LogRule[] {
  let content: unknown
  try {
    content = parse(toml)
  } catch (error) {
    const why = error instanceof Error ? (error.message.split('\n')[0] ?? '') : ''
    throw new Complaint(`this is not valid TOML: ${why}`, { exitCode: 2 })
  }
  const { success, output } = v.safeParse(Rules, content)
  if (!success) throw new Complaint('rules are written as tables [[rule]] and nothing else', { exitCode: 2 })
  return output.rule.map((given, index) => ruleOf(given, index + 1))
}

function ruleOf(given: unknown, number: number): LogRule {
  const result = looked(Rule, given)
  if (!result.success) {
    const [issue] = result.issues
    throw bad(number, `${v.getDotPath(issue) ?? 'it'}: ${issue.message}`)
  }
  const { pattern, reason, ignore_case, temporary } = result.output
  if (!isReason(reason) || !tellable.has(reason)) {
    const all = `a log can tell: ${[...tellable].join(', ')}`
    throw bad(number, `${reason} is no reason that a log can tell`, didYouMean(reason, tellable) ?? all)
  }
  try {
    return { pattern: new RegExp(pattern, ignore_case ? 'im' : 'm'), reason, temporary }
  } catch (error) {
    throw bad(number, error instanceof Error ? error.message : 'the pattern is invalid')
  }
}

function bad(number: number, why: string, hint?: string): Complaint {
  return new Complaint(`rule ${number}: ${why}`, { hint, exitCode: 2 })
}

/** The end of a log is where it says why it ended. */
const tailBytes = 64 * 1024

/** What a log says about a failed build, or null when no rule knows it. */
export function findingOf(log: Uint8Array, rules: readonly LogRule[]): LogRule | null {
  const tail = new TextDecoder().decode(log.subarray(Math.max(0, log.length - tailBytes)))
  return rules.find(({ pattern }) => pattern.test(tail)) ?? null
}

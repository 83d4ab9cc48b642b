import { closeSync, constants, fstatSync, openSync, readFileSync } from 'node:fs'
import * as v from 'valibot'
import { Reason } from '../wire/reasons.ts'
import type { BackendTold } from './backend.ts'

const maxBytes = 4 * 1024 * 1024
const Package = v.pipe(v.string(), v.maxLength(500), v.regex(/^[^\s=]+=\S+$/))
const Packages = v.optional(v.pipe(v.array(Package), v.maxLength(20_000)), [])

/** What a script may leave in `REBUILDERD_RESULT`; unknown members are ignored. */
const Told = v.object({
  reason: v.nullish(Reason, null),
  note: v.nullish(v.pipe(v.string(), v.maxLength(10_000)), null),
  environment: Packages,
  missing: Packages,
  present_toolchain: v.optional(v.boolean(), false),
})

/** Reads what a script left behind; null when that is nothing, or nothing we can use. */
export function readTold(path: string): BackendTold | null {
  const text = plainText(path)
  if (text === null) return null
  const told = v.safeParse(Told, parsed(text))
  if (!told.success) return null
  const { present_toolchain: presentToolchain, ...rest } = told.output
  return { ...rest, presentToolchain }
}

/** Only of a plain file: a link or a pipe is none of ours. At once, because it is short. */
function plainText(path: string): string | null {
  let file: number | undefined
  try {
    file = openSync(path, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK)
    const facts = fstatSync(file)
    return facts.isFile() && facts.size <= maxBytes ? readFileSync(file, 'utf8') : null
  } catch {
    return null
  } finally {
    if (file !== undefined) closeSync(file)
  }
}

function parsed(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    return null
  }
}

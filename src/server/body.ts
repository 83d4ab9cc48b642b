import type * as v from 'valibot'
import { problemOf } from '../wire/schema.ts'
import { safeParseGradually } from './gradual.ts'
import { Refusal } from './refusal.ts'

/**
 * The JSON of a body, checked.
 * @throws Refusal 400 that names the first thing that is wrong
 */
export async function parsedBody<const T extends v.GenericSchema>(
  schema: T,
  bytes: Uint8Array,
): Promise<v.InferOutput<T>> {
  if (bytes.length > harmless && isTangled(bytes))
    throw new Refusal(400, 'Json deserialize error: too deep, or too many lists and objects')
  let given: unknown
  try {
    given = JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(bytes))
  } catch (error) {
    throw new Refusal(400, `Json deserialize error: ${error instanceof Error ? error.message : ''}`)
  }
  // To the schemas a list is an object whose members are all missing: an empty request is for everything.
  if (Array.isArray(given)) throw new Refusal(400, 'Json deserialize error: expected an object, got a list')
  const result = await safeParseGradually(schema, given)
  if (result.success) return result.output
  throw new Refusal(400, `Json deserialize error: ${problemOf(result.issues[0])}`)
}

/** Deepest nesting of a body, and most lists and objects in it: what JSON.parse makes of them is many times larger. */
const deepest = 64
const mostParts = 4_000_000
/** Bytes of a body that cannot become much, whatever is in it. */
const harmless = 64 * 1024

/** Whether JSON is nested deeper, or has more parts, than any that makes sense. */
function isTangled(bytes: Uint8Array): boolean {
  let [depth, parts, isText] = [0, 0, false]
  for (let at = 0; at < bytes.length; at++) {
    const byte = bytes[at]
    if (isText) {
      if (byte === 0x5c) at++
      else if (byte === 0x22) isText = false
    } else if (byte === 0x22) isText = true
    else if (byte === 0x5b || byte === 0x7b) {
      if (++depth > deepest || ++parts > mostParts) return true
    } else if (byte === 0x5d || byte === 0x7d) depth--
  }
  return false
}

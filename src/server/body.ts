import type * as v from 'valibot'
import { problemOf } from '../wire/schema.ts'
import { withoutByteLists, type Bounds } from './byte-lists.ts'
import { lookedGradually } from './gradual.ts'
import { Refusal } from './refusal.ts'

const megabyte = 1024 * 1024

/** What a body may hold besides long lists of bytes: what JSON.parse makes of it is many times larger. */
const usual: Bounds = { text: 32 * megabyte, depth: 64, values: 1_000_000 }
/** The same for the packages of a whole release: ten times what the largest distributions have. */
export const wholeRelease: Bounds = { text: 256 * megabyte, depth: 64, values: 8_000_000 }

/** Bytes of a body that cannot become much, whatever is in it. */
const harmless = 64 * 1024

/**
 * The JSON of a body, checked.
 * @throws Refusal 400 that names the first thing that is wrong, 413 where it is longer than makes sense
 */
export async function parsedBody<const T extends v.GenericSchema>(
  schema: T,
  bytes: Uint8Array,
  bounds = usual,
): Promise<v.InferOutput<T>> {
  const given = bytes.length > harmless ? await parsedLong(bytes, bounds) : parsed(bytes)
  // To the schemas a list is an object whose members are all missing: an empty request is for everything.
  if (Array.isArray(given)) throw new Refusal(400, 'Json deserialize error: expected an object, got a list')
  const result = await lookedGradually(schema, given)
  if (result.success) return result.output
  throw new Refusal(400, `Json deserialize error: ${problemOf(result.issues[0])}`)
}

type Reviver = (name: string, value: unknown) => unknown

function parsed(bytes: Uint8Array, revive?: Reviver): unknown {
  try {
    return JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(bytes), revive)
  } catch (error) {
    throw new Refusal(400, `Json deserialize error: ${error instanceof Error ? error.message : ''}`)
  }
}

async function parsedLong(bytes: Uint8Array, bounds: Bounds): Promise<unknown> {
  const { text, lists } = await withoutByteLists(bytes, bounds)
  const revive: Reviver = (_, value) => (typeof value === 'string' ? (lists.get(value) ?? value) : value)
  return parsed(text, lists.size === 0 ? undefined : revive)
}

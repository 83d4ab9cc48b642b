import { setImmediate as turn } from 'node:timers/promises'
import * as v from 'valibot'
import { looked, type Looked, type Shape } from '../wire/schema.ts'

/** Members of a list checked before others get their turn: a few milliseconds. */
const slice = 250

/**
 * Checks a large object as `looked` does, but its long lists some members at a time, so that the report
 * of a whole release does not keep everybody else waiting.
 * @param given what it holds is replaced by what was checked, so that a whole release is not in memory twice
 */
export async function lookedGradually<const T extends v.GenericSchema>(
  schema: T,
  given: unknown,
): Promise<Looked<Shape<T>>> {
  const whole = (): Looked<Shape<T>> => looked(schema, given)
  if (!isObjectSchema(schema) || typeof given !== 'object' || given === null) return whole()
  const lists = new Map<string, unknown[]>()
  for (const [name, members] of Object.entries(given)) {
    const entry = schema.entries[name]
    if (!Array.isArray(members) || members.length <= slice || entry === undefined || !isListSchema(entry))
      continue
    const checked = await membersOf(entry.item, members)
    if (checked === null) return whole() // once more, for the message and the path in it
    lists.set(name, checked)
  }
  const emptied = Object.fromEntries([...lists.keys()].map((name) => [name, []]))
  const rest = looked(schema, { ...given, ...emptied })
  if (rest.success) Object.assign(rest.output as object, Object.fromEntries(lists))
  return rest
}

async function membersOf(item: v.GenericSchema, members: unknown[]): Promise<unknown[] | null> {
  const schema = v.array(item)
  for (let start = 0; start < members.length; start += slice) {
    const result = looked(schema, members.slice(start, start + slice))
    if (!result.success) return null
    for (const [index, member] of result.output.entries()) members[start + index] = member
    await turn()
  }
  return members
}

function isObjectSchema(schema: v.GenericSchema): schema is v.ObjectSchema<v.ObjectEntries, undefined> {
  return schema.type === 'object' && 'entries' in schema
}

/** A plain list: one with a pipe has more to say about its members than each of them. */
function isListSchema(
  schema: v.BaseSchema<unknown, unknown, v.BaseIssue<unknown>>,
): schema is v.ArraySchema<v.GenericSchema, undefined> {
  return schema.type === 'array' && 'item' in schema && !('pipe' in schema)
}

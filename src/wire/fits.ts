import type * as v from 'valibot'

/**
 * A quick look at values by a schema: most of what comes from outside is, as it is, what its schema would make of it,
 * member by member in the same order. To see that takes a tenth of the time of making it anew.
 */
type Look = (given: unknown) => boolean

/** What a schema or an action of valibot is made of, as far as looks need it (valibot.dev/guides/internal-architecture). */
type Part = {
  kind: string
  type: string
  default?: unknown
  literal?: unknown
  item?: Part
  key?: Part
  value?: Part
  wrapped?: Part
  options?: readonly unknown[]
  entries?: Readonly<Record<string, Part>>
  pipe?: readonly Part[]
  '~run': (dataset: Dataset, config: object) => unknown
}
type Dataset = { typed: boolean; value: unknown; issues: unknown }

const looks = new WeakMap<v.GenericSchema, Look | null>()

/** Whether a schema takes a value as it is. False also says: this must be looked at closely, by the schema itself. */
export function fits<const T extends v.GenericSchema>(schema: T, given: unknown): given is v.InferOutput<T> {
  let look = looks.get(schema)
  if (look === undefined) looks.set(schema, (look = lookOf(schema as unknown as Part))) // valibot's types hide what it is made of
  return look?.(given) === true
}

/** null: values of this schema are made, or it is of a kind that is not known here. */
function lookOf(part: Part): Look | null {
  const [first, ...rest] = part.pipe ?? []
  if (first === undefined) return plainLook(part)
  const look = plainLook(first)
  const checks = rest.filter(({ kind }) => kind !== 'metadata')
  if (look === null || checks.some(({ kind }) => kind !== 'validation')) return null
  return (given) => {
    if (!look(given)) return false
    for (const check of checks) if (!passes(check, given)) return false
    return true
  }
}

function passes(check: Part, given: unknown): boolean {
  const dataset: Dataset = { typed: true, value: given, issues: undefined }
  check['~run'](dataset, {})
  return dataset.issues === undefined
}

const scalars: Readonly<Record<string, Look>> = {
  string: (given) => typeof given === 'string',
  boolean: (given) => typeof given === 'boolean',
  number: (given) => typeof given === 'number' && !Number.isNaN(given),
  null: (given) => given === null,
}

function plainLook(part: Part): Look | null {
  const { type, entries, item, key, value, wrapped, options = [] } = part
  const scalar = scalars[type]
  if (scalar !== undefined) return scalar
  if (type === 'unknown') return () => true
  if (type === 'literal') return (given) => given === part.literal
  if (type === 'picklist') return (given) => options.includes(given)
  if (type === 'union') return unionLook(options as readonly Part[]) // those of a union are schemas
  if (type === 'array' && item) return arrayLook(item)
  if (type === 'record' && key && value) return recordLook(key, value)
  if ((type === 'nullable' || type === 'optional') && wrapped) return lackLook(part, wrapped)
  if (/^(strict_|loose_)?object$/.test(type) && entries) return objectLook(entries, type === 'loose_object')
  return null
}

/** Of scalars only: an object that fits one of several might have been made into another by one before it. */
function unionLook(options: readonly Part[]): Look | null {
  const all = options.map(lookOf)
  if (!options.every(({ type }) => scalars[type] !== undefined || type === 'literal')) return null
  return all.includes(null) ? null : (given) => all.some((look) => look?.(given))
}

function arrayLook(item: Part): Look | null {
  const look = lookOf(item)
  return look && ((given) => Array.isArray(given) && given.every(look))
}

/** Names that valibot leaves out of records and open objects. */
const unsafe = new Set(['__proto__', 'prototype', 'constructor'])

function recordLook(key: Part, value: Part): Look | null {
  const [lookAtKey, look] = [lookOf(key), lookOf(value)]
  if (lookAtKey === null || look === null) return null
  return (given) => {
    if (!isPlain(given)) return false
    for (const name in given) {
      if (unsafe.has(name) || !lookAtKey(name) || !look(given[name])) return false
    }
    return true
  }
}

/** What may be null or absent; where something is put in its place, it is made. */
function lackLook(part: Part, wrapped: Part): Look | null {
  const look = lookOf(wrapped)
  const lack = part.type === 'nullable' ? null : undefined
  return look && ((given) => (given === lack ? part.default === undefined : look(given)))
}

function objectLook(entries: Readonly<Record<string, Part>>, isLoose: boolean): Look | null {
  const names = Object.keys(entries)
  const members = Object.values(entries).map(lookOf)
  const mayLack = Object.values(entries).map((one) => one.type === 'optional' && one.default === undefined)
  if (members.includes(null)) return null
  return (given) => {
    if (!isPlain(given)) return false
    let at = 0
    for (const name in given) {
      const place = names.indexOf(name, at)
      if (place < 0 && isLoose && !names.includes(name) && !unsafe.has(name)) continue
      for (; at < place; at++) if (mayLack[at] !== true) return false
      if (place < 0 || members[at++]?.(given[name]) !== true) return false
    }
    for (; at < names.length; at++) if (mayLack[at] !== true) return false
    return true
  }
}

/** An object as JSON has them. */
function isPlain(given: unknown): given is Readonly<Record<string, unknown>> {
  return typeof given === 'object' && given !== null && Object.getPrototypeOf(given) === Object.prototype
}

import * as v from 'valibot'
import { BoolText, Count, Id, IntText, NamesText, text } from './schema.ts'

export const buildStatuses = ['GOOD', 'BAD', 'FAIL', 'UNKWN'] as const
export const BuildStatus = v.picklist(buildStatuses)
export type BuildStatus = v.InferOutput<typeof BuildStatus>

const artifactStatuses = ['GOOD', 'BAD', 'UNKWN'] as const
export const ArtifactStatus = v.picklist(artifactStatuses)
export type ArtifactStatus = v.InferOutput<typeof ArtifactStatus>

/** `{ "total": 2, "records": [ … ] }`: the envelope of every list. `total` counts the filtered set before cursors and limit. */
export function pageOf<const T extends v.GenericSchema>(record: T) {
  return v.object({ total: Count, records: v.array(record) })
}
export type PageOf<T> = { total: number; records: T[] }

/** An id in the path. */
export const IdPath = v.object({
  id: v.pipe(
    v.string(),
    v.regex(/^\d{1,10}$/, 'is not an id'),
    v.metadata({ jsonSchema: { type: 'integer', minimum: 1, maximum: 2 ** 31 - 1 } }),
    v.transform(Number),
    v.maxValue(2 ** 31 - 1, 'is not an id'),
  ),
})

/** Query members of every list. A negative limit asks for all that a page may hold. */
export const pageQuery = {
  limit: v.optional(IntText),
  before: v.optional(IntText),
  after: v.optional(IntText),
  sort: v.optional(text(64)),
  direction: v.optional(v.picklist(['Ascending', 'Descending'])),
}

/** Where something comes from. An empty `release` or `component` asks for those without one. */
export const originQuery = {
  distribution: v.optional(text()),
  release: v.optional(text()),
  component: v.optional(text()),
  architecture: v.optional(text()),
}

export const sourceIdentityQuery = { name: v.optional(text()), version: v.optional(text()) }
export const binaryIdentityQuery = { ...sourceIdentityQuery, source_name: v.optional(text()) }
export const freshnessQuery = { seen_only: v.optional(BoolText) }

/** Filters that only our server knows; others ignore them. */
export const ourFilters = {
  status: v.optional(NamesText),
  reason: v.optional(NamesText),
  search: v.optional(text(256)),
  search_type: v.optional(
    v.pipe(
      v.picklist(['exact', 'starts_with', 'contains']),
      v.description('contains where it is absent; capitals count for exact only'),
    ),
  ),
  releases: v.optional(NamesText),
  maintainer: v.optional(text(256)),
  since: v.optional(text(32)),
}

export const IdOrNull = v.nullable(Id)
export const TextOrNull = v.nullable(v.string())

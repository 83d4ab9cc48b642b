/**
 * A report in ranges of names, so that a report that differs a little from the last one is compared a little: a range
 * that says what it said then needs no look at what is known of it. Where ranges begin depends on single names alone, so
 * a package that is added or gone changes its own range and no other (as content-defined chunking does).
 */
import { createHash } from 'node:crypto'
import { crc32 } from 'node:zlib'
import { lineOf } from '../report-digest.ts'
import type { PackageReport } from '../wire/packages.ts'
import type { NameRange, RangeDigests } from './store/imports.ts'

type Packages = PackageReport['packages']

/** A range has about as many names. */
const namesInRange = 64

type ReportRange = NameRange & {
  readonly packages: Packages
  /** SHA-256 (base64url) of what the report says about them, and of where the range ends. */
  readonly digest: string
}

/** All names there are. */
const everything: NameRange = { from: '', to: null }

/**
 * The ranges of a report; together they have every name there could be.
 * @returns null where the database orders the names of the report otherwise than we do, as it does outside of Unicode's
 * basic plane
 */
export function rangesOf(packages: Packages): ReportRange[] | null {
  if (packages.some(({ name }) => /[\ud800-\udfff]/.test(name))) return null
  const sorted = packages.toSorted((a, b) => (a.name < b.name ? -1 : a.name > b.name ? 1 : 0))
  const starts: number[] = [0]
  for (let index = 1; index < sorted.length; index++) {
    const name = sorted[index]?.name ?? ''
    if (name !== sorted[index - 1]?.name && crc32(name) % namesInRange === 0) starts.push(index)
  }
  return starts.map((start, index) => {
    const end = starts[index + 1]
    const to = end === undefined ? null : (sorted[end]?.name ?? null)
    const own = sorted.slice(start, end)
    const hash = createHash('sha256').update(JSON.stringify(to))
    for (const item of own) hash.update(lineOf(item))
    return {
      from: index === 0 ? '' : (own[0]?.name ?? ''),
      to,
      packages: own,
      digest: hash.digest('base64url'),
    }
  })
}

/**
 * What of a report has to be compared with what is known.
 * @param ranges those of the report; null: it has none
 * @param last digests of the ranges of the last report; null: nobody knows, or its import did not come to its end
 */
export function toCompare(
  { packages }: Pick<PackageReport, 'packages'>,
  ranges: readonly ReportRange[] | null,
  last: RangeDigests | null,
): { ranges: readonly NameRange[]; packages: Packages } {
  const changed = (ranges ?? []).filter(({ from, digest }) => last?.get(from) !== digest)
  if (ranges === null || last === null || 2 * changed.length > ranges.length)
    return { ranges: [everything], packages } // reading it all is then less than reading so many pieces
  return { ranges: changed, packages: changed.flatMap((range) => range.packages) }
}

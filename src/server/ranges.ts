/** Parts of a reply, for callers that have the rest already (RFC 9110 section 14). */

/** What was asked for: from a byte on, up to one where `last` names it; or so many at the end. */
export type AskedRange = { first: number; last: number | null } | { atEnd: number }
/** From one byte to another, both counted. */
export type Range = { first: number; last: number }

/** More digits than any size has would not stay whole numbers. */
const oneRange = /^\s*bytes\s*=\s*(?:(\d{1,15})\s*-\s*(\d{1,15})?|-\s*(\d{1,15}))\s*$/i

/**
 * The one range that a caller asks for; null where it asks for none, for several, or in words that we do not know: then
 * it gets everything, as section 14.2 allows.
 * @param condition If-Range: unless it names what there is now, parts of it do not go with what the caller has
 */
export function rangeAsked(
  header: string | undefined,
  condition: string | undefined,
  tag: string,
): AskedRange | null {
  if (condition !== undefined && condition.trim() !== tag) return null
  const [, from, to, atEnd] = oneRange.exec(header ?? '') ?? []
  if (atEnd !== undefined) return { atEnd: Number(atEnd) }
  if (from === undefined) return null
  const [first, last] = [Number(from), to === undefined ? null : Number(to)]
  return last !== null && last < first ? null : { first, last }
}

/** The bytes of so many that are meant; null where none of them are. */
export function rangeWithin(asked: AskedRange, size: number): Range | null {
  if ('atEnd' in asked)
    return asked.atEnd === 0 || size === 0 ? null : { first: Math.max(0, size - asked.atEnd), last: size - 1 }
  const { first, last } = asked
  return first >= size ? null : { first, last: Math.min(last ?? size, size - 1) }
}

/** The bytes of a range out of parts that come one after the other; those after it are not asked for. */
export async function* partsWithin(
  parts: AsyncIterable<Uint8Array>,
  { first, last }: Range,
): AsyncGenerator<Uint8Array> {
  let at = 0
  for await (const part of parts) {
    const [from, to] = [Math.max(0, first - at), Math.min(part.length, last + 1 - at)]
    if (to > from) yield part.subarray(from, to)
    at += part.length
    if (at > last) return
  }
}

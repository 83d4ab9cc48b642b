/**
 * A large package report is read some packages at a time: the text of a whole release, and all that JSON.parse makes of
 * it at once, would be several times as large as what is kept of it.
 */
import * as v from 'valibot'
import { PackageReport, ReportedPackage } from '../wire/packages.ts'
import { checked } from '../wire/schema.ts'
import { parsedBody, wholeRelease } from './body.ts'

/** Bytes of packages that are read at once, more or less. */
const together = 128 * 1024

const [quote, backslash, comma] = [0x22, 0x5c, 0x2c]
const [openList, closeList, openObject, closeObject] = [0x5b, 0x5d, 0x7b, 0x7d]

/** A list of packages that some more are added to. */
const Members = v.array(ReportedPackage)
/** How the list of packages begins: nothing else is read in parts. */
const beginning = /"packages"[ \t\r\n]*:[ \t\r\n]*$/

/**
 * The report in a body of JSON, checked.
 * @throws Refusal 400 that names the first thing that is wrong, 413 where it is longer than makes sense
 */
export async function reportIn(bytes: Uint8Array): Promise<PackageReport> {
  return readInParts(bytes) ?? parsedBody(PackageReport, bytes, wholeRelease)
}

/** Null where a report is wrong, or not made as reports usually are: then it has to be looked at as a whole. */
function readInParts(bytes: Uint8Array): PackageReport | null {
  if (bytes.length > wholeRelease.text) return null
  const decoder = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true })
  const textOf = (start: number, end?: number): string => decoder.decode(bytes.subarray(start, end))
  const packages: ReportedPackage[] = []
  try {
    const list = packageList(bytes, (start, end) => {
      const members = checked(Members, JSON.parse(`[${textOf(start, end)}]`), 'packages')
      if (members.length === 0 && packages.length > 0) throw new SyntaxError('a comma and nothing behind it')
      for (const one of members) packages.push(one)
    })
    if (list === null) return null
    const outside = textOf(0, list.start) + textOf(list.end)
    if (outside.includes('\\')) return null // who knows whether it names the same list once more
    const rest = checked(PackageReport, JSON.parse(outside), 'the report')
    return rest.packages.length === 0 ? { ...rest, packages } : null
  } catch {
    return null
  }
}

/**
 * Finds the list of packages and tells `take` of its members, some at a time, as text between two places.
 * @returns where the list's own text begins and ends, without its brackets; null where there are several or none, or the
 * body is out of bounds
 */
function packageList(
  bytes: Uint8Array,
  take: (start: number, end: number) => void,
): { start: number; end: number } | null {
  const before = (at: number): string =>
    Buffer.from(bytes.subarray(Math.max(0, at - 64), at)).toString('latin1')
  let list: { start: number; end: number } | null = null
  let [depth, values, from, isInside] = [0, 0, 0, false]
  for (let at = 0; at < bytes.length; at++) {
    const byte = bytes[at]
    if (byte === quote) at = endOfText(bytes, at)
    else if (byte === openList || byte === openObject) {
      if (++values > wholeRelease.values || ++depth > wholeRelease.depth) return null
      if (depth !== 2 || byte !== openList || !beginning.test(before(at))) continue
      if (list !== null) return null
      from = at + 1
      list = { start: from, end: from }
      isInside = true
    } else if (byte === closeList || byte === closeObject) {
      depth -= 1
      if (depth !== 1 || !isInside || list === null) continue
      take(from, at)
      list.end = at
      isInside = false
    } else if (byte === comma) {
      if (++values > wholeRelease.values) return null
      if (depth !== 2 || !isInside || at - from < together) continue
      take(from, at)
      from = at + 1
    }
  }
  return isInside ? null : list
}

/** The place of the quotation mark that ends a text. */
function endOfText(bytes: Uint8Array, start: number): number {
  let end = start + 1
  while (end < bytes.length && bytes[end] !== quote) end += bytes[end] === backslash ? 2 : 1
  return end
}

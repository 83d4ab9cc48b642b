import { asBuffer } from '../chunks.ts'
import { Complaint } from '../errors.ts'
import { gathered } from './gathered.ts'

const [quote, comma, backslash, newline] = [34, 44, 92, 10]
const [openBrace, closeBrace, openBracket, closeBracket] = [123, 125, 91, 93]
const byteOrderMark = [0xef, 0xbb, 0xbf]
/** Bytes of one package, and of what a report has beside its packages. */
const longest = 16 * 1024 * 1024
/** Bytes that are looked at to see which member a list is. */
const nearness = 80

type Found = {
  /** A package of the report that is being read. */
  onPackage: (document: unknown) => void
  /** The report is over; its list of packages is empty in it. */
  onReport: (document: unknown) => void
}

/**
 * Finds package reports in JSON while it arrives, each package by itself: single ones, arrays of them, one on each line.
 * Only one package has to be in memory.
 * @param what names the input in complaints
 * @returns `read` takes the next bytes; both throw Complaint where the text is no such JSON
 */
export function scanReports(what: string, { onPackage, onReport }: Found) {
  const decoder = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true })
  const held = gathered(longest, () => tooLong(what))
  let outside = ''
  const state = { level: 0, line: 1, isInText: false, isEscaped: false, hasBegun: false }
  /** Where we are: in an array of reports, in a report, in its packages; what may come next in an array. */
  const place = {
    isInArray: false,
    isInReport: false,
    isInPackages: false,
    hasPackages: false,
    expects: 'any' as Expected,
  }
  let packages = 0

  const wrong = (problem: string): Complaint =>
    new Complaint(`line ${state.line} of ${what} is not JSON: ${problem}`, { exitCode: 2 })
  const parsed = (text: string): unknown => {
    try {
      return JSON.parse(text)
    } catch (error) {
      throw wrong(error instanceof Error ? error.message : String(error))
    }
  }
  const text = (end: Buffer): string => {
    try {
      return decoder.decode(held.end(end))
    } catch {
      throw new Complaint(`${what} is not UTF-8`, { exitCode: 2 })
    }
  }
  const takePackage = (end: Buffer, isLast: boolean): void => {
    const json = text(end)
    if (isLast && packages === 0 && json.trim() === '') return
    onPackage(parsed(json))
    packages++
  }
  const takeOutside = (end: Buffer): void => {
    outside += text(end)
    if (outside.length > longest) throw tooLong(what)
  }
  const leadsToPackages = (end: Buffer): boolean =>
    /[{,]\s*"packages"\s*:\s*\[$/.test(endOf(held.bytes(), end) || outside.slice(-nearness))
  const finishReport = (end: Buffer): void => {
    takeOutside(end)
    onReport(parsed(outside))
    outside = ''
    place.isInReport = place.hasPackages = false
    place.expects = place.isInArray ? 'comma' : 'any'
  }

  /** A byte between reports. */
  const between = (byte: number, offset: number): void => {
    if (byte <= 32 || byteOrderMark[offset] === byte) return
    state.hasBegun = true
    if (byte === openBrace && place.expects !== 'comma') place.isInReport = true
    else if (byte === openBracket && !place.isInArray)
      Object.assign(place, { isInArray: true, expects: 'first' })
    else if (byte === closeBracket && place.isInArray && place.expects !== 'report')
      Object.assign(place, { isInArray: false, expects: 'any' })
    else if (byte === comma && place.expects === 'comma') place.expects = 'report'
    else if (byte >= 0x80) throw wrong('it is something else, or not UTF-8')
    else throw wrong(`a report is an object, and here stands ${JSON.stringify(String.fromCharCode(byte))}`)
  }

  let total = 0
  const read = (chunk: Uint8Array): void => {
    const bytes = asBuffer(chunk)
    let start = 0
    for (let at = 0; at < bytes.length; at++) {
      const byte = bytes[at] as number // it is inside
      if (byte === newline) state.line++
      if (state.isInText) {
        if (state.isEscaped) state.isEscaped = false
        else if (byte === backslash) state.isEscaped = true
        else if (byte === quote) state.isInText = false
      } else if (!place.isInReport) {
        between(byte, total + at)
        if (place.isInReport) [start, state.level, packages] = [at, 1, 0]
      } else if (byte === quote) state.isInText = true
      else if (byte === openBrace || byte === openBracket) {
        const upTo = bytes.subarray(start, at + 1)
        if (byte === openBracket && state.level === 1 && leadsToPackages(upTo)) {
          if (place.hasPackages) throw wrong('a report has two lists of packages')
          takeOutside(upTo)
          place.isInPackages = place.hasPackages = true
          start = at + 1
        }
        state.level++
      } else if (byte === closeBrace || byte === closeBracket) {
        state.level--
        if (place.isInPackages && state.level === 1) {
          takePackage(bytes.subarray(start, at), true)
          place.isInPackages = false
          start = at
        } else if (state.level === 0) finishReport(bytes.subarray(start, at + 1))
      } else if (byte === comma && place.isInPackages && state.level === 2) {
        takePackage(bytes.subarray(start, at), false)
        start = at + 1
      }
    }
    if (place.isInReport) held.take(bytes.subarray(start))
    total += bytes.length
  }
  return {
    read,
    end(): void {
      if (!state.hasBegun)
        throw new Complaint(`${what} is empty: it should hold a package report`, { exitCode: 2 })
      if (place.isInReport || place.isInArray) throw wrong('it ends too early')
    },
  }
}

/** What an array of reports may go on with, beside its end where that is `first` or `comma`. */
type Expected = 'any' | 'first' | 'comma' | 'report'

function tooLong(what: string): Complaint {
  return new Complaint(`${what} has a package or a report that is too long`, { exitCode: 2 })
}

/** The last characters of what has come so far, with this at its end. */
function endOf(held: Buffer, part: Buffer): string {
  return (
    held.toString('latin1', Math.max(0, held.length - Math.max(0, nearness - part.length))) +
    part.toString('latin1', Math.max(0, part.length - nearness))
  )
}

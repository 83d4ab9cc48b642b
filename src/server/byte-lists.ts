/**
 * Logs, diffs and attestations come as JSON lists of numbers: a list of a gigabyte would be four gigabytes in memory
 * before anybody looks at it. Long ones are read off the text of the body; what is left is short and bounded.
 */
import { randomUUID } from 'node:crypto'
import { setImmediate as turn } from 'node:timers/promises'
import { Refusal } from './refusal.ts'

export type Bounds = {
  /** Most bytes of JSON besides long lists of bytes. */
  text: number
  /** Deepest nesting. */
  depth: number
  /** Most lists, objects and members of both. */
  values: number
}

/** JSON text in which lists of bytes are replaced by strings, and what each of the strings stands for. */
type Short = { text: Uint8Array; lists: ReadonlyMap<string, Uint8Array> }

/** Lists of fewer characters stay as they are. */
const shortest = 256
/** Bytes that are looked at before others get their turn: about two milliseconds. */
const slice = 512 * 1024

const [quote, backslash, comma, zero, nine] = [0x22, 0x5c, 0x2c, 0x30, 0x39]
const [openList, closeList, openObject, closeObject] = [0x5b, 0x5d, 0x7b, 0x7d]

/** No caller can guess a string that stands for a list. */
const mark = randomUUID()

/**
 * Takes long lists of numbers from 0 to 255 out of JSON text. Whether the text is JSON at all is for JSON.parse to say.
 * @throws Refusal 413 where what is left is too long, 400 where it is nested too deep or has too many values
 */
export async function withoutByteLists(bytes: Uint8Array, bounds: Bounds): Promise<Short> {
  const rest = restWithin(bounds)
  const lists = new Map<string, Uint8Array>()
  let [from, isText, next] = [0, false, slice]
  for (let at = 0; at < bytes.length; at++) {
    if (at >= next) {
      await turn()
      next = at + slice
    }
    const byte = bytes[at]
    if (isText) {
      if (byte === backslash) at++
      else if (byte === quote) isText = false
    } else if (byte === quote) isText = true
    else if (byte === openList) {
      const end = endOfNumbers(bytes, at)
      const list = end === null ? null : await byteList(bytes, at + 1, end)
      if (end === null || list === null) rest.opened()
      else {
        const name = `${mark}${lists.size}`
        lists.set(name, list)
        rest.add(bytes.subarray(from, at))
        rest.add(Buffer.from(`"${name}"`))
        rest.valued()
        ;[from, at] = [end + 1, end]
      }
    } else if (byte === openObject) rest.opened()
    else if (byte === closeList || byte === closeObject) rest.closed()
    else if (byte === comma) rest.valued()
  }
  rest.add(bytes.subarray(from))
  return { text: rest.text(), lists }
}

/** Collects what is left, within bounds. */
function restWithin({ text, depth, values }: Bounds) {
  const parts: Uint8Array[] = []
  let [size, deep, count] = [0, 0, 0]
  const valued = (): void => {
    if (++count > values) throw tangled(`too many values, more than ${values}`)
  }
  return {
    valued,
    opened() {
      valued()
      if (++deep > depth) throw tangled(`nested too deep, more than ${depth}`)
    },
    closed() {
      deep -= 1
    },
    add(part: Uint8Array) {
      size += part.length
      if (size > text)
        throw new Refusal(413, `the body has more than ${text} bytes besides its lists of bytes`)
      parts.push(part)
    },
    text: () => (parts.length === 1 && parts[0] !== undefined ? parts[0] : Buffer.concat(parts)),
  }
}

function tangled(problem: string): Refusal {
  return new Refusal(400, `Json deserialize error: ${problem}`)
}

/** Where a list ends that begins like one of numbers and is long enough; null: it does not. */
function endOfNumbers(bytes: Uint8Array, start: number): number | null {
  let at = start + 1
  while (isBlank(bytes[at])) at++
  if (!isDigit(bytes[at])) return null
  const end = bytes.indexOf(closeList, at)
  return end - start < shortest ? null : end
}

/** The bytes of a list of numbers between two places; null where something else is among them. */
async function byteList(bytes: Uint8Array, start: number, end: number): Promise<Uint8Array | null> {
  const list = new Uint8Array(Math.ceil((end - start) / 2))
  let [length, next, at] = [0, start + slice, start]
  for (;;) {
    if (at >= next) {
      await turn()
      next = at + slice
    }
    while (isBlank(bytes[at])) at++
    const first = at
    let value = 0
    while (at < end && at - first < 4 && isDigit(bytes[at])) value = value * 10 + (bytes[at++] ?? 0) - zero
    const isNumber = at > first && value <= 255 && (at - first === 1 || bytes[first] !== zero)
    if (!isNumber) return null
    list[length++] = value
    while (isBlank(bytes[at])) at++
    if (at === end) return list.slice(0, length)
    if (bytes[at++] !== comma) return null
  }
}

function isDigit(byte: number | undefined): boolean {
  return byte !== undefined && byte >= zero && byte <= nine
}

/** Space, tab, line feed, carriage return (RFC 8259 section 2). */
function isBlank(byte: number | undefined): boolean {
  return byte === 0x20 || byte === 0x0a || byte === 0x0d || byte === 0x09
}

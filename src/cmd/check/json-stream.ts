import { Complaint } from '../../errors.ts'

const quote = 34
const backslash = 92
const [openBrace, closeBrace, openBracket, closeBracket] = [123, 125, 91, 93]
const longestElement = 1024 * 1024

/**
 * Objects of one JSON array while it arrives, so that a list of any length takes little memory.
 * @param depth in how many brackets and braces the objects are: 1 for `[{…}]`, 2 for `{"records":[{…}]}`
 * @throws Complaint where the text is no such JSON, or ends early
 */
export async function* jsonElements(chunks: AsyncIterable<Uint8Array>, depth: number): AsyncGenerator {
  let level = 0
  let isInText = false
  let isEscaped = false
  let hasBegun = false
  let isList = false
  let rest: Uint8Array = new Uint8Array(0) // the beginning of an element that earlier chunks left
  for await (const chunk of chunks) {
    const bytes = rest.length === 0 ? Buffer.from(chunk) : Buffer.concat([rest, chunk])
    let start = rest.length > 0 ? 0 : -1
    for (let at = rest.length; at < bytes.length; at++) {
      const byte = bytes[at]
      if (isInText) {
        if (isEscaped) isEscaped = false
        else if (byte === backslash) isEscaped = true
        else if (byte === quote) isInText = false
      } else if (byte === quote) isInText = true
      else if (byte === openBrace || byte === openBracket) {
        if (level === depth && byte === openBrace) start = at
        if (level === depth - 1 && byte === openBracket) isList = true
        hasBegun = true
        level++
      } else if (byte === closeBrace || byte === closeBracket) {
        level--
        if (level === depth && start >= 0) {
          yield element(bytes.toString('utf8', start, at + 1))
          start = -1
        }
      } else if (!hasBegun && byte !== undefined && byte > 32) throw new Complaint('the reply is not JSON')
      if (level < 0) throw new Complaint('the reply is not JSON')
    }
    rest = start >= 0 ? bytes.subarray(start) : new Uint8Array(0)
    if (rest.length > longestElement) throw new Complaint('the reply has an element that is too long')
  }
  if (level !== 0 || !hasBegun) throw new Complaint('the reply ends early')
  if (!isList) throw new Complaint('the reply is no list')
}

function element(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    throw new Complaint('the reply is not JSON')
  }
}

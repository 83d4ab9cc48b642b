import { decompressed } from '../compression.ts'
import { Complaint } from '../errors.ts'
import { PackageReport } from '../wire/packages.ts'
import { checked } from '../wire/schema.ts'

/** Most bytes of reports, unpacked: a text of JavaScript can hold no more. */
const limit = 500_000_000

/**
 * Package reports as programs write them: one JSON object, an array of them, or one on each line; compressed or not.
 * @throws Complaint naming the report and the member that is wrong
 */
export async function* readReports(input: AsyncIterable<Uint8Array>): AsyncGenerator<PackageReport> {
  const text = await textOf(input)
  let index = 0
  for (const document of documentsOf(text)) yield checked(PackageReport, document, `report ${++index}`)
}

async function textOf(input: AsyncIterable<Uint8Array>): Promise<string> {
  const what = 'standard input'
  const decoder = new TextDecoder('utf-8', { fatal: true })
  let text = ''
  try {
    for await (const chunk of decompressed(input, { limit, what }))
      text += decoder.decode(chunk, { stream: true })
    text += decoder.decode()
  } catch (error) {
    if (error instanceof TypeError) throw new Complaint(`${what} is not UTF-8`, { exitCode: 2 })
    throw error
  }
  if (text.trim() === '')
    throw new Complaint('standard input is empty: it should hold a package report', { exitCode: 2 })
  return text
}

function* documentsOf(text: string): Generator {
  const whole = parsed(text)
  if ('document' in whole) yield* Array.isArray(whole.document) ? whole.document : [whole.document]
  else yield* linesOf(text, whole.problem)
}

/** One document on each line; where not even the first line is one, it was meant as a single document. */
function* linesOf(text: string, problem: string): Generator {
  let found = 0
  for (const [i, line] of text.split('\n').entries()) {
    if (line.trim() === '') continue
    const one = parsed(line)
    if ('document' in one) yield one.document
    else if (found === 0) throw new Complaint(`standard input is not JSON: ${problem}`, { exitCode: 2 })
    else throw new Complaint(`line ${i + 1} of standard input is not JSON: ${one.problem}`, { exitCode: 2 })
    found++
  }
}

function parsed(text: string): { document: unknown } | { problem: string } {
  try {
    return { document: JSON.parse(text) as unknown }
  } catch (error) {
    return { problem: error instanceof Error ? error.message : String(error) }
  }
}

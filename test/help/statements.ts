/** The SQL statements that source files contain, to see that a test meets each. */
import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'

/** A statement as it stands in a file: `where` names the place, `pattern` finds it among texts that were run. */
type Written = { where: string; pattern: RegExp; text: string }

const statement = /^\s*(SELECT|INSERT|UPDATE|DELETE|WITH)\b/

/** Statements and questions within statements of the TypeScript files below a folder. */
export function statementsBelow(folder: string): Written[] {
  const found: Written[] = []
  for (const file of readdirSync(folder, { recursive: true, encoding: 'utf8' }).sort()) {
    if (!file.endsWith('.ts')) continue
    const text = readFileSync(join(folder, file), 'utf8')
    for (const match of text.matchAll(/\bsql`|\btrusted\(\s*[`']/g)) {
      const end = match.index + match[0].length
      const parts = partsOf(text, end, match[0].at(-1) ?? '`')
      if (!statement.test(parts[0] ?? '')) continue
      const line = text.slice(0, match.index).split('\n').length
      found.push({ where: `${file}:${line}`, pattern: patternOf(parts), text: parts.join('…') })
    }
  }
  return found
}

/** The texts of a template between its values; one in quotes has a single text. */
function partsOf(text: string, start: number, quote: string): string[] {
  const parts: string[] = []
  let part = ''
  for (let at = start; at < text.length; at++) {
    if (text[at] === '\\') part += text[++at] ?? ''
    else if (text[at] === quote) return [...parts, part]
    else if (quote === '`' && text.startsWith('${', at)) {
      parts.push(part)
      part = ''
      at = endOfValue(text, at + 2)
    } else part += text[at]
  }
  return [...parts, part]
}

/** Where the value that begins here ends: at its brace; values may hold templates with values. */
function endOfValue(text: string, start: number): number {
  for (let at = start, depth = 0; at < text.length; at++) {
    if (text[at] === '{') depth++
    else if (text[at] === '}' && depth-- === 0) return at
    else if (text[at] === '`') at = endOfTemplate(text, at + 1)
    else if (text[at] === "'") at = text.indexOf("'", at + 1)
  }
  return text.length
}

function endOfTemplate(text: string, start: number): number {
  for (let at = start; at < text.length; at++) {
    if (text[at] === '\\') at++
    else if (text[at] === '`') return at
    else if (text.startsWith('${', at)) at = endOfValue(text, at + 2)
  }
  return text.length
}

function patternOf(parts: readonly string[]): RegExp {
  return new RegExp(parts.map((part) => inOneLine(part).replace(/[.*+?^${}()|[\]\\]/g, '\\$&')).join('[^]*'))
}

/** Spaces count for nothing in SQL. */
export function inOneLine(text: string): string {
  return text.replace(/\s+/g, ' ')
}

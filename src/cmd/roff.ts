/** Manual pages as text for man(1), in the macros of man(7). No dates: the same program prints the same bytes. */
export type Page = {
  name: string
  section: 1 | 5
  /** What follows the name: one line without a full stop. */
  doc: string
  sections: readonly Section[]
}
export type Section = { title: string; parts: readonly Part[] }
export type Part =
  | { kind: 'text'; text: string }
  | { kind: 'heading'; text: string }
  | { kind: 'synopsis'; text: string }
  | { kind: 'term'; term: string; text: string }
  | { kind: 'example'; lines: readonly string[] }

/** The page as roff. */
export function roffOf(page: Page, version: string): string {
  const head = `.TH ${quoted(page.name.toUpperCase())} ${page.section} "" ${quoted(`rebuilderd ${version}`)} ""`
  const name = ['.SH NAME', `${plain(page.name)} \\- ${plain(page.doc)}`]
  const rest = page.sections.flatMap(({ title, parts }) => [
    `.SH ${quoted(title)}`,
    ...parts.flatMap(linesOf),
  ])
  return `${[head, ...name, ...rest].join('\n')}\n`
}

function linesOf(part: Part): string[] {
  switch (part.kind) {
    case 'text':
      return ['.PP', ...part.text.split('\n').map(plain)]
    case 'heading':
      return [`.SS ${quoted(part.text)}`]
    case 'synopsis':
      return ['.PP', `.B ${quoted(part.text)}`]
    case 'term':
      return ['.TP', `.B ${quoted(part.term)}`, ...part.text.split('\n').map(plain)]
    case 'example':
      return ['.PP', '.nf', '.RS', ...part.lines.map(plain), '.RE', '.fi']
  }
}

/** Text that roff takes for nothing else: no escape, no request at the beginning of a line, no hyphen for a minus. */
function plain(text: string): string {
  const escaped = text.replaceAll('\\', '\\e').replaceAll('-', '\\-')
  return /^[.']/.test(escaped) ? `\\&${escaped}` : escaped
}

/** One argument of a request. */
function quoted(text: string): string {
  return `"${plain(text).replaceAll('"', '\\(dq')}"`
}

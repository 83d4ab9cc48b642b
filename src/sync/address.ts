import { Complaint } from '../errors.ts'

/**
 * A path of an index as part of an address: it may not leave the archive, and what an address gives a meaning to is
 * encoded; `+`, `~` and `:` stay as every mirror serves them.
 * @throws Complaint where it is no relative path
 */
export function addressOf(base: string, path: string, what: string): string {
  const parts = path.replace(/^(?:\.\/)+/, '').split('/')
  if (parts.some((part) => part === '' || part === '.' || part === '..') || /[\0-\x1f\x7f\\]/.test(path)) {
    throw new Complaint(`${what}: ${JSON.stringify(path.slice(0, 200))} is not a path inside the archive`)
  }
  const local = !/^[a-z]+:/.test(base)
  const whole = parts.join('/')
  return `${base.replace(/\/+$/, '')}/${local || isPlain(whole) ? whole : encoded(whole)}`
}

function isPlain(path: string): boolean {
  return /^[\w./+~:@,=()!$&'*;-]*$/.test(path)
}

function encoded(path: string): string {
  return encodeURI(path).replaceAll('?', '%3F').replaceAll('#', '%23')
}

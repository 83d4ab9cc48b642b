import { createHash } from 'node:crypto'
import type { ReportedPackage, ReportToSend } from './wire/packages.ts'

/** Characters that are hashed at once. */
const atOnce = 1 << 16

/**
 * SHA-256 (hex) of what a report says: client and server know by it that a report is the last one again.
 * The members have a fixed order here, and what is not given counts as null.
 */
export function digestOf({ distribution, release, architecture, index, packages }: ReportToSend): string {
  const hash = createHash('sha256')
  let waiting = `${JSON.stringify([distribution, release, architecture, index])}\n`
  for (const item of packages) {
    waiting += lineOf(item)
    if (waiting.length < atOnce) continue
    hash.update(waiting)
    waiting = ''
  }
  return hash.update(waiting).digest('hex')
}

/** All that a report says of one package, in one line. */
export function lineOf({ name, version, url, maintainer, artifacts }: ReportedPackage): string {
  const files = artifacts.map((one) => [
    one.name,
    one.version,
    one.component,
    one.architecture,
    one.url,
    one.sha256,
    one.size,
    one.signature ?? null,
  ])
  return `${JSON.stringify([name, version, url, maintainer, files])}\n`
}

import { Complaint, chainOf } from '../errors.ts'
import type { Reason } from '../wire/reasons.ts'

/** Why no verdict was possible, with the code that goes into the report. */
export class Failure extends Complaint {
  readonly reason: Reason

  constructor(reason: Reason, message: string, options: { hint?: string; cause?: unknown } = {}) {
    super(message, options)
    this.name = 'Failure'
    this.reason = reason
  }
}

/** The reason of whatever was thrown: a full disk and our own failures are told apart, the rest is our fault. */
export function reasonOf(error: unknown): Reason {
  for (const link of chainOf(error)) {
    if (link instanceof Failure) return link.reason
    if (isFull(link)) return 'no_space'
  }
  return 'backend_error'
}

/** Whether the operating system says that there is no room on a disk, or none for us. */
export function isFull(error: unknown): boolean {
  return error instanceof Error && 'code' in error && (error.code === 'ENOSPC' || error.code === 'EDQUOT')
}

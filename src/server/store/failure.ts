import { Complaint } from '../../errors.ts'

/** An error as it goes from thread to thread: its message, and what a complaint says besides. */
export type Failure = { error: string; complaint?: { hint: string | undefined; exitCode: number } }

/** An error in the form that crosses threads. */
export function failureOf(error: unknown): Failure {
  if (!(error instanceof Complaint)) return { error: error instanceof Error ? error.message : String(error) }
  const { message, hint, exitCode } = error
  return { error: message, complaint: { hint, exitCode } }
}

/** The error on the other side. */
export function errorOf({ error, complaint }: Failure): Error {
  return complaint === undefined ? new Error(error) : new Complaint(error, complaint)
}

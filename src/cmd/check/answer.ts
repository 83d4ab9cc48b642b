import { printable } from '../../log.ts'

export const statuses = ['GOOD', 'BAD', 'FAIL', 'UNKWN'] as const
type Status = (typeof statuses)[number]

/** What a rebuilder says of one package. */
export type Answer = {
  status: Status
  /** Why, where the server knows reasons. */
  reason: string | null
  /** SHA-256 of the file that was compared, as the rebuilder tells it. */
  sha256: string | null
  buildId: number | null
  artifactId: number | null
  hasAttestation: boolean
}

/** A status as we know it. A word of a newer server that we do not know says nothing, and is told. */
export function statusOf(word: string | null): Pick<Answer, 'status' | 'reason'> {
  const known = statuses.find((status) => status === (word ?? 'UNKWN'))
  if (known !== undefined) return { status: known, reason: null }
  return { status: 'UNKWN', reason: `the rebuilder says ${JSON.stringify(wordOf(word ?? ''))}` }
}

const longestWord = 64

/** A word of a server as text that is safe to show; it may be one that we do not know. */
export function wordOf(given: string): string {
  return printable(given.slice(0, longestWord))
}

import type { Reason } from '../wire/reasons.ts'

/** What lines of a log say about a build that failed; the first rule that matches counts. */
export const logRules: readonly { readonly reason: Reason; readonly pattern: RegExp }[] = [
  { reason: 'no_space', pattern: /No space left on device|Disk quota exceeded/ },
  {
    reason: 'too_large',
    pattern: /Cannot allocate memory|virtual memory exhausted|out of memory: killed process/i,
  },
  {
    reason: 'network_needed',
    pattern:
      /Could not resolve host|Temporary failure in name resolution|Network is unreachable|getaddrinfo (?:EAI_AGAIN|ENOTFOUND)|dial tcp: lookup /,
  },
  {
    reason: 'tests_failed',
    pattern:
      /^(?:dh_auto_test: error|make(?:\[\d+\])?: \*\*\* \[[^\]]*\b(?:check|test|override_dh_auto_test)\b[^\]]*\] Error|==> ERROR: A failure occurred in check\(\))/m,
  },
]

/** The end of a log is where it says why it ended. */
const tailBytes = 64 * 1024

/** The reason that a log gives for a failed build, or null when no rule knows it. */
export function reasonOfLog(log: Uint8Array): Reason | null {
  const tail = new TextDecoder().decode(log.subarray(Math.max(0, log.length - tailBytes)))
  return logRules.find(({ pattern }) => pattern.test(tail))?.reason ?? null
}

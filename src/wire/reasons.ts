import * as v from 'valibot'

/** Whose turn it is: the package's people, or those who run the rebuilder. */
export type ReasonClass = 'package' | 'infrastructure'

/** Why a rebuild is not GOOD: code → whose turn it is, and the sentence for people. */
export const reasons = {
  content_differs: ['package', 'Built in the recorded environment, but the bytes differ.'],
  artifact_missing: ['package', 'The build ended well but did not make this file.'],
  build_failed: ['package', 'The build ended with an error.'],
  build_timeout: ['package', 'The build took longer than this worker allows.'],
  tests_failed: ['package', "The build's own tests failed."],
  network_needed: ['package', 'The build tries to reach the network, which is off.'],
  environment_differs: [
    'infrastructure',
    'Bytes differ, but the toolchain was not the recorded one: this proves nothing.',
  ],
  environment_unavailable: [
    'infrastructure',
    'A recorded version of the build environment is nowhere to be had.',
  ],
  input_unavailable: ['infrastructure', 'The build input or an original file could not be downloaded.'],
  input_mismatch: ['infrastructure', 'A downloaded file is not the one that the index names.'],
  input_invalid: ['infrastructure', 'The build input cannot be read or has values we refuse.'],
  source_unavailable: ['infrastructure', 'The source package could not be downloaded.'],
  nothing_to_compare: ['infrastructure', 'The job names no file to compare.'],
  no_space: ['infrastructure', 'The worker ran out of disk space.'],
  too_large: ['infrastructure', 'The build went over a limit on memory, processes, output or disk.'],
  worker_lost: ['infrastructure', 'The worker stopped answering.'],
  backend_error: ['infrastructure', 'The backend itself failed.'],
  unexplained: ['package', 'Reported without a reason by an older worker.'],
} as const satisfies Record<string, readonly [ReasonClass, string]>

export type Reason = keyof typeof reasons
export const reasonCodes = Object.keys(reasons) as [Reason, ...Reason[]] // the keys of the table are its codes
export const Reason = v.picklist(reasonCodes)

/** Whose turn it is. */
export function classOf(reason: Reason): ReasonClass {
  return reasons[reason][0]
}

/** The sentence of a reason for people. */
export function wordsOf(reason: Reason): string {
  return reasons[reason][1]
}

/** Whether a text is one of the codes. */
export function isReason(given: string): given is Reason {
  return Object.hasOwn(reasons, given)
}

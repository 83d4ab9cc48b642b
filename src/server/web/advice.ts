import { isReason, reasons, type Reason } from '../../wire/reasons.ts'
import { html, name, type Html } from './html.ts'

/** What people of the package, or of the infrastructure, can do about a reason. */
export const advice: Readonly<Record<Reason, string>> = {
  content_differs:
    'Look at the differences: time stamps, build paths, file order and random values are the usual causes.',
  artifact_missing:
    'The build environment decides which files come out: compare the build’s log with that of the distribution.',
  build_failed: 'The end of the log tells what broke.',
  build_timeout: 'Give workers more time (build.timeout), or find out where the build hangs in the log.',
  tests_failed:
    'The end of the log names the test; tests that depend on time, load or host names are the usual ones.',
  network_needed: 'What the build fetches has to be packaged, or the test that does so skipped.',
  environment_differs:
    'Nothing has to change in the package. Rebuild it when the recorded versions can be had.',
  environment_unavailable:
    'The missing versions are named in the evidence; an archive of old packages helps, such as snapshot.debian.org.',
  input_unavailable: 'The mirror may have moved on; the next sync and the next try will tell.',
  input_mismatch:
    'The mirror and its index disagree, or somebody changed a file: sync again, and look closer if it stays.',
  input_invalid: 'The build input has values that are refused; the note of the build names them.',
  source_unavailable: 'The source is not on the mirror any more, or not yet.',
  nothing_to_compare: 'Sync again: the job had no file to compare.',
  no_space: 'The worker needs more disk space.',
  too_large: 'Raise the limits of a worker, or send the package to a larger one by its tags.',
  worker_lost: 'Another worker tries it again.',
  backend_error: 'The log tells; `rebuilderd worker doctor` checks the machine.',
  unexplained: 'The log is all there is; workers of this version tell the reason.',
}

/** A reason in words, whose turn it is, and what to do; nothing for GOOD. */
export function callout(status: string | null, reason: string | null, note: string | null): Html {
  if (reason === null || status === 'GOOD' || !isReason(reason)) return html``
  const [turn, words] = reasons[reason]
  return html`<div class="callout ${status === 'BAD' ? 'BAD' : 'FAIL'}">
    <p><strong>${words}</strong> <code>${reason}</code></p>
    ${note === null ? '' : html`<p>${name(note)}</p>`}
    <p>
      ${
        turn === 'package'
          ? 'It is the package’s turn.'
          : 'It is the infrastructure’s turn; this says nothing against the package.'
      }
      ${advice[reason]}
    </p>
  </div>`
}

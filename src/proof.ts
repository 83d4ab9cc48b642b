/** How a worker proves towards our server that it holds its key, and that a report is its own. */
import { createHash, createPublicKey, sign, verify } from 'node:crypto'
import { canonicalJson, type SigningKey } from './attestation.ts'
import type { RebuildReport } from './wire/builds.ts'
import type { RegisterRequest } from './wire/workers.ts'

/** What is signed when a worker registers: the server's nonce, and what the worker says of itself. */
function introduction({ name, tags }: Pick<RegisterRequest, 'name' | 'tags'>, nonce: string): string {
  return canonicalJson({ what: 'rebuilderd worker registration', nonce, name, tags })
}

/** What is signed of a report: everything that a verdict rests on; `log_sha256` is of the bytes that are sent. */
function essenceOf(report: RebuildReport): string {
  const artifacts = report.artifacts.map(({ name, url, status, sha256, rebuilt_sha256 }) => {
    return { name, url, status, sha256, rebuilt_sha256 }
  })
  const { queue_id, lease, status, reason, build_log } = report
  const log_sha256 = createHash('sha256').update(build_log).digest('hex')
  return canonicalJson({ what: 'rebuilderd report', queue_id, lease, status, reason, artifacts, log_sha256 })
}

/** What a worker shows to register: that it holds its key, for the nonce of the server. */
export function proofOf(
  body: Pick<RegisterRequest, 'name' | 'tags'>,
  nonce: string,
  key: SigningKey,
): { nonce: string; signature: string } {
  return { nonce, signature: signatureOf(introduction(body, nonce), key) }
}

/** @param workerKey what the X-Worker-Key header carries: the public key in base64 */
export function isProven(body: RegisterRequest, workerKey: string): boolean {
  const { proof } = body
  return proof !== undefined && isTrue(introduction(body, proof.nonce), proof.signature, workerKey)
}

function presence(session: string): string {
  return canonicalJson({ what: 'rebuilderd worker session', session })
}

/** What the X-Worker-Proof header carries: the server's session, and the worker's signature of it. */
export function presenceOf(session: string, key: SigningKey): string {
  return `${session}.${signatureOf(presence(session), key)}`
}

/** Whether the holder of this key signed this session. */
export function isPresent(session: string, signature: string, workerKey: string): boolean {
  return isTrue(presence(session), signature, workerKey)
}

/** The report with the worker's signature of it. */
export function signedReport(report: RebuildReport, key: SigningKey): RebuildReport {
  return { ...report, signature: signatureOf(essenceOf(report), key) }
}

/** Whether the holder of this key signed this very report. */
export function isSignedBy(report: RebuildReport, workerKey: string): boolean {
  return report.signature !== undefined && isTrue(essenceOf(report), report.signature, workerKey)
}

/** Ed25519 (RFC 8032), in hex. */
function signatureOf(text: string, { privateKey }: SigningKey): string {
  return sign(null, Buffer.from(text), privateKey).toString('hex')
}

function isTrue(text: string, signature: string, workerKey: string): boolean {
  const raw = Buffer.from(workerKey, 'base64')
  if (raw.length !== 32 || raw.toString('base64') !== workerKey) return false
  const jwk = { kty: 'OKP', crv: 'Ed25519', x: raw.toString('base64url') }
  return verify(
    null,
    Buffer.from(text),
    createPublicKey({ key: jwk, format: 'jwk' }),
    Buffer.from(signature, 'hex'),
  )
}

/** Commands that check an attestation with other programs than ours. */
import { html, type Html } from './html.ts'
import type { Site } from './layout.ts'
import { command } from './command.ts'

/** An attestation to check. */
export type Checkable = {
  buildId: number
  artifactId: number
  /** The key that countersigns, in hex, where it signed this one; null: it did not. */
  serverKey: string | null
}

/** The commands, and what they need. */
export function attestationCheck({ base, address, keyid }: Site, attestation: Checkable): Html {
  const { buildId, artifactId, serverKey } = attestation
  const from = `${address}/api/v1/builds/${buildId}/artifacts/${artifactId}/attestation`
  return html`<p>
      Do not take our word for it. With curl, jq, xxd and OpenSSL; compare the key in it with your copy of
      that on <a href="${base}/about#keys">About</a>:
    </p>
    ${command(verifying(from, serverKey === null ? null : { hex: serverKey, keyid }), 'Commands that verify the attestation')}`
}

/**
 * Commands that verify the server's signature: in-toto signs canonical JSON with real line ends, OpenSSL wants an
 * Ed25519 key as RFC 8410 has it.
 */
function verifying(address: string, key: { hex: string; keyid: string } | null): string {
  const fetched = `curl -fsS ${address} -o link.json`
  if (key === null) return fetched
  return [
    fetched,
    `jq -cjS .signed link.json | sed 's/\\\\n/\\n/g' > signed`,
    `jq -r '.signatures[] | select(.keyid == "${key.keyid}").sig' link.json | xxd -r -p > signature`,
    `printf 302a300506032b6570032100${key.hex} | xxd -r -p > key.der`,
    'openssl pkeyutl -verify -pubin -keyform DER -inkey key.der -rawin -in signed -sigfile signature',
    "jq '.signed.products' link.json",
  ].join('\n')
}

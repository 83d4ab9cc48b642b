import { parseEnvelope, verifierOf, type Envelope } from '../../attestation.ts'
import { readCached, writeCached } from './cache.ts'

/**
 * What an attestation is worth: it proves the published file; it is signed for another file; its signature is not one
 * of the known key; it could not be had or read.
 */
export type Proof =
  { outcome: 'proven'; key: Uint8Array } | { outcome: 'other file' | 'forged' | 'unreadable'; key: null }

export const unreadable: Proof = { outcome: 'unreadable', key: null }

/** A key with what it is known to have signed: envelopes as JSON, by the SHA-256 of the file. */
export type Signer = {
  key: Uint8Array
  signed: (envelope: Envelope) => boolean
  kept: Map<string, string>
  hasMore: boolean
}

/** Most attestations that are kept of one key; the oldest give way. */
const mostKept = 20_000

/** The keys of a rebuilder, with what was kept of them. */
export async function openSigners(keys: readonly Uint8Array[], cache: string | null): Promise<Signer[]> {
  return Promise.all(
    keys.map(async (key): Promise<Signer> => {
      const text = cache === null ? null : await readCached(cache, 'proofs', nameOf(key))
      const lines = (text ?? '').split('\n').filter((line) => line !== '')
      const kept = new Map(lines.map((line): [string, string] => [line.slice(0, 64), line.slice(65)]))
      return { key, signed: verifierOf(key), kept, hasMore: false }
    }),
  )
}

/** Keeps what is new, for the next time. */
export async function keepProofs(signers: readonly Signer[], cache: string | null): Promise<void> {
  if (cache === null) return
  for (const { key, kept, hasMore } of signers) {
    if (!hasMore) continue
    const lines = [...kept].slice(-mostKept).map(([sha256, json]) => `${sha256} ${json}`)
    await writeCached(cache, 'proofs', nameOf(key), lines.join('\n'))
  }
}

function nameOf(key: Uint8Array): string {
  return Buffer.from(key).toString('hex')
}

/** What an envelope says of a file, by the first of the keys that signed it. A proof is kept. */
export function proofBy(envelope: Envelope, sha256: string, signers: readonly Signer[]): Proof {
  const signer = signers.find(({ signed }) => signed(envelope))
  if (signer === undefined) return { outcome: 'forged', key: null }
  const isOfFile = Object.values(envelope.signed.products).some((product) => product['sha256'] === sha256)
  if (!isOfFile) return { outcome: 'other file', key: null }
  if (!signer.kept.has(sha256)) {
    signer.kept.set(sha256, JSON.stringify(envelope))
    signer.hasMore = true
  }
  return { outcome: 'proven', key: signer.key }
}

/** Kept attestations are verified again: whoever can write to the cache cannot vouch for a file. */
export function keptProof(sha256: string, signers: readonly Signer[]): Proof | null {
  for (const signer of signers) {
    const json = signer.kept.get(sha256)
    const envelope = json === undefined ? null : envelopeOf(Buffer.from(json))
    const proof = envelope === null ? null : proofBy(envelope, sha256, [signer])
    if (proof?.outcome === 'proven') return proof
    signer.kept.delete(sha256)
  }
  return null
}

/** An envelope, or null for what is none. */
export function envelopeOf(bytes: Uint8Array): Envelope | null {
  try {
    return parseEnvelope(bytes)
  } catch {
    return null // counted as unreadable
  }
}

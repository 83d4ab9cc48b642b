import * as v from 'valibot'
import { Envelope, parseEnvelope, verifierOf } from '../../attestation.ts'
import type { Cache } from './cache.ts'

/**
 * What an attestation is worth: it proves the published file; it is signed for another file; its signature is not one
 * of the known key; it could not be had or read.
 */
export type Proof =
  { outcome: 'proven'; key: Uint8Array } | { outcome: 'other file' | 'forged' | 'unreadable'; key: null }

export const unreadable: Proof = { outcome: 'unreadable', key: null }
export const forged: Proof = { outcome: 'forged', key: null }

/** A key with the files whose rebuild it is known to have signed, by SHA-256. */
export type Signer = {
  key: Uint8Array
  signed: (envelope: Envelope) => Promise<boolean>
  kept: Set<string>
  hasMore: boolean
}

/** Most files that are kept of one key; the oldest give way. */
const mostKept = 100_000

/** Keys with what was kept of each; the same key of two rebuilders is one signer. */
export type Keyring = {
  signersOf: (keys: readonly Uint8Array[]) => Promise<Signer[]>
  /** Keeps what is new, for the next time. */
  keep: () => Promise<void>
}

/** @param cache what was proven before; null: nothing was, and nothing is kept */
export function openKeyring(cache: Cache | null): Keyring {
  const signers = new Map<string, Promise<Signer>>()
  const signerOf = (key: Uint8Array): Promise<Signer> => {
    const known = signers.get(nameOf(key)) ?? openSigner(key, cache)
    signers.set(nameOf(key), known)
    return known
  }
  return {
    signersOf: (keys) => Promise.all(keys.map(signerOf)),
    async keep() {
      if (cache === null) return
      for (const { key, kept, hasMore } of await Promise.all(signers.values())) {
        if (!hasMore) continue
        await cache.write('proofs', nameOf(key), [...kept].slice(-mostKept).join('\n'))
      }
    },
  }
}

async function openSigner(key: Uint8Array, cache: Cache | null): Promise<Signer> {
  const text = (await cache?.read('proofs', nameOf(key)))?.toString('latin1') ?? ''
  const kept = new Set(text === '' ? [] : text.split('\n'))
  return { key, signed: verifierOf(key), kept, hasMore: false }
}

function nameOf(key: Uint8Array): string {
  return Buffer.from(key).toString('hex')
}

/** An envelope with the first of the keys that signed it; null: none of them did. */
export type Opened = { envelope: Envelope; signer: Signer | null }

/** Looks who signed an envelope. */
export async function opened(envelope: Envelope, signers: readonly Signer[]): Promise<Opened> {
  for (const signer of signers) if (await signer.signed(envelope)) return { envelope, signer }
  return { envelope, signer: null }
}

/** What an envelope says of a file. A proof is kept. */
export function proofBy({ envelope, signer }: Opened, sha256: string): Proof {
  if (signer === null) return forged
  if (!isOfFile(envelope, sha256)) return { outcome: 'other file', key: null }
  if (!signer.kept.has(sha256)) {
    signer.kept.add(sha256)
    signer.hasMore = true
  }
  return { outcome: 'proven', key: signer.key }
}

/** Whether this is the rebuild of a file with these bytes: the key may have signed links of other steps, too. */
function isOfFile({ signed }: Envelope, sha256: string): boolean {
  return Object.entries(signed.products).some(
    ([file, product]) => product['sha256'] === sha256 && signed.name === `rebuild ${file}`,
  )
}

/** What was proven in an earlier check. Only this user can have kept it: the cache is sealed. */
export function keptProof(sha256: string, signers: readonly Signer[]): Proof | null {
  const signer = signers.find(({ kept }) => kept.has(sha256))
  return signer === undefined ? null : { outcome: 'proven', key: signer.key }
}

/** An envelope, or null for what is none. */
export function envelopeOf(bytes: Uint8Array): Envelope | null {
  try {
    return parseEnvelope(bytes)
  } catch {
    return null // counted as unreadable
  }
}

/** An envelope that came inside a reply. */
export function envelopeIn(document: unknown): Envelope | null {
  const { success, output } = v.safeParse(Envelope, document)
  return success ? output : null
}

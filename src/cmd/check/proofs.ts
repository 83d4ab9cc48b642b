import { Envelope, keyidOf, parseEnvelope, verifierOf } from '../../attestation.ts'
import { looked } from '../../wire/schema.ts'
import type { Cache } from './cache.ts'

/**
 * What an attestation is worth: it proves the published file; it is signed for another file; its signature is not one
 * of the known key; it could not be had or read.
 */
export type Proof =
  | { outcome: 'proven'; keyid: string; others: readonly string[] }
  | { outcome: 'other file' | 'forged' | 'unreadable' }

export const unreadable: Proof = { outcome: 'unreadable' }
export const forged: Proof = { outcome: 'forged' }

/** A key with the files whose rebuild it is known to have signed: by SHA-256, names of keys that signed the same. */
export type Signer = {
  key: Uint8Array
  keyid: string
  signed: (envelope: Envelope) => Promise<boolean>
  kept: Map<string, readonly string[]>
  hasMore: boolean
}

/** Most files that are kept of one key; the oldest give way. */
const mostKept = 50_000

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
        const lines = [...kept].slice(-mostKept).map(([sha256, others]) => [sha256, ...others].join(' '))
        await cache.write('proofs', nameOf(key), lines.join('\n'))
      }
    },
  }
}

async function openSigner(key: Uint8Array, cache: Cache | null): Promise<Signer> {
  const text = (await cache?.read('proofs', nameOf(key)))?.toString('latin1') ?? ''
  const lines = text === '' ? [] : text.split('\n')
  const kept = new Map(
    lines.map((line): [string, string[]] => {
      const [sha256 = '', ...others] = line.split(' ')
      return [sha256, others]
    }),
  )
  return { key, keyid: keyidOf(key), signed: verifierOf(key), kept, hasMore: false }
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

/** Names of other keys that are kept of an attestation: a server's has one, of the worker. */
const mostOthers = 8

/** What an envelope says of a file. A proof is kept. */
export function proofBy({ envelope, signer }: Opened, sha256: string): Proof {
  if (signer === null) return forged
  if (!isOfFile(envelope, sha256)) return { outcome: 'other file' }
  const { keyid } = signer
  const names = new Set(envelope.signatures.map((signature) => signature.keyid))
  const others = [...names].filter((name) => name !== keyid).slice(0, mostOthers)
  if (!signer.kept.has(sha256)) {
    signer.kept.set(sha256, others)
    signer.hasMore = true
  }
  return { outcome: 'proven', keyid, others }
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
  if (signer === undefined) return null
  return { outcome: 'proven', keyid: signer.keyid, others: signer.kept.get(sha256) ?? [] }
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
  const one = looked(Envelope, document)
  return one.success ? one.output : null
}

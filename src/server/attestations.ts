import { plainBytes } from '../compression.ts'
import type { Blobs } from './store/blobs.ts'

/** Bytes of an attestation that is sent together with others; they have 1 kB or two. */
const longestAttestation = 64 * 1024
/** Files that are read at the same time: their reads wait for each other in few threads anyway. */
const readsAtOnce = 16

/** An attestation as it was stored, and the bytes that it takes. */
type Stored = { attestation: Record<string, unknown> | null; size: number }

const none: Stored = { attestation: null, size: 0 }

/**
 * Attestations by the SHA-256 of their files, in the order asked: null where there is none, one of over 64 kB or one
 * that is damaged. They were checked when they came, but one that is no JSON would spoil the reply for all others.
 * @param bounds most attestations, and most bytes of them all; what is beyond is undefined
 */
export async function storedAttestations(
  blobs: Blobs,
  files: readonly (string | null)[],
  bounds: { most: number; longest: number },
): Promise<(Stored['attestation'] | undefined)[]> {
  const given: (Stored['attestation'] | undefined)[] = []
  let [count, bytes] = [0, 0]
  for (let from = 0; from < files.length; from += readsAtOnce) {
    if (count >= bounds.most || bytes >= bounds.longest) break
    const slice = files.slice(from, from + readsAtOnce)
    const some = await Promise.all(slice.map((sha256) => stored(blobs, sha256)))
    for (const { attestation, size } of some) {
      const isWithin = attestation === null || (count < bounds.most && bytes + size <= bounds.longest)
      given.push(isWithin ? attestation : undefined)
      if (attestation === null) continue
      count++
      bytes += size
    }
  }
  return [...given, ...Array.from({ length: files.length - given.length }, () => undefined)]
}

async function stored(blobs: Blobs, sha256: string | null): Promise<Stored> {
  const frame = sha256 === null ? null : await blobs.read(sha256)
  const plain = frame === null ? null : await plainBytes(frame, longestAttestation).catch(() => null)
  const attestation = plain === null ? null : tableOf(Buffer.from(plain).toString('utf8'))
  return attestation === null ? none : { attestation, size: plain?.length ?? 0 }
}

function tableOf(text: string): Record<string, unknown> | null {
  try {
    const given: unknown = JSON.parse(text)
    const isTable = typeof given === 'object' && given !== null && !Array.isArray(given)
    return isTable ? (given as Record<string, unknown>) : null
  } catch {
    return null
  }
}

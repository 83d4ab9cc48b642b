import { plainBytes } from '../compression.ts'
import type { Blobs } from './store/blobs.ts'

/** Bytes of an attestation that is sent together with others; they have 1 kB or two. */
const longestAttestation = 64 * 1024
/** Files that are read at the same time: their reads wait for each other in few threads anyway. */
const readsAtOnce = 16
/** Texts of attestations that are kept in memory, in characters: people ask for the packages that everybody has. */
const mostKept = 6 * 1024 * 1024

type Attestation = Record<string, unknown>
export type AttestationReader = (
  files: readonly (string | null)[],
  bounds: { most: number; longest: number },
) => Promise<(Attestation | null | undefined)[]>

/**
 * A reader of attestations by the SHA-256 of their files, in the order asked: null where there is none, one of over
 * 64 kB or one that is damaged. They were checked when they came, but one that is no JSON would spoil the reply for all
 * others. Bounds: most attestations, and most bytes of them all; what is beyond is undefined.
 */
export function attestationReader(blobs: Blobs): AttestationReader {
  const read = keptTexts(async (sha256) => {
    const frame = await blobs.read(sha256)
    const plain = frame === null ? null : await plainBytes(frame, longestAttestation).catch(() => null)
    return plain === null ? '' : Buffer.from(plain).toString('utf8')
  })
  const one = async (sha256: string | null): Promise<{ attestation: Attestation | null; size: number }> => {
    const text = sha256 === null ? '' : await read(sha256)
    return { attestation: tableOf(text), size: text.length }
  }
  return async (files, bounds) => {
    const given: (Attestation | null | undefined)[] = []
    let [count, bytes] = [0, 0]
    for (let from = 0; from < files.length; from += readsAtOnce) {
      if (count >= bounds.most || bytes >= bounds.longest) break
      for (const { attestation, size } of await Promise.all(files.slice(from, from + readsAtOnce).map(one))) {
        const isWithin = attestation === null || (count < bounds.most && bytes + size <= bounds.longest)
        given.push(isWithin ? attestation : undefined)
        if (attestation === null) continue
        count++
        bytes += size
      }
    }
    return [...given, ...Array.from({ length: files.length - given.length }, () => undefined)]
  }
}

/** What was read last stays in memory, as the file of a hash never changes; what was not asked for longest gives way. */
function keptTexts(read: (sha256: string) => Promise<string>): (sha256: string) => Promise<string> {
  const kept = new Map<string, string>()
  let characters = 0
  const drop = (sha256: string, text: string): void => {
    kept.delete(sha256)
    characters -= text.length
  }
  return async (sha256) => {
    const known = kept.get(sha256)
    const text = known ?? (await read(sha256))
    if (text === '') return text // it may be there the next time
    const before = kept.get(sha256)
    if (before !== undefined) drop(sha256, before)
    kept.set(sha256, text)
    characters += text.length
    for (const [oldest, its] of kept) {
      if (characters <= mostKept) break
      drop(oldest, its)
    }
    return text
  }
}

function tableOf(text: string): Attestation | null {
  try {
    const given: unknown = JSON.parse(text)
    const isTable = typeof given === 'object' && given !== null && !Array.isArray(given)
    return isTable ? (given as Attestation) : null
  } catch {
    return null
  }
}

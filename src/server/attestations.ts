import { plainBytes } from '../compression.ts'
import { plainFrames } from '../zstd-frames.ts'
import type { Blobs } from './store/blobs.ts'

/** Bytes of an attestation that is sent together with others; they have 1 kB or two. */
const longestAttestation = 64 * 1024
/** Files that are read at the same time, and unpacked together. */
const readsAtOnce = 64
/** Texts of attestations that are kept in memory, in characters: people ask for the packages that everybody has. */
const mostKept = 6 * 1024 * 1024

type Bounds = { most: number; longest: number }
/** JSON texts of attestations; null where there is none, undefined where it is beyond the bounds. */
export type AttestationReader = (files: readonly (string | null)[]) => Promise<(string | null | undefined)[]>

/**
 * Attestations by the SHA-256 of their files, each as the JSON text that was stored; null where there is none, one of
 * over 64 kB or one that is damaged. They were checked when they came, but one that is no JSON would spoil the reply
 * for all others.
 * @returns a function that makes a reader for one reply, which gives them in the order asked within bounds on all it
 *   is asked for: most attestations, and most characters of them
 */
export function openAttestations(blobs: Blobs): (bounds: Bounds) => AttestationReader {
  const read = keptTexts((files) => textsOf(blobs, files))
  return (bounds) => {
    let [count, length] = [0, 0]
    return async (files) => {
      const given: (string | null | undefined)[] = []
      for (let from = 0; from < files.length; from += readsAtOnce) {
        if (count >= bounds.most || length >= bounds.longest) break
        for (const text of await read(files.slice(from, from + readsAtOnce))) {
          const isWithin = text === null || (count < bounds.most && length + text.length <= bounds.longest)
          given.push(isWithin ? text : undefined)
          if (text === null) continue
          count++
          length += text.length
        }
      }
      return [...given, ...Array.from({ length: files.length - given.length }, () => undefined)]
    }
  }
}

async function textsOf(blobs: Blobs, files: readonly string[]): Promise<(string | null)[]> {
  const frames = await Promise.all(files.map((sha256) => blobs.read(sha256)))
  const together = plainFrames(frames, longestAttestation)
  return Promise.all(
    frames.map(async (frame, index) => {
      const plain =
        together[index] ?? (frame && (await plainBytes(frame, longestAttestation).catch(() => null)))
      return plain && tableIn(plain)
    }),
  )
}

/** What was read last stays in memory, as the file of a hash never changes; what was not asked for longest gives way. */
function keptTexts(
  read: (files: readonly string[]) => Promise<(string | null)[]>,
): (files: readonly (string | null)[]) => Promise<(string | null)[]> {
  const kept = new Map<string, string>()
  let characters = 0
  const keep = (sha256: string, text: string): void => {
    const before = kept.get(sha256)
    if (before !== undefined) kept.delete(sha256)
    kept.set(sha256, text)
    characters += text.length - (before?.length ?? 0)
    for (const [oldest, its] of kept) {
      if (characters <= mostKept) break
      kept.delete(oldest)
      characters -= its.length
    }
  }
  return async (files) => {
    const texts = new Map<string, string | null>()
    for (const sha256 of files) if (sha256 !== null) texts.set(sha256, kept.get(sha256) ?? null)
    const missing = [...texts].filter(([, text]) => text === null).map(([sha256]) => sha256)
    if (missing.length > 0)
      for (const [index, text] of (await read(missing)).entries()) texts.set(missing[index] ?? '', text)
    for (const [sha256, text] of texts) if (text !== null) keep(sha256, text) // else it may be there the next time
    return files.map((sha256) => (sha256 === null ? null : (texts.get(sha256) ?? null)))
  }
}

const decoder = new TextDecoder()

/** The text of these bytes if it is a JSON object. */
function tableIn(bytes: Uint8Array): string | null {
  const text = decoder.decode(bytes)
  try {
    const given: unknown = JSON.parse(text)
    return typeof given === 'object' && given !== null && !Array.isArray(given) ? text : null
  } catch {
    return null
  }
}

import { complaintOf } from '../errors.ts'
import { longestBlob, type Blob, type Blobs } from './store/blobs.ts'
import type { Database } from './store/database.ts'
import { oursOf } from './store/takeover.ts'
import {
  blobKinds,
  theirBlob,
  theirSmallBlobs,
  type BlobKind,
  type TheirArtifact,
  type TheirBuild,
} from './store/upstream.ts'

/** Files read and written at the same time: each one waits for the disk. */
const filesAtOnce = 8

/** `onDamaged` is told of each file that cannot be unpacked and is left out. */
type FileSite = { db: Database; theirs: Database; blobs: Blobs; onDamaged: () => void }

/** Keeps the files of some builds that were not kept with earlier ones: friends share theirs. */
export async function keptFiles(
  site: FileSite,
  rows: readonly TheirBuild[],
  artifacts: readonly TheirArtifact[],
): Promise<Map<BlobKind, Map<number, Blob>>> {
  const wanted: Record<BlobKind, Set<number | null>> = {
    build_log: new Set(rows.map((row) => row.log_id)),
    diffoscope_log: new Set(artifacts.map((row) => row.diffoscope_id)),
    attestation_log: new Set(artifacts.map((row) => row.attestation_id)),
  }
  const kept = new Map<BlobKind, Map<number, Blob>>()
  const work: (() => Promise<void>)[] = []
  for (const kind of blobKinds) {
    const ids = [...wanted[kind]].filter((id) => id !== null)
    const known = await oursOf(site.db, kind, ids)
    const found = new Map<number, Blob>()
    kept.set(kind, found)
    const missing = ids.filter((id) => !known.has(id))
    const small = await theirSmallBlobs(site.theirs, kind, missing)
    for (const id of missing) {
      work.push(async () => {
        const bytes = small.get(id) ?? (await theirBlob(site.theirs, kind, id, longestBlob))
        const blob = bytes === null ? null : await keptFile(site.blobs, bytes)
        if (blob === null) site.onDamaged()
        else found.set(id, blob)
      })
    }
  }
  await allOf(work)
  return kept
}

/** Null where it cannot be unpacked. */
async function keptFile(blobs: Blobs, bytes: Uint8Array): Promise<Blob | null> {
  return blobs.keep(bytes).catch((error: unknown) => {
    if (complaintOf(error)?.exitCode === 2) return null // it cannot be unpacked: nobody could have read it there
    throw error
  })
}

/** Does some at a time. */
async function allOf(work: readonly (() => Promise<void>)[]): Promise<void> {
  const left = [...work]
  const hand = async (): Promise<void> => {
    for (let next = left.shift(); next !== undefined; next = left.shift()) await next()
  }
  await Promise.all(Array.from({ length: filesAtOnce }, hand))
}

import * as v from 'valibot'
import { Complaint } from '../../errors.ts'
import { longestLookup, lookupPackages } from '../../wire/gates.ts'
import { PublicKeys } from '../../wire/meta.ts'
import { checked, Id, looked, orNull } from '../../wire/schema.ts'
import { statusOf, wordOf, type Answer } from './answer.ts'
import { jsonOf } from './http.ts'
import type { Installed } from './installed.ts'

/** What came of a look-up. */
export type LookedUp = {
  /** By position of the package. */
  answers: Map<number, Answer>
  /** Attestations that came with it, not looked at yet; null where the server has none that it could send. */
  attestations: Map<number, unknown>
  /** Public keys as PEM, the current one first; null: the server does not tell them here. */
  keys: readonly string[] | null
  malformed: number
}

export type Question = {
  packages: readonly Installed[]
  positions: readonly number[]
  /** Whether the attestation of a package is here already. */
  isProven: (position: number) => boolean
  signal: AbortSignal
}

const longestReply = 48 * 1024 * 1024

const Reply = v.object({ records: v.array(v.unknown()), public_keys: orNull(PublicKeys) })

/** Records are read one by one, and only for what counts: servers that are newer than we know more words. */
const Found = v.looseObject({
  status: orNull(v.string()),
  reason: orNull(v.string()),
  sha256: orNull(v.string()),
  build_id: orNull(Id),
  artifact_id: orNull(Id),
  has_attestation: v.optional(v.boolean(), false),
  attestation: v.optional(v.unknown()),
})

/**
 * Asks a server of this program for all packages, their attestations and its key at once.
 * @throws Refused where it is another's, Complaint where the reply is none
 */
export async function lookUp(base: string, question: Question): Promise<LookedUp> {
  const found: LookedUp = { answers: new Map(), attestations: new Map(), keys: null, malformed: 0 }
  const { positions } = question
  for (let from = 0; from < positions.length; from += longestLookup) {
    const some = positions.slice(from, from + longestLookup)
    const { records, public_keys } = await asked(base, some, question)
    found.keys ??= public_keys?.current ?? null
    for (const [index, at] of some.entries()) take(found, at, records[index])
  }
  return found
}

async function asked(
  base: string,
  positions: readonly number[],
  { packages, isProven, signal }: Question,
): Promise<v.InferOutput<typeof Reply>> {
  const wanted = positions.map((at) => {
    const { distribution, name, version, architecture, lacksEpoch } = packages[at] as Installed // positions are keys of packages
    return {
      distribution,
      name,
      version,
      architecture,
      ...(isProven(at) ? { proven: true } : {}),
      ...(lacksEpoch === true ? { any_epoch: true } : {}),
    }
  })
  const body = { packages: wanted, with: ['attestations', 'keys'] }
  const given = await jsonOf(base + lookupPackages.path, { body, limit: longestReply, signal })
  const reply = checked(Reply, given, 'the reply')
  if (reply.records.length !== positions.length) {
    throw new Complaint(`the reply tells of ${reply.records.length} packages, not of ${positions.length}`)
  }
  return reply
}

function take(found: LookedUp, at: number, record: unknown): void {
  if (record === null) return
  const one = looked(Found, record)
  if (!one.success) {
    found.malformed++
    return
  }
  const { status, reason, sha256, build_id, artifact_id, has_attestation, attestation } = one.output
  found.answers.set(at, {
    ...statusOf(status),
    ...(reason === null ? {} : { reason: wordOf(reason) }),
    sha256,
    buildId: build_id,
    artifactId: artifact_id,
    hasAttestation: has_attestation,
  })
  if (attestation !== undefined) found.attestations.set(at, attestation)
}

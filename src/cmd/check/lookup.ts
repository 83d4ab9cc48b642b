import * as v from 'valibot'
import { Complaint } from '../../errors.ts'
import { longestLookup, lookupPackages } from '../../wire/gates.ts'
import { PublicKeys } from '../../wire/meta.ts'
import { checked, Id, looked, orNull } from '../../wire/schema.ts'
import { statusOf, wordOf, type Answer } from './answer.ts'
import { fetched, Refused } from './http.ts'
import type { Installed } from './installed.ts'
import { jsonElements } from './json-stream.ts'

/** What came of a look-up. */
type LookedUp = {
  /** By position of the package. */
  answers: Map<number, Answer>
  /** Attestations that came before anybody could tell whose they should be: null where the server could send none. */
  attestations: Map<number, unknown>
  /** Whether the server told its keys. */
  hasKeys: boolean
  malformed: number
}

/** Takes an attestation that came with an answer. */
export type TakeAttestation = (position: number, answer: Answer, attestation: unknown) => void

type Question = {
  packages: readonly Installed[]
  positions: readonly number[]
  /** Whether the attestation of a package is here already. */
  isProven: (position: number) => boolean
  /** Told the server's keys as PEM, the current one first, as soon as they are here. @returns what takes attestations */
  meet: (keys: readonly string[]) => TakeAttestation
  signal: AbortSignal
}

const longestReply = 48 * 1024 * 1024

const Around = v.object({ records: v.array(v.unknown()), public_keys: orNull(PublicKeys) })

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
 * Asks a server of this program for all packages, their attestations and its key at once, and takes what it says as it
 * arrives.
 * @throws Refused where it is another's, Complaint where the reply is none
 */
export async function lookUp(base: string, question: Question): Promise<LookedUp> {
  const found: LookedUp = { answers: new Map(), attestations: new Map(), hasKeys: false, malformed: 0 }
  let take: TakeAttestation = (position, _, attestation) => void found.attestations.set(position, attestation)
  const hear = (document: unknown): void => {
    const { public_keys } = checked(Around, document, 'the reply')
    if (public_keys === null || found.hasKeys) return
    found.hasKeys = true
    take = question.meet(public_keys.current)
    for (const [position, attestation] of found.attestations)
      take(position, found.answers.get(position) as Answer, attestation) // it was set with it
    found.attestations.clear()
  }
  const { positions } = question
  for (let from = 0; from < positions.length; from += longestLookup) {
    const some = positions.slice(from, from + longestLookup)
    let count = 0
    for await (const record of asked(base, some, question, hear)) {
      const at = some[count++]
      if (at !== undefined) taken(found, at, record, (...given) => take(...given))
    }
    if (count !== some.length)
      throw new Complaint(`the reply tells of ${count} packages, not of ${some.length}`)
  }
  return found
}

async function* asked(
  base: string,
  positions: readonly number[],
  { packages, isProven, signal }: Question,
  hear: (around: unknown) => void,
): AsyncGenerator {
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
  const reply = await fetched(base + lookupPackages.path, { body, limit: longestReply, signal })
  if (reply.status !== 200) {
    reply.drop()
    throw new Refused(reply.status)
  }
  yield* jsonElements(reply.chunks, 'records', hear)
}

function taken(found: LookedUp, at: number, record: unknown, take: TakeAttestation): void {
  if (record === null) return
  const one = looked(Found, record)
  if (!one.success) {
    found.malformed++
    return
  }
  const { status, reason, sha256, build_id, artifact_id, has_attestation, attestation } = one.output
  const answer: Answer = {
    ...statusOf(status),
    ...(reason === null ? {} : { reason: wordOf(reason) }),
    sha256,
    buildId: build_id,
    artifactId: artifact_id,
    hasAttestation: has_attestation,
  }
  found.answers.set(at, answer)
  if (attestation !== undefined) take(at, answer, attestation)
}

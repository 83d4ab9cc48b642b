import * as v from 'valibot'
import type { Envelope } from '../../attestation.ts'
import { Complaint, sentenceOf } from '../../errors.ts'
import { RebuildArtifact } from '../../wire/builds.ts'
import { getAttestations, mostAttestations } from '../../wire/gates.ts'
import { checked } from '../../wire/schema.ts'
import type { Asked } from './ask.ts'
import { fetched, jsonOf, Refused, textOf } from './http.ts'
import { mapped } from './parallel.ts'
import type { Installed } from './installed.ts'
import { envelopeIn, envelopeOf, keptProof, proofBy, unreadable, type Proof, type Signer } from './proofs.ts'

export type ProofOptions = {
  /** Keys that speak for this rebuilder. */
  signers: readonly Signer[]
  hashOf: (position: number) => string | null
  timeoutSeconds: number
  signal: AbortSignal
  progress: (done: number) => void
}

type Wanted = { position: number; sha256: string; buildId: number; artifactId: number | null }

/** Proofs by position, for what one rebuilder calls GOOD and has an attestation for. What was proven once is kept. */
export async function proofsOf(
  asked: Asked,
  packages: readonly Installed[],
  options: ProofOptions,
): Promise<{ proofs: Map<number, Proof>; problem: string | null }> {
  const { signers, progress } = options
  const proofs = new Map<number, Proof>()
  const take = ({ position, sha256 }: Wanted, envelope: Envelope | null): void => {
    proofs.set(position, envelope === null ? unreadable : proofBy(envelope, sha256, signers))
    progress(proofs.size)
  }
  const missing: Wanted[] = []
  for (const one of wantedOf(asked, options)) {
    const kept = keptProof(one.sha256, signers)
    const given = asked.attestations.get(one.position)
    if (kept !== null) proofs.set(one.position, kept)
    else if (given === undefined) missing.push(one)
    else take(one, envelopeIn(given))
  }
  progress(proofs.size)
  const signal = AbortSignal.any([options.signal, AbortSignal.timeout(options.timeoutSeconds * 1000)])
  try {
    const { url } = asked.rebuilder
    if (asked.kind === 'lookup') await fetchTogether(url, missing, take, signal)
    else await fetchSingly(url, missing, packages, take, signal)
    return { proofs, problem: null }
  } catch (error) {
    options.signal.throwIfAborted()
    return { proofs, problem: `not all attestations could be had: ${sentenceOf(error)}` }
  }
}

function wantedOf({ answers }: Asked, { hashOf, signers }: ProofOptions): Wanted[] {
  if (signers.length === 0) return []
  return [...answers].flatMap(([position, answer]) => {
    const sha256 = hashOf(position)
    const { status, buildId, artifactId, hasAttestation } = answer
    if (status !== 'GOOD' || !hasAttestation || sha256 === null || buildId === null) return []
    return [{ position, sha256, buildId, artifactId }]
  })
}

type Take = (one: Wanted, envelope: Envelope | null) => void

const longestBulk = 80 * 1024 * 1024
const longestSingle = 1024 * 1024
const requestsAtOnce = 8
/** Attestations of one request: enough that a system takes few, few enough that progress is seen. */
const together = Math.min(500, mostAttestations)

async function fetchTogether(
  base: string,
  wanted: readonly Wanted[],
  take: Take,
  signal: AbortSignal,
): Promise<void> {
  const known = wanted.filter(({ artifactId }) => artifactId !== null)
  const slices: Wanted[][] = []
  for (let from = 0; from < known.length; from += together) slices.push(known.slice(from, from + together))
  await mapped(slices, 2, async (slice) => {
    const attestations = slice.map(({ buildId, artifactId }) => ({
      build_id: buildId,
      artifact_id: artifactId ?? 0, // those without were left out
    }))
    const options = { body: { attestations }, limit: longestBulk, signal }
    const given = await jsonOf(base + getAttestations.path, options)
    const { records } = checked(getAttestations.reply, given, 'the reply')
    for (const [index, one] of slice.entries()) {
      take(one, envelopeIn(records[index]))
    }
  })
}

/** Servers without the bulk request: the artifacts of each build tell their ids, then each attestation by itself. */
async function fetchSingly(
  base: string,
  wanted: readonly Wanted[],
  packages: readonly Installed[],
  take: Take,
  signal: AbortSignal,
): Promise<void> {
  const builds = [...Map.groupBy(wanted, ({ buildId }) => buildId)]
  await mapped(builds, requestsAtOnce, async ([buildId, some]) => {
    const build = `${base}/api/v1/builds/${buildId}`
    const isKnown = some.every(({ artifactId }) => artifactId !== null)
    const ids = isKnown ? new Map<string, number>() : await artifactIds(build, signal)
    for (const one of some) {
      const id = one.artifactId ?? ids.get(packages[one.position]?.name ?? '')
      const address = id === undefined ? null : `${build}/artifacts/${id}/attestation`
      take(one, address === null ? null : await singleEnvelope(address, signal))
    }
  })
}

async function artifactIds(build: string, signal: AbortSignal): Promise<Map<string, number>> {
  try {
    const given = await jsonOf(`${build}/artifacts`, { limit: 16 * longestSingle, signal })
    const artifacts = checked(v.array(RebuildArtifact), given, 'the reply')
    return new Map(artifacts.filter((one) => one.has_attestation).map(({ name, id }) => [name, id]))
  } catch (error) {
    if (error instanceof Refused && error.status === 404) return new Map()
    throw error
  }
}

async function singleEnvelope(address: string, signal: AbortSignal): Promise<Envelope | null> {
  const reply = await fetched(address, { limit: longestSingle, signal })
  const text = await textOf(reply)
  if (reply.status === 200) return envelopeOf(Buffer.from(text))
  if (reply.status === 404) return null
  throw new Complaint(`the server answers ${reply.status} for an attestation`)
}

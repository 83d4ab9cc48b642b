import * as v from 'valibot'
import type { Envelope } from '../../attestation.ts'
import { Complaint, sentenceOf } from '../../errors.ts'
import { RebuildArtifact } from '../../wire/builds.ts'
import { getAttestations, mostAttestations } from '../../wire/gates.ts'
import { checked } from '../../wire/schema.ts'
import type { Answer } from './answer.ts'
import type { Asked } from './ask.ts'
import { fetched, jsonOf, Refused, textOf } from './http.ts'
import type { TakeAttestation } from './lookup.ts'
import { mapped } from './parallel.ts'
import type { Installed } from './installed.ts'
import {
  envelopeIn,
  envelopeOf,
  forged,
  keptProof,
  opened,
  proofBy,
  unreadable,
  type Opened,
  type Proof,
  type Signer,
} from './proofs.ts'

/** What came with the answers of one rebuilder, by position: with who signed it, null for what is no attestation. */
export type Sent = ReadonlyMap<number, Opened | null>

/** Signatures that are checked at the same time: files are read by the same threads. */
const checkedAtOnce = 48

/** Attestations as they come with answers; for who signed them no hash of a file need be known yet. */
export type Opening = { take: TakeAttestation; all: () => Promise<Sent> }

/** Looks who signed attestations, in threads, while more of them come. */
export function openingOf(
  known: Promise<readonly Signer[]>,
  { signal, progress }: { signal: AbortSignal; progress: (done: number) => void },
): Opening {
  const sent = new Map<number, Opened | null>()
  const open = async (position: number, given: unknown): Promise<void> => {
    const signers = await known
    if (signers.length === 0) return
    signal.throwIfAborted()
    const envelope = envelopeIn(given)
    sent.set(position, envelope === null ? null : await opened(envelope, signers))
    progress(sent.size)
  }
  const lanes: Promise<void>[] = Array.from({ length: checkedAtOnce }, () => Promise.resolve())
  let count = 0
  return {
    take(position, answer, given) {
      if (!isAttested(answer)) return
      const lane = count++ % checkedAtOnce
      const next = (lanes[lane] ?? Promise.resolve()).then(() => open(position, given))
      next.catch(() => {}) // `all` tells; a reply that breaks off is not waited for
      lanes[lane] = next
    },
    async all() {
      await Promise.all(lanes)
      return sent
    },
  }
}

type ProofOptions = {
  /** Keys that speak for this rebuilder. */
  signers: readonly Signer[]
  sent: Sent
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
  const { signers, sent, progress } = options
  const proofs = new Map<number, Proof>()
  const take = async ({ position, sha256 }: Wanted, envelope: Envelope | null): Promise<void> => {
    const proof = envelope === null ? unreadable : proofBy(await opened(envelope, signers), sha256)
    proofs.set(position, proof)
    progress(proofs.size)
  }
  for (const [position, one] of sent) if (one !== null && one.signer === null) proofs.set(position, forged)
  const missing: Wanted[] = []
  await mapped(wantedOf(asked, options), checkedAtOnce, async (one) => {
    options.signal.throwIfAborted()
    const given = sent.get(one.position)
    const proof = given == null ? null : proofBy(given, one.sha256)
    const best = proof?.outcome === 'proven' ? proof : (keptProof(one.sha256, signers) ?? proof)
    if (best !== null) proofs.set(one.position, best)
    else if (given === null) proofs.set(one.position, unreadable)
    else missing.push(one)
    progress(proofs.size)
  })
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

function isAttested(answer: Answer | undefined): boolean {
  return answer?.status === 'GOOD' && answer.hasAttestation && answer.buildId !== null
}

function wantedOf({ answers }: Asked, { hashOf, signers }: ProofOptions): Wanted[] {
  if (signers.length === 0) return []
  return [...answers].flatMap(([position, answer]) => {
    const sha256 = hashOf(position)
    const { buildId, artifactId } = answer
    if (!isAttested(answer) || sha256 === null || buildId === null) return []
    return [{ position, sha256, buildId, artifactId }]
  })
}

type Take = (one: Wanted, envelope: Envelope | null) => Promise<void>

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
    await mapped([...slice.entries()], checkedAtOnce, ([index, one]) => take(one, envelopeIn(records[index])))
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
      await take(one, address === null ? null : await singleEnvelope(address, signal))
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

import type { Answer } from './answer.ts'
import type { Asked } from './ask.ts'
import { keyOf, type Installed } from './installed.ts'
import type { Proof } from './proofs.ts'

/** How sure we are of a package, the worst first. */
const standings = ['BAD', 'FAIL', 'unknown', 'partly', 'claimed', 'verified'] as const
export type Standing = (typeof standings)[number]

/** One rebuilder, with what came of it. `identity`: who it is, whatever its address; two addresses of one key are one voice. */
export type Witness = {
  asked: Asked
  identity: string
  proofs: ReadonlyMap<number, Proof>
}

/** What one rebuilder says of one package. */
type Voice = {
  url: string
  identity: string
  answer: Answer
  proof: Proof | null
  isOtherFile: boolean
}

export type Judged = {
  installed: Installed
  standing: Standing
  /** What keeps it from being verified, in words or a reason code; null where nothing does. */
  reason: string | null
  /** The log of the build that the reason is about. */
  link: string | null
  sha256: string | null
  /** Distinct rebuilders that proved it, and that say GOOD or BAD of it. */
  verified: number
  good: number
  bad: number
  voices: readonly Voice[]
}

/** One of those that stand for a package whose architecture is not told: what is published, else what somebody knows. */
export function resolved(all: readonly Judged[]): Judged[] {
  const isBare = ({ installed }: Judged): boolean => installed.lacksArchitecture === true
  const bare = Map.groupBy(all.filter(isBare), ({ installed: { distribution, name, version } }) =>
    [distribution, name, version].join('\n'),
  )
  const chosen = [...bare.values()].map(
    (some) =>
      some.find(({ sha256 }) => sha256 !== null) ?? some.find(({ voices }) => voices.length > 0) ?? some[0],
  )
  const taken = new Set(chosen)
  return all.filter((one) => !isBare(one) || taken.has(one))
}

type Rules = { threshold: number; published: ReadonlyMap<string, string | null> }

/** The verdict on every package: K distinct rebuilders must agree, and only a proof counts as verified. */
export function judged(
  packages: readonly Installed[],
  witnesses: readonly Witness[],
  { threshold, published }: Rules,
): Judged[] {
  return packages.map((installed, position) => {
    const hash = published.get(keyOf(installed))
    const voices = witnesses.flatMap((witness) => voiceOf(witness, position, hash ?? null))
    return judgedOne(installed, voices, hash, threshold)
  })
}

/** A rebuilder that compared another file than the published one has said nothing about this package. */
function voiceOf({ asked, identity, proofs }: Witness, position: number, hash: string | null): Voice[] {
  const answer = asked.answers.get(position)
  if (answer === undefined) return []
  const isOtherFile = hash !== null && answer.sha256 !== null && answer.sha256 !== hash
  return [{ url: asked.rebuilder.url, identity, answer, proof: proofs.get(position) ?? null, isOtherFile }]
}

function judgedOne(
  installed: Installed,
  voices: readonly Voice[],
  hash: string | null | undefined,
  threshold: number,
): Judged {
  const verified = independent(voices)
  const counting = voices.filter(({ isOtherFile }) => !isOtherFile)
  const good = distinct(counting, 'GOOD')
  const bad = distinct(counting, 'BAD')
  const standing = standingOf({ verified, good, bad, threshold, voices: counting })
  const culprit = culpritOf(standing, counting)
  const reason =
    standing === 'verified' ? null : reasonOf(standing, voices, culprit, hash, { good, verified, threshold })
  const link = culprit === undefined ? null : linkOf(culprit)
  return { installed, standing, reason, link, sha256: hash ?? null, verified, good, bad, voices }
}

function distinct(voices: readonly Voice[], status: Answer['status']): number {
  return new Set(voices.filter(({ answer }) => answer.status === status).map(({ identity }) => identity)).size
}

/**
 * How many distinct rebuilders proved it. Whoever speaks by a key that another one's attestation is signed with as well
 * (a worker's, say) shows the same rebuild once more: of two such voices one counts.
 */
function independent(voices: readonly Voice[]): number {
  const proofs = new Map<string, { keyids: Set<string>; others: Set<string> }>()
  for (const { identity, proof } of voices) {
    if (proof?.outcome !== 'proven') continue
    const known = proofs.get(identity) ?? { keyids: new Set(), others: new Set() }
    known.keyids.add(proof.keyid)
    for (const other of proof.others) known.others.add(other)
    proofs.set(identity, known)
  }
  if (proofs.size < 2) return proofs.size
  const all = [...proofs.values()]
  const isSame = (a: (typeof all)[number], b: (typeof all)[number]): boolean =>
    !a.others.isDisjointFrom(b.keyids) || !b.others.isDisjointFrom(a.keyids)
  const doubles = (one: (typeof all)[number]): number => all.filter((other) => isSame(one, other)).length
  const counted: typeof all = [] // those with the fewest doubles first: one that borrows many names displaces none
  for (const one of all.toSorted((a, b) => doubles(a) - doubles(b))) {
    if (!counted.some((other) => isSame(one, other))) counted.push(one)
  }
  return counted.length
}

type Counts = { verified: number; good: number; bad: number; threshold: number; voices: readonly Voice[] }

function standingOf({ verified, good, bad, threshold, voices }: Counts): Standing {
  if (verified >= threshold) return 'verified'
  if (good >= threshold) return 'claimed'
  if (bad > 0) return 'BAD'
  if (good > 0) return 'partly'
  return voices.some(({ answer }) => answer.status === 'FAIL') ? 'FAIL' : 'unknown'
}

/** Whose word made it so. */
function culpritOf(standing: Standing, voices: readonly Voice[]): Voice | undefined {
  const status = standing === 'BAD' || standing === 'FAIL' ? standing : 'GOOD'
  return voices.find(({ answer }) => answer.status === status && answer.buildId !== null)
}

function linkOf({ url, answer }: Voice): string {
  return `${url}/api/v1/builds/${answer.buildId}/log`
}

function reasonOf(
  standing: Standing,
  voices: readonly Voice[],
  culprit: Voice | undefined,
  hash: string | null | undefined,
  { good, verified, threshold }: { good: number; verified: number; threshold: number },
): string {
  if (standing === 'BAD') return culprit?.answer.reason ?? 'the rebuilt file differs'
  if (standing === 'FAIL') return culprit?.answer.reason ?? 'could not be rebuilt'
  if (standing === 'partly') return `GOOD by ${good} of the ${threshold} that are asked for`
  if (standing === 'claimed') return lackOfProof(voices, hash, { verified, threshold })
  if (voices.some(({ isOtherFile }) => isOtherFile)) return 'another file than the published one was rebuilt'
  const told = voices.find(({ answer }) => answer.reason !== null)?.answer.reason
  return told ?? (voices.length > 0 ? 'not rebuilt yet' : 'no rebuilder knows it')
}

function lackOfProof(
  voices: readonly Voice[],
  hash: string | null | undefined,
  { verified, threshold }: { verified: number; threshold: number },
): string {
  const outcomes = new Set(voices.map(({ proof }) => proof?.outcome))
  if (outcomes.has('forged')) return 'the attestation is not signed by the known key'
  if (outcomes.has('other file')) return 'the attestation is about another file than the published one'
  if (outcomes.has('unreadable')) return 'the attestation cannot be had or read'
  if (hash === null) return 'several files of this version are published'
  if (hash === undefined) return 'the hash of the published file is not known here'
  return verified === 0
    ? 'there is no attestation'
    : `attested by ${verified} of the ${threshold} that are asked for`
}

/** Packages that some rebuilder calls GOOD and another one BAD. */
export function disagreements(all: readonly Judged[]): Judged[] {
  return all.filter(({ good, bad }) => good > 0 && bad > 0)
}

export type Tally = { count: number; size: number; percent: number; percentOfSize: number }
type Summary = { count: number; size: number; by: Readonly<Record<Standing, Tally>> }

/** Packages by standing; sizes are bytes on the disk, of the packages whose size is known. */
export function summaryOf(all: readonly Judged[]): Summary {
  const sizeOf = (some: readonly Judged[]): number =>
    some.reduce((sum, { installed }) => sum + (installed.size ?? 0), 0)
  const size = sizeOf(all)
  const tally = (standing: Standing): Tally => {
    const some = all.filter((one) => one.standing === standing)
    const share = (part: number, whole: number): number => (whole === 0 ? 0 : (part / whole) * 100)
    return {
      count: some.length,
      size: sizeOf(some),
      percent: share(some.length, all.length),
      percentOfSize: share(sizeOf(some), size),
    }
  }
  const by = Object.fromEntries(standings.map((standing) => [standing, tally(standing)]))
  return { count: all.length, size, by: by as Summary['by'] } // one entry per standing
}

/** What is not verified, the worst first, then by name. */
export function unverified(all: readonly Judged[]): Judged[] {
  const rank = ({ standing }: Judged): number => standings.indexOf(standing)
  return all
    .filter(({ standing }) => standing !== 'verified')
    .sort((a, b) => rank(a) - rank(b) || (a.installed.name < b.installed.name ? -1 : 1))
}

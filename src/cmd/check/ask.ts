import { publicKeyFromPem } from '../../attestation.ts'
import { sentenceOf } from '../../errors.ts'
import { longestLookup, lookupPackages } from '../../wire/gates.ts'
import { getPublicKeys } from '../../wire/meta.ts'
import { getPublicKeysV0 } from '../../wire/v0.ts'
import { checked } from '../../wire/schema.ts'
import { jsonOf, Refused } from './http.ts'
import { keyOf, type Installed } from './installed.ts'
import { listOf, type ListOptions } from './lists.ts'
import { isAsked, type Rebuilder } from './rebuilders.ts'

/** What a rebuilder says of one package. */
export type Answer = {
  status: 'GOOD' | 'BAD' | 'FAIL' | 'UNKWN'
  /** Why, where the server knows reasons. */
  reason: string | null
  /** SHA-256 of the file that was compared, as the rebuilder tells it. */
  sha256: string | null
  buildId: number | null
  artifactId: number | null
  hasAttestation: boolean
}

/** What came of asking one rebuilder. */
export type Asked = {
  rebuilder: Rebuilder
  /** By position of the package. */
  answers: ReadonlyMap<number, Answer>
  /** `lookup`: ours, which takes questions in bulk. */
  kind: 'lookup' | 'list' | null
  key: Uint8Array | null
  /** Why there are no answers, or what is wrong with some. */
  problem: string | null
  hasAnswered: boolean
  seconds: number
}

export type AskOptions = ListOptions & { timeoutSeconds: number }

/** Asks one rebuilder for the packages it is asked for, in its time; never fails but when all is stopped. */
export async function ask(
  rebuilder: Rebuilder,
  packages: readonly Installed[],
  options: AskOptions,
): Promise<Asked> {
  const start = performance.now()
  const signal = AbortSignal.any([options.signal, AbortSignal.timeout(options.timeoutSeconds * 1000)])
  const positions = [...packages.keys()].filter((at) => isAsked(rebuilder, packages[at] as Installed)) // its own keys
  const asking = answersOf(rebuilder.url, packages, positions, { ...options, signal })
  const showing = shownKey(rebuilder.url, signal)
  const [found, key] = await Promise.allSettled([asking, showing])
  options.signal.throwIfAborted()
  const seconds = (performance.now() - start) / 1000
  const shown = key.status === 'fulfilled' ? key.value : null
  if (found.status === 'rejected') {
    const problem = sentenceOf(found.reason)
    return { rebuilder, answers: new Map(), kind: null, key: shown, problem, hasAnswered: false, seconds }
  }
  const trouble = key.status === 'rejected' ? `its key cannot be read: ${sentenceOf(key.reason)}` : null
  return {
    rebuilder,
    key: shown,
    hasAnswered: true,
    seconds,
    ...found.value,
    problem: trouble ?? found.value.problem,
  }
}

type Found = Pick<Asked, 'answers' | 'kind' | 'problem'>

async function answersOf(
  base: string,
  packages: readonly Installed[],
  positions: readonly number[],
  options: ListOptions,
): Promise<Found> {
  if (positions.length === 0) return { answers: new Map(), kind: null, problem: null }
  try {
    return await lookedUp(base, packages, positions, options.signal)
  } catch (error) {
    const isUpstream = error instanceof Refused && [400, 404, 405, 501].includes(error.status)
    if (!isUpstream) throw error
  }
  return listed(base, packages, positions, options)
}

const longestReply = 32 * 1024 * 1024

async function lookedUp(
  base: string,
  packages: readonly Installed[],
  positions: readonly number[],
  signal: AbortSignal,
): Promise<Found> {
  const answers = new Map<number, Answer>()
  for (let from = 0; from < positions.length; from += longestLookup) {
    const some = positions.slice(from, from + longestLookup)
    const wanted = some.map((at) => questionOf(packages[at] as Installed)) // positions are keys of packages
    const body = { packages: wanted }
    const given = await jsonOf(base + lookupPackages.path, { body, limit: longestReply, signal })
    const { records } = checked(lookupPackages.reply, given, 'the reply')
    for (const [index, record] of records.entries()) {
      const at = some[index]
      if (record === null || at === undefined) continue
      const { status, reason, sha256, build_id, artifact_id, has_attestation } = record
      answers.set(at, {
        status: status ?? 'UNKWN',
        reason,
        sha256,
        buildId: build_id,
        artifactId: artifact_id,
        hasAttestation: has_attestation,
      })
    }
  }
  return { answers, kind: 'lookup', problem: null }
}

function questionOf({ distribution, name, version, architecture }: Installed) {
  return { distribution, name, version, architecture }
}

async function listed(
  base: string,
  packages: readonly Installed[],
  positions: readonly number[],
  options: ListOptions,
): Promise<Found> {
  const answers = new Map<number, Answer>()
  let malformed = 0
  const byDistribution = Map.groupBy(positions, (at) => packages[at]?.distribution ?? '')
  for (const [distribution, some] of byDistribution) {
    const keys = new Map(some.map((at) => [keyOf(packages[at] as Installed), at])) // positions are keys of packages
    const list = await listOf(base, distribution, new Set(keys.keys()), options)
    malformed += list.malformed
    for (const [key, one] of list.listed) {
      const at = keys.get(key)
      if (at !== undefined) answers.set(at, { ...one, reason: null, sha256: null })
    }
  }
  const problem = malformed === 0 ? null : `${malformed} entries of its list cannot be read and do not count`
  return { answers, kind: 'list', problem }
}

/** The first current key, as API v1 shows it, or v0; null where the server shows none. */
async function shownKey(base: string, signal: AbortSignal): Promise<Uint8Array | null> {
  for (const row of [getPublicKeys, getPublicKeysV0]) {
    try {
      const given = await jsonOf(base + row.path, { limit: 65_536, signal })
      const [pem] = checked(row.reply, given, 'the reply').current
      return pem === undefined ? null : publicKeyFromPem(pem)
    } catch (error) {
      if (!(error instanceof Refused)) throw error
    }
  }
  return null
}

import { publicKeyFromPem } from '../../attestation.ts'
import { sentenceOf } from '../../errors.ts'
import { getPublicKeys } from '../../wire/meta.ts'
import { getPublicKeysV0 } from '../../wire/v0.ts'
import { checked } from '../../wire/schema.ts'
import type { Answer } from './answer.ts'
import { jsonOf, Refused } from './http.ts'
import { keyOf, looseKeys, type Installed } from './installed.ts'
import { listOf, type ListOptions } from './lists.ts'
import { lookUp, type TakeAttestation } from './lookup.ts'
import { isAsked, type Rebuilder } from './rebuilders.ts'

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

export type AskOptions = ListOptions & {
  timeoutSeconds: number
  /** Whether the attestation of a package is here already, signed by a key that this rebuilder is known by. */
  isProven: (rebuilder: Rebuilder, position: number) => boolean
  /** Told the key that the rebuilder shows, if any, before the attestations that came with its answers. */
  meet: (key: Uint8Array | null) => TakeAttestation
}

/** Asks one rebuilder for the packages it is asked for, in its time; never fails but when all is stopped. */
export async function ask(
  rebuilder: Rebuilder,
  packages: readonly Installed[],
  options: AskOptions,
): Promise<Asked> {
  const start = performance.now()
  const signal = AbortSignal.any([options.signal, AbortSignal.timeout(options.timeoutSeconds * 1000)])
  const nothing = { answers: new Map(), kind: null, key: null, problem: null }
  const told = (found: Found, hasAnswered: boolean): Asked => ({
    rebuilder,
    hasAnswered,
    seconds: (performance.now() - start) / 1000,
    ...found,
  })
  try {
    return told(await answersOf(rebuilder, packages, { ...options, signal }, nothing), true)
  } catch (error) {
    options.signal.throwIfAborted()
    return told({ ...nothing, problem: sentenceOf(error) }, false)
  }
}

type Found = Pick<Asked, 'answers' | 'kind' | 'key' | 'problem'>

async function answersOf(
  rebuilder: Rebuilder,
  packages: readonly Installed[],
  options: AskOptions,
  nothing: Found,
): Promise<Found> {
  const { url } = rebuilder
  const positions = [...packages.keys()].filter((at) => isAsked(rebuilder, packages[at] as Installed)) // its own keys
  if (positions.length === 0) return nothing
  const { signal } = options
  const isProven = (position: number): boolean => options.isProven(rebuilder, position)
  const met: Shown[] = []
  const meet = (keys: readonly string[]): TakeAttestation => {
    const shown = shownOf(keys)
    met.push(shown)
    return options.meet(shown.key)
  }
  const looked = await lookUp(url, { packages, positions, isProven, meet, signal }).catch(
    (error: unknown) => {
      const isOfOthers = error instanceof Refused && [400, 404, 405, 501].includes(error.status)
      if (!isOfOthers) throw error
      return null
    },
  )
  if (looked === null) {
    const [list, shown] = await Promise.all([listed(url, packages, positions, options), shownBy(url, signal)])
    const problem = shown.problem ?? troubleOf(list.malformed, 'entries of its list')
    return { ...nothing, answers: list.answers, kind: 'list', key: shown.key, problem }
  }
  const { answers, attestations, malformed } = looked
  const shown = met[0] ?? (await shownBy(url, signal))
  const take = attestations.size === 0 ? null : options.meet(shown.key)
  for (const [at, attestation] of attestations) take?.(at, answers.get(at) as Answer, attestation) // it came with it
  const problem = shown.problem ?? troubleOf(malformed, 'of its answers')
  return { answers, kind: 'lookup', key: shown.key, problem }
}

function troubleOf(malformed: number, what: string): string | null {
  return malformed === 0 ? null : `${malformed} ${what} cannot be read and do not count`
}

async function listed(
  base: string,
  packages: readonly Installed[],
  positions: readonly number[],
  options: ListOptions,
): Promise<{ answers: Map<number, Answer>; malformed: number }> {
  const answers = new Map<number, Answer>()
  let malformed = 0
  const byDistribution = Map.groupBy(positions, (at) => packages[at]?.distribution ?? '')
  for (const [distribution, some] of byDistribution) {
    const keys = new Map(some.map((at) => [keyOf(packages[at] as Installed), at])) // positions are keys of packages
    const loose = looseKeys(some.map((at) => packages[at] as Installed))
    const list = await listOf(base, distribution, { keys: new Set(keys.keys()), loose }, options)
    malformed += list.malformed
    for (const [key, one] of list.listed) {
      const at = keys.get(key)
      if (at !== undefined) answers.set(at, one)
    }
  }
  return { answers, malformed }
}

type Shown = { key: Uint8Array | null; problem: string | null }

function shownOf([pem]: readonly string[]): Shown {
  try {
    return { key: pem === undefined ? null : publicKeyFromPem(pem), problem: null }
  } catch (error) {
    return unreadableKey(error)
  }
}

function unreadableKey(error: unknown): Shown {
  return { key: null, problem: `its key cannot be read: ${sentenceOf(error)}` }
}

/** The first current key, as API v1 shows it, or v0; null where the server shows none. */
async function shownBy(base: string, signal: AbortSignal): Promise<Shown> {
  for (const row of [getPublicKeys, getPublicKeysV0]) {
    try {
      const given = await jsonOf(base + row.path, { limit: 65_536, signal })
      return shownOf(checked(row.reply, given, 'the reply').current)
    } catch (error) {
      if (!(error instanceof Refused)) return unreadableKey(error)
    }
  }
  return { key: null, problem: null }
}

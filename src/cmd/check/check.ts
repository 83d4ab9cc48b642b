import { join } from 'node:path'
import { Complaint, sentenceOf } from '../../errors.ts'
import { ask, type Asked, type AskOptions } from './ask.ts'
import { openingOf, proofsOf, type Opening, type Sent } from './attestations.ts'
import type { Cache } from './cache.ts'
import type { Installed } from './installed.ts'
import { judged, resolved, type Judged, type Witness } from './judge.ts'
import { keyOf } from './installed.ts'
import {
  addPins,
  identitiesOf,
  isLoopback,
  knownKeys,
  readPins,
  shortId,
  trustOf,
  voiceProblems,
  type KeySource,
  type Known,
  type Pins,
  type Trust,
} from './pins.ts'
import { openKeyring, type Keyring, type Signer } from './proofs.ts'
import { publishedHashes, publishedPlaces, type Published } from './published.ts'
import { counted } from '../output.ts'
import type { Rebuilder } from './rebuilders.ts'

type CheckOptions = {
  rebuilders: readonly Rebuilder[]
  /** Distinct rebuilders that must agree. */
  threshold: number
  timeoutSeconds: number
  /** Packages that are there, and cannot be read. */
  unreadable: number
  root: string | null
  /** It was unpacked for this check only. */
  isPassing?: boolean
  indexes: readonly string[]
  /** Keeps lists, hashes and proofs; null: nothing is kept. */
  cache: Cache | null
  /** Folder for the keys of rebuilders. */
  state: string
  progress: (text: string) => void
  signal: AbortSignal
  now: () => Date
}

/** How one rebuilder did. */
export type Told = {
  url: string
  /** The beginning of the name of the key that speaks for it; null: it has none. */
  key: string | null
  /** Where that key is from: one that was never met before is believed, and kept. */
  keyFrom: KeySource
  /** Which of those that are told apart it is, from 1 on. */
  voice: number
  hasAnswered: boolean
  /** Packages it knows, and those it calls GOOD, that it proved. */
  known: number
  good: number
  proven: number
  seconds: number
  problems: readonly string[]
}

export type Report = {
  packages: readonly Judged[]
  /** Packages that are there beside those, and cannot be read. */
  unreadable: number
  rebuilders: readonly Told[]
  /** Keys that changed, attestations that are false: what somebody should look at. */
  alarms: readonly string[]
  /** What else did not work. */
  warnings: readonly string[]
  threshold: number
  at: Date
}

/**
 * Asks all rebuilders for all packages, and proves what they say.
 * @throws Complaint where none of them answered
 */
export async function checkPackages(packages: readonly Installed[], options: CheckOptions): Promise<Report> {
  const { rebuilders, threshold, signal, progress, now } = options
  const pinsFile = join(options.state, 'rebuilders.keys')
  const pins = await readPins(pinsFile)
  const keyring = openKeyring(options.cache)
  const places = await publishedPlaces(packages, options)
  const isProven = await provenBefore(packages, { pins, keyring, known: places.known, rebuilders })
  progress(`asking ${counted(rebuilders.length, 'rebuilder')} about ${counted(packages.length, 'package')}`)
  const tally = tallyOf(progress)
  const hear = async (one: Rebuilder): Promise<Heard> => {
    const meeting = (key: Uint8Array | null): Met => {
      const trust = trustOf(one, key, pins, pinsFile)
      const signers = keyring.signersOf(trust.keys)
      return { trust, signers, opening: openingOf(signers, { signal, progress: tally(one) }) }
    }
    const met: Met[] = []
    const meet: AskOptions['meet'] = (key) => {
      const now = meeting(key)
      met.push(now)
      return now.opening.take
    }
    const asked = await ask(one, packages, { ...options, isProven, meet })
    const { trust, signers, opening } = (asked.hasAnswered ? met[0] : undefined) ?? meeting(asked.key)
    return { asked, trust, signers: await signers, sent: await opening.all() }
  }
  const [published, heard] = await Promise.all([
    publishedHashes(packages, places, options),
    Promise.all(rebuilders.map(hear)),
  ])
  if (!heard.some(({ asked }) => asked.hasAnswered)) throw nobodyAnswered(heard)
  const notKept = await addPins(pinsFile, metNow(heard), now()).then(() => [], complaintText)
  const witnesses = await proveAll(packages, heard, published.hashes, { ...options, tally })
  await keyring.keep()
  signal.throwIfAborted()
  return {
    packages: resolved(judged(packages, witnesses, { threshold, published: published.hashes })),
    unreadable: options.unreadable,
    rebuilders: toldOf(witnesses, heard),
    alarms: [...heard.flatMap(({ trust }) => trust.alarm ?? []), ...witnesses.flatMap(forgeries)],
    warnings: [
      ...published.problems,
      ...metInTheOpen(heard),
      ...voiceProblems(heard.map(knownOf), threshold),
      ...notKept,
    ],
    threshold,
    at: now(),
  }
}

/** What one rebuilder said, which keys speak for it, and who signed the attestations that it sent. */
type Heard = { asked: Asked; trust: Trust; signers: readonly Signer[]; sent: Sent }

function knownOf({ asked, trust }: Heard): Known {
  const { url, given } = asked.rebuilder
  return { url, given, keys: trust.keys, from: trust.from }
}

/** The same while it is heard. */
type Met = { trust: Trust; signers: Promise<readonly Signer[]>; opening: Opening }

type Tally = (rebuilder: Rebuilder) => (count: number) => void

/** One count of attestations for all rebuilders. */
function tallyOf(progress: (text: string) => void): Tally {
  const done = new Map<Rebuilder, number>()
  return (rebuilder) => (count) => {
    done.set(rebuilder, count)
    progress(`${[...done.values()].reduce((sum, part) => sum + part, 0)} attestations verified`)
  }
}

/** A check without a place for keys is still one, but the next one will not know whom it met. */
function complaintText(error: unknown): string[] {
  return [sentenceOf(error)]
}

function nobodyAnswered(heard: readonly Heard[]): Complaint {
  const lines = heard.map(({ asked }) => `${asked.rebuilder.url}: ${asked.problem ?? 'no answer'}`)
  return new Complaint(`no rebuilder answered: ${lines.join('; ')}`, {
    hint: '--rebuilder URL names one, or [[rebuilder]] url = "…" in rebuilderd.conf',
  })
}

function metNow(heard: readonly Heard[]): Pins {
  const met = heard.flatMap(({ asked, trust }): [string, Uint8Array][] =>
    asked.key !== null && trust.from === 'first met' ? [[asked.rebuilder.url, asked.key]] : [],
  )
  return new Map(met)
}

/** A key that came over http may be that of anybody on the way. */
function metInTheOpen(heard: readonly Heard[]): string[] {
  return [...metNow(heard)].flatMap(([url, key]) => {
    const { protocol, hostname } = new URL(url)
    if (protocol === 'https:' || isLoopback(hostname)) return []
    return [
      `${url} was first met over http: compare its key ${shortId(key)} with what its people say elsewhere`,
    ]
  })
}

type Proven = Witness & { problem: string | null }

async function proveAll(
  packages: readonly Installed[],
  heard: readonly Heard[],
  published: Published,
  { tally, timeoutSeconds, signal }: CheckOptions & { tally: Tally },
): Promise<Proven[]> {
  const hashOf = (position: number): string | null => {
    const one = packages[position]
    return one === undefined ? null : (published.get(keyOf(one)) ?? null)
  }
  const identities = identitiesOf(heard.map(knownOf))
  return Promise.all(
    heard.map(async ({ asked, signers, sent }, index): Promise<Proven> => {
      const progress = tally(asked.rebuilder)
      const options = { signers, sent, hashOf, timeoutSeconds, signal, progress }
      const { proofs, problem } = await proofsOf(asked, packages, options)
      return { asked, identity: identities[index] ?? '', proofs, problem }
    }),
  )
}

type Before = {
  pins: Pins
  keyring: Keyring
  known: Published | null
  rebuilders: readonly Rebuilder[]
}

/** Whose attestations need not be sent again: those of files whose hash is known, by a key that is known. */
async function provenBefore(
  packages: readonly Installed[],
  { pins, keyring, known, rebuilders }: Before,
): Promise<(rebuilder: Rebuilder, position: number) => boolean> {
  const signers = new Map<string, Signer[]>()
  for (const one of rebuilders) signers.set(one.url, await keyring.signersOf(knownKeys(one, pins)))
  return ({ url }, position) => {
    const one = packages[position]
    const sha256 = one === undefined ? null : (known?.get(keyOf(one)) ?? null)
    return sha256 !== null && signers.get(url)?.some(({ kept }) => kept.has(sha256)) === true
  }
}

function toldOf(witnesses: readonly Proven[], heard: readonly Heard[]): Told[] {
  const identities = [...new Set(witnesses.map(({ identity }) => identity))]
  return witnesses.map(({ asked, identity, proofs, problem }, index) => {
    const answers = [...asked.answers.values()]
    const { keys: [key] = [], from: keyFrom = null } = heard[index]?.trust ?? {}
    return {
      url: asked.rebuilder.url,
      key: key === undefined ? null : shortId(key),
      keyFrom,
      voice: identities.indexOf(identity) + 1,
      hasAnswered: asked.hasAnswered,
      known: answers.length,
      good: answers.filter(({ status }) => status === 'GOOD').length,
      proven: [...proofs.values()].filter(({ outcome }) => outcome === 'proven').length,
      seconds: asked.seconds,
      problems: [asked.problem, problem].filter((one) => one !== null),
    }
  })
}

/** A false signature is no accident that happens to many servers. */
function forgeries({ asked, proofs }: Witness): string[] {
  const count = [...proofs.values()].filter(({ outcome }) => outcome === 'forged').length
  if (count === 0) return []
  return [`${asked.rebuilder.url} has ${counted(count, 'attestation')} that its known key did not sign`]
}

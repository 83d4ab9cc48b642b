import { join } from 'node:path'
import { Complaint, sentenceOf } from '../../errors.ts'
import { ask, type Asked } from './ask.ts'
import { proofsOf } from './attestations.ts'
import type { Installed } from './installed.ts'
import { judged, type Judged, type Witness } from './judge.ts'
import { keyOf } from './installed.ts'
import { addPins, knownKeys, readPins, shortId, trustOf, type Pins, type Trust } from './pins.ts'
import { openKeyring, type Keyring, type Signer } from './proofs.ts'
import { publishedHashes, publishedPlaces, type Published } from './published.ts'
import { counted } from '../output.ts'
import type { Rebuilder } from './rebuilders.ts'

export type CheckOptions = {
  rebuilders: readonly Rebuilder[]
  /** Distinct rebuilders that must agree. */
  threshold: number
  timeoutSeconds: number
  root: string | null
  indexes: readonly string[]
  /** Folder for lists, hashes and proofs; null: nothing is kept. */
  cache: string | null
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
  const [published, asked] = await Promise.all([
    publishedHashes(packages, places, options),
    Promise.all(rebuilders.map((one) => ask(one, packages, { ...options, isProven }))),
  ])
  if (!asked.some(({ hasAnswered }) => hasAnswered)) throw nobodyAnswered(asked)
  const trusts = asked.map((one) => trustOf(one.rebuilder, one.key, pins, pinsFile))
  const notKept = await addPins(pinsFile, metNow(asked, trusts), now()).then(() => [], complaintText)
  const witnesses = await proveAll(packages, asked, trusts, published.hashes, keyring, options)
  signal.throwIfAborted()
  return {
    packages: judged(packages, witnesses, { threshold, published: published.hashes }),
    rebuilders: witnesses.map((one, index) => toldOf(one, trusts[index])),
    alarms: [...trusts.flatMap(({ alarm }) => alarm ?? []), ...witnesses.flatMap(forgeries)],
    warnings: [...published.problems, ...notKept],
    threshold,
    at: now(),
  }
}

/** A check without a place for keys is still one, but the next one will not know whom it met. */
function complaintText(error: unknown): string[] {
  return [sentenceOf(error)]
}

function nobodyAnswered(asked: readonly Asked[]): Complaint {
  const lines = asked.map(({ rebuilder, problem }) => `${rebuilder.url}: ${problem ?? 'no answer'}`)
  return new Complaint(`no rebuilder answered: ${lines.join('; ')}`, {
    hint: '--rebuilder URL names one, or [[rebuilder]] url = "…" in rebuilderd.conf',
  })
}

function metNow(asked: readonly Asked[], trusts: readonly Trust[]): Pins {
  const met = asked.flatMap(({ rebuilder, key }, index): [string, Uint8Array][] =>
    key !== null && trusts[index]?.isNew === true ? [[rebuilder.url, key]] : [],
  )
  return new Map(met)
}

type Proven = Witness & { problem: string | null }

async function proveAll(
  packages: readonly Installed[],
  asked: readonly Asked[],
  trusts: readonly Trust[],
  published: Published,
  keyring: Keyring,
  options: CheckOptions,
): Promise<Proven[]> {
  const { progress, timeoutSeconds, signal } = options
  const done = asked.map(() => 0)
  const hashOf = (position: number): string | null => {
    const one = packages[position]
    return one === undefined ? null : (published.get(keyOf(one)) ?? null)
  }
  const all = await Promise.all(
    asked.map(async (one, index): Promise<Proven> => {
      const keys = trusts[index]?.keys ?? []
      const { proofs, problem } = await proofsOf(one, packages, {
        signers: await keyring.signersOf(keys),
        hashOf,
        timeoutSeconds,
        signal,
        progress(count) {
          done[index] = count
          progress(`${done.reduce((sum, part) => sum + part, 0)} attestations verified`)
        },
      })
      const identity = keys[0] === undefined ? one.rebuilder.url : Buffer.from(keys[0]).toString('hex')
      return { asked: one, identity, proofs, problem }
    }),
  )
  await keyring.keep()
  return all
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

function toldOf({ asked, proofs, problem }: Proven, trust: Trust | undefined): Told {
  const answers = [...asked.answers.values()]
  const key = trust?.keys[0]
  return {
    url: asked.rebuilder.url,
    key: key === undefined ? null : shortId(key),
    hasAnswered: asked.hasAnswered,
    known: answers.length,
    good: answers.filter(({ status }) => status === 'GOOD').length,
    proven: [...proofs.values()].filter(({ outcome }) => outcome === 'proven').length,
    seconds: asked.seconds,
    problems: [asked.problem, problem].filter((one) => one !== null),
  }
}

/** A false signature is no accident that happens to many servers. */
function forgeries({ asked, proofs }: Witness): string[] {
  const count = [...proofs.values()].filter(({ outcome }) => outcome === 'forged').length
  if (count === 0) return []
  return [`${asked.rebuilder.url} has ${count} attestations that its known key did not sign`]
}

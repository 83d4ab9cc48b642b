import { randomUUID } from 'node:crypto'
import { open, readFile, rename, rm, stat, writeFile } from 'node:fs/promises'
import { dirname } from 'node:path'
import { setTimeout } from 'node:timers/promises'
import { keyidOf } from '../../attestation.ts'
import { Complaint, during } from '../../errors.ts'
import { makeFolders } from '../../folders.ts'
import type { Rebuilder } from './rebuilders.ts'

/** Keys by the address of the rebuilder that had them when we first met. */
export type Pins = ReadonlyMap<string, Uint8Array>

/**
 * Reads the file of keys: lines of `URL ed25519 64-HEX-DIGITS DATE`.
 * @throws Complaint where a line is none: what decides whom we trust is not guessed
 */
export async function readPins(file: string): Promise<Pins> {
  const text = await readFile(file, 'utf8').catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT' || error.code === 'ENOTDIR') return ''
    throw new Complaint(`cannot read the keys of rebuilders in ${file}`, { cause: error })
  })
  const pins = new Map<string, Uint8Array>()
  for (const [index, line] of text.split('\n').entries()) {
    if (line.trim() === '' || line.startsWith('#')) continue
    const match = /^(\S+) ed25519 ([0-9a-f]{64})(?: \S*)?\s*$/.exec(line)
    if (match === null) throw new Complaint(`${file}: line ${index + 1} is not \`URL ed25519 KEY DATE\``)
    pins.set(match[1] ?? '', new Uint8Array(Buffer.from(match[2] ?? '', 'hex')))
  }
  return pins
}

/** Adds keys of rebuilders that the file does not know; what it knows is never changed. */
export async function addPins(file: string, met: Pins, now: Date): Promise<void> {
  if (met.size === 0) return
  await during(`keeping the keys of rebuilders in ${file}`, async () => {
    makeFolders(dirname(file), 0o700)
    await using _ = await alone(`${file}.lock`)
    const known = await readPins(file)
    const added = [...met].filter(([url]) => !known.has(url))
    if (added.length === 0) return
    const before = await readFile(file, 'utf8').catch(() => heading)
    const day = now.toISOString().slice(0, 10)
    const lines = added.map(([url, key]) => `${url} ed25519 ${Buffer.from(key).toString('hex')} ${day}\n`)
    const aside = `${file}.${randomUUID()}`
    await writeWhole(aside, before.replace(/([^\n])$/, '$1\n') + lines.join(''))
    await rename(aside, file)
  })
}

/** On the disk before it takes the place of the old one: an empty file would have every key believed anew. */
async function writeWhole(file: string, text: string): Promise<void> {
  await using handle = await open(file, 'wx', 0o600)
  await handle.writeFile(text)
  await handle.sync()
}

const staleSeconds = 10
/** So long those who found the same stale lock may take to put theirs in its place. */
const settleMilliseconds = 1000

/** Two checks that meet rebuilders at the same time add one after the other. One that was killed is waited for a while. */
async function alone(lock: string): Promise<AsyncDisposable> {
  const mine = randomUUID()
  const release = { [Symbol.asyncDispose]: () => rm(lock, { force: true }) }
  for (;;) {
    if (await isCreated(lock, mine)) return release
    const found = await stat(lock).catch(() => null)
    if (found === null || Date.now() - found.mtimeMs <= staleSeconds * 1000) await setTimeout(20)
    else if (await isTakenOver(lock, mine)) return release
  }
}

async function isCreated(lock: string, owner: string): Promise<boolean> {
  try {
    await writeFile(lock, owner, { flag: 'wx', mode: 0o600 })
    return true
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'EEXIST') return false
    throw error
  }
}

/** Never removes a stale lock: others who find it so would remove the new one. The last who replaces it has it. */
async function isTakenOver(lock: string, owner: string): Promise<boolean> {
  const aside = `${lock}.${owner}`
  await writeFile(aside, owner, { mode: 0o600 })
  await rename(aside, lock)
  await setTimeout(settleMilliseconds)
  return (await readFile(lock, 'utf8').catch(() => null)) === owner
}

const heading =
  '# Keys of rebuilders, as they were when `rebuilderd ctl check` first met them: URL ed25519 KEY DATE\n# To trust a rebuilder that changed its key, remove its line.\n'

/** Keys that a rebuilder is known by, before it shows one. */
export function knownKeys({ url, keys }: Rebuilder, pins: Pins): readonly Uint8Array[] {
  const pinned = pins.get(url)
  return keys.length > 0 || pinned === undefined ? keys : [pinned]
}

/** Which keys speak for a rebuilder, where they are from, and what is wrong with the one that it shows. */
export type Trust = { keys: readonly Uint8Array[]; from: KeySource; alarm: string | null }

/** The configuration; an earlier check, or this one, that met it; null: it has none. */
export type KeySource = 'configured' | 'kept' | 'first met' | null

/**
 * @param shown the key that the server shows now; null: it shows none
 * @param file where keys are kept, for the alarm
 */
export function trustOf(rebuilder: Rebuilder, shown: Uint8Array | null, pins: Pins, file: string): Trust {
  const isConfigured = rebuilder.keys.length > 0
  const keys = knownKeys(rebuilder, pins)
  const from = isConfigured ? 'configured' : keys.length > 0 ? 'kept' : null
  if (shown === null) return { keys, from, alarm: null }
  if (keys.length === 0) return { keys: [shown], from: 'first met', alarm: null }
  if (keys.some((key) => Buffer.compare(key, shown) === 0)) return { keys, from, alarm: null }
  const where = isConfigured ? 'the configuration gives' : `${file} has`
  const known = keys.map((key) => shortId(key)).join(', ')
  const alarm = `the key of ${rebuilder.url} has changed: it shows ${shortId(shown)}, ${where} ${known}. Only what the known key signed counts.`
  return { keys, from, alarm }
}

/** A rebuilder as it is told apart from others. */
export type Known = Pick<Trust, 'keys' | 'from'> & Pick<Rebuilder, 'url' | 'given'>

/**
 * Who rebuilders are: those that share a key are one, and so are all that have none, for nobody can tell them apart.
 * Anybody can make as many keys and paths as he likes, so keys that nobody vouched for, which came from their own
 * addresses, are as many voices as there are sites; those of the configuration are told apart by keys alone. Servers of one entry are one rebuilder.
 */
export function identitiesOf(rebuilders: readonly Known[]): string[] {
  const learned = rebuilders.filter(({ keys, from }) => keys.length > 0 && from !== 'configured')
  const sites = new Set(learned.map(({ url }) => siteOf(url)))
  const named = rebuilders.map(({ url, given, keys }) => {
    if (keys.length === 0) return []
    const site = siteOf(url)
    return [...keys.map((key) => Buffer.from(key).toString('hex')), given, ...(sites.has(site) ? [site] : [])]
  })
  const groups: Set<string>[] = []
  for (const names of named) {
    const near = groups.filter((group) => names.some((name) => group.has(name)))
    const joined = new Set([...names, ...near.flatMap((group) => [...group])])
    groups.splice(0, groups.length, ...groups.filter((group) => !near.includes(group)), joined)
  }
  const groupOf = (name: string): number => groups.findIndex((group) => group.has(name))
  return named.map(([name]) => (name === undefined ? 'no key' : `key ${groupOf(name)}`))
}

/**
 * What one operator has without effort: a host with its ports and paths, and all names below a domain. Two labels stand
 * for a domain, which joins too many rather than too few. On this machine every port is a program of its own.
 */
function siteOf(url: string): string {
  const { hostname, port, protocol } = new URL(url)
  if (isLoopback(hostname)) return `this machine, port ${port === '' ? protocol : port}`
  const isAddress = hostname.startsWith('[') || /^[\d.]+$/.test(hostname)
  return isAddress ? hostname : hostname.replace(/\.$/, '').split('.').slice(-2).join('.')
}

/** Whether a host name means this machine. */
export function isLoopback(hostname: string): boolean {
  return /^(localhost|127\.\d+\.\d+\.\d+|\[::1\])$/.test(hostname)
}

/** What is to know about voices that a threshold asks for. */
export function voiceProblems(rebuilders: readonly Known[], threshold: number): string[] {
  if (threshold < 2) return []
  const identities = identitiesOf(rebuilders)
  const voices = Map.groupBy(rebuilders, (_, index) => identities[index] ?? '')
  const joined = [...voices.values()]
    .filter((some) => new Set(some.map(({ given }) => given)).size > 1)
    .map((some) => `${some.map(({ url }) => url).join(' and ')} count as one rebuilder: ${whyOne(some)}`)
  const few =
    voices.size < threshold
      ? [`${threshold} distinct rebuilders are asked for, but there are only ${voices.size}`]
      : []
  const vouched = [...voices.values()].filter((some) => some.some(({ from }) => from === 'configured')).length
  const learned = rebuilders.filter(({ keys, from }) => keys.length > 0 && from !== 'configured')
  if (vouched >= threshold || learned.length === 0) return [...joined, ...few]
  const urls = learned.map(({ url }) => url).join(', ')
  const open = `nobody has vouched for the keys of ${urls}: that different people hold them is taken on trust; public_key in [[rebuilder]] of the configuration says which keys are theirs`
  return [...joined, ...few, open]
}

function whyOne(some: readonly Known[]): string {
  if (some.every(({ keys }) => keys.length === 0)) return 'they show no keys'
  const names = some.flatMap(({ keys }) => [...new Set(keys.map((key) => shortId(key)))])
  if (new Set(names).size < names.length) return 'they share a key'
  return 'they are at one site, and their keys are from there; public_key in [[rebuilder]] tells them apart'
}

/** The beginning of a key's name, enough to tell keys apart. */
export function shortId(key: Uint8Array): string {
  return keyidOf(key).slice(0, 16)
}

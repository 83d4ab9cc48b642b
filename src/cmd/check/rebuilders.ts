import { readFile } from 'node:fs/promises'
import * as v from 'valibot'
import { publicKeyFromPem } from '../../attestation.ts'
import { Complaint, during, withoutUsers } from '../../errors.ts'
import { checked } from '../../wire/schema.ts'
import type { Installed } from './installed.ts'

/** One server that is asked. */
export type Rebuilder = {
  /** Without a slash at its end. */
  url: string
  /** The address as it was given: servers that it stands for are one rebuilder's. */
  given: string
  /** Keys that the configuration gives it; empty: the one it had when we first met. */
  keys: readonly Uint8Array[]
  /** What it is asked for; empty: everything. */
  distributions: readonly string[]
  architectures: readonly string[]
}

const Entry = v.strictObject({
  url: v.string(),
  public_key: v.optional(v.union([v.string(), v.array(v.string())]), []),
  distributions: v.optional(v.array(v.string()), []),
  architectures: v.optional(v.array(v.string()), []),
})

/**
 * `[[rebuilder]]` of the configuration. `{architecture}` in an address stands for one server per architecture.
 * @param architectures those of the packages that are checked
 */
export async function configuredRebuilders(
  entries: readonly unknown[],
  architectures: readonly string[],
): Promise<Rebuilder[]> {
  const all: Rebuilder[] = []
  for (const [index, given] of entries.entries()) {
    const entry = checked(Entry, given, `[[rebuilder]] number ${index + 1} of the configuration`)
    const keys = await Promise.all([entry.public_key].flat().map((key) => keyOf(key, entry.url)))
    const { distributions, architectures: only } = entry
    const one = { url: entry.url, given: entry.url, keys, distributions, architectures: only }
    all.push(...expanded(one, architectures))
  }
  return all
}

/** The rebuilders of `--rebuilder URL`; those that the configuration knows keep what it says of them. */
export function namedRebuilders(
  urls: readonly string[],
  configured: readonly Rebuilder[],
  architectures: readonly string[],
): Rebuilder[] {
  return urls.flatMap((url) => {
    const one = { url, given: url, keys: [], distributions: [], architectures: [] }
    const named = expanded(one, architectures)
    return named.map((each) => configured.find((known) => known.url === each.url) ?? each)
  })
}

function expanded(one: Rebuilder, architectures: readonly string[]): Rebuilder[] {
  if (!one.url.includes('{architecture}')) return [{ ...one, url: addressOf(one.url) }]
  return architectures
    .filter((name) => one.architectures.length === 0 || one.architectures.includes(name))
    .map((name) => ({
      ...one,
      url: addressOf(one.url.replaceAll('{architecture}', encodeURIComponent(name))),
      architectures: [name],
    }))
}

/** An address as it is compared and kept: one server has one, whatever its letters and slashes. */
function addressOf(given: string): string {
  const isPlain = URL.canParse(given) && !/[\s?#]/.test(given)
  const url = isPlain ? new URL(given) : null
  if (url === null || !/^https?:$/.test(url.protocol) || url.username !== '' || url.password !== '') {
    throw new Complaint(
      `${given === '' ? 'an empty text' : withoutUsers(given)} is not an address of a rebuilder`,
      {
        hint: 'write it like https://rebuilder.example/amd64, without user, query or blanks',
        exitCode: 2,
      },
    )
  }
  return url.href.replace(/\/+$/, '')
}

/** A key as PEM, as the 64 hex digits of its bytes, or in a file as PEM. */
async function keyOf(given: string, url: string): Promise<Uint8Array> {
  return during(`reading the public key of ${url}`, async () => {
    if (/^[0-9a-f]{64}$/i.test(given)) return new Uint8Array(Buffer.from(given, 'hex'))
    if (given.includes('-----BEGIN')) return publicKeyFromPem(given)
    const pem = await readFile(given, 'utf8').catch((error: unknown) => {
      throw new Complaint(`${given} is neither a key nor a file with one`, { cause: error, exitCode: 2 })
    })
    return publicKeyFromPem(pem)
  })
}

/** Whether a rebuilder is asked for a package. */
export function isAsked(rebuilder: Rebuilder, one: Installed): boolean {
  const { distributions, architectures } = rebuilder
  const isOf = (names: readonly string[], name: string): boolean => names.length === 0 || names.includes(name)
  return isOf(distributions, one.distribution) && isOf(architectures, one.architecture)
}

import { lookup } from 'node:dns'
import { BlockList, isIP, type LookupFunction } from 'node:net'
import { Failure } from './failure.ts'

/** Whether a host is one that anybody may reach, or one inside the network of this machine. */
export type Reach = 'public' | 'private'

// IANA special-purpose address registries: what is not globally reachable.
const inside = new BlockList()
for (const [network, bits] of [
  ['0.0.0.0', 8],
  ['10.0.0.0', 8],
  ['100.64.0.0', 10],
  ['127.0.0.0', 8],
  ['169.254.0.0', 16],
  ['172.16.0.0', 12],
  ['192.0.0.0', 24],
  ['192.168.0.0', 16],
  ['198.18.0.0', 15],
  ['224.0.0.0', 3],
] as const) {
  inside.addSubnet(network, bits, 'ipv4')
}
for (const [network, bits] of [
  ['::', 127],
  ['64:ff9b:1::', 48],
  ['100::', 64],
  ['fc00::', 7],
  ['fe80::', 10],
  ['fec0::', 10],
  ['2002::', 16], // an IPv4 address is in there, of whatever reach
  ['ff00::', 8],
] as const) {
  inside.addSubnet(network, bits, 'ipv6')
}

/** @param address an IPv4 or IPv6 address as text */
export function reachOf(address: string): Reach {
  const family = isIP(address) === 6 ? 'ipv6' : 'ipv4'
  const translated = translatedBy(address)
  if (translated !== null) return reachOf(translated)
  return inside.check(address, family) ? 'private' : 'public' // BlockList looks into ::ffff:a.b.c.d itself
}

/** The IPv4 address behind one that a NAT64 gateway translates (RFC 6052): 64:ff9b::7f00:1 leads to 127.0.0.1. */
function translatedBy(address: string): string | null {
  const host = URL.canParse(`http://[${address}]/`) ? new URL(`http://[${address}]/`).hostname : ''
  const [, high = '0', low = '0'] = /^\[64:ff9b::(?:([0-9a-f]+):)?([0-9a-f]+)?\]$/.exec(host) ?? []
  if (!host.startsWith('[64:ff9b::')) return null
  const bytes = [high, low].flatMap((word) => [parseInt(word, 16) >> 8, parseInt(word, 16) & 255])
  return bytes.join('.')
}

/** The address in a URL's host when it is one and no name, else null. */
export function literalAddress(url: URL): string | null {
  const host = url.hostname.replace(/^\[|\]$/g, '')
  return isIP(host) === 0 ? null : host
}

/**
 * A name lookup for one request. After a public host, names that lead inside are refused:
 * a server on the internet must not send us to a machine that only we can reach.
 * @param onReach told once the host of the URL is known; not when a proxy looks it up
 */
export function guardedLookup(url: URL, from: Reach, onReach: (reach: Reach) => void): LookupFunction {
  return (hostname, options, callback) => {
    lookup(hostname, { ...options, all: true }, (error, found) => {
      if (error !== null) return answer(error, []) // of a name that is not known nothing is handed over at all
      if (hostname !== url.hostname) return answer(null, found)
      const allowed = from === 'public' ? found.filter(({ address }) => reachOf(address) === 'public') : found
      if (allowed.length === 0) return answer(refusal(url), [])
      onReach(allowed.every(({ address }) => reachOf(address) === 'private') ? 'private' : 'public')
      answer(null, allowed)
    })
    const answer = (error: Error | null, found: { address: string; family: number }[]): void => {
      const first = found[0]
      if (error !== null || first === undefined) callback(error, '', 0)
      else if (options.all === true) callback(null, found)
      else callback(null, first.address, first.family)
    }
  }
}

/** Why an address inside our network is not asked. */
export function refusal(url: URL): Failure {
  return new Failure(
    'input_unavailable',
    `a public server sends us to ${url.host}, which is inside our network`,
  )
}

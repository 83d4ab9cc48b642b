import { Agent as PlainAgent, request as requestPlain, type IncomingMessage } from 'node:http'
import { Agent as SecureAgent, request as requestSecure } from 'node:https'
import { proxiesOf } from '../proxy.ts'
import { guardedLookup, literalAddress, reachOf, refusal, type Reach } from './addresses.ts'
import { Failure } from './failure.ts'

const mostRedirects = 10
const idleMilliseconds = 60_000

const proxyEnv = proxiesOf(process.env)
const agents = {
  'http:': { request: requestPlain, agent: new PlainAgent({ proxyEnv }) },
  'https:': { request: requestSecure, agent: new SecureAgent({ proxyEnv }) },
}

/**
 * GET over http or https. Follows up to ten redirects, but none from a public host into our own network.
 * The body is handed over as it was sent; ends with an error after a minute without a byte.
 * @throws Failure where the address or a redirect is refused; errors of the network as they are
 */
export async function getFile(
  address: string,
  headers: Readonly<Record<string, string>>,
  signal: AbortSignal,
): Promise<IncomingMessage> {
  let url = webAddress(address)
  let reach: Reach = 'private' // nothing is forbidden for the first step: the job itself may name a local mirror
  for (let hops = 0; hops <= mostRedirects; hops++) {
    const step = await oneRequest(url, reach, headers, signal)
    const target = redirectOf(step.response)
    if (target === null) return step.response
    step.response.destroy()
    url = webAddress(new URL(target, url).href)
    reach = step.reach
  }
  throw new Failure('input_unavailable', `${address} redirects more than ${mostRedirects} times`)
}

/** @throws Failure for what is no http or https address */
export function webAddress(address: string): URL {
  const url = URL.canParse(address) ? new URL(address) : null
  if (url?.protocol === 'http:' || url?.protocol === 'https:') return url
  throw new Failure('input_unavailable', `${address} is not an http or https address`)
}

function redirectOf({ statusCode = 0, headers }: IncomingMessage): string | null {
  return [301, 302, 303, 307, 308].includes(statusCode) ? (headers.location ?? null) : null
}

async function oneRequest(
  url: URL,
  from: Reach,
  headers: Readonly<Record<string, string>>,
  signal: AbortSignal,
): Promise<{ response: IncomingMessage; reach: Reach }> {
  const literal = literalAddress(url)
  let reach: Reach = literal === null ? 'public' : reachOf(literal) // a name that a proxy looks up counts as public
  if (from === 'public' && literal !== null && reach === 'private') throw refusal(url)
  const lookup = guardedLookup(url, from, (found) => (reach = found))
  const { request, agent } = agents[url.protocol === 'https:' ? 'https:' : 'http:']
  const response = await new Promise<IncomingMessage>((resolve, reject) => {
    const asked = request(
      url,
      { agent, lookup, signal, headers: { 'user-agent': 'rebuilderd', ...headers } },
      resolve,
    )
    asked.setTimeout(idleMilliseconds, () =>
      asked.destroy(new Error(`${url.host} has been silent for a minute`)),
    )
    asked.on('error', reject)
    asked.end()
  })
  return { response, reach }
}

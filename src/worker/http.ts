import { Agent as PlainAgent, request as requestPlain, type IncomingMessage } from 'node:http'
import { Agent as SecureAgent, request as requestSecure } from 'node:https'
import { Socket } from 'node:net'
import { proxiesOf } from '../proxy.ts'
import { redirectStatuses } from '../request.ts'
import { guardedLookup, literalAddress, reachOf, refusal, type Reach } from './addresses.ts'
import { Failure } from './failure.ts'

const mostRedirects = 10
const idleMilliseconds = 60_000

const proxyEnv = proxiesOf(process.env)
/** Connections that wait for another request so long are given up: most servers do so a second later. */
const keptMilliseconds = 4000

function keptBriefly<Agent extends PlainAgent>(agent: Agent): Agent {
  const keep = agent.keepSocketAlive.bind(agent)
  agent.keepSocketAlive = (socket) => {
    const isKept: unknown = keep(socket)
    if (socket instanceof Socket) socket.setTimeout(keptMilliseconds) // the next request sets its own
    return isKept
  }
  return agent
}

/**
 * Connections are kept for first steps only: where a public server sends us, each name has to be looked up. A kept one
 * leads where its name led when it was made.
 */
const agents = {
  'http:': {
    request: requestPlain,
    kept: keptBriefly(new PlainAgent({ proxyEnv, keepAlive: true })),
    once: new PlainAgent({ proxyEnv }),
  },
  'https:': {
    request: requestSecure,
    kept: keptBriefly(new SecureAgent({ proxyEnv, keepAlive: true })),
    once: new SecureAgent({ proxyEnv }),
  },
}
const reaches = new WeakMap<Socket, Reach>()

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
  return redirectStatuses.includes(statusCode) ? (headers.location ?? null) : null
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
  const { request, kept, once } = agents[url.protocol === 'https:' ? 'https:' : 'http:']
  const agent = from === 'public' ? once : kept
  let isReused = false
  const response = await new Promise<IncomingMessage>((resolve, reject) => {
    const asked = request(
      url,
      { agent, lookup, signal, headers: { 'user-agent': 'rebuilderd', ...headers } },
      (given) => {
        isReused = asked.reusedSocket
        resolve(given)
      },
    )
    asked.setTimeout(idleMilliseconds, () =>
      asked.destroy(new Error(`${url.host} has been silent for a minute`)),
    )
    asked.on('error', reject)
    asked.end()
  })
  if (isReused) reach = reaches.get(response.socket) ?? reach
  else reaches.set(response.socket, reach)
  return { response, reach }
}

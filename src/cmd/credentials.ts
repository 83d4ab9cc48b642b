import { readFile, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { openClient, type Client } from '../client.ts'
import { isTable, type ServerSettings } from '../config.ts'
import { Complaint, during } from '../errors.ts'
import type { Context } from './command.ts'
import {
  canRead,
  chooseServer,
  folderOf,
  localServer,
  serverOptions,
  type ConfigFile,
  type Environment,
  type ServerOptions,
} from './server-choice.ts'

export { chooseServer, folderOf, serverOptions, type ServerOptions }

/** A client for requests that anyone may make. */
export async function openPublicClient(options: ServerOptions, context: Context): Promise<Client> {
  const { endpoint } = await chooseServer(options, context.environment)
  return openClient({ base: endpoint, signal: context.signal })
}

/** A client for what anyone may ask and administrators are told more about: it knows the cookie where there is one to read. */
export async function openKnownClient(options: ServerOptions, context: Context): Promise<Client> {
  const { endpoint, files } = await chooseServer(options, context.environment)
  const found = findCookie(endpoint, files, options, context.environment)
  const cookie = await (options.cookieFile === undefined ? found.catch(() => null) : found)
  return openClient({ base: endpoint, signal: context.signal, ...(cookie === null ? {} : { cookie }) })
}

/**
 * A client that may change things: it knows the cookie.
 * @param timeout milliseconds that a request may take
 * @throws Complaint where no cookie was given for this server
 */
export async function openAdminClient(
  options: ServerOptions,
  context: Context,
  timeout?: number,
): Promise<Client> {
  const { endpoint, files } = await chooseServer(options, context.environment)
  const cookie = await findCookie(endpoint, files, options, context.environment)
  if (cookie === null) throw noCookie(endpoint, context.environment)
  return openClient({
    base: endpoint,
    cookie,
    signal: context.signal,
    ...(timeout === undefined ? {} : { timeout }),
  })
}

/**
 * The cookie for one server. A secret goes only to the server it was given for: cookies of the local server's
 * files only to this machine, `[auth] cookie` only to the server that the same configuration names.
 */
export async function findCookie(
  endpoint: string,
  files: readonly ConfigFile[],
  options: Pick<ServerOptions, 'endpoint' | 'cookieFile'>,
  environment: Environment,
): Promise<string | null> {
  if (options.cookieFile !== undefined) return readCookie(options.cookieFile)
  const byStrength = [...files].reverse()
  for (const { settings, path } of byStrength) {
    const cookie = cookieOfEndpoint(settings, endpoint, path)
    if (cookie !== null) return cookie
  }
  const isChosen =
    options.endpoint === undefined || sameServer(endpoint, files.at(-1)?.endpoint ?? localServer)
  const path = environment['REBUILDERD_COOKIE_PATH'] ?? ''
  if (path !== '' && (isChosen || isLoopback(endpoint))) return readCookie(path)
  for (const { settings, endpoint: meant } of byStrength) {
    if (settings['auth.cookie'] !== null && sameServer(meant, endpoint)) return settings['auth.cookie']
  }
  return isLoopback(endpoint) && isChosen ? cookieOfThisMachine(environment) : null
}

/** `[endpoints."https://rebuilder.example"] cookie = "…"` */
function cookieOfEndpoint(settings: ServerSettings, endpoint: string, path: string): string | null {
  for (const [address, entry] of Object.entries(settings.endpoints)) {
    if (!sameServer(address, endpoint)) continue
    const cookie = isTable(entry) ? entry['cookie'] : undefined
    if (typeof cookie === 'string') return cookie
    throw new Complaint(`${path}: endpoints."${address}" needs a cookie in quotes`, { exitCode: 2 })
  }
  return null
}

/**
 * The cookie that the configuration gives a server of this machine, from where ctl finds it as well: the file that is
 * named, else that of the user, else that of the system, unless they speak of a server elsewhere.
 */
export async function configuredCookie(
  config: string | undefined,
  environment: Environment,
): Promise<string | null> {
  const { files } = await chooseServer({ endpoint: undefined, config }, environment)
  const own = files.findLast(
    ({ path, settings, endpoint }) =>
      settings['auth.cookie'] !== null && (path === config || isLoopback(endpoint)),
  )
  return own?.settings['auth.cookie'] ?? null
}

/** The cookie that an older server left for this user, or null. */
export async function leftCookie(environment: Environment): Promise<string | null> {
  const path = join(folderOf(environment, 'XDG_DATA_HOME', '.local/share'), 'rebuilderd-auth-cookie')
  return (await canRead(path)) ? readCookie(path) : null
}

/** Where a server of this machine leaves its cookie. */
async function cookieOfThisMachine(environment: Environment): Promise<string | null> {
  const places = [
    '/var/lib/rebuilderd/auth-cookie',
    join(folderOf(environment, 'XDG_DATA_HOME', '.local/share'), 'rebuilderd-auth-cookie'),
    join(folderOf(environment, 'XDG_STATE_HOME', '.local/state'), 'rebuilderd/auth-cookie'),
  ]
  for (const place of places) if (await canRead(place)) return readCookie(place)
  return null
}

async function readCookie(path: string): Promise<string> {
  return during(`reading the cookie of ${path}`, async () => {
    const { size } = await stat(path)
    const cookie = size > 4096 ? '' : (await readFile(path, 'utf8')).trim()
    if (/^[\x21-\x7e]+$/.test(cookie)) return cookie
    throw new Complaint('this file holds no cookie', { hint: 'a cookie is one word of letters and digits' })
  })
}

/** Whether two addresses mean one server: scheme, host, port and path are the same. */
export function sameServer(one: string, other: string): boolean {
  if (!URL.canParse(one) || !URL.canParse(other)) return one === other
  const plain = (address: string): string => {
    const { origin, pathname } = new URL(address)
    return origin + pathname.replace(/\/+$/, '')
  }
  return plain(one) === plain(other)
}

function isLoopback(endpoint: string): boolean {
  if (!URL.canParse(endpoint)) return false
  const { hostname } = new URL(endpoint)
  return hostname === 'localhost' || hostname === '[::1]' || /^127(\.\d{1,3}){3}$/.test(hostname)
}

function noCookie(endpoint: string, environment: Environment): Complaint {
  const withheld =
    (environment['REBUILDERD_COOKIE_PATH'] ?? '') === ''
      ? ''
      : '; that of REBUILDERD_COOKIE_PATH goes only to the configured server and to this machine'
  return new Complaint(`no cookie is known for ${endpoint}${withheld}`, {
    hint: `--cookie-file FILE names it, or [endpoints."${endpoint}"] cookie = "…" in the configuration`,
  })
}

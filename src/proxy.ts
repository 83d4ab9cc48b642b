/** Proxies, as the environment names them. */
import http from 'node:http'

type Environment = Readonly<Record<string, string | undefined>>

/** Servers of this machine are never asked through another one. */
const thisMachine = ['localhost', '127.0.0.1', '[::1]', '::1']

/**
 * What the environment says about proxies, in the words that Node knows: ALL_PROXY is for what HTTP_PROXY and
 * HTTPS_PROXY leave open. Small letters win, as with curl; undefined where no proxy is named.
 */
export function proxiesOf(environment: Environment): Record<string, string> | undefined {
  const find = (name: string): string | undefined =>
    [environment[name], environment[name.toUpperCase()]].find((value) => value !== undefined && value !== '')
  const all = find('all_proxy')
  const [plain, secure] = [find('http_proxy') ?? all, find('https_proxy') ?? all]
  if (plain === undefined && secure === undefined) return undefined
  return {
    ...(plain === undefined ? {} : { http_proxy: plain }),
    ...(secure === undefined ? {} : { https_proxy: secure }),
    no_proxy: [find('no_proxy'), ...thisMachine].filter((item) => item !== undefined).join(','),
  }
}

let isFollowed = false

/** Node's fetch minds the proxies of the environment only when told to. */
export function followEnvironmentProxies(): void {
  if (isFollowed) return
  isFollowed = true
  const proxies = proxiesOf(process.env)
  if (proxies !== undefined) http.setGlobalProxyFromEnv(proxies)
}

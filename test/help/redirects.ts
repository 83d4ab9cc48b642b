/** Public servers that send us elsewhere, as a build script sees them through a proxy. */
import { readFile } from 'node:fs/promises'
import { basename, join } from 'node:path'
import type { TestContext } from 'node:test'
import { aServer } from './files.ts'

const base = 'http://mirror.example'
const leads: Readonly<Record<string, string>> = {
  '/followed/': '/again/',
  '/again/': 'http://cdn.mirror.example/pool/',
  '/inside/': 'http://192.168.7.7/pool/',
  '/here/': 'http://[::1]/pool/',
  '/odd/': 'http://2130706433/pool/',
}

/** Where a public server leads in the end; null: to where nobody may follow. */
export const redirections = [
  {
    what: 'elsewhere on it, and then to another public server, is followed',
    from: `${base}/followed/`,
    leadsTo: 'http://cdn.mirror.example/pool/',
  },
  { what: 'a machine inside our network is not followed', from: `${base}/inside/`, leadsTo: null },
  { what: 'this machine, by an IPv6 address, is not followed', from: `${base}/here/`, leadsTo: null },
  { what: 'this machine, by an odd address, is not followed', from: `${base}/odd/`, leadsTo: null },
] as const

/**
 * Sets a proxy that knows where each address leads, for this test; where nowhere it serves the files of the folder.
 * @returns the addresses that were asked for, as they come
 */
export async function behindAProxy(t: TestContext, folder: string): Promise<string[]> {
  const asked: string[] = []
  const proxy = await aServer(t, async (request, response) => {
    const url = new URL(request.url ?? '')
    const name = basename(url.pathname)
    asked.push(url.href)
    const target = leads[url.pathname.slice(0, -name.length)]
    if (target !== undefined) return void response.writeHead(302, { location: target + name }).end()
    const bytes = await readFile(join(folder, decodeURIComponent(name))).catch(() => null)
    response.writeHead(bytes === null ? 404 : 200).end(bytes)
  })
  const old = process.env['http_proxy']
  t.after(() => (old === undefined ? delete process.env['http_proxy'] : (process.env['http_proxy'] = old)))
  process.env['http_proxy'] = proxy
  return asked
}

/** Site maps for search engines (sitemaps.org/protocol.html), where the operator wants to be found. */
import type { Context, Hono } from 'hono'
import { found, notFound } from './refusal.ts'
import { bytesReply } from './replies.ts'
import type { Service } from './service.ts'
import { distributionNames, releaseNames } from './store/origins.ts'
import { listedNames, releaseNamed } from './store/web-release.ts'
import { sourcePath } from './web/changes.ts'
import { releaseSegment, segments } from './web/html.ts'
import type { Site } from './web/layout.ts'

/** The most addresses that a map may have. */
const longestMap = 50_000

/** Mounts a map of maps, one of the pages about everything, and one for each release with its source packages. */
export function mountSitemap(app: Hono, { db }: Service, siteOf: (c: Context) => Site): void {
  const releases = async (): Promise<[string, string][]> => {
    const all: [string, string][] = []
    for (const distribution of await distributionNames(db, true))
      for (const release of await releaseNames(db, distribution, true)) all.push([distribution, release])
    return all
  }
  app.get('/sitemap.xml', async (c) => {
    const maps = (await releases()).map(
      ([distribution, release]) => `/sitemap${pathOf(distribution, release)}.xml`,
    )
    return mapReply(c, siteOf(c), ['sitemapindex', 'sitemap'], ['/sitemap/pages.xml', ...maps])
  })
  app.get('/sitemap/pages.xml', async (c) => {
    const paths = (await releases()).map(([distribution, release]) => pathOf(distribution, release))
    return mapReply(c, siteOf(c), ['urlset', 'url'], ['/', '/reasons', '/about', ...paths])
  })
  app.get('/sitemap/:distribution/:file', async (c) => {
    const { distribution, file } = c.req.param()
    if (!file.endsWith('.xml')) throw notFound()
    const segment = file.slice(0, -'.xml'.length)
    const { id, name } = found(await releaseNamed(db, distribution, segment === '-' ? '' : segment))
    const names = await listedNames(db, id, longestMap)
    const paths = names.map((source) => sourcePath(distribution, name, source))
    return mapReply(c, siteOf(c), ['urlset', 'url'], paths)
  })
}

function pathOf(distribution: string, release: string): string {
  return segments(distribution, releaseSegment(release))
}

function mapReply(
  c: Context,
  { address }: Site,
  [whole, part]: readonly [string, string],
  paths: readonly string[],
): Promise<Response> {
  const items = paths.map((path) => `<${part}><loc>${escaped(address + path)}</loc></${part}>`)
  const text = `<?xml version="1.0" encoding="UTF-8"?>\n<${whole} xmlns="http://www.sitemaps.org/schemas/sitemap/0.9">\n${items.join('\n')}\n</${whole}>\n`
  const headers = {
    'content-type': 'application/xml; charset=utf-8',
    'cache-control': 'public, max-age=3600',
  }
  return bytesReply(c, new TextEncoder().encode(text), headers)
}

/** Addresses are percent-encoded; what is left for XML are these. */
function escaped(address: string): string {
  return address.replaceAll('&', '&amp;').replaceAll("'", '&apos;')
}

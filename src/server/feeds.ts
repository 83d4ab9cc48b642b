/** Atom feeds of changes of verdicts, and badges of packages. */
import type { Context, Hono } from 'hono'
import { bytesReply } from './replies.ts'
import { found, notFound } from './refusal.ts'
import { revisionOf } from './revision.ts'
import type { Service } from './service.ts'
import { latestChanges, type ChangeFilter } from './store/web.ts'
import { badgeVerdict } from './store/web-package.ts'
import { releaseNamed } from './store/web-release.ts'
import { badgeOf, badgeSvg, shieldsJson } from './web/badge.ts'
import { originWords, sourcePath } from './web/changes.ts'
import { atomFeed } from './web/feed.ts'
import { queryOf, releaseSegment, segments } from './web/html.ts'
import type { Site } from './web/layout.ts'

const entriesOfFeed = 50
const atom = 'application/atom+xml; charset=utf-8'

/** Mounts the Atom feeds and the badges. */
export function mountFeeds(app: Hono, service: Service, siteOf: (c: Context) => Site): void {
  const { db } = service
  const { revision } = revisionOf(service, 'packages')
  type Asked = { what: string; path: string; page: string; filter: ChangeFilter }
  const feed = async (c: Context, asked: () => Promise<Asked>): Promise<Response> => {
    const { tag } = await revision()
    if (c.req.header('if-none-match') === tag)
      return new Response(null, { status: 304, headers: { etag: tag } })
    const { filter, ...words } = await asked()
    const changes = await latestChanges(db, filter, entriesOfFeed)
    return bytesReply(c, new TextEncoder().encode(atomFeed(siteOf(c), { ...words, changes })), {
      ...headersOf(atom),
      etag: tag,
    })
  }
  app.get('/feed.atom', (c) =>
    feed(c, async () => {
      const maintainer = c.req.query('maintainer')?.slice(0, 1024)
      const what = maintainer === undefined ? 'all packages' : `packages of ${maintainer}`
      const filter = maintainer === undefined ? {} : { maintainer }
      return { what, path: `/feed.atom${queryOf({ maintainer })}`, page: '/', filter }
    }),
  )
  app.get('/feed/:distribution/:file', (c) =>
    feed(c, async () => {
      const [distribution, release] = [
        c.req.param('distribution'),
        releaseOf(withoutEnd(c.req.param('file'), '.atom')),
      ]
      const { id } = found(await releaseNamed(db, distribution, release))
      const page = segments(distribution, releaseSegment(release))
      return {
        what: originWords(distribution, release),
        path: `/feed${page}.atom`,
        page,
        filter: { releaseIds: [id] },
      }
    }),
  )
  app.get('/feed/:distribution/:release/:file', (c) =>
    feed(c, async () => {
      const [distribution, release] = [c.req.param('distribution'), releaseOf(c.req.param('release'))]
      const name = withoutEnd(c.req.param('file'), '.atom')
      const { id } = found(await releaseNamed(db, distribution, release))
      const page = sourcePath(distribution, release, name)
      const what = `${name} in ${originWords(distribution, release)}`
      return { what, path: `/feed${page}.atom`, page, filter: { releaseIds: [id], name } }
    }),
  )
  app.get('/badge/:distribution/:release/:file', async (c) => {
    const { tag } = await revision()
    const kept = { etag: tag, 'cache-control': 'public, max-age=300' }
    if (c.req.header('if-none-match') === tag) return new Response(null, { status: 304, headers: kept })
    const file = c.req.param('file')
    const isJson = file.endsWith('.json')
    const name = withoutEnd(file, isJson ? '.json' : '.svg')
    const release = await releaseNamed(db, c.req.param('distribution'), releaseOf(c.req.param('release')))
    const badge = badgeOf(release === null ? null : await badgeVerdict(db, release.id, name))
    const text = isJson ? shieldsJson(badge) : badgeSvg(badge)
    const headers = {
      ...headersOf(isJson ? 'application/json' : 'image/svg+xml'),
      ...kept,
    }
    return bytesReply(c, new TextEncoder().encode(text), headers)
  })
}

function headersOf(type: string): Record<string, string> {
  return {
    'content-type': type,
    'cache-control': 'no-cache',
    'x-content-type-options': 'nosniff',
    'content-security-policy': "default-src 'none'; sandbox",
  }
}

function releaseOf(segment: string): string {
  return segment === '-' ? '' : segment
}

function withoutEnd(text: string, end: string): string {
  if (!text.endsWith(end)) throw notFound()
  return text.slice(0, -end.length)
}

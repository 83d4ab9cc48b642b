/** Pages for people, mounted beside the API: what is asked, whether it changed, the bytes. */
import { createHash } from 'node:crypto'
import type { Context, Hono } from 'hono'
import { keyidOf, publicKeyToPem } from '../attestation.ts'
import { asset } from '../assets.ts'
import { version } from '../version.ts'
import { turnWords } from '../wire/history.ts'
import type { Again } from './again.ts'
import { mountFeeds } from './feeds.ts'
import { incomingOf } from './incoming.ts'
import { addressOf, pageKeeper, parameterOf, type GivenPage, type PageReply } from './pages-kept.ts'
import { notFound } from './refusal.ts'
import { revisionOf, wordsOf } from './revision.ts'
import { errorReply } from './route.ts'
import type { Service, WebOptions } from './service.ts'
import { distributionNames, releaseNames } from './store/origins.ts'
import { generationsAndFarm } from './store/web.ts'
import { mountSitemap } from './sitemap.ts'
import { readUntilChange } from './unchanged.ts'
import {
  changesView,
  homeView,
  queueView,
  reasonsView,
  searchView,
  workersView,
  type ChangesQuery,
} from './views.ts'
import {
  buildView,
  diffView,
  jobView,
  logView,
  releaseView,
  sorts,
  sourceView,
  type ReleaseQuery,
  type Sort,
} from './views-package.ts'
import { aboutPage, type AboutView } from './web/about.ts'
import { buildPage, diffPage, jobPage, logPage } from './web/build.ts'
import { homePage } from './web/home.ts'
import { html } from './web/html.ts'
import { documentOf, type Page, type Site } from './web/layout.ts'
import { queuePage, reasonsPage, searchPage, workersPage } from './web/queue.ts'
import { reasonGiven, releasePage } from './web/release.ts'
import { sourcePage } from './web/source.ts'
import { changesPage } from './web/turned.ts'

/** Files of ours that pages load. */
const files = {
  'style.css': 'text/css; charset=utf-8',
  'live.js': 'text/javascript; charset=utf-8',
  'favicon.svg': 'image/svg+xml',
} as const

/** Nothing is loaded from elsewhere, nothing inline runs (w3.org/TR/CSP3). */
const policy = [
  "default-src 'none'",
  "style-src 'self'",
  "script-src 'self'",
  "img-src 'self' data:",
  "connect-src 'self'",
  "frame-src 'self'",
  "form-action 'self'",
  "base-uri 'none'",
  "frame-ancestors 'none'",
].join('; ')

const securityHeaders = {
  'content-security-policy': policy,
  'x-content-type-options': 'nosniff',
  'referrer-policy': 'no-referrer',
  'cross-origin-opener-policy': 'same-origin',
}

/** Builds the place that pages are served from, for one request. */
type SiteOf = (c: Context) => Site

/**
 * Mounts all pages, feeds and badges.
 * @param again keeps the replies of those that are the same until something changes
 */
export function mountPages(app: Hono, service: Service, again?: Again): void {
  if (service.web === null) return
  const siteOf = siteOfWeb(service, service.web)
  mountFiles(app, siteOf, service.web.sitemap)
  mountFeeds(app, service, siteOf)
  if (service.web.sitemap) mountSitemap(app, service, siteOf)
  const keep = pageKeeper(200)
  const page: PageMount = (path, parts, make, asked = []) => {
    const tagOf = parts === null ? null : taggerOf(service, parts)
    app.get(path, async (c, next) => {
      if (/^\/api(\/|$)/.test(c.req.path)) return next()
      const site = siteOf(c)
      const render = async (): Promise<PageReply | Response> => {
        const made = await make(c)
        return made instanceof Response
          ? made
          : { text: documentOf(site, made), type: 'text/html; charset=utf-8' }
      }
      try {
        const tag = (await tagOf?.()) ?? null
        const address = site.address + addressOf(c, asked)
        const incoming = incomingOf(c)
        if (again === undefined || incoming === undefined || tagOf === null)
          return withHeaders(await keep(c, address, tag, render))
        const told = ({ headers, bytes }: GivenPage): void =>
          again.remember(incoming, {
            headers: { ...headers, ...securityHeaders, 'access-control-allow-origin': '*' },
            bytes,
            isCurrent: async () => (await tagOf()) === tag,
          })
        return withHeaders(await keep(c, address, tag, render, told))
      } catch (error) {
        return withHeaders(failurePage(site, error, errorReply(error, service.log, `GET ${c.req.path}`)))
      }
    })
  }
  mountOverviews(page, service, siteOf)
  mountPackagePages(page, service, siteOf)
  page('*', null, async () => {
    throw notFound()
  })
}

/** `farm`: how many workers there are; `workers` changes with every word of each of them. */
type Part = 'packages' | 'queue' | 'builds' | 'workers' | 'snapshots' | 'farm'

/** Milliseconds that a page about the farm stays the same where nothing happens: it tells of the last 24 hours. */
const farmTime = 10 * 60_000

/** Names what a page shows, as it is now. */
function taggerOf(service: Service, parts: readonly Part[]): () => Promise<string> {
  const counted = parts.filter((part) => part !== 'farm')
  const { revision } = revisionOf(service, ...counted)
  if (!parts.includes('farm')) return async () => `${(await revision()).tag.slice(3, -1)}-${seal}`
  const read = readUntilChange(service.db, () => generationsAndFarm(service.db, counted))
  return async () => {
    const { generations, farm } = await read()
    const period = Math.floor(service.now().getTime() / farmTime)
    return `${wordsOf(generations)}-${farm.online}.${farm.known}.${period.toString(36)}-${seal}`
  }
}

/** `asked`: the query parameters that the page knows; whatever else an address has changes nothing. */
type PageMount = (
  path: string,
  parts: readonly Part[] | null,
  make: (c: Context) => Promise<Page | Response>,
  asked?: readonly string[],
) => void

const overviewParts: readonly Part[] = ['packages', 'queue', 'farm', 'snapshots']

function mountOverviews(page: PageMount, service: Service, siteOf: SiteOf): void {
  const publicKey = publicKeyToPem(service.signingKey.publicKey)
  const keyHex = Buffer.from(service.signingKey.publicKey).toString('hex')
  page('/', overviewParts, async (c) => homePage(siteOf(c), await homeView(service)))
  page('/queue', ['packages', 'queue', 'farm'], async (c) => queuePage(siteOf(c), await queueView(service)))
  page('/workers', ['queue', 'workers', 'farm'], async (c) =>
    workersPage(siteOf(c), await workersView(service)),
  )
  page('/reasons', ['packages', 'snapshots'], async (c) => reasonsPage(siteOf(c), await reasonsView(service)))
  page(
    '/search',
    ['packages'],
    async (c) => searchPage(siteOf(c), await searchView(service, c.req.query('q') ?? '')),
    ['q'],
  )
  page(
    '/changes',
    ['packages'],
    async (c) => changesPage(siteOf(c), await changesView(service, changesGiven(c))),
    ['turn', 'of', 'maintainer', 'before'],
  )
  page('/about', ['packages'], async (c) => {
    const known: AboutView['known'] = []
    for (const distribution of await distributionNames(service.db, true))
      known.push({ distribution, releases: await releaseNames(service.db, distribution, true) })
    return aboutPage(siteOf(c), { publicKey, keyHex, schedule: service.schedule, known })
  })
  // The last one: other pages have names of one segment too.
  page('/:distribution', overviewParts, async (c) => {
    const distribution = given(c, 'distribution')
    const view = await homeView(service, distribution)
    if (view.releases.length === 0) throw notFound()
    return homePage(siteOf(c), view, distribution)
  })
}

function mountPackagePages(page: PageMount, service: Service, siteOf: SiteOf): void {
  page('/jobs/:id{\\d{1,10}}', null, async (c) => {
    const view = await jobView(service, Number(c.req.param('id')))
    if ('build' in view) return c.redirect(`${service.basePath}/builds/${view.build}`, 302)
    return jobPage(siteOf(c), view)
  })
  page('/builds/:id{\\d{1,10}}', ['builds'], async (c) =>
    buildPage(siteOf(c), await buildView(service, Number(c.req.param('id')))),
  )
  page(
    '/builds/:id{\\d{1,10}}/log',
    ['builds'],
    async (c) => logPage(siteOf(c), await logView(service, Number(c.req.param('id')), lineGiven(c))),
    ['from'],
  )
  page(
    '/builds/:id{\\d{1,10}}/diff/:artifact{\\d{1,10}}',
    ['builds'],
    async (c) =>
      diffPage(
        siteOf(c),
        await diffView(service, [Number(c.req.param('id')), Number(c.req.param('artifact')), lineGiven(c)]),
      ),
    ['from'],
  )
  page(
    '/:distribution/:release',
    ['packages'],
    async (c) =>
      releasePage(
        siteOf(c),
        await releaseView(service, given(c, 'distribution'), releaseGiven(c), queryGiven(c)),
      ),
    releaseParameters,
  )
  const source = async (c: Context): Promise<Page> => {
    const asked = [
      given(c, 'distribution'),
      releaseGiven(c),
      given(c, 'source'),
      c.req.param('version') ?? null,
    ] as const
    return sourcePage(siteOf(c), await sourceView(service, asked))
  }
  page('/:distribution/:release/:source', ['packages', 'queue', 'builds'], source)
  page('/:distribution/:release/:source/:version', ['packages', 'queue', 'builds'], source)
}

function given(c: Context, parameter: string): string {
  return c.req.param(parameter) ?? ''
}

/** `-` stands for packages of no release. */
function releaseGiven(c: Context): string {
  const release = given(c, 'release')
  return release === '-' ? '' : release
}

function lineGiven(c: Context): number {
  const text = c.req.query('from') ?? '1'
  return /^\d{1,9}$/.test(text) ? Math.max(1, Number(text)) : 1
}

const releaseParameters = [
  'status',
  'reason',
  'architecture',
  'component',
  'maintainer',
  'q',
  'sort',
  'after',
  'before',
] as const

function queryGiven(c: Context): ReleaseQuery {
  const text = (name: (typeof releaseParameters)[number]): string | undefined => parameterOf(c, name)
  const id = (name: 'after' | 'before'): number | undefined => {
    const value = text(name)
    return value !== undefined && /^\d{1,10}$/.test(value) ? Number(value) : undefined
  }
  const [status, sort, after] = [text('status'), text('sort') ?? 'name', id('after')]
  return {
    status: status !== undefined && ['GOOD', 'BAD', 'FAIL', 'UNKWN'].includes(status) ? status : undefined,
    reason: reasonGiven(text('reason')),
    architecture: text('architecture'),
    component: text('component'),
    maintainer: text('maintainer'),
    search: text('q'),
    sort: Object.hasOwn(sorts, sort) ? (sort as Sort) : 'name', // just looked up
    after,
    before: after === undefined ? id('before') : undefined,
  }
}

function changesGiven(c: Context): ChangesQuery {
  const before = parameterOf(c, 'before')
  const turnGiven = parameterOf(c, 'turn')
  return {
    turn: turnWords.find((turn) => turn === turnGiven),
    of: parameterOf(c, 'of'),
    maintainer: parameterOf(c, 'maintainer'),
    before: before !== undefined && /^\d{1,15}$/.test(before) ? Number(before) : undefined,
  }
}

/** A few bytes that change whenever the program or its look does. */
const seal = sealOf([version, ...Object.keys(files).map((name) => sealOf([asset(name)]))])

function sealOf(parts: readonly (string | Uint8Array)[]): string {
  const digest = createHash('sha256')
  for (const part of parts) digest.update(part)
  return digest.digest('base64url').slice(0, 10)
}

function siteOfWeb(service: Service, web: WebOptions): SiteOf {
  const addresses = new Map(Object.keys(files).map((name) => [name, sealOf([asset(name)])]))
  const file = (name: string): string => `${service.basePath}/assets/${name}?v=${addresses.get(name) ?? ''}`
  const { basePath: base } = service
  const keyid = keyidOf(service.signingKey.publicKey)
  return (c) => ({ ...web, base, address: web.publicUrl ?? originOf(c) + base, keyid, version, file })
}

/** Where the caller found us. A proxy may tell that it speaks https. */
function originOf(c: Context): string {
  const [, host = 'localhost'] = /^\w+:\/\/([\w.\-:[\]]{1,260})(?:[/?]|$)/.exec(c.req.url) ?? [] // has been parsed before
  const isSecure = c.req.header('x-forwarded-proto') === 'https'
  return `${isSecure ? 'https' : 'http'}://${host}`
}

/** @param isMapped there is a site map */
function mountFiles(app: Hono, siteOf: SiteOf, isMapped: boolean): void {
  app.get('/assets/:name', (c) => {
    const name = given(c, 'name')
    if (!Object.hasOwn(files, name)) throw notFound()
    const bytes = asset(name)
    return new Response(bytes as Uint8Array<ArrayBuffer>, {
      headers: {
        ...securityHeaders,
        'content-type': files[name as keyof typeof files], // just looked up
        'cache-control': 'public, max-age=31536000, immutable',
        'content-length': String(bytes.length),
      },
    })
  })
  app.get('/robots.txt', (c) => {
    const { address, base } = siteOf(c)
    const closed = ['/api/', '/builds/', '/search', '/jobs/'].map((path) => `Disallow: ${base}${path}\n`)
    const map = isMapped ? `Sitemap: ${address}/sitemap.xml\n` : ''
    const text = `User-agent: *\n${closed.join('')}${map}`
    const etag = `"${sealOf([text])}"`
    return c.req.header('if-none-match') === etag
      ? c.body(null, 304, { etag })
      : c.text(text, 200, { etag, 'cache-control': 'no-cache' })
  })
}

function withHeaders(reply: Response): Response {
  for (const [name, value] of Object.entries(securityHeaders)) reply.headers.set(name, value)
  return reply
}

/**
 * What went wrong, for people, as a page.
 * @param reply what a program would be told: its status, and why it may be asked again
 */
function failurePage(site: Site, error: unknown, reply: Response): Response {
  const { status } = reply
  const isOurs = status >= 500
  const title = status === 404 ? 'Not found' : isOurs ? 'Something is wrong here' : 'That cannot be shown'
  const words =
    status === 404
      ? 'There is nothing here. The package may have a new version, or the address may be wrong.'
      : isOurs
        ? 'The page could not be made. That is our fault, not yours: try again in a minute. The log of the server tells more.'
        : error instanceof Error
          ? error.message
          : ''
  const page: Page = {
    title,
    body: html`<h1>${title}</h1>
      <p>${words}</p>
      <p>Look for a package in the box above, or start from the <a href="${site.base}/">overview</a>.</p>`,
  }
  const again = reply.headers.get('retry-after')
  const document = documentOf(site, page)
  const headers = {
    'content-type': 'text/html; charset=utf-8',
    'content-length': String(Buffer.byteLength(document)),
    'cache-control': 'no-store',
  }
  return new Response(document, {
    status,
    headers: again === null ? headers : { ...headers, 'retry-after': again },
  })
}

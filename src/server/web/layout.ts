import type { WebOptions } from '../service.ts'
import { html, raw, shown, type Html } from './html.ts'

/** What every page needs to know of the place it is served from. */
export type Site = WebOptions & {
  /** `/amd64`: path before every link; the empty text: none. */
  base: string
  /** `https://rebuilder.example/amd64`: base of links that leave the page: feeds, commands, badges. */
  address: string
  /** What names this rebuilder wherever it is reached: the id of its key. */
  keyid: string
  version: string
  /** Address of a file of ours, with its hash, so that it may be kept for ever. */
  file: (name: string) => string
}

export type Page = {
  title: string
  /** The part of the navigation that is marked. */
  here?: 'home' | 'changes' | 'queue' | 'workers' | 'reasons' | 'about'
  /** From the top to this page; the last one is this page. */
  trail?: readonly { label: string; href?: string }[]
  /** The same facts for programs, without the base. */
  api?: string
  /** Addresses of what else it shows, by what they are called. */
  parts?: Readonly<Record<string, string>>
  /** Atom feed of this page's changes, without the base. */
  feed?: string
  /** Kinds of events after which the page looks again; none: it never does. */
  live?: string
  /** What the search box of the head holds. */
  search?: string
  body: Html
}

const places = [
  ['home', '/', 'Overview'],
  ['changes', '/changes', 'Changes'],
  ['queue', '/queue', 'Queue'],
  ['workers', '/workers', 'Workers'],
  ['reasons', '/reasons', 'Reasons'],
  ['about', '/about', 'About'],
] as const

/** A whole document. Nothing in it needs a script; those it has only keep it up to date. */
export function documentOf(site: Site, page: Page): string {
  const { base, file } = site
  const title = page.here === 'home' ? site.title : `${shown(page.title)} – ${site.title}`
  const feed = page.feed === undefined ? undefined : base + page.feed
  return html`<!doctype html>
    <html lang="en">
      <head>
        <meta charset="utf-8" />
        <meta name="viewport" content="width=device-width, initial-scale=1" />
        <meta name="color-scheme" content="light dark" />
        <title>${title}</title>
        <link rel="stylesheet" href="${file('style.css')}" />
        <link rel="icon" type="image/svg+xml" href="${file('favicon.svg')}" />
        ${feed === undefined ? '' : html`<link rel="alternate" type="application/atom+xml" title="${title}" href="${feed}" />`}
        <script src="${file('live.js')}" defer></script>
      </head>
      <body data-base="${base}" ${page.live === undefined ? '' : html`data-live="${page.live}"`}>
        <a class="skip" href="#main">To the content</a>
        ${headOf(site, page)}
        <main id="main" tabindex="-1">${page.body}</main>
        ${footOf(site, page, feed)}
      </body>
    </html>`.toString()
}

function headOf({ base, title, logo }: Site, { here, trail = [], search = '' }: Page): Html {
  const links = places.map(
    ([place, path, label]) =>
      html`<a href="${base}${path}" ${place === here ? raw('aria-current="page"') : ''}>${label}</a>`,
  )
  return html`<header class="head">
    <a class="brand" href="${base}/"
      >${logo === null ? '' : html`<img src="${logo}" alt="" height="24" />`}<span>${title}</span></a
    >
    <nav aria-label="Site">${links}</nav>
    <form class="find" role="search" action="${base}/search">
      <label class="unseen" for="find">Find a package</label>
      <input
        id="find"
        type="search"
        name="q"
        value="${search}"
        placeholder="Find a package"
        autocomplete="off"
      />
      <button>Find</button>
    </form>
    ${trail.length === 0 ? '' : trailOf(base, trail)}
  </header>`
}

function trailOf(base: string, trail: NonNullable<Page['trail']>): Html {
  return html`<nav class="trail" aria-label="Where you are">
    <ol>
      ${trail.map(({ label, href }) =>
        href === undefined
          ? html`<li>
              <span aria-current="page"><bdi>${shown(label, 120)}</bdi></span>
            </li>`
          : html`<li>
              <a href="${base}${href}"><bdi>${shown(label, 120)}</bdi></a>
            </li>`,
      )}
    </ol>
  </nav>`
}

function footOf(
  { base, version, link, title }: Site,
  { api, parts = {} }: Page,
  feed: string | undefined,
): Html {
  return html`<footer class="foot">
    <p>
      ${api === undefined ? '' : html`<a href="${base}${api}">This page as JSON</a> · `}
      ${Object.entries(parts).map(([label, address]) => html`<a href="${base}${address}">${label}</a> · `)}
      ${feed === undefined ? '' : html`<a href="${feed}">Feed of changes</a> · `}
      <a href="${base}/api/v1/openapi.json">API</a> · all times are UTC unless they say otherwise
    </p>
    <p>${link === null ? '' : html`<a href="${link}">Who runs ${title}</a> · `} rebuilderd ${version}</p>
  </footer>`
}

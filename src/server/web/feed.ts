import { createHash } from 'node:crypto'
import type { ChangeRow } from '../store/web.ts'
import { originWords, sourcePath } from './changes.ts'
import { html, raw, shown, type Html } from './html.ts'
import type { Site } from './layout.ts'

type Feed = { what: string; path: string; page: string; changes: readonly ChangeRow[] }

/** An Atom feed of changes of verdicts (RFC 4287). */
export function atomFeed(site: Site, { what, path, page, changes }: Feed): string {
  const { address, title } = site
  const updated = changes[0]?.at ?? '1970-01-01T00:00:00'
  const feed = html`<feed xmlns="http://www.w3.org/2005/Atom">
    <title>${title}: verdicts of ${shown(what)}</title>
    <id>${lastingId(site, path)}</id>
    <link rel="self" type="application/atom+xml" href="${address}${path}" />
    <link rel="alternate" type="text/html" href="${address}${page}" />
    <updated>${updated.slice(0, 19)}Z</updated>
    <author><name>${title}</name></author>
    ${changes.map((change) => entryOf(site, change))}
  </feed> `
  return `${raw('<?xml version="1.0" encoding="utf-8"?>').toString()}\n${feed.toString()}`
}

/**
 * A name that stays the same wherever the server is reached, and after it has moved: a UUID (RFC 9562 section 5.8)
 * of its key and what is named.
 */
function lastingId({ keyid }: Site, what: string): string {
  const digest = createHash('sha256').update(`${keyid}\n${what}`).digest()
  digest[6] = (digest.readUInt8(6) & 0x0f) | 0x80
  digest[8] = (digest.readUInt8(8) & 0x3f) | 0x80
  const hex = digest.toString('hex', 0, 16)
  return `urn:uuid:${hex.replace(/^(.{8})(.{4})(.{4})(.{4})/, '$1-$2-$3-$4-')}`
}

function entryOf(site: Site, change: ChangeRow): Html {
  const { distribution, release, name, version, architecture, status, before, reason } = change
  const words = `${shown(name)} ${shown(version)} (${shown(architecture)}): ${before === null ? '' : `${before} → `}${status}`
  return html`<entry>
    <title>${words}</title>
    <id>${lastingId(site, `build ${change.build_id} decided ${change.at}`)}</id>
    <link
      rel="alternate"
      type="text/html"
      href="${site.address}${sourcePath(distribution, release, name, version)}"
    />
    <link rel="related" type="text/html" href="${site.address}/builds/${change.build_id}" />
    <updated>${change.at.slice(0, 19)}Z</updated>
    <category term="${status}" />
    <summary>
      ${shown(originWords(distribution, release))}:
      ${words}${reason === null ? '' : `, ${reason.replaceAll('_', ' ')}`}
    </summary>
  </entry> `
}

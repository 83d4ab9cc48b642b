import type { ChangeRow } from '../store/web.ts'
import { originWords, sourcePath } from './changes.ts'
import { html, raw, shown, type Html } from './html.ts'
import type { Site } from './layout.ts'

/** An Atom feed of changes of verdicts (RFC 4287). */
export function atomFeed(
  { origin, base, title }: Site,
  { what, path, page, changes }: { what: string; path: string; page: string; changes: readonly ChangeRow[] },
): string {
  const address = `${origin}${base}`
  const updated = changes[0]?.at ?? '1970-01-01T00:00:00'
  const feed = html`<feed xmlns="http://www.w3.org/2005/Atom">
    <title>${title}: verdicts of ${shown(what)}</title>
    <id>${address}${path}</id>
    <link rel="self" type="application/atom+xml" href="${address}${path}" />
    <link rel="alternate" type="text/html" href="${address}${page}" />
    <updated>${updated.slice(0, 19)}Z</updated>
    <author><name>${title}</name></author>
    ${changes.map((change) => entryOf(address, change))}
  </feed> `
  return `${raw('<?xml version="1.0" encoding="utf-8"?>').toString()}\n${feed.toString()}`
}

function entryOf(address: string, change: ChangeRow): Html {
  const { distribution, release, name, version, architecture, status, before, reason } = change
  const words = `${shown(name)} ${shown(version)} (${shown(architecture)}): ${before === null ? '' : `${before} → `}${status}`
  return html`<entry>
    <title>${words}</title>
    <id>${address}/builds/${change.build_id}</id>
    <link rel="alternate" type="text/html" href="${address}${sourcePath(distribution, release, name)}" />
    <updated>${change.at.slice(0, 19)}Z</updated>
    <category term="${status}" />
    <summary>
      ${shown(originWords(distribution, release))}:
      ${words}${reason === null ? '' : `, ${reason.replaceAll('_', ' ')}`}
    </summary>
  </entry> `
}

/** How callers are told that what they have is what there is: ETag, Last-Modified and 304 (RFC 9110 sections 8.8 and 13). */
import { createHash } from 'node:crypto'
import type { Context } from 'hono'
import type { Database } from './store/database.ts'
import { generationsOf, type Generation } from './store/generations.ts'
import { readUntilChange } from './unchanged.ts'

/** What a reply depends on, as it was when it was asked for. */
export type Revision = {
  tag: string
  /** For Last-Modified, in whole seconds. */
  modified: Date
  /** Nothing that is told apart from `modified` by a date only can come after it. */
  isSettled: boolean
}

/** The parts of the data that count their changes. */
const parts = ['builds', 'packages', 'queue', 'scopes', 'snapshots', 'syncs', 'workers'] as const

/** One reading of all parts serves everybody who asks a database until something changes. */
const readers = new WeakMap<Database, () => Promise<Generation[]>>()

function generationsNow(db: Database): Promise<Generation[]> {
  const read = readers.get(db) ?? readUntilChange(db, () => generationsOf(db, parts))
  readers.set(db, read)
  return read()
}

/** Tells the revision of the named parts of the data. */
export function revisionOf(
  { db, now }: { db: Database; now: () => Date },
  ...names: readonly (typeof parts)[number][]
): { revision: () => Promise<Revision> } {
  const dated = dates()
  return {
    async revision() {
      const moment = now()
      const rows = (await generationsNow(db)).filter(({ name }) => names.includes(name as never)) // we wrote it
      const tag = `W/"${wordsOf(rows)}"`
      const count = rows.reduce((sum, row) => sum + row.value, 0)
      return { tag, ...dated(count, moment) }
    },
  }
}

/** The revision of what stays the same while the server runs, such as what its settings decide. */
export function constantRevision(now: () => Date, content: unknown): { revision: () => Promise<Revision> } {
  const tag = `W/"${wordFor(content)}"`
  const dated = dates()
  return { revision: async () => ({ tag, ...dated(0, now()) }) }
}

/** The same of a reply that depends on settings as well. */
export function alsoOf(
  { revision }: { revision: () => Promise<Revision> },
  content: unknown,
): { revision: () => Promise<Revision> } {
  const word = wordFor(content)
  return { revision: async () => tagged(await revision(), word) }
}

/** A revision that differs from others of the same data by a word. */
export function tagged(revision: Revision, word: string): Revision {
  return { ...revision, tag: revision.tag.replace(/"$/, `-${word}"`) }
}

function wordFor(content: unknown): string {
  return createHash('sha256').update(JSON.stringify(content)).digest('base64url').slice(0, 16)
}

/** Names what some parts of the data are, in the characters of an ETag. */
export function wordsOf(rows: readonly Generation[]): string {
  return rows.map(wordOf).join('-')
}

/** With the time, as a database that was put back from a copy counts from an earlier number again. */
function wordOf({ name, value, changed_at: time }: Generation): string {
  return `${name}${value}.${Date.parse(`${time.slice(0, 23)}Z`).toString(36)}`
}

const second = 1000

/**
 * Dates for what counts its changes: the end of the second in which a change was first seen, as another one in that
 * second would have the same date. Until it is over, the second itself, which nobody is told 304 for. The time at
 * which a change was made does not serve: it is some time before anybody can see the change.
 */
export function dates() {
  let [latest, end, isTold] = [-1, 0, false]
  return (count: number, now: Date): { modified: Date; isSettled: boolean } => {
    const start = Math.floor(now.getTime() / second) * second
    if (count > latest) {
      // A clock that was set back must not give a date twice.
      end = Math.max(start + second, isTold ? end + second : end)
      ;[latest, isTold] = [count, false]
    }
    const isSettled = count === latest && now.getTime() >= end
    isTold ||= isSettled
    return { modified: new Date(isSettled ? end : Math.min(start, end - second)), isSettled }
  }
}

/** Dates as RFC 9110 section 5.6.7 wants them and older mail software writes them. */
const httpDate = /^(\w{3}, *)?\d{1,2} \w{3} \d{4} \d\d:\d\d(:\d\d)? (GMT|UTC|[+-]\d{4})$/

/** Whether a caller has this revision already. */
export function isUnchanged(c: Context, { tag, modified, isSettled }: Revision): boolean {
  const known = c.req.header('if-none-match')
  if (known !== undefined) return isTagKnown(known, tag)
  const given = c.req.header('if-modified-since') ?? ''
  return isSettled && httpDate.test(given) && modified.getTime() <= Date.parse(given)
}

/** Whether If-None-Match names the tag, weak or strong (RFC 9110 sections 8.8.3.2 and 13.1.2). */
export function isTagKnown(header: string | undefined, tag: string): boolean {
  const opaque = (given: string): string => given.trim().replace(/^W\//, '')
  return (
    header !== undefined &&
    header.split(',').some((item) => item.trim() === '*' || opaque(item) === opaque(tag))
  )
}

/** A 304 that names the revision. */
export function notModified(c: Context, revision: Revision): Response {
  const reply = c.body(null, 304)
  describe(reply, revision)
  return reply
}

/** Names the revision of a reply, unless it already tells of another: that of a list which was kept. */
export function describe(reply: Response, { tag, modified }: Revision): void {
  const own = reply.headers.get('etag')
  if (own !== null && own !== tag) return
  reply.headers.set('etag', tag)
  reply.headers.set('cache-control', 'no-cache')
  reply.headers.set('last-modified', modified.toUTCString())
}

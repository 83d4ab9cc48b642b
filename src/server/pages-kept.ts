import { createHash } from 'node:crypto'
import type { Context } from 'hono'
import { codingFor, encoded, type Coding } from './encoding.ts'
import { isTagKnown } from './revision.ts'
import { readingTogether } from './turns.ts'
import { putNewest } from './newest.ts'

export type PageReply = { text: string; type: string }
/** A page as it was given out. */
export type GivenPage = { headers: Record<string, string> & { etag: string }; bytes: Uint8Array }

type Kept = { tag: string; type: string; plain: Uint8Array; codings: Map<Coding, Promise<Uint8Array>> }

/** Largest page that is kept; longer ones are made anew. */
const longestKept = 300_000

/** Characters of a query parameter that are read. */
const longestParameter = 256

/** A query parameter of a page, as far as it is read; undefined where it is empty. */
export function parameterOf(c: Context, name: string): string | undefined {
  const value = c.req.query(name)?.trim().slice(0, longestParameter)
  return value === '' ? undefined : value
}

/**
 * What a page is kept under: its path and the parameters that it knows, in one order and as far as they are read, so
 * that nobody fills the place with copies of one page.
 * @param asked the parameters that the page knows
 */
export function addressOf(c: Context, asked: readonly string[]): string {
  const given = asked.flatMap((name) => {
    const value = parameterOf(c, name)
    return value === undefined ? [] : [[name, value]]
  })
  return `${c.req.path}?${new URLSearchParams(given).toString()}`
}

/**
 * Pages, kept as bytes for as long as what they show is the same; however many ask at once, each is made once.
 * @param most how many are kept: of more, those go that nobody has asked for longest
 * @returns a function that answers: `address` is what a page is kept under, `tag` names the revision of what the page shows; null: the page is its own tag. `told` is called with what is given out whole
 */
export function pageKeeper(most: number) {
  const kept = new Map<string, Promise<Kept | Response>>()
  const together = readingTogether<Kept | Response>()

  const makeKept = async (
    tag: string | null,
    render: () => Promise<PageReply | Response>,
  ): Promise<Kept | Response> => {
    const made = await render()
    if (made instanceof Response) return made
    const plain = new TextEncoder().encode(made.text)
    const own = tag ?? createHash('sha256').update(plain).digest('base64url').slice(0, 20)
    return { tag: `W/"${own}"`, type: made.type, plain, codings: new Map() }
  }

  const fetch = async (
    key: string,
    tag: string,
    render: () => Promise<PageReply | Response>,
  ): Promise<Kept | Response> => {
    const known = kept.get(key)
    const found = await known?.catch(() => undefined)
    if (
      known !== undefined &&
      found !== undefined &&
      !(found instanceof Response) &&
      found.tag === `W/"${tag}"`
    ) {
      if (kept.get(key) === known) {
        kept.delete(key)
        kept.set(key, known)
      }
      return found
    }
    const current = kept.get(key)
    if (current !== undefined && current !== known) return current
    const making = makeKept(tag, render)
    putNewest(kept, key, making, most)
    const made = await making.catch((error: unknown) => {
      if (kept.get(key) === making) kept.delete(key)
      throw error
    })
    if (made instanceof Response || made.plain.length > longestKept) kept.delete(key)
    return made
  }

  return async (
    c: Context,
    address: string,
    tag: string | null,
    render: () => Promise<PageReply | Response>,
    told?: (page: GivenPage) => void,
  ): Promise<Response> => {
    const known = c.req.header('if-none-match')
    if (tag !== null && isTagKnown(known, `W/"${tag}"`)) return unchanged(`W/"${tag}"`)
    const made = await (tag === null
      ? together(address, () => makeKept(null, render))
      : fetch(address, tag, render))
    if (made instanceof Response) return made.clone() // others may get it too
    if (isTagKnown(known, made.tag)) return unchanged(made.tag)
    const given = await givenTo(c, made)
    told?.(given)
    return new Response(given.bytes as Uint8Array<ArrayBuffer>, { headers: given.headers })
  }
}

async function givenTo(c: Context, page: Kept): Promise<GivenPage> {
  const coding = codingFor(c.req.header('accept-encoding'))
  const pending = page.codings.get(coding) ?? encoded(page.plain, coding)
  page.codings.set(coding, pending)
  const bytes = await pending
  const headers = {
    'content-type': page.type,
    'content-length': String(bytes.length),
    vary: 'accept-encoding',
    etag: page.tag,
    'cache-control': 'no-cache',
  }
  return { bytes, headers: coding === 'identity' ? headers : { ...headers, 'content-encoding': coding } }
}

function unchanged(tag: string): Response {
  return new Response(null, {
    status: 304,
    headers: { etag: tag, 'cache-control': 'no-cache', vary: 'accept-encoding' },
  })
}

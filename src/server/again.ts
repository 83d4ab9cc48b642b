/**
 * Pages that are asked for again in the same way. The page is kept already; here its reply is, so that nothing has to be
 * built for the request but what goes over the wire: with many readers that is most of the work.
 */
import type { IncomingMessage, ServerResponse } from 'node:http'
import { isTagKnown } from './revision.ts'

/** Characters of what tells requests apart; longer ones are built anew each time. */
const longestKey = 1000
/** Bytes of all replies that are kept. */
const mostBytes = 4_000_000

export type Reply = {
  headers: Readonly<Record<string, string>> & { readonly etag: string }
  bytes: Uint8Array
  /** Whether the reply still tells what there is. */
  isCurrent: () => Promise<boolean>
}

export type Again = {
  /** Keeps what was answered to a request. */
  remember: (incoming: IncomingMessage, reply: Reply) => void
  /**
   * Answers a request as one like it was answered; false, at once: nobody asked like this; false, later: things have
   * changed since.
   */
  answer: (incoming: IncomingMessage, outgoing: ServerResponse) => Promise<boolean> | false
}

/** Keeps the latest replies, as far as there is room. */
export function openAgain(room = mostBytes): Again {
  const replies = new Map<string, Reply>()
  let size = 0

  const forget = (key: string): void => {
    size -= replies.get(key)?.bytes.length ?? 0
    replies.delete(key)
  }
  const answered = async (
    key: string,
    reply: Reply,
    incoming: IncomingMessage,
    outgoing: ServerResponse,
  ): Promise<boolean> => {
    // Who cannot tell lets the whole way tell, with its words for what is wrong.
    const isCurrent = await reply.isCurrent().catch(() => false)
    if (isCurrent) send(reply, incoming, outgoing)
    else if (replies.get(key) === reply) forget(key)
    return isCurrent
  }
  return {
    remember(incoming, reply) {
      const key = keyOf(incoming)
      if (key === null) return
      forget(key)
      replies.set(key, reply)
      size += reply.bytes.length
      for (const oldest of replies.keys()) {
        if (size <= room) break
        forget(oldest)
      }
    },
    answer(incoming, outgoing) {
      const key = keyOf(incoming) ?? ''
      const reply = replies.get(key)
      return reply === undefined ? false : answered(key, reply, incoming, outgoing)
    },
  }
}

/** Everything of a request that a page depends on; null: the reply is not to be kept. */
function keyOf({ method, url = '', headers }: IncomingMessage): string | null {
  if (method !== 'GET') return null
  const key = [url, headers.host, headers['x-forwarded-proto'], headers['accept-encoding']].join('\n')
  return key.length > longestKey ? null : key
}

function send({ headers, bytes }: Reply, incoming: IncomingMessage, outgoing: ServerResponse): void {
  if (!isTagKnown(incoming.headers['if-none-match'], headers.etag)) {
    outgoing.writeHead(200, headers).end(bytes)
    return
  }
  const { 'content-type': _type, 'content-length': _length, 'content-encoding': _coding, ...others } = headers
  outgoing.writeHead(304, others).end()
}

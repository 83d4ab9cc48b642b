import type { IncomingMessage } from 'node:http'
import type { Context } from 'hono'

/** The request as Node has it, which @hono/node-server passes on; undefined where there is no connection. */
export function incomingOf(c: Context): IncomingMessage | undefined {
  return (c.env as { incoming?: IncomingMessage } | undefined)?.incoming
}

/** Reads streams of events. */
import assert from 'node:assert/strict'
import { patienceMilliseconds } from './until.ts'

type Told = { id: number; kind: string; data: unknown }

/** The first events of a stream; it is left then. */
export async function eventsOf(
  address: string,
  count: number,
  headers: Record<string, string> = {},
): Promise<Told[]> {
  return (await watchEvents(address, headers))(count)
}

/** Watches a stream: what happens from now on is in it. What it gives waits for the first events, and leaves then. */
export async function watchEvents(
  address: string,
  headers: Record<string, string> = {},
): Promise<(count: number) => Promise<Told[]>> {
  const leave = new AbortController()
  const hung = AbortSignal.timeout(patienceMilliseconds)
  const reply = await fetch(address, { headers, signal: AbortSignal.any([leave.signal, hung]) })
  assert.equal(reply.headers.get('content-type'), 'text/event-stream')
  return async (count) => {
    const told: Told[] = []
    let text = ''
    for await (const chunk of reply.body?.pipeThrough(new TextDecoderStream()) ?? []) {
      text += chunk
      const blocks = text.split('\n\n')
      text = blocks.pop() ?? ''
      for (const block of blocks) {
        const match = /^id: (\d+)\nevent: (\w+)\ndata: (.*)$/.exec(block)
        if (match !== null)
          told.push({ id: Number(match[1]), kind: match[2] ?? '', data: JSON.parse(match[3] ?? '') })
      }
      if (told.length >= count) break
    }
    leave.abort()
    return told
  }
}

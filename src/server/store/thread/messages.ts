/** What goes between the database's thread and those who ask it. */
import type { MessagePort } from 'node:worker_threads'
import type { Value } from '../database.ts'
import type { Failure } from '../failure.ts'

/** `changes` counts what was committed or taken back, for the thread that started this one. */
export type ThreadData = { path: string; sqlite: WebAssembly.Module; changes: Int32Array<SharedArrayBuffer> }
/** A statement by its number; its text goes along the first time only, as texts are long and few. */
export type Numbered = { number: number; text?: string; values: readonly Value[] }

/** What is asked of the thread. `begin` opens a transaction that goes on over several messages. */
export type Request =
  | { id: number; do: 'read'; queries: readonly Numbered[] }
  | { id: number; do: 'run' | 'ask'; name: string; input: unknown }
  | { id: number; do: 'begin' | 'commit' | 'rollback' | 'close' | 'statements' }
  | { id: number; do: 'step'; queries: readonly Numbered[] }
  | { id: number; do: 'written'; isGoingOn: boolean }
  | { id: number; do: 'connect'; port: MessagePort }
export type Reply = { id: number; value: unknown } | ({ id: number } & Failure)

/** Who asks: the main thread, or another that it gave a port. Each numbers its statements by itself. */
export type Client = { port: MessagePort; texts: Map<number, string> }
export type Asked = { client: Client; request: Request }
export type Answered = { client: Client; reply: Reply }

/** Sends replies, those of one client in one message. */
export function tell(all: readonly Answered[]): void {
  for (const [{ port }, replies] of Map.groupBy(all, ({ client }) => client))
    port.postMessage(
      replies.map(({ reply }) => reply),
      replies.flatMap(({ reply }) => bytesOf(reply)),
    )
}

/** Bytes go over as they are, without a copy: whoever made them has no more use for them. */
function bytesOf(reply: Reply): ArrayBuffer[] {
  const value = 'value' in reply ? reply.value : null
  return value instanceof Uint8Array && value.buffer instanceof ArrayBuffer ? [value.buffer] : []
}

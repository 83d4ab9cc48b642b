import { startThread } from '../assets.ts'
import { byTurns } from '../hashing.ts'
import { partsOf, type AnswerOf, type FilesOf, type Task } from './hash-tasks.ts'
import type { Asked, HashOrder, HashReply } from './hash-thread.ts'

/** Bytes from which on the thread is asked: to start it costs about as much as to hash half of them. */
const large = 128 * 1024 * 1024
/** So long it is kept for the next file. */
const idleMilliseconds = 10_000
/** Megabytes of objects that it may have; it needs next to none. */
const memory = { maxOldGenerationSizeMb: 16, maxYoungGenerationSizeMb: 1 }

/** Whose time the work takes. */
export type Share = {
  signal: AbortSignal
  /** Nobody else of this process is at work: a thread would only take memory, about ten megabytes. */
  alone?: boolean
}

/**
 * Does a task here, in turns with everything else, or in a thread of its own where there is much to read and others
 * should not wait for the disk.
 * All large files share that thread, in turns, too. Where it ends before its time, the work is done here.
 * @param bytes how much there is to read
 * @throws errors of the operating system; the signal's reason once aborted. The files are in use until then.
 */
export async function done<One extends Task>(
  task: One,
  files: FilesOf<One>,
  { bytes, signal, alone = false }: Share & { bytes: number },
): Promise<AnswerOf<One>> {
  signal.throwIfAborted()
  if (bytes >= large && !alone) {
    const thread = (current ??= start())
    const reply = await thread.reply({ task, files }, signal) // both are of one task
    if (reply !== null) return answerOf(reply, signal) as AnswerOf<One> // to that task
  }
  return byTurns(partsOf(task, files), signal)
}

function answerOf(reply: HashReply, signal: AbortSignal): AnswerOf<Task> {
  if ('answer' in reply) return reply.answer
  signal.throwIfAborted()
  const { message, ...known } = reply.error
  throw Object.assign(new Error(message), known)
}

type HashThread = {
  /** null: the thread has ended without one. */
  reply: (asked: Omit<Asked, 'id'>, signal: AbortSignal) => Promise<HashReply | null>
}

let current: HashThread | null = null
let lastId = 0

function start(): HashThread {
  const waiting = new Map<number, (reply: HashReply | null) => void>()
  const thread = startThread('hash', null, [], memory)
  const self: HashThread = { reply }
  let rest: NodeJS.Timeout | undefined
  thread.on('message', (reply: HashReply) => {
    waiting.get(reply.id)?.(reply)
    waiting.delete(reply.id)
    if (waiting.size === 0) restFor(idleMilliseconds)
  })
  thread.once('error', () => undefined) // it ends, and we do its work
  thread.once('exit', () => {
    leave()
    for (const answer of waiting.values()) answer(null)
  })
  return self

  async function reply(asked: Omit<Asked, 'id'>, signal: AbortSignal): Promise<HashReply | null> {
    const id = ++lastId
    const { promise, resolve } = Promise.withResolvers<HashReply | null>()
    const stop = (): void => thread.postMessage({ stop: id } satisfies HashOrder)
    signal.addEventListener('abort', stop, { once: true })
    waiting.set(id, resolve)
    clearTimeout(rest)
    thread.ref()
    thread.postMessage({ id, ...asked } satisfies HashOrder)
    try {
      return await promise
    } finally {
      signal.removeEventListener('abort', stop)
    }
  }

  /** Whoever ends meanwhile does not wait for it. */
  function restFor(milliseconds: number): void {
    thread.unref()
    rest = setTimeout(() => {
      leave()
      void thread.terminate()
    }, milliseconds).unref()
  }

  function leave(): void {
    if (current === self) current = null
  }
}

import { receiveMessageOnPort, type MessagePort } from 'node:worker_threads'
import { isPreliminary } from '../work.ts'
import type { Asked, Client, Request } from './messages.ts'

/** Milliseconds that a commit waits for others to share it, while so many come at once: an fsync takes as long. */
const gatherTime = 2

/**
 * What waits, by what is done with it: `work` changes something and shares commits; `questions` change nothing;
 * `parts` are pieces of something larger; `others` are transactions led from elsewhere, and what is rarely asked; `end` comes last.
 */
export type Kind = 'others' | 'work' | 'questions' | 'parts' | 'end'

export type Waiting = ReturnType<typeof openWaiting>

/**
 * Takes what clients ask, and keeps it until its turn.
 * @param onAsked told whenever something has come by itself
 */
export function openWaiting(onAsked: () => void) {
  const clients = new Set<Client>()
  const queues: Record<Kind, Asked[]> = { others: [], work: [], questions: [], parts: [], end: [] }
  const pausing = new Int32Array(new SharedArrayBuffer(4))
  let last: Kind = 'others'

  const receive = (client: Client, request: Request): void => {
    // Texts come once, with the first that uses them; a group that is done anew must find them.
    if ('queries' in request)
      for (const { number, text } of request.queries) if (text !== undefined) client.texts.set(number, text)
    queues[kindOf(request)].push({ client, request })
  }
  /** What has come meanwhile. */
  const receiveAll = (): void => {
    for (const client of clients) {
      for (let next = receiveMessageOnPort(client.port); next; next = receiveMessageOnPort(client.port))
        receive(client, next.message as Request) // sqlite.ts sends nothing else
    }
  }
  /** The kind that had its turn last goes behind the others, and parts come every other time at most. */
  const byTurns = (): Asked | undefined => {
    if (last !== 'parts' && queues.parts.length > 0) return queues.parts.shift()
    const first = (['others', 'work', 'questions'] as const).filter((kind) => kind !== last)
    for (const kind of [...first, last, 'parts', 'end'] as const) {
      const asked = queues[kind].shift()
      if (asked !== undefined) return asked
    }
    return undefined
  }
  /** While a transaction is led from elsewhere, its messages alone have a turn. */
  const ofSession = (): Asked | undefined => {
    const at = queues.others.findIndex(({ request }) => isOfSession(request))
    return at === -1 ? undefined : queues.others.splice(at, 1)[0]
  }

  return {
    queues: queues as Readonly<Record<Kind, Asked[]>>,
    receiveAll,
    /** Waits a moment for more work, in short steps, while there is nothing else to do. */
    gather(): void {
      const isIdle = (): boolean => queues.work.length + queues.questions.length === 0
      for (let step = 0; step < gatherTime && isIdle(); step++) {
        Atomics.wait(pausing, 0, 0, 1)
        receiveAll()
      }
    },
    /** Takes what has its turn now. */
    next(isInSession: boolean): Asked | undefined {
      const asked = isInSession ? ofSession() : byTurns()
      if (asked !== undefined) last = kindOf(asked.request)
      return asked
    },
    /** Listens to this port from now on, until its other end is closed. */
    connect(port: MessagePort): void {
      const client: Client = { port, texts: new Map() }
      clients.add(client)
      port.on('message', (request: Request) => {
        receive(client, request)
        onAsked()
      })
      port.on('close', () => clients.delete(client))
    },
    closeAll(): void {
      for (const { port } of clients) port.close()
    },
  }
}

/** What is done with a request. */
export function kindOf(request: Request): Kind {
  if (request.do === 'read' || request.do === 'ask') return 'questions'
  if (request.do !== 'run') return request.do === 'close' ? 'end' : 'others'
  return isPreliminary(request.name) ? 'parts' : 'work'
}

function isOfSession({ do: what }: Request): boolean {
  return what === 'step' || what === 'commit' || what === 'rollback'
}

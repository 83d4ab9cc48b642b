import type { MessagePort } from 'node:worker_threads'
import { Complaint } from '../../../errors.ts'
import type { Engine } from '../engine.ts'
import { failureOf } from '../failure.ts'
import { takenAway } from '../hostfs/files.ts'
import { workNamed } from '../work.ts'
import { takeWritten } from '../written.ts'
import type { Answered, Asked } from './messages.ts'
import type { Transactions } from './transactions.ts'

export type Answers = ReturnType<typeof openAnswers>

/**
 * Does what is asked, one by one.
 * @param connect answers another port
 */
export function openAnswers(
  sqlite: Engine,
  transactions: Transactions,
  connect: (port: MessagePort) => void,
) {
  const valueOf = async ({ client, request }: Asked): Promise<unknown> => {
    if (request.do === 'read' || request.do === 'step')
      return request.queries.map(({ number, values }) =>
        sqlite.text({ text: client.texts.get(number) ?? '', values }),
      )
    if (request.do === 'run' || request.do === 'ask')
      return workNamed(request.name)(sqlite.tx, request.input as never) // as its caller was typed
    if (request.do === 'connect') connect(request.port)
    if (request.do === 'written') return takeWritten(request.isGoingOn)
    return request.do === 'statements' ? sqlite.statements() : null
  }

  /** In the transaction that is open, if any; throws what went wrong. */
  const within = async (asked: Asked): Promise<Answered> => {
    return { client: asked.client, reply: { id: asked.request.id, value: await valueOf(asked) } }
  }

  return {
    within,
    /** In a transaction of its own where it changes something; what goes wrong is the reply. */
    async alone(asked: Asked): Promise<Answered> {
      const isWork = asked.request.do === 'run'
      try {
        if (!isWork) return await within(asked)
        transactions.begin(true)
        const done = await within(asked)
        transactions.commit()
        return done
      } catch (error) {
        if (isWork) transactions.undo()
        return failed(asked, error)
      }
    },
  }
}

/** The reply that tells what went wrong. */
export function failed({ client, request }: Asked, error: unknown): Answered {
  return { client, reply: { id: request.id, ...failureOf(causeOf(error)) } }
}

/** SQLite only knows that it could not write; we may know why. */
function causeOf(error: unknown): unknown {
  const taken = takenAway()
  if (taken === null || !(error instanceof Error) || !/disk I\/O error/.test(error.message)) return error
  return new Complaint(`cannot write the database: ${taken}`, {
    hint: 'nothing of this request was kept; stop the server, see to its files, and start it again',
  })
}
